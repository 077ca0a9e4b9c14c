//! A trainer's memory: its process and those below it, the cgroup that binds it, its /dev/shm.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Reading;

/// What a process is to its trainer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProcessRole {
    /// The trainer itself.
    Main,
    /// A data loader's worker.
    Worker,
    /// Anything else below the trainer.
    Child,
}

/// What smaps_rollup says of one process; read seldom, since it costs.
#[derive(Clone, Debug, PartialEq)]
pub struct Detail {
    /// Proportional set size: each page shared out among those who have it.
    pub pss_bytes: Reading,
    /// Unique set size: Private_Clean + Private_Dirty.
    pub uss_bytes: Reading,
    /// SwapPss.
    pub swap_bytes: Reading,
    /// Resident shared memory (Pss_Shmem, else RssShmem of status).
    pub shmem_bytes: Reading,
}

impl Detail {
    /// None of it is known.
    pub fn unknown(why: &str, at: Instant, source: &'static str) -> Self {
        let reading = || Reading::unknown(why, at, source);
        Self {
            pss_bytes: reading(),
            uss_bytes: reading(),
            swap_bytes: reading(),
            shmem_bytes: reading(),
        }
    }
}

/// One process below a trainer.
#[derive(Clone, Debug, PartialEq)]
pub struct ChildSample {
    /// As this daemon sees it.
    pub pid: u32,
    /// Its name.
    pub command: String,
    /// What it is.
    pub role: ProcessRole,
    /// Resident set size.
    pub rss_bytes: Reading,
    /// From smaps_rollup.
    pub detail: Detail,
}

/// A trainer's process and all that is below it.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessSample {
    /// The main process.
    pub rss_bytes: Reading,
    /// Of the main process, from smaps_rollup.
    pub detail: Detail,
    /// Its descendants; Err: why they are not known.
    pub children: Result<Arc<[ChildSample]>, String>,
    /// When the children were looked for.
    pub children_at: Instant,
    /// The cgroup that binds it; Err: why it is not known.
    pub cgroup: Result<Arc<CgroupSample>, String>,
    /// /dev/shm as it sees it; Err: why it is not known.
    pub shm: Result<ShmSample, String>,
    /// CUDA_VISIBLE_DEVICES as the process was started with; None: it is not set, or cannot be read.
    pub visible_devices: Option<Arc<str>>,
}

/// A memory cgroup: the one on the trainer's path with the smallest limit, else the trainer's own.
#[derive(Clone, Debug, PartialEq)]
pub struct CgroupSample {
    /// The trainer's own group.
    pub path: String,
    /// 1 or 2.
    pub version: u8,
    /// The group that these numbers are of.
    pub limit_path: String,
    /// Infinite: there is no limit.
    pub limit_bytes: Reading,
    /// What is charged to it.
    pub current_bytes: Reading,
    /// current - inactive_file, as the kubelet has it.
    pub working_set_bytes: Reading,
    /// The most that was ever charged.
    pub peak_bytes: Reading,
    /// Swap in use.
    pub swap_bytes: Reading,
    /// Page cache.
    pub file_bytes: Reading,
    /// Processes that the kernel killed in it for want of memory.
    pub oom_kills: Reading,
    /// Times that its limit was reached and nothing could be reclaimed.
    pub ooms: Reading,
    /// PSI some avg10.
    pub pressure_some_percent: Reading,
    /// PSI full avg10.
    pub pressure_full_percent: Reading,
}

/// A tmpfs for shared memory.
#[derive(Clone, Debug, PartialEq)]
pub struct ShmSample {
    /// When it was read.
    pub at: Instant,
    /// Its size.
    pub total_bytes: u64,
    /// In use.
    pub used_bytes: u64,
    /// Free.
    pub free_bytes: u64,
}

/// A trainer's memory as its own client reads it, where this daemon cannot see the process. What it could not read is None.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnMemory {
    /// Since it was read, but for `rss_bytes`, which was new.
    pub age: Duration,
    /// Its resident set size.
    pub rss_bytes: Option<u64>,
    /// The sum over its descendants.
    pub children_rss_bytes: Option<u64>,
    /// So many descendants.
    pub children: Option<u32>,
    /// Its own group, as it sees it; None: it does not know.
    pub cgroup: Option<String>,
    /// The smallest on the path; `u64::MAX`: no limit.
    pub cgroup_limit_bytes: Option<u64>,
    /// Of the group that has the limit.
    pub cgroup_current_bytes: Option<u64>,
    /// current - inactive_file.
    pub cgroup_working_set_bytes: Option<u64>,
    /// /dev/shm.
    pub shm_total_bytes: Option<u64>,
    /// In use.
    pub shm_used_bytes: Option<u64>,
}
