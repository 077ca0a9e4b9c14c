//! Memory over time: what the series in memory have, and before that what the run's journal has. It reads a file, so it is
//! called where that may take its time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{Inspector, NO_JOURNAL};
use crate::domain::Rank;
use crate::snapshot::RunSnapshot;
use crate::store::journal::memory::{self, Rows, Sample};
use crate::store::series::{
    Found, Kind, Mark, Name, Of, Place, Point, REACH, Stretch, Track, Want, merge, width,
};

/// All series of one answer have no more points than this together: it is to be sent at one go.
const ALL_POINTS: usize = 100_000;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Query {
    /// A name or an id; empty and no run: host and GPUs.
    pub run: String,
    /// Empty: all.
    pub names: Vec<Name>,
    /// Empty: all.
    pub ranks: Vec<Rank>,
    /// Of when.
    pub range: Range,
    /// No point is to be finer; zero: the finest that has the whole range.
    pub resolution: Duration,
    /// Of each series.
    pub max_points: usize,
}

/// Of when. Where nothing is said of a bound it is as wide as what is known.
#[derive(Clone, Copy, Debug)]
pub enum Range {
    /// Before now.
    Time {
        /// So long ago.
        from: Option<Duration>,
        /// So long ago.
        to: Option<Duration>,
    },
    /// Where the training was; both ends are in it.
    Positions {
        /// Counted in these.
        of: Of,
        /// The first.
        from: Option<u64>,
        /// The last.
        to: Option<u64>,
    },
}

impl Range {
    fn has(self, place: Place, at_us: i64, window: Stretch) -> bool {
        match self {
            Self::Time { .. } => {
                window.from_us.is_none_or(|from| from <= at_us)
                    && window.to_us.is_none_or(|to| at_us <= to)
            }
            Self::Positions { of, from, to } => {
                let count = of.count(place);
                from.is_none_or(|from| from <= count) && to.is_none_or(|to| count <= to)
            }
        }
    }
}

/// What is known. Times are microseconds since 1970.
#[derive(Clone, Debug)]
pub struct Past {
    /// When this was asked.
    pub now_us: i64,
    /// The machine's, the GPUs', then the ranks'.
    pub series: Vec<SeriesPast>,
    /// When epochs began, of the lowest rank.
    pub epochs: Vec<Mark>,
    /// Why there is nothing of what is older; empty: this is all.
    pub older_unknown: String,
}

/// One number over time.
#[derive(Clone, Debug)]
pub struct SeriesPast {
    /// Which.
    pub name: Name,
    /// Whose; None: the machine's or a GPU's.
    pub rank: Option<Rank>,
    /// Of which GPU.
    pub device: Option<u32>,
    /// The coarsest of its points.
    pub resolution: Duration,
    /// The oldest first.
    pub points: Vec<Point>,
}

/// Which series; in the order of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    rank: Option<Rank>,
    device: Option<u32>,
    name: Name,
}

/// Samples of a journal, one after the other.
#[derive(Default)]
struct Written {
    points: Vec<Point>,
    width: Duration,
    last_us: Option<i64>,
    /// Each stands for no longer than there is between two of them.
    gap_us: i64,
}

impl Written {
    fn push(&mut self, sample: Sample, most: usize, origin_us: i64) {
        let gap_us = self.last_us.map_or(0, |last| (sample.at_us - last).max(0));
        if gap_us > 0 && (self.gap_us == 0 || gap_us < self.gap_us) {
            self.gap_us = gap_us;
        }
        let value = sample.value.as_ref().copied().unwrap_or_default();
        self.points.push(Point {
            start_us: sample.at_us - gap_us.min(self.gap_us),
            end_us: sample.at_us,
            min: value,
            mean: value,
            max: value,
            readings: sample.value.is_ok().into(),
            unknown: sample.value.err(),
            place: Some(sample.place),
        });
        self.last_us = Some(sample.at_us);
        // A long journal does not fit into memory as it is.
        if self.points.len() > most.saturating_mul(4) {
            self.width = width(&self.points, self.width, most.saturating_mul(2), origin_us);
            self.points = merge(std::mem::take(&mut self.points), self.width, origin_us);
        }
    }
}

/// What the series in memory have, each merged as soon as it is read: of all ranks together it would be much.
struct Held {
    series: BTreeMap<Key, Found>,
    /// Of each.
    most: usize,
    /// The widest so far, at least what was asked for.
    width: Duration,
    origin_us: i64,
}

impl Held {
    fn new(most: usize, least: Duration, origin_us: i64) -> Self {
        Self {
            series: BTreeMap::new(),
            most,
            width: least,
            origin_us,
        }
    }

    fn add(&mut self, key: Key, mut read: Found) {
        self.width = width(&read.points, self.width, self.most, self.origin_us);
        read.points = merge(read.points, self.width, self.origin_us);
        read.points.shrink_to_fit();
        self.series.insert(key, read);
    }
}

/// What is asked, of a run that was found.
struct Asked<'a> {
    query: &'a Query,
    run: Option<&'a RunSnapshot>,
    tracks: BTreeMap<Rank, Arc<Track>>,
    now_us: i64,
    /// Of a time range; of positions the run's whole life.
    span: Stretch,
}

impl Asked<'_> {
    fn names(&self, kind: Kind) -> impl Iterator<Item = Name> {
        let wanted = |name: &Name| self.query.names.is_empty() || self.query.names.contains(name);
        let all = Name::ALL.into_iter();
        all.filter(move |name| name.kind() == kind && wanted(name))
    }

    fn has_rank(&self, rank: Rank) -> bool {
        self.query.ranks.is_empty() || self.query.ranks.contains(&rank)
    }

    fn has(&self, sample: &Sample) -> bool {
        (self.query.names.is_empty() || self.query.names.contains(&sample.name))
            && sample.rank.is_none_or(|rank| self.has_rank(rank))
    }

    /// The rank that says where the training is.
    fn lead(&self) -> Option<&Arc<Track>> {
        self.tracks.values().next()
    }

    fn lead_rank(&self) -> Option<Rank> {
        self.run?.ranks.keys().next().copied()
    }

    fn older_than_memory(&self, daemon_us: i64, clock: crate::domain::Clock) -> bool {
        let began = |run: &RunSnapshot| clock.unix_us(run.started) < daemon_us;
        self.run
            .is_some_and(|run| run.archived || !run.before.is_empty() || began(run))
    }
}

impl Inspector {
    /// Memory over time. Errors: the line names the runs there are.
    pub fn history(&self, query: &Query) -> Result<Past, String> {
        let clock = self.clock;
        let now_us = clock.unix_us(self.now());
        let run = self.run_if_any(&query.run)?;
        let tracks = match &run {
            Some(run) if !run.archived => self.live.tracks(&run.id),
            _ => BTreeMap::new(),
        };
        let asked = Asked {
            query,
            run: run.as_deref(),
            tracks,
            now_us,
            span: span(query, run.as_deref(), now_us, clock),
        };
        let origin_us = (self.live.origin()).map_or(now_us, |origin| clock.unix_us(origin));
        let most = query.max_points.min(ALL_POINTS / self.most_series(&asked));
        let mut held = Held::new(most.max(1), query.resolution, origin_us);
        self.in_memory(&asked, &mut held);
        let Held {
            series: mut memory,
            width: held_width,
            most,
            ..
        } = held;
        let (mut written, mut epochs, older_unknown) =
            self.before_memory(&asked, &memory, most, origin_us);
        epochs.extend(self.epochs(&asked, epochs.last().map(|mark| mark.at_us)));
        let keys: BTreeSet<_> = memory.keys().chain(written.keys()).copied().collect();
        let mut series: Vec<_> = keys
            .into_iter()
            .map(|key| {
                let before = written.remove(&key).unwrap_or_default();
                let found = memory.remove(&key).unwrap_or_default();
                let gap = Duration::from_micros(before.gap_us.unsigned_abs());
                let resolution = if found.points.is_empty() {
                    gap
                } else {
                    gap.max(found.every)
                };
                let mut points = before.points;
                points.extend(found.points);
                SeriesPast {
                    name: key.name,
                    rank: key.rank,
                    device: key.device,
                    resolution: resolution.max(before.width),
                    points,
                }
            })
            .collect();
        // One width for all, so that they stand beside each other.
        let width = series
            .iter()
            .map(|one| width(&one.points, query.resolution, most, origin_us))
            .max()
            .unwrap_or_default()
            .max(held_width);
        for one in &mut series {
            one.points = merge(std::mem::take(&mut one.points), width, origin_us);
            one.resolution = one.resolution.max(width);
        }
        Ok(Past {
            now_us,
            series,
            epochs,
            older_unknown,
        })
    }

    /// So many series there may be, and never none.
    fn most_series(&self, asked: &Asked<'_>) -> usize {
        let is_asked = |rank: &&Rank| asked.has_rank(**rank);
        let ranks = (asked.run).map_or(0, |run| run.ranks.keys().filter(is_asked).count());
        let of_ranks = ranks * asked.names(Kind::Rank).count();
        let of_gpus = self.live.gpus_tracked().len() * asked.names(Kind::Gpu).count();
        1 + asked.names(Kind::Host).count() + of_gpus + of_ranks
    }

    /// What the series in memory have. Of a run that was only written down they have nothing.
    fn in_memory(&self, asked: &Asked<'_>, held: &mut Held) {
        if asked.run.is_some_and(|run| run.archived) {
            return;
        }
        let of_lead = asked.lead().cloned();
        if let Some(want) = self.want(asked, of_lead.as_deref()) {
            for name in asked.names(Kind::Host) {
                let read = self.live.of_host(|group| group.read(name, &want)).flatten();
                let key = Key {
                    rank: None,
                    device: None,
                    name,
                };
                self.keep(held, key, read, of_lead.as_deref());
            }
            for index in self.live.gpus_tracked() {
                for name in asked.names(Kind::Gpu) {
                    let read = self.live.of_gpu(index, |group| group.read(name, &want));
                    let key = Key {
                        rank: None,
                        device: Some(index),
                        name,
                    };
                    self.keep(held, key, read.flatten(), of_lead.as_deref());
                }
            }
        }
        for (rank, track) in asked
            .tracks
            .iter()
            .filter(|(rank, _)| asked.has_rank(**rank))
        {
            let Some(want) = self.want(asked, Some(track)) else {
                continue;
            };
            for name in asked.names(Kind::Rank) {
                let key = Key {
                    rank: Some(*rank),
                    device: None,
                    name,
                };
                self.keep(held, key, track.read(name, &want), Some(track));
            }
        }
    }

    /// None: the training has not come so far.
    fn want(&self, asked: &Asked<'_>, of: Option<&Track>) -> Option<Want> {
        let stretch = match asked.query.range {
            Range::Time { .. } => asked.span,
            Range::Positions {
                of: count,
                from,
                to,
            } => of?.positions(|seen| seen.when(count, from, to, self.clock))?,
        };
        let to_us = stretch.to_us.or(asked.span.to_us).unwrap_or(asked.now_us);
        Some(Want {
            from_us: stretch.from_us.or(asked.span.from_us),
            to_us: to_us.min(asked.now_us),
            now_us: asked.now_us,
            least: asked.query.resolution,
            clock: self.clock,
        })
    }

    fn keep(&self, held: &mut Held, key: Key, read: Option<Found>, track: Option<&Track>) {
        let Some(mut read) = read else {
            return;
        };
        if let Some(track) = track {
            track.positions(|seen| {
                for point in &mut read.points {
                    point.place = seen.at(point.end_us - 1, self.clock);
                }
            });
        }
        held.add(key, read);
    }

    /// What the run's file has of the time before memory, the epochs that began then, and why there is nothing.
    fn before_memory(
        &self,
        asked: &Asked<'_>,
        memory: &BTreeMap<Key, Found>,
        most: usize,
        origin_us: i64,
    ) -> (BTreeMap<Key, Written>, Vec<Mark>, String) {
        let nothing = |why: String| (BTreeMap::new(), Vec::new(), why);
        let daemon_us = self.clock.unix_us(self.clock.at);
        let older = asked.older_than_memory(daemon_us, self.clock);
        let from_us = asked.span.from_us;
        let begins_later = |found: &Found| {
            found
                .begins_us
                .is_none_or(|begins| from_us.is_none_or(|from| from < begins))
        };
        let reaches_back = memory
            .values()
            .any(|found| begins_later(found) && (older || found.lost));
        // A rank that has none any more, or whose daemon was another one.
        let missing = asked.run.is_some_and(|run| {
            let has_none = |rank: &Rank| {
                let track = asked.tracks.get(rank);
                track.is_none_or(|track| track.names().is_empty())
            };
            run.ranks
                .keys()
                .any(|rank| asked.has_rank(*rank) && has_none(rank))
        });
        if !reaches_back && !missing {
            return nothing(String::new());
        }
        let hours = REACH.as_secs() / 3600;
        let Some(run) = asked.run else {
            let why = format!(
                "the host's memory is kept for {hours} h; what is older is in the journals of runs"
            );
            return nothing(why);
        };
        if !self.records() {
            let why = format!("memory reaches {hours} h back, and {NO_JOURNAL}");
            return nothing(if older || reaches_back {
                why
            } else {
                String::new()
            });
        }
        let path = match self.file(run) {
            Ok((_, path)) => path,
            Err(why) => return nothing(why),
        };
        let rows = Rows {
            latest: matches!(asked.query.range, Range::Positions { .. }),
            from_us,
            to_us: asked.span.to_us,
        };
        let mut written: BTreeMap<Key, Written> = BTreeMap::new();
        let read = memory::samples(&path, rows, |sample| {
            let key = Key {
                rank: sample.rank,
                device: sample.device,
                name: sample.name,
            };
            let begins = memory.get(&key).and_then(|found| found.begins_us);
            if asked.has(&sample)
                && begins.is_none_or(|begins| sample.at_us < begins)
                && asked
                    .query
                    .range
                    .has(sample.place, sample.at_us, asked.span)
            {
                written
                    .entry(key)
                    .or_default()
                    .push(sample, most, origin_us);
            }
        });
        let marks = read.and_then(|()| match asked.lead_rank() {
            Some(rank) => memory::marks(&path, rank, rows),
            None => Ok(Vec::new()),
        });
        match marks {
            Ok(mut marks) => {
                let first = asked
                    .lead()
                    .and_then(|lead| Some(lead.marks(self.clock).first()?.at_us));
                marks.retain(|mark| {
                    // The trainer's own clock may be a little late.
                    first.is_none_or(|first| mark.at_us + 1_000_000 < first)
                        && asked.query.range.has(mark.place, mark.at_us, asked.span)
                });
                (written, marks, String::new())
            }
            Err(why) => nothing(why),
        }
    }

    /// The epochs that memory saw begin, after this.
    fn epochs(&self, asked: &Asked<'_>, after_us: Option<i64>) -> Vec<Mark> {
        let mut marks = asked
            .lead()
            .map_or(Vec::new(), |lead| lead.marks(self.clock));
        marks.retain(|mark| {
            after_us.is_none_or(|after| after < mark.at_us)
                && asked.query.range.has(mark.place, mark.at_us, asked.span)
        });
        marks
    }
}

/// When a question is of; where it says nothing, the life of its run.
fn span(
    query: &Query,
    run: Option<&RunSnapshot>,
    now_us: i64,
    clock: crate::domain::Clock,
) -> Stretch {
    let ago =
        |ago: Duration| now_us.saturating_sub(i64::try_from(ago.as_micros()).unwrap_or(i64::MAX));
    let (from, to) = match query.range {
        Range::Time { from, to } => (from.map(ago), to.map(ago)),
        Range::Positions { .. } => (None, None),
    };
    // A run of a machine that was started anew since has no time here that could be trusted.
    let run = run.filter(|run| !run.archived);
    let began = run.map(|run| {
        run.before
            .first()
            .map_or(run.started, |first| first.started)
    });
    Stretch {
        from_us: from.or(began.map(|at| clock.unix_us(at))),
        to_us: to.or(run.and_then(|run| run.ended).map(|at| clock.unix_us(at))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_of_a_series_is_no_more_than_what_is_sent() {
        let points = |count: i64| Found {
            points: (0..count)
                .map(|second| Point {
                    start_us: second * 1_000_000,
                    end_us: (second + 1) * 1_000_000,
                    min: 1.0,
                    mean: 1.0,
                    max: second as f64,
                    readings: 1,
                    unknown: None,
                    place: None,
                })
                .collect(),
            every: Duration::from_secs(1),
            begins_us: None,
            lost: false,
        };
        let mut held = Held::new(100, Duration::ZERO, 0);
        for (rank, count) in [(0, 720), (1, 90), (2, 40)] {
            let key = Key {
                rank: Some(Rank(rank)),
                device: None,
                name: Name::ProcessRss,
            };
            held.add(key, points(count));
        }
        assert_eq!(held.width, Duration::from_secs(10));
        let counts: Vec<_> = (held.series.values())
            .map(|found| found.points.len())
            .collect();
        assert_eq!(counts, [72, 9, 4], "one width for all");
        let first = held.series.values().next().expect("it was added");
        let last = first.points.last().expect("it has some");
        assert_eq!((last.max, last.readings), (719.0, 10));
        assert_eq!(held.series.len(), 3);
    }
}
