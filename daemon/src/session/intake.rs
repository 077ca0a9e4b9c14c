//! The order of one session's events: every number counts once, and a gap is a counted hole.

use std::collections::BTreeMap;

use crate::domain::Hole;

/// What part of a batch is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// So many events at the front were seen before.
    pub skip: usize,
    /// Numbers between what was seen and this batch: the client dropped them, its Holes frame says which points.
    pub gap: u64,
}

/// Which numbers of a session were seen.
#[derive(Clone, Debug, Default)]
pub struct Intake {
    next: u64,
    holes: BTreeMap<u64, Hole>,
}

impl Intake {
    /// A session whose first number will be `next_seq` (numbers begin at 1).
    pub fn new(next_seq: u64) -> Self {
        Self {
            next: next_seq.max(1),
            holes: BTreeMap::new(),
        }
    }

    /// The highest number that is settled: seen, or in a gap before one that was seen.
    pub fn settled(&self) -> u64 {
        self.next - 1
    }

    /// Takes `count` events from `first_seq` on.
    pub fn take(&mut self, first_seq: u64, count: usize) -> Taken {
        let end = first_seq.saturating_add(count as u64);
        if end <= self.next {
            return Taken {
                skip: count,
                gap: 0,
            };
        }
        let skip = usize::try_from(self.next.saturating_sub(first_seq)).unwrap_or(count);
        let gap = first_seq.saturating_sub(self.next);
        self.next = end;
        Taken { skip, gap }
    }

    /// The client's holes, cumulative: the latest wins.
    pub fn set_holes(&mut self, holes: Vec<Hole>) {
        self.holes = holes
            .into_iter()
            .map(|hole| (hole.first_seq, hole))
            .collect();
    }

    /// The client's holes, in their order.
    pub fn holes(&self) -> impl Iterator<Item = &Hole> {
        self.holes.values()
    }

    /// Of `count` numbers from `first_seq` on, those in no hole of the client: (first, last).
    pub fn unsaid(&self, first_seq: u64, count: u64) -> Vec<(u64, u64)> {
        let end = first_seq.saturating_add(count);
        let mut spans = Vec::new();
        let mut next = first_seq;
        for hole in self.holes.values().filter(|hole| hole.first_seq < end) {
            if hole.first_seq > next {
                spans.push((next, hole.first_seq - 1));
            }
            next = next.max(hole.last_seq.saturating_add(1));
        }
        if next < end {
            spans.push((next, end - 1));
        }
        spans
    }

    /// Dropped events by point id.
    pub fn dropped(&self) -> BTreeMap<u32, u64> {
        let mut by_point = BTreeMap::new();
        for (point, count) in self.holes.values().flat_map(|hole| &hole.points) {
            *by_point.entry(*point).or_default() += count;
        }
        by_point
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_counts_once() {
        let mut intake = Intake::new(1);
        assert_eq!(intake.take(1, 3), Taken { skip: 0, gap: 0 });
        assert_eq!(intake.settled(), 3);
        assert_eq!(
            intake.take(1, 3),
            Taken { skip: 3, gap: 0 },
            "a replayed batch is old"
        );
        assert_eq!(
            intake.take(2, 4),
            Taken { skip: 2, gap: 0 },
            "a replay that overlaps is new from 4 on"
        );
        assert_eq!(
            intake.take(10, 1),
            Taken { skip: 0, gap: 4 },
            "6 to 9 were dropped"
        );
        assert_eq!(intake.settled(), 10);
    }

    #[test]
    fn holes_are_cumulative_and_counted_per_point() {
        let mut intake = Intake::new(1);
        let hole = |first_seq, last_seq, count| Hole {
            first_seq,
            last_seq,
            points: BTreeMap::from([(5, count)]),
        };
        intake.set_holes(vec![hole(1, 4, 4)]);
        intake.set_holes(vec![hole(1, 4, 4), hole(9, 10, 2)]);
        assert_eq!(intake.dropped(), BTreeMap::from([(5, 6)]));
        assert_eq!(intake.unsaid(1, 10), [(5, 8)]);
        assert_eq!(intake.unsaid(3, 4), [(5, 6)]);
        assert_eq!(intake.unsaid(11, 2), [(11, 12)]);
        assert_eq!(intake.unsaid(9, 0), []);
    }
}
