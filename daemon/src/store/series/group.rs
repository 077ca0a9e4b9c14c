//! The series of one thing, on one grid of time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::points::Point;
use super::ring::Ring;
use super::{COARSE, FINE, MIDDLE, Name, Number};
use crate::domain::Clock;

/// So many different reasons are told apart.
const REASONS: usize = 64;
const ANOTHER: &str = "for another reason";

/// A reason by its number; 0: nobody looked.
type Why = u32;
const NOBODY_LOOKED: Why = 0;

/// A slot takes a number of bytes for each of thousands, so a reason is only a number here.
#[derive(Clone, Copy, Debug)]
struct Slot {
    min: f64,
    mean: f64,
    max: f64,
    readings: u32,
    why: Why,
}

impl Slot {
    fn unread(why: Why) -> Self {
        Self {
            min: 0.0,
            mean: 0.0,
            max: 0.0,
            readings: 0,
            why,
        }
    }

    fn add(&mut self, value: f64) {
        if self.readings == 0 {
            (self.min, self.mean, self.max) = (value, value, value);
        } else {
            let readings = f64::from(self.readings);
            self.min = self.min.min(value);
            self.max = self.max.max(value);
            // Not by a difference: a limit may be infinite.
            self.mean = (self.mean * readings + value) / (readings + 1.0);
        }
        self.readings += 1;
    }
}

#[derive(Debug)]
struct Series {
    /// The finest first.
    rings: Vec<Ring<Slot>>,
    newest: Option<(Instant, Result<f64, Why>)>,
    /// Why nothing is read since the newest; else nobody looked.
    since: Why,
}

/// The series of one thing.
#[derive(Debug)]
pub struct Group {
    origin: Instant,
    reasons: Vec<Arc<str>>,
    series: BTreeMap<Name, Series>,
}

/// Some time of a series as two numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lately {
    /// Of all readings.
    pub mean: f64,
    /// The largest reading.
    pub max: f64,
    /// The most that it grew, from the least to the largest one after it: by so much, to so much.
    pub grew: (f64, f64),
    /// How many they were.
    pub readings: u32,
}

/// What is asked of a series. Times are microseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct Want {
    /// None: as far back as it reaches.
    pub from_us: Option<i64>,
    /// Up to then.
    pub to_us: i64,
    /// The present.
    pub now_us: i64,
    /// No point need be finer.
    pub least: Duration,
    /// For dates.
    pub clock: Clock,
}

/// What is known of a series.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The oldest first.
    pub points: Vec<Point>,
    /// Before this memory does not reach; None: it has nothing.
    pub begins_us: Option<i64>,
    /// Something older was there.
    pub lost: bool,
    /// How long its slots are.
    pub every: Duration,
}

impl Group {
    /// Empty; slots are counted from `origin`.
    pub fn new(origin: Instant) -> Self {
        Self {
            origin,
            reasons: Vec::new(),
            series: BTreeMap::new(),
        }
    }

    /// Whether a number of this time is not in it yet.
    pub fn is_new(&self, name: Name, at: Instant) -> bool {
        let newest = self
            .series
            .get(&name)
            .and_then(|series| series.newest.as_ref());
        newest.is_none_or(|(newest, _)| *newest < at)
    }

    /// Takes a number, once: one that was read before is known already.
    pub fn add(&mut self, number: &Number) {
        if !self.is_new(number.name, number.at) {
            return;
        }
        let value = match &number.value {
            Ok(value) => Ok(*value),
            Err(why) => Err(self.reason(why)),
        };
        let since = number.at.saturating_duration_since(self.origin);
        let series = self.series.entry(number.name).or_insert_with(|| {
            let fine = number.name.is_fine().then_some(FINE);
            let rings = fine.into_iter().chain([MIDDLE, COARSE]);
            Series {
                rings: rings.map(Ring::new).collect(),
                newest: None,
                since: NOBODY_LOOKED,
            }
        });
        for ring in &mut series.rings {
            let at = ring.number(since);
            let Some(slot) = ring.slot(at, Slot::unread(series.since)) else {
                continue;
            };
            match value {
                Ok(value) => slot.add(value),
                Err(why) => slot.why = why,
            }
        }
        series.newest = Some((number.at, value));
        series.since = value.err().unwrap_or(NOBODY_LOOKED);
    }

    /// Nothing can be read from now on, of any that there is.
    pub fn fail(&mut self, why: &str) {
        let why = self.reason(why);
        for series in self.series.values_mut() {
            series.since = why;
        }
    }

    /// Which there are.
    pub fn names(&self) -> impl Iterator<Item = Name> {
        self.series.keys().copied()
    }

    /// The newest number, and when it was read or tried.
    pub fn newest(&self, name: Name) -> Option<(Instant, Result<f64, String>)> {
        let (at, value) = self.series.get(&name)?.newest.as_ref()?;
        let words = |why: Why| self.words(why).to_string();
        Some((*at, value.map_err(words)))
    }

    /// The newest number, or why there is none now.
    pub fn present(&self, name: Name) -> Result<f64, String> {
        let series = self.series.get(&name).ok_or("not sampled yet")?;
        match series.newest {
            Some((_, Ok(value))) if series.since == NOBODY_LOOKED => Ok(value),
            _ => Err(self.words(series.since).to_string()),
        }
    }

    /// When its slots are counted from.
    pub fn origin(&self) -> Instant {
        self.origin
    }

    /// A series in the finest resolution that has the whole range and need not be finer; else in the one that reaches
    /// furthest. Where the training was is not in it.
    pub fn read(&self, name: Name, want: &Want) -> Option<Found> {
        let series = self.series.get(&name)?;
        let origin_us = want.clock.unix_us(self.origin);
        let from = want.from_us.map(|from| since(origin_us, from));
        let is_whole = |ring: &Ring<Slot>| {
            !ring.lost() || from.is_some_and(|from| ring.begins(ring.first()) <= from)
        };
        let mut chosen = None;
        for ring in series.rings.iter().filter(|ring| is_whole(ring)) {
            if chosen.is_none() || ring.every() <= want.least {
                chosen = Some(ring);
            }
        }
        let ring = chosen.or(series.rings.last())?;
        let begins_us = |number| origin_us.saturating_add(ring.begins(number).as_micros() as i64);
        let mut found = Found {
            points: Vec::new(),
            begins_us: (!ring.is_empty()).then(|| begins_us(ring.first())),
            lost: ring.lost(),
            every: ring.every(),
        };
        for (number, slot) in ring.from(from.map_or(0, |from| ring.number(from))) {
            let start_us = begins_us(number);
            if start_us >= want.to_us {
                break;
            }
            if slot.readings > 0 || slot.why != NOBODY_LOOKED {
                let end_us = begins_us(number + 1).min(want.now_us);
                found.points.push(self.point(slot, start_us, end_us));
            }
        }
        // What came after the newest slot.
        let newest_us = begins_us(ring.next());
        if series.since != NOBODY_LOOKED && !ring.is_empty() && newest_us < want.to_us {
            let slot = Slot::unread(series.since);
            let start_us = want.from_us.map_or(newest_us, |from| from.max(newest_us));
            found.points.push(self.point(&slot, start_us, want.to_us));
        }
        Some(found)
    }

    fn point(&self, slot: &Slot, start_us: i64, end_us: i64) -> Point {
        Point {
            start_us,
            end_us: end_us.max(start_us),
            min: slot.min,
            mean: slot.mean,
            max: slot.max,
            readings: slot.readings,
            unknown: (slot.readings == 0).then(|| self.words(slot.why)),
            place: None,
        }
    }

    /// The mean and the largest of what was read in the last so long; Err: why there is nothing.
    pub fn lately(&self, name: Name, last: Duration, now: Instant) -> Result<Lately, String> {
        let series = self.series.get(&name).ok_or("not sampled yet")?;
        let since = now
            .saturating_duration_since(self.origin)
            .saturating_sub(last);
        let reaches = |ring: &&Ring<Slot>| !ring.lost() || ring.begins(ring.first()) <= since;
        let ring = series.rings.iter().find(reaches).or(series.rings.last());
        let ring = ring.expect("there are always two");
        let (mut all, mut why) = (Slot::unread(series.since), NOBODY_LOOKED);
        let (mut least, mut grew) = (f64::INFINITY, (0.0, 0.0));
        for (_, slot) in ring.from(ring.number(since)) {
            if slot.readings > 0 {
                if slot.max - least > grew.0 {
                    grew = (slot.max - least, slot.max);
                }
                least = least.min(slot.min);
                let before = all.readings;
                let (old, new) = (f64::from(before), f64::from(slot.readings));
                all.max = if before == 0 {
                    slot.max
                } else {
                    all.max.max(slot.max)
                };
                all.mean = (all.mean * old + slot.mean * new) / (old + new);
                all.readings += slot.readings;
            }
            if slot.why != NOBODY_LOOKED {
                why = slot.why;
            }
        }
        if all.readings > 0 {
            return Ok(Lately {
                mean: all.mean,
                max: all.max,
                grew,
                readings: all.readings,
            });
        }
        let why = if series.since == NOBODY_LOOKED {
            why
        } else {
            series.since
        };
        Err(match why {
            NOBODY_LOOKED => format!("not sampled in the last {} s", last.as_secs_f64()),
            why => self.words(why).to_string(),
        })
    }

    fn words(&self, why: Why) -> Arc<str> {
        let known = self.reasons.get((why as usize).wrapping_sub(1));
        known.cloned().unwrap_or_else(|| ANOTHER.into())
    }

    fn reason(&mut self, why: &str) -> Why {
        let known = self.reasons.iter().position(|known| **known == *why);
        let at = known.unwrap_or_else(|| {
            let at = self.reasons.len();
            if at < REASONS {
                self.reasons.push(why.into());
            }
            // Beyond them all is another one.
            at
        });
        at as Why + 1
    }

    /// What it takes.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let rings = self.series.values().flat_map(|series| &series.rings);
        let reasons = self.reasons.iter().map(|why| why.len() + 32).sum::<usize>();
        let series = self.series.len() * size_of::<(Name, Series)>() * 2;
        rings.map(Ring::bytes).sum::<usize>() + reasons + series + size_of::<Self>()
    }
}

fn since(origin_us: i64, at_us: i64) -> Duration {
    Duration::from_micros(at_us.saturating_sub(origin_us).max(0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIX_US: i64 = 1_000_000_000_000_000;

    fn at(origin: Instant, ms: u64) -> Instant {
        origin + Duration::from_millis(ms)
    }

    fn group(origin: Instant) -> (Group, Clock) {
        let unix = Duration::from_micros(UNIX_US as u64);
        (Group::new(origin), Clock { at: origin, unix })
    }

    fn number(name: Name, at: Instant, value: Result<f64, &str>) -> Number {
        Number {
            name,
            at,
            value: value.map_err(str::to_owned),
            source: "/proc",
        }
    }

    fn want(clock: Clock, from_ms: Option<i64>, now_ms: i64, least_ms: u64) -> Want {
        Want {
            from_us: from_ms.map(|ms| UNIX_US + ms * 1000),
            to_us: UNIX_US + now_ms * 1000,
            now_us: UNIX_US + now_ms * 1000,
            least: Duration::from_millis(least_ms),
            clock,
        }
    }

    #[test]
    fn each_range_is_read_in_the_finest_resolution_that_has_it() {
        let origin = Instant::now();
        let (mut group, clock) = group(origin);
        // Three hours at ten a second.
        let last_ms = 3 * 3600 * 1000;
        for ms in (0..last_ms).step_by(100) {
            group.add(&number(Name::HostUsed, at(origin, ms), Ok(ms as f64)));
        }
        let last = last_ms as i64;
        for (back_ms, least_ms, every_ms, points) in [
            (30_000, 0, 100, 300),
            (30_000, 1_000, 1_000, 30),
            (30_000, 60_000, 10_000, 3),
            (300_000, 0, 1_000, 300),
            (1_200_000, 0, 10_000, 120),
            (10_000_000, 0, 10_000, 720),
        ] {
            let want = want(clock, Some(last - back_ms), last - 1, least_ms);
            let found = group.read(Name::HostUsed, &want).unwrap();
            let seen = (found.every.as_millis(), found.points.len());
            assert_eq!(seen, (every_ms, points), "{back_ms} {least_ms}");
            let readings: u32 = found.points.iter().map(|one| one.readings).sum();
            assert_eq!(readings as u128, points as u128 * every_ms / 100);
        }
        let found = group
            .read(Name::HostUsed, &want(clock, None, last, 0))
            .unwrap();
        assert!(found.lost);
        let oldest = &found.points[0];
        assert_eq!(oldest.start_us - UNIX_US, (last - 7_200_000) * 1000);
        let start = (last - 7_200_000) as f64;
        let seen = (oldest.min, oldest.mean, oldest.max, oldest.readings);
        assert_eq!(seen, (start, start + 4950.0, start + 9900.0, 100));
    }

    #[test]
    fn what_could_not_be_read_says_why_and_where_nobody_looked_is_nothing() {
        let origin = Instant::now();
        let (mut group, clock) = group(origin);
        let add = |group: &mut Group, ms, value| {
            group.add(&number(Name::TreePss, at(origin, ms), value));
        };
        add(&mut group, 0, Ok(5.0));
        add(&mut group, 0, Ok(6.0));
        add(&mut group, 3_000, Ok(7.0));
        add(&mut group, 5_000, Err("no right"));
        add(&mut group, 8_000, Ok(9.0));
        group.fail("the process has ended");
        let found = group
            .read(Name::TreePss, &want(clock, None, 11_000, 0))
            .unwrap();
        let seen: Vec<_> = found
            .points
            .iter()
            .map(|one| {
                let at = |us| (us - UNIX_US) / 1_000_000;
                let value = one.unknown.clone().ok_or(one.mean);
                (
                    at(one.start_us),
                    at(one.end_us),
                    value.map(|why| why.to_string()),
                )
            })
            .collect();
        let why = |why: &str| Ok(why.to_owned());
        assert_eq!(
            seen,
            [
                (0, 1, Err(5.0)),
                (3, 4, Err(7.0)),
                (5, 6, why("no right")),
                (6, 7, why("no right")),
                (7, 8, why("no right")),
                (8, 9, Err(9.0)),
                (9, 11, why("the process has ended")),
            ]
        );
        let lately = |last_s, now_ms| {
            group.lately(
                Name::TreePss,
                Duration::from_secs(last_s),
                at(origin, now_ms),
            )
        };
        let lately_is = |mean, max, grew, readings| {
            Ok(Lately {
                mean,
                max,
                grew,
                readings,
            })
        };
        assert_eq!(lately(60, 9_000), lately_is(7.0, 9.0, (4.0, 9.0), 3));
        assert_eq!(lately(2, 9_000), lately_is(9.0, 9.0, (0.0, 0.0), 1));
        assert_eq!(lately(2, 20_000), Err("the process has ended".to_owned()));
        let other = group.lately(Name::HostUsed, Duration::from_secs(1), origin);
        assert_eq!(other, Err("not sampled yet".to_owned()));
    }

    #[test]
    fn reasons_take_no_more_than_they_may() {
        let origin = Instant::now();
        let (mut group, clock) = group(origin);
        for n in 0..1000 {
            let why = format!("error {n}");
            group.add(&number(Name::ShmUsed, at(origin, n * 1000), Err(&why)));
        }
        assert_eq!(group.reasons.len(), REASONS);
        let found = group
            .read(Name::ShmUsed, &want(clock, None, 1_000_000, 0))
            .unwrap();
        assert_eq!(
            found.points.last().unwrap().unknown.as_deref(),
            Some(ANOTHER)
        );
    }
}
