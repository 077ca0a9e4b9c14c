//! What the daemon keeps: the newest samples and their series in memory, the journal on disk. It has no clock (but for the
//! journal's thread, which groups what it writes): `now` is an argument.

pub mod journal;
mod live;
pub mod series;
mod tracked;

use std::time::{Duration, Instant};

pub use live::{Live, ProcessKey};
pub use tracked::{RunView, Tracked};

use crate::domain::{DeviceUse, HostSample, OwnMemory, ProcessSample, Rank, Reading};
use series::{Lately, Name};

/// Whose series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The machine's.
    Host,
    /// A rank's of the run that asks.
    Rank(Rank),
    /// A GPU's, by its index.
    Gpu(u32),
}

/// What a trainer's client says of its memory, because the daemon cannot see the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// As it came last.
    pub memory: OwnMemory,
    /// When it came.
    pub came: Instant,
    /// Why the daemon cannot see the process.
    pub unseen: String,
}

/// The memory view that hooks of one run read.
pub trait View {
    /// The newest host sample, or why there is none.
    fn host(&self) -> Result<HostSample, String>;

    /// The newest sample of a rank's process, or why there is none.
    fn process(&self, rank: Rank) -> Result<ProcessSample, String>;

    /// What a rank's client says of its memory, where the process cannot be seen; None: it has said nothing.
    fn said(&self, rank: Rank) -> Option<Said>;

    /// What a rank's process and all below it use of each GPU, or why it is not known.
    fn devices(&self, rank: Rank) -> Result<Vec<DeviceUse>, String>;

    /// The newest number of a series, or why there is none now.
    fn newest(&self, whose: Whose, name: Name) -> Result<f64, String>;

    /// The mean and the largest of what was read in the last so long; Err: why there is nothing.
    fn lately(
        &self,
        whose: Whose,
        name: Name,
        last: Duration,
        now: Instant,
    ) -> Result<Lately, String>;

    /// Whether the memory of a rank was looked at since this daemon follows it.
    fn has_sampled(&self, rank: Rank) -> bool {
        let _ = rank;
        true
    }

    /// The newest number of each series that concerns a rank: (name, the GPU's index, number). Where there is none, why; of
    /// GPUs that are not known, once and without an index.
    fn numbers(&self, rank: Rank, now: Instant) -> Vec<(&'static str, Option<u32>, Reading)> {
        let _ = (rank, now);
        Vec::new()
    }
}
