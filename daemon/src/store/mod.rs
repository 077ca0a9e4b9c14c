//! What the daemon keeps: the newest samples and their series in memory. (The journal on disk joins here.)
//! It has no clock: `now` is an argument.

mod live;

pub use live::{Live, ProcessKey};

use crate::domain::HostSample;

/// The memory view that hooks read.
pub trait View {
    /// The newest host sample, or why there is none.
    fn host(&self) -> Result<HostSample, String>;
}
