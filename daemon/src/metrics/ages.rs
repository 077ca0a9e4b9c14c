//! How old what is shown is, by where it comes from: a source that stands still leaves its last sample behind, and only its age
//! says so.

use std::time::{Duration, Instant};

use super::page::{Labels, Of, Page, seconds};
use super::runs;
use crate::domain::{GpuSample, ProcessSample, Reading};
use crate::snapshot::RankSnapshot;
use crate::store::Live;

/// A GPU's sample is shown for so many of its probe's intervals.
const INTERVALS: u32 = 5;
/// And at least so long.
const AT_LEAST: Duration = Duration::from_secs(5);
/// Where the probe has not looked yet.
const USUAL: Duration = Duration::from_secs(1);

fn age_s(now: Instant, at: Instant) -> f64 {
    now.saturating_duration_since(at).as_secs_f64()
}

/// The GPUs, each number as far as it is not too old.
pub(super) fn gpus(live: &Live, now: Instant) -> Vec<GpuSample> {
    let costs = live.costs();
    let cost = costs.iter().find(|cost| cost.name == "gpu");
    let interval = cost.map_or(USUAL, |cost| cost.slowed_to.unwrap_or(cost.interval));
    let most = (interval * INTERVALS).max(AT_LEAST);
    let is_old = |at| now.saturating_duration_since(at) > most;
    let mut gpus = live.gpus().unwrap_or_default();
    for gpu in &mut gpus {
        let slices = gpu.mig.iter_mut();
        let of_slices = slices.flat_map(|one| [&mut one.total_bytes, &mut one.used_bytes]);
        let readings = [
            &mut gpu.total_bytes,
            &mut gpu.used_bytes,
            &mut gpu.free_bytes,
            &mut gpu.reserved_bytes,
            &mut gpu.memory_busy_percent,
            &mut gpu.utilization_percent,
            &mut gpu.temperature_celsius,
            &mut gpu.power_watts,
        ];
        for reading in readings.into_iter().chain(of_slices) {
            if is_old(reading.at) {
                reading.value = Err("too old".to_owned());
            }
        }
        if is_old(gpu.processes_at) {
            gpu.processes = Err("too old".to_owned());
        }
    }
    gpus
}

/// The machine's.
pub(super) fn machine(page: &mut Page, live: &Live, now: Instant) {
    let gpus = live.gpus().unwrap_or_default();
    let ats = [
        ("host", live.host().ok().map(|host| host.at)),
        ("shm", live.host_shm().ok().map(|shm| shm.at)),
        ("gpu", gpus.iter().map(|gpu| gpu.used_bytes.at).min()),
    ];
    for (source, at) in ats {
        let of = seconds(
            "sample_age",
            "Since a source was last read: host, shm (the daemon's /dev/shm), gpu (the oldest of the GPUs)",
        );
        let labels = vec![("source", source.to_owned())];
        page.gauge(of, labels, at.map(|at| age_s(now, at)));
    }
}

/// A rank's: its process as the daemon sees it, else what its client sends.
pub(super) fn rank(
    page: &mut Page,
    labels: &Labels,
    rank: &RankSnapshot,
    sample: Option<&ProcessSample>,
    now: Instant,
) {
    let of_sample = |get: fn(&ProcessSample) -> Option<Instant>| sample.and_then(get);
    let known = |reading: &Reading| reading.value.is_ok().then_some(reading.at);
    let said = rank.own_memory.as_ref().filter(|_| sample.is_none());
    let allocator = rank.allocator.as_ref();
    let ats = [
        ("process", of_sample(|sample| Some(sample.rss_bytes.at))),
        ("children", of_sample(|sample| Some(sample.children_at))),
        (
            "smaps",
            of_sample(|sample| Some(sample.detail.pss_bytes.at)),
        ),
        (
            "cgroup",
            of_sample(|sample| Some(sample.cgroup.as_ref().ok()?.current_bytes.at)),
        ),
        (
            "shm",
            of_sample(|sample| Some(sample.shm.as_ref().ok()?.at)),
        ),
        (
            "trainer",
            said.map(|(own, came)| came.checked_sub(own.age).unwrap_or(*came)),
        ),
        (
            "allocator",
            allocator.and_then(|held| {
                let each = [
                    &held.allocated_bytes,
                    &held.reserved_bytes,
                    &held.active_bytes,
                ];
                each.into_iter().filter_map(known).min()
            }),
        ),
    ];
    for (source, at) in ats {
        let labels = runs::with(labels, &[("source", source)]);
        page.gauge(of_rank(), labels, at.map(|at| age_s(now, at)));
    }
}

fn of_rank() -> Of {
    seconds(
        "rank_sample_age",
        "Since a source of a rank's memory was last read, or last came from its trainer (trainer, allocator)",
    )
}
