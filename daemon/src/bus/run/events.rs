//! Events come in: each new one is recorded, seen by the hooks that are due, and settled.

use std::sync::Arc;
use std::time::Instant;

use super::decisions::Whence;
use super::gates::Said;
use super::{GateAnswer, Link, Run, ToTrainer, View};
use crate::domain::{Batch, Description, Event, GateRequest, Names, Otherwise, Rank};
use crate::hooks::{Context, Seen};
use crate::snapshot::What;
use crate::store::journal::{Dropped, Kind};

impl Run {
    /// Takes a batch: each new event is recorded, seen by the hooks that are due, and written down with what they decided. It
    /// is settled when that is committed.
    pub(in crate::bus) fn batch(
        &mut self,
        link: Link,
        first_seq: u64,
        batch: Batch,
        view: &dyn View,
        now: Instant,
    ) {
        let Some(member) = self.live(link, now) else {
            return;
        };
        let Batch {
            names,
            mut events,
            gates,
        } = batch;
        let taken = member.intake.take(first_seq, events.len());
        // No number goes without a word, whatever the client says of it.
        for (first, last) in member.intake.unsaid(first_seq - taken.gap, taken.gap) {
            let unsaid = Dropped::elsewhere(first, last);
            self.write(now, Kind::Lost(link.rank, unsaid, None));
        }
        for event in &events[taken.skip..] {
            if let Some(member) = self.members.get_mut(&link.rank) {
                member.record(event, &names, now);
            }
            let asked = gates.iter().find(|gate| gate.seq == event.seq);
            if self.followers.want_events() {
                self.tell_event(link.rank, event, &names, now);
            }
            self.event(link.rank, event, &names, asked, view, now);
        }
        // A gate that is asked again after a reconnect was answered by the client itself; it is not decided twice.
        for gate in gates.iter().filter(|gate| {
            events[..taken.skip]
                .iter()
                .any(|event| event.seq == gate.seq)
        }) {
            self.send(
                link.rank,
                ToTrainer::Gate(GateAnswer {
                    seq: gate.seq,
                    stop: None,
                    logs: Vec::new(),
                }),
            );
        }
        events.drain(..taken.skip);
        self.keep_events(link.rank, names, events, now);
        // However many events there are, a gate does not wait longer for it.
        if self.roster.next_due().is_some_and(|due| due <= now) {
            self.look_at_calls(now);
        }
    }

    /// A rank says what its model and datasets are.
    pub(in crate::bus) fn description(&mut self, link: Link, said: Description, now: Instant) {
        if let Some(member) = self.live(link, now) {
            member.describe(said);
        }
    }

    fn event(
        &mut self,
        rank: Rank,
        event: &Event,
        names: &Names,
        asked: Option<&GateRequest>,
        view: &dyn View,
        now: Instant,
    ) {
        let point = &*names.points[event.point as usize];
        let member = self.members.get(&rank);
        let description = member.and_then(|member| member.description.clone());
        let seen = Seen {
            rank,
            point,
            event,
            names,
            description: description.as_deref(),
            held_on: asked.map_or(&[], |gate| &gate.held_on),
        };
        let calls = self.roster.call(
            &Context { now, view },
            &seen,
            asked.map_or(&[], |gate| &gate.subscribers),
        );
        let has_decided = !calls.decided.is_empty();
        let whence = Whence {
            rank,
            point,
            at: event.position,
            no: if has_decided {
                self.providers.next_call()
            } else {
                0
            },
        };
        let mut said = Said::default();
        for (n, decided) in calls.decided.into_iter().enumerate() {
            let gate = asked.is_some().then_some(&mut said);
            self.decide(&whence, n, decided, gate, now);
        }
        if has_decided {
            self.take_early(now);
        }
        for failed in &calls.failed {
            if let Some((Otherwise::Stop, reason)) = &failed.otherwise {
                let from = (rank, point, event.position);
                let reason = reason.clone();
                self.stop_otherwise(&failed.by, failed.place, from, reason, &mut said, now);
            }
        }
        let is_remote = !calls.remote.is_empty();
        let waits = if is_remote {
            self.call(calls.remote, &seen, asked, &mut said, view, now)
        } else {
            Vec::new()
        };
        if asked.is_some() {
            self.answer_gate(rank, event.seq, waits, said);
        }
        if is_remote {
            self.pump_all(now);
        }
        for (at, error) in calls.erred {
            self.tell_error_of(at, (rank, point, event.position), &error, "");
        }
        self.report_failed(calls.failed, now);
    }

    fn tell_event(&mut self, rank: Rank, event: &Event, names: &Names, now: Instant) {
        let values = event.metrics.iter().zip(&event.values);
        let values = values.map(|(id, value)| (Arc::clone(&names.metrics[*id as usize]), *value));
        let what = What::Event(values.collect());
        let point = &names.points[event.point as usize];
        self.followers
            .tell(now, Some(rank), event.position, point, what);
    }
}
