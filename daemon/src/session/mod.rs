//! One rank's session as pure state: who may come in, and in which order its events count.

mod admission;
mod intake;

pub use admission::{Admission, Current, Held, admit};
pub use intake::{Intake, Taken};

/// How long a rank may be silent before it counts as gone.
pub const SILENCE: std::time::Duration = std::time::Duration::from_secs(5);
