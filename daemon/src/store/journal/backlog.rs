//! Changes that are said and not written, in order, and what goes of them where they are too many: the file takes nothing,
//! and memory is bounded.

use std::collections::{BTreeMap, VecDeque};

use super::change::{Change, DISK, Dropped, Kind, Unkept};

/// What one message brought, and its number.
struct Group {
    ticket: u64,
    changes: Vec<Change>,
    bytes: usize,
}

impl Group {
    /// Returns how much smaller it has become.
    fn count_again(&mut self) -> usize {
        let bytes = self.changes.iter().map(Change::bytes).sum();
        let before = std::mem::replace(&mut self.bytes, bytes);
        before - bytes
    }
}

/// What waits. It is written in one transaction, or handed on as one message.
pub(super) struct Backlog {
    groups: VecDeque<Group>,
    /// Hooks and the desired state, as they were said last: of what is written in one transaction only that would be left.
    /// They go after the events that led to them, so none of these is ever committed without them.
    standing: BTreeMap<(u32, Option<String>), Change>,
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
            standing: BTreeMap::new(),
            bytes: 0,
            most_bytes,
            unkept: None,
        }
    }

    /// Takes changes.
    pub(super) fn push(&mut self, ticket: u64, mut changes: Vec<Change>) {
        for change in changes.extract_if(.., |change| change.stands_for().is_some()) {
            let Some(what) = change.stands_for() else {
                continue;
            };
            self.bytes += change.bytes();
            if let Some(before) = self.standing.insert(what, change) {
                self.bytes -= before.bytes();
            }
        }
        // A group without changes is committed with the next one.
        let last = self.groups.back();
        if last.is_some_and(|group| group.changes.is_empty()) {
            self.groups.pop_back();
        }
        let bytes = changes.iter().map(Change::bytes).sum();
        self.bytes += bytes;
        self.groups.push_back(Group {
            ticket,
            changes,
            bytes,
        });
    }

    /// Rows that wait, about.
    pub(super) fn rows(&self) -> usize {
        self.changes().map(Change::rows).sum()
    }

    /// What they cost in memory, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
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
        waiting.chain(self.standing.values()).chain(&self.unkept)
    }

    /// The same, to be written elsewhere.
    pub(super) fn take(&mut self) -> Vec<Change> {
        let waiting = self.groups.drain(..).flat_map(|group| group.changes);
        let standing = std::mem::take(&mut self.standing).into_values();
        let changes = waiting.chain(standing).chain(self.unkept.take()).collect();
        self.bytes = 0;
        changes
    }

    /// Everything is written. Returns what had no room.
    pub(super) fn clear(&mut self) -> Unkept {
        self.groups.clear();
        self.standing.clear();
        self.bytes = 0;
        let unkept = self.unkept.take();
        unkept.and_then(|row| row.unkept()).unwrap_or_default()
    }

    /// The oldest goes: events become holes, numbers of memory and lines of the log that only tell are counted. Everything
    /// else is little, or there once, and stays.
    pub(super) fn make_room(&mut self) {
        if self.bytes <= self.most_bytes {
            return;
        }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use super::super::change::{Events, HookKept, ROW_BYTES};
    use super::*;
    use crate::domain::{DesiredState, Event, Names, Rank};

    const LARGE: usize = 1 << 20;

    fn change(attempt: u32, kind: Kind) -> Change {
        Change {
            attempt,
            at: Instant::now(),
            kind,
        }
    }

    fn hook(attempt: u32, name: &str, calls: u64) -> Change {
        let kept = HookKept::large(name, calls, LARGE);
        change(attempt, Kind::Hook(Box::new(kept)))
    }

    fn event(seq: u64) -> Change {
        let events = Events {
            rank: Rank(0),
            names: Arc::new(Names {
                points: vec!["p".into()],
                metrics: Vec::new(),
            }),
            events: vec![Event {
                seq,
                ..Event::default()
            }],
            clock_us: None,
            progress: Default::default(),
        };
        change(0, Kind::Events(Box::new(events)))
    }

    fn desired(generation: u64) -> Change {
        let state = DesiredState {
            generation,
            ..DesiredState::default()
        };
        change(0, Kind::Desired(Box::new(state), serde_json::Value::Null))
    }

    fn words<'a>(changes: impl IntoIterator<Item = &'a Change>) -> Vec<String> {
        let word = |change: &Change| match &change.kind {
            Kind::Events(events) => format!("event {}", events.events[0].seq),
            Kind::Hook(kept) => format!(
                "{} of {} after {}",
                kept.seen.name, change.attempt, kept.seen.calls
            ),
            Kind::Desired(state, _) => format!("generation {}", state.generation),
            Kind::Lost(_, hole, _) => format!("hole {} to {}", hole.first_seq, hole.last_seq),
            _ => "other".to_owned(),
        };
        changes.into_iter().map(word).collect()
    }

    fn counted(backlog: &Backlog) -> usize {
        backlog.changes().map(Change::bytes).sum()
    }

    #[test]
    fn a_hook_is_there_once_and_after_all_that_it_has_seen() {
        let mut backlog = Backlog::new(16 << 20);
        for n in 1..=100 {
            let changes = vec![hook(0, "b", n), event(n), desired(n), hook(0, "a", n)];
            backlog.push(n, changes);
        }
        backlog.push(101, vec![hook(1, "a", 1)]);
        let most = 3 * (LARGE + 2 * ROW_BYTES) + 101 * ROW_BYTES;
        assert!(backlog.bytes() > 3 * LARGE && backlog.bytes() < most);
        assert_eq!(backlog.bytes(), counted(&backlog));
        let all = words(backlog.changes());
        assert_eq!(all.len(), 104);
        assert_eq!(
            all[99..],
            [
                "event 100",
                "generation 100",
                "a of 0 after 100",
                "b of 0 after 100",
                "a of 1 after 1"
            ]
        );
        assert_eq!(backlog.last(), Some(101));
        assert_eq!(words(&backlog.take()), all, "another is handed the same");
        assert_eq!((backlog.bytes(), backlog.is_empty()), (0, true));
    }

    #[test]
    fn where_hooks_take_the_room_events_go_and_hooks_stay() {
        let mut backlog = Backlog::new(LARGE / 2);
        for n in 1..=100 {
            backlog.push(n, vec![event(n), hook(0, "a", n)]);
            backlog.make_room();
            assert_eq!(backlog.bytes(), counted(&backlog));
        }
        assert_eq!(
            words(backlog.changes()),
            ["hole 1 to 100", "a of 0 after 100"]
        );
        assert_eq!(backlog.last(), Some(100));
        backlog.clear();
        assert_eq!((backlog.bytes(), backlog.rows()), (0, 0));
    }

    #[test]
    fn what_says_nothing_but_a_hook_leaves_nothing_behind() {
        let mut backlog = Backlog::new(16 << 20);
        for n in 1..=100 {
            backlog.push(n, vec![hook(0, "a", n)]);
        }
        assert_eq!((backlog.groups.len(), backlog.last()), (1, Some(100)));
        assert!(!backlog.is_empty());
    }
}
