//! GPUs, and what a rank has of them, as operators see it.

use std::time::Instant;

use hookbus_proto::v1 as wire;

use super::reading::reading;
use crate::domain::{
    AllocatorSample, GpuProcess, GpuSample, MigSample, Owners, ProcessSample, Rank, devices,
};
use crate::snapshot::RankSnapshot;

pub(super) fn card(card: &GpuSample, owners: &Owners, now: Instant) -> wire::Gpu {
    wire::Gpu {
        index: card.index,
        name: card.name.clone(),
        uuid: card.uuid.clone(),
        total_bytes: reading(&card.total_bytes, now),
        used_bytes: reading(&card.used_bytes, now),
        free_bytes: reading(&card.free_bytes, now),
        reserved_bytes: reading(&card.reserved_bytes, now),
        utilization_percent: reading(&card.utilization_percent, now),
        memory_busy_percent: reading(&card.memory_busy_percent, now),
        temperature_celsius: reading(&card.temperature_celsius, now),
        power_watts: reading(&card.power_watts, now),
        processes: card
            .processes
            .iter()
            .flatten()
            .map(|one| process(one, owners, now))
            .collect(),
        processes_unknown: card.processes.as_ref().err().cloned().unwrap_or_default(),
        mig: card.mig.iter().map(|one| slice(one, now)).collect(),
        unified: card.unified,
    }
}

fn process(process: &GpuProcess, owners: &Owners, now: Instant) -> wire::GpuProcess {
    let owner = owners.of(process);
    wire::GpuProcess {
        pid: process.pid,
        used_bytes: reading(&process.used_bytes, now),
        command: process.command.clone(),
        run: owner.map(|(run, _)| run.to_string()).unwrap_or_default(),
        rank: owner.map(|(_, Rank(rank))| *rank),
        gpu_instance: process.gpu_instance,
    }
}

fn slice(slice: &MigSample, now: Instant) -> wire::MigDevice {
    wire::MigDevice {
        index: slice.index,
        uuid: slice.uuid.clone(),
        gpu_instance: slice.gpu_instance,
        compute_instance: slice.compute_instance,
        total_bytes: reading(&slice.total_bytes, now),
        used_bytes: reading(&slice.used_bytes, now),
        free_bytes: reading(&slice.free_bytes, now),
        reserved_bytes: reading(&slice.reserved_bytes, now),
    }
}

/// Fills in what a rank has of GPUs: by the driver, and by its own allocator.
pub(super) fn of_rank(
    memory: &mut wire::ProcessMemory,
    seen: &RankSnapshot,
    sample: Option<&Result<ProcessSample, String>>,
    gpus: &Result<Vec<GpuSample>, String>,
    now: Instant,
) {
    let sample = match sample {
        Some(sample) => sample.as_ref().map_err(String::as_str),
        None => Err("it was not sampled"),
    };
    match by_driver(seen, sample, gpus) {
        Err(why) => memory.gpus_unknown = why,
        Ok(uses) => {
            let uses = uses.iter().map(|one| wire::DeviceUse {
                gpu: one.gpu,
                uuid: one.uuid.clone(),
                used_bytes: reading(&one.used_bytes, now),
            });
            memory.gpus = uses.collect();
        }
    }
    let held = seen.allocator.as_ref().filter(|_| seen.ended.is_none());
    memory.allocator = held.map(|held| allocator(held, seen, sample, gpus, now));
}

fn by_driver(
    seen: &RankSnapshot,
    sample: Result<&ProcessSample, &str>,
    gpus: &Result<Vec<GpuSample>, String>,
) -> Result<Vec<devices::DeviceUse>, String> {
    let sample = sample.map_err(str::to_owned)?;
    let gpus = gpus.as_ref().map_err(Clone::clone)?;
    let (main, _) = seen.process.ok_or_else(|| seen.process_unknown.clone())?;
    devices::of_tree(main, sample, gpus)
}

fn allocator(
    held: &AllocatorSample,
    seen: &RankSnapshot,
    sample: Result<&ProcessSample, &str>,
    gpus: &Result<Vec<GpuSample>, String>,
    now: Instant,
) -> wire::Allocator {
    wire::Allocator {
        allocated_bytes: reading(&held.allocated_bytes, now),
        reserved_bytes: reading(&held.reserved_bytes, now),
        active_bytes: reading(&held.active_bytes, now),
        retries: reading(&held.retries, now),
        ooms: reading(&held.ooms, now),
        device: held.device,
        gpu: gpu_of(held, seen, sample, gpus),
    }
}

fn gpu_of(
    held: &AllocatorSample,
    seen: &RankSnapshot,
    sample: Result<&ProcessSample, &str>,
    gpus: &Result<Vec<GpuSample>, String>,
) -> Option<u32> {
    let (sample, gpus) = (sample.ok()?, gpus.as_ref().ok()?);
    let (main, _) = seen.process?;
    let visible = devices::visible(sample.visible_devices.as_deref(), gpus);
    devices::gpu_of(held.device, &visible, main, gpus)
}
