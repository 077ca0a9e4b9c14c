//! The machine and the daemon itself.

use super::page::{Labels, Of, Page, bytes, plain, ratio, seconds};
use crate::domain::{GpuSample, ProbeCost, Reading};
use crate::store::Live;
use crate::store::journal::Counts;

pub(super) fn build(page: &mut Page) {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    page.info(
        plain("build", "The daemon's version"),
        vec![("version", version)],
    );
}

pub(super) fn host(page: &mut Page, live: &Live) {
    if let Ok(host) = live.host() {
        let mut put = |of: Of, value: u64| page.gauge(of, Labels::new(), value as f64);
        put(
            bytes("host_memory_total", "MemTotal of the host"),
            host.total_bytes,
        );
        put(
            bytes(
                "host_memory_available",
                "Memory that could be used without swapping",
            ),
            host.available_bytes,
        );
        put(
            bytes("host_memory_used", "Total less available"),
            host.used_bytes,
        );
        put(
            bytes("host_swap_total", "Swap of the host"),
            host.swap_total_bytes,
        );
        put(bytes("host_swap_used", "Swap in use"), host.swap_used_bytes);
    }
    if let Ok(shm) = live.host_shm() {
        let mut put = |of: Of, value: u64| page.gauge(of, Labels::new(), value as f64);
        put(
            bytes("host_shm_total", "Size of /dev/shm as the daemon sees it"),
            shm.total_bytes,
        );
        put(bytes("host_shm_used", "In use in /dev/shm"), shm.used_bytes);
    }
}

pub(super) fn known(reading: &Reading) -> Option<f64> {
    reading.value.as_ref().ok().copied()
}

pub(super) fn gpus(page: &mut Page, gpus: &[GpuSample]) {
    for gpu in gpus {
        let index = || vec![("gpu", gpu.index.to_string())];
        page.info(
            plain("gpu", "Names of the GPUs"),
            vec![
                ("gpu", gpu.index.to_string()),
                ("uuid", gpu.uuid.clone()),
                ("name", gpu.name.clone()),
            ],
        );
        let percent = |reading: &Reading| known(reading).map(|value| value / 100.0);
        for (of, value) in [
            (
                bytes("gpu_memory_total", "Device memory"),
                known(&gpu.total_bytes),
            ),
            (
                bytes("gpu_memory_used", "Device memory in use by anybody"),
                known(&gpu.used_bytes),
            ),
            (
                bytes("gpu_memory_free", "Device memory that is free"),
                known(&gpu.free_bytes),
            ),
            (
                bytes(
                    "gpu_memory_reserved",
                    "Device memory that the driver and firmware keep; not in used",
                ),
                known(&gpu.reserved_bytes),
            ),
            (
                ratio("gpu_utilization", "Share of time that a kernel ran"),
                percent(&gpu.utilization_percent),
            ),
            (
                ratio(
                    "gpu_memory_busy",
                    "Share of time that device memory was read or written",
                ),
                percent(&gpu.memory_busy_percent),
            ),
            (
                plain("gpu_temperature_celsius", "Die temperature"),
                known(&gpu.temperature_celsius),
            ),
            (
                plain("gpu_power_watts", "Board power"),
                known(&gpu.power_watts),
            ),
        ] {
            page.gauge(of, index(), value);
        }
        for slice in &gpu.mig {
            let slice_of = || {
                vec![
                    ("gpu", gpu.index.to_string()),
                    ("gpu_instance", slice.gpu_instance.to_string()),
                    ("compute_instance", slice.compute_instance.to_string()),
                ]
            };
            page.gauge(
                bytes("gpu_mig_memory_total", "Memory of a slice"),
                slice_of(),
                known(&slice.total_bytes),
            );
            page.gauge(
                bytes("gpu_mig_memory_used", "Memory in use in a slice"),
                slice_of(),
                known(&slice.used_bytes),
            );
        }
    }
}

pub(super) fn probes(page: &mut Page, costs: &[ProbeCost]) {
    for cost in costs {
        let labels = || vec![("probe", cost.name.to_owned())];
        page.counter(
            seconds(
                "sampler_cpu",
                "Processor time of the probes that read memory",
            ),
            labels(),
            cost.cpu.as_secs_f64(),
        );
        page.counter(
            plain("sampler_reads", "How often a probe has read"),
            labels(),
            cost.reads as f64,
        );
        page.gauge(
            seconds("sampler_interval", "How often a probe reads now"),
            labels(),
            cost.slowed_to.unwrap_or(cost.interval).as_secs_f64(),
        );
    }
}

pub(super) fn journal(page: &mut Page, counts: Counts) {
    for (name, help, count) in [
        (
            "journal_commits",
            "Groups of rows that were committed",
            counts.commits,
        ),
        (
            "journal_commits_failed",
            "Commits that the disk did not take",
            counts.failed,
        ),
        (
            "journal_rows",
            "Rows that were committed, about",
            counts.rows,
        ),
    ] {
        page.counter(plain(name, help), Labels::new(), count as f64);
    }
    page.counter(
        seconds(
            "journal_commit",
            "Time in commits, on a thread of their own",
        ),
        Labels::new(),
        counts.spent.as_secs_f64(),
    );
    page.gauge(
        seconds(
            "journal_commit_longest",
            "The longest commit since the daemon started",
        ),
        Labels::new(),
        counts.longest.as_secs_f64(),
    );
}
