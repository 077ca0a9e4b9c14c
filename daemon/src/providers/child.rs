//! One process of a module: started in a process group of its own, so that what it starts ends with it; its lines go to the
//! daemon's log. The kernel ends it with the daemon.

use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group, set_parent_process_death_signal};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{self, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Module, Settings};

/// How long it may take to end when it is asked to.
const END: Duration = Duration::from_secs(1);
/// How long its last lines are waited for: what it started may hold its pipes open.
const LAST_LINES: Duration = Duration::from_millis(200);
/// Bytes of a line; the rest of it is left out.
const LINE_BYTES: usize = 4096;
/// Lines that are logged in a second; more of them are counted. A hook that prints without end fills neither disk nor processor.
const LINES_A_SECOND: u32 = 100;

/// A process and what it has started.
#[derive(Clone, Copy)]
pub(super) struct Group(Option<Pid>);

/// A process that was started.
pub(super) struct Child {
    process: process::Child,
    group: Group,
    /// The last line of its standard error.
    last: Arc<Mutex<String>>,
    reading: Vec<JoinHandle<()>>,
}

impl Child {
    /// Starts it. Call it on a thread that lives as long as the daemon: it ends with that.
    pub(super) fn start(
        settings: &Settings,
        python: &Path,
        module: &Module,
        address: &str,
        ticket: &str,
    ) -> io::Result<Self> {
        let mut command = Command::new(python);
        let file = module.file.as_ref().map(|file| file.as_os_str());
        command
            .args(["-m", "hookbus.serving", "--module"])
            .arg(file.unwrap_or(module.name.as_ref()))
            .env("HOOKBUS_ADDRESS", address)
            .env("HOOKBUS_PROVIDER_TICKET", ticket)
            .env("PYTHONPATH", &settings.python_path)
            .env("PYTHONUNBUFFERED", "1")
            // Modules are looked for where the configuration says, not where the daemon happens to stand.
            .env("PYTHONSAFEPATH", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let daemon = rustix::process::getpid();
        let ends_with_us = move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            if rustix::process::getppid() == Some(daemon) {
                Ok(())
            } else {
                Err(io::ErrorKind::NotFound.into()) // it ended just now
            }
        };
        // SAFETY: between fork and exec it makes two system calls and touches no memory but its own.
        unsafe { command.pre_exec(ends_with_us) };
        let mut process = command.spawn()?;
        let last = Arc::<Mutex<String>>::default();
        let pid = process.id().and_then(|pid| i32::try_from(pid).ok());
        let name = module.name.clone();
        let mut reading = Vec::new();
        if let Some(out) = process.stdout.take() {
            reading.push(tokio::spawn(lines(out, name.clone(), None)));
        }
        if let Some(out) = process.stderr.take() {
            reading.push(tokio::spawn(lines(out, name, Some(Arc::clone(&last)))));
        }
        Ok(Self {
            process,
            group: Group(pid.and_then(Pid::from_raw)),
            last,
            reading,
        })
    }

    /// Waits for its end. Returns how it ended, with its last words.
    pub(super) async fn ended(&mut self) -> String {
        let status = self.process.wait().await;
        self.group.signal(Signal::KILL); // what it has left behind
        for reading in &mut self.reading {
            // Who holds the pipe open has nothing to do with it any more.
            let _ = timeout(LAST_LINES, reading).await;
        }
        let how = match status {
            Ok(status) => how(status),
            Err(error) => format!("cannot be waited for: {error}"),
        };
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_empty() {
            how
        } else {
            format!("{how}: {last}{}", hint(&last))
        }
    }

    /// Its process group.
    pub(super) fn group(&self) -> Group {
        self.group
    }

    /// Asks it to end, and ends it where it does not.
    pub(super) async fn end(mut self) {
        self.group.signal(Signal::TERM);
        if timeout(END, self.process.wait()).await.is_err() {
            self.group.signal(Signal::KILL);
            // Nothing holds up SIGKILL for long.
            let _ = self.process.wait().await;
        }
        self.group.signal(Signal::KILL);
    }
}

impl Group {
    /// Ends all of it at once.
    pub(super) fn kill(self) {
        self.signal(Signal::KILL);
    }

    fn signal(self, signal: Signal) {
        if let Some(group) = self.0 {
            // It may have ended.
            let _ = kill_process_group(group, signal);
        }
    }
}

/// As `why` of a line for people.
fn how(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => format!("ended: {status}"),
    }
}

/// What to do about its last words.
fn hint(last: &str) -> &'static str {
    if last.contains("No module named 'hookbus'") {
        "; install the package hookbus for this interpreter, or name one that has it: providers.python"
    } else {
        ""
    }
}

/// Its lines to the log, each as it comes. A pipe that breaks has no more.
async fn lines(out: impl AsyncRead + Unpin, module: String, last: Option<Arc<Mutex<String>>>) {
    let mut out = BufReader::new(out);
    let mut line = Vec::new();
    let mut said = Said::new(module, last);
    loop {
        let (read, whole) = match out.fill_buf().await {
            Ok([]) | Err(_) => break,
            Ok(bytes) => {
                let end = bytes.iter().position(|byte| *byte == b'\n');
                let part = &bytes[..end.unwrap_or(bytes.len())];
                let room = LINE_BYTES.saturating_sub(line.len());
                line.extend_from_slice(&part[..part.len().min(room)]);
                (part.len() + usize::from(end.is_some()), end.is_some())
            }
        };
        out.consume(read);
        if whole {
            said.say(&line, Instant::now());
            line.clear();
            // Where lines come without end, everybody else has a turn between two of them.
            tokio::task::yield_now().await;
        }
    }
    said.say(&line, Instant::now());
    said.leave_out();
}

/// What a process has said of late.
struct Said {
    module: String,
    last: Option<Arc<Mutex<String>>>,
    since: Instant,
    lines: u32,
    left_out: u64,
}

impl Said {
    fn new(module: String, last: Option<Arc<Mutex<String>>>) -> Self {
        Self {
            module,
            last,
            since: Instant::now(),
            lines: 0,
            left_out: 0,
        }
    }

    fn say(&mut self, line: &[u8], now: Instant) {
        let line = String::from_utf8_lossy(line);
        let line = line.trim_end();
        if line.trim().is_empty() {
            return;
        }
        if let Some(last) = &self.last {
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            line.trim().clone_into(&mut last);
        }
        if now.saturating_duration_since(self.since) >= Duration::from_secs(1) {
            self.leave_out();
            (self.since, self.lines) = (now, 0);
        }
        if self.lines == LINES_A_SECOND {
            self.left_out += 1;
            return;
        }
        self.lines += 1;
        let module = &self.module;
        tracing::info!(module, line, "a provider's process says");
    }

    fn leave_out(&mut self) {
        let lines = std::mem::take(&mut self.left_out);
        if lines > 0 {
            let module = &self.module;
            tracing::warn!(
                module,
                lines,
                "a provider's process says more than the log takes; lines are left out"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_process_that_prints_without_end_so_much_is_logged_and_the_rest_is_counted() {
        let start = Instant::now();
        let last = Arc::<Mutex<String>>::default();
        let mut said = Said::new("my_hooks".to_owned(), Some(Arc::clone(&last)));
        said.since = start;
        for n in 0..LINES_A_SECOND + 50 {
            said.say(format!("line {n}\n").as_bytes(), start);
        }
        assert_eq!((said.lines, said.left_out), (LINES_A_SECOND, 50));
        assert_eq!(*last.lock().expect("nobody panicked"), "line 149");
        said.say(b"  \n", start);
        assert_eq!(said.left_out, 50, "an empty line is none");
        said.say(b"later", start + Duration::from_secs(1));
        assert_eq!((said.lines, said.left_out), (1, 0));
    }
}
