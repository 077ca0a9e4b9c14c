//! What the daemon knows of memory over time, as the moments that are shown. Several readings in one stretch of time are their
//! mean, beside the smallest and the largest.

use hookbus_client::inspect::proto::{
    Attempt, EpochRange, HistoryReply, HistoryRequest, IterRange, TimeRange, history_request::Range,
};

use super::samples::{Moment, Reading, Spread};
use crate::args::MemoryArgs;

/// A line each tenth of a second is more than anybody reads.
const LINE_S: f64 = 1.0;
/// What is shown as text.
const SHOWN: [&str; 7] = [
    "host_total_bytes",
    "host_used_bytes",
    "swap_used_bytes",
    "process_rss_bytes",
    "children_rss_bytes",
    "gpu_total_bytes",
    "gpu_used_bytes",
];

pub(super) fn request(args: &MemoryArgs) -> HistoryRequest {
    let time = |from_s| {
        Range::Time(TimeRange {
            from_s: Some(from_s),
            to_s: None,
        })
    };
    let iters = args
        .iters
        .map(|(from, to)| Range::Iters(IterRange { from, to }));
    let epochs = args
        .epochs
        .map(|(from, to)| Range::Epochs(EpochRange { from, to }));
    let as_json = args.output.json;
    HistoryRequest {
        run: args.run.clone(),
        names: if as_json {
            Vec::new()
        } else {
            SHOWN.map(str::to_owned).into()
        },
        ranks: Vec::new(),
        range: iters.or(epochs).or(args.since.map(time)),
        resolution_s: args
            .resolution
            .unwrap_or(if as_json { 0.0 } else { LINE_S }),
        // As many as there are, where that was asked for.
        max_points: if as_json || args.resolution.is_some() {
            u32::MAX
        } else {
            0
        },
    }
}

/// The moments of a reply, the oldest first.
pub(super) fn moments(reply: HistoryReply, attempts: &[Attempt]) -> Vec<Moment> {
    let coarsest = reply.series.iter().map(|one| one.resolution_s);
    let one_round_s = coarsest.fold(0.5, f64::max) * 0.9;
    let mut all = Vec::new();
    for series in reply.series {
        for point in series.points {
            let known = point.readings > 0;
            let reading = Reading {
                rank: series.rank.map(i64::from),
                device: (!series.device.is_empty()).then(|| series.device.clone()),
                name: series.name.clone(),
                value: known.then_some(point.mean),
                unknown: (!known).then_some(point.unknown),
                source: None,
                spread: known.then_some(Spread {
                    min: point.min,
                    max: point.max,
                    readings: point.readings,
                }),
            };
            let time_unix_s = reply.at_unix_s - point.age_s;
            let place =
                [point.epoch, point.iter].map(|at| at.and_then(|at| i64::try_from(at).ok()));
            all.push((time_unix_s, place, reading));
        }
    }
    // Stable: what is of one time stays in the order of the series.
    all.sort_by(|(a, ..), (b, ..)| a.total_cmp(b));
    let mut moments: Vec<Moment> = Vec::new();
    for (time_unix_s, [epoch, iter], reading) in all {
        let goes_on = moments.last().is_some_and(|moment| {
            let same = |one: &Reading| {
                (one.rank, &one.device, &one.name) == (reading.rank, &reading.device, &reading.name)
            };
            time_unix_s - moment.time_unix_s < one_round_s && !moment.readings.iter().any(same)
        });
        if !goes_on {
            moments.push(Moment {
                attempt: attempt(attempts, time_unix_s),
                time_unix_s,
                epoch,
                iter,
                readings: Vec::new(),
            });
        }
        let moment = moments.last_mut().expect("there is one now");
        moment.readings.push(reading);
    }
    moments
}

/// The one that had begun then.
fn attempt(attempts: &[Attempt], time_unix_s: f64) -> i64 {
    let mut begun = attempts.iter().rev();
    let found = begun.find(|attempt| attempt.started_unix_s <= time_unix_s);
    found
        .or(attempts.first())
        .map_or(0, |one| one.attempt.into())
}

#[cfg(test)]
mod tests {
    use hookbus_client::inspect::proto::{Series, SeriesPoint};

    use super::*;

    #[test]
    fn points_of_one_time_are_one_moment() {
        let series = |name: &str, rank, ages: &[f64]| Series {
            name: name.into(),
            rank,
            resolution_s: 1.0,
            points: ages
                .iter()
                .map(|age_s| SeriesPoint {
                    age_s: *age_s,
                    min: 1.0,
                    mean: 2.0,
                    max: 4.0,
                    readings: if *age_s == 2.0 { 0 } else { 10 },
                    unknown: if *age_s == 2.0 { "gone" } else { "" }.into(),
                    epoch: Some(3),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        };
        let reply = HistoryReply {
            at_unix_s: 1000.0,
            series: vec![
                series("host_used_bytes", None, &[3.0, 2.0, 1.0, 0.0]),
                series("process_rss_bytes", Some(0), &[2.0, 1.0, 0.0]),
            ],
            ..Default::default()
        };
        let attempts = [(0, 900.0), (1, 998.5)].map(|(attempt, started_unix_s)| Attempt {
            attempt,
            started_unix_s,
            ..Default::default()
        });
        let moments = moments(reply, &attempts);
        let seen: Vec<_> = moments
            .iter()
            .map(|one| (one.time_unix_s, one.attempt, one.readings.len()))
            .collect();
        assert_eq!(
            seen,
            [(997.0, 0, 1), (998.0, 0, 2), (999.0, 1, 2), (1000.0, 1, 2)]
        );
        let unknown = &moments[1].readings[1];
        assert_eq!(
            (unknown.value, unknown.unknown.as_deref()),
            (None, Some("gone"))
        );
        let known = &moments[2].readings[0];
        assert_eq!((known.value, known.unknown.is_none()), (Some(2.0), true));
        assert_eq!(known.spread.map(|spread| spread.max), Some(4.0));
        assert_eq!((moments[0].epoch, moments[0].iter), (Some(3), None));
    }
}
