//! Hooks in another process: what is said between a run and a provider, and which providers there are. A provider that
//! goes away keeps its place: the plan stays, calls wait for it up to a bound, and it gets them when it is back.
//!
//! | file | what it is |
//! |---|---|
//! | `directory` | which providers there are: asked for, connected, gone |
//! | `supervisor` | starts and keeps one process for each module of the configuration |
//! | `child` | one such process: its lines, its end |
//! | `settings` | what the configuration says of them |
//! | `offer` | which of the hooks that a provider offers hold, as a pure decision |
//! | `pulse` | whether a connection answers |

mod child;
mod directory;
mod offer;
mod pulse;
mod settings;
mod supervisor;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use crate::domain::{
    DesiredState, Facts, HookRequest, Position, Rank, Reading, RunId, StateText, Subscription,
};
use crate::hooks::{Decision, Policy};

pub use directory::{Directory, End, Seat, Turned};
pub use offer::{Asked, Offer, Offering};
pub use pulse::Pulse;
pub use settings::{Module, Settings};
pub use supervisor::Supervisor;

/// Calls of one hook in one run that wait for their answers; beyond that an observing hook misses events, counted.
pub const OUTSTANDING: usize = 1024;

/// Messages that wait for a provider's connection.
pub const OUTBOX: usize = 4096;

/// A hook that a provider has.
#[derive(Clone, Debug, PartialEq)]
pub struct Offered {
    /// As asked for: type, name and arguments without priority and policy.
    pub request: HookRequest,
    /// Smaller first.
    pub priority: i32,
    /// What happens with its decisions.
    pub policy: Policy,
    /// What it wants to see; the subscriber is the hook's name.
    pub subscriptions: Vec<Subscription>,
    /// Its calls have memory.
    pub wants_memory: bool,
    /// Its calls have the desired state.
    pub wants_state: bool,
    /// For people.
    pub summary: String,
}

/// A provider and its hooks.
#[derive(Clone, Debug)]
pub struct Provider {
    /// The namespace of its types.
    pub module: String,
    /// Its hooks, as it said last; None: it has said nothing since this daemon started.
    pub hooks: Option<Arc<Vec<Offered>>>,
    /// What was asked of it and does not hold: ("hook NAME", why). Each run has it among what is refused.
    pub refused: Arc<Vec<(String, String)>>,
    /// Its connection; Err: why there is none now.
    pub link: Result<ProviderLink, String>,
    /// Nobody asked for it in the configuration.
    pub by_hand: bool,
    /// Whose process it is; None: not known, as over TCP.
    pub uid: Option<u32>,
}

/// One connection of a provider.
#[derive(Clone, Debug)]
pub struct ProviderLink {
    /// Which, unique in this daemon.
    pub serial: u64,
    /// Where it hears.
    pub out: mpsc::Sender<ToProvider>,
}

/// All providers, in the order in which they came first; a new list with each change.
pub type Known = watch::Receiver<Arc<Vec<Provider>>>;

/// There are no providers, and none will come.
pub fn none() -> Known {
    watch::channel(Arc::default()).1
}

/// From a run to a provider.
#[derive(Clone, Debug)]
pub enum ToProvider {
    /// An attempt has begun, or the provider is back: each hook is made anew and given its state.
    Open(Box<Opened>),
    /// New facts of a run (its number).
    Facts(u64, Box<Facts>),
    /// An event for one hook.
    Call(Box<Call>),
    /// The run (its number) is over, or at another attempt.
    Close(u64),
}

/// An attempt of a run, for a provider.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Unique in this daemon.
    pub run: u64,
    /// Its name and launch.
    pub id: RunId,
    /// Which start.
    pub attempt: u32,
    /// How many ranks.
    pub world_size: u32,
    /// None: not known yet.
    pub facts: Option<Facts>,
    /// (hook, state)
    pub states: Vec<(String, StateText)>,
    /// Where answers go.
    pub replies: mpsc::Sender<Reply>,
}

/// An event for one hook of a provider.
#[derive(Clone, Debug)]
pub struct Call {
    /// Counted up per run; the same when it is made again.
    pub id: u64,
    /// The run's number.
    pub run: u64,
    /// The hook's name.
    pub hook: Arc<str>,
    /// Whose event.
    pub rank: Rank,
    /// The point's name.
    pub point: Arc<str>,
    /// Where.
    pub at: Position,
    /// NaN and infinities are values.
    pub fields: Vec<(Arc<str>, f64)>,
    /// Wanted and not there: why.
    pub unknown: Vec<(Arc<str>, String)>,
    /// Where asked for.
    pub rss_bytes: Option<u64>,
    /// The training waits.
    pub gate: bool,
    /// An answer after it is not looked at.
    pub deadline: Duration,
    /// Where a gate's condition held; empty: on this rank.
    pub held_on: Vec<Rank>,
    /// Where asked for: (name of the series, GPU's index, the newest number).
    pub memory: Vec<(&'static str, Option<u32>, Reading)>,
    /// Where asked for.
    pub desired: Option<Arc<DesiredState>>,
}

/// From a provider to a run.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Which connection it came over.
    pub serial: u64,
    /// When it came.
    pub at: Instant,
    /// What it says.
    pub answer: Answer,
}

/// What a hook of a provider says to one call.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The call.
    pub id: u64,
    /// Its decisions; Err: it raised, with a line for people.
    pub decisions: Result<Vec<Decision>, Raised>,
    /// None: as before.
    pub state: Option<StateText>,
}

/// A hook raised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raised {
    /// One line for people.
    pub error: String,
    /// For the daemon's log.
    pub traceback: String,
}
