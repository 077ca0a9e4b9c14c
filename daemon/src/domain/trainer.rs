//! Who a trainer is and what it knows about itself.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{DesiredState, HookRequest, OwnMemory, Position, Rank, RunId};

/// The process of a rank, as it says itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// The NSpid line, outermost first.
    pub ns_pids: Vec<u32>,
    /// Field 22 of /proc/self/stat.
    pub start_ticks: u64,
    /// Of its kernel.
    pub boot_id: String,
    /// Its command line, cut.
    pub command: String,
}

/// A trainer's first words.
#[derive(Clone, Debug)]
pub struct Hello {
    /// Which run.
    pub run: RunId,
    /// The launcher's count, if it counts.
    pub attempt: Option<u32>,
    /// Which process of the run.
    pub rank: Rank,
    /// How many there are, at least 1.
    pub world_size: u32,
    /// Its number on its node.
    pub local_rank: Option<u32>,
    /// Its node's name.
    pub node: String,
    /// Its process.
    pub process: ProcessIdentity,
    /// The nonce of this attach, the same at each reconnect.
    pub session: String,
    /// What it can emit.
    pub points: Vec<String>,
    /// What it can apply.
    pub capabilities: Vec<String>,
    /// The lowest number that it still holds or will generate.
    pub next_seq: u64,
    /// Decisions and commands that it has applied.
    pub applied: Vec<String>,
    /// The last desired state that it had from a daemon of this attempt.
    pub state: Option<DesiredState>,
    /// Hooks that it asks for.
    pub hooks: Vec<HookRequest>,
    /// Client and version, for people.
    pub client: String,
}

/// One parameter group of the optimizer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ParamGroup {
    /// initial_lr, else lr.
    pub base_lr: f64,
    /// Its name, if it has one.
    pub name: String,
}

/// What a trainer knows after bind and after every resume; the latest wins.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// How many epochs it will run.
    pub max_epochs: Option<u64>,
    /// How many iterations.
    pub max_iters: Option<u64>,
    /// Iterations of one epoch.
    pub iters_per_epoch: Option<u64>,
    /// Of the optimizer; several optimizers in their order.
    pub groups: Vec<ParamGroup>,
    /// Where training starts.
    pub position: Position,
    /// The trainer steps a learning-rate scheduler of its own: its name.
    pub own_scheduler: Option<String>,
    /// The trainer's seed.
    pub seed: Option<u64>,
    /// torch.distributed is up.
    pub process_group: bool,
    /// How many ranks there are, from Hello: the bus fills it in. 0 is read as 1.
    pub world_size: u32,
    /// Input sizes must be a multiple of this; 0: any.
    pub size_multiple: u32,
}

impl Facts {
    /// How many iterations the training has, said or computed.
    pub fn total_iters(&self) -> Option<u64> {
        self.max_iters
            .or_else(|| self.max_epochs?.checked_mul(self.iters_per_epoch?))
    }
}

/// A sign of life, and the client's own counters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heartbeat {
    /// Points reached, wanted or not.
    pub points: u64,
    /// Where the training is.
    pub position: Position,
    /// The last point reached.
    pub open_point: String,
    /// Since it was reached.
    pub since_point: Duration,
    /// Cumulative.
    pub dropped_events: u64,
    /// Cumulative.
    pub gate_timeouts: u64,
    /// Gates answer by their `otherwise`.
    pub breaker_open: bool,
    /// Cumulative time in gates.
    pub gate_wait: Duration,
    /// The ranks of its job act together: what rank 0 is told reaches every one.
    pub together: bool,
    /// Where it was asked for: the trainer's memory as its client sees it.
    pub memory: Option<OwnMemory>,
}

/// Numbers that were generated and dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The first.
    pub first_seq: u64,
    /// The last, inclusive.
    pub last_seq: u64,
    /// Events per point id.
    pub points: BTreeMap<u32, u64>,
}
