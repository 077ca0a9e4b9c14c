//! Memory is looked at on a thread of its own: probes at their own rates, the newest sample in the store. A probe that
//! fails says why; it never stops the others.

pub mod gpu;
pub mod host;
pub mod identity;
pub mod process;

use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::store::Live;

/// Where and how often.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// /proc but in tests.
    pub proc_root: PathBuf,
    /// Host memory and swap.
    pub host_interval: Duration,
    /// The trainers' main processes.
    pub process_interval: Duration,
    /// Their descendants.
    pub children_interval: Duration,
    /// GPUs.
    pub gpu_interval: Duration,
    /// Look for GPUs at all.
    pub gpu: bool,
    /// Another file than the usual libnvidia-ml.so.1.
    pub nvml_library: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            proc_root: PathBuf::from("/proc"),
            host_interval: Duration::from_millis(100),
            process_interval: Duration::from_millis(100),
            children_interval: Duration::from_secs(1),
            gpu_interval: Duration::from_secs(1),
            gpu: true,
            nvml_library: None,
        }
    }
}

/// The sampler's thread.
#[derive(Debug)]
pub struct Sampler {
    stop: SyncSender<()>,
    thread: JoinHandle<()>,
    gpus: Option<gpu::Thread>,
}

impl Sampler {
    /// Reads the host once, so that who is told of a ready daemon finds it sampled, and starts the thread. Errors: the
    /// system does not give one.
    pub fn start(settings: Settings, live: Live) -> std::io::Result<Self> {
        let (stop, stopped) = sync_channel(1);
        live.set_host(host::Host::new(&settings.proc_root).read(Instant::now()));
        let gpus = if settings.gpu {
            let (library, root) = (settings.nvml_library.clone(), &settings.proc_root);
            let thread = gpu::Thread::start(library, root, settings.gpu_interval, live.clone())?;
            Some(thread)
        } else {
            live.set_gpus(Err("sampler.gpu is false in the configuration".to_owned()));
            None
        };
        let thread = std::thread::Builder::new()
            .name("sampler".to_owned())
            .spawn(move || {
                let mut turns = Turns::new(&settings, live);
                while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(turns.wait()) {
                    turns.run();
                }
            })?;
        Ok(Self { stop, thread, gpus })
    }

    /// Ends the thread, promptly.
    pub fn stop(self) {
        // A thread that has ended needs no word.
        let _ = self.stop.try_send(());
        if self.thread.join().is_err() {
            tracing::warn!("the sampler's thread panicked");
        }
        if let Some(gpus) = self.gpus {
            gpus.stop();
        }
    }
}

/// Which probe is due when.
struct Turns {
    live: Live,
    host: (host::Host, Duration, Instant),
    processes: (process::Processes, Duration, Instant),
}

impl Turns {
    fn new(settings: &Settings, live: Live) -> Self {
        let now = Instant::now();
        Self {
            live,
            host: (
                host::Host::new(&settings.proc_root),
                settings.host_interval,
                now,
            ),
            processes: (
                process::Processes::new(&settings.proc_root, settings.children_interval),
                settings.process_interval,
                now,
            ),
        }
    }

    fn wait(&self) -> Duration {
        let next = self.host.2.min(self.processes.2);
        next.saturating_duration_since(Instant::now())
    }

    fn run(&mut self) {
        let now = Instant::now();
        if self.host.2 <= now {
            self.live.set_host(self.host.0.read(now));
            self.host.2 = now + self.host.1;
        }
        if self.processes.2 <= now {
            self.processes.0.read(&self.live, now);
            self.processes.2 = now + self.processes.1;
        }
    }
}
