//! What a script says: the machine as it is now.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nvml_wrapper_sys::bindings as nvml;
use nvml_wrapper_sys::bindings::nvmlReturn_t;
use serde::Deserialize;

use crate::handle::Handle;

/// Names the script's file.
const SCRIPT: &str = "HOOKBUS_NVML_SCRIPT";
/// How often it is looked whether a held call may go on.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// The start of the driver that the library was initialised with; 0: it is not.
static INITIALISED: AtomicU64 = AtomicU64::new(0);

/// The machine.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct World {
    /// Counts the driver's starts, from 1: who was initialised with another one is UNINITIALIZED.
    #[serde(default = "one")]
    start: u64,
    #[serde(default)]
    pub(crate) driver: String,
    #[serde(default)]
    pub(crate) gpus: Vec<Gpu>,
    /// Function, or "*": the error that it answers.
    #[serde(default)]
    answers: BTreeMap<String, Refusal>,
    /// While this file is there no call comes back.
    #[serde(default)]
    held_by: Option<PathBuf>,
    /// Each call is a line here: the function, and the GPU's index.
    #[serde(default)]
    log: Option<PathBuf>,
}

fn one() -> u64 {
    1
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Gpu {
    pub(crate) name: String,
    pub(crate) uuid: String,
    /// None: not supported, as where the GPU uses the host's.
    pub(crate) memory: Option<Memory>,
    /// Kernels and memory, in percent.
    pub(crate) busy: Option<[u32; 2]>,
    pub(crate) temperature_c: Option<u32>,
    pub(crate) power_mw: Option<u32>,
    #[serde(default)]
    pub(crate) compute: Vec<Process>,
    #[serde(default)]
    pub(crate) graphics: Vec<Process>,
    #[serde(default)]
    pub(crate) mps: Vec<Process>,
    /// It knows MIG.
    #[serde(default)]
    pub(crate) can_slice: bool,
    /// Its places for slices; null: an empty one. None: it is not sliced.
    pub(crate) mig: Option<Vec<Option<Slice>>>,
    /// It fell off the bus.
    #[serde(default)]
    lost: bool,
    /// Of it and its slices.
    #[serde(default)]
    answers: BTreeMap<String, Refusal>,
    /// Of the whole GPU, not of its slices.
    #[serde(default)]
    whole_answers: BTreeMap<String, Refusal>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Memory {
    pub(crate) total: u64,
    pub(crate) reserved: u64,
    pub(crate) used: u64,
}

impl Memory {
    pub(crate) fn free(&self) -> u64 {
        self.total.saturating_sub(self.reserved + self.used)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// None: not available.
    pub(crate) used: Option<u64>,
    pub(crate) gpu_instance: Option<u32>,
    pub(crate) compute_instance: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Slice {
    pub(crate) uuid: String,
    pub(crate) gpu_instance: u32,
    pub(crate) compute_instance: u32,
    pub(crate) memory: Option<Memory>,
}

/// NVML's error codes, as scripts say them.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Refusal {
    Uninitialized,
    NotSupported,
    NoPermission,
    DriverNotLoaded,
    Timeout,
    FunctionNotFound,
    GpuIsLost,
    LibRmVersionMismatch,
    ArgumentVersionMismatch,
    Unknown,
}

impl Refusal {
    fn code(self) -> nvmlReturn_t {
        match self {
            Refusal::Uninitialized => nvml::nvmlReturn_enum_NVML_ERROR_UNINITIALIZED,
            Refusal::NotSupported => nvml::nvmlReturn_enum_NVML_ERROR_NOT_SUPPORTED,
            Refusal::NoPermission => nvml::nvmlReturn_enum_NVML_ERROR_NO_PERMISSION,
            Refusal::DriverNotLoaded => nvml::nvmlReturn_enum_NVML_ERROR_DRIVER_NOT_LOADED,
            Refusal::Timeout => nvml::nvmlReturn_enum_NVML_ERROR_TIMEOUT,
            Refusal::FunctionNotFound => nvml::nvmlReturn_enum_NVML_ERROR_FUNCTION_NOT_FOUND,
            Refusal::GpuIsLost => nvml::nvmlReturn_enum_NVML_ERROR_GPU_IS_LOST,
            Refusal::LibRmVersionMismatch => {
                nvml::nvmlReturn_enum_NVML_ERROR_LIB_RM_VERSION_MISMATCH
            }
            Refusal::ArgumentVersionMismatch => {
                nvml::nvmlReturn_enum_NVML_ERROR_ARGUMENT_VERSION_MISMATCH
            }
            Refusal::Unknown => nvml::nvmlReturn_enum_NVML_ERROR_UNKNOWN,
        }
    }
}

fn refused(answers: &BTreeMap<String, Refusal>, function: &str) -> Result<(), nvmlReturn_t> {
    let refusal = answers.get(function).or_else(|| answers.get("*"));
    refusal.map_or(Ok(()), |refusal| Err(refusal.code()))
}

impl World {
    /// As it is now. A script that cannot be read is a mistake of the test: it is said, and there is no driver.
    pub(crate) fn read() -> Self {
        let path = std::env::var_os(SCRIPT).unwrap_or_default();
        let text = std::fs::read_to_string(&path).map_err(|error| error.to_string());
        let world =
            text.and_then(|text| serde_json::from_str(&text).map_err(|error| error.to_string()));
        world.unwrap_or_else(|error| {
            eprintln!("{SCRIPT} {}: {error}", path.display());
            Self {
                start: 0,
                driver: String::new(),
                gpus: Vec::new(),
                answers: BTreeMap::from([("*".to_owned(), Refusal::DriverNotLoaded)]),
                held_by: None,
                log: None,
            }
        })
    }

    /// Writes it down, and holds it where the script says so.
    pub(crate) fn called(&self, function: &str, handle: Option<Handle>) {
        if let Some(log) = &self.log {
            let mut file = std::fs::OpenOptions::new();
            if let Ok(mut file) = file.create(true).append(true).open(log) {
                let gpu = handle.map_or(String::new(), |handle| format!(" {}", handle.gpu));
                // A test that misses the line says so.
                let _ = file.write_all(format!("{function}{gpu}\n").as_bytes());
            }
        }
        while self.held_by.as_ref().is_some_and(|file| file.exists()) {
            std::thread::park_timeout(LOOK_AGAIN);
        }
    }

    pub(crate) fn refusal(&self, function: &str) -> Result<(), nvmlReturn_t> {
        refused(&self.answers, function)
    }

    pub(crate) fn gpu(&self, at: u32) -> Result<&Gpu, nvmlReturn_t> {
        let gpu = self.gpus.get(at as usize);
        gpu.ok_or(nvml::nvmlReturn_enum_NVML_ERROR_INVALID_ARGUMENT)
    }
}

impl Gpu {
    pub(crate) fn refusal(&self, function: &str) -> Result<(), nvmlReturn_t> {
        if self.lost {
            return Err(Refusal::GpuIsLost.code());
        }
        refused(&self.answers, function)
    }

    pub(crate) fn refusal_of_whole(&self, function: &str) -> Result<(), nvmlReturn_t> {
        refused(&self.whole_answers, function)
    }
}

pub(crate) fn initialise(world: &World) {
    INITIALISED.store(world.start, Ordering::SeqCst);
}

pub(crate) fn shut_down() {
    INITIALISED.store(0, Ordering::SeqCst);
}

pub(crate) fn initialised(world: &World) -> Result<(), nvmlReturn_t> {
    if INITIALISED.load(Ordering::SeqCst) == world.start {
        Ok(())
    } else {
        Err(Refusal::Uninitialized.code())
    }
}
