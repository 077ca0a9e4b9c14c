//! GPUs by NVML. One handle, on the sampler's thread only. A failed call is tried again at the next turn; only "not
//! supported" stays.

use std::path::PathBuf;
use std::time::Instant;

use nvml_wrapper::enum_wrappers::device::TemperatureSensor;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

use crate::domain::{GpuProcess, GpuSample, Reading};

const SOURCE: &str = "nvml";

/// The driver's library, once it is loaded.
pub struct Gpus {
    library: Option<PathBuf>,
    nvml: Option<Nvml>,
    said: bool,
}

impl Gpus {
    /// The library is looked for at the first read; `library` names another file than the usual one.
    pub fn new(library: Option<PathBuf>) -> Self {
        Self {
            library,
            nvml: None,
            said: false,
        }
    }

    /// Reads every GPU once. Errors: why there are none.
    pub fn read(&mut self, now: Instant) -> Result<Vec<GpuSample>, String> {
        if self.nvml.is_none() {
            let loaded = match &self.library {
                Some(path) => Nvml::builder().lib_path(path.as_os_str()).init(),
                None => Nvml::init(),
            };
            match loaded {
                Ok(nvml) => self.nvml = Some(nvml),
                Err(error) => {
                    let why = format!("no NVIDIA driver here: {error}");
                    if !self.said {
                        tracing::info!(why, "GPU memory is not known");
                        self.said = true;
                    }
                    return Err(why);
                }
            }
        }
        let nvml = self.nvml.as_ref().expect("it was just loaded");
        let read = nvml
            .device_count()
            .and_then(|count| (0..count).map(|index| sample(nvml, index, now)).collect());
        read.map_err(|error| {
            // A driver that was restarted needs a new handle.
            if matches!(
                error,
                NvmlError::Uninitialized | NvmlError::DriverNotLoaded | NvmlError::GpuLost
            ) {
                self.nvml = None;
            }
            format!("NVML: {error}")
        })
    }
}

fn reading<T>(value: Result<T, NvmlError>, number: impl Fn(T) -> f64, now: Instant) -> Reading {
    Reading {
        value: value.map(number).map_err(|error| error.to_string()),
        at: now,
        source: SOURCE,
    }
}

fn sample(nvml: &Nvml, index: u32, now: Instant) -> Result<GpuSample, NvmlError> {
    let device = nvml.device_by_index(index)?;
    let memory = || device.memory_info();
    Ok(GpuSample {
        index,
        name: device
            .name()
            .unwrap_or_else(|error| format!("unknown: {error}")),
        uuid: device
            .uuid()
            .unwrap_or_else(|error| format!("unknown: {error}")),
        total_bytes: reading(memory(), |memory| memory.total as f64, now),
        used_bytes: reading(memory(), |memory| memory.used as f64, now),
        free_bytes: reading(memory(), |memory| memory.free as f64, now),
        reserved_bytes: reading(memory(), |memory| memory.reserved as f64, now),
        memory_busy_percent: reading(device.utilization_rates(), |rates| rates.memory.into(), now),
        mig: Vec::new(),
        unified: false,
        utilization_percent: reading(device.utilization_rates(), |rates| rates.gpu.into(), now),
        temperature_celsius: reading(device.temperature(TemperatureSensor::Gpu), f64::from, now),
        power_watts: reading(
            device.power_usage(),
            |milliwatts| f64::from(milliwatts) / 1000.0,
            now,
        ),
        processes: processes(&device, now),
    })
}

fn processes(device: &Device<'_>, now: Instant) -> Result<Vec<GpuProcess>, String> {
    let running = device
        .running_compute_processes()
        .map_err(|error| error.to_string())?;
    let each = running.into_iter().map(|process| {
        let value = match process.used_gpu_memory {
            UsedGpuMemory::Used(bytes) => Ok(bytes as f64),
            UsedGpuMemory::Unavailable => Err("the driver does not say it here".to_owned()),
        };
        GpuProcess {
            pid: process.pid,
            gpu_instance: process.gpu_instance_id,
            command: String::new(),
            used_bytes: Reading {
                value,
                at: now,
                source: SOURCE,
            },
        }
    });
    Ok(each.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_driver_it_says_so_and_nothing_is_zero() {
        let mut gpus = Gpus::new(Some(PathBuf::from("/nowhere/libnvidia-ml.so")));
        let why = gpus
            .read(Instant::now())
            .expect_err("there is no such library");
        assert!(why.starts_with("no NVIDIA driver here: "), "{why}");
        assert!(gpus.said);
    }
}
