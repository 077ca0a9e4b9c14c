//! Walks the layers key by key and collects every mistake.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use config::{Environment, File, FileFormat, Value as Raw, ValueKind};

use super::access;
use super::keys::{KEYS, Key, Kind, nearest};
use super::{Args, Config, Drain, Listen, Log, LogFormat, Mistakes, Recording, SessionLimits};
use crate::domain::{HookRequest, Value};
use crate::hooks::{self, Origin};
use crate::sampler::Settings;

const PREFIX: &str = "HOOKBUSD_";

/// A value and where it was said.
struct Said {
    value: Value,
    origin: String,
}

pub(super) struct Walk {
    said: HashMap<(&'static str, &'static str), Said>,
    mistakes: Vec<String>,
}

pub(super) fn load(args: &Args, env: &HashMap<String, String>) -> Result<Config, Mistakes> {
    let mut walk = Walk {
        said: HashMap::new(),
        mistakes: Vec::new(),
    };
    for key in KEYS {
        let value = default(key);
        walk.said.insert(
            (key.section, key.name),
            Said {
                value,
                origin: "the defaults".to_owned(),
            },
        );
    }
    let hooks = walk.file(args);
    walk.environment(env);
    walk.flags(args);
    let config = walk.config(env, hooks);
    if walk.mistakes.is_empty() {
        Ok(config)
    } else {
        Err(Mistakes(walk.mistakes))
    }
}

fn default(key: &Key) -> Value {
    let table: toml::Table =
        toml::from_str(&format!("value = {}", key.default)).expect("each default is TOML");
    from_toml(&table["value"])
}

fn from_toml(value: &toml::Value) -> Value {
    match value {
        toml::Value::String(text) => Value::Text(text.clone()),
        toml::Value::Integer(number) => Value::Integer(*number),
        toml::Value::Float(number) => Value::Number(*number),
        toml::Value::Boolean(flag) => Value::Boolean(*flag),
        toml::Value::Array(items) => Value::List(items.iter().map(from_toml).collect()),
        other => Value::Text(other.to_string()),
    }
}

fn from_raw(raw: Raw) -> Value {
    match raw.kind {
        ValueKind::Nil => Value::Null,
        ValueKind::Boolean(flag) => Value::Boolean(flag),
        ValueKind::I64(number) => Value::Integer(number),
        ValueKind::I128(number) => Value::Integer(i64::try_from(number).unwrap_or(i64::MAX)),
        ValueKind::U64(number) => Value::Integer(i64::try_from(number).unwrap_or(i64::MAX)),
        ValueKind::U128(number) => Value::Integer(i64::try_from(number).unwrap_or(i64::MAX)),
        ValueKind::Float(number) => Value::Number(number),
        ValueKind::String(text) => Value::Text(text),
        ValueKind::Array(items) => Value::List(items.into_iter().map(from_raw).collect()),
        ValueKind::Table(items) => Value::Map(
            items
                .into_iter()
                .map(|(key, item)| (key, from_raw(item)))
                .collect(),
        ),
    }
}

impl Walk {
    pub(super) fn wrong(&mut self, origin: &str, what: &str, why: &str) {
        self.mistakes.push(format!("{origin}: {what}: {why}"));
    }

    /// The file's keys, and its hooks with where they stand.
    fn file(&mut self, args: &Args) -> Vec<(String, HookRequest)> {
        let Some(path) = &args.config else {
            return Vec::new();
        };
        let origin = path.display().to_string();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                self.wrong(
                    &origin,
                    "--config",
                    &format!("the file cannot be read: {error}"),
                );
                return Vec::new();
            }
        };
        let source = config::Config::builder()
            .add_source(File::from_str(&text, FileFormat::Toml))
            .build();
        let sections = match source.map(|source| source.cache.kind) {
            Ok(ValueKind::Table(sections)) => sections,
            Ok(_) => return Vec::new(),
            Err(error) => {
                let line = error.to_string().replace('\n', " ");
                self.wrong(&origin, "it is no TOML", line.trim());
                return Vec::new();
            }
        };
        let mut hooks = Vec::new();
        let sorted: BTreeMap<_, _> = sections.into_iter().collect();
        for (section, value) in sorted {
            match (section.as_str(), from_raw(value)) {
                ("hooks", Value::List(items)) => hooks = self.hooks(&origin, items),
                ("hooks", _) => {
                    self.wrong(&origin, "hooks", "write each hook as a [[hooks]] table")
                }
                (_, Value::Map(items)) => {
                    for (name, value) in items {
                        self.take(&origin, &section, &name, value);
                    }
                }
                (_, _) => self.unknown_section(&origin, &section),
            }
        }
        hooks
    }

    fn unknown_section(&mut self, origin: &str, section: &str) {
        let sections = KEYS.iter().map(|key| key.section).chain(["hooks"]);
        let why = match nearest(section, sections) {
            Some(near) => format!("there is no such section; do you mean [{near}]?"),
            None => "there is no such section; there are listen, auth, record, log, limits, sampler, drain and [[hooks]]".to_owned(),
        };
        self.wrong(origin, section, &why);
    }

    fn take(&mut self, origin: &str, section: &str, name: &str, value: Value) {
        if !KEYS.iter().any(|key| key.section == section) {
            self.unknown_section(origin, section);
            return;
        }
        let what = format!("{section}.{name}");
        let Some(key) = KEYS
            .iter()
            .find(|key| key.section == section && key.name == name)
        else {
            let names = KEYS
                .iter()
                .filter(|key| key.section == section)
                .map(|key| key.name);
            let why = match nearest(name, names.clone()) {
                Some(near) => format!("there is no such key; do you mean {section}.{near}?"),
                None => format!(
                    "there is no such key; [{section}] has {}",
                    names.collect::<Vec<_>>().join(", ")
                ),
            };
            self.wrong(origin, &what, &why);
            return;
        };
        match fits(key.kind, value) {
            Ok(value) => {
                self.said.insert(
                    (key.section, key.name),
                    Said {
                        value,
                        origin: origin.to_owned(),
                    },
                );
            }
            Err(why) => self.wrong(origin, &what, &why),
        }
    }

    fn hooks(&mut self, origin: &str, items: Vec<Value>) -> Vec<(String, HookRequest)> {
        let mut hooks: Vec<(String, HookRequest)> = Vec::new();
        for (at, item) in items.into_iter().enumerate() {
            let what = format!("hooks[{at}]");
            let Value::Map(mut args) = item else {
                self.wrong(origin, &what, "a hook is a table with a type");
                continue;
            };
            let type_name = match args.remove("type") {
                Some(Value::Text(type_name)) => type_name,
                _ => {
                    self.wrong(origin, &what, "type is missing; say type = \"CheckInvalidLossHook\" or another of `hookbus hooks`");
                    continue;
                }
            };
            let name = match args.remove("name") {
                None => type_name.clone(),
                Some(Value::Text(name)) if !name.is_empty() => name,
                Some(other) => {
                    self.wrong(
                        origin,
                        &format!("{what}.name"),
                        &format!("it is {other}; it must be a string"),
                    );
                    continue;
                }
            };
            let what = format!("{what} ({name})");
            if let Some((first, _)) = hooks.iter().find(|(_, hook)| hook.name == name) {
                let why = format!(
                    "the name {name:?} is taken by {first}; give one of them another `name`"
                );
                self.wrong(origin, &what, &why);
                continue;
            }
            let request = HookRequest {
                type_name,
                name,
                args,
            };
            if let Err(why) = hooks::build(&request, Origin::Config) {
                self.wrong(origin, &what, &why);
            }
            hooks.push((what, request));
        }
        hooks
    }

    fn environment(&mut self, env: &HashMap<String, String>) {
        let ours: HashMap<_, _> = env
            .iter()
            .filter(|(name, _)| name.starts_with(PREFIX))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        let names: HashMap<_, _> = ours
            .keys()
            .map(|name| (name[PREFIX.len()..].to_lowercase(), name.clone()))
            .collect();
        let source = Environment::with_prefix("HOOKBUSD")
            .prefix_separator("_")
            .separator("__")
            .source(Some(ours));
        let built = config::Config::builder().add_source(source).build();
        let sections = match built.map(|built| built.cache.kind) {
            Ok(ValueKind::Table(sections)) => sections.into_iter().collect::<BTreeMap<_, _>>(),
            Ok(_) => return,
            Err(error) => return self.wrong("the environment", "HOOKBUSD_…", &error.to_string()),
        };
        for (section, value) in sections {
            match from_raw(value) {
                Value::Map(items) => {
                    for (name, value) in items {
                        let variable = names.get(&format!("{section}__{name}")).cloned();
                        let variable = variable.unwrap_or_else(|| "the environment".to_owned());
                        let kind = KEYS
                            .iter()
                            .find(|key| key.section == section && key.name == name)
                            .map(|key| key.kind);
                        let value = if let (Value::Text(text), Some(kind)) = (&value, kind) {
                            read_text(text, kind)
                        } else {
                            value
                        };
                        self.take(&variable, &section, &name, value);
                    }
                }
                _ => {
                    let variable = names
                        .get(&section)
                        .cloned()
                        .unwrap_or_else(|| format!("HOOKBUSD_{}", section.to_uppercase()));
                    self.wrong(
                        &variable,
                        "the environment",
                        "write HOOKBUSD_SECTION__KEY, with two underscores between section and key",
                    );
                }
            }
        }
    }

    fn flags(&mut self, args: &Args) {
        for (flag, section, name, value) in [
            ("--socket", "listen", "socket", &args.socket),
            ("--tcp", "listen", "tcp", &args.tcp),
            ("--log-level", "log", "level", &args.log_level),
            ("--log-format", "log", "format", &args.log_format),
            ("--log-file", "log", "file", &args.log_file),
        ] {
            if let Some(value) = value {
                self.take(flag, section, name, Value::Text(value.clone()));
            }
        }
    }

    fn get(&self, section: &'static str, name: &'static str) -> &Said {
        self.said
            .get(&(section, name))
            .expect("each key has a default")
    }

    pub(super) fn origin(&self, section: &'static str, name: &'static str) -> String {
        self.get(section, name).origin.clone()
    }

    pub(super) fn text(&self, section: &'static str, name: &'static str) -> String {
        match &self.get(section, name).value {
            Value::Text(text) => text.clone(),
            other => other.to_string(),
        }
    }

    fn whole(&self, section: &'static str, name: &'static str) -> i64 {
        if let Value::Integer(number) = self.get(section, name).value {
            number
        } else {
            0
        }
    }

    fn size(&self, name: &'static str) -> usize {
        usize::try_from(self.whole("limits", name)).unwrap_or(usize::MAX)
    }

    fn ms(&self, section: &'static str, name: &'static str) -> Duration {
        Duration::from_millis(u64::try_from(self.whole(section, name)).unwrap_or(0))
    }

    pub(super) fn flag(&self, section: &'static str, name: &'static str) -> bool {
        self.get(section, name).value == Value::Boolean(true)
    }

    pub(super) fn path(&self, section: &'static str, name: &'static str) -> Option<PathBuf> {
        let text = self.text(section, name);
        (!text.is_empty()).then(|| PathBuf::from(text))
    }

    fn config(
        &mut self,
        env: &HashMap<String, String>,
        hooks: Vec<(String, HookRequest)>,
    ) -> Config {
        let hooks: Vec<_> = hooks.into_iter().map(|(_, hook)| hook).collect();
        Config {
            listen: self.listen(env),
            tokens: access::tokens(self),
            record: Recording {
                enabled: self.flag("record", "enabled"),
                every: self.whole("record", "every"),
                fields: texts(&self.get("record", "fields").value),
            },
            log: Log {
                level: self.text("log", "level"),
                filter: env
                    .get("RUST_LOG")
                    .filter(|filter| !filter.is_empty())
                    .cloned(),
                format: if self.text("log", "format") == "json" {
                    LogFormat::Json
                } else {
                    LogFormat::Text
                },
                file: self.path("log", "file"),
                colour: !env.contains_key("NO_COLOR"),
            },
            limits: SessionLimits {
                sessions: self.size("sessions"),
                frame_bytes: self.size("frame_bytes"),
                string_bytes: self.size("string_bytes"),
                fields: self.size("fields"),
                batch_events: self.size("batch_events"),
                in_flight_bytes: self.size("in_flight_bytes"),
                metrics: self.size("metrics"),
                stall_budget: if let Value::Number(share) = self.get("limits", "stall_budget").value
                {
                    share
                } else {
                    0.0
                },
                probe: self.ms("limits", "probe_ms"),
            },
            sampler: Settings {
                host_interval: self.ms("sampler", "host_ms"),
                process_interval: self.ms("sampler", "process_ms"),
                children_interval: self.ms("sampler", "children_ms"),
                gpu_interval: self.ms("sampler", "gpu_ms"),
                gpu: self.flag("sampler", "gpu"),
                nvml_library: self.path("sampler", "nvml_library"),
                ..Settings::default()
            },
            drain: Drain {
                deadline: self.ms("drain", "deadline_ms"),
            },
            printed: self.printed(&hooks),
            hooks,
            notify_socket: env
                .get("NOTIFY_SOCKET")
                .filter(|name| !name.is_empty())
                .cloned(),
        }
    }

    fn listen(&mut self, env: &HashMap<String, String>) -> Listen {
        let socket = match self.text("listen", "socket").as_str() {
            "" => None,
            "auto" => Some(default_socket(env)),
            path => Some(PathBuf::from(path)),
        };
        let (mode, origin) = (
            self.text("listen", "socket_mode"),
            self.get("listen", "socket_mode").origin.clone(),
        );
        let socket_mode = match u32::from_str_radix(mode.trim_start_matches("0o"), 8) {
            Ok(mode) if mode <= 0o777 => mode,
            _ => {
                self.wrong(
                    &origin,
                    "listen.socket_mode",
                    &format!("{mode:?} is no octal mode such as \"0600\" or \"0660\""),
                );
                0o600
            }
        };
        let (text, origin) = (
            self.text("listen", "tcp"),
            self.get("listen", "tcp").origin.clone(),
        );
        let tcp = if text.is_empty() {
            None
        } else {
            text.parse::<SocketAddr>().ok()
        };
        match tcp {
            None if !text.is_empty() => {
                self.wrong(
                    &origin,
                    "listen.tcp",
                    &format!("{text:?} is no address such as \"127.0.0.1:7070\" or \"[::1]:7070\""),
                );
            }
            _ => access::judge(self, tcp),
        }
        if socket.is_none() && text.is_empty() {
            let origin = self.get("listen", "socket").origin.clone();
            self.wrong(
                &origin,
                "listen",
                "neither socket nor tcp is set, so nobody could connect",
            );
        }
        let uids = match &self.get("listen", "allowed_uids").value {
            Value::List(items) => items
                .iter()
                .filter_map(|item| {
                    if let Value::Integer(uid) = item {
                        u32::try_from(*uid).ok()
                    } else {
                        None
                    }
                })
                .collect(),
            _ => Vec::new(),
        };
        Listen {
            socket,
            socket_mode,
            allowed_uids: uids,
            tcp,
            tls: access::tls(self),
        }
    }

    fn printed(&self, hooks: &[HookRequest]) -> String {
        let mut out = String::from("# hookbusd: the configuration in force\n");
        let mut section = "";
        for key in KEYS {
            if key.section != section {
                section = key.section;
                let _ = write!(out, "\n[{section}]\n");
            }
            let said = self.get(key.section, key.name);
            let _ = writeln!(
                out,
                "# {} (from {})\n{} = {}",
                key.help, said.origin, key.name, said.value
            );
        }
        for hook in hooks {
            let _ = write!(
                out,
                "\n[[hooks]]\ntype = {:?}\nname = {:?}\n",
                hook.type_name, hook.name
            );
            for (key, value) in &hook.args {
                let _ = writeln!(out, "{key} = {value}");
            }
        }
        out
    }
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::List(items) => items
            .iter()
            .map(|item| {
                if let Value::Text(text) = item {
                    text.clone()
                } else {
                    item.to_string()
                }
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn default_socket(env: &HashMap<String, String>) -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/run/hookbus/hookbusd.sock");
    }
    match env
        .get("XDG_RUNTIME_DIR")
        .filter(|folder| !folder.is_empty())
    {
        Some(folder) => PathBuf::from(folder).join("hookbus/hookbusd.sock"),
        None => std::env::temp_dir().join(format!(
            "hookbus-{}/hookbusd.sock",
            rustix::process::geteuid().as_raw()
        )),
    }
}

/// A variable's text as the key wants it; what does not fit stays text, and is then a mistake.
fn read_text(text: &str, kind: Kind) -> Value {
    let as_is = || Value::Text(text.to_owned());
    let parts = || {
        text.split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
    };
    match kind {
        Kind::Flag => text.parse().map_or_else(|_| as_is(), Value::Boolean),
        Kind::Whole(..) => text.trim().parse().map_or_else(|_| as_is(), Value::Integer),
        Kind::Number(..) => text.trim().parse().map_or_else(|_| as_is(), Value::Number),
        Kind::Text | Kind::Word(_) => as_is(),
        Kind::Texts => Value::List(parts().map(|part| Value::Text(part.to_owned())).collect()),
        Kind::Uids => Value::List(
            parts()
                .map(|part| part.parse().map_or_else(|_| as_is(), Value::Integer))
                .collect(),
        ),
    }
}

fn fits(kind: Kind, value: Value) -> Result<Value, String> {
    match (kind, value) {
        (Kind::Flag, value @ Value::Boolean(_)) => Ok(value),
        (Kind::Flag, other) => Err(format!("it is {other}; it must be true or false")),
        (Kind::Whole(least, most), Value::Integer(number)) if (least..=most).contains(&number) => {
            Ok(Value::Integer(number))
        }
        (Kind::Whole(least, i64::MAX), other) => Err(format!(
            "it is {other}; it must be a whole number from {least} on"
        )),
        (Kind::Whole(least, most), other) => Err(format!(
            "it is {other}; it must be a whole number from {least} to {most}"
        )),
        (Kind::Number(least, most), Value::Number(number)) if (least..=most).contains(&number) => {
            Ok(Value::Number(number))
        }
        (Kind::Number(least, most), Value::Integer(number))
            if (least..=most).contains(&(number as f64)) =>
        {
            Ok(Value::Number(number as f64))
        }
        (Kind::Number(least, most), other) => Err(format!(
            "it is {other}; it must be a number from {least} to {most}"
        )),
        (Kind::Text, value @ Value::Text(_)) => Ok(value),
        (Kind::Text, other) => Err(format!("it is {other}; it must be a string")),
        (Kind::Word(words), Value::Text(word)) if words.contains(&word.as_str()) => {
            Ok(Value::Text(word))
        }
        (Kind::Word(words), other) => Err(format!(
            "it is {other}; it must be one of {}",
            words.join(", ")
        )),
        (Kind::Texts, Value::List(items))
            if items.iter().all(|item| matches!(item, Value::Text(_))) =>
        {
            Ok(Value::List(items))
        }
        (Kind::Texts, other) => Err(format!("it is {other}; it must be a list of strings")),
        (Kind::Uids, Value::List(items))
            if items
                .iter()
                .all(|item| matches!(item, Value::Integer(uid) if u32::try_from(*uid).is_ok())) =>
        {
            Ok(Value::List(items))
        }
        (Kind::Uids, other) => Err(format!("it is {other}; it must be a list of user ids")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(toml: &str, env: &[(&str, &str)], socket: Option<&str>) -> Vec<String> {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("h.toml");
        std::fs::write(&path, toml).expect("written");
        let args = Args {
            config: Some(path),
            socket: socket.map(str::to_owned),
            ..Args::default()
        };
        let env = env
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        load(&args, &env).map_or_else(|mistakes| mistakes.0, |_| Vec::new())
    }

    #[test]
    fn every_mistake_is_reported_at_once_with_file_and_key() {
        let toml = "[listen]\nsockt = \"/x\"\n[limits]\nfields = \"many\"\n[colours]\na = 1\n[[hooks]]\ntype = \"CheckInvalidLossHok\"\n\
                    [[hooks]]\ntype = \"MemoryProfilerHook\"\nintervall = 3\n[[hooks]]\ninterval = 3\n[drain]\ndeadline_ms = -1\n";
        let said = mistakes(
            toml,
            &[
                ("HOOKBUSD_SAMPLER__HOST_MS", "soon"),
                ("HOOKBUSD_LISTEN", "x"),
            ],
            None,
        );
        for (key, why) in [
            ("h.toml: listen.sockt", "do you mean listen.socket?"),
            (
                "h.toml: limits.fields",
                "it must be a whole number from 1 to 65536",
            ),
            ("h.toml: colours", "there is no such section"),
            (
                "h.toml: hooks[0] (CheckInvalidLossHok)",
                "there are: CheckInvalidLossHook",
            ),
            ("h.toml: hooks[1] (MemoryProfilerHook)", "\"intervall\""),
            ("h.toml: hooks[2]", "type is missing"),
            ("h.toml: drain.deadline_ms", "from 0 to"),
            ("HOOKBUSD_SAMPLER__HOST_MS: sampler.host_ms", "\"soon\""),
            ("HOOKBUSD_LISTEN", "two underscores"),
        ] {
            assert!(
                said.iter()
                    .any(|line| line.contains(key) && line.contains(why)),
                "{key} … {why} is not in {said:#?}"
            );
        }
        assert_eq!(said.len(), 9, "{said:#?}");
    }

    #[test]
    fn layers_win_in_their_order_and_what_is_printed_is_read_back() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("h.toml");
        let toml = "[limits]\nfields = 7\nmetrics = 8\n[log]\nlevel = \"debug\"\n[[hooks]]\ntype = \"CheckInvalidLossHook\"\ninterval = 3\n";
        std::fs::write(&path, toml).expect("written");
        let env = HashMap::from([
            ("HOOKBUSD_LIMITS__METRICS".to_owned(), "9".to_owned()),
            ("HOOKBUSD_LOG__LEVEL".to_owned(), "warn".to_owned()),
        ]);
        let args = Args {
            config: Some(path.clone()),
            log_level: Some("error".to_owned()),
            ..Args::default()
        };
        let config = load(&args, &env).expect("valid");
        assert_eq!(
            (
                config.limits.fields,
                config.limits.metrics,
                config.log.level.as_str()
            ),
            (7, 9, "error")
        );
        std::fs::write(&path, &config.printed).expect("written");
        let again = load(
            &Args {
                config: Some(path),
                ..Args::default()
            },
            &HashMap::new(),
        )
        .expect("what is printed is valid");
        assert_eq!(
            Config {
                printed: String::new(),
                ..config
            },
            Config {
                printed: String::new(),
                ..again
            }
        );
    }

    #[test]
    fn beyond_loopback_needs_tls_and_tokens_or_a_word() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let put = |name: &str, text: &str, mode: u32| {
            std::fs::write(path(name), text).expect("written");
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(path(name), mode).expect("set");
        };
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
        let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
        put("cert.pem", &own.cert.pem(), 0o644);
        put("key.pem", &own.signing_key.serialize_pem(), 0o600);
        put("open.pem", &own.signing_key.serialize_pem(), 0o644);
        put("other.pem", &other.signing_key.serialize_pem(), 0o600);
        put("one", "one-one-one-one-one\n", 0o600);
        put(
            "two",
            "# both\none-one-one-one-one\ntwo-two-two-two-two\n",
            0o600,
        );
        put("open", "one-one-one-one-one\n", 0o640);
        let tls = format!(
            "tls_cert = \"{}\"\ntls_key = \"{}\"\n",
            path("cert.pem"),
            path("key.pem")
        );
        let beyond = "[listen]\ntcp = \"0.0.0.0:1\"\n";
        let auth =
            |role: &str, file: &str| format!("[auth]\n{role}_token_file = \"{}\"\n", path(file));
        let table: [(String, &[&str]); 16] = [
            (
                beyond.into(),
                &[
                    "listen.tls_cert, listen.tls_key, and auth.trainer_token_file",
                    "listen.insecure = true",
                ],
            ),
            (format!("{beyond}insecure = true\n"), &[]),
            (format!("{beyond}{tls}"), &["set auth.trainer_token_file"]),
            (
                format!("{beyond}{}", auth("viewer", "one")),
                &["set listen.tls_cert and listen.tls_key"],
            ),
            (format!("{beyond}{tls}{}", auth("trainer", "one")), &[]),
            (
                format!("{beyond}{tls}tls_client_ca = \"{}\"\n", path("cert.pem")),
                &[],
            ),
            ("[listen]\ntcp = \"here\"\n".into(), &["is no address"]),
            (
                "[listen]\nsocket = \"\"\n".into(),
                &["nobody could connect"],
            ),
            (format!("[listen]\n{tls}"), &["listen.tcp is not set"]),
            (
                format!(
                    "{beyond}insecure = true\ntls_cert = \"{}\"\n",
                    path("cert.pem")
                ),
                &["it needs listen.tls_key beside it"],
            ),
            (
                format!(
                    "{beyond}insecure = true\ntls_client_ca = \"{}\"\n",
                    path("cert.pem")
                ),
                &["over TLS only"],
            ),
            (
                format!(
                    "{beyond}insecure = true\ntls_cert = \"{}\"\ntls_key = \"{}\"\n",
                    path("cert.pem"),
                    path("open.pem")
                ),
                &["listen.tls_key", "mode 0644", "chmod 600"],
            ),
            (
                format!(
                    "{beyond}insecure = true\ntls_cert = \"{}\"\ntls_key = \"{}\"\n",
                    path("cert.pem"),
                    path("other.pem")
                ),
                &["does not fit to listen.tls_cert"],
            ),
            (
                format!(
                    "{beyond}insecure = true\ntls_cert = \"{}\"\ntls_key = \"{}\"\n",
                    path("key.pem"),
                    path("cert.pem")
                ),
                &[
                    "listen.tls_cert",
                    "has no certificate in it",
                    "listen.tls_key",
                    "mode 0644",
                ],
            ),
            (
                auth("operator", "open"),
                &["auth.operator_token_file", "chmod 600"],
            ),
            (
                format!(
                    "{}viewer_token_file = \"{}\"\n",
                    auth("operator", "one"),
                    path("two")
                ),
                &[
                    "auth.operator_token_file",
                    "is in auth.viewer_token_file too",
                ],
            ),
        ];
        for (toml, words) in table {
            let said = mistakes(&toml, &[], None).join("\n");
            assert_eq!(said.is_empty(), words.is_empty(), "{toml}{said}");
            for word in words {
                assert!(said.contains(word), "{toml}{word} is not in {said}");
            }
            assert!(!said.contains("one-one"), "{said}");
        }
    }

    #[test]
    fn tokens_are_printed_as_their_files_path() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("tokens");
        std::fs::write(&path, "secret-secret-secret\n").expect("written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, mode).expect("set");
        let env = HashMap::from([(
            "HOOKBUSD_AUTH__TRAINER_TOKEN_FILE".to_owned(),
            path.display().to_string(),
        )]);
        let config = load(&Args::default(), &env).expect("valid");
        assert!(
            config
                .printed
                .contains(&format!("trainer_token_file = \"{}\"", path.display()))
        );
        assert!(
            !format!("{config:?}").contains("secret-secret"),
            "{config:?}"
        );
    }
}
