//! Batches that are not settled yet, as bytes. Bounded: when it is full the oldest batch goes, and becomes a hole whose
//! events are counted per point. One that was sent already is no hole until it is known that the daemon has not seen it.

use std::collections::VecDeque;

use bytes::Bytes;
use hookbus_proto::v1 as wire;

/// One batch as it goes over the wire.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) first_seq: u64,
    pub(crate) last_seq: u64,
    /// Events per point id, for the hole that it may become.
    pub(crate) points: Points,
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
    /// Of those at the front, what the daemon has taken: no longer under way, and kept until it is settled.
    taken: usize,
    /// Under way: sent, and not taken.
    sent_bytes: usize,
    /// The highest number that was ever sent.
    sent_seq: u64,
    settled: u64,
    /// Sent, let go for want of room, and not settled: first number, last number, points.
    let_go: VecDeque<(u64, u64, Points)>,
    /// Ascending.
    holes: Vec<wire::Hole>,
    dropped: u64,
}

/// Events per point id.
type Points = Vec<(u32, u64)>;

impl Retained {
    pub(crate) fn new(most_bytes: usize) -> Self {
        Self {
            batches: VecDeque::new(),
            bytes: 0,
            most_bytes,
            sent: 0,
            taken: 0,
            sent_bytes: 0,
            sent_seq: 0,
            settled: 0,
            let_go: VecDeque::new(),
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
            self.sent_seq = self.sent_seq.max(batch.last_seq);
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
        while self
            .let_go
            .front()
            .is_some_and(|(_, last_seq, _)| *last_seq <= self.settled)
        {
            self.let_go.pop_front();
        }
    }

    /// The daemon has everything up to `seq`, and has not settled all of it: it no longer counts as under way.
    pub(crate) fn take(&mut self, seq: u64) {
        while self.taken < self.sent && self.batches[self.taken].last_seq <= seq {
            self.sent_bytes -= self.batches[self.taken].frame.len();
            self.taken += 1;
        }
    }

    /// A daemon has said what it has, settled or not yet: what was let go beyond `taken` is lost. What it does not have was
    /// not sent, as far as this daemon goes.
    pub(crate) fn judge(&mut self, taken: u64) {
        while self
            .let_go
            .back()
            .is_some_and(|(_, last_seq, _)| *last_seq > taken)
        {
            if let Some((first_seq, last_seq, points)) = self.let_go.pop_back() {
                self.hole(first_seq, last_seq, points);
            }
        }
        self.sent_seq = taken;
    }

    /// A new connection: nothing is under way.
    pub(crate) fn rewind(&mut self) {
        self.sent = 0;
        self.taken = 0;
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

    /// The highest number that was ever sent.
    pub(crate) fn sent_seq(&self) -> u64 {
        self.sent_seq
    }

    /// Whether everything that is held is under way.
    pub(crate) fn all_sent(&self) -> bool {
        self.sent == self.batches.len()
    }

    fn drop_oldest(&mut self) {
        let Some(batch) = self.pop_front() else {
            return;
        };
        if batch.last_seq <= self.sent_seq {
            self.let_go
                .push_back((batch.first_seq, batch.last_seq, batch.points));
        } else {
            self.lose(batch);
        }
    }

    /// A batch becomes a hole. True: the holes have changed.
    pub(crate) fn lose(&mut self, batch: Batch) -> bool {
        self.hole(batch.first_seq, batch.last_seq, batch.points);
        true
    }

    /// Holes that touch become one, so that a long outage is one hole.
    fn hole(&mut self, first_seq: u64, last_seq: u64, points: Points) {
        self.dropped += last_seq + 1 - first_seq;
        let after = self
            .holes
            .partition_point(|hole| hole.first_seq < first_seq);
        self.holes.insert(
            after,
            wire::Hole {
                first_seq,
                last_seq,
                points: points.into_iter().collect(),
            },
        );
        self.join(after);
        if after > 0 {
            self.join(after - 1);
        }
    }

    /// Makes one hole of this one and the next, where they touch.
    fn join(&mut self, index: usize) {
        let touch = matches!(self.holes.get(index..index + 2), Some([one, next]) if one.last_seq + 1 == next.first_seq);
        if touch {
            let next = self.holes.remove(index + 1);
            let one = &mut self.holes[index];
            one.last_seq = next.last_seq;
            for (point, count) in next.points {
                *one.points.entry(point).or_default() += count;
            }
        }
    }

    fn pop_front(&mut self) -> Option<Batch> {
        let batch = self.batches.pop_front()?;
        self.bytes -= batch.frame.len();
        if self.sent > 0 {
            self.sent -= 1;
            if self.taken > 0 {
                self.taken -= 1;
            } else {
                self.sent_bytes -= batch.frame.len();
            }
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
    fn what_is_taken_is_kept_and_not_under_way() {
        let mut retained = Retained::new(1 << 20);
        let bytes = batch(1, 1).frame.len();
        for n in 1..=4 {
            retained.push(batch(n, n));
        }
        let send = |retained: &mut Retained| {
            while retained.unsent(2 * bytes).is_some() {
                retained.mark_sent();
            }
            retained.sent
        };
        assert_eq!(send(&mut retained), 2, "two may be under way");
        retained.take(1);
        assert_eq!(send(&mut retained), 3);
        retained.settle(1);
        assert_eq!((retained.sent, retained.taken), (2, 0));
        retained.take(3);
        assert_eq!((send(&mut retained), retained.taken), (3, 2));
        retained.settle(3);
        assert_eq!((retained.sent, retained.taken), (1, 0));
        retained.rewind();
        assert_eq!((retained.lowest(9), retained.sent_bytes), (4, 0));
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
    fn what_was_sent_and_let_go_is_a_hole_only_where_the_daemon_has_not_seen_it() {
        let mut retained = Retained::new(100);
        for seq in 1..=2 {
            retained.push(batch(seq, seq));
            retained.mark_sent();
        }
        for seq in 3..=6 {
            retained.push(batch(seq, seq)); // 1 and 2 were sent, 3 and 4 never were
        }
        assert_eq!((retained.dropped(), retained.holes().len()), (2, 1));
        retained.settle(1);
        retained.judge(1);
        let hole = &retained.holes()[0];
        assert_eq!((hole.first_seq, hole.last_seq), (2, 4));
        assert_eq!((hole.points.get(&5), retained.dropped()), (Some(&3), 3));
        assert_eq!(retained.holes().len(), 1);
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
