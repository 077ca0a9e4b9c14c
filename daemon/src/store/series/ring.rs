//! The newest slots of one resolution. Slots are numbered from a common origin, so that all series lie on one grid.

use std::collections::VecDeque;
use std::time::Duration;

/// Slots of a fixed length, the newest `most` of them.
#[derive(Debug)]
pub(super) struct Ring<T> {
    every: Duration,
    most: usize,
    slots: VecDeque<T>,
    /// The number after the newest slot's.
    next: u64,
    /// Something has fallen out.
    lost: bool,
}

impl<T: Copy> Ring<T> {
    /// Takes memory as it is needed, up to `most` slots.
    pub(super) fn new((every, most): (Duration, usize)) -> Self {
        Self {
            every,
            most,
            slots: VecDeque::new(),
            next: 0,
            lost: false,
        }
    }

    /// How long a slot is.
    pub(super) fn every(&self) -> Duration {
        self.every
    }

    /// The number of the slot that a time since the origin falls into.
    pub(super) fn number(&self, since: Duration) -> u64 {
        (since.as_nanos() / self.every.as_nanos()) as u64
    }

    /// When a slot begins, since the origin.
    pub(super) fn begins(&self, number: u64) -> Duration {
        let nanos = self.every.as_nanos() * u128::from(number);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// The slot with this number; those that were passed over become `gap`. None: it is older than all.
    pub(super) fn slot(&mut self, number: u64, gap: T) -> Option<&mut T> {
        if self.slots.is_empty() {
            self.next = number;
        }
        // Of a long silence only what fits is made.
        let first_kept = (number + 1).saturating_sub(self.most as u64);
        if self.next < first_kept && !self.slots.is_empty() {
            self.lost = true;
            self.slots.clear();
            self.next = first_kept;
        }
        while self.next <= number {
            if self.slots.len() == self.most {
                self.slots.pop_front();
                self.lost = true;
            } else if self.slots.len() == self.slots.capacity() {
                // Doubled, but never beyond what it may have.
                let more = self.slots.len().max(8).min(self.most - self.slots.len());
                self.slots.reserve_exact(more);
            }
            self.slots.push_back(gap);
            self.next += 1;
        }
        let at = number.checked_sub(self.first())?;
        self.slots.get_mut(at as usize)
    }

    /// The oldest slot's number.
    pub(super) fn first(&self) -> u64 {
        self.next - self.slots.len() as u64
    }

    /// The number after the newest slot's.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Something older was there.
    pub(super) fn lost(&self) -> bool {
        self.lost
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// With their numbers, from this one on, the oldest first.
    pub(super) fn from(&self, number: u64) -> impl Iterator<Item = (u64, &T)> {
        let first = self.first();
        let skip = number.saturating_sub(first).min(self.slots.len() as u64);
        let numbers = first + skip..;
        numbers.zip(self.slots.range(skip as usize..))
    }

    /// The newest.
    pub(super) fn last(&self) -> Option<&T> {
        self.slots.back()
    }

    /// The newest at or before this number.
    pub(super) fn at(&self, number: u64) -> Option<&T> {
        let number = number.min(self.next.checked_sub(1)?);
        self.slots.get(number.checked_sub(self.first())? as usize)
    }

    /// What it takes.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<T>() + size_of::<Self>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_stay_and_gaps_are_filled() {
        let mut ring = Ring::new((Duration::from_millis(100), 4));
        assert_eq!(ring.number(Duration::from_millis(299)), 2);
        let number = ring.number(Duration::from_millis(300));
        assert_eq!((number, ring.begins(3)), (3, Duration::from_millis(300)));
        *ring.slot(7, '-').unwrap() = 'a';
        *ring.slot(9, '-').unwrap() = 'b';
        *ring.slot(8, '-').unwrap() = 'c';
        let seen = |ring: &Ring<char>, from| -> Vec<_> {
            ring.from(from).map(|(at, slot)| (at, *slot)).collect()
        };
        assert_eq!(seen(&ring, 0), [(7, 'a'), (8, 'c'), (9, 'b')]);
        assert_eq!(seen(&ring, 9), [(9, 'b')]);
        assert!(!ring.lost());
        assert_eq!(ring.slot(6, '-'), None);
        *ring.slot(11, '-').unwrap() = 'd';
        assert_eq!(seen(&ring, 0), [(8, 'c'), (9, 'b'), (10, '-'), (11, 'd')]);
        assert!(ring.lost());
        assert_eq!(
            (ring.at(99), ring.at(9), ring.at(7)),
            (Some(&'d'), Some(&'b'), None)
        );
        *ring.slot(1_000_000_000, '-').unwrap() = 'e';
        assert_eq!(ring.first(), 999_999_997);
        assert_eq!(ring.slots.len(), 4);
        assert!(ring.slots.capacity() <= 4);
    }
}
