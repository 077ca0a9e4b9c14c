//! docs/hooks is what the binary writes, its TOML is valid, and the README has each hook and a link to its page.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hookbusd::hooks::LIST;

const MEND: &str = "make hook-docs";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn hookbusd(flags: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hookbusd"))
        .env_clear()
        .args(flags)
        .output()
        .expect("hookbusd runs")
}

/// By file name.
fn pages(folder: &Path) -> BTreeMap<String, String> {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let page = |path: PathBuf| {
        let name = path.file_name().expect("a name").to_string_lossy();
        (name.into_owned(), read(&path))
    };
    entries
        .map(|entry| page(entry.expect("an entry").path()))
        .collect()
}

fn committed() -> BTreeMap<String, String> {
    pages(&root().join("docs/hooks"))
}

#[test]
fn the_committed_pages_are_what_the_binary_writes() {
    let folder = tempfile::tempdir().expect("a directory");
    let written = folder.path().join("docs/hooks");
    let output = hookbusd(&["--hook-docs", written.to_str().expect("UTF-8")]);
    assert!(output.status.success(), "{output:?}");
    let (written, committed) = (pages(&written), committed());
    for name in written.keys().chain(committed.keys()) {
        assert!(
            written.get(name) == committed.get(name),
            "docs/hooks/{name} differs from what `hookbusd --hook-docs` writes; write it anew: {MEND}"
        );
    }
    assert_eq!(written.len(), LIST.len() + 1);
}

#[test]
fn what_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("file");
    fs::write(&file, "").expect("written");
    let below = file.join("hooks");
    let output = hookbusd(&["--hook-docs", below.to_str().expect("UTF-8")]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("file/hooks: "), "{said}");
}

#[test]
fn the_toml_of_each_page_is_valid() {
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("hookbusd.toml");
    for (name, page) in committed() {
        let mut tables = 0;
        for block in page.split("```toml\n").skip(1) {
            let toml = block.split("```").next().expect("a part");
            fs::write(&file, toml).expect("written");
            let flags = ["--config", file.to_str().expect("UTF-8"), "--check-config"];
            let output = hookbusd(&flags);
            assert!(output.status.success(), "{name}: {output:?}");
            tables += 1;
        }
        assert!(tables > 0 || name == "README.md", "{name} has no TOML");
    }
}

#[test]
fn no_page_has_a_table_that_breaks() {
    for (name, page) in committed() {
        let mut columns = None;
        for line in page.lines() {
            let here = line.starts_with('|').then(|| line.matches('|').count());
            assert!(
                here.is_none() || columns.is_none() || here == columns,
                "{name}: {line}"
            );
            columns = here;
        }
    }
}

#[test]
fn the_readme_has_each_hook_and_links_to_its_page() {
    let readme = read(&root().join("README.md"));
    for kind in LIST {
        let (name, summary) = (kind.type_name, kind.summary);
        let row = format!("| [`{name}`](docs/hooks/{name}.md) | {summary} |");
        assert!(
            readme.lines().any(|line| line == row),
            "README.md lacks: {row}"
        );
    }
}

#[test]
fn the_command_that_mends_it_is_there() {
    let makefile = read(&root().join("Makefile"));
    let target = format!("{}:", MEND.trim_start_matches("make "));
    assert!(makefile.lines().any(|line| line.starts_with(&target)));
}
