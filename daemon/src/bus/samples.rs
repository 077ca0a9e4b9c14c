//! Memory as the journal keeps it: one number a row.

use crate::domain::{Position, Rank, Reading};
use crate::store::journal::SampleKept;
use crate::store::{Live, View};

/// The host's and the GPUs'.
pub(super) fn of(live: &Live, position: Position) -> Vec<SampleKept> {
    let host = live.host();
    let sample = |device: Option<String>, name, value, source| SampleKept {
        rank: None,
        device,
        name,
        value,
        source,
        position,
    };
    let of_host = |name, number: fn(&crate::domain::HostSample) -> u64| {
        let value = host.as_ref().map(|host| number(host) as f64);
        sample(None, name, value.map_err(Clone::clone), "/proc/meminfo")
    };
    let mut samples = vec![
        of_host("host_total_bytes", |host| host.total_bytes),
        of_host("host_available_bytes", |host| host.available_bytes),
        of_host("host_used_bytes", |host| host.used_bytes),
        of_host("swap_used_bytes", |host| host.swap_used_bytes),
    ];
    // Without a GPU there is nothing to say of one.
    for gpu in live.gpus().unwrap_or_default() {
        let device = Some(gpu.index.to_string());
        for (name, reading) in [
            ("gpu_total_bytes", &gpu.total_bytes),
            ("gpu_used_bytes", &gpu.used_bytes),
        ] {
            samples.push(sample(
                device.clone(),
                name,
                reading.value.clone(),
                reading.source,
            ));
        }
    }
    samples
}

/// One rank's.
pub(super) fn of_process(
    live: &Live,
    rank: Rank,
    process: Result<(u32, u64), String>,
    position: Position,
) -> Vec<SampleKept> {
    let seen = process.and_then(|(pid, start_ticks)| live.process(pid, start_ticks));
    let value = |reading: &Reading| reading.value.clone();
    let rss = seen.as_ref().map_err(Clone::clone);
    let rss = rss.and_then(|seen| value(&seen.rss_bytes));
    let children = seen.and_then(|seen| {
        let each = seen.children?;
        each.iter().map(|child| value(&child.rss_bytes)).sum()
    });
    let sample = |name, value| SampleKept {
        rank: Some(rank),
        device: None,
        name,
        value,
        source: "/proc/PID/statm",
        position,
    };
    vec![
        sample("process_rss_bytes", rss),
        sample("children_rss_bytes", children),
    ]
}
