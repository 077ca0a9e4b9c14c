//! Memory numbers. A number that could not be read is absent, with the reason; it is never 0.

use std::time::Instant;

/// One number with its source and the time it was taken, or why it is not known.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The number, or why there is none ("no such process", "not supported by the driver").
    pub value: Result<f64, String>,
    /// When it was taken, or tried.
    pub at: Instant,
    /// "/proc/meminfo", "nvml", "trainer".
    pub source: &'static str,
}

/// Host memory and swap. All or none of these fields is known, since they come from one file.
#[derive(Clone, Debug, PartialEq)]
pub struct HostSample {
    /// When it was read.
    pub at: Instant,
    /// MemTotal.
    pub total_bytes: u64,
    /// As psutil 7: MemAvailable, or its estimate.
    pub available_bytes: u64,
    /// As psutil 7: total - available.
    pub used_bytes: u64,
    /// As psutil: 100 * (total - available) / total, rounded to one decimal.
    pub used_percent: f64,
    /// SwapTotal.
    pub swap_total_bytes: u64,
    /// SwapTotal - SwapFree.
    pub swap_used_bytes: u64,
    /// Rounded to one decimal; 0.0 without swap.
    pub swap_used_percent: f64,
}

/// One child of a trainer.
#[derive(Clone, Debug, PartialEq)]
pub struct ChildSample {
    /// As this daemon sees it.
    pub pid: u32,
    /// Its name.
    pub command: String,
    /// Resident set size.
    pub rss_bytes: Reading,
}

/// A trainer's process and its children.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessSample {
    /// The main process.
    pub rss_bytes: Reading,
    /// Its descendants; Err: why they are not known.
    pub children: Result<Vec<ChildSample>, String>,
    /// When the children were looked for.
    pub children_at: Instant,
}

/// Memory of one process on a GPU.
#[derive(Clone, Debug, PartialEq)]
pub struct GpuProcess {
    /// As the driver sees it.
    pub pid: u32,
    /// Device memory that it uses.
    pub used_bytes: Reading,
}

/// One GPU.
#[derive(Clone, Debug, PartialEq)]
pub struct GpuSample {
    /// NVML's index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its UUID.
    pub uuid: String,
    /// Device memory.
    pub total_bytes: Reading,
    /// Device memory in use by anybody.
    pub used_bytes: Reading,
    /// Device memory free.
    pub free_bytes: Reading,
    /// Share of time that a kernel ran.
    pub utilization_percent: Reading,
    /// Die temperature.
    pub temperature_celsius: Reading,
    /// Board power.
    pub power_watts: Reading,
    /// Per process; Err: why not known.
    pub processes: Result<Vec<GpuProcess>, String>,
}
