//! The files of a state directory: which runs there are, what is in them, and which of them go.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::types::ValueRef;

use super::saved::{self, Saved};
use super::{Settings, file, schema};
use crate::domain::{Clock, Position, RunId};
use crate::snapshot::{Happening, Phase, What};

/// Rows that are handed on at once.
const CHUNK: usize = 1024;

/// One value of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// NULL.
    Null,
    /// INTEGER.
    Integer(i64),
    /// REAL.
    Real(f64),
    /// TEXT.
    Text(String),
}

/// A part of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// (name, type), in the first part only.
    pub columns: Vec<(String, String)>,
    /// A cell for each column.
    pub rows: Vec<Vec<Cell>>,
}

/// The files of a directory, for who looks and for who starts.
#[derive(Clone, Debug)]
pub struct Archive {
    settings: Arc<Settings>,
    clock: Clock,
    /// Files that cannot be read, as far as the log has named them.
    unreadable: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl Archive {
    /// Of this directory.
    pub fn new(settings: Settings, clock: Clock) -> Self {
        Self {
            settings: Arc::new(settings),
            clock,
            unreadable: Arc::default(),
        }
    }

    /// Where they are.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Every run of the directory. Files that cannot be read are left out, and named in the log, once.
    pub fn runs(&self) -> Vec<(PathBuf, Saved)> {
        let mut found = Vec::new();
        for path in self.files() {
            match self.read(&path) {
                Ok(Some(saved)) => found.push((path, saved)),
                Ok(None) => {}
                Err(error) => self.unread(&path, &error),
            }
        }
        found
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
        let mut found = Vec::new();
        for path in self.files() {
            let brief = file::open_to_read(&path).and_then(|connection| saved::brief(&connection));
            match brief {
                Ok(Some(brief)) => {
                    let here = brief.node == self.settings.node;
                    if brief.running && here && !file::is_held(&path) {
                        found.push(brief.run);
                    }
                }
                Ok(None) => {}
                Err(error) => self.unread(&path, &error),
            }
        }
        found
    }

    /// Where a run's file is. Several daemons may have one each: the one that began last.
    pub fn path(&self, run: &RunId) -> Option<PathBuf> {
        let of_run = file::paths(&self.settings.directory, run);
        let read = of_run.filter_map(|path| {
            let saved = self.read(&path).ok()??;
            (saved.run == *run).then_some((saved.attempt.started, path))
        });
        read.max().map(|(_, path)| path)
    }

    /// What happened in a run's latest attempt from `since` until `until`, in order; `events`: the trainers' events too.
    pub fn happenings(
        &self,
        path: &Path,
        since: Instant,
        until: Instant,
        events: bool,
    ) -> Result<Vec<Happening>, String> {
        let words = |error: rusqlite::Error| format!("{}: {error}", path.display());
        let connection = file::open_to_read(path).map_err(words)?;
        let Some(saved) = saved::read(&connection, self.clock).map_err(words)? else {
            return Ok(Vec::new());
        };
        let started = self.clock.unix_us(saved.attempt.started);
        let us = |at: Instant| self.clock.unix_us(at).saturating_sub(started);
        let attempt = saved.attempt.attempt;
        let window = (attempt, us(since), us(until));
        let mut found = Vec::new();
        let condition = "attempt = ?1 AND at_us >= ?2 AND at_us <= ?3 ORDER BY n";
        let at = |at_us| self.clock.instant(started + at_us);
        saved::log(&connection, condition, window, at, |line| {
            found.push(Happening {
                at: Duration::from_micros(line.at_us.max(0) as u64),
                rank: line.rank,
                position: line.position,
                point: line.point,
                what: line.what,
                missed: 0,
            });
        })
        .map_err(words)?;
        if events {
            seen(&connection, window, &mut found).map_err(words)?;
            found.sort_by_key(|happening| happening.at);
        }
        Ok(found)
    }

    /// A run's tables, part by part; `table` "": every one. `since`: only rows with a time from then on. `each` says whether
    /// to go on. Errors: there is no such table, or the file cannot be read.
    pub fn rows(
        &self,
        path: &Path,
        table: &str,
        since: Option<Instant>,
        mut each: impl FnMut(Table) -> bool,
    ) -> Result<(), String> {
        let wanted: Vec<_> = schema::TABLES
            .into_iter()
            .filter(|name| table.is_empty() || *name == table)
            .collect();
        if wanted.is_empty() {
            return Err(format!(
                "there is no table {table:?}; there are: {}",
                schema::TABLES.join(", ")
            ));
        }
        let words = |error: rusqlite::Error| format!("{}: {error}", path.display());
        let connection = file::open_to_read(path).map_err(words)?;
        let since = since.map(|since| self.clock.unix_us(since) as f64 / 1e6);
        for name in wanted {
            if !part_by_part(&connection, name, since, &mut each).map_err(words)? {
                break;
            }
        }
        Ok(())
    }

    /// Unlinks runs that are too old, and the oldest while all are too large. A run that is under way, or that a daemon
    /// holds, stays.
    pub fn retain(&self, now: Instant) {
        let mut over: Vec<_> = self
            .runs()
            .into_iter()
            .filter(|(path, _)| !file::is_held(path))
            .map(|(path, saved)| {
                let ended = saved.attempt.ended;
                // One that never ended, and that nobody takes back: since its last write.
                let last = || {
                    let written = fs::metadata(&path).and_then(|file| file.modified()).ok()?;
                    let unix = written.duration_since(std::time::UNIX_EPOCH).ok()?;
                    Some(self.clock.instant(unix.as_micros() as i64))
                };
                let at = ended.or_else(last).unwrap_or(saved.attempt.started);
                let running =
                    saved.attempt.phase == Phase::Running && saved.node == self.settings.node;
                (at, path, saved.run, running)
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

    fn read(&self, path: &Path) -> rusqlite::Result<Option<Saved>> {
        saved::read(&file::open_to_read(path)?, self.clock)
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

/// Trainers' events with their values.
fn seen(
    connection: &rusqlite::Connection,
    window: (u32, i64, i64),
    found: &mut Vec<Happening>,
) -> rusqlite::Result<()> {
    let sql = "SELECT e.rank, e.seq, e.at_us, p.name, e.epoch, e.iter, e.inner_iter, n.name, m.value, m.name IS NOT NULL
        FROM event_rows e JOIN names p ON p.id = e.point
        LEFT JOIN metric_rows m ON m.attempt = e.attempt AND m.rank = e.rank AND m.seq = e.seq AND m.unknown IS NULL
        LEFT JOIN names n ON n.id = m.name
        WHERE e.attempt = ?1 AND e.at_us >= ?2 AND e.at_us <= ?3 ORDER BY e.rank, e.seq";
    let mut rows = connection.prepare(sql)?;
    let mut rows = rows.query(window)?;
    let mut last = None;
    while let Some(row) = rows.next()? {
        let (rank, seq): (u32, i64) = (row.get(0)?, row.get(1)?);
        if last != Some((rank, seq)) {
            last = Some((rank, seq));
            found.push(Happening {
                at: Duration::from_micros(row.get::<_, i64>(2)?.max(0) as u64),
                rank: Some(crate::domain::Rank(rank)),
                position: Position {
                    epoch: saved::count(row, 4)?,
                    iter: saved::count(row, 5)?,
                    inner_iter: saved::count(row, 6)?,
                },
                point: row.get::<_, String>(3)?.into(),
                what: What::Event(Vec::new()),
                missed: 0,
            });
        }
        if row.get(9)?
            && let Some(Happening {
                what: What::Event(values),
                ..
            }) = found.last_mut()
        {
            // SQLite knows no NaN: a value that is there and NULL is one.
            let value: Option<f64> = row.get(8)?;
            values.push((row.get::<_, String>(7)?.into(), value.unwrap_or(f64::NAN)));
        }
    }
    Ok(())
}

/// False: no more is wanted.
fn part_by_part(
    connection: &rusqlite::Connection,
    name: &'static str,
    since: Option<f64>,
    each: &mut impl FnMut(Table) -> bool,
) -> rusqlite::Result<bool> {
    let all = connection.prepare(&format!("SELECT * FROM {name}"))?;
    let columns: Vec<_> = all
        .columns()
        .map(|column| {
            // What a view computes is a time.
            let kind = column.decl_type().unwrap_or("REAL");
            (column.name().to_owned(), kind.to_owned())
        })
        .collect();
    let timed = columns.iter().any(|(column, _)| column == "time_unix_s");
    let mut some = connection.prepare(&match since.filter(|_| timed) {
        Some(_) => format!("SELECT * FROM {name} WHERE time_unix_s >= ?1"),
        None => format!("SELECT * FROM {name} WHERE ?1 IS NULL OR true"),
    })?;
    let width = columns.len();
    let mut rows = some.query([since.filter(|_| timed)])?;
    let mut part = Table {
        name,
        columns,
        rows: Vec::new(),
    };
    while let Some(row) = rows.next()? {
        let cells: rusqlite::Result<_> = (0..width)
            .map(|at| {
                Ok(match row.get_ref(at)? {
                    ValueRef::Null => Cell::Null,
                    ValueRef::Integer(number) => Cell::Integer(number),
                    ValueRef::Real(number) => Cell::Real(number),
                    ValueRef::Text(text) | ValueRef::Blob(text) => {
                        Cell::Text(String::from_utf8_lossy(text).into_owned())
                    }
                })
            })
            .collect();
        part.rows.push(cells?);
        if part.rows.len() >= CHUNK {
            let full = std::mem::replace(
                &mut part,
                Table {
                    name,
                    columns: Vec::new(),
                    rows: Vec::new(),
                },
            );
            if !each(full) {
                return Ok(false);
            }
        }
    }
    Ok((part.rows.is_empty() && part.columns.is_empty()) || each(part))
}
