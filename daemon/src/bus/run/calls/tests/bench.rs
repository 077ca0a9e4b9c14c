//! A run with its trainers' ends and its providers' in the hands of a test.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::super::super::Run;
use crate::bus::{Attach, Link, OUTBOX, Record, Rules, ToTrainer};
use crate::domain::{
    Batch, Clock, Event, Every, GateRequest, Hello, HookRequest, Names, Otherwise, Position,
    ProcessIdentity, Rank, RunId, StateText, Subscription, Way,
};
use crate::hooks::{Decision, ITER_DEADLINE, Policy};
use crate::providers::{
    Answer, OUTBOX as PROVIDERS_OUTBOX, Offered, Provider, ProviderLink, Raised, Reply, ToProvider,
};
use crate::store::journal::{Settings, Writer};
use crate::store::{Live, RunView};

const POINT: &str = "after_train_iter";

pub(super) fn observe() -> Subscription {
    Subscription::observe(POINT, Every::ALWAYS, &["loss"])
}

pub(super) fn gate(otherwise: Otherwise) -> Subscription {
    Subscription {
        way: Way::Gate,
        otherwise,
        deadline: ITER_DEADLINE,
        otherwise_text: "otherwise".to_owned(),
        ..observe()
    }
}

pub(super) fn offered(name: &str, priority: i32, policy: Policy, wish: Subscription) -> Offered {
    Offered {
        request: HookRequest {
            type_name: "Mine".to_owned(),
            name: name.to_owned(),
            args: BTreeMap::new(),
        },
        priority,
        policy,
        subscriptions: vec![wish],
        wants_memory: false,
        wants_state: false,
        summary: String::new(),
    }
}

/// A provider's end of one connection.
pub(super) struct End(mpsc::Receiver<ToProvider>);

impl End {
    /// What was said to it, in words.
    pub(super) fn heard(&mut self) -> Vec<String> {
        let mut heard = Vec::new();
        while let Ok(message) = self.0.try_recv() {
            heard.push(match message {
                ToProvider::Open(opened) => {
                    let states = opened.states.iter();
                    let states: String = states
                        .map(|(hook, state)| format!(", {hook} = {state}"))
                        .collect();
                    format!(
                        "open {}, attempt {}{states}",
                        opened.id.name, opened.attempt
                    )
                }
                ToProvider::Facts(..) => "facts".to_owned(),
                ToProvider::Call(call) => {
                    let fields = call.fields.iter();
                    let fields: String = fields
                        .map(|(name, value)| format!(", {name} = {value:?}"))
                        .collect();
                    let gate = if call.gate { ", gate" } else { "" };
                    let memory = if call.memory.is_empty() {
                        ""
                    } else {
                        ", memory"
                    };
                    let state = call
                        .desired
                        .map_or_else(String::new, |state| format!(", state {}", state.generation));
                    format!(
                        "call {}: {}, rank {} at {}{gate}{fields}{memory}{state}",
                        call.id, call.hook, call.rank, call.at.iter
                    )
                }
                ToProvider::Close(_) => "close".to_owned(),
            });
        }
        heard
    }
}

struct Trainer {
    inbox: mpsc::Receiver<ToTrainer>,
    plan: Vec<String>,
    sent: u64,
    serial: u64,
}

pub(super) struct Bench {
    directory: tempfile::TempDir,
    writer: Writer,
    clock: Clock,
    now: Instant,
    rules: Arc<Rules>,
    run: Run,
    replies: mpsc::Sender<Reply>,
    /// Kept, so that the run can hand its sender out.
    _answers: mpsc::Receiver<Reply>,
    view: RunView,
    trainers: BTreeMap<u32, Trainer>,
    hooks: Vec<Offered>,
    /// Whose the run is; None: its ranks come over TCP.
    pub(super) owner: Option<u32>,
    /// Whose processes the providers are.
    pub(super) uid: Option<u32>,
    /// The provider has not come since the daemon started.
    silent: bool,
    serial: u64,
    sessions: u64,
    attempts: BTreeMap<u32, u64>,
}

fn id() -> RunId {
    RunId {
        name: "digits".into(),
        launch: "1".into(),
    }
}

impl Bench {
    /// A run with these hooks of the daemon's configuration.
    pub(super) fn new(hooks: &[&str]) -> Self {
        let now = Instant::now() + Duration::from_secs(1);
        let hook = |name: &&str| HookRequest {
            type_name: (*name).to_owned(),
            name: (*name).to_owned(),
            args: BTreeMap::new(),
        };
        let rules = Arc::new(Rules {
            hooks: hooks.iter().map(hook).collect(),
            record: Record {
                every: 0,
                fields: Vec::new(),
            },
            stall_budget: 0.0,
            probe: Duration::from_secs(1),
            alive: |_| true,
            own_uid: 0,
            sample_every: Duration::from_secs(1),
            encode: |_| Vec::new(),
            providers: crate::providers::none(),
            provider_failures: 5,
        });
        let clock = Clock {
            at: now,
            unix: Duration::from_secs(1_800_000_000),
        };
        let directory = tempfile::tempdir().expect("there is room");
        let writer = Self::writer(&directory, clock).0;
        let run = Run::new(id(), Arc::clone(&rules), now);
        Self::with(directory, writer, clock, now, rules, run)
    }

    fn writer(
        directory: &tempfile::TempDir,
        clock: Clock,
    ) -> (Writer, Option<crate::store::journal::Saved>) {
        let settings = Settings {
            directory: directory.path().to_owned(),
            node: "n".to_owned(),
            most_age: Duration::MAX,
            most_disk_bytes: u64::MAX,
            most_bytes: usize::MAX,
        };
        let opened = Writer::open(&settings, clock, &id());
        (opened.writer, opened.saved)
    }

    fn with(
        directory: tempfile::TempDir,
        writer: Writer,
        clock: Clock,
        now: Instant,
        rules: Arc<Rules>,
        mut run: Run,
    ) -> Self {
        let (replies, answers) = mpsc::channel(8);
        run.hear(replies.clone());
        Self {
            directory,
            writer,
            clock,
            now,
            rules,
            run,
            replies,
            _answers: answers,
            view: RunView::new(Live::default(), id()),
            trainers: BTreeMap::new(),
            hooks: Vec::new(),
            owner: Some(1000),
            uid: Some(1000),
            silent: false,
            serial: 0,
            sessions: 0,
            attempts: BTreeMap::new(),
        }
    }

    /// The daemon is killed with everything written down, and another one goes on.
    pub(super) fn restarted(mut self) -> Self {
        self.writer.push(1, self.run.take_changes(self.now));
        self.writer.commit();
        assert_eq!(self.writer.trouble(), None);
        drop(self.writer);
        let (writer, saved) = Self::writer(&self.directory, self.clock);
        let saved = saved.expect("it was written");
        let run = Run::restore(saved, Arc::clone(&self.rules), self.now);
        let trainers = self.trainers;
        let mut next = Self::with(
            self.directory,
            writer,
            self.clock,
            self.now,
            self.rules,
            run,
        );
        // The same trainers come back, with the numbers that they had.
        next.trainers = trainers;
        next.attempts = self.attempts;
        next.serial = self.serial;
        next
    }

    /// A provider is there, with its connection.
    pub(super) fn provide(&mut self, serial: u64, hooks: &[Offered]) -> End {
        self.provide_with(serial, hooks, PROVIDERS_OUTBOX)
    }

    pub(super) fn provide_with(&mut self, serial: u64, hooks: &[Offered], room: usize) -> End {
        let (out, inbox) = mpsc::channel(room);
        self.hooks = hooks.to_vec();
        self.look(Ok(ProviderLink { serial, out }));
        End(inbox)
    }

    /// The hooks of a module that is gone are another one's.
    pub(super) fn hand_over(&mut self, serial: u64, hooks: &[Offered]) -> End {
        let (out, inbox) = mpsc::channel(PROVIDERS_OUTBOX);
        let provider = |module: &str, hooks: &[Offered], link| Provider {
            module: module.to_owned(),
            hooks: Some(Arc::new(hooks.to_vec())),
            refused: Arc::default(),
            link,
            by_hand: true,
            uid: self.uid,
        };
        let here = provider("n", hooks, Ok(ProviderLink { serial, out }));
        let gone = provider("m", &[], Err("it was ended".to_owned()));
        self.run.look_at_providers(&[here, gone], self.now);
        End(inbox)
    }

    /// The configuration asks for it, and it has not come.
    pub(super) fn await_provider(&mut self) {
        self.silent = true;
        self.look(Err("its provider has not come yet".to_owned()));
        self.silent = false;
    }

    /// Its connection is gone.
    pub(super) fn leave(&mut self, why: &str) {
        self.look(Err(why.to_owned()));
    }

    fn look(&mut self, link: Result<ProviderLink, String>) {
        let provider = Provider {
            module: "m".to_owned(),
            hooks: (!self.silent).then(|| Arc::new(self.hooks.clone())),
            refused: Arc::default(),
            link,
            by_hand: !self.silent,
            uid: self.uid,
        };
        self.run.look_at_providers(&[provider], self.now);
    }

    pub(super) fn attach(&mut self, rank: u32) {
        self.serial += 1;
        let (out, inbox) = mpsc::channel(OUTBOX);
        let (reply, mut answer) = oneshot::channel();
        let sent = self.trainers.get(&rank).map_or(0, |trainer| trainer.sent);
        let session = *self.attempts.entry(rank).or_insert_with(|| {
            self.sessions += 1;
            self.sessions
        });
        let hello = Hello {
            run: id(),
            attempt: None,
            rank: Rank(rank),
            world_size: 1,
            local_rank: None,
            node: "n".into(),
            process: ProcessIdentity {
                start_ticks: session,
                ..Default::default()
            },
            session: format!("s{rank}.{session}"),
            points: vec![POINT.into()],
            capabilities: Vec::new(),
            next_seq: sent + 1,
            applied: Vec::new(),
            state: None,
            hooks: Vec::new(),
            client: String::new(),
        };
        let attach = Attach {
            serial: self.serial,
            hello,
            uid: self.owner,
            process: Err("not seen".to_owned()),
            out,
            reply,
        };
        self.run.attach(attach, self.now, |_| true);
        assert_eq!(answer.try_recv(), Ok(Ok(())));
        let trainer = Trainer {
            inbox,
            plan: Vec::new(),
            sent,
            serial: self.serial,
        };
        self.trainers.insert(rank, trainer);
    }

    /// Its process ends, and another one begins.
    pub(super) fn restart(&mut self, rank: u32) {
        self.now += Duration::from_secs(60);
        self.trainers.remove(&rank);
        self.sessions += 1;
        self.attempts.insert(rank, self.sessions);
    }

    pub(super) fn event(&mut self, rank: u32, iter: u64, loss: f64, asked: Option<&[&str]>) {
        let trainer = self.trainers.get_mut(&rank).expect("it is there");
        trainer.sent += 1;
        let (first, link) = (
            trainer.sent,
            Link {
                rank: Rank(rank),
                serial: trainer.serial,
            },
        );
        let event = Event {
            seq: first,
            position: Position {
                iter,
                ..Position::default()
            },
            metrics: vec![0, 1],
            values: vec![loss, 7.0],
            ..Event::default()
        };
        let gates = asked.map(|hooks| GateRequest {
            seq: first,
            subscribers: hooks.iter().map(|name| (*name).to_owned()).collect(),
            deadline: ITER_DEADLINE,
            held_on: Vec::new(),
        });
        let batch = Batch {
            names: Arc::new(Names {
                points: vec![POINT.into()],
                metrics: vec!["loss".into(), "not asked for".into()],
            }),
            events: vec![event],
            gates: gates.into_iter().collect(),
        };
        self.run.batch(link, first, batch, &self.view, self.now);
    }

    pub(super) fn bye(&mut self, rank: u32) {
        let serial = self.trainers[&rank].serial;
        let link = Link {
            rank: Rank(rank),
            serial,
        };
        self.run.bye(link, String::new(), false, self.now);
        self.run.note_phase(self.now);
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.run.complete_calls(&self.view, self.now);
        if self.run.next_deadline().is_some_and(|due| due <= self.now) || self.run.is_over() {
            self.run.tick(self.now, |_| true);
        }
    }

    /// The provider answers a call.
    pub(super) fn answer(
        &mut self,
        serial: u64,
        id: u64,
        said: Result<Vec<Decision>, &str>,
        state: Option<serde_json::Value>,
    ) {
        self.answer_text(serial, id, said, state.as_ref().map(StateText::from));
    }

    /// The same, with a state as the provider wrote it.
    pub(super) fn answer_text(
        &mut self,
        serial: u64,
        id: u64,
        said: Result<Vec<Decision>, &str>,
        state: Option<StateText>,
    ) {
        let raised = |error: &str| Raised {
            error: error.to_owned(),
            traceback: String::new(),
        };
        let reply = Reply {
            serial,
            at: self.now,
            answer: Answer {
                id,
                decisions: said.map_err(raised),
                state,
            },
        };
        assert!(self.replies.capacity() > 0);
        self.run.answer(reply, self.now);
    }

    /// The clock goes on, and the answer is there before anybody has looked at it.
    pub(super) fn late_answer(
        &mut self,
        serial: u64,
        id: u64,
        said: Result<Vec<Decision>, &str>,
        late: Duration,
    ) {
        self.now += late;
        self.answer(serial, id, said, None);
    }

    /// What a trainer has heard, in words; plans are kept.
    pub(super) fn trainer(&mut self, rank: u32) -> Vec<String> {
        let trainer = self.trainers.get_mut(&rank).expect("it is there");
        let mut heard = Vec::new();
        while let Ok(message) = trainer.inbox.try_recv() {
            let plan = match message {
                ToTrainer::Welcome(welcome) => welcome.plan,
                ToTrainer::Plan(plan) => plan,
                ToTrainer::State(state) => {
                    let lines = state.lines().into_iter();
                    let lines: Vec<_> = lines
                        .map(|line| format!("{} {} ({})", line.field, line.text, line.by))
                        .collect();
                    heard.push(format!("state: {}", lines.join(", ")));
                    continue;
                }
                ToTrainer::Gate(answer) => {
                    let logs: Vec<_> = answer.logs.iter().map(|line| line.text.as_str()).collect();
                    let logs = logs.join(", ");
                    let said = answer.stop.map_or("go on".to_owned(), |stop| {
                        format!("stop by {}: {}", stop.by, stop.reason)
                    });
                    heard.push(format!("gate {}: {said} [{logs}]", answer.seq));
                    continue;
                }
                ToTrainer::Command(command) => {
                    heard.push(match command.deed {
                        crate::domain::Deed::Log(line) => format!("log: {}", line.text),
                        deed => format!("{deed:?}"),
                    });
                    continue;
                }
                _ => continue,
            };
            let wishes = plan.subscriptions.iter();
            trainer.plan = wishes
                .map(|wish| format!("{} at {}", wish.subscriber, wish.point))
                .collect();
        }
        heard
    }

    /// The plan that it has.
    pub(super) fn plan(&mut self, rank: u32) -> Vec<String> {
        self.trainer(rank);
        self.trainers[&rank].plan.clone()
    }

    /// A hook as it is shown, but for its time.
    pub(super) fn hook(&mut self, name: &str) -> String {
        let shown = self.run.snapshot().hooks;
        let hook = shown
            .iter()
            .find(|hook| hook.name == name)
            .expect("it is there");
        let mut text = format!("{} calls, {} decisions", hook.calls, hook.decisions);
        let counts = &hook.counts;
        for (count, what) in [
            (counts.errors, "errors"),
            (counts.timeouts, "timeouts"),
            (counts.missed, "missed"),
            (counts.overruled, "overruled"),
            (counts.withheld, "withheld"),
        ] {
            if count > 0 {
                text.push_str(&format!(", {count} {what}"));
            }
        }
        for (word, what) in [
            ("last", &counts.last_withheld),
            ("off", &hook.disabled),
            ("away", &hook.away),
        ] {
            if let Some(what) = what {
                text.push_str(&format!(", {word}: {what}"));
            }
        }
        text
    }

    pub(super) fn state(&mut self, name: &str) -> serde_json::Value {
        let at = self.run.roster.named(name).expect("it is there");
        let member = self.run.roster.member(at);
        let state = &member.remote().expect("it is a provider's").state;
        serde_json::from_str(state.as_str()).expect("it is JSON")
    }

    /// "kind: text" of those that are open.
    pub(super) fn incidents(&mut self) -> Vec<String> {
        let all = self.run.snapshot().incidents.into_iter();
        let open = all.filter(|(incident, _)| incident.open);
        open.map(|(incident, _)| format!("{}: {}", incident.kind.word(), incident.text))
            .collect()
    }

    /// "what: why".
    pub(super) fn refused(&mut self) -> Vec<String> {
        let refused = self.run.snapshot().refused.into_iter();
        refused
            .map(|(what, why, _)| format!("{what}: {why}"))
            .collect()
    }

    pub(super) fn generation(&self) -> u64 {
        self.run.desired.state().generation
    }
}
