//! A stand-in for libnvidia-ml.so: the functions that the daemon's probe calls by nvml-wrapper, with their C signatures.
//! What they answer is in the JSON file that HOOKBUS_NVML_SCRIPT names ([`script`] has its words); it is read anew at each
//! call, so a test that replaces the file, by a rename, changes the machine under a running daemon.

#![allow(non_snake_case)] // NVIDIA's names

mod handle;
mod script;

use std::ffi::{c_char, c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings::{
    NVML_DEVICE_MIG_DISABLE, NVML_DEVICE_MIG_ENABLE, NVML_VALUE_NOT_AVAILABLE, nvmlDevice_t,
    nvmlMemory_t, nvmlMemory_v2_t, nvmlProcessInfo_t, nvmlReturn_enum_NVML_ERROR_INSUFFICIENT_SIZE,
    nvmlReturn_enum_NVML_ERROR_INVALID_ARGUMENT, nvmlReturn_enum_NVML_ERROR_NOT_FOUND,
    nvmlReturn_enum_NVML_ERROR_NOT_SUPPORTED, nvmlReturn_enum_NVML_SUCCESS, nvmlReturn_t,
    nvmlTemperatureSensors_t, nvmlUtilization_t,
};

use handle::Handle;
use script::{Gpu, Memory, Process, Slice, World};

// As nvml.h has them on 64-bit machines.
const _: () = assert!(size_of::<nvmlMemory_t>() == 24);
const _: () = assert!(size_of::<nvmlMemory_v2_t>() == 40);
const _: () = assert!(size_of::<nvmlProcessInfo_t>() == 24);
const _: () = assert!(size_of::<nvmlUtilization_t>() == 8);

const INVALID: nvmlReturn_t = nvmlReturn_enum_NVML_ERROR_INVALID_ARGUMENT;
const NOT_SUPPORTED: nvmlReturn_t = nvmlReturn_enum_NVML_ERROR_NOT_SUPPORTED;
/// Of a process that is in no slice.
const NO_INSTANCE: c_uint = c_uint::MAX;

type Answer<T> = Result<T, nvmlReturn_t>;

/// A GPU, or one of its slices.
enum Target<'a> {
    Gpu(&'a Gpu),
    Slice(&'a Gpu, &'a Slice),
}

impl Target<'_> {
    fn gpu(&self) -> Answer<&Gpu> {
        match self {
            Target::Gpu(gpu) => Ok(gpu),
            Target::Slice(..) => Err(NOT_SUPPORTED),
        }
    }

    fn slice(&self) -> Answer<&Slice> {
        match self {
            Target::Gpu(_) => Err(NOT_SUPPORTED),
            Target::Slice(_, slice) => Ok(slice),
        }
    }

    fn memory(&self) -> Answer<&Memory> {
        match self {
            Target::Gpu(gpu) => gpu.memory.as_ref(),
            Target::Slice(_, slice) => slice.memory.as_ref(),
        }
        .ok_or(NOT_SUPPORTED)
    }
}

/// Writes to where the caller wants it.
fn give<T>(place: *mut T, value: T) -> Answer<()> {
    if place.is_null() {
        return Err(INVALID);
    }
    // SAFETY: the caller says, as NVML's callers do, that a T can be written there.
    unsafe { place.write(value) };
    Ok(())
}

fn give_text(place: *mut c_char, length: c_uint, text: &str) -> Answer<()> {
    if place.is_null() {
        return Err(INVALID);
    }
    if text.len() >= length as usize {
        return Err(nvmlReturn_enum_NVML_ERROR_INSUFFICIENT_SIZE);
    }
    // SAFETY: the caller says that there is room for `length` characters; the text and its end are not more.
    unsafe {
        place.copy_from_nonoverlapping(text.as_ptr().cast(), text.len());
        place.add(text.len()).write(0);
    }
    Ok(())
}

fn code(answer: Answer<()>) -> nvmlReturn_t {
    answer.map_or_else(|code| code, |()| nvmlReturn_enum_NVML_SUCCESS)
}

/// A call of the whole library, once it is initialised.
fn of_machine(function: &str, answer: impl FnOnce(&World) -> Answer<()>) -> nvmlReturn_t {
    let world = World::read();
    world.called(function, None);
    code(
        world
            .refusal(function)
            .and_then(|()| script::initialised(&world))
            .and_then(|()| answer(&world)),
    )
}

/// A call of one device.
fn of_device(
    function: &str,
    device: nvmlDevice_t,
    answer: impl FnOnce(&Target<'_>) -> Answer<()>,
) -> nvmlReturn_t {
    let world = World::read();
    let handle = Handle::of(device);
    world.called(function, handle);
    let found = || {
        world.refusal(function)?;
        script::initialised(&world)?;
        let handle = handle.ok_or(INVALID)?;
        let gpu = world.gpu(handle.gpu)?;
        gpu.refusal(function)?;
        match handle.slice {
            None => {
                gpu.refusal_of_whole(function)?;
                answer(&Target::Gpu(gpu))
            }
            Some(at) => answer(&Target::Slice(gpu, gpu.slice(at)?)),
        }
    };
    code(found())
}

#[unsafe(no_mangle)]
extern "C" fn nvmlInit_v2() -> nvmlReturn_t {
    let world = World::read();
    world.called("nvmlInit_v2", None);
    code(
        world
            .refusal("nvmlInit_v2")
            .map(|()| script::initialise(&world)),
    )
}

#[unsafe(no_mangle)]
extern "C" fn nvmlShutdown() -> nvmlReturn_t {
    World::read().called("nvmlShutdown", None);
    script::shut_down();
    nvmlReturn_enum_NVML_SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn nvmlSystemGetDriverVersion(place: *mut c_char, length: c_uint) -> nvmlReturn_t {
    of_machine("nvmlSystemGetDriverVersion", |world| {
        give_text(place, length, &world.driver)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCount_v2(place: *mut c_uint) -> nvmlReturn_t {
    of_machine("nvmlDeviceGetCount_v2", |world| {
        give(place, world.gpus.len() as c_uint)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetHandleByIndex_v2(
    index: c_uint,
    place: *mut nvmlDevice_t,
) -> nvmlReturn_t {
    of_machine("nvmlDeviceGetHandleByIndex_v2", |world| {
        let gpu = world.gpu(index)?;
        gpu.refusal("nvmlDeviceGetHandleByIndex_v2")?;
        give(place, Handle::gpu(index).device())
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetName(
    device: nvmlDevice_t,
    place: *mut c_char,
    length: c_uint,
) -> nvmlReturn_t {
    of_device("nvmlDeviceGetName", device, |target| match target {
        Target::Gpu(gpu) => give_text(place, length, &gpu.name),
        Target::Slice(gpu, _) => give_text(place, length, &format!("{} MIG", gpu.name)),
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetUUID(
    device: nvmlDevice_t,
    place: *mut c_char,
    length: c_uint,
) -> nvmlReturn_t {
    of_device("nvmlDeviceGetUUID", device, |target| match target {
        Target::Gpu(gpu) => give_text(place, length, &gpu.uuid),
        Target::Slice(_, slice) => give_text(place, length, &slice.uuid),
    })
}

/// The first version: what the driver reserves counts as used.
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMemoryInfo(
    device: nvmlDevice_t,
    place: *mut nvmlMemory_t,
) -> nvmlReturn_t {
    of_device("nvmlDeviceGetMemoryInfo", device, |target| {
        let memory = target.memory()?;
        let info = nvmlMemory_t {
            total: memory.total,
            free: memory.free(),
            used: memory.used + memory.reserved,
        };
        give(place, info)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMemoryInfo_v2(
    device: nvmlDevice_t,
    place: *mut nvmlMemory_v2_t,
) -> nvmlReturn_t {
    of_device("nvmlDeviceGetMemoryInfo_v2", device, |target| {
        if place.is_null() {
            return Err(INVALID);
        }
        // SAFETY: the caller says that an info is there, with its version filled in.
        let version = unsafe { (*place).version };
        if version != (size_of::<nvmlMemory_v2_t>() as c_uint | 2 << 24) {
            return Err(INVALID);
        }
        let memory = target.memory()?;
        let info = nvmlMemory_v2_t {
            version,
            total: memory.total,
            reserved: memory.reserved,
            free: memory.free(),
            used: memory.used,
        };
        give(place, info)
    })
}

/// As the driver has it, a sliced GPU has no utilisation.
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetUtilizationRates(
    device: nvmlDevice_t,
    place: *mut nvmlUtilization_t,
) -> nvmlReturn_t {
    of_device("nvmlDeviceGetUtilizationRates", device, |target| {
        let gpu = target.gpu()?;
        let busy = gpu.busy.filter(|_| gpu.mig.is_none());
        let [gpu, memory] = busy.ok_or(NOT_SUPPORTED)?;
        give(place, nvmlUtilization_t { gpu, memory })
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetTemperature(
    device: nvmlDevice_t,
    _sensor: nvmlTemperatureSensors_t,
    place: *mut c_uint,
) -> nvmlReturn_t {
    of_device("nvmlDeviceGetTemperature", device, |target| {
        give(place, target.gpu()?.temperature_c.ok_or(NOT_SUPPORTED)?)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetPowerUsage(device: nvmlDevice_t, place: *mut c_uint) -> nvmlReturn_t {
    of_device("nvmlDeviceGetPowerUsage", device, |target| {
        give(place, target.gpu()?.power_mw.ok_or(NOT_SUPPORTED)?)
    })
}

/// As NVML has it: with too little room the answer is how much is needed.
fn give_processes(
    wanted: &[Process],
    within: Option<&Slice>,
    count: *mut c_uint,
    place: *mut nvmlProcessInfo_t,
) -> Answer<()> {
    if count.is_null() {
        return Err(INVALID);
    }
    // SAFETY: the caller says that the number of its places is there.
    let room = unsafe { count.read() } as usize;
    let is_within = |process: &&Process| {
        within.is_none_or(|slice| process.gpu_instance == Some(slice.gpu_instance))
    };
    let running: Vec<_> = wanted.iter().filter(is_within).collect();
    give(count, running.len() as c_uint)?;
    if running.len() > room {
        return Err(nvmlReturn_enum_NVML_ERROR_INSUFFICIENT_SIZE);
    }
    for (at, process) in running.iter().enumerate() {
        let info = nvmlProcessInfo_t {
            pid: process.pid,
            usedGpuMemory: process
                .used
                .unwrap_or(NVML_VALUE_NOT_AVAILABLE as c_ulonglong),
            gpuInstanceId: process.gpu_instance.unwrap_or(NO_INSTANCE),
            computeInstanceId: process.compute_instance.unwrap_or(NO_INSTANCE),
        };
        // SAFETY: `at` is below the number of places that the caller has.
        give(unsafe { place.add(at) }, info)?;
    }
    Ok(())
}

fn processes(
    function: &str,
    device: nvmlDevice_t,
    count: *mut c_uint,
    place: *mut nvmlProcessInfo_t,
    of: impl Fn(&Gpu) -> &[Process],
) -> nvmlReturn_t {
    of_device(function, device, |target| match target {
        Target::Gpu(gpu) => give_processes(of(gpu), None, count, place),
        Target::Slice(gpu, slice) => give_processes(of(gpu), Some(slice), count, place),
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetComputeRunningProcesses_v3(
    device: nvmlDevice_t,
    count: *mut c_uint,
    place: *mut nvmlProcessInfo_t,
) -> nvmlReturn_t {
    let function = "nvmlDeviceGetComputeRunningProcesses_v3";
    processes(function, device, count, place, |gpu| &gpu.compute)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetGraphicsRunningProcesses_v3(
    device: nvmlDevice_t,
    count: *mut c_uint,
    place: *mut nvmlProcessInfo_t,
) -> nvmlReturn_t {
    let function = "nvmlDeviceGetGraphicsRunningProcesses_v3";
    processes(function, device, count, place, |gpu| &gpu.graphics)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMPSComputeRunningProcesses_v3(
    device: nvmlDevice_t,
    count: *mut c_uint,
    place: *mut nvmlProcessInfo_t,
) -> nvmlReturn_t {
    let function = "nvmlDeviceGetMPSComputeRunningProcesses_v3";
    processes(function, device, count, place, |gpu| &gpu.mps)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMigMode(
    device: nvmlDevice_t,
    current: *mut c_uint,
    pending: *mut c_uint,
) -> nvmlReturn_t {
    of_device("nvmlDeviceGetMigMode", device, |target| {
        let gpu = target.gpu()?;
        if !gpu.can_slice {
            return Err(NOT_SUPPORTED);
        }
        let mode = if gpu.mig.is_some() {
            NVML_DEVICE_MIG_ENABLE
        } else {
            NVML_DEVICE_MIG_DISABLE
        };
        give(current, mode)?;
        give(pending, mode)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMaxMigDeviceCount(
    device: nvmlDevice_t,
    place: *mut c_uint,
) -> nvmlReturn_t {
    of_device("nvmlDeviceGetMaxMigDeviceCount", device, |target| {
        let places = target.gpu()?.mig.as_ref().map_or(0, Vec::len);
        give(place, places as c_uint)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMigDeviceHandleByIndex(
    device: nvmlDevice_t,
    index: c_uint,
    place: *mut nvmlDevice_t,
) -> nvmlReturn_t {
    of_device("nvmlDeviceGetMigDeviceHandleByIndex", device, |target| {
        target.gpu()?.slice(index)?;
        let gpu = Handle::of(device).ok_or(INVALID)?.gpu;
        give(place, Handle::slice(gpu, index).device())
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetGpuInstanceId(device: nvmlDevice_t, place: *mut c_uint) -> nvmlReturn_t {
    of_device("nvmlDeviceGetGpuInstanceId", device, |target| {
        give(place, target.slice()?.gpu_instance)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetComputeInstanceId(
    device: nvmlDevice_t,
    place: *mut c_uint,
) -> nvmlReturn_t {
    of_device("nvmlDeviceGetComputeInstanceId", device, |target| {
        give(place, target.slice()?.compute_instance)
    })
}

impl Gpu {
    /// An empty place of a sliced GPU is not found, as the driver has it.
    fn slice(&self, at: u32) -> Answer<&Slice> {
        let places = self.mig.as_ref().ok_or(NOT_SUPPORTED)?;
        let place = places.get(at as usize).ok_or(INVALID)?;
        place.as_ref().ok_or(nvmlReturn_enum_NVML_ERROR_NOT_FOUND)
    }
}
