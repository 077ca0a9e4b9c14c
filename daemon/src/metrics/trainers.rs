//! Memory of the trainers: processes by role, the cgroup that binds them, shared memory.

use std::time::Instant;

use super::ages;
use super::machine::known;
use super::page::{Labels, Page, bytes, plain, ratio};
use super::runs::{self, with};
use crate::domain::{
    AllocatorSample, CgroupSample, ChildSample, Detail, GpuSample, OwnMemory, ProcessRole,
    ProcessSample, Reading, devices,
};
use crate::snapshot::RunSnapshot;
use crate::store::Live;

const LIMIT: &str = "The smallest limit on the path of the trainer's cgroup; +Inf: there is none";
const CURRENT: &str = "Charged to the group";
const WORKING_SET: &str = "Charged to the group, less inactive page cache";
const SHM_TOTAL: &str = "Size of /dev/shm as the trainer sees it";
const SHM_USED: &str = "In use in the trainer's /dev/shm";

pub(super) fn run(
    page: &mut Page,
    run: &RunSnapshot,
    live: &Live,
    gpus: &[GpuSample],
    now: Instant,
) {
    let id = run.id.to_string();
    for rank in run.ranks.values().filter(|rank| rank.ended.is_none()) {
        let sample = rank
            .process
            .and_then(|(pid, ticks)| live.process(pid, ticks).ok());
        let labels = runs::labels(&id, rank);
        page.gauge(
            plain(
                "memory_sent_by_trainer",
                "1: the daemon cannot see the trainer's process; its memory is what its own client sends",
            ),
            labels.clone(),
            f64::from(u8::from(sample.is_none() && rank.own_memory.is_some())),
        );
        ages::rank(page, &labels, rank, sample.as_ref(), now);
        if let Some(held) = &rank.allocator {
            allocator(page, &labels, held);
        }
        let Some(sample) = sample else {
            if let Some((own, _)) = &rank.own_memory {
                sent(page, &labels, own);
            }
            continue;
        };
        processes(page, &labels, &sample);
        if let Some((main, _)) = rank.process {
            on_gpus(page, &labels, main, &sample, gpus);
        }
        if let Ok(group) = &sample.cgroup {
            cgroup(page, &labels, group);
        }
        if let Ok(shm) = &sample.shm {
            page.gauge(
                bytes("shm_total", SHM_TOTAL),
                labels.clone(),
                shm.total_bytes as f64,
            );
            page.gauge(bytes("shm_used", SHM_USED), labels, shm.used_bytes as f64);
        }
    }
}

/// What a trainer's client sends of itself.
fn sent(page: &mut Page, labels: &Labels, own: &OwnMemory) {
    let bytes_of = |bytes: Option<u64>| bytes.map(|bytes| bytes as f64);
    put(page, labels, "main", "rss", bytes_of(own.rss_bytes));
    let limit = match own.cgroup_limit_bytes {
        Some(u64::MAX) => Some(f64::INFINITY),
        limit => bytes_of(limit),
    };
    for (of, value) in [
        (bytes("cgroup_memory_limit", LIMIT), limit),
        (
            bytes("cgroup_memory_current", CURRENT),
            bytes_of(own.cgroup_current_bytes),
        ),
        (
            bytes("cgroup_memory_working_set", WORKING_SET),
            bytes_of(own.cgroup_working_set_bytes),
        ),
        (bytes("shm_total", SHM_TOTAL), bytes_of(own.shm_total_bytes)),
        (bytes("shm_used", SHM_USED), bytes_of(own.shm_used_bytes)),
    ] {
        page.gauge(of, labels.clone(), value);
    }
}

/// What the framework's allocator holds, as the trainer sends it.
fn allocator(page: &mut Page, labels: &Labels, held: &AllocatorSample) {
    for (of, reading) in [
        (
            bytes(
                "allocator_allocated",
                "In live tensors of the trainer's device",
            ),
            &held.allocated_bytes,
        ),
        (
            bytes(
                "allocator_reserved",
                "Taken from the device by the framework's allocator: allocated and cached",
            ),
            &held.reserved_bytes,
        ),
        (
            bytes(
                "allocator_active",
                "In blocks that are in use or wait for a stream",
            ),
            &held.active_bytes,
        ),
    ] {
        page.gauge(of, labels.clone(), known(reading));
    }
    for (of, reading) in [
        (
            plain(
                "allocator_retries",
                "Times that the allocator gave its cache back and tried again",
            ),
            &held.retries,
        ),
        (
            plain(
                "allocator_ooms",
                "Times that the allocator had none to give",
            ),
            &held.ooms,
        ),
    ] {
        page.counter(of, labels.clone(), known(reading));
    }
}

/// What a trainer and all below it use of each GPU.
fn on_gpus(
    page: &mut Page,
    labels: &Labels,
    main: u32,
    sample: &ProcessSample,
    gpus: &[GpuSample],
) {
    for used in devices::of_tree(main, sample, gpus).unwrap_or_default() {
        page.gauge(
            bytes(
                "rank_gpu_memory_used",
                "Device memory that a trainer and its descendants use, as the driver says",
            ),
            with(labels, &[("gpu", &used.gpu.to_string())]),
            known(&used.used_bytes),
        );
    }
}

fn put(page: &mut Page, labels: &Labels, role: &str, kind: &str, value: Option<f64>) {
    let help = "Memory of a trainer's processes by role (main, worker, child) and kind (rss, pss, uss, swap, shmem); rss \
                counts shared pages in each process, pss once";
    let labels = with(labels, &[("role", role), ("kind", kind)]);
    page.gauge(bytes("process_memory", help), labels, value);
}

fn kinds(detail: &Detail) -> [(&'static str, &Reading); 4] {
    [
        ("pss", &detail.pss_bytes),
        ("uss", &detail.uss_bytes),
        ("swap", &detail.swap_bytes),
        ("shmem", &detail.shmem_bytes),
    ]
}

fn processes(page: &mut Page, labels: &Labels, sample: &ProcessSample) {
    put(page, labels, "main", "rss", known(&sample.rss_bytes));
    for (kind, reading) in kinds(&sample.detail) {
        put(page, labels, "main", kind, known(reading));
    }
    let Ok(children) = &sample.children else {
        return;
    };
    for (word, role) in [
        ("worker", ProcessRole::Worker),
        ("child", ProcessRole::Child),
    ] {
        let of_role: Vec<&ChildSample> =
            children.iter().filter(|child| child.role == role).collect();
        page.gauge(
            plain("processes", "Processes below a trainer, by role"),
            with(labels, &[("role", word)]),
            of_role.len() as f64,
        );
        // With one that is not known the sum is not known.
        let rss: Option<f64> = of_role.iter().map(|child| known(&child.rss_bytes)).sum();
        put(page, labels, word, "rss", rss.map(plus_zero));
        for at in 0..4 {
            let readings = of_role.iter().map(|child| kinds(&child.detail)[at].1);
            let sum: Option<f64> = readings.map(known).sum();
            let kind = ["pss", "uss", "swap", "shmem"][at];
            put(page, labels, word, kind, sum.map(plus_zero));
        }
    }
}

/// The sum of nothing is -0.0.
fn plus_zero(value: f64) -> f64 {
    value + 0.0
}

fn cgroup(page: &mut Page, labels: &Labels, group: &CgroupSample) {
    for (of, reading) in [
        (bytes("cgroup_memory_limit", LIMIT), &group.limit_bytes),
        (
            bytes("cgroup_memory_current", CURRENT),
            &group.current_bytes,
        ),
        (
            bytes("cgroup_memory_working_set", WORKING_SET),
            &group.working_set_bytes,
        ),
        (
            bytes("cgroup_memory_peak", "The most ever charged to the group"),
            &group.peak_bytes,
        ),
        (
            bytes("cgroup_memory_file", "Page cache of the group"),
            &group.file_bytes,
        ),
        (
            bytes("cgroup_swap", "Swap that the group uses"),
            &group.swap_bytes,
        ),
    ] {
        page.gauge(of, labels.clone(), known(reading));
    }
    page.counter(
        plain(
            "cgroup_oom_kills",
            "Processes of the group that the kernel killed for want of memory",
        ),
        labels.clone(),
        known(&group.oom_kills),
    );
    page.counter(
        plain(
            "cgroup_ooms",
            "Times that the group's limit was reached and nothing could be reclaimed",
        ),
        labels.clone(),
        known(&group.ooms),
    );
    for (kind, reading) in [
        ("some", &group.pressure_some_percent),
        ("full", &group.pressure_full_percent),
    ] {
        page.gauge(
            ratio(
                "cgroup_memory_pressure",
                "Share of the last 10 s that some tasks, or all, stood still for want of memory",
            ),
            with(labels, &[("kind", kind)]),
            known(reading).map(|percent| percent / 100.0),
        );
    }
}
