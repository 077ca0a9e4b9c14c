//! Memory over time, in fixed memory: several resolutions of each number, with minimum, mean and maximum where a slot is made
//! of several readings. What is older is the journal's.
//!
//! | file | what it is |
//! |---|---|
//! | `name` | what there is a series of |
//! | `taken` | a sample as numbers with names |
//! | `ring` | the newest slots of one resolution |
//! | `group` | the series of one thing (the host, a GPU, a rank), all on one grid of time |
//! | `track` | a rank's, beside where its training was |
//! | `points` | what is read: points, and how they are merged |
//!
//! Slots that nobody could read say why; slots in which nobody looked are not there.

mod group;
mod name;
mod points;
mod ring;
mod taken;
mod track;

use std::time::Duration;

pub use group::{Found, Group, Lately, Want};
pub use name::{Kind, Name};
pub use points::{Place, Point, merge, width};
pub use taken::{Number, of_gpu, of_host, of_process, of_shm};
pub use track::{Mark, Of, Positions, Stretch, Track};

/// The host and main processes: ten a second for a minute.
const FINE: (Duration, usize) = (Duration::from_millis(100), 600);
/// Everything: one a second for ten minutes.
const MIDDLE: (Duration, usize) = (Duration::from_secs(1), 600);
/// Everything: one each ten seconds for two hours.
const COARSE: (Duration, usize) = (Duration::from_secs(10), 720);

/// So far back memory reaches.
pub const REACH: Duration = Duration::from_secs(7200);
/// The series of one rank take no more.
pub const RANK_BYTES: usize = 512 << 10;
