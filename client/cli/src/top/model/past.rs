//! Memory over time: what the daemon remembers, and after that what was seen here. A time without a point stays empty, one
//! that could not be read is unknown; neither is 0.

use std::collections::{BTreeMap, VecDeque};

use hookbus_client::inspect::proto::{HistoryReply, Rank, SnapshotReply};

use super::super::text::Value;
use super::bars::Parts;

/// Two hours of one each second.
const MOST_POINTS: usize = 7200;
/// Of more ranks only the chosen one is kept.
const MOST_RANKS: usize = 16;

/// Whose numbers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::top) struct Key {
    pub(in crate::top) name: String,
    pub(in crate::top) rank: Option<u32>,
    /// A GPU's index.
    pub(in crate::top) device: String,
}

impl Key {
    pub(in crate::top) fn host(name: &str) -> Key {
        Key {
            name: name.to_owned(),
            rank: None,
            device: String::new(),
        }
    }

    pub(in crate::top) fn rank(name: &str, rank: u32) -> Key {
        Key {
            rank: Some(rank),
            ..Key::host(name)
        }
    }

    pub(in crate::top) fn gpu(name: &str, index: u32) -> Key {
        Key {
            device: index.to_string(),
            ..Key::host(name)
        }
    }
}

/// A stretch of time; times are the daemon's seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Point {
    from: f64,
    to: f64,
    value: Option<f64>,
}

/// What a column of a chart shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::top) enum Column {
    /// Nothing is known of that time.
    Nothing,
    /// It was looked, and could not be read.
    Unknown,
    /// The most in that time.
    Most(f64),
}

/// All of it, of one run.
#[derive(Debug, Default, Clone)]
pub(in crate::top) struct Past {
    series: BTreeMap<Key, VecDeque<Point>>,
    /// When each epoch began.
    epochs: BTreeMap<u64, f64>,
    last_epoch: Option<u64>,
    last_at: Option<f64>,
    /// Why there is nothing from before this viewer; empty: there is.
    pub(in crate::top) unknown: String,
}

impl Past {
    /// A snapshot, with the time at which it was made.
    pub(in crate::top) fn see(&mut self, reply: &SnapshotReply, chosen: Option<u32>, at: f64) {
        let from = self.last_at.unwrap_or(at).max(at - 60.0);
        self.last_at = Some(at);
        if let Some(host) = &reply.host {
            self.add(
                Key::host("host_used_bytes"),
                from,
                at,
                Value::of(host.used_bytes.as_ref(), 0.0),
            );
        }
        for gpu in &reply.gpus {
            let key = Key::gpu("gpu_used_bytes", gpu.index);
            self.add(key, from, at, Value::of(gpu.used_bytes.as_ref(), 0.0));
        }
        let few = reply.ranks.len() <= MOST_RANKS;
        for rank in &reply.ranks {
            if few || chosen == Some(rank.rank) {
                self.see_rank(rank, from, at);
            }
        }
        let epoch = reply.run.as_ref().and_then(|run| run.position.as_ref());
        if let Some(epoch) = epoch.map(|position| position.epoch) {
            if self.last_epoch.is_some_and(|before| before < epoch) {
                self.epochs.entry(epoch).or_insert(at);
            }
            self.last_epoch = Some(epoch);
        }
    }

    fn see_rank(&mut self, rank: &Rank, from: f64, at: f64) {
        let Some(memory) = &rank.memory else { return };
        let parts = Parts::of(memory, 0.0);
        let name = if parts.by_pss {
            "tree_pss_bytes"
        } else {
            "process_rss_bytes"
        };
        let value = if parts.by_pss {
            parts.all()
        } else {
            Value::of(memory.rss_bytes.as_ref(), 0.0)
        };
        self.add(Key::rank(name, rank.rank), from, at, value);
        if let Some(cgroup) = &memory.cgroup {
            let key = Key::rank("cgroup_working_set_bytes", rank.rank);
            self.add(
                key,
                from,
                at,
                Value::of(cgroup.working_set_bytes.as_ref(), 0.0),
            );
        }
    }

    fn add(&mut self, key: Key, from: f64, to: f64, value: Value) {
        let points = self.series.entry(key).or_default();
        while points.len() >= MOST_POINTS {
            points.pop_front();
        }
        let value = value.known.ok().filter(|value| value.is_finite());
        points.push_back(Point { from, to, value });
    }

    /// What the daemon remembers is finer than what is seen here, and has what was missed: it takes the place of what was seen
    /// in that time.
    pub(in crate::top) fn remember(&mut self, history: &HistoryReply) {
        self.unknown.clear();
        for series in &history.series {
            let key = Key {
                name: series.name.clone(),
                rank: series.rank,
                device: series.device.clone(),
            };
            let remembered = series.points.iter().map(|point| {
                let to = history.at_unix_s - point.age_s;
                Point {
                    from: to - point.seconds,
                    to,
                    value: (point.readings > 0).then_some(point.max),
                }
            });
            let remembered: VecDeque<_> = remembered.collect();
            let (Some(first), Some(last)) = (remembered.front(), remembered.back()) else {
                continue;
            };
            let (from, to) = (first.from, last.to);
            let seen = self.series.entry(key).or_default();
            let older = seen.iter().filter(|point| point.to <= from).copied();
            let mut points: VecDeque<_> = older.collect();
            points.extend(remembered);
            points.extend(
                seen.iter()
                    .filter(|point| point.to > to)
                    .map(|point| Point {
                        from: point.from.max(to),
                        ..*point
                    }),
            );
            *seen = points;
        }
        for mark in &history.epochs {
            self.epochs
                .insert(mark.epoch, history.at_unix_s - mark.age_s);
        }
    }

    /// Whether it was ever looked at.
    pub(in crate::top) fn was_read(&self, key: &Key) -> bool {
        self.series
            .get(key)
            .is_some_and(|points| !points.is_empty())
    }

    /// Whether it is known of any time.
    pub(in crate::top) fn is_known(&self, key: &Key) -> bool {
        let points = self.series.get(key);
        points.is_some_and(|points| points.iter().any(|point| point.value.is_some()))
    }

    /// `span_s` seconds until `now`, in `count` columns.
    pub(in crate::top) fn columns(
        &self,
        key: &Key,
        now: f64,
        span_s: f64,
        count: usize,
    ) -> Vec<Column> {
        let mut columns = vec![Column::Nothing; count];
        let Some(points) = self.series.get(key) else {
            return columns;
        };
        let start = now - span_s;
        let place = |at: f64| ((at - start) / span_s * count as f64).floor();
        for point in points
            .iter()
            .filter(|point| point.to > start && point.from <= now)
        {
            let first = place(point.from).max(0.0) as usize;
            // The end of one stretch is the beginning of the next: it belongs to its last column.
            let last = (place(point.to).max(0.0) as usize).min(count.saturating_sub(1));
            for column in columns.iter_mut().take(last + 1).skip(first.min(last)) {
                *column = match (*column, point.value) {
                    (Column::Most(most), Some(value)) => Column::Most(most.max(value)),
                    (_, Some(value)) => Column::Most(value),
                    (Column::Nothing, None) => Column::Unknown,
                    (known, None) => known,
                };
            }
        }
        columns
    }

    /// (column, epoch) of those that began in that time.
    pub(in crate::top) fn marks(&self, now: f64, span_s: f64, count: usize) -> Vec<(usize, u64)> {
        let start = now - span_s;
        let inside = self
            .epochs
            .iter()
            .filter(|(_, at)| (start..now).contains(*at));
        inside
            .map(|(epoch, at)| (((at - start) / span_s * count as f64) as usize, *epoch))
            .filter(|(column, _)| *column < count)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use hookbus_client::inspect::proto::{EpochMark, HostMemory, Reading, Series, SeriesPoint};

    use super::*;

    fn host(value: Option<f64>) -> SnapshotReply {
        SnapshotReply {
            host: Some(HostMemory {
                used_bytes: Some(Reading {
                    value,
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    #[test]
    fn history_goes_before_what_was_seen_and_gaps_stay() {
        let mut past = Past::default();
        past.see(&host(Some(5.0)), None, 100.0);
        past.see(&host(None), None, 101.0);
        past.see(&host(Some(7.0)), None, 102.0);
        let point = |age_s, max, readings| SeriesPoint {
            age_s,
            seconds: 1.0,
            max,
            readings,
            ..Default::default()
        };
        let history = HistoryReply {
            at_unix_s: 101.0,
            series: vec![Series {
                name: "host_used_bytes".into(),
                points: vec![point(5.0, 2.0, 1), point(4.0, 0.0, 0), point(0.0, 99.0, 1)],
                ..Default::default()
            }],
            epochs: vec![EpochMark {
                epoch: 3,
                age_s: 4.0,
                iter: 30,
            }],
            ..Default::default()
        };
        // The same again changes nothing.
        for _ in 0..2 {
            past.remember(&history);
            let columns = past.columns(&Key::host("host_used_bytes"), 102.5, 10.0, 10);
            let most = Column::Most;
            let nothing = Column::Nothing;
            assert_eq!(
                columns,
                [
                    nothing,
                    nothing,
                    most(2.0),
                    most(2.0),
                    Column::Unknown,
                    nothing,
                    nothing,
                    most(99.0),
                    most(99.0),
                    most(7.0)
                ]
            );
            assert_eq!(past.marks(102.5, 10.0, 10), [(4, 3)]);
        }
    }

    #[test]
    fn what_the_daemon_remembers_wins_and_what_it_does_not_stays() {
        let mut past = Past::default();
        // Before this viewer lost the daemon, and after it came back.
        for at in [90.0, 92.0, 100.0] {
            past.see(&host(Some(at)), None, at);
        }
        let remembered = HistoryReply {
            at_unix_s: 99.5,
            series: vec![Series {
                name: "host_used_bytes".into(),
                points: (0..7)
                    .map(|back| SeriesPoint {
                        age_s: 6.5 - f64::from(back),
                        seconds: 1.0,
                        max: 1.0,
                        readings: 1,
                        ..Default::default()
                    })
                    .collect(),
                ..Default::default()
            }],
            ..Default::default()
        };
        past.remember(&remembered);
        let columns = past.columns(&Key::host("host_used_bytes"), 100.5, 10.0, 10);
        let most = Column::Most;
        assert_eq!(columns[..2], [most(92.0), most(92.0)]);
        assert_eq!(columns[2..8], [most(1.0); 6]);
        assert_eq!(columns[8..], [most(100.0); 2]);
        // Nothing is remembered of it: that takes nothing away.
        past.remember(&HistoryReply {
            series: vec![Series {
                points: Vec::new(),
                ..remembered.series[0].clone()
            }],
            ..remembered
        });
        assert_eq!(
            past.columns(&Key::host("host_used_bytes"), 100.5, 10.0, 10),
            columns
        );
    }

    #[test]
    fn no_series_grows_without_end() {
        let mut past = Past::default();
        let key = Key::host("host_used_bytes");
        let many = Point {
            from: 0.0,
            to: 1.0,
            value: None,
        };
        past.series
            .insert(key.clone(), vec![many; MOST_POINTS + 500].into());
        assert!(past.was_read(&key) && !past.is_known(&key));
        past.see(&host(Some(1.0)), None, 2.0);
        assert!(past.is_known(&key));
        assert_eq!(past.series[&key].len(), MOST_POINTS);
    }

    #[test]
    fn a_new_epoch_is_marked_where_it_was_seen() {
        let mut past = Past::default();
        let at = |epoch| SnapshotReply {
            run: Some(hookbus_client::inspect::proto::RunSummary {
                position: Some(hookbus_client::inspect::proto::Position {
                    epoch,
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        past.see(&at(1), None, 100.0);
        past.see(&at(1), None, 105.0);
        past.see(&at(2), None, 106.0);
        assert_eq!(past.marks(110.0, 10.0, 10), [(6, 2)]);
        assert!(!past.was_read(&Key::gpu("gpu_used_bytes", 0)));
    }
}
