//! The Prometheus text, made anew from the newest snapshots at each scrape. What is not known is absent.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::snapshot::RunSnapshot;
use crate::store::Live;
use crate::store::journal::Counts;

/// Of the text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Bytes = Gauge<f64, AtomicU64>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RunLabel {
    run: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RankLabels {
    run: String,
    rank: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Word(&'static str);

impl EncodeLabelValue for Word {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        EncodeLabelValue::encode(&self.0, encoder)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProcessLabels {
    run: String,
    rank: u32,
    role: Word,
    kind: Word,
}

/// The whole text. Errors: formatting failed, which it does not.
pub fn text(
    runs: &[Arc<RunSnapshot>],
    live: &Live,
    journal: Option<Counts>,
) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("hookbus");
    registry.register(
        "build",
        "The daemon's version",
        Info::new([("version", env!("CARGO_PKG_VERSION"))]),
    );
    if let Ok(host) = live.host() {
        for (name, help, bytes) in [
            (
                "host_memory_total",
                "MemTotal of the host",
                host.total_bytes,
            ),
            (
                "host_memory_available",
                "Memory that could be used without swapping",
                host.available_bytes,
            ),
            ("host_swap_total", "Swap of the host", host.swap_total_bytes),
            ("host_swap_used", "Swap in use", host.swap_used_bytes),
        ] {
            let gauge = Bytes::default();
            gauge.set(bytes as f64);
            registry.register_with_unit(name, help, Unit::Bytes, gauge);
        }
    }
    if let Some(counts) = journal {
        of_journal(&mut registry, counts);
    }
    let process = Family::<ProcessLabels, Bytes>::default();
    let events = Family::<RankLabels, Counter>::default();
    let dropped = Family::<RankLabels, Counter>::default();
    let timeouts = Family::<RankLabels, Counter>::default();
    let iteration = Family::<RankLabels, Gauge>::default();
    let incidents = Family::<RunLabel, Gauge>::default();
    for run in runs {
        let name = run.id.to_string();
        for rank in run.ranks.values() {
            let labels = RankLabels {
                run: name.clone(),
                rank: rank.rank.0,
            };
            events.get_or_create(&labels).inc_by(rank.events);
            dropped.get_or_create(&labels).inc_by(
                rank.dropped
                    .values()
                    .sum::<u64>()
                    .max(rank.heartbeat.dropped_events),
            );
            timeouts
                .get_or_create(&labels)
                .inc_by(rank.heartbeat.gate_timeouts);
            iteration
                .get_or_create(&labels)
                .set(i64::try_from(rank.position.iter).unwrap_or(i64::MAX));
            let sample = rank
                .process
                .filter(|_| rank.ended.is_none())
                .and_then(|(pid, ticks)| live.process(pid, ticks).ok());
            if let Some(rss) = sample.and_then(|sample| sample.rss_bytes.value.ok()) {
                let labels = ProcessLabels {
                    run: name.clone(),
                    rank: rank.rank.0,
                    role: Word("main"),
                    kind: Word("rss"),
                };
                process.get_or_create(&labels).set(rss);
            }
        }
        let open = run
            .incidents
            .iter()
            .filter(|(incident, _)| incident.open)
            .count();
        incidents
            .get_or_create(&RunLabel { run: name })
            .set(open as i64);
    }
    registry.register_with_unit(
        "process_memory",
        "Memory of a trainer's process",
        Unit::Bytes,
        process,
    );
    registry.register("events", "Events received", events);
    registry.register(
        "events_dropped",
        "Events that a client dropped because its buffer was full",
        dropped,
    );
    registry.register(
        "gate_timeouts",
        "Gates that no answer came for in time",
        timeouts,
    );
    registry.register(
        "run_iteration",
        "Iterations over the whole training",
        iteration,
    );
    registry.register("incidents_open", "Things to look at", incidents);
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

fn of_journal(registry: &mut Registry, counts: Counts) {
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
        let counter = Counter::<u64>::default();
        counter.inc_by(count);
        registry.register(name, help, counter);
    }
    let spent = Counter::<f64, AtomicU64>::default();
    spent.inc_by(counts.spent.as_secs_f64());
    let help = "Time in commits, on a thread of their own";
    registry.register_with_unit("journal_commit", help, Unit::Seconds, spent);
    let longest = Gauge::<f64, AtomicU64>::default();
    longest.set(counts.longest.as_secs_f64());
    let help = "The longest commit since the daemon started";
    registry.register_with_unit("journal_commit_longest", help, Unit::Seconds, longest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_absent() {
        let text = text(&[], &Live::default(), None).expect("text");
        assert!(text.contains("hookbus_build_info{version="), "{text}");
        assert!(
            !text.contains("hookbus_host_memory"),
            "nothing was sampled yet: {text}"
        );
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
