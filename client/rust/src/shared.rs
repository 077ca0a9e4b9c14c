//! What the training thread and the client's own thread share. No lock here is ever held across a wait.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Instant;

use hookbus_proto::v1 as wire;
use tokio::sync::Notify;

use crate::breaker::Breaker;
use crate::description::Described;
use crate::hot::{Hot, MOST_POINTS};
use crate::inbox::{Action, Inbox};
use crate::plan::Compiled;
use crate::position::{BEFORE_TRAIN_ITER, Counters};
use crate::ranks::{Ranks, Standing};
use crate::rates::Report;
use crate::steered::Steered;
use crate::{Options, fork};

/// Refused ids that are remembered.
const MOST_REFUSED: usize = 1024;

/// Bits of a point's interest.
pub(crate) const WANTED: u8 = 1;
/// No plan was received yet: the point is looked at, to know whether training has begun.
pub(crate) const UNPLANNED: u8 = 2;
/// The ranks of this job may meet here.
pub(crate) const MEETS: u8 = 4;

/// How far an attach has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stage {
    #[default]
    Trying,
    Attached,
    /// The last try failed, and why.
    Failed(String),
    /// The daemon does not want this session, now or for good.
    Fenced(String),
    Closed,
}

/// What can be seen of a session.
#[derive(Clone, Debug, Default)]
pub struct Status {
    pub(crate) stage: Stage,
    /// A connection is open now.
    pub connected: bool,
    /// "new", "resumed" or "lost"; empty before the first Welcome.
    pub verdict: String,
    /// The run, as operators can name it.
    pub run_id: String,
    /// The attempt.
    pub attempt: u32,
    /// What was asked for and does not hold: (what, why).
    pub refused: Vec<(String, String)>,
    /// Everything up to this number is settled.
    pub acked: u64,
    /// Events that were dropped.
    pub dropped: u64,
    /// Bytes that wait to be settled.
    pub buffered_bytes: usize,
    /// How often the client's thread took the buffer over, cumulative.
    pub flushes: u64,
    /// The session is off for good.
    pub off: bool,
    /// The number of the last facts from which everything was decided.
    pub(crate) facts_taken: u64,
    /// Hooks that cannot work with them: (which, why).
    pub refused_ahead: Vec<(String, String)>,
}

/// Gates that wait for an answer, by number.
pub(crate) type Answers = HashMap<u64, Option<wire::GateAnswer>>;

pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) fork_generation: u32,
    pub(crate) counters: Counters,
    pub(crate) points_reached: AtomicU64,
    pub(crate) last_point: AtomicU32,
    pub(crate) interest: [AtomicU8; MOST_POINTS],
    pub(crate) pending: AtomicBool,
    pub(crate) parked: AtomicBool,
    /// Training has begun: what hooks decide ahead is there, or does not come.
    pub(crate) training: AtomicBool,
    /// Since when the training thread waits for what is decided ahead.
    pub(crate) preparing: Mutex<Option<Instant>>,
    /// What holds by position.
    pub(crate) steered: Mutex<Steered>,
    /// Where what concerns the whole job comes from. Taken before every other lock.
    pub(crate) ranks: Mutex<Ranks>,
    /// Whether this process has one or stands alone is not known yet.
    pub(crate) gathers: AtomicBool,
    /// The last plan, and whether its gates may be asked.
    plan: Mutex<Option<(wire::Plan, bool)>>,
    /// What a rank that follows has of the job's desired state.
    pub(crate) job_state: Mutex<Option<wire::State>>,
    /// Ids that were refused because the ranks of the job have parted.
    refused: Mutex<BTreeSet<String>>,
    /// Whether the ranks of the job were not asked yet whether they agree.
    pub(crate) unasked: AtomicBool,
    /// A heartbeat is to go out at once.
    pub(crate) beat: AtomicBool,
    /// The session is about to end: a daemon that was away is tried once more, now.
    pub(crate) hurry: AtomicBool,
    /// A stop that is due where the next epoch begins is taken where this one ends.
    pub(crate) ends_epochs: AtomicBool,
    /// Norm layers are averaged before a validation.
    pub(crate) syncs_norm: AtomicBool,
    /// Learning rates are written.
    pub(crate) steers_rates: AtomicBool,
    /// Before this iteration, or this epoch, something is due.
    pub(crate) due_iter: AtomicU64,
    pub(crate) due_epoch: AtomicU64,
    pub(crate) hot: Mutex<Hot>,
    pub(crate) inbox: Mutex<Inbox>,
    pub(crate) breaker: Mutex<Breaker>,
    pub(crate) capabilities: Mutex<BTreeSet<String>>,
    pub(crate) facts: Mutex<Option<wire::Facts>>,
    pub(crate) facts_changed: AtomicBool,
    /// How often facts were given.
    pub(crate) facts_number: AtomicU64,
    /// The last ones were what hooks decide from.
    pub(crate) facts_final: AtomicBool,
    pub(crate) description: Mutex<Described>,
    pub(crate) description_changed: AtomicBool,
    /// `attach` has returned: what happens from now on, `Session::warnings` has not said.
    pub(crate) attached: AtomicBool,
    pub(crate) answers: Mutex<Answers>,
    pub(crate) answered: Condvar,
    /// Grows with each change of `answers`, for a thread that waits on the spot.
    pub(crate) answer_changes: AtomicU64,
    pub(crate) status: Mutex<Status>,
    pub(crate) changed: Condvar,
    pub(crate) bye: Mutex<Option<wire::Bye>>,
    pub(crate) wake: Notify,
}

/// A lock whose data is valid whatever a panicking holder did: each is a plain record.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// For the training thread: the client's thread holds the lock for the blink of a swap, so waiting for it on the spot is
/// cheaper than the two system calls of sleeping and waking.
#[inline]
pub(crate) fn lock_soon<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    for _ in 0..1000 {
        match mutex.try_lock() {
            Ok(guard) => return guard,
            Err(TryLockError::WouldBlock) => std::hint::spin_loop(),
            Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
        }
    }
    lock(mutex)
}

impl Shared {
    pub(crate) fn new(options: Options) -> Self {
        let now = Instant::now();
        let mut ranks = Ranks::default();
        if options.gathers {
            ranks.standing = Standing::Gathering;
        }
        Self {
            gathers: AtomicBool::new(options.gathers),
            ranks: Mutex::new(ranks),
            plan: Mutex::default(),
            beat: AtomicBool::new(false),
            hurry: AtomicBool::new(false),
            refused: Mutex::default(),
            unasked: AtomicBool::new(options.gathers),
            job_state: Mutex::default(),
            ends_epochs: AtomicBool::new(false),
            syncs_norm: AtomicBool::new(false),
            capabilities: Mutex::new(options.capabilities.iter().cloned().collect()),
            options,
            fork_generation: fork::generation(),
            counters: Counters::default(),
            points_reached: AtomicU64::new(0),
            last_point: AtomicU32::new(u32::MAX),
            interest: [const { AtomicU8::new(UNPLANNED) }; MOST_POINTS],
            pending: AtomicBool::new(false),
            parked: AtomicBool::new(false),
            training: AtomicBool::new(false),
            preparing: Mutex::default(),
            steered: Mutex::default(),
            steers_rates: AtomicBool::new(false),
            due_iter: AtomicU64::new(u64::MAX),
            due_epoch: AtomicU64::new(u64::MAX),
            hot: Mutex::new(Hot::new(now)),
            inbox: Mutex::default(),
            breaker: Mutex::new(Breaker::new(now)),
            facts: Mutex::default(),
            facts_changed: AtomicBool::new(false),
            facts_number: AtomicU64::new(0),
            facts_final: AtomicBool::new(false),
            description: Mutex::default(),
            description_changed: AtomicBool::new(false),
            attached: AtomicBool::new(false),
            answers: Mutex::default(),
            answered: Condvar::new(),
            answer_changes: AtomicU64::new(0),
            status: Mutex::default(),
            changed: Condvar::new(),
            bye: Mutex::default(),
            wake: Notify::new(),
        }
    }

    /// Changes what can be seen, and tells who waits for it.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Status)) {
        change(&mut lock(&self.status));
        self.changed.notify_all();
    }

    /// Puts something in the inbox; the training thread looks at its next point.
    pub(crate) fn deliver(&self, put: impl FnOnce(&mut Inbox)) {
        let mut inbox = lock(&self.inbox);
        put(&mut inbox);
        if inbox.is_pending() {
            self.pending.store(true, Ordering::Release);
        }
    }

    /// Why the trainer's allow-list does not have this.
    pub(crate) fn refuses(&self, what: &str) -> Option<String> {
        let allow = self.options.allow.as_ref()?;
        (!allow.contains(what)).then(|| {
            let has: Vec<_> = allow.iter().map(String::as_str).collect();
            format!(
                "the trainer's allow-list does not have {what}; it has: {}",
                has.join(", ")
            )
        })
    }

    /// A desired state that this rank is to apply.
    pub(crate) fn put_state(&self, state: wire::State) {
        let refused = self.refuses("stop");
        self.deliver(|inbox| inbox.stop(state.stop.clone(), refused));
        let reports = lock(&self.steered).state(state, &|what| self.refuses(what));
        self.report(reports, "");
    }

    /// What operators ask of ranks that cannot meet any more, each once; not what was taken before.
    pub(crate) fn refuse_parted(&self, ids: Vec<String>) {
        let mut known = lock(&self.inbox).applied();
        known.extend(lock(&self.steered).taken());
        let mut refused = lock(&self.refused);
        let mut reports = Vec::new();
        for id in ids {
            if refused.len() >= MOST_REFUSED {
                refused.clear(); // some are reported again
            }
            if !known.contains(&id) && refused.insert(id.clone()) {
                let why = "the ranks of this job cannot meet any more: what reached one of them only would be felt by all";
                reports.push(Report::not(wire::Outcome::Rejected, &id, why));
            }
        }
        drop(refused);
        self.report(reports, "");
    }

    /// A command that this rank is to carry out.
    pub(crate) fn put_command(&self, command: wire::Command) {
        let capabilities = lock(&self.capabilities).clone();
        self.deliver(|inbox| {
            let can = |what: &str| capabilities.contains(what);
            inbox.command(command, can, |what| self.refuses(what));
        });
    }

    /// What became of things that hold by position.
    pub(crate) fn report(&self, reports: Vec<Report>, point: &str) {
        if reports.is_empty() {
            return;
        }
        let at = self.counters.last();
        let mut inbox = lock(&self.inbox);
        for report in reports {
            inbox.report(report, point, at);
        }
        drop(inbox);
        self.wake.notify_one();
    }

    /// Looks anew before which position something is due. Both threads may: the lock makes the later look win.
    pub(crate) fn look_ahead(&self) {
        let steered = lock_soon(&self.steered);
        let fresh = self.counters.phase(BEFORE_TRAIN_ITER).fresh;
        let (iter, epoch) = steered.next_due(self.counters.now(), fresh);
        let (inbox_iter, inbox_epoch) = lock(&self.inbox).next_due();
        self.due_iter.store(iter.min(inbox_iter), Ordering::Relaxed);
        self.due_epoch
            .store(epoch.min(inbox_epoch), Ordering::Relaxed);
        self.steers_rates
            .store(!steered.rates.is_empty(), Ordering::Relaxed);
        self.syncs_norm
            .store(steered.syncs_norm(), Ordering::Relaxed);
    }

    /// Something for the user.
    pub(crate) fn warn(&self, text: String) {
        self.deliver(|inbox| inbox.say(Action::Warning(text)));
    }

    /// Puts a plan in force. `gates`: they may be asked, where this rank stands alone; the gates of a job are agreed.
    pub(crate) fn install(&self, plan: wire::Plan, gates: bool) {
        let mut kept = lock(&self.plan);
        *kept = Some((plan, gates));
        self.compile(kept.as_ref());
    }

    /// The ranks of the job agreed, parted, or found that there are none.
    pub(crate) fn install_again(&self) {
        self.compile(lock(&self.plan).as_ref());
    }

    /// `plan` is locked all the while, so that no older one comes last.
    fn compile(&self, plan: Option<&(wire::Plan, bool)>) {
        let off = lock(&self.status).off;
        let ranks = lock(&self.ranks);
        let mut hot = lock(&self.hot);
        let wanted = plan.map(|(plan, gates)| {
            let alone = ranks.standing == Standing::Alone;
            hot.install(Compiled::new(plan, *gates && alone))
        });
        for (id, interest) in self.interest.iter().enumerate() {
            let wanted = wanted.as_ref().map(|wanted| wanted.get(id) == Some(&true));
            let mut bits = match wanted {
                None => interest.load(Ordering::Relaxed) & !MEETS,
                Some(true) if !off => WANTED,
                Some(_) => 0,
            };
            if hot
                .points
                .get(id)
                .is_some_and(|name| ranks.meets_at(id as u8, name))
            {
                bits |= MEETS;
            }
            interest.store(bits, Ordering::Relaxed);
        }
    }

    /// The plan, where its gates may be asked.
    pub(crate) fn plan(&self) -> Option<wire::Plan> {
        lock(&self.plan)
            .as_ref()
            .filter(|(_, gates)| *gates)
            .map(|(plan, _)| plan.clone())
    }

    /// Nothing is wanted any more. The ranks of a job meet all the same: the others do not know of it.
    pub(crate) fn switch_off(&self) {
        self.want_nothing();
        self.update(|status| status.off = true);
        self.change_answers(Answers::clear);
    }

    /// Nothing is recorded from here on.
    pub(crate) fn want_nothing(&self) {
        for interest in &self.interest {
            interest.fetch_and(MEETS, Ordering::Relaxed);
        }
    }

    /// Changes the gates' answers, and tells who waits for one.
    pub(crate) fn change_answers(&self, change: impl FnOnce(&mut Answers)) {
        change(&mut lock(&self.answers));
        self.answer_changes.fetch_add(1, Ordering::Release);
        self.answered.notify_all();
    }
}
