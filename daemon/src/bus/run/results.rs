//! What ranks did with what was wanted of them.

use std::collections::BTreeMap;
use std::time::Instant;

use super::{Cause, KEPT_RESULTS, Link, Run, push_bounded};
use crate::domain::{IncidentKind, Outcome, Position, Rank, TrainerResult};
use crate::snapshot::{ResultSeen, What};

/// What is decided ahead by a hook.
const STATE: [&str; 5] = ["lr", "size", "mode", "set_epoch", "sync_norm"];

impl Run {
    /// What a rank did.
    pub(in crate::bus) fn result(&mut self, link: Link, result: TrainerResult, now: Instant) {
        if self.live(link, now).is_none() {
            return;
        }
        let known = |seen: &ResultSeen| seen.rank == link.rank && seen.result.id == result.id;
        if self.results.iter().any(known) {
            return; // sent again after a reconnect
        }
        let id = result.id.clone();
        let updates = self.steering.result(link.rank, &result);
        let was_asked = !updates.is_empty();
        self.tell(updates);
        let cause = self.cause(&id).cloned();
        let local = id
            .strip_prefix("local:")
            .and_then(|rest| rest.split(':').next());
        if let Some(hook) = local {
            self.stopped_by_itself(hook, link.rank, &result, now);
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
            Some(cause) => (cause.by.clone(), cause.what),
            None if is_stop => (local.unwrap_or_default().to_owned(), "stop"),
            // A log line that arrived is no news.
            None if result.outcome == Outcome::Applied => return,
            None => (String::new(), "command"),
        };
        if what == "warning" && result.outcome == Outcome::Applied {
            return;
        }
        self.look_for_failure(cause.as_ref(), link.rank, &result, was_asked, now);
        let seen = ResultSeen {
            rank: link.rank,
            result,
            by,
            what,
            at: now,
        };
        let (at, point) = (seen.result.at, seen.result.point.clone());
        let told = What::Result(seen.clone());
        self.followers.tell(now, Some(link.rank), at, &point, told);
        push_bounded(&mut self.results, seen, KEPT_RESULTS);
        self.look_for_mixture(&id, now);
        if was_asked && !self.steering.waits(&id) {
            self.settle(&id, now);
        }
    }

    /// What a result is about. A schedule's step and a later epoch are named after what they belong to.
    fn cause(&self, id: &str) -> Option<&Cause> {
        let whole = || {
            id.rsplit_once('/')
                .and_then(|(whole, _)| self.causes.get(whole))
        };
        self.causes.get(id).or_else(whole)
    }

    /// Every rank has answered an order.
    fn settle(&mut self, id: &str, now: Instant) {
        let before = self.desired.state().lines();
        let applied = self
            .outcomes(id)
            .values()
            .any(|outcome| *outcome == Outcome::Applied);
        if self.desired.answered(id, applied) {
            self.send_state(&before, now);
        }
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
        let Some(cause) = cause.filter(|cause| STATE.contains(&cause.what) && !was_asked) else {
            return;
        };
        if matches!(result.outcome, Outcome::Applied | Outcome::Expired) {
            return;
        }
        let text = format!(
            "{}'s {} is not in force on rank {rank}: {} ({})",
            cause.by,
            cause.what,
            result.reason,
            format!("{:?}", result.outcome).to_lowercase()
        );
        self.open_incident(
            format!("not_applied/{}/{rank}/{}", self.attempt, result.id),
            IncidentKind::NotApplied,
            text,
            Some(rank),
            result.at,
            now,
        );
    }

    fn outcomes(&self, id: &str) -> BTreeMap<Rank, Outcome> {
        self.results
            .iter()
            .filter(|seen| seen.result.id == id)
            .map(|seen| (seen.rank, seen.result.outcome))
            .collect()
    }

    fn look_for_mixture(&mut self, id: &str, now: Instant) {
        let outcomes = self.outcomes(id);
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
