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
        .env(
            "HOOKBUS_ADDRESS",
            format!("unix://{}", daemon.socket().display()),
        )
        .env("COLUMNS", "60")
        .env("LINES", "12");
    let (code, out, err) = ended(&mut command);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(
        out.contains("old@7  finished") && out.lines().count() == 12,
        "{out}"
    );
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
    assert!(
        err.contains("no terminal: write one frame with --once"),
        "{err}"
    );
}

#[test]
fn a_stop_gives_the_terminal_back_and_going_on_takes_it_again() {
    let daemon = Daemon::start();
    let mut viewer = Viewer::start(&daemon, &[]);
    viewer.sees("digits@1");
    let pid = i32::try_from(viewer.child.id()).unwrap();
    let mut status = 0;
    // SAFETY: kill takes two numbers; waitpid writes one, which lives as long as the call.
    unsafe {
        libc::kill(pid, libc::SIGTSTP);
        assert_eq!(libc::waitpid(pid, &raw mut status, libc::WUNTRACED), pid);
        assert!(libc::WIFSTOPPED(status));
        libc::kill(pid, libc::SIGCONT);
    }
    viewer.types("?");
    viewer.sees("keys and signs");
    viewer.types("\x1b");
    viewer.sees("q quit");
    viewer.types("q");
    let (code, seen) = viewer.ends();
    assert_eq!(code, Some(0));
    let given_back = seen.find("\x1b[?1049l").expect("before it stopped");
    assert!(seen[given_back..].contains("\x1b[?1049h"), "{seen}");
}

/// `hookbus top` on a terminal of 80 x 24.
struct Viewer {
    child: Child,
    terminal: File,
    raw: Vec<u8>,
    seen: String,
}

/// (parameters, final letter) of every control sequence, and the letters between them.
fn pieces(drawn: &str) -> Vec<(String, String, char)> {
    let mut all = Vec::new();
    let mut parts = drawn.split("\x1b[");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let Some(end) = part.find(|letter: char| ('@'..='~').contains(&letter)) else {
            continue;
        };
        let last = part[end..].chars().next().unwrap_or_default();
        all.push((std::mem::take(&mut text), part[..end].to_owned(), last));
        text = part[end + last.len_utf8()..].to_owned();
    }
    all.push((text, String::new(), ' '));
    all
}

/// What a terminal of 80 x 24 shows after all that: letters, where the cursor was put, and nothing else.
fn screen(drawn: &str) -> String {
    let mut lines = vec![vec![' '; 80]; 24];
    let (mut x, mut y) = (0, 0);
    for (text, parameters, last) in pieces(drawn) {
        for letter in text.chars().filter(|letter| !letter.is_control()) {
            if let Some(cell) = lines
                .get_mut(y)
                .and_then(|line: &mut Vec<char>| line.get_mut(x))
            {
                *cell = letter;
            }
            x += 1;
        }
        let mut numbers = parameters
            .split(';')
            .map(|number| number.parse().unwrap_or(1));
        match last {
            'H' => {
                y = numbers.next().unwrap_or(1) - 1;
                x = numbers.next().unwrap_or(1) - 1;
            }
            'J' => lines = vec![vec![' '; 80]; 24],
            _ => {}
        }
    }
    let lines: Vec<String> = lines.iter().map(|line| line.iter().collect()).collect();
    lines.join("\n")
}

/// Parameters of the sequences that set colours.
fn colours(drawn: &str) -> Vec<String> {
    let sets = pieces(drawn)
        .into_iter()
        .filter(|(_, _, last)| *last == 'm');
    let is_colour = |number: &str| matches!(number.parse(), Ok(30..=49 | 90..=107));
    sets.map(|(_, parameters, _)| parameters)
        .filter(|parameters| parameters.split(';').next().is_some_and(is_colour))
        .collect()
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
            .env(
                "HOOKBUS_ADDRESS",
                format!("unix://{}", daemon.socket().display()),
            )
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
            raw: Vec::new(),
            seen: String::new(),
        }
    }

    /// Reads what it draws until these words are on the screen.
    fn sees(&mut self, words: &str) {
        let mut bytes = [0; 4096];
        while !screen(&self.seen).contains(words) {
            let count = self.terminal.read(&mut bytes).unwrap_or(0);
            assert!(
                count > 0,
                "it ended before {words:?} came: {}",
                screen(&self.seen)
            );
            self.raw.extend_from_slice(&bytes[..count]);
            self.seen = String::from_utf8_lossy(&self.raw).into_owned();
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
            self.raw.extend_from_slice(&bytes[..count]);
        }
        self.seen = String::from_utf8_lossy(&self.raw).into_owned();
        let code = self.child.wait().unwrap().code();
        let left = self
            .seen
            .rfind("\x1b[?1049l")
            .expect("the other screen is left");
        let entered = self.seen.rfind("\x1b[?1049h").expect("it was entered");
        assert!(
            left > entered && self.seen.contains("\x1b[?25h"),
            "{}",
            self.seen
        );
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
    viewer.sees("no daemon listens at");
    viewer.types("/");
    viewer.sees("Enter keep");
    viewer.types("\r");
    viewer.types("q");
    let (code, seen) = viewer.ends();
    assert_eq!(code, Some(0));
    assert!(!colours(&seen).is_empty());
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
    assert_eq!(colours(&seen), Vec::<String>::new());
}
