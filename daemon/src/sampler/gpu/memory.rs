//! Memory of a GPU or a slice, in one call.

use std::time::Instant;

use nvml_wrapper::error::{NvmlError, nvml_sym, nvml_try};
use nvml_wrapper::{Device, Nvml};
use nvml_wrapper_sys::bindings::{
    nvmlMemory_t, nvmlReturn_enum_NVML_ERROR_ARGUMENT_VERSION_MISMATCH as VERSION_MISMATCH,
};

use super::asked::Unanswered;
use crate::domain::Reading;

const SOURCE: &str = "nvml";
/// What drivers before 510 say: there what is reserved counts as used.
const FIRST: &str = "nvml v1: with what the driver reserves";

/// The driver's numbers.
pub(super) struct Memory {
    total: u64,
    used: u64,
    free: u64,
    /// None: the driver says it in `used`.
    reserved: Option<u64>,
}

/// total = used + reserved + free; where the driver has only the first version of the call, total = used + free.
pub(super) fn ask(nvml: &Nvml, device: &Device<'_>) -> Result<Memory, NvmlError> {
    match device.memory_info() {
        Ok(memory) => Ok(Memory {
            total: memory.total,
            used: memory.used,
            free: memory.free,
            reserved: Some(memory.reserved),
        }),
        Err(
            NvmlError::FailedToLoadSymbol(_)
            | NvmlError::FunctionNotFound
            | NvmlError::UnexpectedVariant(VERSION_MISMATCH),
        ) => first(nvml, device),
        Err(error) => Err(error),
    }
}

/// The first version of the call, which nvml-wrapper does not have.
fn first(nvml: &Nvml, device: &Device<'_>) -> Result<Memory, NvmlError> {
    let call = nvml_sym(nvml.lib().nvmlDeviceGetMemoryInfo.as_ref())?;
    let mut memory = nvmlMemory_t {
        total: 0,
        free: 0,
        used: 0,
    };
    // SAFETY: the handle is of this library, which is open, and the place is of the call's own type.
    nvml_try(unsafe { call(device.handle(), &mut memory) })?;
    Ok(Memory {
        total: memory.total,
        used: memory.used,
        free: memory.free,
        reserved: None,
    })
}

/// As readings: total, used, free, reserved.
pub(super) fn readings(memory: &Result<Memory, Unanswered>, now: Instant) -> [Reading; 4] {
    match memory {
        Err(unanswered) => [(); 4].map(|()| Reading::unknown(&unanswered.why, now, SOURCE)),
        Ok(memory) => {
            let (used_source, reserved) = match memory.reserved {
                Some(reserved) => (SOURCE, Reading::known(reserved as f64, now, SOURCE)),
                None => {
                    let why = "the driver has only the first version of the call; it is in used";
                    (FIRST, Reading::unknown(why, now, SOURCE))
                }
            };
            [
                Reading::known(memory.total as f64, now, SOURCE),
                Reading::known(memory.used as f64, now, used_source),
                Reading::known(memory.free as f64, now, SOURCE),
                reserved,
            ]
        }
    }
}
