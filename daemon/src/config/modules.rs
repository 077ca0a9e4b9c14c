//! `[providers]`, and the hooks of `[[hooks]]` that have a module: which modules there are, what is asked of each, and with
//! what their processes are started. Paths are from the configuration file's directory on.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::Args;
use super::checked::texts;
use super::hook_tables::Table;
use super::walk::Walk;
use crate::domain::Value;
use crate::hooks;
use crate::providers::{Asked, Module, Settings};

/// Where paths begin: absolute, so that no later change of directory matters.
pub(super) fn folder(args: &Args) -> PathBuf {
    let parent = args.config.as_deref().and_then(Path::parent);
    let folder = parent.unwrap_or(Path::new(""));
    std::path::absolute(folder.join(".")).unwrap_or_else(|_| folder.to_path_buf())
}

/// Makes the section's paths absolute, so that what is printed means the same from everywhere.
pub(super) fn place(walk: &mut Walk, args: &Args) {
    let folder = folder(args);
    let absolute = |text: &str| Value::Text(folder.join(text).display().to_string());
    let python = walk.text("providers", "python");
    if python.contains('/') {
        walk.replace("providers", "python", absolute(&python));
    }
    let path = texts(&walk.get("providers", "path").value);
    if !path.is_empty() {
        let path = path.iter().map(|text| absolute(text)).collect();
        walk.replace("providers", "path", Value::List(path));
    }
    walk.folder = folder;
}

pub(super) fn settings(walk: &Walk, env: &HashMap<String, String>, hooks: &[Table]) -> Settings {
    let mut modules: Vec<Module> = Vec::new();
    for table in hooks {
        let Some(module) = &table.module else {
            continue;
        };
        let mut request = table.request.clone();
        // What does not fit was a mistake already.
        let priority = hooks::priority(&mut request.args).ok().flatten();
        let policy = hooks::policy(&mut request.args).ok().flatten();
        let asked = Asked {
            request,
            priority,
            policy,
        };
        match modules.iter_mut().find(|known| known.name == module.name) {
            Some(known) => known.hooks.push(asked),
            None => modules.push(Module {
                name: module.name.clone(),
                file: module.file.clone(),
                hooks: vec![asked],
            }),
        }
    }
    let python = walk.text("providers", "python");
    Settings {
        python: (!python.is_empty()).then(|| PathBuf::from(python)),
        python_path: python_path(walk, env),
        hung: walk.ms("providers", "hung_ms"),
        start: walk.ms("providers", "start_ms"),
        modules,
    }
}

/// PYTHONPATH: the file's own directory, those of `path`, and what it was.
fn python_path(walk: &Walk, env: &HashMap<String, String>) -> OsString {
    let said = texts(&walk.get("providers", "path").value);
    let before = env.get("PYTHONPATH").filter(|path| !path.is_empty());
    let folders = [walk.folder.as_os_str().to_owned()];
    let folders = folders
        .into_iter()
        .chain(said.into_iter().map(OsString::from));
    let all: Vec<_> = folders.chain(before.map(OsString::from)).collect();
    all.join(std::ffi::OsStr::new(":"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::walk::{load, mistakes};
    use super::*;
    use crate::domain::HookRequest;
    use crate::hooks::Policy;

    #[test]
    fn a_module_has_its_hooks_in_order_and_paths_begin_at_the_file() {
        let folder = tempfile::tempdir().expect("a directory");
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("own")).expect("made");
        std::fs::write(at("own/file_hooks.py"), "").expect("written");
        let toml = "[providers]\npython = \"venv/bin/python\"\npath = [\"lib\", \"/abs\"]\nstart_ms = 0\n\
                    [[hooks]]\ntype = \"A\"\nmodule = \"my.hooks\"\npriority = \"LOW\"\npolicy = \"warn\"\nn = 3\n\
                    [[hooks]]\ntype = \"CheckInvalidLossHook\"\n\
                    [[hooks]]\ntype = \"B\"\nmodule = \"own/file_hooks.py\"\n\
                    [[hooks]]\ntype = \"A\"\nname = \"again\"\nmodule = \"my.hooks\"\n";
        std::fs::write(at("h.toml"), toml).expect("written");
        let args = |path| Args {
            config: Some(path),
            ..Args::default()
        };
        let env = HashMap::from([("PYTHONPATH".to_owned(), "/before".to_owned())]);
        let config = load(&args(at("h.toml")), &env).expect("valid");
        let own: Vec<_> = config.hooks.iter().map(|hook| &*hook.name).collect();
        assert_eq!(own, ["CheckInvalidLossHook"]);
        let settings = &config.providers;
        assert_eq!(settings.python, Some(at("venv/bin/python")));
        let path = format!(
            "{}:{}:/abs:/before",
            folder.path().display(),
            at("lib").display()
        );
        assert_eq!(settings.python_path, OsString::from(path));
        let [mine, file] = settings.modules.as_slice() else {
            panic!("two modules: {:?}", settings.modules);
        };
        assert_eq!((mine.name.as_str(), &mine.file), ("my.hooks", &None));
        assert_eq!(file.name, "file_hooks");
        assert_eq!(file.file, Some(at("own/file_hooks.py")));
        let first = Asked {
            request: HookRequest {
                type_name: "A".to_owned(),
                name: "A".to_owned(),
                args: [("n".to_owned(), Value::Integer(3))].into(),
            },
            priority: Some(70),
            policy: Some(Policy::Warn),
        };
        assert_eq!(mine.hooks[0], first);
        assert_eq!(mine.hooks[1].request.name, "again");
        // What is printed means the same, also in another directory.
        let elsewhere = tempfile::tempdir().expect("a directory");
        let printed = elsewhere.path().join("printed.toml");
        std::fs::write(&printed, &config.printed).expect("written");
        let again = load(&args(printed), &env).expect("what is printed is valid");
        assert_eq!(again.providers.modules, config.providers.modules);
        assert_eq!(again.providers.python, config.providers.python);
    }

    #[test]
    fn each_mistake_is_named() {
        let toml = "[[hooks]]\ntype = \"A\"\nmodule = \"nowhere.py\"\n\
                    [[hooks]]\ntype = \"B\"\nmodule = \"my-hooks\"\n\
                    [[hooks]]\ntype = \"C\"\nmodule = 3\n\
                    [[hooks]]\ntype = \"D\"\nmodule = \"m\"\npriority = 101\n\
                    [[hooks]]\ntype = \"E\"\nmodule = \"m\"\n\
                    [[hooks]]\ntype = \"E\"\nmodule = \"other\"\n\
                    [[hooks]]\ntype = \"CheckInvalidLossHook\"\n\
                    [[hooks]]\ntype = \"CheckInvalidLossHook\"\nmodule = \"m\"\n\
                    [[hooks]]\ntype = \"F\"\nname = \"\"\nmodule = \"m\"\n";
        let said = mistakes(toml, &[], None);
        for (what, why) in [
            ("hooks[0] (A): module: ", "there is no file "),
            (
                "hooks[1] (B): module: ",
                "\"my-hooks\" is neither a module's name",
            ),
            ("hooks[2] (C): ", "module is 3; it must be a string"),
            (
                "hooks[3] (D): ",
                "priority is 101; it must be from 0 to 100",
            ),
            ("hooks[5] (E): ", "the name \"E\" is taken by hooks[4] (E)"),
            (
                "hooks[7] (CheckInvalidLossHook): ",
                "the name \"CheckInvalidLossHook\" is taken by hooks[6] (CheckInvalidLossHook)",
            ),
            ("hooks[8].name: ", "it must be a string"),
        ] {
            assert!(
                said.iter()
                    .any(|line| line.contains(what) && line.contains(why)),
                "{what} … {why} is not in {said:#?}"
            );
        }
        assert_eq!(said.len(), 7, "{said:#?}");
    }

    #[test]
    fn one_module_is_one_file() {
        let folder = tempfile::tempdir().expect("a directory");
        let mut toml = String::new();
        for (at, name) in ["a", "b"].into_iter().enumerate() {
            let folder = folder.path().join(name);
            std::fs::create_dir(&folder).expect("made");
            let file = folder.join("mine.py");
            std::fs::write(&file, "").expect("written");
            toml += &format!("[[hooks]]\ntype = \"T{at}\"\nmodule = {file:?}\n");
        }
        let said = mistakes(&toml, &[], None);
        assert_eq!(said.len(), 1, "{said:#?}");
        assert!(
            said[0].contains("hooks[1] (T1): module mine is "),
            "{said:?}"
        );
        assert!(said[0].contains("b/mine.py here and "), "{said:?}");
    }
}
