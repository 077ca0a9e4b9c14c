//! Keeps one process running for each module of the configuration: started again when it ends, ended when it hangs. What
//! its hooks are, and whether they hold, is between it and the directory.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::child::Child;
use super::{Directory, Module, Settings};

/// Before it is started again; doubled with each end, up to the second one.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// One that ran for so long begins anew with the shortest pause.
const RAN_WELL: Duration = Duration::from_secs(60);
/// How often it is looked whether one hangs.
const LOOK: Duration = Duration::from_millis(500);
/// Where nobody looked for so long, all of this stood still: a job or a machine that was paused.
const STOOD_STILL: Duration = Duration::from_secs(2);

/// The processes of all modules.
pub struct Supervisor {
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// What all processes have in common.
struct Launch {
    settings: Settings,
    python: std::path::PathBuf,
    address: String,
    directory: Directory,
    stop: CancellationToken,
}

impl Supervisor {
    /// Starts them; they come to `address`. Call it on the daemon's main thread, in its runtime.
    pub fn start(settings: &Settings, python: &Path, address: &str, directory: &Directory) -> Self {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let launch = Arc::new(Launch {
            settings: settings.clone(),
            python: python.to_path_buf(),
            address: address.to_owned(),
            directory: directory.clone(),
            stop: stop.clone(),
        });
        for module in &settings.modules {
            // Before anybody can come in: its place is for its process.
            directory.starting(&module.name, &ticket().unwrap_or_default());
            let (launch, module) = (Arc::clone(&launch), module.clone());
            tasks.spawn(async move { launch.keep(&module).await });
        }
        tasks.close();
        Self { stop, tasks }
    }

    /// Ends them all.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

impl Launch {
    async fn keep(&self, module: &Module) {
        let name = &module.name;
        let mut pause = Pause::default();
        loop {
            let began = Instant::now();
            let why = match self.start(module) {
                Ok(mut child) => {
                    tokio::select! {
                        why = self.run(name, &mut child) => format!("its process {why}"),
                        () = self.stop.cancelled() => return child.end().await,
                    }
                }
                Err(error) => format!(
                    "{} cannot be run: {error}; say another providers.python",
                    self.python.display()
                ),
            };
            self.directory.failed(name, &why);
            let pause = pause.after(began.elapsed());
            let again_in_ms = pause.as_millis();
            tracing::error!(
                module = name,
                why,
                again_in_ms,
                "a provider of hooks has failed"
            );
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    fn start(&self, module: &Module) -> io::Result<Child> {
        let ticket = ticket()?;
        self.directory.starting(&module.name, &ticket);
        let child = Child::start(&self.settings, &self.python, module, &self.address, &ticket)?;
        tracing::info!(module = module.name, python = %self.python.display(), "a provider's process is started");
        Ok(child)
    }

    /// Waits for its end, or ends it because it hangs. Returns how it ended.
    async fn run(&self, module: &str, child: &mut Child) -> String {
        let mut look = tokio::time::interval(LOOK);
        let mut looked = Instant::now();
        let mut hung = None;
        let group = child.group();
        let ended = child.ended();
        tokio::pin!(ended);
        loop {
            tokio::select! {
                how = &mut ended => return hung.unwrap_or(how),
                _ = look.tick(), if hung.is_none() => {
                    let now = Instant::now();
                    if now.saturating_duration_since(looked) >= STOOD_STILL {
                        self.directory.stood_still(module, now);
                    }
                    looked = now;
                    // Whoever waits at a gate may wait for longer.
                    let most = self.settings.hung.max(self.directory.longest_gate(module) + LOOK);
                    let silent = self.directory.silent(module, now);
                    if let Some((silent, calls)) = silent.filter(|(silent, _)| *silent >= most) {
                        hung = Some(format!(
                            "answered nothing for {:.0} s while {calls} calls waited, and was ended (providers.hung_ms)",
                            silent.as_secs_f64()
                        ));
                        group.kill();
                    }
                }
            }
        }
    }
}

/// What a process shows so that it is known to be the one that was started.
fn ticket() -> io::Result<String> {
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}

/// How long to wait before the next start.
struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(PAUSE.0)
    }
}

impl Pause {
    fn after(&mut self, ran: Duration) -> Duration {
        if ran >= RAN_WELL {
            self.0 = PAUSE.0;
        }
        let pause = self.0;
        self.0 = (pause * 2).min(PAUSE.1);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_started_again_ever_later_until_it_ran_well() {
        let mut pause = Pause::default();
        let short = Duration::from_secs(1);
        let pauses: Vec<_> = (0..10).map(|_| pause.after(short).as_millis()).collect();
        assert_eq!(
            pauses,
            [200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000]
        );
        assert_eq!(pause.after(RAN_WELL), PAUSE.0);
        assert_eq!(pause.after(short), PAUSE.0 * 2);
    }

    #[test]
    fn no_two_tickets_are_alike() {
        let (one, two) = (ticket().expect("read"), ticket().expect("read"));
        assert_eq!(one.len(), 32);
        assert_ne!(one, two);
    }
}
