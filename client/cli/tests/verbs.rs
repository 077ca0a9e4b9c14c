//! The verbs over the wire, against a scripted daemon: what they print, as text and as JSON, and how they end.

#![allow(
    clippy::unwrap_used,
    reason = "the whole file is tests; the lint sees only what #[test] marks"
)]

mod scripted;

use scripted::Daemon;

#[test]
fn reading_verbs_print_what_the_daemon_says() {
    let daemon = Daemon::start();
    let table: [(&[&str], &str); 13] = [
        (
            &["runs"],
            "STARTED     PHASE     AT  LOSS  RUN\n\
             1998-07-09  finished  -   -     old  attempt 2\n\
             2001-09-09  running   -   nan   digits\n",
        ),
        (&["runs", "--json"], "\"archived\":true"),
        (&["runs", "--json"], "\"loss\":\"nan\""),
        (&["show", "digits"], "digits@1: running"),
        (&["show", "--json"], "\"phase\":\"running\""),
        (
            &["show", "LAST"],
            "old@7: finished, attempt 2, -, ran 1 h 0 min\n\
             recorded 1998-07-09 16:00 to 17:00; nothing of it is live\n\n\
             attempts\n\
             \x20 ATTEMPT  PHASE     STARTED           RAN        REACHED           REASON\n\
             \x20 1        lost      1998-07-09 13:13  1 h 0 min  epoch 2 iter 250  rank 0 went\n",
        ),
        (
            &["show", "LAST", "--json"],
            "\"attempts\":[{\"attempt\":1,\"ended_unix_s\":899993600.0,\"phase\":\"lost\",\"position\":{",
        ),
        (&["memory"], "total       2.0 GiB"),
        (&["memory"], "unknown: no driver"),
        (
            &["memory", "--json"],
            "\"available_bytes\":{\"unknown\":\"the daemon did not send it\",\"value\":null}",
        ),
        (&["hooks"], "CheckInvalidLossHook"),
        (
            &["doctor"],
            "NO  GPU (NVML): \n      mend: install the driver",
        ),
        (&["doctor", "--json"], "\"mend\":\"install the driver\""),
    ];
    for (args, words) in table {
        let (code, out, err) = daemon.hookbus(args);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{args:?}");
        assert!(
            out.contains(words),
            "{args:?}: {words:?} is missing in:\n{out}"
        );
        assert!(!out.contains('\x1b'), "no colour in a pipe: {args:?}");
    }
}

#[test]
fn a_watch_prints_as_often_as_it_is_told() {
    let daemon = Daemon::start();
    let (code, out, _) = daemon.hookbus(&[
        "memory", "digits", "--watch", "0.1", "--count", "2", "--json",
    ]);
    assert_eq!((code, out.lines().count()), (Some(0), 2), "{out}");
    let (code, out, err) = daemon.hookbus(&["memory", "--watch", "0.1"]);
    assert_eq!((code, out.matches("host\n").count()), (Some(1), 3), "{out}");
    assert_eq!(err, "hookbus: the daemon ended the watch\n");
}

#[test]
fn a_missing_run_is_the_daemons_own_line() {
    let daemon = Daemon::start();
    for args in [
        ["show", "digit"].as_slice(),
        &["memory", "digit"],
        &["memory", "digit", "--watch"],
    ] {
        let (code, out, err) = daemon.hookbus(args);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{args:?}");
        assert_eq!(
            err, "hookbus: there is no run \"digit\": digits@1, old@7\n",
            "{args:?}"
        );
    }
}

#[test]
fn a_stop_succeeds_only_when_every_rank_did_it() {
    let daemon = Daemon::start();
    let (code, out, _) = daemon.hookbus(&["send", "digits", "stop", "--now", "--reason", "enough"]);
    assert_eq!(code, Some(0));
    assert_eq!(
        out,
        "order o1 sent to ranks 0, 1\n\
         RANK  RESULT   WHERE  OLD  NEW  WHY\n\
         0     applied  -      -    -    enough\n\
         1     applied  -      -    -    enough\n"
    );
    let (code, out, err) = daemon.hookbus(&["send", "digits", "stop", "--json"]);
    assert_eq!((code, out.lines().count()), (Some(1), 3), "{out}");
    assert!(
        out.contains("\"outcome\":\"expired\"") && err.contains("not applied by rank 1;"),
        "{out}{err}"
    );
}

#[test]
fn a_watch_is_a_line_each_and_ends_with_the_daemon() {
    let daemon = Daemon::start();
    let (code, out, _) = daemon.hookbus(&["watch", "digits", "--count", "2"]);
    assert_eq!(code, Some(0));
    assert_eq!(out, "    0.000 s  one\n    0.000 s  with events\n");
    let (code, out, err) = daemon.hookbus(&["watch", "--no-events", "--json"]);
    assert_eq!((code, out.lines().count()), (Some(1), 2), "{out}");
    assert!(out.contains("\"lifecycle\":\"without\""), "{out}");
    assert!(err.contains("the daemon ended the watch"), "{err}");
}

#[test]
fn a_watch_can_look_back_and_ends_with_a_run_that_is_over() {
    let daemon = Daemon::start();
    let (code, out, err) = daemon.hookbus(&["watch", "LAST", "--since", "start"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(
        out,
        "    0.000 s  since inf of old@7\n    0.000 s  with events\n"
    );
    let (code, out, err) = daemon.hookbus(&["watch", "digits", "--since", "10m"]);
    assert!(
        out.starts_with("    0.000 s  since 600 of digits@1\n"),
        "{out}"
    );
    assert_eq!(
        (code, err.as_str()),
        (Some(1), "hookbus: the daemon ended the watch\n")
    );
    let (code, out, err) = daemon.hookbus(&["watch", "old"]);
    assert_eq!((code, out.as_str()), (Some(0), ""));
    assert_eq!(
        err,
        "hookbus: old@7 is over; what happened: hookbus watch old@7 --since start\n"
    );
    let (code, _, err) = daemon.hookbus(&["watch", "old", "--since", "10"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("write 30s, 10m, 2h, 1d or start"), "{err}");
}
