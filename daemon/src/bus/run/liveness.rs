//! Signs of life, silence, goodbyes and losses.

use std::time::Instant;

use super::{Link, Run};
use crate::domain::{Heartbeat, Hole, IncidentKind, Position, Rank};
use crate::store::journal::Kind;

impl Run {
    pub(in crate::bus) fn heartbeat(&mut self, link: Link, heartbeat: Heartbeat, now: Instant) {
        if let Some(member) = self.live(link, now) {
            if heartbeat.position > member.position {
                member.position = heartbeat.position;
            }
            if let Some(memory) = &heartbeat.memory {
                member.saw_own(memory.clone(), now);
            }
            member.heartbeat = heartbeat;
            member.touch();
        }
    }

    pub(in crate::bus) fn holes(&mut self, link: Link, holes: Vec<Hole>, now: Instant) {
        if let Some(member) = self.live(link, now) {
            let dropped: u64 = holes.iter().flat_map(|hole| hole.points.values()).sum();
            tracing::warn!(rank = %link.rank, dropped, "the client's buffer was full; events were dropped");
            member.intake.set_holes(holes);
            member.dropped_before.clear();
            self.write_holes(link.rank, now);
        }
    }

    /// A rank ends on purpose.
    pub(in crate::bus) fn bye(&mut self, link: Link, reason: String, failed: bool, now: Instant) {
        let Some(member) = self.live(link, now) else {
            return;
        };
        member.said_bye = true;
        member.ended = Some(if reason.is_empty() {
            "finished".to_owned()
        } else {
            reason.clone()
        });
        member.out = None;
        // A worker that the kernel killed makes the trainer say goodbye at once.
        member.left_at = Some(now);
        member.touch();
        let ended = member.ended.clone();
        self.write(now, Kind::Ended(link.rank, ended));
        self.keep_progress(link.rank, now);
        if failed {
            self.failed
                .get_or_insert_with(|| format!("rank {}: {reason}", link.rank));
        }
        tracing::info!(run = %self.id, rank = %link.rank, reason, failed, "a rank said goodbye");
        self.lifecycle(link.rank, format!("said goodbye: {reason}"), now);
        self.rank_ended(link.rank, "the rank ended before it was applied", now);
    }

    /// A connection broke without a goodbye. `alive`: whether its process lives; None: not known.
    pub(in crate::bus) fn gone(&mut self, link: Link, alive: Option<bool>, now: Instant) {
        let Some(member) = self
            .members
            .get_mut(&link.rank)
            .filter(|member| member.serial == link.serial)
        else {
            return;
        };
        member.out = None;
        member.touch();
        if member.ended.is_none() && alive == Some(false) {
            self.lose(link.rank, "its process ended without a goodbye", now);
        }
    }

    /// Looks for ranks that are silent and for orders that are overdue.
    pub(in crate::bus) fn tick(&mut self, now: Instant, alive: impl Fn((u32, u64)) -> bool) {
        self.lead_without_rank_0(now);
        self.look_at_calls(now);
        let updates = self.steering.overdue(now);
        self.tell(updates);
        let ranks: Vec<_> = self.members.keys().copied().collect();
        for rank in ranks {
            let member = &self.members[&rank];
            if member.ended.is_some() {
                continue;
            }
            let process_gone = member.out.is_none()
                && member
                    .process
                    .as_ref()
                    .is_ok_and(|process| !alive(*process));
            if process_gone {
                self.lose(rank, "its process ended without a goodbye", now);
            } else if !member.is_gone(now) {
                continue;
            } else if member.out.is_none() && member.process.is_err() {
                self.lose(rank, "no sign of life for 5 s", now);
            } else if !member.silent {
                let text = format!("rank {rank} gives no sign of life, and its process is there");
                let at = member.position;
                self.say_lost(rank, text, at, now);
                self.members.get_mut(&rank).expect("it is there").silent = true;
            }
        }
    }

    fn lose(&mut self, rank: Rank, why: &str, now: Instant) {
        let Some(member) = self.members.get_mut(&rank) else {
            return;
        };
        member.ended = Some(format!("lost: {why}"));
        member.left_at = Some(now);
        member.out = None;
        member.touch();
        let (at, ended) = (member.position, member.ended.clone());
        self.write(now, Kind::Ended(rank, ended));
        self.keep_progress(rank, now);
        tracing::warn!(run = %self.id, %rank, why, "a rank is lost");
        self.lifecycle(rank, format!("lost: {why}"), now);
        self.lost
            .get_or_insert_with(|| format!("rank {rank}: {why}"));
        let text = format!("rank {rank} is lost at iteration {}: {why}", at.iter);
        self.say_lost(rank, text, at, now);
        self.rank_ended(rank, why, now);
    }

    /// A rank is back: the run is lost with another that is, or is not.
    pub(super) fn found_again(&mut self, rank: Rank) {
        let whose = format!("rank {rank}: ");
        if !(self.lost.as_ref()).is_some_and(|why| why.starts_with(&whose)) {
            return;
        }
        self.lost = self.members.iter().find_map(|(rank, member)| {
            let why = member.ended.as_ref()?.strip_prefix("lost: ")?;
            Some(format!("rank {rank}: {why}"))
        });
    }

    fn say_lost(&mut self, rank: Rank, text: String, at: Position, now: Instant) {
        let id = format!("lost/{}/{rank}", self.attempt);
        self.open_incident(id, IncidentKind::RankLost, text, Some(rank), at, now);
    }

    fn rank_ended(&mut self, rank: Rank, why: &str, now: Instant) {
        let at = self
            .members
            .get(&rank)
            .map(|member| member.position)
            .unwrap_or_default();
        self.write_expired(rank, now);
        let updates = self.steering.rank_ended(rank, at, why);
        self.tell(updates);
        for id in self.desired.orders() {
            self.settle(&id, now);
        }
    }
}
