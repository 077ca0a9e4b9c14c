//! One attempt of one run: takes messages, asks the hooks, steers, and keeps what `hookbus show` shows. No I/O; the clock
//! is an argument.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use super::member::Member;
use super::messages::{
    Attach, Fence, FenceReason, GateAnswer, GateStop, Link, Order, ToTrainer, Verdict, Welcome,
};
use super::roster::{Decided, Failed, Roster};
use super::{Journal, Rules};
use crate::domain::{
    Batch, Effective, Event, Facts, Heartbeat, Hole, Incident, IncidentKind, LogLevel, LogLine,
    Names, Otherwise, Outcome, Position, Rank, RunId, Stop, TrainerResult,
};
use crate::hooks::{Context, Decision, Policy, Seen};
use crate::session::{Admission, Held, admit};
use crate::snapshot::{LogSeen, Phase, ResultSeen, RunSnapshot};
use crate::steering::{OrderUpdate, Steering};
use crate::store::View;

const KEPT_RESULTS: usize = 256;
const KEPT_LOGS: usize = 64;
const KEPT_INCIDENTS: usize = 256;

type Updates = tokio::sync::mpsc::Sender<Result<OrderUpdate, String>>;

/// What a decision or an order was about, so that a result can be shown with it.
#[derive(Clone)]
struct Cause {
    by: String,
    what: &'static str,
    reason: String,
}

pub(super) struct Run {
    id: RunId,
    rules: Arc<Rules>,
    attempt: u32,
    world_size: u32,
    started: Instant,
    uid: Option<u32>,
    pub(super) members: BTreeMap<Rank, Member>,
    facts: Facts,
    roster: Roster,
    steering: Steering<Updates>,
    causes: BTreeMap<String, Cause>,
    results: VecDeque<ResultSeen>,
    incidents: Vec<(Incident, Instant)>,
    logs: VecDeque<LogSeen>,
    refused: Vec<(String, String, Rank)>,
    stopped: Option<String>,
    failed: Option<String>,
    lost: Option<String>,
}

impl Run {
    pub(super) fn new(id: RunId, rules: Arc<Rules>, now: Instant) -> Self {
        Self {
            roster: Roster::new(&rules.hooks),
            id,
            rules,
            attempt: 0,
            world_size: 1,
            started: now,
            uid: None,
            members: BTreeMap::new(),
            facts: Facts::default(),
            steering: Steering::new(0),
            causes: BTreeMap::new(),
            results: VecDeque::new(),
            incidents: Vec::new(),
            logs: VecDeque::new(),
            refused: Vec::new(),
            stopped: None,
            failed: None,
            lost: None,
        }
    }

    /// Lets a rank in, or says why not. `alive` says of the process that holds the rank whether it lives.
    pub(super) fn attach(
        &mut self,
        attach: Attach,
        now: Instant,
        alive: impl Fn((u32, u64)) -> bool,
    ) {
        let Attach {
            serial,
            hello,
            uid,
            process,
            out,
            reply,
        } = attach;
        if self.uid.is_some() && uid.is_some() && self.uid != uid {
            let text = format!("run {} belongs to another user", self.id);
            let _ = reply.send(Err(Fence {
                reason: FenceReason::Refused,
                text,
            }));
            return;
        }
        let rank = hello.rank;
        let held = self.members.get(&rank).map(|member| Held {
            session: &member.hello.session,
            process: &member.hello.process,
            gone: member.is_gone(now)
                || member
                    .process
                    .as_ref()
                    .is_ok_and(|process| !alive(*process)),
        });
        let verdict = match admit(
            self.attempt,
            !self.members.is_empty(),
            hello.attempt,
            held,
            &hello.session,
        ) {
            Admission::Duplicate => {
                let text = format!("another live process holds rank {rank} of run {}", self.id);
                let _ = reply.send(Err(Fence {
                    reason: FenceReason::Duplicate,
                    text,
                }));
                return;
            }
            Admission::Superseded => {
                let text = format!("run {} is at attempt {} now", self.id, self.attempt);
                let _ = reply.send(Err(Fence {
                    reason: FenceReason::Superseded,
                    text,
                }));
                return;
            }
            Admission::NextAttempt(attempt) => {
                self.open_attempt(attempt, now);
                None
            }
            Admission::New => None,
            Admission::Resumed => Some(Verdict::Resumed),
        };
        self.uid = self.uid.or(uid);
        self.world_size = self.world_size.max(hello.world_size).max(rank.0 + 1);
        let mut refused = self.roster.ask(&hello.hooks);
        refused.extend(self.roster.unreachable(&hello.points));
        for (what, reason) in &refused {
            tracing::warn!(run = %self.id, %rank, what, reason, "refused");
            self.refused
                .retain(|(old, _, whose)| (old, *whose) != (what, rank));
            self.refused.push((what.clone(), reason.clone(), rank));
        }
        self.steering.applied(rank, &hello.applied);
        let verdict = verdict.unwrap_or(if hello.next_seq > 1 {
            Verdict::Lost
        } else {
            Verdict::New
        });
        if verdict == Verdict::Resumed {
            let member = self.members.get_mut(&rank).expect("a resumed rank is held");
            member.resume(hello, serial, out, now);
        } else {
            self.members
                .insert(rank, Member::new(hello, process, serial, out, now));
        }
        self.close_incident(&format!("lost/{}/{rank}", self.attempt));
        let plan = self.roster.plan(
            &self.rules.record,
            self.rules.stall_budget,
            self.rules.probe,
        );
        let member = &self.members[&rank];
        let welcome = Welcome {
            run: self.id.clone(),
            verdict,
            attempt: self.attempt,
            plan: plan.clone(),
            state: self.steering.state().clone(),
            settled: member.intake.settled(),
            refused,
        };
        tracing::info!(run = %self.id, %rank, attempt = self.attempt, ?verdict, "a rank attached");
        self.send(rank, ToTrainer::Welcome(Box::new(welcome)));
        if reply.send(Ok(())).is_err() {
            return;
        }
        let pending: Vec<_> = self.steering.pending(rank).cloned().collect();
        for command in pending {
            self.send(rank, ToTrainer::Command(command));
        }
        // A new hook may concern the ranks that came before.
        let others: Vec<_> = self
            .members
            .keys()
            .copied()
            .filter(|other| *other != rank)
            .collect();
        for other in others {
            self.send(other, ToTrainer::Plan(plan.clone()));
        }
    }

    fn open_attempt(&mut self, attempt: u32, now: Instant) {
        for member in self.members.values_mut() {
            let text = format!("attempt {attempt} of run {} has started", self.id);
            member.send(ToTrainer::Fence(Fence {
                reason: FenceReason::Superseded,
                text,
            }));
        }
        let generation = self.steering.state().generation;
        let id = self.id.clone();
        let rules = Arc::clone(&self.rules);
        let uid = self.uid;
        *self = Self {
            attempt,
            uid,
            steering: Steering::new(generation),
            ..Self::new(id, rules, now)
        };
    }

    /// The rank of a live link; None for an older connection.
    pub(super) fn live(&mut self, link: Link, now: Instant) -> Option<&mut Member> {
        let member = self
            .members
            .get_mut(&link.rank)
            .filter(|member| member.serial == link.serial)?;
        member.heard(now);
        if member.silent {
            member.silent = false;
            self.close_incident(&format!("lost/{}/{}", self.attempt, link.rank));
        }
        self.members.get_mut(&link.rank)
    }

    /// Takes a batch: each new event is recorded, seen by the hooks that are due, and settled.
    pub(super) fn batch(
        &mut self,
        link: Link,
        first_seq: u64,
        batch: Batch,
        view: &dyn View,
        journal: &mut dyn Journal,
        now: Instant,
    ) {
        let Some(member) = self.live(link, now) else {
            return;
        };
        let taken = member.intake.take(first_seq, batch.events.len());
        let names = Arc::clone(&batch.names);
        for event in &batch.events[taken.skip..] {
            if let Some(member) = self.members.get_mut(&link.rank) {
                member.record(event, &names, now);
            }
            let asked = batch.gates.iter().find(|gate| gate.seq == event.seq);
            let asked = asked.map(|gate| gate.subscribers.as_slice());
            self.event(link.rank, event, &names, asked, view, now);
        }
        // A gate that is asked again after a reconnect was answered by the client itself; it is not decided twice.
        for gate in batch.gates.iter().filter(|gate| {
            batch.events[..taken.skip]
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
        if journal.append(&self.id, self.attempt, link.rank, &batch, taken.skip)
            && let Some(member) = self.members.get_mut(&link.rank)
        {
            let settled = member.intake.settled();
            member.send(ToTrainer::Ack(settled));
        }
    }

    fn event(
        &mut self,
        rank: Rank,
        event: &Event,
        names: &Names,
        asked: Option<&[String]>,
        view: &dyn View,
        now: Instant,
    ) {
        let point = &*names.points[event.point as usize];
        let seen = Seen {
            rank,
            point,
            event,
            names,
        };
        let calls = self
            .roster
            .call(&Context { now, view }, &seen, asked.unwrap_or_default());
        let mut answer = GateAnswer {
            seq: event.seq,
            stop: None,
            logs: Vec::new(),
        };
        for (n, decided) in calls.decided.into_iter().enumerate() {
            self.decide(&seen, n, decided, asked.is_some(), &mut answer, now);
        }
        let replan = !calls.failed.is_empty();
        for Failed {
            by: name,
            what,
            otherwise,
        } in calls.failed
        {
            let text = format!("hook {name} panicked and is off: {what}");
            tracing::error!(run = %self.id, %rank, hook = name, what, "a hook panicked and is off");
            self.open_incident(
                format!("hook/{}/{name}", self.attempt),
                IncidentKind::HookFailed,
                text,
                Some(rank),
                event.position,
                now,
            );
            if let Some((Otherwise::Stop, reason)) = otherwise {
                let id = self.decision_id(&name, &seen, 0);
                self.note(&id, &name, "stop", &reason);
                answer.stop.get_or_insert(GateStop {
                    id,
                    reason,
                    by: name,
                });
            }
        }
        if asked.is_some() {
            if let Some(member) = self.members.get_mut(&rank) {
                member.gates += 1;
            }
            self.send(rank, ToTrainer::Gate(answer));
        }
        if replan {
            let plan = self.roster.plan(
                &self.rules.record,
                self.rules.stall_budget,
                self.rules.probe,
            );
            self.send_all(&ToTrainer::Plan(plan));
        }
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
        match (decision, policy) {
            (_, Policy::Observe) => {}
            (Decision::Log(line), _) => self.log(id, &by, rank, at, line),
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
                    self.log(id, &by, rank, at, line)
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
                self.note(&id, &by, "stop", &reason);
                if gate {
                    answer.logs.extend(logs);
                    answer.stop.get_or_insert(GateStop { id, reason, by });
                } else {
                    for (n, line) in logs.into_iter().enumerate() {
                        self.log(format!("{id}/log{n}"), &by, rank, at, line);
                    }
                    let stop = Stop {
                        id,
                        effective: Effective::Next,
                        reason,
                        by,
                    };
                    if let Ok(state) = self.steering.stop(stop) {
                        let state = state.clone();
                        self.send_all(&ToTrainer::State(state));
                    }
                }
            }
        }
    }

    fn log(&mut self, id: String, by: &str, rank: Rank, at: Position, line: LogLine) {
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
        let command = Steering::<Updates>::log(id, by, at, line);
        if let Some(lost) = self.steering.command(rank, command.clone()) {
            tracing::warn!(run = %self.id, %rank, id = lost.id, "a log line was dropped: the trainer does not answer");
        }
        self.send(rank, ToTrainer::Command(command));
    }

    /// An operator wants a stop: every rank that has not ended is addressed.
    pub(super) fn order(&mut self, order: Order, now: Instant) {
        let ranks: BTreeSet<_> = self
            .members
            .iter()
            .filter(|(_, member)| member.ended.is_none())
            .map(|(rank, _)| *rank)
            .collect();
        if ranks.is_empty() {
            let _ =
                order
                    .updates
                    .try_send(Err(format!("run {} is over: {}", self.id, self.reason())));
            return;
        }
        tracing::info!(run = %self.id, id = order.id, by = order.by, reason = order.reason, effective = ?order.effective, "an operator stops the run");
        let stop = Stop {
            id: order.id.clone(),
            effective: order.effective,
            reason: order.reason.clone(),
            by: order.by.clone(),
        };
        match self.steering.stop(stop) {
            Err(stands) => {
                let text = format!(
                    "run {} is stopping already, by {}: {}",
                    self.id, stands.by, stands.reason
                );
                let _ = order.updates.try_send(Err(text));
            }
            Ok(state) => {
                let state = state.clone();
                self.note(&order.id, &order.by, "stop", &order.reason);
                let first = self.steering.expect(
                    order.id,
                    ranks,
                    now + order.timeout,
                    order.updates.clone(),
                );
                let _ = order.updates.try_send(Ok(first));
                self.send_all(&ToTrainer::State(state));
            }
        }
    }

    /// What a rank did.
    pub(super) fn result(&mut self, link: Link, result: TrainerResult, now: Instant) {
        if self.live(link, now).is_none() {
            return;
        }
        let known = |seen: &ResultSeen| seen.rank == link.rank && seen.result.id == result.id;
        if self.results.iter().any(known) {
            return; // sent again after a reconnect
        }
        let updates = self.steering.result(link.rank, &result);
        self.tell(updates);
        let cause = self.causes.get(&result.id).cloned();
        let local = result
            .id
            .strip_prefix("local:")
            .and_then(|rest| rest.split(':').next());
        if let Some(hook) = local {
            let text = format!(
                "rank {} stopped by itself for {hook}: no answer came in time ({})",
                link.rank, result.reason
            );
            self.open_incident(
                format!("local/{}", result.id),
                IncidentKind::GateTimedOut,
                text,
                Some(link.rank),
                result.at,
                now,
            );
        }
        let is_stop = local.is_some() || cause.as_ref().is_some_and(|cause| cause.what == "stop");
        if is_stop && result.outcome == Outcome::Applied {
            let by = cause
                .as_ref()
                .map(|cause| cause.by.as_str())
                .or(local)
                .unwrap_or_default();
            let reason = cause.as_ref().map_or(&result.reason, |cause| &cause.reason);
            self.stopped
                .get_or_insert_with(|| format!("{by}: {reason}"));
        }
        let (by, what) = match cause {
            Some(cause) => (cause.by, cause.what),
            None if is_stop => (local.unwrap_or_default().to_owned(), "stop"),
            // A log line that arrived is no news.
            None if result.outcome == Outcome::Applied => return,
            None => (String::new(), "command"),
        };
        let id = result.id.clone();
        push_bounded(
            &mut self.results,
            ResultSeen {
                rank: link.rank,
                result,
                by,
                what,
                at: now,
            },
            KEPT_RESULTS,
        );
        self.look_for_mixture(&id, now);
    }

    fn look_for_mixture(&mut self, id: &str, now: Instant) {
        let outcomes: BTreeMap<_, _> = self
            .results
            .iter()
            .filter(|seen| seen.result.id == id)
            .map(|seen| (seen.rank, seen.result.outcome))
            .collect();
        let applied = outcomes
            .values()
            .filter(|outcome| **outcome == Outcome::Applied)
            .count();
        if applied > 0 && applied < outcomes.len() {
            let each: Vec<_> = outcomes
                .iter()
                .map(|(rank, outcome)| format!("rank {rank} {outcome:?}"))
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

    pub(super) fn facts(&mut self, link: Link, facts: Facts, now: Instant) {
        if self.live(link, now).is_some()
            && (link.rank == Rank(0) || self.facts == Facts::default())
        {
            self.facts = facts;
        }
    }

    pub(super) fn heartbeat(&mut self, link: Link, heartbeat: Heartbeat, now: Instant) {
        if let Some(member) = self.live(link, now) {
            if heartbeat.position > member.position {
                member.position = heartbeat.position;
            }
            member.heartbeat = heartbeat;
            member.touch();
        }
    }

    pub(super) fn holes(&mut self, link: Link, holes: Vec<Hole>, now: Instant) {
        if let Some(member) = self.live(link, now) {
            let dropped: u64 = holes.iter().flat_map(|hole| hole.points.values()).sum();
            tracing::warn!(rank = %link.rank, dropped, "the client's buffer was full; events were dropped");
            member.intake.set_holes(holes);
        }
    }

    /// A rank ends on purpose.
    pub(super) fn bye(&mut self, link: Link, reason: String, failed: bool, now: Instant) {
        let Some(member) = self.live(link, now) else {
            return;
        };
        member.ended = Some(if reason.is_empty() {
            "finished".to_owned()
        } else {
            reason.clone()
        });
        member.out = None;
        member.touch();
        if failed {
            self.failed
                .get_or_insert_with(|| format!("rank {}: {reason}", link.rank));
        }
        tracing::info!(run = %self.id, rank = %link.rank, reason, failed, "a rank said goodbye");
        self.rank_ended(link.rank, "the rank ended before it was applied");
    }

    /// A connection broke without a goodbye. `alive`: whether its process lives; None: not known.
    pub(super) fn gone(&mut self, link: Link, alive: Option<bool>, now: Instant) {
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
    pub(super) fn tick(&mut self, now: Instant, alive: impl Fn((u32, u64)) -> bool) {
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
                self.open_incident(
                    format!("lost/{}/{rank}", self.attempt),
                    IncidentKind::RankLost,
                    text,
                    Some(rank),
                    at,
                    now,
                );
                self.members.get_mut(&rank).expect("it is there").silent = true;
            }
        }
    }

    fn lose(&mut self, rank: Rank, why: &str, now: Instant) {
        let Some(member) = self.members.get_mut(&rank) else {
            return;
        };
        member.ended = Some(format!("lost: {why}"));
        member.out = None;
        member.touch();
        let at = member.position;
        tracing::warn!(run = %self.id, %rank, why, "a rank is lost");
        self.lost
            .get_or_insert_with(|| format!("rank {rank}: {why}"));
        let text = format!("rank {rank} is lost at iteration {}: {why}", at.iter);
        self.open_incident(
            format!("lost/{}/{rank}", self.attempt),
            IncidentKind::RankLost,
            text,
            Some(rank),
            at,
            now,
        );
        self.rank_ended(rank, why);
    }

    fn rank_ended(&mut self, rank: Rank, why: &str) {
        let at = self
            .members
            .get(&rank)
            .map(|member| member.position)
            .unwrap_or_default();
        let updates = self.steering.rank_ended(rank, at, why);
        self.tell(updates);
    }

    /// Every session ends politely.
    pub(super) fn shutdown(&mut self) {
        let fence = Fence {
            reason: FenceReason::Shutdown,
            text: "the daemon is ending".to_owned(),
        };
        self.send_all(&ToTrainer::Fence(fence));
    }

    /// Whether every rank has ended.
    pub(super) fn is_over(&self) -> bool {
        !self.members.is_empty() && self.members.values().all(|member| member.ended.is_some())
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.steering.next_deadline()
    }

    /// For readers.
    pub(super) fn snapshot(&mut self) -> RunSnapshot {
        RunSnapshot {
            id: self.id.clone(),
            attempt: self.attempt,
            world_size: self.world_size,
            phase: self.phase(),
            reason: self.reason(),
            started: self.started,
            facts: self.facts.clone(),
            ranks: self
                .members
                .iter_mut()
                .map(|(rank, member)| (*rank, member.snapshot()))
                .collect(),
            hooks: self.roster.snapshot(),
            refused: self.refused.clone(),
            results: self.results.clone(),
            incidents: self.incidents.clone(),
            logs: self.logs.clone(),
        }
    }

    fn phase(&self) -> Phase {
        if !self.is_over() {
            Phase::Running
        } else if self.stopped.is_some() {
            Phase::Stopped
        } else if self.failed.is_some() {
            Phase::Failed
        } else if self.lost.is_some() {
            Phase::Lost
        } else {
            Phase::Finished
        }
    }

    fn reason(&self) -> String {
        [&self.stopped, &self.failed, &self.lost]
            .into_iter()
            .flatten()
            .next()
            .cloned()
            .unwrap_or_default()
    }

    fn send(&mut self, rank: Rank, message: ToTrainer) {
        if let Some(member) = self.members.get_mut(&rank) {
            member.send(message);
        }
    }

    fn send_all(&mut self, message: &ToTrainer) {
        for member in self.members.values_mut() {
            member.send(message.clone());
        }
    }

    fn tell(&self, updates: Vec<(Updates, OrderUpdate)>) {
        for (operator, update) in updates {
            if operator.try_send(Ok(update)).is_err() {
                tracing::warn!(run = %self.id, "an operator's update was dropped: it does not read, or it left");
            }
        }
    }

    /// The same cause has the same id, also after a restart.
    fn decision_id(&self, hook: &str, seen: &Seen<'_>, n: usize) -> String {
        let Position {
            epoch,
            iter,
            inner_iter,
        } = seen.position();
        format!(
            "{hook}/{}/r{}/{}/e{epoch}.i{iter}.{inner_iter}/{n}",
            self.attempt, seen.rank, seen.point
        )
    }

    fn note(&mut self, id: &str, by: &str, what: &'static str, reason: &str) {
        if self.causes.len() >= KEPT_RESULTS {
            self.causes.pop_first();
        }
        self.causes.insert(
            id.to_owned(),
            Cause {
                by: by.to_owned(),
                what,
                reason: reason.to_owned(),
            },
        );
    }

    fn open_incident(
        &mut self,
        id: String,
        kind: IncidentKind,
        text: String,
        rank: Option<Rank>,
        at: Position,
        now: Instant,
    ) {
        if let Some((incident, _)) = self
            .incidents
            .iter_mut()
            .find(|(incident, _)| incident.id == id)
        {
            incident.open = true;
            return;
        }
        if self.incidents.len() >= KEPT_INCIDENTS {
            self.incidents.remove(0);
        }
        self.incidents.push((
            Incident {
                id,
                kind,
                text,
                open: true,
                rank,
                at,
            },
            now,
        ));
    }

    fn close_incident(&mut self, id: &str) {
        for (incident, _) in self
            .incidents
            .iter_mut()
            .filter(|(incident, _)| incident.id == id)
        {
            incident.open = false;
        }
    }
}

fn push_bounded<T>(queue: &mut VecDeque<T>, item: T, most: usize) {
    if queue.len() >= most {
        queue.pop_front();
    }
    queue.push_back(item);
}
