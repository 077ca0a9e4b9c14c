//! A private daemon: started for one `hookbus run` or one question about what was recorded, waited for, and ended.
//!
//! It has a process group of its own, so that a terminal's Ctrl-C reaches the training and not the daemon, which must
//! still be there for the report.

mod directory;

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use hookbus_client::address::Address;

use crate::daemon_binary;
use crate::failure::{FAILED, Failure, USAGE};
use crate::signals::{self, Signals};
use directory::PrivateDir;

/// A daemon listens within a second; a machine under load gets this long, and one that waits for its hooks' modules and says so
/// in its log as long as it does.
const READY_DEADLINE: Duration = Duration::from_secs(30);
/// How often the ready file is looked for.
const READY_LOOK: Duration = Duration::from_millis(20);
/// How long a daemon may take to drain before it is killed.
const END_DEADLINE: Duration = Duration::from_secs(10);
/// How much of a log is shown where a daemon ended too early.
const SHOWN_LINES: usize = 12;

/// What it is started for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose<'a> {
    /// It takes a training's events.
    Training {
        /// The user's configuration.
        config: Option<&'a Path>,
    },
    /// It reads what was recorded, and records nothing.
    Reading {
        /// Where; None: where a daemon records by default.
        state: Option<&'a Path>,
    },
}

impl Purpose<'_> {
    fn arguments(self) -> Vec<OsString> {
        let path = |flag: &str, path: Option<&Path>| {
            let words = path.map(|path| [OsString::from(flag), path.as_os_str().to_owned()]);
            words.into_iter().flatten()
        };
        match self {
            Purpose::Training { config } => path("--config", config).collect(),
            Purpose::Reading { state } => [OsString::from("--read-only")]
                .into_iter()
                .chain(path("--state-dir", state))
                .collect(),
        }
    }

    /// What a daemon that does not start means for the user.
    fn consequence(self) -> &'static str {
        match self {
            Purpose::Training { .. } => "the command was not started",
            Purpose::Reading { .. } => "what was recorded cannot be read",
        }
    }
}

/// A running private daemon.
#[derive(Debug)]
pub(crate) struct PrivateDaemon {
    child: Child,
    directory: PrivateDir,
    consequence: &'static str,
}

impl PrivateDaemon {
    /// Starts the program. It is not ready yet.
    pub(crate) fn start(purpose: Purpose<'_>, signals: &Signals) -> Result<PrivateDaemon, Failure> {
        let program = daemon_binary::find()?;
        let directory = PrivateDir::make()?;
        let errors = File::create(directory.errors()).map_err(|error| {
            Failure::failed(format!(
                "cannot write {}: {error}",
                directory.errors().display()
            ))
        })?;
        let mut command = Command::new(&program);
        command
            .arg("--socket")
            .arg(directory.socket())
            .arg("--ready-file")
            .arg(directory.ready())
            .arg("--log-file")
            .arg(directory.log())
            // Where we are killed, it ends, and removes what we cannot remove any more.
            .arg("--parent-pid")
            .arg(std::process::id().to_string())
            .arg("--remove-dir")
            .arg(directory.path())
            .args(purpose.arguments());
        // Its output never mixes with the training's; standard error is a file, which no one needs to empty.
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .process_group(0)
            .kill_on_drop(true);
        // A daemon that has SIGTERM blocked would never drain.
        signals.unblock_in(&mut command);
        signals::end_with_parent(&mut command);
        let child = command.spawn().map_err(|error| {
            Failure::failed(format!("cannot start {}: {error}", program.display()))
        })?;
        Ok(PrivateDaemon {
            child,
            directory,
            consequence: purpose.consequence(),
        })
    }

    /// Waits until the daemon listens. Where it ends instead, the failure has its own lines, and the exit code is 2 if
    /// it said that its configuration is wrong.
    pub(crate) async fn ready(&mut self) -> Result<(), Failure> {
        let mut until = Instant::now() + READY_DEADLINE;
        let log = self.directory.log();
        let said = || std::fs::metadata(&log).map_or(0, |log| log.len());
        let mut before = said();
        loop {
            if self.directory.ready().exists() {
                return Ok(());
            }
            if let Ok(ended) = timeout(READY_LOOK, self.child.wait()).await {
                let ended = ended.map_err(|error| {
                    Failure::failed(format!("lost sight of the daemon: {error}"))
                })?;
                let code = if ended.code() == Some(i32::from(USAGE)) {
                    USAGE
                } else {
                    FAILED
                };
                let words = self.last_words();
                let text = format!(
                    "{words}the daemon did not start ({ended}); {}",
                    self.consequence
                );
                return Err(Failure { code, text });
            }
            if Instant::now() > until && std::mem::replace(&mut before, said()) != before {
                until = Instant::now() + READY_DEADLINE;
            }
            if Instant::now() > until {
                let words = self.last_words();
                let waited = READY_DEADLINE.as_secs();
                return Err(Failure::failed(format!(
                    "{words}the daemon is not ready after {waited} s; {}",
                    self.consequence
                )));
            }
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> Address {
        Address::Unix(self.directory.socket())
    }

    /// Waits for its end, which nobody asked for. Cancel safe.
    pub(crate) async fn died(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// What it said last: its standard error, else the end of its log.
    pub(crate) fn last_words(&self) -> String {
        let read =
            |path| std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let errors = read(self.directory.errors()).unwrap_or_default();
        let text = if errors.trim().is_empty() {
            read(self.directory.log()).unwrap_or_default()
        } else {
            errors
        };
        let lines: Vec<_> = text.lines().collect();
        let from = lines.len().saturating_sub(SHOWN_LINES);
        lines[from..]
            .iter()
            .map(|line| format!("{line}\n"))
            .collect()
    }

    /// Ends it: asks, waits, and kills it where it does not go.
    pub(crate) async fn end(mut self) {
        let Some(pid) = self.child.id() else { return };
        signals::send(pid, libc::SIGTERM);
        tokio::select! {
            _ = self.child.wait() => {}
            () = sleep(END_DEADLINE) => {
                // Its state is in memory; the directory goes with it either way.
                let _ = self.child.kill().await;
            }
        }
    }
}
