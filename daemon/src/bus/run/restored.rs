//! A run as its journal has it: gone on with where a daemon died, or shown when it is over.

use std::sync::Arc;
use std::time::Instant;

use super::kept::{CLAIMS, Kept};
use super::{Cause, Followers, KEPT_LOGS, KEPT_RESULTS, Member, Run, push_bounded};
use crate::bus::Rules;
use crate::bus::claims::Claims;
use crate::domain::{Deed, Outcome, Rank};
use crate::snapshot::{LogSeen, Phase};
use crate::steering::Desired;
use crate::store::journal::Saved;

impl Run {
    /// Goes on from what is in the file. Ranks are as they were; whoever is still there comes back.
    pub(in crate::bus) fn restore(saved: Saved, rules: Arc<Rules>, now: Instant) -> Self {
        let mut run = Self::new(saved.run, rules, now);
        let seen = saved.attempt;
        run.attempt = seen.attempt;
        run.world_size = saved.world_size;
        run.counted = saved.counted;
        run.uid = saved.uid;
        run.started = seen.started;
        run.over = seen.ended;
        run.archived = true;
        run.before = saved.before;
        run.superseded = saved.superseded;
        run.facts = saved.facts.unwrap_or_default();
        run.followers = Followers::new(seen.started);
        for rank in saved.ranks {
            run.members.insert(rank.rank, Member::restored(rank, now));
        }
        run.roster.restore(saved.hooks);
        if let Some(id) = run.roster.last_call() {
            run.providers.calls_up_to(id);
        }
        if let Some((state, memo)) = saved.desired {
            run.desired = Desired::restore(state, &memo);
            run.claims = Claims::restored(&memo[CLAIMS]);
            run.providers.calls_up_to(run.claims.last());
        }
        for of in saved.causes {
            let cause = Cause {
                by: of.by,
                what: of.what.into(),
                reason: of.reason,
            };
            if of.ahead {
                run.answers.note_ahead(&of.id, cause);
            } else {
                run.answers.note(&of.id, cause);
            }
        }
        for result in saved.results {
            let outcome = result.result.outcome;
            run.answers.take(&result.result.id, result.rank, outcome);
            push_bounded(&mut run.results, result, KEPT_RESULTS);
        }
        run.take_reason_back(seen.phase, &seen.reason);
        for (incident, at) in saved.incidents {
            run.incidents.restore(incident, at);
        }
        for (rank, command, outcome) in saved.commands {
            run.take_command_back(rank, command, outcome);
        }
        let attempt = (run.attempt, run.world_size, run.uid);
        run.kept = Kept::restored(run.desired.revision(), seen.phase, seen.reason, attempt);
        run
    }

    /// Why it ends is known before every rank has ended: it says then how.
    fn take_reason_back(&mut self, phase: Phase, reason: &str) {
        if reason.is_empty() {
            return;
        }
        let reason = Some(reason.to_owned());
        let mut results = self.results.iter();
        let ended = |(rank, member): (&Rank, &Member)| {
            let with = member.ended.as_ref();
            with.map(|with| format!("rank {rank}: {with}"))
        };
        let mut said = self.members.iter().filter_map(ended);
        match phase {
            Phase::Stopped => self.stopped = reason,
            Phase::Failed => self.failed = reason,
            Phase::Lost => self.lost = reason,
            Phase::Running | Phase::Finished => {
                if results
                    .any(|seen| seen.what == "stop" && seen.result.outcome == Outcome::Applied)
                {
                    self.stopped = reason;
                } else if said.any(|said| Some(said) == reason) {
                    self.failed = reason;
                } else {
                    self.lost = reason;
                }
            }
        }
    }

    fn take_command_back(
        &mut self,
        rank: Rank,
        command: crate::domain::Command,
        outcome: Option<Outcome>,
    ) {
        // A line that has a cause of its own is an operator's, or a warning.
        if let Deed::Log(line) = &command.deed
            && !self.answers.knows(&command.id)
        {
            let seen = LogSeen {
                rank,
                at: command.at,
                text: line.text.clone(),
                by: command.by.clone(),
            };
            push_bounded(&mut self.logs, seen, KEPT_LOGS);
        }
        if outcome.is_none() {
            // The oldest go first where there are too many, as they did before.
            let _ = self.steering.command(rank, command);
        }
    }
}
