//! What of a run goes to its journal, and what comes back: that it is committed, or that it is not.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use super::{Attached, IncidentKind, Kind, OrderUpdate, Phase, Run, Updates, Verdict, What};
use crate::bus::answers::Cause;
use crate::bus::samples;
use crate::domain::{Event, Hello, Names, Outcome, Position, Rank};
use crate::snapshot::AttemptSeen;
use crate::store::journal::{Change, Dropped, Events};

/// After so many events that are taken and not settled, the client is told that they are taken.
const TELL_TAKEN: u64 = 4096;

/// Of the ranks that wait to be told, the share that is told at once, and how many they are at least.
const SHARES: usize = 24;
const LEAST_SHARE: usize = 4;

/// While nothing is written, of more than this only the last of each rank waits.
const WAITING: usize = 4096;

/// Where in the memo of the desired state it is who has decided what where.
pub(super) const CLAIMS: &str = "claims";

/// What waits to be said, and to be answered.
#[derive(Default)]
pub(super) struct Kept {
    changes: Vec<Change>,
    /// How many rows they make, about.
    rows: usize,
    /// Settled when what is said now is committed.
    due: Vec<(Rank, u64)>,
    /// By the journal's number.
    waiting: VecDeque<(u64, Rank, u64)>,
    /// Who is still to hear how far it is settled or taken.
    unheard: BTreeSet<Rank>,
    /// Whose turn it is among them: the first from here on.
    heard: u32,
    /// A rank has so much that is taken and not settled that it is to be told.
    much_taken: bool,
    /// What operators are told when what is said now is committed.
    told: Vec<(Updates, OrderUpdate)>,
    /// By the journal's number.
    telling: VecDeque<(u64, Updates, OrderUpdate)>,
    /// As they were written last; None: not yet in this attempt.
    revision: Option<u64>,
    phase: Option<(Phase, String)>,
    attempt: Option<(u32, u32, Option<u32>)>,
}

impl Kept {
    /// What is still to be said of the attempt before comes first.
    pub(super) fn next_attempt(self) -> Self {
        Self {
            changes: self.changes,
            rows: self.rows,
            told: self.told,
            telling: self.telling,
            ..Self::default()
        }
    }

    /// Of a run that was read from its file: so far nothing is new.
    pub(super) fn restored(
        revision: u64,
        phase: Phase,
        reason: String,
        attempt: (u32, u32, Option<u32>),
    ) -> Self {
        Self {
            revision: Some(revision),
            phase: Some((phase, reason)),
            attempt: Some(attempt),
            ..Self::default()
        }
    }
}

impl Run {
    pub(super) fn write(&mut self, at: Instant, kind: Kind) {
        let change = Change {
            attempt: self.attempt,
            at,
            kind,
        };
        self.kept.rows += change.rows();
        self.kept.changes.push(change);
    }

    /// Something that followers hear and that is written down.
    pub(super) fn happened(
        &mut self,
        now: Instant,
        rank: Option<Rank>,
        position: Position,
        point: &str,
        what: What,
    ) {
        let kind = Kind::Log {
            rank,
            position,
            point: point.into(),
            what: what.clone(),
        };
        self.write(now, kind);
        self.followers.tell(now, rank, position, point, what);
    }

    pub(super) fn write_cause(&mut self, id: &str, cause: &Cause, ahead: bool, now: Instant) {
        let kind = Kind::Cause {
            id: id.to_owned(),
            by: cause.by.clone(),
            what: cause.what.to_string(),
            reason: cause.reason.clone(),
            ahead,
        };
        self.write(now, kind);
    }

    pub(super) fn write_attempt(&mut self, now: Instant) {
        let attempt = (self.attempt, self.world_size, self.uid);
        if self.kept.attempt != Some(attempt) {
            self.kept.attempt = Some(attempt);
            let kind = Kind::Attempt {
                started: self.started,
                world_size: self.world_size,
                counted: self.counted,
                uid: self.uid,
            };
            self.write(now, kind);
        }
    }

    pub(super) fn write_attached(
        &mut self,
        hello: &Hello,
        process: Option<(u32, u64)>,
        verdict: Verdict,
        now: Instant,
    ) {
        let rank = hello.rank;
        let attached = Attached {
            hello: hello.clone(),
            process,
            settled: hello.next_seq.saturating_sub(1),
        };
        self.write(now, Kind::Rank(Box::new(attached)));
        if verdict == Verdict::Lost {
            let elsewhere = Dropped::elsewhere(1, hello.next_seq - 1);
            self.write(now, Kind::Lost(rank, elsewhere, None));
        }
    }

    pub(super) fn write_facts(&mut self, now: Instant) {
        let facts = Box::new(self.facts.clone());
        self.write(now, Kind::Facts(facts));
        self.tell_providers_facts(now);
    }

    pub(super) fn write_holes(&mut self, rank: Rank, now: Instant) {
        if let Some(member) = self.members.get(&rank) {
            let holes = member.dropped();
            self.write(now, Kind::Holes(rank, holes));
        }
    }

    /// New events, already seen by the hooks. They are settled when this is committed.
    pub(super) fn keep_events(
        &mut self,
        rank: Rank,
        names: Arc<Names>,
        events: Vec<Event>,
        now: Instant,
    ) {
        let started = self.started;
        let Some(member) = self.members.get_mut(&rank) else {
            return;
        };
        if events.is_empty() {
            // All of it was seen before: what is settled of it may be forgotten.
            member.acknowledge();
            return;
        }
        let clock_us = events.last().map(|last| {
            let here = now.saturating_duration_since(started).as_micros() as i64;
            let late = here - last.at.as_micros() as i64;
            // A batch that was under way for far less time knows better; otherwise steps keep their lengths.
            let better = member.clock_us.is_none_or(|known| late < known - 1_000_000);
            *member.clock_us.insert(if better {
                late
            } else {
                member.clock_us.unwrap_or(late)
            })
        });
        member.unsettled += events.len() as u64;
        self.kept.much_taken |= member.unsettled >= TELL_TAKEN;
        let settled = member.intake.settled();
        let events = Events {
            rank,
            names,
            events,
            clock_us,
            progress: member.progress(),
        };
        self.write(now, Kind::Events(Box::new(events)));
        self.kept.due.push((rank, settled));
    }

    /// How far a rank is, without events.
    pub(super) fn keep_progress(&mut self, rank: Rank, now: Instant) {
        let Some(member) = self.members.get(&rank) else {
            return;
        };
        let events = Events {
            rank,
            names: Arc::clone(&member.names),
            events: Vec::new(),
            clock_us: member.clock_us,
            progress: member.progress(),
        };
        self.write(now, Kind::Events(Box::new(events)));
    }

    /// Commands that a rank has not answered, and will not.
    pub(super) fn write_expired(&mut self, rank: Rank, now: Instant) {
        let waiting: Vec<_> = self.steering.pending(rank).cloned().collect();
        for command in waiting {
            self.write(now, Kind::Answered(rank, command.id, Outcome::Expired));
        }
    }

    /// The attempt is over, for another one begins: what is open of it is closed.
    pub(super) fn close_attempt(&mut self, next: u32, now: Instant) {
        if self.members.is_empty() {
            return;
        }
        let why = format!("superseded by attempt {next}");
        let open: Vec<_> = self
            .members
            .iter()
            .filter(|(_, member)| member.ended.is_none())
            .map(|(rank, _)| *rank)
            .collect();
        for rank in open {
            self.lifecycle(rank, why.clone(), now);
            self.write(now, Kind::Ended(rank, Some(why.clone())));
            self.keep_progress(rank, now);
            if let Some(member) = self.members.get_mut(&rank) {
                member.ended = Some(why.clone());
            }
            self.lost.get_or_insert_with(|| why.clone());
            self.write_expired(rank, now);
        }
        let incidents = self.incidents.all().into_iter();
        let incidents: Vec<_> = incidents.filter(|(incident, _)| incident.open).collect();
        for (incident, _) in incidents {
            self.close_incident(&incident.id, now);
        }
        self.note_phase(now);
        self.write_standing(now);
        self.before.push(AttemptSeen {
            attempt: self.attempt,
            phase: self.phase(),
            reason: self.reason(),
            started: self.started,
            ended: self.over,
            position: self
                .members
                .values()
                .map(|member| member.position)
                .max()
                .unwrap_or_default(),
        });
    }

    /// Where the attempt is in its life, as far as that has changed.
    pub(in crate::bus) fn note_phase(&mut self, now: Instant) {
        if self.members.is_empty() {
            return;
        }
        let phase = (self.phase(), self.reason());
        if phase.0 == Phase::Running {
            self.over = None;
        } else {
            self.over.get_or_insert(now);
        }
        if self.kept.phase.as_ref() != Some(&phase) {
            self.kept.phase = Some(phase.clone());
            self.write(now, Kind::Phase(phase.0, phase.1));
        }
    }

    /// Memory as it is now, in the journal. False: nobody is here whose it could be.
    pub(in crate::bus) fn sample(&mut self, live: &crate::store::Live, now: Instant) -> bool {
        if self.is_over() || self.archived || self.members.is_empty() {
            return false;
        }
        let position = self
            .members
            .values()
            .next()
            .map(|member| member.position)
            .unwrap_or_default();
        let mut samples = samples::of(live, position);
        for member in self.members.values() {
            if let Some(tracked) = member.tracked().filter(|_| member.ended.is_none()) {
                samples.extend(samples::of_rank(live, member, tracked));
            }
        }
        for sample in samples {
            self.write(now, Kind::Sample(Box::new(sample)));
        }
        true
    }

    /// Everything since the last time, for the journal.
    pub(in crate::bus) fn take_changes(&mut self, now: Instant) -> Vec<Change> {
        self.note_phase(now);
        self.write_standing(now);
        self.kept.rows = 0;
        std::mem::take(&mut self.kept.changes)
    }

    /// The hooks and the desired state as they stand now, as far as that has changed.
    fn write_standing(&mut self, now: Instant) {
        if self.members.is_empty() {
            return;
        }
        let (changed, failed) = self.roster.changed();
        self.report_failed(failed, now);
        for hook in changed {
            self.write(now, Kind::Hook(Box::new(hook)));
        }
        let revision = Some(self.desired.revision() + self.claims.revision());
        if self.kept.revision != revision {
            self.kept.revision = revision;
            let state = Box::new(self.desired.state().clone());
            let mut memo = self.desired.memo();
            let claims = self.claims.kept();
            if !claims.is_null() {
                memo[CLAIMS] = claims;
            }
            self.write(now, Kind::Desired(state, memo));
        }
    }

    /// Rows that wait to be handed on, about.
    pub(in crate::bus) fn unsaid_rows(&self) -> usize {
        self.kept.rows
    }

    /// The changes have this number in the journal.
    pub(in crate::bus) fn appended(&mut self, ticket: u64) {
        let due = self.kept.due.drain(..);
        self.kept
            .waiting
            .extend(due.map(|(rank, settled)| (ticket, rank, settled)));
        if self.journal_stopped.is_some() && self.kept.waiting.len() > WAITING {
            let waiting = self.kept.waiting.drain(..);
            let last: BTreeMap<_, _> = waiting
                .map(|(ticket, rank, settled)| (rank, (ticket, settled)))
                .collect();
            self.kept.waiting = last
                .into_iter()
                .map(|(rank, (ticket, settled))| (ticket, rank, settled))
                .collect();
            let by_ticket = self.kept.waiting.make_contiguous();
            by_ticket.sort_unstable_by_key(|(ticket, ..)| *ticket);
        }
        let told = self.kept.told.drain(..);
        self.kept
            .telling
            .extend(told.map(|(operator, update)| (ticket, operator, update)));
    }

    #[cfg(test)]
    pub(in crate::bus) fn waiting(&self) -> usize {
        self.kept.waiting.len()
    }

    /// Tells operators what became of their orders: once it is committed, so that what one was told is so after a restart.
    pub(super) fn tell(&mut self, updates: Vec<(Updates, OrderUpdate)>) {
        self.kept.told.extend(updates);
    }

    /// Whether operators are to be told something that was not handed to the journal yet.
    pub(in crate::bus) fn has_told(&self) -> bool {
        !self.kept.told.is_empty()
    }

    /// Tells operators what waits up to this number of the journal's.
    pub(in crate::bus) fn tell_up_to(&mut self, ticket: u64) {
        let telling = &mut self.kept.telling;
        while telling.front().is_some_and(|(at, ..)| *at <= ticket) {
            if let Some((_, operator, update)) = telling.pop_front()
                && operator.try_send(Ok(update)).is_err()
            {
                tracing::warn!(run = %self.id, "an operator's update was dropped: it does not read, or it left");
            }
        }
    }

    /// Everything up to this number is in the file: what it settles is acknowledged.
    pub(in crate::bus) fn committed(&mut self, ticket: u64) {
        self.tell_up_to(ticket);
        let mut settled = BTreeMap::new();
        while self
            .kept
            .waiting
            .front()
            .is_some_and(|(at, _, _)| *at <= ticket)
        {
            if let Some((_, rank, seq)) = self.kept.waiting.pop_front() {
                settled.insert(rank, seq);
            }
        }
        for (rank, seq) in settled {
            if let Some(member) = self.members.get_mut(&rank) {
                member.settled = member.settled.max(seq);
                member.unsettled = 0;
                member.touch();
                self.kept.unheard.insert(rank);
            }
        }
    }

    /// Says to some of the ranks that wait for it how far they are settled and taken: to a share of them, so that they do not
    /// all wake at once. True: others are still to hear it.
    pub(in crate::bus) fn acknowledge(&mut self) -> bool {
        let Kept { unheard, heard, .. } = &mut self.kept;
        for _ in 0..unheard.len().div_ceil(SHARES).max(LEAST_SHARE) {
            // In turn: who was told last is told last again.
            let next = unheard
                .range(Rank(*heard)..)
                .next()
                .or(unheard.first())
                .copied();
            let Some(rank) = next else { break };
            unheard.remove(&rank);
            *heard = rank.0.saturating_add(1);
            if let Some(member) = self.members.get_mut(&rank) {
                member.acknowledge();
            }
        }
        !unheard.is_empty()
    }

    /// What is taken and not settled no longer counts as under way, unless the journal is behind: then the clients wait.
    pub(in crate::bus) fn tell_taken(&mut self, all: bool) {
        if !all && !std::mem::take(&mut self.kept.much_taken) {
            return;
        }
        for (rank, member) in &mut self.members {
            if member.unsettled >= TELL_TAKEN || (all && member.unsettled > 0) {
                member.unsettled = 0;
                self.kept.unheard.insert(*rank);
            }
        }
    }

    /// The journal cannot be written, or can again.
    pub(in crate::bus) fn journal_trouble(&mut self, trouble: Option<&str>, now: Instant) {
        self.journal_stopped = trouble.map(str::to_owned);
        if self.members.is_empty() {
            return; // said when one comes
        }
        let id = format!("journal/{}", self.attempt);
        match trouble {
            Some(why) => {
                let text = format!(
                    "nothing is written down or acknowledged: {why}; the training and the live view go on"
                );
                let kind = IncidentKind::JournalStopped;
                self.open_incident(id, kind, text, None, Position::default(), now);
            }
            None => self.close_incident(&id, now),
        }
    }

    /// A journal that was there could not be used.
    pub(in crate::bus) fn journal_set_aside(&mut self, line: String, now: Instant) {
        let kind = IncidentKind::JournalSetAside;
        let id = format!("journal_set_aside/{}", self.attempt);
        self.open_incident(id, kind, line, None, Position::default(), now);
    }
}
