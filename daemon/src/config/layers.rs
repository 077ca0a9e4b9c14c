//! The four layers, the later one wins: defaults, file, environment, flags. Each says its values to the walk; none looks at
//! what another said, and what a value is for is not known here.

use std::collections::{BTreeMap, HashMap};

use config::{Environment, File, FileFormat, ValueKind};

use super::hook_tables::{self, Table};
use super::keys::{KEYS, Key};
use super::values::{from_raw, from_toml, read_text};
use super::walk::Walk;
use super::{Args, modules};
use crate::domain::Value;

const PREFIX: &str = "HOOKBUSD_";

pub(super) fn defaults(walk: &mut Walk) {
    for key in KEYS {
        walk.say(key, default(key), "the defaults");
    }
}

fn default(key: &Key) -> Value {
    let table: toml::Table =
        toml::from_str(&format!("value = {}", key.default)).expect("each default is TOML");
    from_toml(&table["value"])
}

/// The file's keys, and its hooks.
pub(super) fn file(walk: &mut Walk, args: &Args) -> Vec<Table> {
    let Some(path) = &args.config else {
        return Vec::new();
    };
    let origin = path.display().to_string();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            walk.wrong(
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
            walk.wrong(&origin, "it is no TOML", line.trim());
            return Vec::new();
        }
    };
    let mut hooks = Vec::new();
    let sorted: BTreeMap<_, _> = sections.into_iter().collect();
    for (section, value) in sorted {
        match (section.as_str(), from_raw(value)) {
            ("hooks", Value::List(items)) => {
                hooks = hook_tables::hooks(walk, &origin, &modules::folder(args), items);
            }
            ("hooks", _) => walk.wrong(&origin, "hooks", "write each hook as a [[hooks]] table"),
            (_, Value::Map(items)) => {
                for (name, value) in items {
                    walk.take(&origin, &section, &name, value);
                }
            }
            (_, _) => walk.unknown_section(&origin, &section),
        }
    }
    hooks
}

pub(super) fn environment(walk: &mut Walk, env: &HashMap<String, String>) {
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
        Err(error) => return walk.wrong("the environment", "HOOKBUSD_…", &error.to_string()),
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
                    walk.take(&variable, &section, &name, value);
                }
            }
            _ => {
                let variable = names
                    .get(&section)
                    .cloned()
                    .unwrap_or_else(|| format!("HOOKBUSD_{}", section.to_uppercase()));
                walk.wrong(
                    &variable,
                    "the environment",
                    "write HOOKBUSD_SECTION__KEY, with two underscores between section and key",
                );
            }
        }
    }
}

pub(super) fn flags(walk: &mut Walk, args: &Args) {
    for (flag, section, name, value) in [
        ("--socket", "listen", "socket", &args.socket),
        ("--tcp", "listen", "tcp", &args.tcp),
        ("--state-dir", "journal", "dir", &args.state_dir),
        ("--log-level", "log", "level", &args.log_level),
        ("--log-format", "log", "format", &args.log_format),
        ("--log-file", "log", "file", &args.log_file),
    ] {
        if let Some(value) = value {
            walk.take(flag, section, name, Value::Text(value.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::super::walk::load;
    use super::*;

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
}
