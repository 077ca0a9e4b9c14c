//! A trainer's session, as the training thread holds it. `emit` copies into a buffer and returns; only a gate waits.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hookbus_proto::v1 as wire;

use crate::driver::Driver;
use crate::hot::Due;
use crate::identity::cut;
use crate::inbox::Action;
use crate::position::{
    AFTER_TRAIN_EPOCH, BEFORE_TRAIN_EPOCH, BEFORE_TRAIN_ITER, BEFORE_VAL_EPOCH, Given, Position,
    begins_training, comes_before,
};
use crate::ranks::{JobGate, Meeting, Standing};
use crate::rates::Written;
use crate::shared::{MEETS, Shared, Stage, Status, UNPLANNED, WANTED, lock, lock_soon};
use crate::{MetricId, Options, PointId, fork, runtime};

/// At most this before training begins, for what hooks decide ahead.
const AHEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// So long a gate waits without sleeping: an answer usually comes sooner than a sleeping core wakes. It yields all the while,
/// so on a busy machine others run.
const ON_THE_SPOT: Duration = Duration::from_micros(200);
/// Texts that go over the wire are cut here.
pub(crate) const TEXT_BYTES: usize = 1024;

/// What an emit asks of its caller.
#[derive(Debug, PartialEq)]
#[must_use]
pub enum Signal {
    /// Nothing.
    Quiet,
    /// Whether the ranks of a job act together is to be found out: call [`Session::alone`] or [`Session::still_gathers`],
    /// then emit again. Nothing was recorded.
    Gather,
    /// Every rank of the job is here: meet, then call [`Session::emit_met`].
    Meet(Meeting),
    /// Training begins here, and what hooks decide ahead is on its way: nothing was recorded. Call [`Session::prepare`]
    /// until it is true, then emit again.
    Prepare,
    /// Something waits for this point: call [`Session::take_actions`].
    Pending,
    /// A gate: call [`Session::wait`] until it is decided, then [`Session::take_actions`].
    Gate(Ticket),
}

/// A gate that waits for its answer.
#[derive(Debug, PartialEq)]
pub struct Ticket {
    due: Due,
    at: Position,
    asked: Instant,
    deadline: Duration,
    /// How often the answers had changed when they were last looked at.
    changes: u64,
    /// The answer cannot come: it is decided already.
    decided: bool,
    /// The answer is for every rank: it is handed over, and applied when it comes back.
    for_job: bool,
    pub(crate) answer: Option<wire::GateAnswer>,
}

/// A session of one rank. Cloning gives another handle of the same session.
#[derive(Clone)]
pub struct Session {
    pub(crate) shared: Arc<Shared>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            out,
            "Session({}@{})",
            self.shared.options.identity.run, self.shared.options.identity.launch
        )
    }
}

/// Attaches. Never fails: without a daemon the session is silent, and [`Session::warnings`] says what is missing. Waits
/// for the daemon's Welcome at most `options.timeout`, and only where an address was given or the default socket exists.
pub fn attach(options: Options) -> Session {
    fork::watch();
    let wait = options.wait.then_some(options.timeout);
    let shared = Arc::new(Shared::new(options));
    let session = Session {
        shared: Arc::clone(&shared),
    };
    if let Err(text) = runtime::spawn(Driver::new(Arc::clone(&shared)).run()) {
        shared.warn(text);
        shared.switch_off();
        return session;
    }
    if let Some(timeout) = wait {
        session.wait_status(timeout, |status| status.stage != Stage::Trying);
    }
    shared.attached.store(true, Ordering::Relaxed);
    session
}

impl Session {
    /// The id of a point's name; None beyond 256 names.
    pub fn point(&self, name: &str) -> Option<PointId> {
        let ranks = lock(&self.shared.ranks);
        let mut hot = lock(&self.shared.hot);
        let id = hot.point(name)?;
        let interest = &self.shared.interest[id.0 as usize];
        let meets = if ranks.meets_at(id.0, name) { MEETS } else { 0 };
        if interest.load(Ordering::Relaxed) & UNPLANNED == 0 {
            let wanted = hot.wants(id) && !lock(&self.shared.status).off;
            interest.store(u8::from(wanted) | meets, Ordering::Relaxed);
        } else {
            interest.fetch_or(meets, Ordering::Relaxed);
        }
        Some(id)
    }

    /// The id of a metric's name; None beyond 1024 names.
    pub fn metric(&self, name: &str) -> Option<MetricId> {
        lock(&self.shared.hot).metric(name)
    }

    /// Whether this process is a fork of the one that attached: the session is silent in it.
    #[inline]
    pub fn is_forked(&self) -> bool {
        self.shared.fork_generation != fork::generation()
    }

    /// A point is reached. `given` is what the caller knows of the position; the rest is counted.
    #[inline]
    pub fn emit(
        &self,
        point: PointId,
        given: &Given,
        values: &[(MetricId, f64)],
        unknown: &[(MetricId, &str)],
    ) -> Signal {
        let shared = &*self.shared;
        if self.is_forked() {
            return Signal::Quiet;
        }
        if !shared.training.load(Ordering::Relaxed) {
            if begins_training(point.0) {
                if self.must_prepare() {
                    return Signal::Prepare;
                }
            } else if shared.gathers.load(Ordering::Relaxed) && !comes_before(point.0) {
                return Signal::Gather;
            }
        }
        let reached = shared.points_reached.load(Ordering::Relaxed);
        shared
            .points_reached
            .store(reached.wrapping_add(1), Ordering::Relaxed);
        shared.last_point.store(point.0.into(), Ordering::Relaxed);
        let at = shared.counters.reach(point.0, given);
        let interest = shared.interest[point.0 as usize].load(Ordering::Relaxed);
        if interest & MEETS != 0
            && let Some(meeting) = self.meeting(point, at, values, unknown)
        {
            return Signal::Meet(meeting);
        }
        self.reached(interest & !MEETS, point, at, values, unknown)
    }

    #[inline]
    fn reached(
        &self,
        interest: u8,
        point: PointId,
        at: Position,
        values: &[(MetricId, f64)],
        unknown: &[(MetricId, &str)],
    ) -> Signal {
        if interest != 0
            && let Some(ticket) = self.record(interest, point, at, values, unknown, None)
        {
            return Signal::Gate(ticket);
        }
        self.pending(point, at)
    }

    #[inline]
    pub(crate) fn pending(&self, point: PointId, at: Position) -> Signal {
        let shared = &*self.shared;
        let due = match point.0 {
            BEFORE_TRAIN_ITER | BEFORE_TRAIN_EPOCH => self.is_due(at),
            AFTER_TRAIN_EPOCH => {
                shared.ends_epochs.load(Ordering::Relaxed) && self.is_due(next_epoch(at))
            }
            BEFORE_VAL_EPOCH => shared.syncs_norm.load(Ordering::Relaxed),
            _ => false,
        };
        if due || shared.pending.load(Ordering::Acquire) {
            Signal::Pending
        } else {
            Signal::Quiet
        }
    }

    #[inline]
    fn is_due(&self, at: Position) -> bool {
        at.iter >= self.shared.due_iter.load(Ordering::Relaxed)
            || at.epoch >= self.shared.due_epoch.load(Ordering::Relaxed)
    }

    /// Training begins: whether what hooks decide ahead is still to be waited for. Else the door closes behind it.
    #[cold]
    fn must_prepare(&self) -> bool {
        let shared = &*self.shared;
        if shared.unasked.load(Ordering::Relaxed) {
            return true; // whether this rank has a daemon or not
        }
        if !shared.facts_final.load(Ordering::Relaxed) {
            if self.status().connected {
                return true;
            }
            self.final_facts();
        }
        if self.is_on_its_way() {
            let since = *lock(&shared.preparing).get_or_insert_with(Instant::now);
            if since.elapsed() < AHEAD_TIMEOUT {
                return true;
            }
        }
        let (missing, reports) = lock(&shared.steered).close_door();
        shared.training.store(true, Ordering::Relaxed);
        shared.gathers.store(false, Ordering::Relaxed);
        shared.report(reports, "before_train");
        if lock(&shared.ranks).standing == Standing::Follows {
            shared.look_ahead();
            return false; // what its own daemon would have said is not asked
        }
        let status = self.status();
        let given = shared.facts_number.load(Ordering::Relaxed);
        if status.facts_taken >= given {
            for (what, why) in status.refused_ahead {
                shared.warn(format!("hookbus: refused: {what}: {why}"));
            }
        } else if status.stage == Stage::Attached {
            let asked: Vec<_> = shared.options.hooks.iter().map(hook_name).collect();
            let hooks = if asked.is_empty() {
                "its hooks".to_owned()
            } else {
                asked.join(", ")
            };
            shared.warn(format!(
                "hookbus: the daemon did not answer before training began: what {hooks} would decide ahead (learning rate, input size, mode, set_epoch) is not in force in this attempt"
            ));
        } else if !missing.is_empty() {
            shared.warn(format!(
                "hookbus: {} did not come in time; it is not in force in this attempt",
                missing.join(", ")
            ));
        }
        shared.look_ahead();
        false
    }

    fn is_on_its_way(&self) -> bool {
        let shared = &*self.shared;
        let given = shared.facts_number.load(Ordering::Relaxed);
        let status = lock(&shared.status);
        let taken = status.facts_taken >= given;
        let connected = status.connected;
        drop(status);
        let ranks = lock(&shared.ranks);
        let here = || match ranks.standing {
            Standing::Gathering => ranks.is_complete(),
            Standing::Alone | Standing::Leads => lock(&shared.steered).is_complete(),
            Standing::Follows | Standing::Parted => true,
        };
        let follows = ranks.standing == Standing::Follows;
        connected && !follows && !(taken && here())
    }

    /// What was said of the training is all there is: hooks decide from it.
    fn final_facts(&self) {
        let facts = lock(&self.shared.facts).clone().unwrap_or_default();
        self.shared.facts_final.store(true, Ordering::Relaxed);
        self.facts(wire::Facts {
            position: None,
            ..facts
        });
    }

    /// Waits, at most `slice`, for what hooks decide ahead. True: emit again. From the first call on the facts are final.
    pub fn prepare(&self, slice: Duration) -> bool {
        let shared = &*self.shared;
        if !shared.facts_final.load(Ordering::Relaxed) {
            self.final_facts();
        }
        let given = shared.facts_number.load(Ordering::Relaxed);
        let since = *lock(&shared.preparing).get_or_insert_with(Instant::now);
        let left = AHEAD_TIMEOUT.saturating_sub(since.elapsed());
        shared.wake.notify_one();
        self.wait_status(left.min(slice), |status| {
            status.facts_taken >= given || !status.connected
        });
        !self.is_on_its_way() || since.elapsed() >= AHEAD_TIMEOUT
    }

    /// Whether learning rates are to be written: one load.
    #[inline]
    pub fn steers_rates(&self) -> bool {
        self.shared.steers_rates.load(Ordering::Relaxed)
    }

    /// At the top of an iteration, after its emit: `rates` has the optimizer's own value of each parameter group, and gets
    /// what is to be written in its place.
    pub fn rates(&self, rates: &mut [f64]) -> Written {
        let shared = &*self.shared;
        let at = shared.counters.last();
        let fresh = shared.counters.phase(BEFORE_TRAIN_ITER).fresh;
        let mut reports = Vec::new();
        let written = lock_soon(&shared.steered)
            .rates
            .write(at, fresh, rates, &mut reports);
        shared.report(reports, "before_train_iter");
        written
    }

    /// `job`: gates that the ranks of the job ask, and the ranks where their conditions hold.
    #[inline(never)]
    pub(crate) fn record(
        &self,
        interest: u8,
        point: PointId,
        at: Position,
        values: &[(MetricId, f64)],
        unknown: &[(MetricId, &str)],
        job: Option<(&[JobGate], Vec<u32>)>,
    ) -> Option<Ticket> {
        let shared = &*self.shared;
        let (gates, held_on) = job.unwrap_or_default();
        if interest & WANTED == 0 && gates.is_empty() {
            return None;
        }
        let mut hot = lock_soon(&shared.hot);
        let (due, high) = hot.record(point, at, values, unknown, gates);
        if let Some(missed) = hot.missed.take() {
            self.say(Action::Error(missed));
        }
        let Some(due) = due else {
            drop(hot);
            if high || shared.parked.load(Ordering::SeqCst) {
                shared.parked.store(false, Ordering::SeqCst);
                shared.wake.notify_one();
            }
            return None;
        };
        let (budget, probe) = (hot.plan().stall_budget, hot.plan().probe);
        let asked = Instant::now();
        let deadline = due
            .gates
            .iter()
            .map(|gate| gate.deadline)
            .max()
            .unwrap_or_default();
        let waits =
            lock(&shared.status).connected && lock(&shared.breaker).may_wait(asked, budget, probe);
        if waits {
            hot.ask(&due, held_on);
            lock(&shared.answers).insert(due.seq, None);
        }
        drop(hot);
        shared.parked.store(false, Ordering::SeqCst);
        shared.wake.notify_one();
        let mut ticket = Ticket {
            due,
            at,
            asked,
            deadline,
            changes: 0,
            decided: false,
            for_job: !gates.is_empty(),
            answer: None,
        };
        if !waits {
            self.otherwise(&mut ticket);
        }
        Some(ticket)
    }

    /// Waits for a gate's answer, at most `slice`. True: it is decided; what follows is in [`Session::take_actions`].
    pub fn wait(&self, ticket: &mut Ticket, slice: Duration) -> bool {
        if ticket.decided {
            return true;
        }
        let shared = &*self.shared;
        let waiting = |answers: &mut crate::shared::Answers| {
            matches!(answers.get(&ticket.due.seq), Some(None))
        };
        while ticket.asked.elapsed() < ON_THE_SPOT {
            let changes = shared.answer_changes.load(Ordering::Acquire);
            if changes != ticket.changes {
                ticket.changes = changes;
                if !waiting(&mut lock(&shared.answers)) {
                    break;
                }
            }
            std::thread::yield_now();
        }
        let left = ticket.deadline.saturating_sub(ticket.asked.elapsed());
        let answers = lock(&shared.answers);
        let (mut answers, _) = shared
            .answered
            .wait_timeout_while(answers, left.min(slice), waiting)
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let waited = ticket.asked.elapsed();
        match answers.get(&ticket.due.seq) {
            Some(None) if waited < ticket.deadline => return false,
            Some(Some(_)) => {
                let answer = answers.remove(&ticket.due.seq).flatten();
                drop(answers);
                lock(&shared.breaker).answered(waited);
                self.decide(ticket, answer);
            }
            // In time, but the connection broke; or the deadline is over.
            _ => {
                answers.remove(&ticket.due.seq);
                drop(answers);
                lock(&shared.breaker).timed_out(waited, Instant::now());
                self.otherwise(ticket);
            }
        }
        true
    }

    /// No answer comes: the plan's `otherwise` decides.
    fn otherwise(&self, ticket: &mut Ticket) {
        let Some((gate, text)) = ticket
            .due
            .gates
            .iter()
            .find_map(|gate| Some((gate, gate.otherwise_stop.as_ref()?)))
        else {
            return self.decide(ticket, None);
        };
        let answer = wire::GateAnswer {
            seq: ticket.due.seq,
            verdict: wire::GateVerdict::Stop.into(),
            reason: text.clone(),
            decision_id: format!("local:{}:{}", gate.hook, ticket.at.iter),
            by: gate.hook.clone(),
            logs: vec![wire::LogLine {
                level: wire::LogLevel::Info.into(),
                text: text.clone(),
            }],
        };
        self.decide(ticket, Some(answer));
    }

    fn decide(&self, ticket: &mut Ticket, answer: Option<wire::GateAnswer>) {
        ticket.decided = true;
        if ticket.for_job {
            ticket.answer = answer;
        } else if let Some(answer) = answer {
            self.put_answer(answer);
        }
    }

    /// A gate's answer, for this rank to apply.
    pub(crate) fn put_answer(&self, answer: wire::GateAnswer) {
        let refused = self.shared.refuses("stop");
        self.shared.deliver(|inbox| inbox.gate(answer, refused));
    }

    /// What is to be done at this point, on the thread that trains.
    pub fn take_actions(&self, point: PointId) -> Vec<Action> {
        if self.is_forked() {
            return Vec::new();
        }
        let shared = &*self.shared;
        let name = lock(&shared.hot)
            .points
            .get(point.0 as usize)
            .cloned()
            .unwrap_or_default();
        let at = shared.counters.last();
        let phase = shared.counters.phase(point.0);
        let mut actions = Vec::new();
        let boundary = matches!(point.0, BEFORE_TRAIN_ITER | BEFORE_TRAIN_EPOCH);
        if boundary {
            let mut reports = Vec::new();
            actions = lock_soon(&shared.steered).take(at, phase, &mut reports);
            shared.report(reports, &name);
        }
        if point.0 == BEFORE_VAL_EPOCH && shared.syncs_norm.load(Ordering::Relaxed) {
            actions.extend(lock_soon(&shared.steered).take_sync_norm(at));
        }
        let ends = point.0 == AFTER_TRAIN_EPOCH && shared.ends_epochs.load(Ordering::Relaxed);
        // Not every rank of a job may come to a validation, or comes with the same things waiting.
        let own_only = point.0 == BEFORE_VAL_EPOCH && self.meets();
        let mut inbox = lock(&shared.inbox);
        actions.extend(if ends {
            inbox.take_where_epoch_ends(&name, next_epoch(at))
        } else if own_only {
            inbox.take_at_any_point(&name, at)
        } else {
            inbox.take(&name, at, phase.fresh)
        });
        if !inbox.is_pending() {
            shared.pending.store(false, Ordering::Release);
        }
        let results = inbox.next_result().is_some();
        drop(inbox);
        if boundary {
            shared.look_ahead();
        }
        if results {
            shared.wake.notify_one();
        }
        actions
    }

    /// What became of an action that is not a log line or a stop.
    pub fn result(
        &self,
        id: &str,
        outcome: wire::Outcome,
        old: Option<String>,
        new: Option<String>,
        reason: &str,
    ) {
        // A log line of a gate's answer has no id, and what was taken was reported when it was taken.
        if self.is_forked() || id.is_empty() || lock(&self.shared.inbox).is_reported(id) {
            return;
        }
        let result = wire::Result {
            id: id.to_owned(),
            outcome: outcome.into(),
            old: old.map(|old| cut(old, TEXT_BYTES)),
            new: new.map(|new| cut(new, TEXT_BYTES)),
            reason: cut(reason.to_owned(), TEXT_BYTES),
            ..wire::Result::default()
        };
        let last = self.shared.last_point.load(Ordering::Relaxed) as usize;
        let point = lock(&self.shared.hot)
            .points
            .get(last)
            .cloned()
            .unwrap_or_default();
        lock(&self.shared.inbox).result(result, &point, self.shared.counters.last());
        self.shared.wake.notify_one();
    }

    /// The field whose value a gate that is due at this point must know, even where reading it is dear.
    pub fn gate_field(&self, point: PointId) -> Option<String> {
        let at = self.shared.counters.now();
        let hot = lock(&self.shared.hot);
        let field = hot.gate_field(point, at).map(str::to_owned);
        let name = hot.points.get(point.0 as usize).cloned();
        drop(hot); // the ranks come before it
        field.or_else(|| {
            lock(&self.shared.ranks)
                .gate_field(&name?, at)
                .map(str::to_owned)
        })
    }

    /// What the trainer knows about itself, whole; the latest wins. Its number is counted here. Hooks decide from the facts
    /// with which training begins, and from later ones.
    pub fn facts(&self, mut facts: wire::Facts) {
        if self.is_forked() {
            return;
        }
        let mut kept = lock(&self.shared.facts);
        facts.number = self.shared.facts_number.fetch_add(1, Ordering::Relaxed) + 1;
        facts.provisional = !self.shared.facts_final.load(Ordering::Relaxed);
        if facts.position.is_none() {
            let at = self.position();
            facts.position = Some(wire::Position {
                epoch: at.epoch,
                iter: at.iter,
                inner_iter: at.inner_iter,
            });
        }
        *kept = Some(facts);
        drop(kept);
        self.shared.facts_changed.store(true, Ordering::Relaxed);
        self.shared.wake.notify_one();
    }

    /// What the trainer's model and datasets are, whole; the latest wins. Before the gate that is decided from it. Goes out
    /// ahead of the next event, only where it is something else than before; its number is counted here.
    pub fn describe(&self, description: wire::Description) {
        let shared = &*self.shared;
        if !self.is_forked() && lock(&shared.description).take(description) {
            shared.description_changed.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a hook's gate at this point compares what model and datasets are: [`Session::describe`] them before it.
    pub fn wants_description(&self, point: PointId) -> bool {
        if self.is_forked() {
            return false;
        }
        let hot = lock(&self.shared.hot);
        let wants = hot.wants_description(point);
        let name = hot
            .points
            .get(point.0 as usize)
            .cloned()
            .unwrap_or_default();
        drop(hot); // the ranks come before it
        let of_job = lock(&self.shared.ranks).wants_description(&name);
        of_job.unwrap_or(wants)
    }

    /// The trainer can end its loop where an epoch ends: a stop that is due where the next one begins is taken there.
    pub fn ends_epochs(&self) {
        self.shared.ends_epochs.store(true, Ordering::Relaxed);
    }

    /// From now on the trainer can do this too. The daemon hears of it at the next Hello; commands are taken at once.
    pub fn add_capability(&self, what: &str) {
        if self.is_forked() {
            return; // a lock may have been held when this process was forked
        }
        lock(&self.shared.capabilities).insert(what.to_owned());
    }

    /// Something for the user, at the next point.
    pub fn say(&self, action: Action) {
        self.shared.deliver(|inbox| inbox.say(action));
    }

    /// Where the training is.
    pub fn position(&self) -> Position {
        self.shared.counters.now()
    }

    /// Training goes on from here.
    pub fn set_position(&self, at: Position) {
        self.shared.counters.set(at);
    }

    /// Whether anybody wants events of this point now.
    pub fn wants(&self, point: PointId) -> bool {
        !self.is_forked()
            && self.shared.interest[point.0 as usize].load(Ordering::Relaxed)
                & crate::shared::WANTED
                != 0
    }

    /// What can be seen of the session.
    pub fn status(&self) -> Status {
        if self.is_forked() {
            return Status::default();
        }
        lock(&self.shared.status).clone()
    }

    /// Gates that no answer came for in time, cumulative.
    pub fn gate_timeouts(&self) -> u64 {
        if self.is_forked() {
            return 0;
        }
        lock(&self.shared.breaker).timeouts()
    }

    /// What the user should be told after attach: why no daemon is there and which hooks are missing.
    pub fn warnings(&self) -> Vec<String> {
        let options = &self.shared.options;
        let status = self.status();
        let missing: Vec<_> = options.hooks.iter().map(hook_name).collect();
        let without = if missing.is_empty() {
            String::new()
        } else {
            format!(" Without it there is no {}.", missing.join(", no "))
        };
        let start =
            "Start the training with `hookbus run -- COMMAND`, or a daemon with `hookbusd`.";
        let (why, mend) = match status.stage {
            Stage::Trying if options.mistake.is_some() => (
                options.mistake.clone().unwrap_or_default(),
                "Mend it and start again.",
            ),
            Stage::Attached | Stage::Closed => return Vec::new(),
            Stage::Fenced(text) if status.off => (text, "hookbus is off for this process."),
            Stage::Fenced(text) => (text, "It keeps trying."),
            Stage::Failed(text) => (text, start),
            Stage::Trying => match &options.address {
                Some(address) if options.wait => (
                    format!(
                        "no answer from {address} within {:.0} s",
                        options.timeout.as_secs_f64()
                    ),
                    start,
                ),
                _ => (
                    "no hookbus daemon is here (HOOKBUS_ADDRESS is not set and the default socket does not exist)"
                        .to_owned(),
                    start,
                ),
            },
        };
        vec![format!(
            "hookbus: {why}. The training goes on.{without} {mend}"
        )]
    }

    /// Waits until everything that was generated so far is settled. False: not within `timeout`.
    pub fn flush(&self, timeout: Duration) -> bool {
        if self.is_forked() {
            return true;
        }
        let target = lock(&self.shared.hot).next_seq - 1;
        self.shared.parked.store(false, Ordering::SeqCst);
        self.shared.wake.notify_one();
        self.wait_status(timeout, |status| status.acked >= target || status.off)
    }

    pub(crate) fn wait_status(&self, timeout: Duration, reached: impl Fn(&Status) -> bool) -> bool {
        let status = lock(&self.shared.status);
        let (status, _) = self
            .shared
            .changed
            .wait_timeout_while(status, timeout, |status| !reached(status))
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        reached(&status)
    }
}

/// Where the epoch that ends at `at` is followed by the next one.
fn next_epoch(at: Position) -> Position {
    Position {
        epoch: at.epoch.wrapping_add(1),
        ..at
    }
}

/// By which a hook is known.
fn hook_name(hook: &wire::HookRequest) -> &str {
    if hook.name.is_empty() {
        &hook.r#type
    } else {
        &hook.name
    }
}
