//! What files say of their runs, as it was read last: a file that nobody has written since is not read again.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fs, io};

use super::file;
use crate::snapshot::RunSnapshot;

/// The dates of files are no finer than this, at worst: one that was written later may be written again with the same date.
const DATED_US: i64 = 2_000_000;

/// One file as the file system has it: its inode, its bytes, and when it was written.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Part {
    inode: u64,
    bytes: u64,
    written: (i64, i64),
}

impl Part {
    fn of(path: &Path) -> io::Result<Self> {
        let seen = fs::metadata(path)?;
        Ok(Self {
            inode: seen.ino(),
            bytes: seen.len(),
            written: (seen.mtime(), seen.mtime_nsec()),
        })
    }

    fn unix_us(&self) -> i64 {
        let (seconds, nanos) = self.written;
        seconds * 1_000_000 + nanos / 1000
    }
}

/// What changes whenever a run's file, or its write-ahead log, is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Stamp {
    file: Part,
    log: Option<Part>,
}

impl Stamp {
    /// As it is now. A file that is read after that is at least as new.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: Part::of(path)?,
            log: Part::of(&file::with(path, "-wal")).ok(),
        })
    }

    /// When it was written last, in microseconds since 1970-01-01 UTC.
    pub(super) fn unix_us(&self) -> i64 {
        let log = self.log.map(|log| log.unix_us());
        self.file.unix_us().max(log.unwrap_or(i64::MIN))
    }
}

/// What was read, by file. No file is read under its lock.
#[derive(Default)]
pub(super) struct Cache(Mutex<BTreeMap<PathBuf, Entry>>);

struct Entry {
    stamp: Stamp,
    /// None: no rank ever came.
    run: Option<Arc<RunSnapshot>>,
}

impl Cache {
    /// What was read when the file was as it is now.
    pub(super) fn get(&self, path: &Path, stamp: Stamp) -> Option<Option<Arc<RunSnapshot>>> {
        let entries = self.lock();
        let entry = entries.get(path).filter(|entry| entry.stamp == stamp);
        entry.map(|entry| entry.run.clone())
    }

    /// Keeps what was read after `stamp` was taken, at `unix_us`.
    pub(super) fn put(
        &self,
        path: &Path,
        stamp: Stamp,
        unix_us: i64,
        run: Option<Arc<RunSnapshot>>,
    ) {
        if stamp.unix_us().saturating_add(DATED_US) < unix_us {
            self.lock().insert(path.to_owned(), Entry { stamp, run });
        }
    }

    /// Forgets every file but these, which are sorted.
    pub(super) fn retain(&self, files: &[PathBuf]) {
        self.lock()
            .retain(|path, _| files.binary_search(path).is_ok());
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }
}
