//! The series of one rank, beside where its training was. The run says where it is, for the price of two stores; whoever takes
//! a number writes that down with it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::points::Place;
use super::ring::Ring;
use super::{COARSE, FINE, Found, Group, Lately, MIDDLE, Name, Number, Want, of_process};
use crate::domain::{Clock, Position, ProcessSample, Reading};
use crate::store::Said;

/// So many epochs' beginnings are known; older ones are in the journal.
const MARKS: usize = 512;
/// The main process is read so often that its numbers wait for one another and go into the series so many at a time: each
/// resolution is memory of its own, and fetching that costs more than the reading.
const TOGETHER: usize = 10;
/// No position yet.
const NOWHERE: u64 = u64::MAX;

/// Counted in epochs or in iterations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// Epochs.
    Epochs,
    /// Iterations.
    Iters,
}

impl Of {
    /// The number that counts.
    pub fn count(self, place: Place) -> u64 {
        match self {
            Self::Epochs => place.epoch,
            Self::Iters => place.iter,
        }
    }
}

/// An epoch began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// At its first iteration.
    pub place: Place,
    /// When, in microseconds since 1970.
    pub at_us: i64,
}

/// Some iterations or epochs as a stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// None: it began before memory reaches.
    pub from_us: Option<i64>,
    /// None: it goes on.
    pub to_us: Option<i64>,
}

/// Where a training was, on the grid of its series.
#[derive(Debug)]
pub struct Positions {
    origin: Instant,
    rings: [Ring<Place>; 3],
    marks: VecDeque<(Place, Instant)>,
}

impl Positions {
    fn new(origin: Instant) -> Self {
        Self {
            origin,
            rings: [FINE, MIDDLE, COARSE].map(Ring::new),
            marks: VecDeque::new(),
        }
    }

    fn add(&mut self, place: Place, now: Instant) {
        let since = now.saturating_duration_since(self.origin);
        for ring in &mut self.rings {
            let gap = ring.last().copied().unwrap_or(place);
            if let Some(slot) = ring.slot(ring.number(since), gap) {
                *slot = place;
            }
        }
    }

    /// Where it was; None: not known.
    pub fn at(&self, at_us: i64, clock: Clock) -> Option<Place> {
        let since = at_us.checked_sub(clock.unix_us(self.origin))?;
        let since = Duration::from_micros(u64::try_from(since).ok()?);
        let mut rings = self.rings.iter();
        rings.find_map(|ring| ring.at(ring.number(since))).copied()
    }

    /// When it was in a range, both ends in it; None: it has not come so far.
    pub fn when(
        &self,
        of: Of,
        from: Option<u64>,
        to: Option<u64>,
        clock: Clock,
    ) -> Option<Stretch> {
        let count = |place: &Place| of.count(*place);
        let origin_us = clock.unix_us(self.origin);
        let begins_us =
            |ring: &Ring<Place>, number| origin_us + ring.begins(number).as_micros() as i64;
        // The finest one whose oldest slot is before what is looked for.
        let reaches = |before: &dyn Fn(u64) -> bool| {
            let oldest = |ring: &&Ring<Place>| ring.from(0).next().map(|(_, place)| count(place));
            self.rings
                .iter()
                .find(|ring| oldest(ring).is_some_and(before))
        };
        let from_us = match from {
            None => None,
            Some(from) => match reaches(&|oldest| oldest < from) {
                None => None,
                Some(ring) => {
                    let (first, _) = ring.from(0).find(|(_, place)| count(place) >= from)?;
                    Some(begins_us(ring, first))
                }
            },
        };
        let to_us = to.and_then(|to| match reaches(&|oldest| oldest <= to) {
            Some(ring) => {
                let (after, _) = ring.from(0).find(|(_, place)| count(place) > to)?;
                // It began while the training was still in the range.
                Some(begins_us(ring, after + 1))
            }
            // All of it is older.
            None => {
                let oldest = self.rings.iter().rev().find(|ring| !ring.is_empty())?;
                Some(begins_us(oldest, oldest.first()))
            }
        });
        Some(Stretch { from_us, to_us })
    }
}

#[derive(Debug)]
struct Kept {
    group: Group,
    positions: Positions,
    /// Read, with where the training was, and not in the series yet. Nobody sees that: whoever looks puts them there first.
    waiting: Vec<(Number, Option<Place>)>,
}

impl Kept {
    fn new(origin: Instant) -> Self {
        Self {
            group: Group::new(origin),
            positions: Positions::new(origin),
            waiting: Vec::with_capacity(TOGETHER),
        }
    }

    fn settle(&mut self) {
        for (number, place) in self.waiting.drain(..) {
            if let Some(place) = place {
                self.positions.add(place, number.at);
            }
            self.group.add(&number);
        }
    }
}

/// The series of one rank.
#[derive(Debug)]
pub struct Track {
    epoch: AtomicU64,
    iter: AtomicU64,
    /// Which one is sampled for it.
    process: Mutex<Option<(u32, u64)>>,
    kept: Mutex<Kept>,
    said: Mutex<Option<Said>>,
}

impl Track {
    /// Empty; slots are counted from `origin`.
    pub fn new(origin: Instant) -> Self {
        Self {
            epoch: AtomicU64::new(NOWHERE),
            iter: AtomicU64::new(0),
            process: Mutex::default(),
            kept: Mutex::new(Kept::new(origin)),
            said: Mutex::default(),
        }
    }

    /// Where the training is now. No lock but where an epoch begins.
    pub fn reach(&self, position: Position, now: Instant) {
        let before = self.epoch.swap(position.epoch, Ordering::Relaxed);
        self.iter.store(position.iter, Ordering::Relaxed);
        if before == position.epoch {
            return;
        }
        // Who comes in the middle of an epoch has not seen it begin.
        if before == NOWHERE && position.inner_iter > 0 {
            return;
        }
        let marks = &mut self.lock().positions.marks;
        if marks.len() == MARKS {
            marks.pop_front();
        } else if marks.len() == marks.capacity() {
            marks.reserve_exact(marks.len().max(8).min(MARKS - marks.len()));
        }
        let Position { epoch, iter, .. } = position;
        marks.push_back((Place { epoch, iter }, now));
    }

    /// From now on this process (pid, start ticks) is sampled for it.
    pub fn set_process(&self, process: Option<(u32, u64)>) {
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = process;
    }

    /// The process that is sampled for it.
    pub fn process(&self) -> Option<(u32, u64)> {
        *self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self) -> Option<Place> {
        let epoch = self.epoch.load(Ordering::Relaxed);
        let iter = self.iter.load(Ordering::Relaxed);
        (epoch != NOWHERE).then_some(Place { epoch, iter })
    }

    /// Writes down where the training is.
    pub fn note(&self, now: Instant) {
        if let Some(place) = self.place() {
            self.lock().positions.add(place, now);
        }
    }

    /// Takes the resident set size of its process, where nothing else of a sample is new.
    pub fn take_resident(&self, reading: &Reading) {
        let number = Number::of(Name::ProcessRss, reading);
        let mut kept = self.lock_unsettled();
        kept.waiting.push((number, self.place()));
        if kept.waiting.len() == TOGETHER {
            kept.settle();
        }
    }

    /// Takes a sample of its process.
    pub fn take(&self, sample: &ProcessSample) {
        let mut kept = self.lock();
        if let Some(place) = self.place() {
            kept.positions.add(place, sample.rss_bytes.at);
        }
        let mut new = Vec::new();
        let group = &kept.group;
        of_process(
            sample,
            |name, at| group.is_new(name, at),
            |number| new.push(number),
        );
        new.iter().for_each(|number| kept.group.add(number));
    }

    /// Takes one number that came another way.
    pub fn add(&self, number: &Number) {
        let mut kept = self.lock();
        if let Some(place) = self.place() {
            kept.positions.add(place, number.at);
        }
        kept.group.add(number);
    }

    /// Takes what its client says of its memory.
    pub fn say(&self, said: Said) {
        *self.said.lock().unwrap_or_else(PoisonError::into_inner) = Some(said);
    }

    /// What its client said last.
    pub fn said(&self) -> Option<Said> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.clone()
    }

    /// What memory has is given up.
    pub fn clear(&self) {
        let mut kept = self.lock();
        let origin = kept.group.origin();
        *kept = Kept::new(origin);
    }

    /// Which series there are.
    pub fn names(&self) -> Vec<Name> {
        self.lock().group.names().collect()
    }

    /// One of them.
    pub fn read(&self, name: Name, want: &Want) -> Option<Found> {
        self.lock().group.read(name, want)
    }

    /// The newest number of one, and when it was read or tried.
    pub fn newest(&self, name: Name) -> Option<(Instant, Result<f64, String>)> {
        self.lock().group.newest(name)
    }

    /// The newest number, or why there is none now.
    pub fn present(&self, name: Name) -> Result<f64, String> {
        self.lock().group.present(name)
    }

    /// The mean and the largest of what was read in the last so long; Err: why there is nothing.
    pub fn lately(&self, name: Name, last: Duration, now: Instant) -> Result<Lately, String> {
        self.lock().group.lately(name, last, now)
    }

    /// Where its training was.
    pub fn positions<T>(&self, ask: impl FnOnce(&Positions) -> T) -> T {
        ask(&self.lock().positions)
    }

    /// When its epochs began, as far as that is known here.
    pub fn marks(&self, clock: Clock) -> Vec<Mark> {
        let mark = |(place, at): &(Place, Instant)| Mark {
            place: *place,
            at_us: clock.unix_us(*at),
        };
        self.lock().positions.marks.iter().map(mark).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        let mut kept = self.lock_unsettled();
        kept.settle();
        kept
    }

    fn lock_unsettled(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, RANK_BYTES};
    use super::*;

    fn position(epoch: u64, iter: u64, inner_iter: u64) -> Position {
        Position {
            epoch,
            iter,
            inner_iter,
        }
    }

    fn clock(origin: Instant) -> Clock {
        Clock {
            at: origin,
            unix: Duration::from_secs(1000),
        }
    }

    #[test]
    fn a_rank_takes_no_more_than_it_may() {
        let origin = Instant::now();
        let track = Track::new(origin);
        let names = Name::ALL
            .into_iter()
            .filter(|name| name.kind() == Kind::Rank);
        let names: Vec<_> = names.collect();
        assert_eq!(names.len(), 10);
        for tenth in 0..80_000_u64 {
            let at = origin + Duration::from_millis(100 * tenth);
            track.reach(position(tenth, 9 * tenth, 0), at);
            for name in &names {
                track.add(&Number {
                    name: *name,
                    at,
                    value: Ok(tenth as f64),
                    source: "/proc",
                });
            }
        }
        let kept = track.lock();
        let positions: usize = kept.positions.rings.iter().map(Ring::bytes).sum();
        let marks = kept.positions.marks.capacity() * size_of::<(Place, Instant)>();
        assert_eq!(kept.positions.marks.len(), MARKS);
        let waiting = kept.waiting.capacity() * size_of::<(Number, Option<Place>)>();
        let bytes = kept.group.bytes() + positions + marks + waiting + size_of::<Track>();
        assert!(bytes <= RANK_BYTES, "{bytes} bytes");
        assert!(
            bytes > RANK_BYTES / 2,
            "{bytes} bytes: all of it is counted"
        );
    }

    #[test]
    fn iterations_and_epochs_are_stretches_of_time() {
        let origin = Instant::now();
        let track = Track::new(origin);
        let clock = clock(origin);
        let start_us = clock.unix_us(origin);
        // Ten iterations a second, epochs of 100, seen from iteration 50 on.
        for tenth in 50..1000_u64 {
            let at = origin + Duration::from_millis(100 * tenth);
            track.reach(position(tenth / 100, tenth, tenth % 100), at);
            track.note(at);
        }
        let when = |of, from, to| {
            let stretch = track.positions(|positions| positions.when(of, from, to, clock))?;
            let ms = |us: i64| (us - start_us) / 1000;
            Some((stretch.from_us.map(ms), stretch.to_us.map(ms)))
        };
        // In the last minute exactly, before that by the second.
        assert_eq!(
            when(Of::Iters, Some(700), Some(799)),
            Some((Some(70_000), Some(80_100)))
        );
        assert_eq!(
            when(Of::Iters, Some(200), Some(299)),
            Some((Some(20_000), Some(31_000)))
        );
        assert_eq!(
            when(Of::Epochs, Some(2), Some(2)),
            Some((Some(20_000), Some(31_000)))
        );
        assert_eq!(when(Of::Iters, None, None), Some((None, None)));
        assert_eq!(
            when(Of::Iters, Some(0), Some(60)),
            Some((None, Some(7_000)))
        );
        assert_eq!(when(Of::Iters, Some(990), None), Some((Some(99_000), None)));
        assert_eq!(when(Of::Iters, Some(2000), None), None);
        // All of it was before this daemon looked.
        assert_eq!(when(Of::Iters, Some(1), Some(9)), Some((None, Some(0))));
        let at = |ms: i64| track.positions(|seen| seen.at(start_us + ms * 1000, clock));
        assert_eq!(at(80_050).map(|place| place.iter), Some(800));
        assert_eq!(
            at(20_050).map(|place| (place.epoch, place.iter)),
            Some((2, 209))
        );
        assert_eq!(at(-1), None);
        let marks: Vec<_> = track
            .marks(clock)
            .iter()
            .map(|mark| mark.place.iter)
            .collect();
        assert_eq!(marks, [100, 200, 300, 400, 500, 600, 700, 800, 900]);
    }
}
