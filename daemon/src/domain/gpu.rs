//! GPUs as their driver sees them.

use super::Reading;

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
    /// Its slices.
    pub mig: Vec<MigSample>,
    /// It has no memory of its own: it uses the host's.
    pub unified: bool,
}
