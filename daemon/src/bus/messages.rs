//! What goes in and out of a run's task.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use crate::domain::{
    Batch, Command, Deed, Description, DesiredState, Effective, EncodedSchedule, Facts, Heartbeat,
    Hello, Hold, Hole, LogLine, Plan, Rank, RunId, Size, TrainerResult,
};
use crate::snapshot::Happening;
use crate::steering::OrderUpdate;

/// One connection of one rank; a message of an older connection is not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Link {
    /// Whose.
    pub rank: Rank,
    /// Which connection, unique in this daemon.
    pub serial: u64,
}

/// A rank that wants in.
#[derive(Debug)]
pub struct Attach {
    /// Which connection.
    pub serial: u64,
    /// Its first words.
    pub hello: Hello,
    /// Its user, where the peer's credentials say it.
    pub uid: Option<u32>,
    /// Its process as this daemon sees it (pid, start ticks), or why that is not known.
    pub process: Result<(u32, u64), String>,
    /// Where it hears.
    pub out: mpsc::Sender<ToTrainer>,
    /// In (the Welcome went out), or why not.
    pub reply: oneshot::Sender<Result<(), Fence>>,
}

/// A rank is in.
#[derive(Clone, Debug)]
pub struct Welcome {
    /// Which run.
    pub run: RunId,
    /// New, resumed or lost.
    pub verdict: Verdict,
    /// Which start of the run.
    pub attempt: u32,
    /// What is asked of it.
    pub plan: Plan,
    /// What is wanted of it.
    pub state: DesiredState,
    /// Settled up to here.
    pub settled: u64,
    /// Taken up to here: what was let go below it is not lost.
    pub taken: u64,
    /// Its process cannot be seen from here: its client is to say what it sees of its memory.
    pub own_memory: bool,
    /// What it asked for and does not get: (what, why).
    pub refused: Vec<(String, String)>,
}

/// How a rank came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not seen before.
    New,
    /// The same session again.
    Resumed,
    /// It was acknowledged more than this daemon knows.
    Lost,
}

/// Why a session ends politely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FenceReason {
    /// A newer attempt is there.
    Superseded,
    /// Another live process holds the rank.
    Duplicate,
    /// Another protocol.
    Version,
    /// Too many sessions.
    OverLimit,
    /// The daemon ends.
    Shutdown,
    /// Not allowed or not valid.
    Refused,
}

/// A session ends politely.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// Why.
    pub reason: FenceReason,
    /// For people.
    pub text: String,
}

impl Fence {
    /// The daemon ends; the client comes back to the next one.
    pub(super) fn shutdown() -> Self {
        Self {
            reason: FenceReason::Shutdown,
            text: "the daemon is ending".to_owned(),
        }
    }
}

/// What a gate is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateAnswer {
    /// The event.
    pub seq: u64,
    /// Stop here, with decision id, reason and hook; None: go on.
    pub stop: Option<GateStop>,
    /// Written first.
    pub logs: Vec<LogLine>,
}

/// A stop where the gate was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateStop {
    /// The decision's id.
    pub id: String,
    /// Why.
    pub reason: String,
    /// The hook.
    pub by: String,
}

/// From a run to one rank.
#[derive(Clone, Debug)]
pub enum ToTrainer {
    /// It is in.
    Welcome(Box<Welcome>),
    /// Replaces the plan.
    Plan(Plan),
    /// Replaces the desired state.
    State(Box<DesiredState>),
    /// A schedule that the state names, whole.
    Schedule(Arc<EncodedSchedule>),
    /// Everything decided ahead from the facts of this number went out: (hook, why) of what is refused.
    FactsTaken(u64, Vec<(String, String)>),
    /// Done once.
    Command(Command),
    /// A gate's answer.
    Gate(GateAnswer),
    /// Settled, and taken, up to and with these numbers.
    Ack {
        /// It may be forgotten.
        settled: u64,
        /// It counts no longer as under way.
        taken: u64,
    },
    /// The session ends.
    Fence(Fence),
}

/// From when on a reader hears what happens, and when everything before is in the file; None: there is none.
pub type Followed = (Instant, Option<oneshot::Receiver<()>>);

/// Anything that can happen to a run.
#[derive(Debug)]
pub enum ToBus {
    /// A rank wants in.
    Attach(Box<Attach>),
    /// Numbered events; `first_seq` is the first one's number also where the batch is empty.
    Batch(Link, u64, Batch),
    /// The client's cumulative holes.
    Holes(Link, Vec<Hole>),
    /// The latest facts, with the client's number of them, and whether more follow before training begins.
    Facts(Link, u64, bool, Box<Facts>),
    /// What its model and datasets are.
    Description(Link, Box<Description>),
    /// What it did.
    Result(Link, TrainerResult),
    /// It lives.
    Heartbeat(Link, Heartbeat),
    /// It ends on purpose: reason, and whether an exception left the training.
    Bye(Link, String, bool),
    /// Its connection is gone; whether its process still lives, where that is known.
    Gone(Link, Option<bool>),
    /// An operator's order.
    Order(Box<Order>),
    /// Somebody follows the run; true: also the trainers' events. It is told from when on, and waits for the journal.
    Follow(mpsc::Sender<Happening>, bool, oneshot::Sender<Followed>),
    /// The daemon ends.
    Shutdown,
}

/// What an operator wants.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    /// The training ends; why.
    Stop(String),
    /// A learning rate is held.
    Lr {
        /// None: every group.
        group: Option<u32>,
        /// At what.
        hold: Hold,
    },
    /// An input size.
    Size(Size),
    /// YOLOX's mode, leaving out these pipeline steps; none: those of the run's hook.
    Mode(Vec<String>),
    /// Something done once.
    Command(Deed),
}

impl Asked {
    /// The word for people.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Stop(_) => "stop",
            Self::Lr { .. } => "lr",
            Self::Size(_) => "size",
            Self::Mode(_) => "mode",
            Self::Command(deed) => deed.word(),
        }
    }
}

/// An operator's order.
#[derive(Debug)]
pub struct Order {
    /// The operator's own id.
    pub id: String,
    /// Who, for the audit.
    pub by: String,
    /// The operator's user, where the kernel says it.
    pub uid: Option<u32>,
    /// What.
    pub asked: Asked,
    /// From where.
    pub effective: Effective,
    /// Commands only; empty: every rank.
    pub ranks: BTreeSet<Rank>,
    /// How long to wait for results.
    pub timeout: std::time::Duration,
    /// Updates go here; it closes when all ranks have answered.
    pub updates: mpsc::Sender<Result<OrderUpdate, String>>,
}
