//! What was recorded: written as files, and read where no daemon runs. The daemon is a scripted one; a shell script that
//! links to its socket stands in for the program that is started.

#![allow(
    clippy::unwrap_used,
    reason = "the whole file is tests; the lint sees only what #[test] marks"
)]

mod scripted;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use scripted::{Daemon, ended};

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A program that stands in for `hookbusd`: its socket is a link to the scripted daemon's. It writes down its arguments, and
/// that it was asked to end.
fn reads_for(daemon: &Daemon) -> PathBuf {
    let file = daemon.folder.path().join("hookbusd");
    let script = format!(
        r#"#!/bin/sh
trap 'echo asked to end >> "$0.args"; exit 0' TERM
echo "$@" > "$0.args"
while [ $# -gt 0 ]; do
    case $1 in
        --socket) ln -s {} "$2" ;;
        --ready-file) ready=$2 ;;
    esac
    shift
done
: > "$ready"
while :; do sleep 0.05; done
"#,
        daemon.socket().display()
    );
    std::fs::write(&file, script).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    file
}

/// Our program where nobody says which daemon to ask, and `program` is the one to start.
fn alone(daemon: &Daemon, program: &Path, args: &[&str]) -> Command {
    let tmp = daemon.folder.path().join("tmp");
    std::fs::create_dir_all(&tmp).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookbus"));
    command
        .args(args)
        .env_remove("HOOKBUS_ADDRESS")
        // For root the default socket does not depend on it; a test machine has no daemon there.
        .env("XDG_RUNTIME_DIR", &tmp)
        .env("TMPDIR", &tmp)
        .env("HOOKBUSD", program);
    command
}

#[test]
fn every_table_is_a_file_and_a_line() {
    let daemon = Daemon::start();
    let out_dir = daemon.folder.path().join("a/b");
    let to = out_dir.to_str().unwrap();
    let (code, out, err) = daemon.hookbus(&["export", "LAST", "--csv", to]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(
        out,
        format!(
            "TABLE      ROWS  FILE\n\
             metrics    3     {to}/metrics.csv\n\
             incidents  0     {to}/incidents.csv\n"
        )
    );
    assert_eq!(names(&out_dir), ["incidents.csv", "metrics.csv"]);
    let csv = std::fs::read_to_string(out_dir.join("metrics.csv")).unwrap();
    assert_eq!(csv, "iter,name,value\n0,loss,0.5\n1,loss,nan\n2,loss,\n");

    let (code, out, err) = daemon.hookbus(&["export", "LAST", "--csv", to]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert_eq!(
        err,
        format!(
            "hookbus: {to}/metrics.csv is already there: export to another directory, or overwrite with --force\n"
        )
    );
    let (code, _, err) = daemon.hookbus(&["export", "LAST", "--csv", to, "--force"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
}

#[test]
fn one_table_can_be_asked_for_in_each_format() {
    let daemon = Daemon::start();
    let to = daemon.folder.path().join("out");
    for format in ["csv", "ndjson", "parquet"] {
        let flag = format!("--{format}");
        let args = [
            "export",
            "old",
            "--table",
            "metrics",
            &flag,
            to.to_str().unwrap(),
        ];
        let (code, out, err) = daemon.hookbus(&args);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{format}");
        assert!(out.contains("metrics  3     "), "{out}");
    }
    assert_eq!(
        names(&to),
        ["metrics.csv", "metrics.ndjson", "metrics.parquet"]
    );
    let ndjson = std::fs::read_to_string(to.join("metrics.ndjson")).unwrap();
    assert_eq!(
        ndjson.lines().nth(1),
        Some(r#"{"iter":1,"name":"loss","value":"NaN"}"#)
    );
}

#[test]
fn what_cannot_be_exported_is_one_line_and_no_file() {
    let daemon = Daemon::start();
    let to = daemon.folder.path().join("out");
    let table: [(&[&str], &str); 4] = [
        (
            &["LAST", "--table", "metric"],
            "there is no table \"metric\": incidents, metrics, samples, torn",
        ),
        (&["digit"], "there is no run \"digit\": digits@1, old@7"),
        (&["digits"], "this daemon keeps no journal"),
        (
            &["LAST", "--table", "metrics", "--table", "torn"],
            "went away",
        ),
    ];
    for (args, words) in table {
        let args = [&["export", "--csv", to.to_str().unwrap()], args].concat();
        let (code, out, err) = daemon.hookbus(&args);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{args:?}");
        assert!(err.contains(words) && err.lines().count() == 1, "{err}");
        assert!(!to.exists() || names(&to).is_empty(), "{args:?}");
    }
    let file = daemon.folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let args = ["export", "LAST", "--csv", file.to_str().unwrap()];
    let (code, _, err) = daemon.hookbus(&args);
    assert_eq!(code, Some(1));
    assert!(err.contains("cannot make the directory"), "{err}");
}

#[test]
fn where_no_daemon_runs_one_that_only_reads_is_started_and_ended() {
    let daemon = Daemon::start();
    let program = reads_for(&daemon);
    let out_dir = daemon.folder.path().join("out");
    let table: [(&[&str], &str); 4] = [
        (&["runs"], "old"),
        (&["show", "LAST"], "old@7: finished"),
        (&["watch", "LAST", "--since", "1h"], "since 3600 of old@7"),
        (
            &["export", "LAST", "--ndjson", out_dir.to_str().unwrap()],
            "metrics",
        ),
    ];
    for (args, words) in table {
        let (code, out, err) = ended(&mut alone(&daemon, &program, args));
        assert_eq!(code, Some(0), "{args:?}: {err}");
        assert!(out.contains(words), "{args:?}: {out}");
        assert_eq!(
            err,
            "hookbus: no daemon is running here; these runs were recorded earlier\n"
        );
        let told = std::fs::read_to_string(program.with_extension("args")).unwrap();
        for words in ["--read-only", "--parent-pid ", "--socket ", "asked to end"] {
            assert!(told.contains(words), "{words:?} is missing in: {told}");
        }
        assert!(!told.contains("--state-dir"), "{told}");
        // Nothing of ours is left.
        assert!(names(&daemon.folder.path().join("tmp")).is_empty());
    }
}

#[test]
fn a_state_directory_is_read_even_where_a_daemon_runs() {
    let daemon = Daemon::start();
    let program = reads_for(&daemon);
    let args = ["runs", "--state", "/mnt/a b"];
    let mut command = alone(&daemon, &program, &args);
    command.env("HOOKBUS_ADDRESS", "/no/such.sock");
    let (code, out, err) = ended(&mut command);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("  old  attempt 2"), "{out}");
    let told = std::fs::read_to_string(program.with_extension("args")).unwrap();
    assert!(told.contains("--state-dir /mnt/a b"), "{told}");

    let args = ["--address", "/a.sock", "runs", "--state", "/mnt/a"];
    let (code, _, err) = ended(&mut alone(&daemon, &program, &args));
    assert_eq!(code, Some(2));
    assert!(err.contains("--address /a.sock has no place"), "{err}");
}

#[test]
fn nothing_is_started_for_a_daemon_that_was_named() {
    let daemon = Daemon::start();
    let program = reads_for(&daemon);
    let none = daemon.folder.path().join("none.sock");
    let by_flag = ["--address", none.to_str().unwrap(), "runs"];
    let mut by_variable = alone(&daemon, &program, &["runs"]);
    by_variable.env("HOOKBUS_ADDRESS", &none);
    for command in [&mut alone(&daemon, &program, &by_flag), &mut by_variable] {
        let (code, out, err) = ended(command);
        assert_eq!((code, out.as_str()), (Some(1), ""));
        assert!(err.contains("no daemon listens at"), "{err}");
    }
    // What is live has nothing recorded to fall back on.
    for args in [&["memory"][..], &["send", "digits", "stop"]] {
        let (code, _, err) = ended(&mut alone(&daemon, &program, args));
        assert_eq!(code, Some(1));
        assert!(err.contains("no daemon found"), "{err}");
    }
    assert!(!program.with_extension("args").exists());
}

#[test]
fn a_program_that_is_missing_or_does_not_start_is_said() {
    let daemon = Daemon::start();
    let missing = Path::new("/no/such/hookbusd");
    let (code, _, err) = ended(&mut alone(&daemon, missing, &["runs"]));
    assert_eq!((code, err.lines().count()), (Some(1), 1), "{err}");
    for words in [
        "no daemon found",
        "nor can what was recorded be read: HOOKBUSD names /no/such/hookbusd",
    ] {
        assert!(err.contains(words), "{err}");
    }
    let (code, _, err) = ended(&mut alone(&daemon, Path::new("/bin/false"), &["runs"]));
    assert_eq!(code, Some(1));
    assert!(
        err.contains("the daemon did not start (exit status: 1); what was recorded cannot be read"),
        "{err}"
    );
    assert!(err.contains("no daemon found"), "{err}");
}

#[test]
fn a_signal_cuts_a_question_short_and_everything_is_cleared_away() {
    let daemon = Daemon::start();
    // A program that is never ready asks for the end itself, so nobody needs to wait for it.
    let program = daemon.folder.path().join("never-ready");
    let script = "#!/bin/sh\ntrap 'exit 0' TERM\nkill -INT $PPID\nwhile :; do sleep 0.05; done\n";
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let (code, out, _) = ended(&mut alone(&daemon, &program, &["runs"]));
    assert_eq!((code, out.as_str()), (Some(130), ""));
    assert!(names(&daemon.folder.path().join("tmp")).is_empty());
}

#[test]
fn memory_as_it_was_is_a_line_for_each_time() {
    let daemon = Daemon::start();
    let history = |columns: &str, more: &[&str]| {
        let args = [&["memory", "LAST", "--history"], more].concat();
        let address = format!("unix://{}", daemon.socket().display());
        let mut command = alone(&daemon, Path::new("/no/such"), &args);
        command.env("HOOKBUS_ADDRESS", address).env("TZ", "UTC");
        if !columns.is_empty() {
            command.env("COLUMNS", columns);
        }
        let (code, out, err) = ended(&mut command);
        assert_eq!((code, err.as_str()), (Some(0), ""));
        out
    };
    let wide = history("", &[]);
    let peaks = "
peaks
  host        11.8 GiB of 62.5 GiB  1998-07-09 13:13  epoch 1 iter 120
  all ranks   10.8 GiB              1998-07-09 13:13  epoch 1 iter 120
  rank 0      4.9 GiB               1998-07-09 13:13  epoch 1 iter 120
    children  500.0 MiB             1998-07-09 13:13  epoch 0 iter 0
  rank 1      4.9 GiB               1998-07-09 13:13  epoch 1 iter 120
    children  500.0 MiB             1998-07-09 13:13  epoch 0 iter 0
  GPU 0       70.4 GiB of 80.0 GiB  1998-07-09 13:13  epoch 1 iter 120
  GPU 1       2.8 GiB of 80.0 GiB   1998-07-09 13:13  epoch 1 iter 120

unknown
  rank 0's children, rank 1's children: no right to see them
";
    let lines = "\
TIME      EPOCH  ITER   HOST  RANK 0  CHILDREN  RANK 1  CHILDREN  GPU 0  GPU 1
1998-07-09, attempt 1, in MiB
13:13:20      0     0  10000    3000       500    3000       500  70000    800
13:13:30      1   120  12048    5048       500    5048       500  72048   2848
1998-07-09, attempt 2, in MiB
16:00:00      2   250  10001    3001   unknown    3001   unknown  70001    801
";
    assert_eq!(wide, format!("{lines}{peaks}"));
    assert_eq!(history("78", &["--since", "2h"]), wide);
    let lines = "\
TIME      EPOCH  ITER   HOST  ALL RANKS  LARGEST  GPU 0  GPU 1
1998-07-09, attempt 1, in MiB
13:13:20      0     0  10000       7000  3500 #0  70000    800
13:13:30      1   120  12048      11096  5548 #0  72048   2848
1998-07-09, attempt 2, in MiB
16:00:00      2   250  10001      >6002  3001 #0  70001    801
";
    let more = "  > is at least: a part of that sum is unknown\n";
    assert_eq!(history("77", &[]), format!("{lines}{peaks}{more}"));
    // Nothing is cut where nothing fits.
    assert_eq!(history("20", &[]), format!("{lines}{peaks}{more}"));
    let json = history("", &["--json"]);
    assert_eq!(json.lines().count(), 3);
    let third: serde_json::Value = serde_json::from_str(json.lines().nth(2).unwrap()).unwrap();
    assert_eq!(
        (&third["attempt"], &third["iter"]),
        (&2.into(), &250.into())
    );
    let children = &third["readings"][4];
    assert_eq!(children["name"], "children_rss_bytes");
    assert_eq!(children["value"], serde_json::Value::Null);
    assert_eq!(children["unknown"], "no right to see them");
}

#[test]
fn memory_over_time_of_a_run_that_a_daemon_knows() {
    let daemon = Daemon::start();
    let history = |more: &[&str]| {
        let args = [&["memory", "digits", "--history"], more].concat();
        let address = format!("unix://{}", daemon.socket().display());
        let mut command = alone(&daemon, Path::new("/no/such"), &args);
        command.env("HOOKBUS_ADDRESS", address).env("TZ", "UTC");
        ended(&mut command)
    };
    let page = "\
TIME      EPOCH  ITER  HOST   RANK 0  CHILDREN
1998-07-09, attempt 0, in MiB
15:59:40      1    80  1000  unknown         -
15:59:50      1    90  1000       10         -

peaks
  host    2.0 GiB   1998-07-09 15:59  epoch 1 iter 80
  rank 0  20.0 MiB  1998-07-09 15:59  epoch 1 iter 90

unknown
  rank 0: no right to see it
";
    assert_eq!(history(&[]), (Some(0), page.to_owned(), String::new()));
    let (code, out, err) = history(&["--epochs", "1..2", "--json", "--resolution", "5"]);
    assert_eq!(code, Some(0));
    let asked = "older memory is unknown: EpochRange { from: Some(1), to: Some(2) }";
    assert!(err.contains(asked), "{err}");
    let second: serde_json::Value = serde_json::from_str(out.lines().nth(1).unwrap()).unwrap();
    let rank = &second["readings"][1];
    assert_eq!(rank["value"], 10.0 * f64::from(1 << 20));
    assert_eq!(rank["max"], 20.0 * f64::from(1 << 20));
    assert_eq!(rank["readings"], 4);
}

#[test]
fn the_report_of_a_run_says_how_to_read_it_again_and_has_no_other() {
    let daemon = Daemon::of(true);
    let program = reads_for(&daemon);
    let args = ["run", "--", "true"];
    let (code, _, err) = ended(&mut alone(&daemon, &program, &args));
    assert_eq!(code, Some(0));
    assert!(
        err.starts_with("hookbus: digits@1: finished at -\n"),
        "{err}"
    );
    assert!(
        err.ends_with("hookbus: to read it again: hookbus show LAST\n"),
        "{err}"
    );
    assert!(!err.contains("old@7"), "{err}");
}
