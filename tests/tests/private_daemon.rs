//! The private daemon of `hookbus run` ends with it, however that ends, and leaves nothing behind; the training goes on.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use hookbus_e2e::{binary, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// No fact of these tests takes longer on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Says that it trains, and trains until it is told to end.
const TRAINING: &str = "echo training; read word; echo trained $word";

/// A training that runs, and its daemon.
struct Run {
    folder: TempDir,
    hookbus: Child,
    to_training: ChildStdin,
    from_training: BufReader<ChildStdout>,
    socket: PathBuf,
    daemon: Pid,
    /// A client that has sent half a request: it holds a drain up until its deadline.
    held: UnixStream,
}

impl Run {
    fn start(drain: Duration) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("hb")
            .tempdir()
            .expect("a directory");
        let config = folder.path().join("hookbusd.toml");
        let tmp = folder.path().join("tmp");
        fs::create_dir(&tmp).expect("a directory");
        let text = format!("[drain]\ndeadline_ms = {}\n", drain.as_millis());
        fs::write(&config, text).expect("written");
        let mut hookbus = Command::new(binary("hookbus"))
            .args(["run", "--print-address", "--config"])
            .arg(&config)
            .args(["--", "sh", "-c", TRAINING])
            .env("HOOKBUSD", binary("hookbusd"))
            .env("TMPDIR", tmp)
            .env("HOOKBUSD_JOURNAL__DIR", folder.path().join("state"))
            .env_remove("HOOKBUS_ADDRESS")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("hookbus starts");
        let to_training = hookbus.stdin.take().expect("a pipe");
        let mut from_training = BufReader::new(hookbus.stdout.take().expect("a pipe"));
        let socket = line(&mut from_training);
        let socket = PathBuf::from(socket.strip_prefix("unix://").expect("its address"));
        assert_eq!(line(&mut from_training), "training");
        let mut held = UnixStream::connect(&socket).expect("it listens");
        held.write_all(b"GET /healthz HTTP/1.1\r\n")
            .expect("half a request");
        let daemon = rustix::net::sockopt::socket_peercred(&held)
            .expect("who listens")
            .pid;
        Self {
            folder,
            hookbus,
            to_training,
            from_training,
            socket,
            daemon,
            held,
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.hookbus), signal).expect("it lives");
    }

    /// The daemon and all that it had are gone.
    fn is_gone(&mut self) -> ExitStatus {
        let status = self.hookbus.wait().expect("its end");
        self.held.set_read_timeout(Some(PATIENCE)).expect("set");
        let mut rest = Vec::new();
        // Its end, or a reset where half a request was not read.
        let _ = self.held.read_to_end(&mut rest);
        wait_for("the end of the daemon", || ended(self.daemon).then_some(()));
        assert!(!self.socket.exists(), "its socket");
        let left: Vec<_> = fs::read_dir(self.folder.path().join("tmp"))
            .expect("a directory")
            .collect();
        assert!(left.is_empty(), "{left:?}");
        status
    }
}

fn line(from: &mut impl BufRead) -> String {
    let mut line = String::new();
    from.read_line(&mut line).expect("a line");
    line.trim_end().to_owned()
}

/// It is not there, or only waits for whoever adopted it to notice.
fn ended(pid: Pid) -> bool {
    let stat = Path::new("/proc").join(pid.to_string()).join("stat");
    fs::read_to_string(stat).map_or(true, |stat| {
        stat.rsplit_once(')')
            .is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'))
    })
}

#[test]
fn killed_it_takes_its_daemon_with_it_and_the_training_goes_on() {
    // The deadline of its configuration would never come.
    for signal in [Signal::KILL, Signal::ABORT] {
        let mut run = Run::start(Duration::from_secs(3600));
        run.signal(signal);
        assert_eq!(run.is_gone().signal(), Some(signal.as_raw()));
        run.to_training.write_all(b"on\n").expect("it lives");
        assert_eq!(line(&mut run.from_training), "trained on");
    }
}

#[test]
fn ended_it_takes_its_daemon_with_it() {
    let mut run = Run::start(Duration::from_millis(10));
    run.to_training.write_all(b"all\n").expect("it lives");
    assert_eq!(line(&mut run.from_training), "trained all");
    assert!(run.is_gone().success());

    let mut run = Run::start(Duration::from_millis(10));
    run.signal(Signal::TERM); // the training's own end
    assert_eq!(run.is_gone().code(), Some(143));
}
