//! Changes that are said and not written, in order, and what goes of them where they are too many: the file takes nothing,
//! and memory is bounded.

use std::collections::{BTreeMap, HashSet, VecDeque};

use super::change::{Change, DISK, Dropped, Kind, Unkept};

/// What one event costs in memory, with what it carries; other changes are taken for as much.
pub(super) const ROW_BYTES: usize = 200;

/// What one message brought, and its number.
struct Group {
    ticket: u64,
    changes: Vec<Change>,
    bytes: usize,
}

impl Group {
    /// Returns how much smaller it has become.
    fn count_again(&mut self) -> usize {
        let bytes = self.changes.iter().map(bytes_of).sum();
        let before = std::mem::replace(&mut self.bytes, bytes);
        before - bytes
    }
}

/// What waits.
pub(super) struct Backlog {
    groups: VecDeque<Group>,
    bytes: usize,
    most_bytes: usize,
    /// What had no room, as the row that says so.
    unkept: Option<Change>,
}

impl Backlog {
    /// Holds so much, where [`Backlog::make_room`] is called.
    pub(super) fn new(most_bytes: usize) -> Self {
        Self {
            groups: VecDeque::new(),
            bytes: 0,
            most_bytes,
            unkept: None,
        }
    }

    /// Takes changes.
    pub(super) fn push(&mut self, ticket: u64, changes: Vec<Change>) {
        let bytes = changes.iter().map(bytes_of).sum();
        self.bytes += bytes;
        self.groups.push_back(Group {
            ticket,
            changes,
            bytes,
        });
    }

    /// Rows that wait, about.
    pub(super) fn rows(&self) -> usize {
        self.bytes / ROW_BYTES
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The number of the last message that waits.
    pub(super) fn last(&self) -> Option<u64> {
        self.groups.back().map(|group| group.ticket)
    }

    /// In order, and how many had no room.
    pub(super) fn changes(&self) -> impl Iterator<Item = &Change> {
        let waiting = self.groups.iter().flat_map(|group| &group.changes);
        waiting.chain(&self.unkept)
    }

    /// The same, to be written elsewhere.
    pub(super) fn take(&mut self) -> Vec<Change> {
        let waiting = self.groups.drain(..).flat_map(|group| group.changes);
        let changes = waiting.chain(self.unkept.take()).collect();
        self.bytes = 0;
        changes
    }

    /// Everything is written. Returns what had no room.
    pub(super) fn clear(&mut self) -> Unkept {
        self.groups.clear();
        self.bytes = 0;
        let unkept = self.unkept.take();
        unkept.and_then(|row| row.unkept()).unwrap_or_default()
    }

    /// What is said again later goes, then the oldest: events become holes, numbers of memory and lines of the log that only
    /// tell are counted. Everything else is little and stays.
    pub(super) fn make_room(&mut self) {
        if self.bytes <= self.most_bytes {
            return;
        }
        self.drop_said_again();
        let mut at = 0;
        while self.bytes > self.most_bytes && at < self.groups.len() {
            self.give_up(at);
            at += 1;
        }
        self.join_holes();
        // A group without changes is committed with the next one that has some.
        if let Some(last) = self.last() {
            self.groups
                .retain(|group| !group.changes.is_empty() || group.ticket == last);
        }
    }

    fn give_up(&mut self, at: usize) {
        let group = &mut self.groups[at];
        let mut kept = Vec::with_capacity(group.changes.len());
        for mut change in std::mem::take(&mut group.changes) {
            change.give_events_up();
            if let Some(more) = change.unkept() {
                let before = self.unkept.as_ref().and_then(Change::unkept);
                change.kind = Kind::Unkept(before.unwrap_or_default() + more);
                self.unkept = Some(change);
            } else {
                kept.push(change);
            }
        }
        group.changes = kept;
        self.bytes -= group.count_again();
    }

    /// Of hooks and the desired state only the latest counts.
    fn drop_said_again(&mut self) {
        let mut later = HashSet::new();
        for group in self.groups.iter_mut().rev() {
            let changes = std::mem::take(&mut group.changes);
            let mut kept: Vec<_> = changes
                .into_iter()
                .rev()
                .filter(|change| match &change.kind {
                    Kind::Hook(hook) => later.insert((change.attempt, hook.seen.name.clone())),
                    Kind::Desired(..) => later.insert((change.attempt, String::new())),
                    _ => true,
                })
                .collect();
            kept.reverse();
            group.changes = kept;
            self.bytes -= group.count_again();
        }
    }

    /// Holes that touch become one, so that a long outage stays small.
    fn join_holes(&mut self) {
        let mut last: BTreeMap<_, (usize, usize)> = BTreeMap::new();
        for at in 0..self.groups.len() {
            for n in 0..self.groups[at].changes.len() {
                let change = &self.groups[at].changes[n];
                let attempt = change.attempt;
                let (rank, here) = match &change.kind {
                    Kind::Lost(rank, here, _) => (*rank, here.clone()),
                    Kind::Events(events) => {
                        last.remove(&(attempt, events.rank));
                        continue;
                    }
                    _ => continue,
                };
                let before = last.insert((attempt, rank), (at, n));
                let Some((was_at, was_n)) = before else {
                    continue;
                };
                let Kind::Lost(_, was, _) = &mut self.groups[was_at].changes[was_n].kind else {
                    continue;
                };
                if was.last_seq + 1 != here.first_seq || was.why != here.why {
                    continue;
                }
                let joined = join(std::mem::replace(was, nothing(was.first_seq)), here);
                if let Kind::Lost(_, hole, _) = &mut self.groups[at].changes[n].kind {
                    *hole = joined;
                }
            }
        }
        for group in &mut self.groups {
            let is_joined = |change: &Change| matches!(&change.kind, Kind::Lost(_, dropped, _) if dropped.points.is_empty());
            group.changes.retain(|change| !is_joined(change));
            self.bytes -= group.count_again();
        }
    }
}

fn bytes_of(change: &Change) -> usize {
    ROW_BYTES * change.rows()
}

fn nothing(seq: u64) -> Dropped {
    Dropped {
        first_seq: seq,
        last_seq: seq,
        points: Vec::new(),
        why: DISK,
    }
}

fn join(first: Dropped, second: Dropped) -> Dropped {
    let mut points: BTreeMap<_, u64> = first.points.into_iter().collect();
    for (point, count) in second.points {
        *points.entry(point).or_default() += count;
    }
    Dropped {
        first_seq: first.first_seq,
        last_seq: second.last_seq,
        points: points.into_iter().collect(),
        why: DISK,
    }
}
