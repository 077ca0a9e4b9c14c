//! A run, its journal and its ranks as one model: any sequence of events, drops, repeats, broken connections, daemon restarts
//! and attempts keeps what the journal promises. The parts are the real ones; threads, sockets and clocks are steps here.
//!
//! - What is acknowledged is in the file, exactly once and in order; a number that is missing is in a counted hole.
//! - An id means one thing, and is applied at most once.
//! - The generation of the desired state never goes back; no operator's word is lost.
//! - A daemon that goes on from the file shows what the one before it had committed.

mod file;
mod provider;
mod trainer;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tokio::sync::{mpsc, oneshot};

use super::Run;
use crate::bus::{Asked, Attach, Link, OUTBOX, Order, Record, Rules, ToTrainer};
use crate::domain::{
    Base, Batch, Clock, Deed, DeviceUse, Effective, Every, Facts, Hold, HookRequest, HostSample,
    IncidentKind, ParamGroup, ProcessSample, Rank, RunId, Size, Value,
};
use crate::store::journal::{Settings, Writer};
use crate::store::series::{Lately, Name};
use crate::store::{Said, View, Whose};
use provider::{Provider, WATCH};
use trainer::{ITERS, Trainer, Up, orders};

/// Rows that wait in memory while the disk takes nothing.
const ROOM: usize = 40;
/// Rows of a group.
const GROUP_ROWS: usize = 30;
/// Cases of a plain run; `PROPTEST_CASES` asks for another number.
const CASES: u32 = 64;

/// What may happen. `usize` is a rank, cut to those that there are.
#[derive(Clone, Debug)]
enum Step {
    Emit(usize, u64, bool),
    Send(usize),
    /// So many messages arrive at the daemon.
    Up(usize, usize),
    /// So many messages arrive at the trainer.
    Down(usize, usize),
    Reach(usize),
    /// What is first under way arrives twice.
    Repeat(usize),
    /// Connects, and says and hears everything.
    Exchange(usize),
    Connect(usize),
    /// true: the daemon notices.
    Break(usize, bool),
    /// true: the run hears of it.
    Commit(bool),
    Disk(bool),
    Kill,
    Start,
    Order(Word),
    /// true: an exception ended it.
    Bye(usize, bool),
    /// true: every rank.
    Restart(usize, bool),
    Pass(u64),
    /// The provider comes, or (false) goes.
    Provide(bool),
    /// It answers so many calls.
    Answer(usize),
}

#[derive(Clone, Copy, Debug)]
enum Word {
    Lr(f64),
    Release,
    Size,
    Stop(bool),
    Custom,
    Line,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let rank = 0..2_usize;
    let few = 1..6_usize;
    let word = prop_oneof![
        3 => (1..9_u32).prop_map(|tenths| Word::Lr(f64::from(tenths) / 10.0)),
        1 => Just(Word::Release),
        2 => Just(Word::Size),
        1 => any::<bool>().prop_map(Word::Stop),
        3 => Just(Word::Custom),
        1 => Just(Word::Line),
    ];
    let step = prop_oneof![
        12 => (rank.clone(), 1..7_u64, prop::bool::weighted(0.15))
            .prop_map(|(rank, count, nan)| Step::Emit(rank, count, nan)),
        6 => rank.clone().prop_map(Step::Send),
        6 => (rank.clone(), few.clone()).prop_map(|(rank, count)| Step::Up(rank, count)),
        6 => (rank.clone(), few).prop_map(|(rank, count)| Step::Down(rank, count)),
        3 => rank.clone().prop_map(Step::Reach),
        2 => rank.clone().prop_map(Step::Repeat),
        14 => rank.clone().prop_map(Step::Exchange),
        2 => rank.clone().prop_map(Step::Connect),
        4 => (rank.clone(), any::<bool>()).prop_map(|(rank, told)| Step::Break(rank, told)),
        8 => prop::bool::weighted(0.8).prop_map(Step::Commit),
        3 => prop::bool::weighted(0.6).prop_map(Step::Disk),
        3 => Just(Step::Kill),
        4 => Just(Step::Start),
        5 => word.prop_map(Step::Order),
        1 => (rank.clone(), any::<bool>()).prop_map(|(rank, failed)| Step::Bye(rank, failed)),
        2 => (rank, any::<bool>()).prop_map(|(rank, all)| Step::Restart(rank, all)),
        2 => prop_oneof![Just(1_u64), Just(6)].prop_map(Step::Pass),
        3 => prop::bool::weighted(0.7).prop_map(Step::Provide),
        5 => (1..12_usize).prop_map(Step::Answer),
    ];
    prop::collection::vec(step, 1..70)
}

struct Host;

impl View for Host {
    fn host(&self) -> Result<HostSample, String> {
        Err("not sampled".to_owned())
    }

    fn process(&self, _: Rank) -> Result<ProcessSample, String> {
        Err("not sampled".to_owned())
    }

    fn said(&self, _: Rank) -> Option<Said> {
        None
    }

    fn devices(&self, _: Rank) -> Result<Vec<DeviceUse>, String> {
        Err("there is none here".to_owned())
    }

    fn newest(&self, _: Whose, _: Name) -> Result<f64, String> {
        Err("not sampled".to_owned())
    }

    fn lately(&self, _: Whose, _: Name, _: Duration, _: Instant) -> Result<Lately, String> {
        Err("not sampled".to_owned())
    }
}

/// What a run shows that a restart must not change, line by line.
fn shown(run: &mut Run) -> Vec<String> {
    let seen = run.snapshot();
    let mut lines = vec![
        format!("attempt {} of {} ranks", seen.attempt, seen.world_size),
        format!("{:?} {:?}", seen.phase, seen.reason),
        format!("generation {}", run.desired.state().generation),
    ];
    for one in &seen.before {
        lines.push(format!(
            "before: {} {:?} {}",
            one.attempt, one.phase, one.reason
        ));
    }
    for (rank, member) in &run.members {
        lines.push(format!(
            "rank {rank}: {}, {} settled, {} events, {} gates, ended {:?}",
            member.hello.session,
            member.intake.settled(),
            seen.ranks[rank].events,
            member.gates,
            member.ended
        ));
    }
    for hook in &seen.hooks {
        let (calls, decisions) = (hook.calls, hook.decisions);
        lines.push(format!(
            "hook {}: {calls} calls, {decisions} decisions",
            hook.name
        ));
    }
    lines.extend(seen.wanted.iter().map(|line| format!("{line:?}")));
    for one in &seen.results {
        lines.push(format!(
            "rank {}, {} {}: {:?}",
            one.rank, one.by, one.what, one.result
        ));
    }
    let incidents = seen.incidents.iter();
    lines.extend(incidents.map(|(incident, _)| format!("{incident:?}")));
    for line in &seen.logs {
        lines.push(format!(
            "log of rank {}: {} {}",
            line.rank, line.by, line.text
        ));
    }
    for (rank, id) in pending(run) {
        lines.push(format!("rank {rank} has not answered {id}"));
    }
    lines
}

fn pending(run: &Run) -> BTreeSet<(u32, String)> {
    let of_rank = |rank: &Rank| {
        let commands = run.steering.pending(*rank);
        let ids = commands.map(|command| (rank.0, command.id.clone()));
        ids.collect::<Vec<_>>()
    };
    run.members.keys().flat_map(of_rank).collect()
}

struct Daemon {
    run: Run,
    writer: Writer,
    ticket: u64,
}

struct World {
    directory: tempfile::TempDir,
    clock: Clock,
    now: Instant,
    rules: Arc<Rules>,
    counted: bool,
    daemon: Option<Daemon>,
    full: bool,
    /// The run was told that nothing is written.
    stopped: bool,
    provider: Provider,
    ranks: Vec<Trainer>,
    /// Processes that are gone.
    past: Vec<Trainer>,
    sessions: u32,
    serial: u64,
    words: u32,
    /// As of the last commit.
    committed: Option<Vec<String>>,
    /// No trainer sees less.
    generation: u64,
    /// What each id is about.
    ids: BTreeMap<String, String>,
}

impl World {
    fn new(ranks: usize, counted: bool) -> Self {
        let directory = tempfile::tempdir().expect("there is room");
        let now = Instant::now() + Duration::from_secs(1);
        let hook = |name: &str, args: &[(&str, i64)]| HookRequest {
            type_name: name.to_owned(),
            name: name.to_owned(),
            args: args
                .iter()
                .map(|(key, value)| ((*key).to_owned(), Value::Integer(*value)))
                .collect(),
        };
        let rules = Rules {
            hooks: vec![
                hook("CheckInvalidLossHook", &[("interval", 1)]),
                hook("SetEpochInfoHook", &[]),
                hook("SyncRandomSizeHook", &[]),
            ],
            record: Record {
                every: 1,
                fields: vec!["*".to_owned()],
            },
            stall_budget: 0.0,
            probe: Duration::from_secs(1),
            alive: |_| true,
            own_uid: 0,
            sample_every: Duration::from_secs(1),
            encode: |schedule| format!("{schedule:?}").into_bytes(),
            providers: crate::providers::none(),
            provider_failures: u32::MAX, // it is never off
        };
        let mut world = Self {
            directory,
            clock: Clock {
                at: now,
                unix: Duration::from_secs(1_800_000_000),
            },
            now,
            rules: Arc::new(rules),
            counted,
            daemon: None,
            full: false,
            stopped: false,
            provider: Provider::new(),
            ranks: Vec::new(),
            past: Vec::new(),
            sessions: 0,
            serial: 0,
            words: 0,
            committed: None,
            generation: 0,
            ids: BTreeMap::new(),
        };
        for rank in 0..ranks {
            let trainer = world.process(Rank(rank as u32), 0, ranks);
            world.ranks.push(trainer);
        }
        world.start();
        world
    }

    fn id() -> RunId {
        RunId {
            name: "digits".into(),
            launch: "1".into(),
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("digits@1.db")
    }

    /// Rank 1's process cannot be seen from the daemon.
    fn process(&mut self, rank: Rank, attempt: u32, ranks: usize) -> Trainer {
        self.sessions += 1;
        let n = self.sessions;
        let process = (rank == Rank(0)).then_some((n, 1));
        let counted = self.counted.then_some(attempt);
        Trainer::new(rank, format!("s{n}"), process, counted, ranks as u32)
    }

    fn step(&mut self, step: &Step) {
        let cut = |rank: &usize| rank % self.ranks.len();
        self.now += Duration::from_millis(1);
        match step {
            Step::Emit(rank, count, nan) => {
                let rank = cut(rank);
                self.ranks[rank].emit(*count, *nan);
            }
            Step::Send(rank) => {
                let rank = cut(rank);
                self.ranks[rank].send();
            }
            Step::Up(rank, count) => self.up(cut(rank), *count),
            Step::Down(rank, count) => self.down(cut(rank), *count),
            Step::Reach(rank) => {
                let rank = cut(rank);
                self.ranks[rank].reach();
            }
            Step::Repeat(rank) => self.repeat(cut(rank)),
            Step::Exchange(rank) => self.exchange(cut(rank)),
            Step::Connect(rank) => self.connect(cut(rank)),
            Step::Break(rank, told) => self.disconnect(cut(rank), *told),
            Step::Commit(told) => self.commit(*told),
            Step::Disk(full) => self.disk(*full),
            Step::Kill => self.kill(),
            Step::Start => self.start(),
            Step::Order(word) => self.order(*word),
            Step::Bye(rank, failed) => {
                let rank = cut(rank);
                self.ranks[rank].leaves = Some(*failed);
            }
            Step::Restart(rank, all) => self.restart(cut(rank), *all),
            Step::Pass(seconds) => self.pass(*seconds),
            Step::Provide(true) => self.provided(Provider::connect),
            Step::Provide(false) => self.provided(Provider::leave),
            Step::Answer(most) => {
                let most = *most;
                self.provided(|provider, run, now| provider.answer(run, most, now));
            }
        }
    }

    /// `at_end`: everything was said and written.
    fn check(&self, at_end: bool) {
        let trainers: Vec<_> = self.ranks.iter().chain(&self.past).collect();
        file::check(&self.path(), &trainers, at_end);
        for trainer in trainers {
            for (id, times) in &trainer.applied {
                assert_eq!(*times, 1, "{}: {id} was applied again", trainer.session);
            }
        }
    }

    /// One daemon's time begins.
    fn start(&mut self) {
        if self.daemon.is_some() {
            return;
        }
        let settings = Settings {
            directory: self.directory.path().to_owned(),
            node: "n".to_owned(),
            most_age: Duration::MAX,
            most_disk_bytes: u64::MAX,
            most_bytes: ROOM * 200,
        };
        let opened = Writer::open(&settings, self.clock, &Self::id());
        assert_eq!(opened.writer.trouble(), None);
        assert_eq!(opened.set_aside, None);
        let rules = Arc::clone(&self.rules);
        let mut run = match opened.saved {
            Some(saved) => Run::restore(saved, rules, self.now),
            None => Run::new(Self::id(), rules, self.now),
        };
        if let Some(committed) = &self.committed {
            let shown = shown(&mut run);
            let new: Vec<_> = shown
                .iter()
                .filter(|line| !committed.contains(line))
                .collect();
            let gone: Vec<_> = committed
                .iter()
                .filter(|line| !shown.contains(line))
                .collect();
            assert!(
                shown == *committed,
                "not as it was committed: {new:#?} in place of {gone:#?}"
            );
        }
        // As `Keeping::open` does.
        run.journal_trouble(None, self.now);
        self.provider.meet(&mut run);
        self.daemon = Some(Daemon {
            run,
            writer: opened.writer,
            ticket: 0,
        });
        self.generation = file::generation(&self.path());
        self.disk(self.full);
    }

    /// Nothing more is written or said.
    fn kill(&mut self) {
        self.daemon = None;
        self.provider.forget();
        self.stopped = false;
        for trainer in &mut self.ranks {
            trainer.disconnected();
        }
    }

    /// As `Keeping::keep` does after each message.
    fn keep(&mut self) {
        let Some(daemon) = &mut self.daemon else {
            return;
        };
        daemon.run.note_phase(self.now);
        if daemon.run.has_told() || daemon.run.unsaid_rows() >= GROUP_ROWS {
            self.hand_over();
        }
        let daemon = self.daemon.as_mut().expect("it runs");
        daemon.run.tell_taken(daemon.writer.trouble().is_some());
        while daemon.run.acknowledge() {}
        let generation = daemon.run.desired.state().generation;
        assert!(generation >= self.generation, "the generation went back");
        self.generation = generation;
    }

    /// As `Keeping::hand_over` does with each group.
    fn hand_over(&mut self) {
        let Some(daemon) = &mut self.daemon else {
            return;
        };
        let changes = daemon.run.take_changes(self.now);
        if !changes.is_empty() || daemon.run.has_told() {
            daemon.ticket += 1;
            daemon.writer.push(daemon.ticket, changes);
            daemon.run.appended(daemon.ticket);
        }
    }

    fn provided(&mut self, does: impl FnOnce(&mut Provider, &mut Run, Instant)) {
        if let Some(daemon) = &mut self.daemon {
            does(&mut self.provider, &mut daemon.run, self.now);
        }
        self.keep();
    }

    fn commit(&mut self, told: bool) {
        self.hand_over();
        let Some(daemon) = &mut self.daemon else {
            return;
        };
        daemon.writer.commit();
        if daemon.writer.trouble().is_none() && !daemon.run.members.is_empty() {
            self.committed = Some(shown(&mut daemon.run));
        }
        if told {
            let trouble = daemon.writer.trouble().map(str::to_owned);
            daemon.run.committed(daemon.writer.committed());
            daemon.run.journal_trouble(trouble.as_deref(), self.now);
            self.stopped = trouble.is_some();
            self.keep();
        }
    }

    fn disk(&mut self, full: bool) {
        self.full = full;
        if let Some(daemon) = &mut self.daemon {
            daemon.writer.limit_pages(if full { 1 } else { 1 << 20 });
        }
    }

    fn alive(&self) -> impl Fn((u32, u64)) -> bool + use<> {
        let alive: BTreeSet<_> = self.ranks.iter().filter_map(|one| one.process).collect();
        move |process| alive.contains(&process)
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        let alive = self.alive();
        if let Some(daemon) = &mut self.daemon {
            daemon.run.tick(self.now, alive);
        }
        self.keep();
    }

    fn connect(&mut self, rank: usize) {
        let alive = self.alive();
        let Some(daemon) = &mut self.daemon else {
            return;
        };
        let trainer = &mut self.ranks[rank];
        if trainer.connection.is_some() || trainer.off {
            return;
        }
        self.serial += 1;
        let (out, inbox) = mpsc::channel(OUTBOX);
        let (reply, answer) = oneshot::channel();
        let hello = trainer.hello(&Self::id());
        let unheard: Vec<_> = orders(&trainer.state)
            .filter(|id| !trainer.superseded && !daemon.run.answers.knows(id))
            .collect();
        let before = (!daemon.run.members.is_empty()).then_some(daemon.run.attempt);
        let attach = Attach {
            serial: self.serial,
            uid: None,
            process: trainer.process.ok_or_else(|| "not seen".to_owned()),
            hello,
            out,
            reply,
        };
        daemon.run.attach(attach, self.now, alive);
        match answer.blocking_recv().expect("it is answered") {
            Ok(()) => {
                let link = Link {
                    rank: trainer.rank,
                    serial: self.serial,
                };
                trainer.connected(link, inbox);
                let incidents = daemon.run.incidents.all();
                let mut kinds = incidents.iter().filter(|(one, _)| one.open);
                let shown = kinds.any(|(one, _)| one.kind == IncidentKind::JournalStopped);
                assert_eq!(shown, self.stopped, "a journal that stands still is shown");
                let stands: Vec<_> = orders(daemon.run.desired.state()).collect();
                let stop = trainer.state.stop.as_ref().map(|stop| &stop.id);
                for id in unheard {
                    // One stop is as good as another.
                    let stops = stop == Some(&id) && daemon.run.desired.state().stop.is_some();
                    let stands = stands.contains(&id) || stops;
                    assert!(stands, "{id} of the trainer is lost");
                }
            }
            Err(fence) => trainer.fenced(fence.reason),
        }
        if before.is_some_and(|before| before != daemon.run.attempt) {
            let others = self.ranks.iter_mut().enumerate();
            others
                .filter(|(other, _)| *other != rank)
                .for_each(|(_, other)| other.superseded = true);
        }
        self.keep();
    }

    fn disconnect(&mut self, rank: usize, told: bool) {
        let trainer = &mut self.ranks[rank];
        let Some(link) = trainer.disconnected() else {
            return;
        };
        if let Some(daemon) = self.daemon.as_mut().filter(|_| told) {
            let alive = trainer.process.map(|_| true);
            daemon.run.gone(link, alive, self.now);
            self.keep();
        }
    }

    fn up(&mut self, rank: usize, count: usize) {
        for _ in 0..count {
            let trainer = &mut self.ranks[rank];
            let names = Arc::clone(&trainer.names);
            let Some(connection) = &mut trainer.connection else {
                return;
            };
            let link = connection.link;
            let Some(message) = connection.up.pop_front() else {
                return;
            };
            let run = &mut self.daemon.as_mut().expect("it is connected").run;
            match message {
                Up::Facts => {
                    let facts = facts();
                    run.facts(link, 1, false, facts, self.now);
                }
                Up::Holes(holes) => run.holes(link, holes, self.now),
                Up::Batch(first, events, gates) => {
                    let batch = Batch {
                        names,
                        events,
                        gates,
                    };
                    run.batch(link, first, batch, &Host, self.now);
                }
                Up::Result(result) => run.result(link, result, self.now),
                Up::Bye(failed) => {
                    let reason = if failed { "ValueError: no" } else { "" };
                    run.bye(link, reason.to_owned(), failed, self.now);
                }
            }
            self.keep();
        }
    }

    fn down(&mut self, rank: usize, count: usize) {
        for _ in 0..count {
            let Some(connection) = &mut self.ranks[rank].connection else {
                return;
            };
            match connection.inbox.try_recv() {
                Ok(message) => {
                    self.heard(&message);
                    self.ranks[rank].receive(message);
                }
                Err(mpsc::error::TryRecvError::Empty) => return,
                Err(mpsc::error::TryRecvError::Disconnected) => return self.disconnect(rank, true),
            }
        }
    }

    /// An id stands for one thing, whoever hears it.
    fn heard(&mut self, message: &ToTrainer) {
        let (id, what) = match message {
            ToTrainer::Command(command) => {
                let (by, at, word) = (&command.by, command.at, command.deed.word());
                (&command.id, format!("{word} by {by} at {at:?}"))
            }
            ToTrainer::Gate(answer) => match &answer.stop {
                Some(stop) => (&stop.id, format!("stop by {} at {}", stop.by, answer.seq)),
                None => return,
            },
            _ => return,
        };
        let before = self.ids.entry(id.clone()).or_insert_with(|| what.clone());
        assert_eq!(*before, what, "{id} is two things");
    }

    fn repeat(&mut self, rank: usize) {
        if let Some(connection) = &mut self.ranks[rank].connection
            && let Some(first @ Up::Batch(..)) = connection.up.front().cloned()
        {
            connection.up.push_front(first);
        }
    }

    fn exchange(&mut self, rank: usize) {
        self.connect(rank);
        for _ in 0..3 {
            self.down(rank, usize::MAX);
            self.ranks[rank].reach();
            self.ranks[rank].send();
            self.up(rank, usize::MAX);
        }
    }

    fn restart(&mut self, rank: usize, all: bool) {
        let all = all || self.counted;
        let attempt = self.ranks[rank].counted.unwrap_or(0) + 1;
        for at in 0..self.ranks.len() {
            if all || at == rank {
                self.disconnect(at, at == 0);
                let new = self.process(Rank(at as u32), attempt, self.ranks.len());
                let mut old = std::mem::replace(&mut self.ranks[at], new);
                old.is_past = true;
                self.past.push(old);
            }
        }
    }

    fn order(&mut self, word: Word) {
        let Some(daemon) = &mut self.daemon else {
            return;
        };
        self.words += 1;
        let (updates, _) = mpsc::channel(64);
        let asked = match word {
            Word::Lr(value) => Asked::Lr {
                group: None,
                hold: Hold::Value(value),
            },
            Word::Release => Asked::Lr {
                group: None,
                hold: Hold::Release,
            },
            Word::Size => Asked::Size(Size {
                height: 64,
                width: 64,
            }),
            Word::Stop(_) => Asked::Stop("enough".to_owned()),
            Word::Custom => Asked::Command(Deed::Custom {
                name: "flush".to_owned(),
                json: String::new(),
            }),
            Word::Line => Asked::Command(Deed::Log(crate::domain::LogLine {
                level: crate::domain::LogLevel::Info,
                text: "hello".to_owned(),
            })),
        };
        let order = Order {
            id: format!("o{}", self.words),
            by: "operator".to_owned(),
            uid: None,
            asked,
            effective: match word {
                Word::Stop(true) => Effective::Now,
                _ => Effective::Next,
            },
            ranks: BTreeSet::new(),
            timeout: Duration::from_secs(3),
            updates,
        };
        daemon.run.order(order, self.now);
        self.keep();
    }

    /// Whoever is there comes back, and everything is said and written.
    fn end(&mut self) {
        self.start();
        self.disk(false);
        // A rank that nobody sees is held for 10 s after a daemon was started anew.
        for _ in 0..20 {
            for rank in 0..self.ranks.len() {
                self.exchange(rank);
            }
            self.provided(Provider::connect);
            self.provided(|provider, run, now| provider.answer(run, usize::MAX, now));
            self.commit(true);
            self.now += Duration::from_secs(1);
        }
        self.check(true);
        for trainer in self.ranks.iter().filter(|trainer| !trainer.off) {
            let session = &trainer.session;
            assert!(trainer.is_quiet(), "{session} has something left to say");
            assert_eq!(trainer.acked, trainer.events.len() as u64, "{session}");
            let run = &self.daemon.as_ref().expect("it runs").run;
            let waits: Vec<_> = run.steering.pending(trainer.rank).collect();
            assert!(waits.is_empty(), "{session} has not answered {waits:?}");
        }
        self.check_counters();
        self.kill();
        self.start();
        self.check(true);
    }

    /// Each event was seen once, whatever was replayed to whom, and what is decided ahead is one decision.
    fn check_counters(&self) {
        let run = &self.daemon.as_ref().expect("it runs").run;
        let every = Every::n(Base::InnerIter, 2);
        let trainers: Vec<_> = self.ranks.iter().chain(&self.past).collect();
        let due = run.members.values().map(|member| {
            let session = &member.hello.session;
            let trainer = trainers.iter().find(|one| one.session == *session);
            let trainer = trainer.expect("it was there");
            trainer.due(every, member.intake.settled())
        });
        let due: u64 = due.sum();
        let most: u64 = run
            .members
            .values()
            .map(|member| member.intake.settled())
            .sum();
        for hook in run.roster.snapshot() {
            match hook.name.as_str() {
                // Two lines each.
                "memory" => assert_eq!((hook.calls, hook.decisions), (due, 2 * due)),
                // It may have come late. What it was called for is answered, each call with two decisions, or given up.
                WATCH => {
                    let (calls, answered) = (hook.calls, hook.decisions / 2);
                    assert!(calls <= most && answered <= calls, "{hook:?}");
                    let given_up = calls - answered;
                    let waiting = run.roster.waiting() as u64;
                    let counted = hook.counts.timeouts + hook.counts.missed + waiting;
                    assert!(given_up <= counted, "{hook:?}, {waiting} waiting");
                    // Once nobody is here, nobody asks for the rest.
                    assert!(waiting == 0 || run.archived, "{hook:?}, {waiting} waiting");
                }
                "CheckInvalidLossHook" => assert_eq!(hook.calls, hook.decisions),
                _ => assert!(hook.decisions <= 1, "{}: {}", hook.name, hook.decisions),
            }
        }
    }
}

fn facts() -> Facts {
    Facts {
        max_epochs: Some(40),
        iters_per_epoch: Some(ITERS),
        groups: vec![ParamGroup {
            base_lr: 0.1,
            name: String::new(),
        }],
        seed: Some(1),
        process_group: true,
        size_multiple: 32,
        ..Facts::default()
    }
}

fn play(ranks: usize, counted: bool, steps: &[Step]) {
    let mut world = World::new(ranks, counted);
    for step in steps {
        world.step(step);
        // Only these change the file, or what is acknowledged.
        if matches!(
            step,
            Step::Commit(_) | Step::Down(..) | Step::Exchange(_) | Step::Kill | Step::Start
        ) {
            world.check(false);
        }
    }
    world.end();
}

#[test]
fn whatever_happens_nothing_is_lost_and_nothing_counts_twice() {
    let config = ProptestConfig {
        failure_persistence: None, // a case that fails becomes a test of its own, below
        ..ProptestConfig::default()
    };
    let cases = if config.cases == 256 {
        CASES
    } else {
        config.cases
    };
    let mut runner = TestRunner::new(ProptestConfig { cases, ..config });
    let strategy = (1..3_usize, prop::bool::weighted(0.3), steps());
    let result = runner.run(&strategy, |(ranks, counted, steps)| {
        play(ranks, counted, &steps);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

/// What once went wrong, as short as it can be.
#[test]
fn what_was_found_stays_found() {
    use Step::*;
    let few = |count: usize| vec![Emit(0, 1, false); count];
    let cases: [(&str, usize, Vec<Step>); 14] = [
        (
            "what was dropped before the first daemon came is in the file, also where that connection broke",
            1,
            vec![
                Emit(0, 1, false),
                Break(0, false),
                Emit(0, 1, false),
                Emit(0, 1, false),
                Start,
                Emit(0, 1, false),
                Emit(0, 1, false),
                Emit(0, 1, false),
                Emit(0, 1, false),
                Connect(0),
                Break(0, false),
                Exchange(0),
            ],
        ),
        (
            "a stop is the reason before the rank has ended",
            1,
            vec![Emit(0, 6, true)],
        ),
        (
            "the next attempt's generation goes on, also where nothing is new in it",
            1,
            vec![
                Exchange(0),
                Commit(true),
                Restart(0, false),
                Connect(0),
                Commit(true),
                Kill,
                Start,
                Restart(0, false),
            ],
        ),
        (
            "hooks are written down without an event",
            1,
            vec![Exchange(0)],
        ),
        (
            "a command is over with its rank",
            1,
            vec![Emit(0, 4, false), Bye(0, false)],
        ),
        (
            "an operator's line is none of a hook's",
            1,
            vec![Exchange(0), Order(Word::Line)],
        ),
        (
            "a command stands though its operator waits no longer",
            1,
            vec![Exchange(0), Order(Word::Custom), Pass(6)],
        ),
        ("a buffer that overflows before the first daemon", 1, few(7)),
        (
            "a disk that works again is told by the next daemon, where the one before could not",
            1,
            vec![
                Emit(0, 1, false),
                Exchange(0),
                Exchange(0),
                Disk(true),
                Restart(0, false),
                Emit(0, 6, false),
                Emit(0, 6, true),
                Emit(0, 4, false),
                Exchange(0),
                Commit(true),
                Commit(false),
                Kill,
            ],
        ),
        (
            "what is given up on a full disk was seen",
            1,
            vec![
                Exchange(0),
                Commit(true),
                Disk(true),
                Restart(0, false),
                Pass(1),
                Exchange(0),
                Emit(0, 6, false),
                Exchange(0),
                Emit(0, 6, false),
                Exchange(0),
                Commit(false),
            ],
        ),
        (
            "what is taken and let go is in no hole",
            1,
            [
                few(2),
                vec![Exchange(0)],
                few(2),
                vec![Break(0, false)],
                few(3),
            ]
            .concat(),
        ),
        (
            "a rank that was away is of the attempt before",
            2,
            vec![
                Emit(1, 1, false),
                Exchange(1),
                Exchange(0),
                Break(1, false),
                Emit(0, 1, false),
                Restart(0, false),
                Emit(0, 1, false),
                Exchange(0),
            ],
        ),
        (
            "an order that only its trainer knows",
            1,
            vec![
                Exchange(0),
                Commit(true),
                Order(Word::Lr(0.1)),
                Exchange(0),
                Kill,
                Start,
                Order(Word::Lr(0.2)),
                Order(Word::Size),
                Order(Word::Custom),
            ],
        ),
        (
            "a result comes before its decision is made again",
            1,
            [
                few(5),
                vec![Exchange(0), Break(0, false), Emit(0, 3, false), Exchange(0)],
                vec![Kill],
            ]
            .concat(),
        ),
    ];
    for (what, ranks, steps) in cases {
        println!("{what}");
        play(ranks, false, &steps);
    }
}

#[test]
fn a_gap_that_no_hole_explains_is_counted_all_the_same() {
    let mut world = World::new(1, false);
    world.step(&Step::Exchange(0));
    world.step(&Step::Emit(0, 9, false));
    let trainer = &world.ranks[0];
    let link = trainer.connection.as_ref().expect("it is connected").link;
    let batch = Batch {
        names: Arc::clone(&trainer.names),
        events: trainer.events[5..].to_vec(),
        gates: Vec::new(),
    };
    let run = &mut world.daemon.as_mut().expect("it runs").run;
    run.batch(link, 6, batch, &Host, world.now);
    world.commit(true);
    world.check(false);
    world.down(0, usize::MAX);
    assert_eq!(world.ranks[0].acked, 9);
}

#[test]
fn a_run_whose_lost_ranks_came_back_is_not_lost() {
    use Step::*;
    for restarted in [false, true] {
        let mut world = World::new(3, false);
        let gone = |world: &mut World, rank| world.disconnect(rank, true);
        for rank in 0..3 {
            world.step(&Exchange(rank));
        }
        gone(&mut world, 2);
        world.step(&Pass(6));
        gone(&mut world, 1);
        world.step(&Pass(6));
        let reason = |world: &World| world.daemon.as_ref().expect("it runs").run.reason();
        assert_eq!(reason(&world), "rank 2: no sign of life for 5 s");
        world.step(&Commit(true));
        if restarted {
            world.step(&Kill);
            world.step(&Start);
        }
        world.step(&Exchange(2));
        assert_eq!(reason(&world), "rank 1: no sign of life for 5 s");
        world.step(&Exchange(1));
        assert_eq!(reason(&world), "");
        for rank in 0..3 {
            world.step(&Bye(rank, false));
            world.step(&Exchange(rank));
        }
        let run = &world.daemon.as_ref().expect("it runs").run;
        assert_eq!(
            (run.phase(), run.reason()),
            (crate::snapshot::Phase::Finished, String::new())
        );
    }
}
