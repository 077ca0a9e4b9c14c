//! What a run shows: plain copies that its bus publishes and readers hold, so that looking never waits for deciding.

mod happening;

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

pub use happening::{Happening, What};

use crate::domain::{
    AllocatorSample, Facts, Heartbeat, Incident, Outcome, OwnMemory, Position, Rank, RunId,
    StepTimes, TrainerResult, Wanted,
};

/// Where a run is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// At least one rank has not ended.
    Running,
    /// Every rank said goodbye.
    Finished,
    /// A hook or an operator ended it.
    Stopped,
    /// An exception left the training.
    Failed,
    /// A rank went without a goodbye.
    Lost,
}

impl Phase {
    /// Every one.
    const ALL: [Self; 5] = [
        Self::Running,
        Self::Finished,
        Self::Stopped,
        Self::Failed,
        Self::Lost,
    ];

    /// The word for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Lost => "lost",
        }
    }

    /// Back again.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.word() == word)
    }
}

/// One rank.
#[derive(Clone, Debug)]
pub struct RankSnapshot {
    /// Which.
    pub rank: Rank,
    /// Its number on its node.
    pub local_rank: Option<u32>,
    /// Its node.
    pub node: String,
    /// A session is open now.
    pub connected: bool,
    /// Its process as this daemon sees it, with start ticks; None: not known.
    pub process: Option<(u32, u64)>,
    /// Why the process is not known.
    pub process_unknown: String,
    /// Where it is.
    pub position: Position,
    /// The last point seen.
    pub point: Arc<str>,
    /// The last value of each recorded metric.
    pub last: BTreeMap<Arc<str>, f64>,
    /// Events received.
    pub events: u64,
    /// The highest settled number.
    pub acked: u64,
    /// Events in holes, by point.
    pub dropped: BTreeMap<Arc<str>, u64>,
    /// Median time from one after_train_iter to the next, of the last ones.
    pub step: Option<Duration>,
    /// All steps that this daemon has seen of it.
    pub steps: StepTimes,
    /// All waits for data that this daemon has seen of it.
    pub data_waits: StepTimes,
    /// Median time from an after_train_iter to the before_train_iter that follows at once, of the last ones.
    pub data_wait: Option<Duration>,
    /// When a frame last came.
    pub last_heard: Instant,
    /// The client's own counters.
    pub heartbeat: Heartbeat,
    /// The trainer's own resident set size, as last sent, and when.
    pub own_rss_bytes: Option<(u64, Instant)>,
    /// All that its client sees of its memory, where this daemon does not, and when it came.
    pub own_memory: Option<(OwnMemory, Instant)>,
    /// What its framework's allocator holds, as last sent; None: it has sent nothing of it.
    pub allocator: Option<AllocatorSample>,
    /// The largest one seen.
    pub peak_rss_bytes: Option<u64>,
    /// Gates answered.
    pub gates: u64,
    /// How it ended; None: it has not.
    pub ended: Option<String>,
}

/// One hook of a run.
#[derive(Clone, Debug)]
pub struct HookSnapshot {
    /// Its name.
    pub name: String,
    /// Its type.
    pub type_name: String,
    /// "config", "trainer" or "provider".
    pub origin: String,
    /// "act", "warn" or "observe".
    pub policy: String,
    /// Smaller first.
    pub priority: i32,
    /// Events seen.
    pub calls: u64,
    /// Decisions made.
    pub decisions: u64,
    /// Why it was switched off.
    pub disabled: Option<String>,
    /// As asked for.
    pub args: Vec<(String, String)>,
    /// How its calls went.
    pub counts: HookCounts,
    /// Of a provider's hook: the namespace of its type.
    pub module: Option<String>,
    /// Why it is not called now.
    pub away: Option<String>,
}

/// How the calls of a hook went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HookCounts {
    /// That they took; of a provider's until the answers came.
    pub time: Duration,
    /// It raised, or its provider died with the call.
    pub errors: u64,
    /// No answer in time.
    pub timeouts: u64,
    /// Due and not called: its provider was away, or too far behind.
    pub missed: u64,
    /// A hook of a higher priority had decided otherwise at the same position.
    pub overruled: u64,
    /// Decisions that its policy kept from the training.
    pub withheld: u64,
    /// The last of these, in words.
    pub last_withheld: Option<String>,
}

/// What one rank did with a decision or an order.
#[derive(Clone, Debug)]
pub struct ResultSeen {
    /// Which rank.
    pub rank: Rank,
    /// What it did.
    pub result: TrainerResult,
    /// Who decided.
    pub by: String,
    /// "stop", "lr", "checkpoint" and so on.
    pub what: Cow<'static, str>,
    /// When it came.
    pub at: Instant,
}

/// A line that a hook put in a trainer's log.
#[derive(Clone, Debug)]
pub struct LogSeen {
    /// Which rank.
    pub rank: Rank,
    /// Where it was decided.
    pub at: Position,
    /// The line.
    pub text: String,
    /// The hook.
    pub by: String,
}

/// An attempt that another one has taken the place of.
#[derive(Clone, Debug)]
pub struct AttemptSeen {
    /// Which.
    pub attempt: u32,
    /// How it ended.
    pub phase: Phase,
    /// Why.
    pub reason: String,
    /// When its first rank attached.
    pub started: Instant,
    /// When it was over.
    pub ended: Option<Instant>,
    /// The furthest that a rank of it reached.
    pub position: Position,
}

/// One attempt of a run.
#[derive(Clone, Debug)]
pub struct RunSnapshot {
    /// Which run.
    pub id: RunId,
    /// Which start of it, from 0.
    pub attempt: u32,
    /// How many ranks there shall be.
    pub world_size: u32,
    /// Where it is in its life.
    pub phase: Phase,
    /// Why it ended.
    pub reason: String,
    /// When the first rank attached.
    pub started: Instant,
    /// When it was over; None: it is not.
    pub ended: Option<Instant>,
    /// Read from the journal: no rank of it has a session since this daemon started.
    pub archived: bool,
    /// The attempts before this one, the oldest first.
    pub before: Vec<AttemptSeen>,
    /// What rank 0 knows of the training.
    pub facts: Facts,
    /// By rank.
    pub ranks: BTreeMap<Rank, Arc<RankSnapshot>>,
    /// In the order in which they are called.
    pub hooks: Vec<HookSnapshot>,
    /// (what, reason, rank) of what was asked for and does not hold.
    pub refused: Vec<(String, String, Rank)>,
    /// The desired state, a line each field.
    pub wanted: Vec<Wanted>,
    /// The newest last.
    pub results: VecDeque<ResultSeen>,
    /// What ranks did since this daemon has the run, by what was asked and how it went.
    pub outcomes: BTreeMap<(Cow<'static, str>, Outcome), u64>,
    /// Open and closed.
    pub incidents: Vec<(Incident, Instant)>,
    /// The newest last.
    pub logs: VecDeque<LogSeen>,
}

/// Every run's newest snapshot, for readers on any thread.
#[derive(Clone, Default)]
pub struct Board(Arc<Mutex<BTreeMap<RunId, watch::Receiver<Arc<RunSnapshot>>>>>);

impl Board {
    /// A run appears.
    pub fn add(&self, run: RunId, latest: watch::Receiver<Arc<RunSnapshot>>) {
        self.lock().insert(run, latest);
    }

    /// A run is forgotten.
    pub fn remove(&self, run: &RunId) {
        self.lock().remove(run);
    }

    /// All runs, by name and launch. One whose first rank is still at the door is not yet one.
    pub fn all(&self) -> Vec<Arc<RunSnapshot>> {
        let mut runs = self.begun();
        runs.retain(|run| !run.ranks.is_empty());
        runs
    }

    /// Every run that has a task, by name and launch.
    pub fn begun(&self) -> Vec<Arc<RunSnapshot>> {
        self.lock()
            .values()
            .map(|latest| latest.borrow().clone())
            .collect()
    }

    /// The run that an operator means by a name or an id; empty: the only one. Among several launches of one name the
    /// newest is meant. Errors: the line names the runs there are.
    pub fn find(&self, asked: &str) -> Result<Arc<RunSnapshot>, String> {
        let runs = self.all();
        if runs.is_empty() {
            return Err(
                "there is no run here yet: start a training with `hookbus run -- COMMAND`"
                    .to_owned(),
            );
        }
        let mut named: Vec<_> = runs
            .iter()
            .filter(|run| asked.is_empty() || run.id.is_called(asked))
            .collect();
        named.sort_by_key(|run| run.started);
        let several = asked.is_empty() && runs.len() > 1;
        match named.last() {
            Some(run) if !several => Ok(Arc::clone(run)),
            _ => {
                let known: Vec<_> = runs.iter().map(|run| run.id.to_string()).collect();
                let what = if several {
                    "several runs are here; name one".to_owned()
                } else {
                    format!("there is no run {asked:?}")
                };
                Err(format!("{what}: {}", known.join(", ")))
            }
        }
    }

    fn lock(
        &self,
    ) -> std::sync::MutexGuard<'_, BTreeMap<RunId, watch::Receiver<Arc<RunSnapshot>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
