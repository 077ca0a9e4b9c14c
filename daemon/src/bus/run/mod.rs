//! One attempt of one run: lets ranks in, and keeps what `hookbus show` shows. What it does with events, facts, orders and
//! silence is in the files beside this one. No I/O; the clock is an argument.

mod ahead;
mod calls;
mod decisions;
mod events;
mod gates;
mod kept;
mod liveness;
mod orders;
mod out_of_memory;
mod providers;
mod restored;
mod results;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

use super::Rules;
use super::answers::{Answers, Cause};
use super::claims::Claims;
use super::followers::Followers;
use super::incidents::Incidents;
use super::member::Member;
use super::messages::{
    Attach, Fence, FenceReason, GateAnswer, GateStop, Link, ToTrainer, Verdict, Welcome,
};
use super::roster::Roster;
use crate::domain::{
    EncodedSchedule, Facts, GateRequest, Hello, IncidentKind, Outcome, Position, Rank, RunId,
    TrainerResult,
};
use crate::session::{Admission, Current, Held, admit};
use crate::snapshot::{AttemptSeen, Happening, LogSeen, Phase, ResultSeen, RunSnapshot, What};
use crate::steering::{Desired, OrderUpdate, Steering};
use crate::store::journal::{Attached, Kind};
use crate::store::{Live, View};
use gates::Gate;
use kept::Kept;
use providers::Providers;

const KEPT_RESULTS: usize = 256;
const KEPT_LOGS: usize = 64;

type Updates = mpsc::Sender<Result<OrderUpdate, String>>;

pub(super) struct Run {
    id: RunId,
    rules: Arc<Rules>,
    attempt: u32,
    /// The launcher's count that opened it.
    counted: Option<u32>,
    world_size: u32,
    started: Instant,
    uid: Option<u32>,
    pub(super) members: BTreeMap<Rank, Member>,
    /// What is decided ahead is made from these; before that the latest that any rank said.
    facts: Facts,
    /// Whose they are, for good in this attempt.
    leader: Option<Rank>,
    /// Then the lowest rank that is here leads, if rank 0 has not come.
    lead_by: Option<Instant>,
    /// From which facts, and with which hooks, it was decided last.
    decided_from: Option<(Facts, u64)>,
    roster: Roster,
    desired: Desired,
    /// What the desired state names, by the field.
    schedules: Vec<Arc<EncodedSchedule>>,
    steering: Steering<Updates>,
    answers: Answers,
    /// What hooks have decided where.
    claims: Claims,
    /// That wait for hooks of providers.
    gates: Vec<Gate>,
    providers: Providers,
    results: VecDeque<ResultSeen>,
    outcomes: BTreeMap<(Cow<'static, str>, Outcome), u64>,
    memory: BTreeMap<Rank, out_of_memory::Watched>,
    /// Of what is not known here, or not yet.
    early: VecDeque<(Rank, TrainerResult)>,
    incidents: Incidents,
    logs: VecDeque<LogSeen>,
    refused: Vec<(String, String, Rank)>,
    /// Of hooks that cannot work with the facts.
    refused_ahead: Vec<(String, String)>,
    followers: Followers,
    stopped: Option<String>,
    failed: Option<String>,
    lost: Option<String>,
    /// When every rank had ended.
    over: Option<Instant>,
    /// No rank has come since this daemon started.
    archived: bool,
    before: Vec<AttemptSeen>,
    /// Sessions of those attempts. One that comes back is not of this one.
    superseded: BTreeSet<String>,
    /// What goes to the journal.
    kept: Kept,
    about_journal: Option<String>,
    /// Why it is not written now.
    journal_stopped: Option<String>,
    /// The daemon ends.
    ending: bool,
}

impl Run {
    pub(super) fn new(id: RunId, rules: Arc<Rules>, now: Instant) -> Self {
        Self {
            roster: Roster::new(&rules.hooks),
            id,
            rules,
            attempt: 0,
            counted: None,
            world_size: 1,
            started: now,
            uid: None,
            members: BTreeMap::new(),
            facts: Facts::default(),
            leader: None,
            lead_by: None,
            decided_from: None,
            desired: Desired::new(0),
            schedules: Vec::new(),
            steering: Steering::default(),
            answers: Answers::default(),
            claims: Claims::default(),
            gates: Vec::new(),
            providers: Providers::default(),
            results: VecDeque::new(),
            outcomes: BTreeMap::new(),
            memory: BTreeMap::new(),
            early: VecDeque::new(),
            incidents: Incidents::default(),
            logs: VecDeque::new(),
            refused: Vec::new(),
            refused_ahead: Vec::new(),
            followers: Followers::new(now),
            stopped: None,
            failed: None,
            lost: None,
            over: None,
            archived: false,
            before: Vec::new(),
            superseded: BTreeSet::new(),
            kept: Kept::default(),
            about_journal: None,
            journal_stopped: None,
            ending: false,
        }
    }

    /// Something about its journal that is to be looked at once a rank is here.
    pub(super) fn journal_note(&mut self, line: String) {
        self.about_journal = Some(line);
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
        let verdict = match self.admit(&hello, uid, now, alive) {
            Ok(verdict) => verdict,
            Err(fence) => {
                // A peer that has left needs no fence.
                let _ = reply.send(Err(fence));
                return;
            }
        };
        let rank = hello.rank;
        self.archived = false;
        let asked_before = self.roster.generation();
        let owner = self.uid.or(uid);
        if self.members.is_empty() || owner != self.uid {
            self.uid = owner;
            self.join_all(now);
        }
        self.world_size = self.world_size.max(hello.world_size).max(rank.0 + 1);
        self.write_attempt(now);
        let refused = self.ask(&hello);
        let asks_new = self.roster.generation() != asked_before;
        self.write_attached(&hello, process.as_ref().ok().copied(), verdict, now);
        for id in self.steering.taken(rank, &hello.applied) {
            self.write(now, Kind::Taken(rank, id));
        }
        if let Some(state) = hello.state.clone() {
            self.adopt(state, &hello.applied, now);
        }
        let has = hello.applied.clone();
        if verdict == Verdict::Resumed {
            let member = self.members.get_mut(&rank).expect("a resumed rank is held");
            member.resume(hello, process, serial, out, now);
        } else {
            self.members
                .insert(rank, Member::new(hello, process, serial, out, now));
        }
        self.close_incident(&format!("lost/{}/{rank}", self.attempt), now);
        self.found_again(rank);
        if let Some(line) = self.about_journal.take() {
            self.journal_set_aside(line, now);
        }
        if let Some(why) = self.journal_stopped.take() {
            self.journal_trouble(Some(&why), now);
        }
        self.open_providers(now);
        let plan = self.plan();
        let member = &self.members[&rank];
        let welcome = Welcome {
            run: self.id.clone(),
            verdict,
            attempt: self.attempt,
            plan: plan.clone(),
            state: self.desired.state().clone(),
            settled: member.settled,
            taken: member.intake.settled(),
            own_memory: member.process.is_err(),
            refused,
        };
        tracing::info!(run = %self.id, %rank, attempt = self.attempt, ?verdict, "a rank attached");
        self.lifecycle(rank, format!("attached, {verdict:?}").to_lowercase(), now);
        self.send(rank, ToTrainer::Welcome(Box::new(welcome)));
        if reply.send(Ok(())).is_err() {
            return;
        }
        for schedule in self.schedules.clone() {
            if !has.contains(&schedule.id) {
                self.send(rank, ToTrainer::Schedule(schedule));
            }
        }
        let pending: Vec<_> = self.steering.pending(rank).cloned().collect();
        for command in pending {
            self.send(rank, ToTrainer::Command(command));
        }
        // A new hook may concern the ranks that came before; without one they have this plan already.
        let others = self.members.iter_mut().filter(|(other, _)| **other != rank);
        for (_, other) in others.filter(|_| asks_new) {
            other.send(ToTrainer::Plan(plan.clone()));
        }
    }

    /// Goes on from what a rank still has of a daemon that is gone.
    fn adopt(&mut self, state: crate::domain::DesiredState, has: &[String], now: Instant) {
        let before = self.desired.state().lines();
        let alone = self.desired.state().generation == 0;
        let knows = |id: &str| self.answers.knows(id);
        if !self.desired.adopt(state, has, knows) {
            return;
        }
        for line in self.desired.state().lines() {
            if !self.answers.knows(&line.id) {
                self.note(&line.id, &line.by, line.field.clone(), &line.text, now);
            }
        }
        if !alone {
            self.send_state(&before, now);
        }
    }

    /// Whether a rank may come in, and how.
    fn admit(
        &mut self,
        hello: &Hello,
        uid: Option<u32>,
        now: Instant,
        alive: impl Fn((u32, u64)) -> bool,
    ) -> Result<Verdict, Fence> {
        if self.ending {
            return Err(Fence::shutdown());
        }
        let fence = |reason, text| Err(Fence { reason, text });
        if self.uid.is_some() && uid.is_some() && self.uid != uid {
            let text = format!("run {} belongs to another user", self.id);
            return fence(FenceReason::Refused, text);
        }
        if self.superseded.contains(&hello.session) {
            let text = format!("run {} is at attempt {} now", self.id, self.attempt);
            return fence(FenceReason::Superseded, text);
        }
        let rank = hello.rank;
        let is_gone = |member: &Member| {
            let process = member.process.as_ref();
            member.is_gone(now) || process.is_ok_and(|process| !alive(*process))
        };
        let held = self.members.get(&rank).map(|member| Held {
            session: &member.hello.session,
            process: &member.hello.process,
            gone: is_gone(member),
        });
        let current = Current {
            attempt: self.attempt,
            counted: self.counted,
            any: !self.members.is_empty(),
            // A rank that comes late, after others have finished, belongs to them.
            over: self.members.values().all(is_gone)
                && (self.members.len() >= self.world_size as usize
                    || self.members.values().any(|member| !member.said_bye)),
        };
        let admission = admit(current, hello.attempt, held, &hello.session);
        match admission {
            Admission::Duplicate => {
                let text = format!("another live process holds rank {rank} of run {}", self.id);
                return fence(FenceReason::Duplicate, text);
            }
            Admission::Superseded => {
                let text = format!("run {} is at attempt {} now", self.id, self.attempt);
                return fence(FenceReason::Superseded, text);
            }
            Admission::Resumed => return Ok(Verdict::Resumed),
            Admission::NextAttempt(attempt) => self.open_attempt(attempt, hello.attempt, now),
            Admission::New => {}
        }
        Ok(if hello.next_seq > 1 {
            Verdict::Lost
        } else {
            Verdict::New
        })
    }

    /// Takes the hooks that a rank asks for. Returns what it does not get.
    fn ask(&mut self, hello: &Hello) -> Vec<(String, String)> {
        let rank = hello.rank;
        let mut refused = self.roster.ask(&hello.hooks);
        refused.extend(self.roster.unreachable(&hello.points));
        self.refuse(rank, &refused);
        refused
    }

    fn refuse(&mut self, rank: Rank, refused: &[(String, String)]) {
        for (what, reason) in refused {
            let one = (what.clone(), reason.clone(), rank);
            if self.refused.contains(&one) {
                continue;
            }
            tracing::warn!(run = %self.id, %rank, what, reason, "refused");
            self.refused
                .retain(|(old, _, whose)| (old, *whose) != (what, rank));
            self.refused.push(one);
        }
    }

    fn plan(&self) -> crate::domain::Plan {
        self.roster.plan(
            &self.rules.record,
            self.rules.stall_budget,
            self.rules.probe,
        )
    }

    fn open_attempt(&mut self, attempt: u32, counted: Option<u32>, now: Instant) {
        for member in self.members.values_mut() {
            let text = format!("attempt {attempt} of run {} has started", self.id);
            member.send(ToTrainer::Fence(Fence {
                reason: FenceReason::Superseded,
                text,
            }));
        }
        let generation = self.desired.state().generation;
        let id = self.id.clone();
        let rules = Arc::clone(&self.rules);
        let uid = self.uid;
        self.close_attempt(attempt, now);
        let followers = std::mem::replace(&mut self.followers, Followers::new(now));
        let (kept, before) = (
            std::mem::take(&mut self.kept),
            std::mem::take(&mut self.before),
        );
        let providers = std::mem::take(&mut self.providers).next_attempt();
        let mut superseded = std::mem::take(&mut self.superseded);
        let sessions = self.members.values().map(|member| &member.hello.session);
        superseded.extend(sessions.cloned());
        *self = Self {
            attempt,
            counted,
            uid,
            before,
            superseded,
            kept: kept.next_attempt(),
            about_journal: self.about_journal.take(),
            journal_stopped: self.journal_stopped.take(),
            desired: Desired::new(generation),
            followers: followers.restart(now),
            providers,
            ..Self::new(id, rules, now)
        };
        self.join_all(now);
    }

    /// The rank of a live link; None for an older connection.
    pub(super) fn live(&mut self, link: Link, now: Instant) -> Option<&mut Member> {
        let member = self
            .members
            .get_mut(&link.rank)
            .filter(|member| member.serial == link.serial)?;
        member.heard(now);
        if std::mem::take(&mut member.silent) {
            self.close_incident(&format!("lost/{}/{}", self.attempt, link.rank), now);
        }
        self.members.get_mut(&link.rank)
    }

    /// The memory of its ranks is looked at.
    pub(super) fn track(&mut self, live: &Live, now: Instant) {
        for member in self.members.values_mut() {
            member.track(&self.id, live, now);
        }
    }

    /// Beside what is known of their memory it stands where they are.
    pub(super) fn note_positions(&self, now: Instant) {
        let here = self
            .members
            .values()
            .filter(|member| member.ended.is_none());
        for tracked in here.filter_map(Member::tracked) {
            tracked.note(now);
        }
    }

    /// Which run.
    pub(super) fn id(&self) -> &RunId {
        &self.id
    }

    /// Somebody follows the run.
    pub(super) fn follow(&mut self, out: mpsc::Sender<Happening>, events: bool) {
        self.followers.add(out, events);
    }

    /// Every session ends politely, and none comes in.
    pub(super) fn shutdown(&mut self) {
        self.ending = true;
        self.send_all(&ToTrainer::Fence(Fence::shutdown()));
    }

    /// Whether every rank has ended.
    pub(super) fn is_over(&self) -> bool {
        !self.members.is_empty() && self.members.values().all(|member| member.ended.is_some())
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let lead = self.lead_by.filter(|_| self.leader.is_none());
        let calls = self.roster.next_due();
        let steering = self.steering.next_deadline();
        steering.into_iter().chain(lead).chain(calls).min()
    }

    /// For readers, as it is now.
    pub(super) fn snapshot(&mut self) -> RunSnapshot {
        self.refresh(Rank(0), usize::MAX);
        self.shown()
    }

    /// Makes what readers see of so many ranks, at most, from this one on. Returns where to go on; None: that was the last.
    pub(super) fn refresh(&mut self, from: Rank, most: usize) -> Option<Rank> {
        let mut ranks = self.members.range_mut(from..);
        for (_, member) in ranks.by_ref().take(most) {
            member.snapshot();
        }
        ranks.next().map(|(rank, _)| *rank)
    }

    /// For readers: the ranks as they were made last.
    pub(super) fn shown(&mut self) -> RunSnapshot {
        let whose = self.leader.unwrap_or(Rank(0));
        let ahead = self
            .refused_ahead
            .iter()
            .map(|(hook, why)| (format!("hook {hook}"), why.clone(), whose));
        let of_providers = self.providers.refused();
        let of_providers = of_providers.map(|(what, why)| (what, why, whose));
        RunSnapshot {
            id: self.id.clone(),
            attempt: self.attempt,
            world_size: self.world_size,
            phase: self.phase(),
            reason: self.reason(),
            started: self.started,
            ended: self.over,
            archived: self.archived,
            before: self.before.clone(),
            facts: self.facts.clone(),
            ranks: self
                .members
                .iter_mut()
                .map(|(rank, member)| (*rank, member.shown()))
                .collect(),
            hooks: self.roster.snapshot(),
            refused: self
                .refused
                .iter()
                .cloned()
                .chain(ahead)
                .chain(of_providers)
                .collect(),
            wanted: self.desired.state().lines(),
            results: self.results.clone(),
            outcomes: self.outcomes.clone(),
            incidents: self.incidents.all(),
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

    /// Every rank gets the desired state whole; followers hear what is new in it.
    fn send_state(&mut self, before: &[crate::domain::Wanted], now: Instant) {
        let after = self.desired.state().lines();
        let new = after.iter().filter(|line| !before.contains(line)).cloned();
        let over = before.iter().filter(|line| !after.contains(line));
        let over = over.map(|line| crate::domain::Wanted {
            text: format!("no longer {}", line.text),
            ..line.clone()
        });
        for line in over.chain(new) {
            self.happened(now, None, Position::default(), "", What::State(line));
        }
        let state = ToTrainer::State(Box::new(self.desired.state().clone()));
        self.send_all(&state);
    }

    fn lifecycle(&mut self, rank: Rank, text: String, now: Instant) {
        let at = self
            .members
            .get(&rank)
            .map(|member| member.position)
            .unwrap_or_default();
        self.happened(now, Some(rank), at, "", What::Lifecycle(text));
    }

    /// The same cause has the same id, also after a restart.
    fn decision_id(&self, hook: &str, rank: Rank, point: &str, at: Position, n: usize) -> String {
        let Position {
            epoch,
            iter,
            inner_iter,
        } = at;
        format!(
            "{hook}/{}/r{rank}/{point}/e{epoch}.i{iter}.{inner_iter}/{n}",
            self.attempt
        )
    }

    fn note(
        &mut self,
        id: &str,
        by: &str,
        what: impl Into<Cow<'static, str>>,
        reason: &str,
        now: Instant,
    ) {
        let cause = cause(by, what, reason);
        self.write_cause(id, &cause, false, now);
        self.answers.note(id, cause);
    }

    fn note_ahead(&mut self, id: &str, by: &str, what: &'static str, reason: &str, now: Instant) {
        let cause = cause(by, what, reason);
        if self.answers.cause(id) != Some(&cause) {
            self.write_cause(id, &cause, true, now);
        }
        self.answers.note_ahead(id, cause);
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
        if let Some(incident) = self.incidents.open(id, kind, text, rank, at, now) {
            let what = What::Incident(incident.clone());
            self.happened(now, rank, at, "", what);
        }
    }

    fn close_incident(&mut self, id: &str, now: Instant) {
        if let Some(incident) = self.incidents.close(id) {
            let (rank, what) = (incident.rank, What::Incident(incident.clone()));
            self.happened(now, rank, Position::default(), "", what);
        }
    }
}

fn cause(by: &str, what: impl Into<Cow<'static, str>>, reason: &str) -> Cause {
    Cause {
        by: by.to_owned(),
        what: what.into(),
        reason: reason.to_owned(),
    }
}

fn push_bounded<T>(queue: &mut VecDeque<T>, item: T, most: usize) {
    if queue.len() >= most {
        queue.pop_front();
    }
    queue.push_back(item);
}

#[cfg(test)]
mod model;
