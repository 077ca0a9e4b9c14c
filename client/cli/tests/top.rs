//! `hookbus top` against a scripted daemon: one frame into a pipe, and the whole screen on a terminal of its own.

#![allow(
    clippy::unwrap_used,
    reason = "the whole file is tests; the lint sees only what #[test] marks"
)]

mod scripted;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use scripted::{Daemon, ended};

#[test]
fn one_frame_goes_into_a_pipe() {
    let daemon = Daemon::start();
    let (code, out, err) = daemon.hookbus(&["top", "--once", "--width", "100", "--height", "20"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(out.lines().count(), 20);
    assert!(out.lines().all(|line| line.chars().count() <= 100), "{out}");
    for words in [
        "hookbus top  digits@1  running",
        "memory: host of 2.0 GiB",
        "GPUs unknown: no driver",
        "no rank has attached",
        "unknown: the daemon did not send it",
    ] {
        assert!(out.contains(words), "{words:?} is missing in:\n{out}");
    }
    assert!(!out.contains('\x1b'), "no colour in a pipe");
}

#[test]
fn the_size_is_that_of_the_environment() {
    let daemon = Daemon::start();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookbus"));
    command
        .args(["top", "LAST", "--once"])
        .env("HOOKBUS_ADDRESS", format!("unix://{}", daemon.socket().display()))
        .env("COLUMNS", "60")
        .env("LINES", "12");
    let (code, out, err) = ended(&mut command);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("old@7  finished") && out.lines().count() == 12, "{out}");
    assert!(out.lines().all(|line| line.chars().count() <= 60), "{out}");
}

#[test]
fn what_cannot_be_shown_is_one_line() {
    let daemon = Daemon::start();
    let (code, out, err) = daemon.hookbus(&["top", "digit", "--once"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert_eq!(err, "hookbus: there is no run \"digit\": digits@1, old@7\n");
    let (code, out, err) = daemon.hookbus(&["top"]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(err.contains("no terminal: write one frame with --once"), "{err}");
}

/// `hookbus top` on a terminal of 80 x 24.
struct Viewer {
    child: Child,
    terminal: File,
    seen: String,
}

impl Viewer {
    fn start(daemon: &Daemon, variables: &[(&str, &str)]) -> Viewer {
        let (mut ours, mut theirs) = (-1, -1);
        let size = libc::winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: both numbers are written before they are read; the descriptors are new and owned by nobody else.
        let (ours, theirs) = unsafe {
            let done = libc::openpty(
                &raw mut ours,
                &raw mut theirs,
                std::ptr::null_mut(),
                std::ptr::null(),
                &raw const size,
            );
            assert_eq!(done, 0);
            (File::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs))
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_hookbus"));
        command
            .args(["top", "digits"])
            .env("HOOKBUS_ADDRESS", format!("unix://{}", daemon.socket().display()))
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR")
            .envs(variables.iter().copied())
            .stdin(Stdio::from(theirs.try_clone().unwrap()))
            .stdout(Stdio::from(theirs.try_clone().unwrap()))
            .stderr(Stdio::from(theirs));
        let child = command.spawn().unwrap();
        Viewer {
            child,
            terminal: ours,
            seen: String::new(),
        }
    }

    /// Reads what it draws until these words come; they must be within one run of cells that changed.
    fn sees(&mut self, words: &str) {
        let mut bytes = [0; 4096];
        while !self.seen.contains(words) {
            let count = self.terminal.read(&mut bytes).unwrap_or(0);
            assert!(count > 0, "it ended before {words:?} came: {}", self.seen);
            self.seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    }

    fn types(&mut self, keys: &str) {
        self.terminal.write_all(keys.as_bytes()).unwrap();
    }

    /// Its exit code, with the screen given back.
    fn ends(mut self) -> (Option<i32>, String) {
        let mut bytes = [0; 4096];
        // A terminal that nobody has any more is an error on Linux.
        while let Ok(count @ 1..) = self.terminal.read(&mut bytes) {
            self.seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
        let code = self.child.wait().unwrap().code();
        let left = self.seen.rfind("\x1b[?1049l").expect("the other screen is left");
        let entered = self.seen.rfind("\x1b[?1049h").expect("it was entered");
        assert!(left > entered && self.seen.contains("\x1b[?25h"), "{}", self.seen);
        (code, self.seen)
    }
}

#[test]
fn the_keys_work_with_a_daemon_and_without_one() {
    let daemon = Daemon::start();
    let mut viewer = Viewer::start(&daemon, &[]);
    viewer.sees("digits@1");
    viewer.types("?");
    viewer.sees("keys and signs");
    viewer.types("\x1b");
    drop(daemon);
    viewer.sees("trying again");
    viewer.types("/");
    viewer.sees("Enter keep");
    viewer.types("\r");
    viewer.types("q");
    let (code, seen) = viewer.ends();
    assert_eq!(code, Some(0));
    assert!(seen.contains("\x1b[38;5;"), "colours of the palette");
}

#[test]
fn a_signal_ends_it_and_the_terminal_is_as_it_was() {
    let daemon = Daemon::start();
    let mut viewer = Viewer::start(&daemon, &[("NO_COLOR", "1")]);
    viewer.sees("digits@1");
    // SAFETY: kill takes two numbers and touches no memory of ours.
    unsafe { libc::kill(i32::try_from(viewer.child.id()).unwrap(), libc::SIGTERM) };
    let (code, seen) = viewer.ends();
    assert_eq!(code, Some(128 + libc::SIGTERM));
    assert!(!seen.contains("\x1b[38;") && !seen.contains("\x1b[3"), "no colour: {seen:?}");
}
