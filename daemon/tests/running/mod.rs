//! The real binary, started and waited for. Everything waits for a fact: a ready file, an exit, a line of the log.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// No fact of these tests takes longer on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn hookbusd(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookbusd"));
    command
        .env_clear()
        .env("HOME", folder)
        .env("HOOKBUSD_JOURNAL__DIR", folder.join("state"))
        .stdin(Stdio::null());
    command
}

/// A daemon that is to be killed when the test ends.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) ready: PathBuf,
}

impl Running {
    pub(crate) fn start(folder: &Path, name: &str, flags: &[&str]) -> Self {
        let ready = folder.join(format!("{name}.ready"));
        let log = fs::File::create(folder.join(format!("{name}.log"))).expect("a log");
        let child = hookbusd(folder)
            .args(flags)
            .arg("--ready-file")
            .arg(&ready)
            .stderr(log)
            .spawn()
            .expect("hookbusd starts");
        let mut running = Self { child, ready };
        running.until("its ready file", |running| running.ready.exists());
        running
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the fact is a file or a signal of another process: it can only be asked for again"
    )]
    pub(crate) fn until(&mut self, what: &str, fact: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !fact(self) {
            let ended = self.child.try_wait().expect("its status");
            assert!(ended.is_none(), "hookbusd ended before {what}: {ended:?}");
            assert!(Instant::now() < deadline, "no sign of {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("it lives");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn folder() -> TempDir {
    tempfile::Builder::new()
        .prefix("hb")
        .tempdir()
        .expect("a directory")
}

/// Runs to its end. It must not serve: after a minute it is killed and the test fails.
pub(crate) fn ends(command: &mut Command) -> (i32, String) {
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("hookbusd starts");
    let pid = rustix::process::Pid::from_child(&child);
    let (done, ended) = std::sync::mpsc::sync_channel::<()>(1);
    let watchdog = std::thread::spawn(move || {
        if ended.recv_timeout(PATIENCE).is_err() {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    });
    let Output { status, stderr, .. } = child.wait_with_output().expect("its end");
    let _ = done.send(());
    watchdog.join().expect("it only waits");
    let text = String::from_utf8(stderr).expect("UTF-8");
    (status.code().expect("an exit status, no signal"), text)
}

pub(crate) fn ask(mut stream: impl Read + Write, path: &str) -> String {
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    .expect("it listens");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("it answers");
    reply
}
