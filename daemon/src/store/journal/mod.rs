//! The journal: one SQLite file per run, from which a daemon goes on after its death, and which people open.
//!
//! | file | what it is |
//! |---|---|
//! | `change` | what happens to a run, one after the other |
//! | `schema` | the tables, and how an older file becomes a newer one |
//! | `file` | a file's name, lock and state of health |
//! | `rows`, `logged`, `numbers` | a change as rows |
//! | `writer`, `backlog` | what waits, what is committed, what is lost where the disk takes no more |
//! | `thread`, `counted` | one thread for all runs, and what it costs |
//! | `saved` | what a file says of its run |
//! | `cache` | what was read, as long as nobody has written it since |
//! | `past` | what happened, in order and page by page |
//! | `tables` | its tables, part by part |
//! | `archive` | the files of a directory: which runs there are, which go |
//! | `memory` | memory as a file has it |

mod archive;
mod backlog;
mod cache;
mod change;
mod counted;
mod file;
mod logged;
pub mod memory;
mod numbers;
mod past;
mod rows;
mod saved;
mod schema;
mod tables;
mod thread;
mod writer;

use std::path::PathBuf;
use std::time::Duration;

pub use archive::{Archive, Show};
pub use change::{
    Attached, Change, Dropped, Events, HookKept, Kind, Listing, Progress, SampleKept, Unkept,
};
pub use counted::{Counted, Counts};
pub use rows::BY_CLIENT;
pub use saved::{Saved, SavedCause, SavedRank};
pub use tables::{Cell, Table};
#[cfg(test)]
pub(crate) use thread::Hand;
pub use thread::{Journal, Journals, Progress as Written, Thread};
pub use writer::{Opened, Writer};

/// Where the files are, and which stay.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// One file a run in it.
    pub directory: PathBuf,
    /// This machine's name.
    pub node: String,
    /// A run that ended longer ago than this goes.
    pub most_age: Duration,
    /// The oldest runs that have ended go until the rest is no larger than this.
    pub most_disk_bytes: u64,
    /// So much waits in memory, a run, while the disk takes nothing.
    pub most_bytes: usize,
}
