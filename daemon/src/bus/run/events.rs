//! Events come in: each new one is recorded, seen by the hooks that are due, and settled.

use std::sync::Arc;
use std::time::Instant;

use super::{GateAnswer, GateStop, KEPT_LOGS, Link, Run, ToTrainer, View, push_bounded};
use crate::bus::roster::Decided;
use crate::domain::{
    Batch, Deed, Description, Effective, Event, GateRequest, LogLevel, LogLine, Names, Otherwise,
    Position, Rank, Stop,
};
use crate::hooks::{Context, Decision, Policy, Seen};
use crate::snapshot::{LogSeen, What};
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
        let mut answer = GateAnswer {
            seq: event.seq,
            stop: None,
            logs: Vec::new(),
        };
        let has_decided = !calls.decided.is_empty();
        for (n, decided) in calls.decided.into_iter().enumerate() {
            self.decide(&seen, n, decided, asked.is_some(), &mut answer, now);
        }
        if has_decided {
            self.take_early(now);
        }
        for failed in &calls.failed {
            if let Some((Otherwise::Stop, reason)) = &failed.otherwise {
                let id = self.decision_id(&failed.by, &seen, 0);
                self.note(&id, &failed.by, "stop", reason, now);
                answer.stop.get_or_insert(GateStop {
                    id,
                    reason: reason.clone(),
                    by: failed.by.clone(),
                });
            }
        }
        if asked.is_some() {
            if let Some(member) = self.members.get_mut(&rank) {
                member.gates += 1;
            }
            self.send(rank, ToTrainer::Gate(answer));
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

    fn decide(
        &mut self,
        seen: &Seen<'_>,
        n: usize,
        decided: Decided,
        gate: bool,
        answer: &mut GateAnswer,
        now: Instant,
    ) {
        let Decided {
            by,
            policy,
            decision,
        } = decided;
        let (rank, at) = (seen.rank, seen.position());
        let id = self.decision_id(&by, seen, n);
        let (what, reason) = match (&decision, policy) {
            (Decision::Log(line), _) => ("log", line.text.clone()),
            (Decision::Stop { reason, .. }, Policy::Act) => ("stop", reason.clone()),
            (Decision::Stop { reason, .. }, _) => ("would stop", reason.clone()),
            (Decision::Want(_) | Decision::Do(_), _) => todo!(),
            (Decision::Incident(text), _) => ("incident", text.clone()),
        };
        let told = What::Decision {
            by: by.clone(),
            what: what.into(),
            reason,
            id: id.clone(),
        };
        self.happened(now, Some(rank), at, seen.point, told);
        match (decision, policy) {
            (_, Policy::Observe) => {}
            (Decision::Want(_) | Decision::Do(_) | Decision::Incident(_), _) => todo!(),
            (Decision::Log(line), _) => self.log(id, &by, rank, at, line, now),
            (
                Decision::Stop {
                    reason, incident, ..
                },
                Policy::Warn,
            ) => {
                let text = format!("{by} would have stopped the training: {reason}");
                self.open_incident(
                    format!("stop/{id}"),
                    incident,
                    text.clone(),
                    Some(rank),
                    at,
                    now,
                );
                let line = LogLine {
                    level: LogLevel::Warning,
                    text,
                };
                if gate {
                    answer.logs.push(line)
                } else {
                    self.log(id, &by, rank, at, line, now)
                }
            }
            (
                Decision::Stop {
                    reason,
                    logs,
                    incident,
                },
                Policy::Act,
            ) => {
                tracing::warn!(run = %self.id, %rank, hook = by, iter = at.iter, reason, "a hook stops the training");
                self.open_incident(
                    format!("stop/{id}"),
                    incident,
                    reason.clone(),
                    Some(rank),
                    at,
                    now,
                );
                self.note(&id, &by, "stop", &reason, now);
                if gate {
                    answer.logs.extend(logs);
                    answer.stop.get_or_insert(GateStop { id, reason, by });
                } else {
                    for (n, line) in logs.into_iter().enumerate() {
                        self.log(format!("{id}/log{n}"), &by, rank, at, line, now);
                    }
                    let stop = Stop {
                        id,
                        effective: Effective::Next,
                        reason,
                        by,
                    };
                    let before = self.desired.state().lines();
                    if self.desired.stop(stop).is_ok() {
                        self.send_state(&before, now);
                    }
                }
            }
        }
    }

    fn log(&mut self, id: String, by: &str, rank: Rank, at: Position, line: LogLine, now: Instant) {
        push_bounded(
            &mut self.logs,
            LogSeen {
                rank,
                at,
                text: line.text.clone(),
                by: by.to_owned(),
            },
            KEPT_LOGS,
        );
        self.command(id, by, rank, at, Deed::Log(line), now);
    }
}
