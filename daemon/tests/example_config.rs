//! deploy/config/hookbusd.toml is what the binary prints, it changes nothing, and its hooks can be switched on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const MEND: &str = "make example-config";

fn hookbusd(flags: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hookbusd"))
        .env_clear()
        .args(flags)
        .output()
        .expect("hookbusd runs")
}

/// Standard output of a run that must succeed.
fn said(flags: &[&str]) -> String {
    let output = hookbusd(flags);
    assert!(output.status.success(), "{flags:?}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn committed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/config/hookbusd.toml")
}

fn without_comments(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.collect::<Vec<_>>().join("\n")
}

/// The configuration in force with this file.
fn in_force(text: &str) -> String {
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("hookbusd.toml");
    fs::write(&file, text).expect("written");
    let path = file.to_str().expect("UTF-8");
    assert_eq!(
        said(&["--config", path, "--check-config"]),
        "the configuration is valid\n"
    );
    without_comments(&said(&["--config", path, "--print-config"]))
}

#[test]
fn the_committed_file_is_what_the_binary_prints() {
    let path = committed();
    let there = fs::read_to_string(&path).unwrap_or_default();
    let printed = said(&["--example-config"]);
    let differing = there
        .lines()
        .zip(printed.lines())
        .position(|(there, printed)| there != printed)
        .unwrap_or_else(|| there.lines().count().min(printed.lines().count()));
    assert!(
        there == printed,
        "{} differs from `hookbusd --example-config` from line {} on; write it anew: {MEND}",
        path.display(),
        differing + 1
    );
}

#[test]
fn as_it_is_printed_it_is_valid_and_changes_no_default() {
    let defaults = without_comments(&said(&["--print-config"]));
    assert_eq!(in_force(&said(&["--example-config"])), defaults);
}

#[test]
fn with_its_hooks_switched_on_it_has_every_hook_with_its_arguments() {
    let example = said(&["--example-config"]);
    let on: String = example
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(code) if !code.starts_with(' ') => format!("{code}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let printed = in_force(&on);
    for kind in hookbusd::hooks::LIST {
        let head = format!("[[hooks]]\ntype = {0:?}\nname = {0:?}\n", kind.type_name);
        let table = printed
            .split("\n\n")
            .map(|table| format!("{}\n", table.trim()))
            .find(|table| table.starts_with(&head))
            .unwrap_or_else(|| panic!("{head} is not in:\n{printed}"));
        for arg in kind.args {
            if let Some(value) = kind.example_of(arg) {
                let line = format!("\n{} = {value}\n", arg.name);
                assert!(table.contains(&line), "{line} is not in:\n{table}");
            }
        }
    }
}

#[test]
fn the_command_that_mends_it_is_there() {
    let makefile = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Makefile");
    let text = fs::read_to_string(makefile).expect("the Makefile");
    let target = MEND.trim_start_matches("make ");
    assert!(
        text.lines()
            .any(|line| line.starts_with(&format!("{target}:"))),
        "{MEND} is what a failing test tells to do"
    );
}
