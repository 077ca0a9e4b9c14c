//! The files of a state directory: which runs there are, what is in them, and which of them go.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::cache::{Cache, Stamp};
use super::saved::{self, Brief, Saved};
use super::tables::{self, Table};
use super::{Settings, file, past};
use crate::domain::{Clock, RunId};
use crate::snapshot::{Happening, RunSnapshot};

/// How a run that was written down is shown, and when its file was written last.
pub type Show = dyn Fn(Saved, Instant) -> RunSnapshot + Send + Sync;

/// The files of a directory, for who looks and for who starts.
#[derive(Clone)]
pub struct Archive {
    settings: Arc<Settings>,
    clock: Clock,
    show: Arc<Show>,
    shown: Arc<Cache>,
    /// Files that cannot be read, as far as the log has named them.
    unreadable: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl Archive {
    /// Of this directory.
    pub fn new(settings: Settings, clock: Clock, show: Arc<Show>) -> Self {
        Self {
            settings: Arc::new(settings),
            clock,
            show,
            shown: Arc::default(),
            unreadable: Arc::default(),
        }
    }

    /// Where they are.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Every run of the directory but `known` ones. Files that cannot be read are left out, and named in the log, once.
    pub fn runs(&self, now: Instant, known: &BTreeSet<RunId>) -> Vec<Arc<RunSnapshot>> {
        let stems: BTreeSet<_> = known.iter().map(file::stem).collect();
        let mut runs = self.shown(now, |stem| !stems.contains(stem));
        runs.retain(|run| !known.contains(&run.id));
        runs
    }

    /// The runs that are called so, by name or id. Files of other runs are not read.
    pub fn called(&self, now: Instant, asked: &str) -> Vec<Arc<RunSnapshot>> {
        let mut runs = self.shown(now, |stem| file::may_be_called(stem, asked));
        runs.retain(|run| run.id.is_called(asked));
        runs
    }

    /// What files with such names say. Those that have not changed since they were read are not read again.
    fn shown(&self, now: Instant, wanted: impl Fn(&str) -> bool) -> Vec<Arc<RunSnapshot>> {
        let files = self.files();
        self.shown.retain(&files);
        let mut found = Vec::new();
        for path in files {
            if !file::stem_of(&path).is_none_or(&wanted) {
                continue;
            }
            match self.show(&path, now) {
                Ok(run) => found.extend(run),
                Err(error) => self.unread(&path, &error),
            }
        }
        found
    }

    fn show(&self, path: &Path, now: Instant) -> rusqlite::Result<Option<Arc<RunSnapshot>>> {
        let Ok(stamp) = Stamp::of(path) else {
            return Ok(None); // it has been removed since
        };
        if let Some(run) = self.shown.get(path, stamp) {
            return Ok(run);
        }
        let saved = saved::read(&file::open_to_read(path)?, self.clock)?;
        let written = self.clock.instant(stamp.unix_us());
        let run = saved.map(|saved| Arc::new((self.show)(saved, written)));
        let unix_us = self.clock.unix_us(now);
        self.shown.put(path, stamp, unix_us, run.clone());
        Ok(run)
    }

    fn unread(&self, path: &Path, error: &rusqlite::Error) {
        let unreadable = self.unreadable.lock();
        let mut unreadable = unreadable.unwrap_or_else(PoisonError::into_inner);
        if unreadable.insert(path.to_owned()) {
            tracing::warn!(path = %path.display(), %error, "a journal cannot be read");
        }
    }

    /// Runs that were under way on this machine when their daemon died, or was ended, and that no daemon has now.
    pub fn unfinished(&self) -> Vec<RunId> {
        let of_here = |brief: &Brief| brief.is_running() && brief.node == self.settings.node;
        let mut found = Vec::new();
        for (path, brief) in self.briefs() {
            if of_here(&brief) && !file::is_held(&path) {
                found.push(brief.run);
            }
        }
        found
    }

    /// Where a run's file is. Several daemons may have one each: the one that began last.
    pub fn path(&self, run: &RunId) -> Option<PathBuf> {
        let of_run = file::paths(&self.settings.directory, run);
        let read = of_run.filter_map(|path| {
            let brief = brief(&path).ok()??;
            let started = brief.latest?.started_unix_us;
            (brief.run == *run).then_some((started, path))
        });
        read.max().map(|(_, path)| path)
    }

    /// What happened in a run's latest attempt from `since` until `until`, in order; `events`: the trainers' events too.
    /// `each` says whether to go on.
    pub fn happenings(
        &self,
        path: &Path,
        (since, until): (Instant, Instant),
        events: bool,
        each: impl FnMut(Happening) -> bool,
    ) -> Result<(), String> {
        past::tell(path, self.clock, (since, until), events, each)
            .map_err(|error| format!("{}: {error}", path.display()))
    }

    /// A run's tables, part by part; `table` "": every one. `since`: only rows with a time from then on. `each` says whether
    /// to go on. Errors: there is no such table, or the file cannot be read.
    pub fn rows(
        &self,
        path: &Path,
        table: &str,
        since: Option<Instant>,
        each: impl FnMut(Table) -> bool,
    ) -> Result<(), String> {
        tables::tell(path, self.clock, table, since, each)
    }

    /// Unlinks runs that are too old, and the oldest while all are too large. A run that is under way, or that a daemon
    /// holds, stays.
    pub fn retain(&self, now: Instant) {
        let mut over: Vec<_> = self
            .briefs()
            .into_iter()
            .filter(|(path, _)| !file::is_held(path))
            .filter_map(|(path, brief)| {
                let running = brief.is_running() && brief.node == self.settings.node;
                let latest = brief.latest?;
                // One that never ended, and that nobody takes back: since its last write.
                let last = || Some(Stamp::of(&path).ok()?.unix_us());
                let at = latest.ended_unix_us.or_else(last);
                let at = self.clock.instant(at.unwrap_or(latest.started_unix_us));
                Some((at, path, brief.run, running))
            })
            .collect();
        over.sort_by_key(|(at, ..)| *at);
        let mut total: u64 = self.files().iter().map(|path| file::bytes(path)).sum();
        for (at, path, run, running) in over {
            let old = now.saturating_duration_since(at) > self.settings.most_age;
            let large = total > self.settings.most_disk_bytes;
            if !old && (running || !large) {
                continue;
            }
            let bytes = file::bytes(&path);
            match file::remove(&path) {
                Ok(false) => {} // its run has come back since
                Ok(true) => {
                    total = total.saturating_sub(bytes);
                    tracing::info!(%run, path = %path.display(), bytes, "a run's journal is removed (journal.max_age_days, journal.max_bytes)");
                }
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "a journal cannot be removed");
                }
            }
        }
    }

    /// Every file that can be read, and whose it is.
    fn briefs(&self) -> Vec<(PathBuf, Brief)> {
        let mut found = Vec::new();
        for path in self.files() {
            match brief(&path) {
                Ok(Some(brief)) => found.push((path, brief)),
                Ok(None) => {}
                Err(error) => self.unread(&path, &error),
            }
        }
        found
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = match fs::read_dir(&self.settings.directory) {
            Ok(entries) => entries,
            Err(error) => {
                if error.kind() != std::io::ErrorKind::NotFound {
                    tracing::warn!(directory = %self.settings.directory.display(), %error, "journal.dir cannot be read");
                }
                return Vec::new();
            }
        };
        let mut files: Vec<_> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| {
                path.extension()
                    .is_some_and(|ending| ending == file::ENDING)
            })
            .collect();
        files.sort();
        files
    }
}

fn brief(path: &Path) -> rusqlite::Result<Option<Brief>> {
    saved::brief(&file::open_to_read(path)?)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::*;
    use crate::store::journal::file::Held;

    struct Bench {
        directory: tempfile::TempDir,
        archive: Archive,
        read: Arc<AtomicUsize>,
        now: Instant,
    }

    fn run(name: &str) -> RunId {
        RunId {
            name: name.into(),
            launch: "1".into(),
        }
    }

    impl Bench {
        /// With a run of each name, written an hour before `now`.
        fn new(names: &[&str]) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let clock = Clock {
                at: Instant::now(),
                unix: SystemTime::now().duration_since(UNIX_EPOCH).unwrap(),
            };
            let settings = Settings {
                directory: directory.path().to_owned(),
                node: "n".to_owned(),
                most_age: Duration::MAX,
                most_disk_bytes: u64::MAX,
                most_bytes: usize::MAX,
            };
            let read = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&read);
            let show = move |saved: Saved, _| {
                counted.fetch_add(1, Ordering::Relaxed);
                shown(saved)
            };
            let bench = Self {
                directory,
                archive: Archive::new(settings, clock, Arc::new(show)),
                read,
                now: clock.at + Duration::from_secs(3600),
            };
            for name in names {
                begin(&bench.open(name), 0);
            }
            bench
        }

        fn open(&self, name: &str) -> Held {
            file::open(self.directory.path(), &run(name), "n", 1).unwrap()
        }

        /// (name, attempt) of each, and how often a file was read until then.
        fn runs(&self, now: Instant) -> (Vec<(String, u32)>, usize) {
            let runs = self.archive.runs(now, &BTreeSet::new());
            let seen = runs
                .iter()
                .map(|run| (run.id.name.to_string(), run.attempt));
            (seen.collect(), self.read())
        }

        fn read(&self) -> usize {
            self.read.load(Ordering::Relaxed)
        }
    }

    fn begin(held: &Held, attempt: u32) {
        let sql = "INSERT INTO attempts VALUES (?1, 1, NULL, 'running', '', 1, NULL, NULL)";
        held.connection.execute(sql, [attempt]).unwrap();
    }

    fn shown(saved: Saved) -> RunSnapshot {
        RunSnapshot {
            id: saved.run,
            attempt: saved.attempt.attempt,
            world_size: saved.world_size,
            phase: saved.attempt.phase,
            reason: String::new(),
            started: saved.attempt.started,
            ended: None,
            archived: true,
            before: Vec::new(),
            facts: Default::default(),
            ranks: Default::default(),
            hooks: Vec::new(),
            refused: Vec::new(),
            wanted: Vec::new(),
            results: Default::default(),
            outcomes: Default::default(),
            incidents: Vec::new(),
            logs: Default::default(),
        }
    }

    fn seen(each: &[(&str, u32)]) -> Vec<(String, u32)> {
        let each = each.iter();
        each.map(|(name, attempt)| ((*name).to_owned(), *attempt))
            .collect()
    }

    #[test]
    fn only_a_file_that_has_changed_is_read_again() {
        let bench = Bench::new(&["a", "b"]);
        assert_eq!(bench.runs(bench.now), (seen(&[("a", 0), ("b", 0)]), 2));
        assert_eq!(bench.runs(bench.now), (seen(&[("a", 0), ("b", 0)]), 2));
        // Somebody writes it: what is new is in its write-ahead log only.
        let held = bench.open("b");
        begin(&held, 1);
        assert_eq!(bench.runs(bench.now), (seen(&[("a", 0), ("b", 1)]), 3));
        assert_eq!(bench.runs(bench.now), (seen(&[("a", 0), ("b", 1)]), 3));
        begin(&held, 2);
        assert_eq!(bench.runs(bench.now), (seen(&[("a", 0), ("b", 2)]), 4));
        drop(held);
        assert_eq!(bench.runs(bench.now), (seen(&[("a", 0), ("b", 2)]), 5));
    }

    #[test]
    fn a_file_whose_date_may_be_that_of_the_next_write_is_read_again() {
        let bench = Bench::new(&["a"]);
        let now = bench.archive.clock.at;
        assert_eq!(bench.runs(now), (seen(&[("a", 0)]), 1));
        assert_eq!(bench.runs(now), (seen(&[("a", 0)]), 2));
    }

    #[test]
    fn what_was_read_of_a_file_that_is_gone_is_forgotten() {
        let bench = Bench::new(&["a", "b"]);
        bench.runs(bench.now);
        assert_eq!(bench.archive.shown.len(), 2);
        assert!(file::remove(&bench.directory.path().join("a@1.db")).unwrap());
        assert_eq!(bench.runs(bench.now), (seen(&[("b", 0)]), 2));
        assert_eq!(bench.archive.shown.len(), 1);
    }

    #[test]
    fn no_file_is_read_whose_name_says_that_it_is_not_meant() {
        let bench = Bench::new(&["a", "aa", "b"]);
        for asked in ["a", "a@1"] {
            let called = bench.archive.called(bench.now, asked);
            assert_eq!(called.len(), 1);
            assert_eq!((&called[0].id, bench.read()), (&run("a"), 1));
        }
        assert!(bench.archive.called(bench.now, "c").is_empty());
        assert_eq!(bench.read(), 1);
        let known = [run("a"), run("b")].into();
        let others = bench.archive.runs(bench.now, &known);
        assert_eq!(others.len(), 1);
        assert_eq!((&others[0].id, bench.read()), (&run("aa"), 2));
    }
}
