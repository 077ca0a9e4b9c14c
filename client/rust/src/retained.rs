//! Batches that are not settled yet, as bytes. Bounded: when it is full the oldest batch goes, and becomes a hole whose
//! events are counted per point.

use std::collections::VecDeque;

use bytes::Bytes;
use hookbus_proto::v1 as wire;

/// One batch as it goes over the wire.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) first_seq: u64,
    pub(crate) last_seq: u64,
    /// Events per point id, for the hole that it may become.
    pub(crate) points: Vec<(u32, u64)>,
    /// A whole ClientFrame.
    pub(crate) frame: Bytes,
}

#[derive(Debug)]
pub(crate) struct Retained {
    batches: VecDeque<Batch>,
    bytes: usize,
    most_bytes: usize,
    /// Batches at the front that were sent on the present connection.
    sent: usize,
    sent_bytes: usize,
    settled: u64,
    holes: Vec<wire::Hole>,
    dropped: u64,
}

impl Retained {
    pub(crate) fn new(most_bytes: usize) -> Self {
        Self {
            batches: VecDeque::new(),
            bytes: 0,
            most_bytes,
            sent: 0,
            sent_bytes: 0,
            settled: 0,
            holes: Vec::new(),
            dropped: 0,
        }
    }

    /// Keeps a batch. True: an older one had to go, so the holes have changed.
    pub(crate) fn push(&mut self, batch: Batch) -> bool {
        self.bytes += batch.frame.len();
        self.batches.push_back(batch);
        let mut dropped = false;
        // The newest batch stays, whatever its size.
        while self.bytes > self.most_bytes && self.batches.len() > 1 {
            self.drop_oldest();
            dropped = true;
        }
        dropped
    }

    /// The next batch to send, if so many bytes may be under way.
    pub(crate) fn unsent(&self, in_flight_bytes: usize) -> Option<&Batch> {
        let next = self.batches.get(self.sent)?;
        (self.sent_bytes == 0 || self.sent_bytes + next.frame.len() <= in_flight_bytes)
            .then_some(next)
    }

    /// The batch that `unsent` gave is under way.
    pub(crate) fn mark_sent(&mut self) {
        if let Some(batch) = self.batches.get(self.sent) {
            self.sent_bytes += batch.frame.len();
            self.sent += 1;
        }
    }

    /// Everything up to `seq` is settled.
    pub(crate) fn settle(&mut self, seq: u64) {
        self.settled = self.settled.max(seq);
        while self
            .batches
            .front()
            .is_some_and(|batch| batch.last_seq <= self.settled)
        {
            self.pop_front();
        }
    }

    /// A new connection: nothing is under way.
    pub(crate) fn rewind(&mut self) {
        self.sent = 0;
        self.sent_bytes = 0;
    }

    /// The lowest number that is still held, or the next one.
    pub(crate) fn lowest(&self, next_seq: u64) -> u64 {
        self.batches
            .front()
            .map_or(next_seq, |batch| batch.first_seq)
    }

    pub(crate) fn holes(&self) -> &[wire::Hole] {
        &self.holes
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn settled(&self) -> u64 {
        self.settled
    }

    /// Whether everything that is held is under way.
    pub(crate) fn all_sent(&self) -> bool {
        self.sent == self.batches.len()
    }

    fn drop_oldest(&mut self) {
        if let Some(batch) = self.pop_front() {
            self.lose(batch);
        }
    }

    /// A batch becomes a hole. True: the holes have changed.
    pub(crate) fn lose(&mut self, batch: Batch) -> bool {
        self.dropped += batch.last_seq + 1 - batch.first_seq;
        // Holes that touch become one, so that a long outage is one hole.
        match self
            .holes
            .last_mut()
            .filter(|hole| hole.last_seq + 1 == batch.first_seq)
        {
            Some(hole) => hole.last_seq = batch.last_seq,
            None => self.holes.push(wire::Hole {
                first_seq: batch.first_seq,
                last_seq: batch.last_seq,
                points: Default::default(),
            }),
        }
        let hole = self.holes.last_mut().expect("one was just made sure of");
        for (point, count) in batch.points {
            *hole.points.entry(point).or_default() += count;
        }
        true
    }

    fn pop_front(&mut self) -> Option<Batch> {
        let batch = self.batches.pop_front()?;
        self.bytes -= batch.frame.len();
        if self.sent > 0 {
            self.sent -= 1;
            self.sent_bytes -= batch.frame.len();
        }
        Some(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(first_seq: u64, last_seq: u64) -> Batch {
        Batch {
            first_seq,
            last_seq,
            points: vec![(5, last_seq + 1 - first_seq)],
            frame: Bytes::from(vec![0; 40]),
        }
    }

    #[test]
    fn the_oldest_goes_and_is_counted() {
        let mut retained = Retained::new(100);
        assert!(!retained.push(batch(1, 3)));
        assert!(!retained.push(batch(4, 4)));
        assert!(retained.push(batch(5, 9)));
        assert!(retained.push(batch(10, 10)));
        assert_eq!(
            (
                retained.dropped(),
                retained.holes().len(),
                retained.lowest(11)
            ),
            (4, 1, 5)
        );
        let hole = &retained.holes()[0];
        assert_eq!(
            (hole.first_seq, hole.last_seq, hole.points.get(&5)),
            (1, 4, Some(&4))
        );
    }

    #[test]
    fn what_is_settled_is_forgotten_and_a_new_connection_begins_at_the_rest() {
        let mut retained = Retained::new(1000);
        for seq in 1..=4 {
            retained.push(batch(seq, seq));
        }
        while retained.unsent(80).is_some() {
            retained.mark_sent();
        }
        assert_eq!(
            retained.unsent(1000).map(|batch| batch.first_seq),
            Some(3),
            "80 bytes are two batches"
        );
        retained.settle(1);
        assert_eq!(retained.unsent(80).map(|batch| batch.first_seq), Some(3));
        retained.rewind();
        assert_eq!(retained.unsent(80).map(|batch| batch.first_seq), Some(2));
        retained.settle(4);
        assert_eq!(
            (retained.lowest(5), retained.bytes(), retained.settled()),
            (5, 0, 4)
        );
        assert!(retained.unsent(80).is_none());
    }
}
