//! The slices of a GPU (MIG).

use nvml_wrapper::error::{NvmlError, nvml_sym, nvml_try};
use nvml_wrapper::{Device, Nvml};
use nvml_wrapper_sys::bindings::{NVML_DEVICE_MIG_ENABLE, nvmlDevice_t, nvmlReturn_t};

use super::asked::{Asked, Unanswered};

/// A slice: its place, and its GPU and compute instances.
pub(super) struct Slice<'n> {
    pub(super) index: u32,
    pub(super) device: Device<'n>,
    pub(super) gpu_instance: u32,
    pub(super) compute_instance: u32,
}

/// Whether the GPU is sliced now. One that cannot be is not.
pub(super) fn is_sliced(asked: &mut Asked<'_>, device: &Device<'_>) -> Result<bool, Unanswered> {
    let mode = asked.ask("MIG mode", || match device.mig_mode() {
        // A driver from before MIG.
        Err(NvmlError::FailedToLoadSymbol(_) | NvmlError::FunctionNotFound) => Ok(None),
        mode => mode.map(Some),
    });
    match mode {
        Ok(mode) => Ok(mode.is_some_and(|mode| mode.current == NVML_DEVICE_MIG_ENABLE)),
        Err(unanswered) if unanswered.is_unsupported => Ok(false),
        Err(unanswered) => Err(unanswered),
    }
}

/// Its slices, in their order. Errors: they are not known.
pub(super) fn ask<'n>(
    asked: &mut Asked<'_>,
    nvml: &'n Nvml,
    device: &Device<'n>,
) -> Result<Vec<Slice<'n>>, Unanswered> {
    let places = asked.ask("places for slices", || device.mig_device_count())?;
    let mut slices = Vec::new();
    for index in 0..places {
        let found = asked.ask_of(Some(index), "a slice", || {
            match device.mig_device_by_index(index) {
                // An empty place.
                Err(NvmlError::NotFound) => Ok(None),
                found => found.map(Some),
            }
        })?;
        let Some(slice) = found else { continue };
        let lib = nvml.lib();
        let gpu = asked.ask_of(Some(index), "GPU instance", || {
            id(nvml_sym(lib.nvmlDeviceGetGpuInstanceId.as_ref())?, &slice)
        })?;
        let compute = asked.ask_of(Some(index), "compute instance", || {
            id(
                nvml_sym(lib.nvmlDeviceGetComputeInstanceId.as_ref())?,
                &slice,
            )
        })?;
        slices.push(Slice {
            index,
            device: slice,
            gpu_instance: gpu,
            compute_instance: compute,
        });
    }
    Ok(slices)
}

/// A call that nvml-wrapper does not have: a device's number of some kind.
fn id(
    call: &unsafe extern "C" fn(nvmlDevice_t, *mut u32) -> nvmlReturn_t,
    device: &Device<'_>,
) -> Result<u32, NvmlError> {
    let mut id = 0;
    // SAFETY: the handle is of the library that the call is of, which is open, and the place is of the call's own type.
    nvml_try(unsafe { call(device.handle(), &mut id) })?;
    Ok(id)
}
