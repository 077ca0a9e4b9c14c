//! Small rooms: a module of the daemon names only what the map in `daemon/src/lib.rs` allows, and the map names every
//! module. Crates of the client and of the daemon never name each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace")
        .to_path_buf()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
    {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The text of a file without comments and without its test module, which may name more; of a file of tests nothing.
fn code(path: &Path) -> String {
    let folder = path.parent().and_then(Path::file_name);
    if path.file_name() == Some("tests.rs".as_ref()) || folder == Some("tests".as_ref()) {
        return String::new();
    }
    let text = fs::read_to_string(path).expect("a source file");
    let text = text
        .split("#[cfg(test)]\nmod ")
        .next()
        .expect("split gives at least one part");
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

fn map() -> String {
    fs::read_to_string(root().join("daemon/src/lib.rs")).expect("the map")
}

/// module -> what it may name, from the table in the map.
fn allowed() -> BTreeMap<String, BTreeSet<String>> {
    let map = map();
    let table = map
        .split("# What may name what")
        .nth(1)
        .expect("the table")
        .split("```")
        .nth(1)
        .expect("a block");
    let mut allowed = BTreeMap::new();
    for line in table.lines().filter(|line| line.contains("->")) {
        let line = line.trim_start_matches("//!").trim();
        let (who, what) = line.split_once("->").expect("it contains one");
        let what = what
            .split(',')
            .map(|word| word.trim().to_owned())
            .filter(|word| word != "nothing")
            .collect();
        allowed.insert(who.trim().to_owned(), what);
    }
    allowed
}

#[test]
fn modules_name_only_what_the_map_allows() {
    let allowed = allowed();
    let ruled = [
        "domain",
        "hooks",
        "session",
        "sampler",
        "inspect",
        "pages",
        "store",
        "steering",
        "snapshot",
        "bus",
        "providers",
    ];
    let mut wrong = Vec::new();
    for module in ruled {
        let may = allowed
            .get(module)
            .unwrap_or_else(|| panic!("the map's table says nothing of {module}"));
        let (file, folder) = (
            root().join(format!("daemon/src/{module}.rs")),
            root().join(format!("daemon/src/{module}")),
        );
        let files = if file.exists() {
            vec![file]
        } else {
            sources(&folder)
        };
        assert!(!files.is_empty(), "{module} has no file");
        for path in files {
            let text = code(&path);
            for named in text.split("crate::").skip(1) {
                let other: String = named
                    .chars()
                    .take_while(|letter| letter.is_alphanumeric() || *letter == '_')
                    .collect();
                if other != module && !may.contains(&other) {
                    wrong.push(format!("{} names crate::{other}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn outside_crates_stay_in_their_rooms() {
    let rules: [(&str, &[&str]); 6] = [
        ("hookbus_proto", &["service"]),
        ("tonic::", &["service"]),
        ("nvml_wrapper", &["sampler"]),
        ("procfs::", &["sampler"]),
        ("sysinfo::", &["sampler"]),
        ("rhai::", &["hooks"]),
    ];
    let daemon = root().join("daemon/src");
    let mut wrong = Vec::new();
    for path in sources(&daemon) {
        let text = code(&path);
        let inside = path
            .strip_prefix(&daemon)
            .expect("it is inside")
            .to_string_lossy()
            .into_owned();
        let room = inside
            .split(['/', '.'])
            .next()
            .expect("a first part")
            .to_owned();
        for (word, rooms) in rules {
            if text.contains(word) && !rooms.contains(&room.as_str()) {
                wrong.push(format!("{inside} names {word}"));
            }
        }
        for word in ["tokio", "std::fs", "std::env", "SystemTime", "Instant::now"] {
            if ["hooks", "domain"].contains(&room.as_str()) && text.contains(word) {
                wrong.push(format!("{inside} names {word}: hooks and words are pure"));
            }
        }
        if text.contains("Instant::now") && room == "store" && inside != "store/journal/thread.rs" {
            wrong.push(format!(
                "{inside}: the store has no clock, now is an argument"
            ));
        }
        for word in ["process::exit", "anyhow::"] {
            if text.contains(word) && !["program", "daemon", "logging"].contains(&room.as_str()) {
                wrong.push(format!(
                    "{inside} names {word}: that belongs to the program"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn client_and_daemon_never_name_each_other() {
    for (folder, other) in [
        ("client/rust", "hookbusd"),
        ("client/cli", "hookbusd"),
        ("client/python", "hookbusd"),
        ("daemon", "hookbus-client"),
    ] {
        let manifest =
            fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("a manifest");
        let dependencies = manifest
            .split("[dependencies]")
            .nth(1)
            .expect("dependencies");
        let named = dependencies
            .lines()
            .any(|line| line.split(['.', ' ', '=']).next() == Some(other));
        assert!(!named, "{folder}/Cargo.toml names {other}");
    }
}

#[test]
fn the_map_names_every_module() {
    let map = map();
    let (doc, code) = map.split_once("\npub mod ").expect("modules");
    let mut modules = 0;
    for line in format!("pub mod {code}").lines() {
        if let Some(module) = line
            .strip_prefix("pub mod ")
            .and_then(|rest| rest.strip_suffix(';'))
        {
            assert!(
                doc.contains(&format!("[`{module}`]")),
                "the map in daemon/src/lib.rs does not name {module}"
            );
            modules += 1;
        }
    }
    let on_disk = fs::read_dir(root().join("daemon/src"))
        .expect("sources")
        .count()
        - 2;
    assert_eq!(
        modules, on_disk,
        "a module on disk is not in lib.rs, or the other way round"
    );
}
