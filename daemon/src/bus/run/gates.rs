//! Gates: what the hooks say to one, in the order of their priorities. The answer is held back until every hook has said it,
//! or its time is over.

use std::time::Instant;

use super::{GateAnswer, GateStop, IncidentKind, Run, ToTrainer};
use crate::bus::claims::Place;
use crate::bus::remote::Missing;
use crate::domain::{LogLine, Otherwise, Position, Rank};
use crate::snapshot::What;

/// What hooks have said to a gate so far.
#[derive(Default)]
pub(super) struct Said {
    pub(super) stops: Vec<(Place, GateStop)>,
    pub(super) logs: Vec<(Place, LogLine)>,
}

/// A gate that waits for hooks of providers.
pub(super) struct Gate {
    rank: Rank,
    /// The connection that waits.
    serial: u64,
    seq: u64,
    /// The calls that it waits for.
    waits: Vec<u64>,
    said: Said,
}

impl Said {
    fn answer(mut self, seq: u64) -> GateAnswer {
        self.stops.sort_by_key(|(place, _)| *place);
        self.logs.sort_by_key(|(place, _)| *place);
        GateAnswer {
            seq,
            stop: self.stops.into_iter().next().map(|(_, stop)| stop),
            logs: self.logs.into_iter().map(|(_, line)| line).collect(),
        }
    }
}

impl Run {
    /// Answers a gate, at once or when these calls are answered.
    pub(super) fn answer_gate(&mut self, rank: Rank, seq: u64, waits: Vec<u64>, said: Said) {
        let Some(member) = self.members.get_mut(&rank) else {
            return;
        };
        member.gates += 1;
        if waits.is_empty() {
            return member.send(ToTrainer::Gate(said.answer(seq)));
        }
        let serial = member.serial;
        self.gates.push(Gate {
            rank,
            serial,
            seq,
            waits,
            said,
        });
    }

    /// Whether a gate waits for a call.
    pub(super) fn gates_wait_for(&self, id: u64) -> bool {
        self.gates.iter().any(|gate| gate.waits.contains(&id))
    }

    /// The gate that waits for a call, if its trainer does: one that has come back meanwhile was answered by its client, and
    /// is stopped by what was said already.
    pub(super) fn take_gate(&mut self, id: u64, now: Instant) -> Option<Gate> {
        let at = self
            .gates
            .iter()
            .position(|gate| gate.waits.contains(&id))?;
        let mut gate = self.gates.swap_remove(at);
        gate.waits.retain(|wait| *wait != id);
        let member = self.members.get(&gate.rank);
        if member.is_some_and(|member| member.serial == gate.serial && member.out.is_some()) {
            return Some(gate);
        }
        self.stop_without_gate(gate.said, now);
        None
    }

    /// Sends a gate's answer if it is complete, else it goes on waiting.
    pub(super) fn give_gate(&mut self, gate: Gate) {
        if gate.waits.is_empty() {
            self.send(gate.rank, ToTrainer::Gate(gate.said.answer(gate.seq)));
        } else {
            self.gates.push(gate);
        }
    }

    /// What a hook says without an answer.
    pub(super) fn otherwise(
        &mut self,
        hook: &str,
        rank: Rank,
        point: &str,
        at: Position,
        said: &mut Said,
        now: Instant,
    ) {
        let Some(place) = self.roster.named(hook) else {
            return;
        };
        let member = self.roster.member(place);
        let place = member.rightful_place();
        if let (Otherwise::Stop, reason) = member.otherwise(point) {
            self.stop_otherwise(hook, place, (rank, point, at), reason, said, now);
        }
    }

    pub(super) fn stop_otherwise(
        &mut self,
        hook: &str,
        place: Place,
        (rank, point, at): (Rank, &str, Position),
        reason: String,
        said: &mut Said,
        now: Instant,
    ) {
        let id = self.decision_id(hook, rank, point, at, 0);
        let text =
            format!("hook {hook} gave no answer at a gate, and its otherwise is stop: {reason}");
        let (incident, kind) = (format!("stop/{id}"), IncidentKind::GateTimedOut);
        self.open_incident(incident, kind, text, Some(rank), at, now);
        self.note(&id, hook, "stop", &reason, now);
        let told = What::Decision {
            by: hook.to_owned(),
            what: "stop".into(),
            reason: reason.clone(),
            id: id.clone(),
        };
        self.happened(now, Some(rank), at, point, told);
        let stop = GateStop {
            id,
            reason,
            by: hook.to_owned(),
        };
        said.stops.push((place, stop));
    }

    /// A gate does not wait for a hook any longer.
    pub(super) fn gate_without(&mut self, hook: &str, call: &Missing, now: Instant) {
        if let Some(mut gate) = self.take_gate(call.id, now) {
            let mut said = std::mem::take(&mut gate.said);
            self.otherwise(hook, call.rank, &call.point, call.at, &mut said, now);
            gate.said = said;
            self.give_gate(gate);
        }
    }
}

impl Gate {
    /// What was said to it so far.
    pub(super) fn said(&mut self) -> &mut Said {
        &mut self.said
    }
}
