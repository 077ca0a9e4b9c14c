//! The highest of each number with its time, and the reasons of those that are unknown, each told once.

use std::collections::{BTreeMap, BTreeSet};

use super::line::{Line, by_number};
use super::samples::{Moment, Reading};

/// What a number is of, in the order that it is told in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Series {
    Host,
    Swap,
    AllRanks,
    Rank(i64, Part),
    Gpu((u64, String)),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Main,
    Children,
}

impl Series {
    fn of(reading: &Reading) -> Option<Series> {
        match (reading.name.as_str(), reading.rank, &reading.device) {
            ("host_used_bytes", ..) => Some(Series::Host),
            ("swap_used_bytes", ..) => Some(Series::Swap),
            ("process_rss_bytes", Some(rank), _) => Some(Series::Rank(rank, Part::Main)),
            ("children_rss_bytes", Some(rank), _) => Some(Series::Rank(rank, Part::Children)),
            ("gpu_used_bytes", _, Some(device)) => Some(Series::Gpu(by_number(device))),
            _ => None,
        }
    }

    pub(super) fn text(&self) -> String {
        match self {
            Series::Host => "host".to_owned(),
            Series::Swap => "swap".to_owned(),
            Series::AllRanks => "all ranks".to_owned(),
            Series::Rank(rank, Part::Main) => format!("rank {rank}"),
            Series::Rank(rank, Part::Children) => format!("rank {rank}'s children"),
            Series::Gpu((_, index)) => format!("GPU {index}"),
        }
    }
}

/// A highest value, where the training was then.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Peak {
    pub(super) bytes: f64,
    pub(super) time_unix_s: f64,
    pub(super) epoch: Option<i64>,
    pub(super) iter: Option<i64>,
}

#[derive(Debug, Default)]
pub(super) struct Peaks {
    pub(super) highest: BTreeMap<Series, Peak>,
    /// How much there is.
    pub(super) total: BTreeMap<Series, f64>,
    /// The highest of all ranks is a sum of means: how high they were at the same time was not recorded.
    pub(super) of_means: bool,
    /// Why, and of what.
    pub(super) unknown: BTreeMap<String, BTreeSet<Series>>,
}

impl Peaks {
    /// `line`: the same moment, put together.
    pub(super) fn add(&mut self, moment: &Moment, line: &Line) {
        if let Some(bytes) = line.all_ranks.sum.known() {
            let of_ranks =
                |reading: &&Reading| matches!(Series::of(reading), Some(Series::Rank(..)));
            let mut ranks = moment.readings.iter().filter(of_ranks);
            let of_means = ranks.any(|reading| reading.spread.is_some());
            if self.higher(Series::AllRanks, bytes, moment) {
                self.of_means = of_means;
            }
        }
        for reading in &moment.readings {
            let total = match (reading.name.as_str(), &reading.device) {
                ("host_total_bytes", _) => Some(Series::Host),
                ("gpu_total_bytes", Some(device)) => Some(Series::Gpu(by_number(device))),
                _ => None,
            };
            if let (Some(of), Some(bytes)) = (total, reading.value) {
                self.total.insert(of, bytes);
            }
            let Some(of) = Series::of(reading) else {
                continue;
            };
            match reading.value {
                Some(bytes) => {
                    let most = reading.spread.map_or(bytes, |spread| spread.max);
                    self.higher(of, most, moment);
                }
                None => {
                    let why = reading.unknown.as_deref().filter(|why| !why.is_empty());
                    let why = why.unwrap_or("no reason was recorded").to_owned();
                    self.unknown.entry(why).or_default().insert(of);
                }
            }
        }
    }

    /// Whether it is the highest by now.
    fn higher(&mut self, of: Series, bytes: f64, moment: &Moment) -> bool {
        let higher = self.highest.get(&of).is_none_or(|peak| bytes > peak.bytes);
        if higher {
            let peak = Peak {
                bytes,
                time_unix_s: moment.time_unix_s,
                epoch: moment.epoch,
                iter: moment.iter,
            };
            self.highest.insert(of, peak);
        }
        higher
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::Spread;
    use super::*;

    #[test]
    fn the_highest_of_all_ranks_says_when_it_is_a_sum_of_means() {
        let moment = |mean: f64, max: Option<f64>| {
            let reading = |rank| Reading {
                rank: Some(rank),
                name: "process_rss_bytes".into(),
                value: Some(mean),
                spread: max.map(|max| Spread {
                    min: 0.0,
                    max,
                    readings: 10,
                }),
                ..Reading::default()
            };
            Moment {
                readings: vec![reading(0), reading(1)],
                ..Moment::default()
            }
        };
        let mut peaks = Peaks::default();
        let mut add = |moment: Moment| {
            peaks.add(&moment, &Line::of(&moment));
            (peaks.highest[&Series::AllRanks].bytes, peaks.of_means)
        };
        assert_eq!(add(moment(1.0, None)), (2.0, false));
        assert_eq!(add(moment(3.0, Some(9.0))), (6.0, true));
        assert_eq!(add(moment(2.0, None)), (6.0, true), "a lower one");
        assert_eq!(add(moment(5.0, None)), (10.0, false));
        assert_eq!(peaks.highest[&Series::Rank(0, Part::Main)].bytes, 9.0);
    }
}
