//! The edges of `hookbus run` that need no real daemon: it is not found, it does not start, it dies; and what the
//! command's own end, signals and environment look like from outside. A shell script stands in for hookbusd.

#![allow(
    clippy::unwrap_used,
    reason = "the whole file is tests; the lint sees only what #[test] marks"
)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// Makes the ready file that it is told to make, then ends at SIGTERM.
const GOOD: &str = r#"trap 'exit 0' TERM
for word; do [ "$last" = --ready-file ] && : > "$word"; last=$word; done
while :; do sleep 0.05; done
"#;

/// Makes the ready file, and dies once the command runs.
const DIES: &str = r#"for word; do [ "$last" = --ready-file ] && : > "$word"; last=$word; done
until [ -e "$0.go" ]; do sleep 0.02; done
echo 'thread panicked' >&2
exit 101
"#;

struct Sandbox {
    folder: TempDir,
}

impl Sandbox {
    fn new() -> Sandbox {
        let folder = tempfile::tempdir_in("/tmp").unwrap();
        std::fs::create_dir(folder.path().join("tmp")).unwrap();
        Sandbox { folder }
    }

    fn script(&self, body: &str) -> PathBuf {
        let file = self.folder.path().join("fake-hookbusd");
        std::fs::write(&file, format!("#!/bin/sh\n{body}")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        file
    }

    fn hookbus(&self, daemon: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hookbus"));
        command
            .args(args)
            .env("HOOKBUSD", daemon)
            .env("TMPDIR", self.tmp());
        command
            .env_remove("HOOKBUS_ADDRESS")
            .env_remove("XDG_RUNTIME_DIR")
            .stdin(Stdio::null());
        command
    }

    fn tmp(&self) -> PathBuf {
        self.folder.path().join("tmp")
    }

    /// Nothing of ours is left behind.
    fn is_clean(&self) -> bool {
        std::fs::read_dir(self.tmp()).unwrap().next().is_none()
    }
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_daemon_that_is_not_there_is_one_line_and_no_command() {
    let sandbox = Sandbox::new();
    let output = sandbox
        .hookbus(
            Path::new("/no/such/hookbusd"),
            &["run", "--", "echo", "ran"],
        )
        .output()
        .unwrap();
    let (out, err) = texts(&output);
    assert_eq!((output.status.code(), out.as_str()), (Some(1), ""));
    assert_eq!(err.lines().count(), 1, "{err}");
    assert!(
        err.starts_with("hookbus: HOOKBUSD names /no/such/hookbusd"),
        "{err}"
    );
}

#[test]
fn a_wrong_configuration_is_shown_and_ends_with_2() {
    let sandbox = Sandbox::new();
    let script = sandbox
        .script("echo 'a.toml: listen.prot: unknown key' >&2; echo 'a.toml: x: bad' >&2; exit 2\n");
    let output = sandbox
        .hookbus(&script, &["run", "--config", "a.toml", "--", "echo", "ran"])
        .output()
        .unwrap();
    let (out, err) = texts(&output);
    assert_eq!((output.status.code(), out.as_str()), (Some(2), ""));
    for words in [
        "listen.prot: unknown key",
        "x: bad",
        "the command was not started",
    ] {
        assert!(err.contains(words), "{err}");
    }
    assert!(sandbox.is_clean());
}

#[test]
fn the_commands_output_environment_and_exit_code_are_its_own() {
    let sandbox = Sandbox::new();
    let script = sandbox.script(GOOD);
    let line = "echo \"$HOOKBUS_ADDRESS\"; grep SigBlk /proc/self/status; exit 7";
    let output = sandbox
        .hookbus(&script, &["run", "--print-address", "--", "sh", "-c", line])
        .output()
        .unwrap();
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(7), "{err}");
    let lines: Vec<_> = out.lines().collect();
    assert!(
        lines[0].starts_with("unix:///tmp/") && lines[0].ends_with("/hookbusd.sock"),
        "{out}"
    );
    assert_eq!(lines[0], lines[1]);
    assert_eq!(lines[2], "SigBlk:\t0000000000000000");
    assert!(sandbox.is_clean());
}

#[test]
fn a_command_that_a_signal_killed_is_128_and_the_signal() {
    let sandbox = Sandbox::new();
    let script = sandbox.script(GOOD);
    let output = sandbox
        .hookbus(&script, &["run", "--", "sh", "-c", "kill -KILL $$"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(137));
}

#[test]
fn a_command_that_is_not_there_is_127() {
    let sandbox = Sandbox::new();
    let script = sandbox.script(GOOD);
    let output = sandbox
        .hookbus(&script, &["run", "--", "/no/such/trainer"])
        .output()
        .unwrap();
    let (_, err) = texts(&output);
    assert_eq!(output.status.code(), Some(127));
    assert!(err.contains("cannot run /no/such/trainer"), "{err}");
    assert!(sandbox.is_clean());
}

#[test]
fn a_signal_to_us_is_passed_on_once_and_the_command_decides() {
    let sandbox = Sandbox::new();
    let script = sandbox.script(GOOD);
    // The command asks for its own signal, so nobody needs to wait for it to be ready.
    let line = "n=0; trap 'n=$((n+1))' USR1; trap 'echo usr1 $n; exit 5' TERM; \
                kill -USR1 $PPID; while [ $n = 0 ]; do sleep 0.02; done; kill -TERM $PPID; while :; do sleep 0.02; done";
    let output = sandbox
        .hookbus(&script, &["run", "--", "sh", "-c", line])
        .output()
        .unwrap();
    let (out, err) = texts(&output);
    assert_eq!(
        (output.status.code(), out.as_str()),
        (Some(5), "usr1 1\n"),
        "{err}"
    );
    assert!(sandbox.is_clean());
}

#[test]
fn the_training_goes_on_when_the_daemon_dies() {
    let sandbox = Sandbox::new();
    let script = sandbox.script(DIES);
    // It waits for the note that the daemon is gone, as it stands in the file that takes our standard error.
    let errors = sandbox.folder.path().join("errors");
    let line = format!(
        ": > {}.go; until grep -q 'the daemon ended' {}; do sleep 0.02; done; echo trained",
        script.display(),
        errors.display()
    );
    let output = sandbox
        .hookbus(&script, &["run", "--", "sh", "-c", &line])
        .stderr(std::fs::File::create(&errors).unwrap())
        .output()
        .unwrap();
    assert_eq!(
        (output.status.code(), texts(&output).0.as_str()),
        (Some(0), "trained\n")
    );
    let report = std::fs::read_to_string(&errors).unwrap();
    assert!(
        report.contains("the daemon died during the training (exit status: 101)"),
        "{report}"
    );
    assert!(report.contains("thread panicked"), "{report}");
    assert!(sandbox.is_clean());
}

#[test]
fn a_wrong_address_is_usage_and_a_missing_daemon_is_failure() {
    let sandbox = Sandbox::new();
    let none = sandbox.folder.path().join("none.sock");
    let none = none.to_str().unwrap();
    let table = [
        (
            vec!["--address", "https://x", "runs"],
            2,
            "the port is missing",
        ),
        (
            vec!["--address", "10.0.0.7:1", "--token-file", none, "runs"],
            2,
            "no token is sent to http://10.0.0.7:1",
        ),
        (vec!["--address", none, "runs"], 1, "no daemon listens at"),
        (
            vec!["--address", none, "run", "--", "true"],
            2,
            "starts a daemon of its own",
        ),
        (vec!["--address", none, "doctor"], 1, ""),
    ];
    for (args, code, words) in table {
        let output = sandbox
            .hookbus(Path::new("/no/such"), &args)
            .output()
            .unwrap();
        let (_, err) = texts(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {err}");
        assert!(err.contains(words), "{args:?}: {err}");
        assert!(err.lines().count() <= 1, "{args:?}: {err}");
    }
}
