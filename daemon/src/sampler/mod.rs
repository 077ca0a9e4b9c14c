//! Memory is looked at on a thread of its own: probes at their own rates, the newest sample in the store. A probe that
//! fails says why; it never stops the others.
//!
//! | file | what it is |
//! |---|---|
//! | `turns` | which probe looks when |
//! | `cost` | what looking costs; beyond its budget a probe looks less often |
//! | `host` | memory and swap of the machine |
//! | `process` | the trainers that are watched, and the newest that is known of each |
//! | `tree`, `role` | the processes below a trainer, and what they are |
//! | `smaps` | proportional and unique set sizes |
//! | `cgroup` | the memory cgroup that binds a trainer |
//! | `shm` | /dev/shm |
//! | `gpu` | GPUs by NVML, on another thread of their own |
//! | `pid`, `kept` | one process, and small files, through kept descriptors |
//! | `identity` | is this still the process that it was |

mod cgroup;
mod cost;
pub mod gpu;
pub mod host;
pub mod identity;
mod kept;
mod pid;
mod process;
mod role;
mod shm;
mod smaps;
mod tree;
mod turns;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, park_timeout};
use std::time::{Duration, Instant};

pub use cost::Rate;

use crate::store::Live;
use turns::Turns;

/// Where, how often and for how much.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// /proc but in tests.
    pub proc_root: PathBuf,
    /// /sys/fs/cgroup but in tests.
    pub cgroup_root: PathBuf,
    /// Host memory and swap.
    pub host: Rate,
    /// The trainers' main processes.
    pub process: Rate,
    /// Their descendants.
    pub children: Rate,
    /// smaps_rollup of each of them.
    pub smaps: Rate,
    /// Their memory cgroups.
    pub cgroup: Rate,
    /// /dev/shm, theirs and the host's.
    pub shm: Rate,
    /// GPUs.
    pub gpu_rate: Rate,
    /// Look for GPUs at all.
    pub gpu: bool,
    /// Another file than the usual libnvidia-ml.so.1.
    pub nvml_library: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        let rate = |interval_ms, budget_percent| Rate {
            interval: Duration::from_millis(interval_ms),
            budget_percent,
        };
        Self {
            proc_root: PathBuf::from("/proc"),
            cgroup_root: PathBuf::from("/sys/fs/cgroup"),
            host: rate(100, 0.1),
            process: rate(100, 0.1),
            children: rate(1000, 0.2),
            smaps: rate(10_000, 1.0),
            cgroup: rate(1000, 0.5),
            shm: rate(5000, 0.1),
            gpu_rate: rate(1000, 2.0),
            gpu: true,
            nvml_library: None,
        }
    }
}

/// The sampler's thread.
#[derive(Debug)]
pub struct Sampler {
    stopped: Arc<AtomicBool>,
    thread: JoinHandle<()>,
    gpus: Option<gpu::Thread>,
}

impl Sampler {
    /// Reads the host once, so that who is told of a ready daemon finds it sampled, and starts the thread. Errors: the
    /// system does not give one.
    pub fn start(settings: Settings, live: Live) -> std::io::Result<Self> {
        let stopped = Arc::new(AtomicBool::new(false));
        live.set_host(host::Host::new(&settings.proc_root).read(Instant::now()));
        let gpus = if settings.gpu {
            Some(gpu::Thread::start(&settings, live.clone())?)
        } else {
            live.set_gpus(Err("sampler.gpu is false in the configuration".to_owned()));
            None
        };
        let is_stopped = Arc::clone(&stopped);
        let thread = std::thread::Builder::new()
            .name("sampler".to_owned())
            .spawn(move || {
                let mut turns = Turns::new(&settings, live);
                // One that wakes for nothing finds nothing due.
                while !is_stopped.load(Ordering::Acquire) {
                    turns.run();
                    park_timeout(turns.wait());
                }
            })?;
        Ok(Self {
            stopped,
            thread,
            gpus,
        })
    }

    /// Ends the thread, promptly.
    pub fn stop(self) {
        self.stopped.store(true, Ordering::Release);
        self.thread.thread().unpark();
        if self.thread.join().is_err() {
            tracing::warn!("the sampler's thread panicked");
        }
        if let Some(gpus) = self.gpus {
            gpus.stop();
        }
    }
}

#[cfg(test)]
mod recorded;
