//! Memory over time on the wire.

use std::time::Duration;

use hookbus_proto::v1 as wire;

use crate::domain::Rank;
use crate::inspect::{Past, Query, Range, SeriesPast};
use crate::store::series::{Mark, Name, Of, Point};

/// Where nothing is said.
const MAX_POINTS: usize = 1000;

/// Errors: what is wrong, for people.
pub(in crate::service) fn history_request(asked: wire::HistoryRequest) -> Result<Query, String> {
    use wire::history_request::Range as Said;
    let names: Result<_, String> = asked.names.iter().map(|word| name(word)).collect();
    let positions = |of, from: Option<u64>, to: Option<u64>| {
        if let (Some(from), Some(to)) = (from, to)
            && from > to
        {
            return Err(format!("the range ends before it begins: {from} to {to}"));
        }
        Ok(Range::Positions { of, from, to })
    };
    let range = match asked.range {
        None => Range::Time {
            from: None,
            to: None,
        },
        Some(Said::Time(time)) => {
            let ago = |bound: Option<f64>, name| bound.map(|s| seconds(s, name)).transpose();
            let (from, to) = (ago(time.from_s, "from_s")?, ago(time.to_s, "to_s")?);
            if let (Some(from), Some(to)) = (from, to)
                && from < to
            {
                return Err(
                    "the range ends before it begins: from_s and to_s are seconds before now"
                        .to_owned(),
                );
            }
            Range::Time { from, to }
        }
        Some(Said::Iters(iters)) => positions(Of::Iters, iters.from, iters.to)?,
        Some(Said::Epochs(epochs)) => positions(Of::Epochs, epochs.from, epochs.to)?,
    };
    Ok(Query {
        run: asked.run,
        names: names?,
        ranks: asked.ranks.into_iter().map(Rank).collect(),
        range,
        resolution: seconds(asked.resolution_s, "resolution_s")?,
        max_points: match asked.max_points {
            0 => MAX_POINTS,
            most => most as usize,
        },
    })
}

fn name(word: &str) -> Result<Name, String> {
    Name::of(word).ok_or_else(|| {
        let all: Vec<_> = Name::ALL.into_iter().map(Name::word).collect();
        format!("there is no series {word:?}; there are: {}", all.join(", "))
    })
}

/// Of infinitely many it is as many as there are.
fn seconds(seconds: f64, name: &str) -> Result<Duration, String> {
    if seconds.is_nan() || seconds < 0.0 {
        return Err(format!("{name} is no time: {seconds}"));
    }
    Ok(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

/// What is known.
pub(in crate::service) fn history(past: Past) -> wire::HistoryReply {
    let age_s = |at_us: i64| (past.now_us - at_us).max(0) as f64 / 1e6;
    let mark = |mark: Mark| wire::EpochMark {
        epoch: mark.place.epoch,
        age_s: age_s(mark.at_us),
        iter: mark.place.iter,
    };
    let point = |point: Point| wire::SeriesPoint {
        age_s: age_s(point.end_us),
        seconds: (point.end_us - point.start_us) as f64 / 1e6,
        min: point.min,
        mean: point.mean,
        max: point.max,
        readings: point.readings,
        unknown: point.unknown.map(|why| why.to_string()).unwrap_or_default(),
        epoch: point.place.map(|place| place.epoch),
        iter: point.place.map(|place| place.iter),
    };
    let series = |one: SeriesPast| wire::Series {
        name: one.name.word().to_owned(),
        unit: one.name.unit().to_owned(),
        rank: one.rank.map(|Rank(rank)| rank),
        device: one
            .device
            .map(|index| index.to_string())
            .unwrap_or_default(),
        resolution_s: one.resolution.as_secs_f64(),
        points: one.points.into_iter().map(point).collect(),
    };
    wire::HistoryReply {
        at_unix_s: past.now_us as f64 / 1e6,
        epochs: past.epochs.into_iter().map(mark).collect(),
        older_unknown: past.older_unknown,
        series: past.series.into_iter().map(series).collect(),
    }
}

#[cfg(test)]
mod tests {
    use wire::history_request::Range as Said;

    use super::*;

    #[test]
    fn a_question_that_makes_no_sense_is_told_so() {
        let time = |from_s, to_s| Some(Said::Time(wire::TimeRange { from_s, to_s }));
        let asked = |names: &[&str], range, resolution_s| {
            history_request(wire::HistoryRequest {
                names: names.iter().map(|&name| name.to_owned()).collect(),
                range,
                resolution_s,
                ..Default::default()
            })
        };
        let wrong = |names: &[&str], range, resolution_s| {
            asked(names, range, resolution_s).expect_err("it is wrong")
        };
        assert!(wrong(&["host_used"], None, 0.0).contains("host_used_bytes, swap_used_bytes"));
        assert!(wrong(&[], time(Some(5.0), Some(9.0)), 0.0).contains("before it begins"));
        let back = wire::IterRange {
            from: Some(5),
            to: Some(4),
        };
        assert!(wrong(&[], Some(Said::Iters(back)), 0.0).contains("5 to 4"));
        assert!(wrong(&[], time(Some(f64::NAN), None), 0.0).contains("from_s"));
        assert!(wrong(&[], None, -1.0).contains("resolution_s is no time: -1"));
        let right = asked(&["swap_used_bytes"], time(Some(f64::INFINITY), None), 0.5).unwrap();
        assert_eq!((right.max_points, right.names.len()), (1000, 1));
        assert_eq!(right.resolution, Duration::from_millis(500));
    }
}
