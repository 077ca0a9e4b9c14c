//! The client of hookbusd: attach a trainer, and ask the daemon what it sees.
//!
//! ```text
//! training thread:  emit --encode--> hot buffer (a lock, no system call)      take_actions <-- inbox
//! client's thread:  driver: swap -> retained -> stream                        stream -> inbox, answers, status
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | `session` | what a trainer holds: emit, wait for a gate, take actions |
//! | `goodbye` | the end of sessions, all within a second |
//! | `driver`, `runtime` | the client's own thread: connect, flush, send, receive, reconnect for ever |
//! | `hot`, `encode`, `filling` | what the training thread touches: wishes and the buffer of encoded events |
//! | `retained` | batches that are not settled, bounded; what is dropped becomes counted holes |
//! | `together`, `ranks` | several ranks, one decision: what concerns the job comes from rank 0 |
//! | `inbox`, `steered`, `rates`, `breaker`, [`plan`], `position` | pure rules: what is applied where, when a gate may wait, what is due, where we are |
//! | `description` | what model and datasets are: sent only where it changed, never beyond the daemon's limits |
//! | `schedules` | chunks of a schedule, put together and checked |
//! | [`identity`], `options`, `fork` | who this process is |
//! | `shared`, `codec` | what both threads share; frames as bytes |
//! | [`address`], [`connect`], [`inspect`] | finding a daemon, and looking at it |
//! | [`provider`] | hooks in another process: calls come in, answers go out |
//! | [`access`], `tls`, `explained` | what is shown to a daemon over TCP, and how the connection begins |
//!
//! What a training is promised: `emit` never raises, never waits but in a gate, and makes no system call but to wake a
//! parked or overfull flusher. A gate waits at most its deadline. A forked child is silent.

pub mod access;
pub mod address;
mod breaker;
mod codec;
pub mod connect;
mod description;
mod driver;
mod encode;
mod explained;
mod filling;
mod fork;
mod goodbye;
mod hot;
pub mod identity;
mod inbox;
pub mod inspect;
mod options;
mod own_memory;
pub mod plan;
mod position;
pub mod provider;
mod ranks;
mod rates;
mod retained;
mod runtime;
mod schedules;
mod session;
mod shared;
mod steered;
mod tls;
mod together;

pub use goodbye::{Goodbye, close_all};
pub use hookbus_proto::v1 as wire;
pub use inbox::Action;
pub use options::{Options, OptionsError};
pub use position::{Given, POINTS, Position};
pub use ranks::Meeting;
pub use rates::Written;
pub use session::{Session, Signal, Ticket, attach};
pub use shared::Status;

/// A point's place in this session's name table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PointId(pub(crate) u8);

impl PointId {
    /// The top of an iteration: learning rates are written here.
    pub const BEFORE_TRAIN_ITER: Self = Self(position::BEFORE_TRAIN_ITER);
    /// The end of an iteration.
    pub const AFTER_TRAIN_ITER: Self = Self(position::AFTER_TRAIN_ITER);
}

/// A metric's place in this session's name table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MetricId(pub(crate) u16);
