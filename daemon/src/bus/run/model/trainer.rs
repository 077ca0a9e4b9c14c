//! A rank that keeps the protocol's rules as the client does: numbers from 1 without gaps, whole batches kept until they are
//! settled, the oldest dropped and counted where there is no room, nothing done twice.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::bus::{FenceReason, GateAnswer, Link, ToTrainer, Verdict, Welcome};
use crate::domain::{
    Command, DesiredState, Event, Every, GateRequest, Hello, Hole, HookRequest, Names, Outcome,
    Position, ProcessIdentity, Rank, RunId, TrainerResult, Value,
};

/// Batches that are kept.
const KEPT: usize = 6;
/// Batches that may be under way.
const UNDER_WAY: usize = 4;
/// Iterations of an epoch.
pub(super) const ITERS: u64 = 8;

const BEFORE: u32 = 0;
const AFTER: u32 = 1;
/// By point id.
pub(super) const POINTS: [&str; 2] = ["before_train_iter", "after_train_iter"];
/// The hook that gates.
const GATED: &str = "CheckInvalidLossHook";

/// From a trainer to the daemon.
#[derive(Clone, Debug)]
pub(super) enum Up {
    Facts,
    Holes(Vec<Hole>),
    Batch(u64, Vec<Event>, Vec<GateRequest>),
    Result(TrainerResult),
    Bye(bool),
}

#[derive(Clone)]
struct Batch {
    first: u64,
    last: u64,
    gates: Vec<GateRequest>,
}

/// An open connection.
pub(super) struct Connection {
    pub(super) link: Link,
    pub(super) inbox: mpsc::Receiver<ToTrainer>,
    pub(super) up: VecDeque<Up>,
    welcomed: bool,
}

/// One process of one rank.
pub(super) struct Trainer {
    pub(super) rank: Rank,
    pub(super) session: String,
    /// None: the daemon cannot see it.
    pub(super) process: Option<(u32, u64)>,
    pub(super) counted: Option<u32>,
    pub(super) world_size: u32,
    pub(super) names: Arc<Names>,
    /// All that it generated; an event's number is its place here, from 1.
    pub(super) events: Vec<Event>,
    pub(super) acked: u64,
    /// A daemon that did not know the session said this number back: nothing up to it is acknowledged by that.
    begins_after: u64,
    pub(super) connection: Option<Connection>,
    /// A newer attempt is there, or it said goodbye.
    pub(super) off: bool,
    /// true: an exception ended it.
    pub(super) leaves: Option<bool>,
    /// Another process has its rank.
    pub(super) is_past: bool,
    /// A newer attempt is there, whether it knows or not.
    pub(super) superseded: bool,
    pub(super) state: DesiredState,
    kept: VecDeque<Batch>,
    sent: usize,
    taken: usize,
    sent_seq: u64,
    let_go: VecDeque<(u64, u64)>,
    holes: Vec<(u64, u64)>,
    holes_changed: bool,
    facts_changed: bool,
    known: BTreeSet<String>,
    /// As they came.
    pub(super) commands: BTreeMap<String, Command>,
    waiting: Vec<String>,
    in_force: BTreeSet<String>,
    schedules: BTreeSet<String>,
    gate: Option<u64>,
    results: VecDeque<TrainerResult>,
    /// With the highest number that was sent before.
    resend: VecDeque<(u64, TrainerResult)>,
    /// How often each id was applied.
    pub(super) applied: BTreeMap<String, u32>,
    reached: u64,
    said_bye: bool,
}

impl Trainer {
    pub(super) fn new(
        rank: Rank,
        session: String,
        process: Option<(u32, u64)>,
        counted: Option<u32>,
        world_size: u32,
    ) -> Self {
        Self {
            rank,
            session,
            process,
            counted,
            world_size,
            names: Arc::new(Names {
                points: POINTS.map(Arc::from).to_vec(),
                metrics: vec!["loss".into(), "session".into()],
            }),
            events: Vec::new(),
            acked: 0,
            connection: None,
            off: false,
            leaves: None,
            superseded: false,
            is_past: false,
            begins_after: 0,
            state: DesiredState::default(),
            kept: VecDeque::new(),
            sent: 0,
            taken: 0,
            sent_seq: 0,
            let_go: VecDeque::new(),
            holes: Vec::new(),
            holes_changed: false,
            facts_changed: false,
            known: BTreeSet::new(),
            commands: BTreeMap::new(),
            waiting: Vec::new(),
            in_force: BTreeSet::new(),
            schedules: BTreeSet::new(),
            gate: None,
            results: VecDeque::new(),
            resend: VecDeque::new(),
            applied: BTreeMap::new(),
            reached: 0,
            said_bye: false,
        }
    }

    /// Whether the daemon lets it speak.
    pub(super) fn is_welcome(&self) -> bool {
        self.connection
            .as_ref()
            .is_some_and(|connection| connection.welcomed)
    }

    /// Everything that it has to say is said.
    pub(super) fn is_quiet(&self) -> bool {
        self.kept.is_empty()
            && self.results.is_empty()
            && self.waiting.is_empty()
            && !self.holes_changed
            && self
                .connection
                .as_ref()
                .is_some_and(|connection| connection.up.is_empty() && connection.inbox.is_empty())
    }

    pub(super) fn hello(&self, run: &RunId) -> Hello {
        let mut applied: Vec<_> = self.known.iter().cloned().collect();
        applied.extend(self.schedules.iter().cloned());
        applied.extend(self.in_force.iter().cloned());
        let next = self.events.len() as u64 + 1;
        Hello {
            run: run.clone(),
            attempt: self.counted,
            rank: self.rank,
            world_size: self.world_size,
            local_rank: None,
            node: "n".to_owned(),
            process: ProcessIdentity::default(),
            session: self.session.clone(),
            points: POINTS.map(str::to_owned).to_vec(),
            capabilities: Vec::new(),
            next_seq: self.kept.front().map_or(next, |batch| batch.first),
            applied,
            state: (self.state.generation > 0).then(|| self.state.clone()),
            hooks: vec![HookRequest {
                type_name: "MemoryProfilerHook".to_owned(),
                name: "memory".to_owned(),
                args: [("interval".to_owned(), Value::Integer(2))].into(),
            }],
            client: "model".to_owned(),
        }
    }

    pub(super) fn connected(&mut self, link: Link, inbox: mpsc::Receiver<ToTrainer>) {
        self.connection = Some(Connection {
            link,
            inbox,
            up: VecDeque::new(),
            welcomed: false,
        });
    }

    /// The connection is gone, with what was under way.
    pub(super) fn disconnected(&mut self) -> Option<Link> {
        self.rewind();
        if let Some(seq) = self.gate.take() {
            self.stop_by_itself(seq);
        }
        self.off |= self.said_bye; // it does not come back for its last words
        self.connection.take().map(|connection| connection.link)
    }

    pub(super) fn fenced(&mut self, reason: FenceReason) {
        self.off |= reason != FenceReason::Duplicate && reason != FenceReason::Shutdown;
        self.disconnected();
    }

    fn rewind(&mut self) {
        self.sent = 0;
        self.taken = 0;
    }

    /// Generates a batch. `nan`: each loss is one, and the last one waits at a gate.
    pub(super) fn emit(&mut self, count: u64, nan: bool) {
        if self.off || self.leaves.is_some() {
            return;
        }
        if let Some(seq) = self.gate.take() {
            self.stop_by_itself(seq); // no answer came in time
        }
        let first = self.events.len() as u64 + 1;
        for seq in first..first + count {
            let event = self.event(seq, nan);
            self.events.push(event);
        }
        let last = first + count - 1;
        let mut gates = Vec::new();
        if nan && self.events[last as usize - 1].point == AFTER {
            if self.is_welcome() {
                self.gate = Some(last);
                gates.push(GateRequest {
                    seq: last,
                    subscribers: vec![GATED.to_owned()],
                    deadline: Duration::from_millis(50),
                    held_on: Vec::new(),
                });
            } else {
                self.stop_by_itself(last);
            }
        }
        self.kept.push_back(Batch { first, last, gates });
        while self.kept.len() > KEPT {
            let old = self.pop().expect("there are more than one");
            if old.last <= self.sent_seq {
                self.let_go.push_back((old.first, old.last));
            } else {
                self.hole(old.first, old.last);
            }
        }
    }

    /// What a number generates, and nothing else.
    fn event(&self, seq: u64, nan: bool) -> Event {
        let iter = (seq - 1) / 2;
        let after = seq.is_multiple_of(2);
        let number = self.session.bytes().map(f64::from).sum::<f64>();
        let loss = if nan { f64::NAN } else { seq as f64 / 7.0 };
        Event {
            seq,
            point: if after { AFTER } else { BEFORE },
            position: Position {
                epoch: iter / ITERS,
                iter,
                inner_iter: iter % ITERS,
            },
            at: Duration::from_micros(seq * 10),
            metrics: if after { vec![0, 1] } else { vec![1] },
            values: if after {
                vec![loss, number]
            } else {
                vec![number]
            },
            unknown: Vec::new(),
            rss_bytes: after.then_some(seq << 20),
        }
    }

    /// Events up to a number that a daemon could see and that this hook's interval makes due.
    pub(super) fn due(&self, every: Every, to: u64) -> u64 {
        let dropped = |seq: u64| {
            self.holes
                .iter()
                .any(|hole| (hole.0..=hole.1).contains(&seq))
        };
        let due = self.events.iter().filter(|event| {
            event.seq <= to
                && event.point == AFTER
                && !dropped(event.seq)
                && every.is_due(event.position)
        });
        due.count() as u64
    }

    /// Events of these numbers, by point id.
    pub(super) fn count(&self, first: u64, last: u64) -> BTreeMap<u32, u64> {
        let mut points = BTreeMap::new();
        for event in &self.events[first as usize - 1..last as usize] {
            *points.entry(event.point).or_default() += 1;
        }
        points
    }

    fn pop(&mut self) -> Option<Batch> {
        let batch = self.kept.pop_front()?;
        self.sent = self.sent.saturating_sub(1);
        self.taken = self.taken.saturating_sub(1);
        Some(batch)
    }

    fn hole(&mut self, first: u64, last: u64) {
        self.holes.push((first, last));
        self.holes.sort_unstable();
        self.holes.dedup_by(|next, one| {
            let touch = one.1 + 1 == next.0;
            if touch {
                one.1 = next.1;
            }
            touch
        });
        self.holes_changed = true;
    }

    fn settle(&mut self, seq: u64) {
        if seq <= self.begins_after {
            return;
        }
        while self.resend.front().is_some_and(|(after, _)| *after < seq) {
            self.resend.pop_front();
        }
        self.acked = self.acked.max(seq);
        while self
            .kept
            .front()
            .is_some_and(|batch| batch.last <= self.acked)
        {
            self.pop();
        }
        let acked = self.acked;
        self.let_go.retain(|(_, last)| *last > acked);
    }

    /// Puts what there is to say under way, as much as may be.
    pub(super) fn send(&mut self) {
        if !self.is_welcome() || self.said_bye {
            return;
        }
        let mut out = Vec::new();
        if std::mem::take(&mut self.facts_changed) {
            out.push(Up::Facts);
        }
        if std::mem::take(&mut self.holes_changed) && !self.holes.is_empty() {
            let holes = self.holes.iter().map(|(first, last)| Hole {
                first_seq: *first,
                last_seq: *last,
                points: self.count(*first, *last),
            });
            out.push(Up::Holes(holes.collect()));
        }
        while self.sent < self.kept.len() && self.sent - self.taken < UNDER_WAY {
            let batch = self.kept[self.sent].clone();
            let events = self.events[batch.first as usize - 1..batch.last as usize].to_vec();
            out.push(Up::Batch(batch.first, events, batch.gates));
            self.sent += 1;
            self.sent_seq = self.sent_seq.max(batch.last);
        }
        while let Some(result) = self.results.pop_front() {
            out.push(Up::Result(result.clone()));
            self.resend.push_back((self.sent_seq, result));
        }
        if let Some(failed) = self.leaves
            && self.sent == self.kept.len()
        {
            self.said_bye = true;
            out.push(Up::Bye(failed));
        }
        let connection = self.connection.as_mut().expect("it is welcome");
        connection.up.extend(out);
    }

    /// Takes one message.
    pub(super) fn receive(&mut self, message: ToTrainer) {
        match message {
            ToTrainer::Welcome(welcome) => self.welcome(*welcome),
            ToTrainer::State(state) => self.wants(*state),
            ToTrainer::Schedule(schedule) => {
                self.schedules.insert(schedule.id.clone());
            }
            ToTrainer::Command(command) => {
                let id = command.id.clone();
                if let Some(old) = self.commands.insert(id.clone(), command.clone()) {
                    assert_eq!(old, command, "one id is two things");
                }
                if self.known.insert(id.clone()) {
                    self.waiting.push(id);
                }
            }
            ToTrainer::Gate(answer) => self.gate(answer),
            ToTrainer::Ack { settled, taken } => {
                assert!(
                    taken <= self.events.len() as u64 && settled <= taken,
                    "{settled} settled, {taken} taken of {}",
                    self.events.len()
                );
                self.settle(settled);
                while self.taken < self.sent && self.kept[self.taken].last <= taken {
                    self.taken += 1;
                }
            }
            ToTrainer::Fence(fence) => self.fenced(fence.reason),
            ToTrainer::Plan(_) | ToTrainer::FactsTaken(..) => {}
        }
    }

    fn welcome(&mut self, welcome: Welcome) {
        let mut taken = welcome.taken;
        if welcome.verdict == Verdict::Lost {
            self.begins_after = welcome.settled;
            taken = 0;
        }
        // A daemon that heard no more than a Hello says back what this one has let go itself, also where the connection
        // broke before that was heard and the session is known by now: its holes say what became of it.
        let next = self.events.len() as u64 + 1;
        if welcome.settled < self.kept.front().map_or(next, |batch| batch.first) {
            self.begins_after = self.begins_after.max(welcome.settled);
        }
        self.settle(welcome.settled);
        // What the daemon has taken and not settled is lost only with the daemon: the next one says so.
        let (let_go, lost): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.let_go)
            .into_iter()
            .partition(|(_, last)| *last <= taken);
        self.let_go = let_go;
        self.sent_seq = taken.max(welcome.settled); // of what was sent to another daemon this one has seen nothing
        lost.into_iter()
            .for_each(|(first, last)| self.hole(first, last));
        self.rewind();
        self.holes_changed = !self.holes.is_empty();
        self.facts_changed = true;
        self.said_bye = false;
        while let Some((_, result)) = self.resend.pop_back() {
            self.results.push_front(result);
        }
        if let Some(connection) = &mut self.connection {
            connection.welcomed = true;
        }
        assert!(
            welcome.state.generation >= self.state.generation,
            "welcomed with generation {}, it has {}",
            welcome.state.generation,
            self.state.generation
        );
        self.wants(welcome.state);
    }

    fn wants(&mut self, state: DesiredState) {
        if state.generation <= self.state.generation {
            assert!(
                state.generation < self.state.generation
                    || state == self.state
                    || state.generation == 0,
                "one generation is two states"
            );
            return;
        }
        self.state = state;
        let orders: BTreeSet<_> = orders(&self.state).collect();
        self.in_force.retain(|id| orders.contains(id));
    }

    fn gate(&mut self, answer: GateAnswer) {
        if self.gate != Some(answer.seq) {
            return; // it comes too late
        }
        self.gate = None;
        if let Some(stop) = answer.stop
            && self.known.insert(stop.id.clone())
        {
            self.apply(&stop.id);
        }
    }

    fn stop_by_itself(&mut self, seq: u64) {
        let iter = self.events[seq as usize - 1].position.iter;
        let id = format!("local:{GATED}:{iter}");
        if self.known.insert(id.clone()) {
            self.apply(&id);
        }
    }

    /// The training reaches a point: what waits is done.
    pub(super) fn reach(&mut self) {
        if self.off {
            return;
        }
        self.reached += 1;
        for id in std::mem::take(&mut self.waiting) {
            self.apply(&id);
        }
        for id in orders(&self.state).collect::<Vec<_>>() {
            if self.known.insert(id.clone()) {
                self.in_force.insert(id.clone());
                self.apply(&id);
            }
        }
        let size = self.state.size.as_ref().map(|size| size.id.clone());
        if let Some(id) = size.filter(|id| self.schedules.contains(id))
            && self.reached.is_multiple_of(4)
        {
            self.apply(&format!("{id}/{}", self.reached));
        }
    }

    fn apply(&mut self, id: &str) {
        *self.applied.entry(id.to_owned()).or_default() += 1;
        let at = self.events.last().map(|event| event.position);
        self.results.push_back(TrainerResult {
            id: id.to_owned(),
            outcome: Outcome::Applied,
            at: at.unwrap_or_default(),
            point: POINTS[0].to_owned(),
            old: None,
            new: None,
            reason: String::new(),
        });
    }
}

/// Ids of what operators and gates want, in a state.
pub(super) fn orders(state: &DesiredState) -> impl Iterator<Item = String> + '_ {
    let lr = state.lr_holds.iter().map(|hold| &hold.id);
    let size = state.size_holds.iter().map(|hold| &hold.id);
    let stop = state.stop.iter().map(|stop| &stop.id);
    lr.chain(size).chain(stop).cloned()
}
