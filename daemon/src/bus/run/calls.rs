//! Calls of hooks in other processes: made where an event is due for one, sent while its provider is connected, answered or
//! not. What a hook fails to do hurts nobody but itself.

use std::sync::Arc;
use std::time::Instant;

use super::decisions::Whence;
use super::gates::Said;
use super::{GateRequest, IncidentKind, Position, Run, ToTrainer};
use crate::bus::remote::{Missing, SILENT};
use crate::bus::roster::{Decided, Due};
use crate::domain::{DesiredState, Event, Names, Rank};
use crate::hooks::Seen;
use crate::providers::{Answer, Call, Reply};
use crate::store::View;

/// Of a gate's deadline the part that its hooks have; the rest is for the way back.
const SHARE: (u32, u32) = (4, 5);

impl Run {
    /// Calls the hooks of providers that an event is due for. Returns the calls that its gate waits for.
    pub(super) fn call(
        &mut self,
        due: Vec<Due>,
        seen: &Seen<'_>,
        asked: Option<&GateRequest>,
        said: &mut Said,
        view: &dyn View,
        now: Instant,
    ) -> Vec<u64> {
        let mut waits = Vec::new();
        let mut state: Option<Arc<DesiredState>> = None;
        let point: Arc<str> = Arc::clone(&seen.names.points[seen.event.point as usize]);
        for due in due {
            let id = self.providers.next_call();
            let member = self.roster.member(due.member);
            let hook = member.shared_name();
            let Some(remote) = member.remote() else {
                continue;
            };
            if due.gate.is_some() {
                // The training does not wait until its rank is looked at.
                remote.complete_now(view, now);
            }
            let has_room = remote.has_room();
            let limit = due.gate.map(|limit| {
                let asked = asked.map_or(limit, |gate| gate.deadline);
                limit.min(asked) * SHARE.0 / SHARE.1
            });
            let gate = limit.filter(|_| remote.answers_gates());
            if has_room {
                let memory = remote.offered.wants_memory;
                let desired = remote.offered.wants_state.then(|| {
                    let state = state.get_or_insert_with(|| Arc::new(self.desired.state().clone()));
                    Arc::clone(state)
                });
                let call = Call {
                    id,
                    run: 0, // filled in when it is sent
                    hook: Arc::clone(&hook),
                    rank: seen.rank,
                    point: Arc::clone(&point),
                    at: seen.position(),
                    fields: fields(seen.event, seen.names, &due.fields),
                    unknown: unknown(seen.event, seen.names, &due.fields),
                    rss_bytes: seen
                        .event
                        .rss_bytes
                        .filter(|_| wants(&due.fields, "rss_bytes")),
                    gate: due.gate.is_some(),
                    deadline: limit.unwrap_or(SILENT),
                    held_on: seen.held_on.to_vec(),
                    memory: if memory {
                        view.numbers(seen.rank, now)
                    } else {
                        Vec::new()
                    },
                    desired,
                };
                remote.call(call, gate.map(|limit| now + limit));
                member.was_called();
            } else {
                member.counts.missed += 1;
            }
            if gate.is_some() {
                waits.push(id);
            } else if due.gate.is_some() {
                member.counts.timeouts += 1;
                let at = seen.position();
                self.otherwise(&hook, seen.rank, &point, at, said, now);
            }
        }
        waits
    }

    /// A provider's hook answers.
    pub(in crate::bus) fn answer(&mut self, reply: Reply, now: Instant) {
        let Reply { serial, at, answer } = reply;
        let Some(module) = self.providers.module_of(serial) else {
            return; // of an older connection: the call was made again
        };
        let Answer {
            id,
            decisions,
            state,
        } = answer;
        let Some(place) = self.roster.whose(&module, id) else {
            return;
        };
        let member = self.roster.member(place);
        let hook = member.shared_name();
        let (whose, policy) = (member.rightful_place(), member.policy());
        let Some(remote) = member.remote() else {
            return;
        };
        let Some(answered) = remote.answered(id, at) else {
            return;
        };
        if let Some(state) = state {
            remote.state = state;
        }
        let call = answered.call;
        if !answered.late && decisions.is_ok() {
            remote.failures = 0;
        }
        member.counts.time += answered.took;
        member.touch();
        let missing = Missing {
            id,
            rank: call.rank,
            point: Arc::clone(&call.point),
            at: call.at,
            limit: call.deadline,
            gone_on: false,
        };
        match decisions {
            // It was told when it was late, unless nobody has looked since.
            _ if answered.late => {
                if self.gates_wait_for(id) {
                    self.is_late(&hook, &missing, now);
                }
                if let Err(raised) = decisions {
                    self.roster.count(&hook, |counts| counts.errors += 1);
                    self.tell_error(&hook, &missing, &raised.error, &raised.traceback);
                }
            }
            Err(raised) => {
                self.roster.count(&hook, |counts| counts.errors += 1);
                self.gate_without(&hook, &missing, now);
                self.tell_error(&hook, &missing, &raised.error, &raised.traceback);
                self.has_failed(&hook, &raised.error, now);
            }
            Ok(decisions) => {
                self.roster.member(place).has_decided(decisions.len());
                let has_decided = !decisions.is_empty();
                let whence = Whence {
                    rank: call.rank,
                    point: &call.point,
                    at: call.at,
                    no: id,
                };
                let mut gate = self.take_gate(id, now);
                for (n, decision) in decisions.into_iter().enumerate() {
                    let decided = Decided {
                        by: hook.to_string(),
                        place: whose,
                        policy,
                        decision,
                    };
                    let said = gate.as_mut().map(|gate| gate.said());
                    self.decide(&whence, n, decided, said, now);
                }
                if has_decided {
                    self.take_early(now);
                }
                if let Some(gate) = gate {
                    self.give_gate(gate);
                }
            }
        }
        self.pump(&module, now);
    }

    /// Looks for calls that wait too long, and sends what could not be sent before.
    pub(super) fn look_at_calls(&mut self, now: Instant) {
        for (hook, missing) in self.roster.overdue(now) {
            self.is_late(&hook, &missing, now);
        }
        self.roster.note_missed();
        self.close_providers(now);
        self.pump_all(now);
    }

    /// No answer came in time.
    fn is_late(&mut self, hook: &str, missing: &Missing, now: Instant) {
        let new = u64::from(!missing.gone_on);
        self.roster.count(hook, |counts| counts.timeouts += new);
        self.gate_without(hook, missing, now);
        let error = format!("no answer within {} ms", missing.limit.as_millis());
        self.tell_error(hook, missing, &error, "");
        self.has_failed(hook, &error, now);
    }

    /// Gives the calls of a daemon before this one what it did not write down, so that they can be made.
    pub(in crate::bus) fn complete_calls(&mut self, view: &dyn View, now: Instant) {
        if !self.archived && self.roster.complete_calls(view, now) {
            self.pump_all(now);
        }
    }

    /// A provider's connection is gone. Its hooks share a thread that answers in order: the call that it was at is the first
    /// one without an answer, and the others have done nothing.
    pub(super) fn unlinked(&mut self, module: &str, now: Instant) {
        let lost: Vec<_> = self
            .roster
            .of_module(module)
            .map(|(at, remote)| (at, remote.unlinked()))
            .collect();
        let names: Vec<_> = lost
            .into_iter()
            .map(|(at, calls)| (self.roster.member(at).shared_name(), calls))
            .collect();
        let first = |(died, _): &(Vec<Missing>, Vec<Missing>)| died.first().map(|call| call.id);
        let under_way = names.iter().filter_map(|(_, calls)| first(calls)).min();
        for (hook, (died, gates)) in names {
            for gate in &gates {
                self.roster.count(&hook, |counts| counts.timeouts += 1);
                self.gate_without(&hook, gate, now);
            }
            if let Some(first) = died.first().filter(|call| Some(call.id) == under_way) {
                let error = "its provider's connection ended with a call under way";
                self.roster.count(&hook, |counts| counts.errors += 1);
                self.tell_error(&hook, first, error, "");
                self.has_failed(&hook, error, now);
            }
        }
    }

    fn tell_error(&mut self, hook: &str, call: &Missing, error: &str, traceback: &str) {
        let Some(place) = self.roster.named(hook) else {
            return;
        };
        self.tell_error_of(place, (call.rank, &call.point, call.at), error, traceback);
    }

    /// The same of the hook at this place in the roster.
    pub(super) fn tell_error_of(
        &mut self,
        place: usize,
        (rank, point, at): (Rank, &str, Position),
        error: &str,
        traceback: &str,
    ) {
        let member = self.roster.member(place);
        let hook = member.shared_name();
        if member.is_news(error) {
            tracing::warn!(run = %self.id, %hook, %rank, point, epoch = at.epoch, iter = at.iter, error, traceback, "a hook failed");
        }
    }

    /// Once more in a row; after so many it is off.
    fn has_failed(&mut self, hook: &str, error: &str, now: Instant) {
        let Some(place) = self.roster.named(hook) else {
            return;
        };
        let Some(remote) = self.roster.member(place).remote() else {
            return;
        };
        remote.failures += 1;
        let failures = remote.failures;
        if failures < self.rules.provider_failures || !self.roster.is_on(place) {
            return;
        }
        let why = format!("it failed {failures} times in a row, last: {error}");
        tracing::error!(run = %self.id, hook, failures, error, "a hook failed again and again and is off");
        for gate in self.roster.switch_off(place, why.clone()) {
            self.gate_without(hook, &gate, now);
        }
        self.open_incident(
            format!("hook/{}/{hook}", self.attempt),
            IncidentKind::HookFailed,
            format!("hook {hook} is off: {why}"),
            None,
            Position::default(),
            now,
        );
        let plan = self.plan();
        self.send_all(&ToTrainer::Plan(plan));
    }

    /// Nobody decides at a position any more that every rank has passed, and every call, and who decides `here` now.
    pub(super) fn forget_claims(&mut self, here: &Whence<'_>) {
        let live = self
            .members
            .values()
            .filter(|member| member.ended.is_none());
        let ranks = live.map(|member| member.position);
        let before = ranks.chain(self.roster.earliest_call()).chain([here.at]);
        let open = self.roster.first_call().into_iter().chain([here.no]);
        let (before, open) = (before.min().unwrap_or(here.at), open.min());
        self.claims.forget(before, open.unwrap_or(here.no));
    }
}

fn wants(fields: &[String], name: &str) -> bool {
    fields.iter().any(|field| field == name)
}

fn wants_metric(fields: &[String], name: &str) -> bool {
    fields.iter().any(|field| field == "*" || field == name)
}

fn fields(event: &Event, names: &Names, wanted: &[String]) -> Vec<(Arc<str>, f64)> {
    let each = event.metrics.iter().zip(&event.values);
    let named = each.map(|(id, value)| (&names.metrics[*id as usize], *value));
    named
        .filter(|(name, _)| wants_metric(wanted, name))
        .map(|(name, value)| (Arc::clone(name), value))
        .collect()
}

fn unknown(event: &Event, names: &Names, wanted: &[String]) -> Vec<(Arc<str>, String)> {
    let each = event.unknown.iter();
    let named = each.map(|one| (&names.metrics[one.metric as usize], &one.reason));
    named
        .filter(|(name, _)| wants_metric(wanted, name))
        .map(|(name, why)| (Arc::clone(name), why.clone()))
        .collect()
}

#[cfg(test)]
mod tests;
