//! Walks the layers key by key: keeps what was said last for each key and where, and collects every mistake. It never ends
//! at the first one, and never judges keys against each other.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use super::keys::{KEYS, Key};
use super::values::fits;
use super::{Args, Config, Mistakes, checked, layers, modules};
use crate::domain::Value;
use crate::domain::near::nearest;

#[cfg(test)]
pub(super) use tests::mistakes;

/// A value and where it was said.
pub(super) struct Said {
    pub(super) value: Value,
    pub(super) origin: String,
}

pub(super) struct Walk {
    said: HashMap<(&'static str, &'static str), Said>,
    mistakes: Vec<String>,
    /// Where the file's paths begin.
    pub(super) folder: PathBuf,
}

pub(super) fn load(args: &Args, env: &HashMap<String, String>) -> Result<Config, Mistakes> {
    let mut walk = Walk {
        said: HashMap::new(),
        mistakes: Vec::new(),
        folder: PathBuf::new(),
    };
    layers::defaults(&mut walk);
    let hooks = layers::file(&mut walk, args);
    layers::environment(&mut walk, env);
    layers::flags(&mut walk, args);
    modules::place(&mut walk, args);
    let config = checked::config(&mut walk, env, hooks);
    if walk.mistakes.is_empty() {
        Ok(config)
    } else {
        Err(Mistakes(walk.mistakes))
    }
}

impl Walk {
    pub(super) fn wrong(&mut self, origin: &str, what: &str, why: &str) {
        self.mistakes.push(format!("{origin}: {what}: {why}"));
    }

    pub(super) fn unknown_section(&mut self, origin: &str, section: &str) {
        let sections = KEYS.iter().map(|key| key.section).chain(["hooks"]);
        let why = match nearest(section, sections) {
            Some(near) => format!("there is no such section; do you mean [{near}]?"),
            None => "there is no such section; there are listen, auth, record, log, limits, sampler, journal, providers, drain and [[hooks]]".to_owned(),
        };
        self.wrong(origin, section, &why);
    }

    pub(super) fn say(&mut self, key: &Key, value: Value, origin: &str) {
        self.said.insert(
            (key.section, key.name),
            Said {
                value,
                origin: origin.to_owned(),
            },
        );
    }

    /// The same as was said, in other words.
    pub(super) fn replace(&mut self, section: &'static str, name: &'static str, value: Value) {
        if let Some(said) = self.said.get_mut(&(section, name)) {
            said.value = value;
        }
    }

    /// A value from any layer but the defaults: said if there is such a key and the value fits it, else a mistake.
    pub(super) fn take(&mut self, origin: &str, section: &str, name: &str, value: Value) {
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
            Ok(value) => self.say(key, value, origin),
            Err(why) => self.wrong(origin, &what, &why),
        }
    }

    pub(super) fn get(&self, section: &'static str, name: &'static str) -> &Said {
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

    pub(super) fn whole(&self, section: &'static str, name: &'static str) -> i64 {
        if let Value::Integer(number) = self.get(section, name).value {
            number
        } else {
            0
        }
    }

    pub(super) fn size(&self, name: &'static str) -> usize {
        usize::try_from(self.whole("limits", name)).unwrap_or(usize::MAX)
    }

    pub(super) fn ms(&self, section: &'static str, name: &'static str) -> Duration {
        Duration::from_millis(u64::try_from(self.whole(section, name)).unwrap_or(0))
    }

    pub(super) fn flag(&self, section: &'static str, name: &'static str) -> bool {
        self.get(section, name).value == Value::Boolean(true)
    }

    pub(super) fn path(&self, section: &'static str, name: &'static str) -> Option<PathBuf> {
        let text = self.text(section, name);
        (!text.is_empty()).then(|| PathBuf::from(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every line that this file, these variables and this flag earn.
    pub(in crate::config) fn mistakes(
        toml: &str,
        env: &[(&str, &str)],
        socket: Option<&str>,
    ) -> Vec<String> {
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
}
