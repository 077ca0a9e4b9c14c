//! Memory numbers. A number that could not be read is absent, with the reason; it is never 0.

use std::time::{Duration, Instant};

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

impl Reading {
    /// A number.
    pub fn known(value: f64, at: Instant, source: &'static str) -> Self {
        Self {
            value: Ok(value),
            at,
            source,
        }
    }

    /// None, and why.
    pub fn unknown(why: &str, at: Instant, source: &'static str) -> Self {
        Self {
            value: Err(why.to_owned()),
            at,
            source,
        }
    }
}

/// What one probe of the sampler costs.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeCost {
    /// "host", "process", "children", "smaps", "cgroup", "shm", "gpu".
    pub name: &'static str,
    /// How often it is to look.
    pub interval: Duration,
    /// How often it looks now, where it would cost more than its budget else.
    pub slowed_to: Option<Duration>,
    /// How often it has looked.
    pub reads: u64,
    /// Processor time of them all.
    pub cpu: Duration,
    /// The longest one, by the clock.
    pub longest: Duration,
    /// Of one core, of late.
    pub share_percent: f64,
    /// It should not cost more.
    pub budget_percent: f64,
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
