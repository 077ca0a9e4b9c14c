//! What the daemon keeps: the newest samples and their series in memory, the journal on disk. It has no clock (but for the
//! journal's thread, which groups what it writes): `now` is an argument.

pub mod journal;
mod live;

pub use live::{Live, ProcessKey};

use crate::domain::HostSample;

/// The memory view that hooks read.
pub trait View {
    /// The newest host sample, or why there is none.
    fn host(&self) -> Result<HostSample, String>;
}
