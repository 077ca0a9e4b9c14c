//! What ranks did with what was wanted of them.

use std::borrow::Cow;
use std::time::Instant;

use super::{Cause, KEPT_RESULTS, Link, Run, push_bounded};
use crate::domain::{IncidentKind, Outcome, Position, Rank, TrainerResult};
use crate::snapshot::{ResultSeen, What};
use crate::store::journal::Kind;

/// What is decided ahead by a hook.
const STATE: [&str; 5] = ["lr", "size", "mode", "set_epoch", "sync_norm"];

impl Run {
    /// What a rank did.
    pub(in crate::bus) fn result(&mut self, link: Link, result: TrainerResult, now: Instant) {
        if self.live(link, now).is_none() {
            return;
        }
        let id = result.id.clone();
        let mut pending = self.steering.pending(link.rank);
        let was_pending = pending.any(|command| command.id == id);
        drop(pending);
        let updates = self.steering.result(link.rank, &result);
        let was_asked = !updates.is_empty();
        self.tell(updates);
        if !self.answers.take(&id, link.rank, result.outcome) {
            return; // sent again after a reconnect
        }
        let answered = Kind::Answered(link.rank, id.clone(), result.outcome);
        self.write(now, answered);
        let unknown = !was_pending && self.answers.cause(&id).is_none();
        if unknown && result.outcome == Outcome::Applied && !id.starts_with("local:") {
            push_bounded(&mut self.early, (link.rank, result.clone()), KEPT_RESULTS);
        }
        self.count_in(link.rank, result, was_asked, now);
    }

    /// After a daemon's death a result may come before the event that its decision is made from once more.
    pub(super) fn take_early(&mut self, now: Instant) {
        let early = std::mem::take(&mut self.early);
        for (rank, result) in early {
            if self.answers.cause(&result.id).is_some() {
                self.count_in(rank, result, false, now);
            } else {
                self.early.push_back((rank, result));
            }
        }
    }

    fn count_in(&mut self, rank: Rank, result: TrainerResult, was_asked: bool, now: Instant) {
        let id = result.id.clone();
        let cause = self.answers.cause(&id).cloned();
        let local = id
            .strip_prefix("local:")
            .and_then(|rest| rest.split(':').next());
        if let Some(hook) = local {
            self.stopped_by_itself(hook, rank, &result, now);
        }
        let is_stop = local.is_some() || cause.as_ref().is_some_and(|cause| cause.what == "stop");
        if is_stop && result.outcome == Outcome::Applied {
            let by = cause.as_ref().map(|cause| cause.by.as_str()).or(local);
            let by = by.unwrap_or_default();
            let reason = cause.as_ref().map_or(&result.reason, |cause| &cause.reason);
            self.stopped
                .get_or_insert_with(|| format!("{by}: {reason}"));
        }
        let (by, what) = match &cause {
            Some(cause) => (cause.by.clone(), cause.what.clone()),
            None if is_stop => (local.unwrap_or_default().to_owned(), Cow::Borrowed("stop")),
            None => (String::new(), Cow::Borrowed("command")),
        };
        *self
            .outcomes
            .entry((what.clone(), result.outcome))
            .or_default() += 1;
        // A log line that arrived is no news.
        if cause.is_none() && !is_stop && result.outcome == Outcome::Applied {
            return;
        }
        if what == "warning" && result.outcome == Outcome::Applied {
            return;
        }
        self.look_for_failure(cause.as_ref(), rank, &result, was_asked, now);
        let seen = ResultSeen {
            rank,
            result,
            by,
            what,
            at: now,
        };
        let (at, point) = (seen.result.at, seen.result.point.clone());
        let told = What::Result(seen.clone());
        self.happened(now, Some(rank), at, &point, told);
        push_bounded(&mut self.results, seen, KEPT_RESULTS);
        self.look_for_mixture(&id, now);
        self.settle(&id, now);
        self.size_step(&id, now);
    }

    /// Once every rank has answered an operator's word, also one whose operator waits no more.
    pub(super) fn settle(&mut self, id: &str, now: Instant) {
        if self.steering.waits(id) || !self.desired.orders().iter().any(|order| order == id) {
            return;
        }
        let Some(applied) = self.everywhere(id) else {
            return;
        };
        let before = self.desired.state().lines();
        if self.desired.answered(id, applied) {
            self.send_state(&before, now);
        }
    }

    /// Where a schedule's step holds on every rank, the sizes that operators held until then are over.
    fn size_step(&mut self, id: &str, now: Instant) {
        let size = self.desired.state().size.as_ref();
        let step = size.is_some_and(|size| {
            id.strip_prefix(&*size.id)
                .is_some_and(|rest| rest.starts_with('/'))
        });
        if step && self.everywhere(id) == Some(true) {
            let before = self.desired.state().lines();
            if self.desired.size_step_applied() {
                self.send_state(&before, now);
            }
        }
    }

    /// Whether any rank applied it, once every rank that has not ended has answered.
    fn everywhere(&self, id: &str) -> Option<bool> {
        let outcomes = self.answers.outcomes(id)?;
        let live = self
            .members
            .iter()
            .filter(|(_, member)| member.ended.is_none());
        let answered = live
            .map(|(rank, _)| rank)
            .all(|rank| outcomes.contains_key(rank));
        let applied = |outcome: &Outcome| *outcome == Outcome::Applied;
        answered.then(|| outcomes.values().any(applied))
    }

    fn stopped_by_itself(&mut self, hook: &str, rank: Rank, result: &TrainerResult, now: Instant) {
        let text = format!(
            "rank {rank} stopped by itself for {hook}: no answer came in time ({})",
            result.reason
        );
        self.open_incident(
            format!("local/{}", result.id),
            IncidentKind::GateTimedOut,
            text,
            Some(rank),
            result.at,
            now,
        );
    }

    /// What a hook decided and a rank did not do is nobody's business to answer, so it is an incident.
    fn look_for_failure(
        &mut self,
        cause: Option<&Cause>,
        rank: Rank,
        result: &TrainerResult,
        was_asked: bool,
        now: Instant,
    ) {
        let Some(cause) = cause.filter(|cause| STATE.contains(&&*cause.what) && !was_asked) else {
            return;
        };
        // One for each hook, field and rank: a size that cannot be changed fails at every step.
        let (by, what) = (&cause.by, &cause.what);
        let incident = format!("not_applied/{}/{by}/{what}/{rank}", self.attempt);
        match result.outcome {
            Outcome::Applied => self.close_incident(&incident, now),
            Outcome::Expired => {}
            _ => {
                let outcome = format!("{:?}", result.outcome).to_lowercase();
                let text = format!(
                    "{by}'s {what} is not in force on rank {rank}: {} ({outcome})",
                    result.reason
                );
                let kind = IncidentKind::NotApplied;
                self.open_incident(incident, kind, text, Some(rank), result.at, now);
            }
        }
    }

    fn look_for_mixture(&mut self, id: &str, now: Instant) {
        let Some(outcomes) = self.answers.outcomes(id) else {
            return;
        };
        let applied = outcomes
            .values()
            .filter(|outcome| **outcome == Outcome::Applied)
            .count();
        if applied == 0 || applied == outcomes.len() {
            return;
        }
        let each: Vec<_> = outcomes
            .iter()
            .map(|(rank, outcome)| format!("rank {rank} {}", format!("{outcome:?}").to_lowercase()))
            .collect();
        let text = format!("ranks did different things with {id}: {}", each.join(", "));
        self.open_incident(
            format!("mixed/{id}"),
            IncidentKind::MixedResults,
            text,
            None,
            Position::default(),
            now,
        );
    }
}
