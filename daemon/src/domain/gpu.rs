//! GPUs as their driver sees them.

use std::time::Instant;

use super::Reading;

/// Whose number a pid of the driver's is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pid {
    /// The process that has this number here.
    Here,
    /// No process here: it has ended, or is hidden.
    Elsewhere,
    /// The driver may count in another pid namespace.
    NotKnown,
}

/// Memory of one process on a GPU.
#[derive(Clone, Debug, PartialEq)]
pub struct GpuProcess {
    /// As the driver sees it.
    pub pid: u32,
    /// Device memory that it uses.
    pub used_bytes: Reading,
    /// In which slice, where the GPU is sliced (MIG).
    pub gpu_instance: Option<u32>,
    /// Its name; empty: not known.
    pub command: String,
    /// Whether the pid means a process here.
    pub seen: Pid,
}

/// A slice of a GPU (MIG).
#[derive(Clone, Debug, PartialEq)]
pub struct MigSample {
    /// Within its GPU.
    pub index: u32,
    /// Its UUID.
    pub uuid: String,
    /// GPU instance.
    pub gpu_instance: u32,
    /// Compute instance.
    pub compute_instance: u32,
    /// Its memory.
    pub total_bytes: Reading,
    /// In use by anybody.
    pub used_bytes: Reading,
    /// Free.
    pub free_bytes: Reading,
    /// By the driver and firmware.
    pub reserved_bytes: Reading,
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
    /// By the driver and firmware; not in used.
    pub reserved_bytes: Reading,
    /// Share of time that its memory was read or written.
    pub memory_busy_percent: Reading,
    /// Share of time that a kernel ran.
    pub utilization_percent: Reading,
    /// Die temperature.
    pub temperature_celsius: Reading,
    /// Board power.
    pub power_watts: Reading,
    /// Per process; Err: why not known.
    pub processes: Result<Vec<GpuProcess>, String>,
    /// When it was looked for them.
    pub processes_at: Instant,
    /// Its slices.
    pub mig: Vec<MigSample>,
    /// It has no memory of its own: it uses the host's.
    pub unified: bool,
}

impl GpuSample {
    /// A GPU that is there and could not be read.
    pub fn unknown(index: u32, name: &str, uuid: &str, why: &str, at: Instant) -> Self {
        let reading = || Reading::unknown(why, at, "nvml");
        Self {
            index,
            name: name.to_owned(),
            uuid: uuid.to_owned(),
            total_bytes: reading(),
            used_bytes: reading(),
            free_bytes: reading(),
            reserved_bytes: reading(),
            memory_busy_percent: reading(),
            utilization_percent: reading(),
            temperature_celsius: reading(),
            power_watts: reading(),
            processes: Err(why.to_owned()),
            processes_at: at,
            mig: Vec::new(),
            unified: false,
        }
    }
}

impl MigSample {
    /// A slice that is there and could not be read; `instances`: GPU, compute.
    pub fn unknown(index: u32, uuid: &str, instances: (u32, u32), why: &str, at: Instant) -> Self {
        let reading = || Reading::unknown(why, at, "nvml");
        Self {
            index,
            uuid: uuid.to_owned(),
            gpu_instance: instances.0,
            compute_instance: instances.1,
            total_bytes: reading(),
            used_bytes: reading(),
            free_bytes: reading(),
            reserved_bytes: reading(),
        }
    }
}
