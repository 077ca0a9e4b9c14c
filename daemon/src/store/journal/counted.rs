//! What writing costs, counted for who looks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Of all runs since the daemon started.
#[derive(Debug, Default)]
pub struct Counted {
    commits: AtomicU64,
    failed: AtomicU64,
    rows: AtomicU64,
    spent_us: AtomicU64,
    longest_us: AtomicU64,
}

/// The same at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Groups that were committed.
    pub commits: u64,
    /// Attempts that failed: the disk took nothing.
    pub failed: u64,
    /// Rows in them, about.
    pub rows: u64,
    /// Time in commits, on the journal's own thread.
    pub spent: Duration,
    /// The longest one.
    pub longest: Duration,
}

impl Counted {
    pub(super) fn commit(&self, rows: usize, took: Duration, failed: bool) {
        let took = took.as_micros() as u64;
        self.spent_us.fetch_add(took, Ordering::Relaxed);
        self.longest_us.fetch_max(took, Ordering::Relaxed);
        if failed {
            self.failed.fetch_add(1, Ordering::Relaxed);
        } else {
            self.commits.fetch_add(1, Ordering::Relaxed);
            self.rows.fetch_add(rows as u64, Ordering::Relaxed);
        }
    }

    /// Now.
    pub fn now(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            commits: read(&self.commits),
            failed: read(&self.failed),
            rows: read(&self.rows),
            spent: Duration::from_micros(read(&self.spent_us)),
            longest: Duration::from_micros(read(&self.longest_us)),
        }
    }
}
