//! What happened in a run's latest attempt, in order and page by page: no long run is in memory, and its file is open only
//! while a page is read, so that whoever reads slowly holds up nobody who writes it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};

use super::file;
use super::saved::{self, Brief};
use crate::domain::{Clock, Position, Rank};
use crate::snapshot::{Happening, What};

/// So many happenings are in memory, for all ranks together,
const PAGE: usize = 8192;
/// but no fewer of each.
const LEAST: usize = 64;

/// Where the happenings of one kind come from, each in the order in which it was written.
struct Source {
    /// None: the log. Else the events of a rank.
    rank: Option<Rank>,
    /// Rows behind this one
    after: i64,
    /// up to this one are still to be read: none that comes later.
    last: i64,
    read: VecDeque<Happening>,
}

/// Which rows are wanted.
struct Wanted<'a> {
    path: &'a Path,
    clock: Clock,
    attempt: u32,
    started_unix_us: i64,
    since_us: i64,
    until_us: i64,
    page: usize,
}

/// Hands on what happened from `since` until `until`; `events`: the trainers' events too. `each` says whether to go on.
pub(super) fn tell(
    path: &Path,
    clock: Clock,
    (since, until): (Instant, Instant),
    events: bool,
    mut each: impl FnMut(Happening) -> bool,
) -> rusqlite::Result<()> {
    let connection = file::open_to_read(path)?;
    let latest = saved::brief(&connection)?.and_then(|Brief { latest, .. }| latest);
    let Some(latest) = latest else {
        return Ok(());
    };
    let mut sources = sources(&connection, latest.attempt, events)?;
    drop(connection);
    let us = |at: Instant| clock.unix_us(at).saturating_sub(latest.started_unix_us);
    let wanted = Wanted {
        path,
        clock,
        attempt: latest.attempt,
        started_unix_us: latest.started_unix_us,
        since_us: us(since),
        until_us: us(until),
        page: (PAGE / sources.len()).max(LEAST),
    };
    // The earliest of the next ones; of several the log's, then those of the lower ranks.
    let mut next = BinaryHeap::new();
    for (index, source) in sources.iter_mut().enumerate() {
        next.extend(source.next_at(&wanted)?.map(|at| Reverse((at, index))));
    }
    while let Some(Reverse((_, index))) = next.pop() {
        let source = &mut sources[index];
        if let Some(one) = source.read.pop_front()
            && !each(one)
        {
            break;
        }
        next.extend(source.next_at(&wanted)?.map(|at| Reverse((at, index))));
    }
    Ok(())
}

fn sources(connection: &Connection, attempt: u32, events: bool) -> rusqlite::Result<Vec<Source>> {
    let source = |rank, last: Option<i64>| Source {
        rank,
        after: -1,
        last: last.unwrap_or(-1),
        read: VecDeque::new(),
    };
    let sql = "SELECT max(n) FROM log_rows";
    let last = connection.query_row(sql, [], |row| row.get(0))?;
    let mut found = vec![source(None, last)];
    if events {
        let sql = "SELECT rank, (SELECT max(seq) FROM event_rows e WHERE e.attempt = r.attempt AND e.rank = r.rank)
            FROM rank_rows r WHERE attempt = ?1 ORDER BY rank";
        let mut rows = connection.prepare(sql)?;
        let ranks = rows.query_map([attempt], |row| {
            Ok(source(Some(Rank(row.get(0)?)), row.get(1)?))
        })?;
        for rank in ranks {
            found.push(rank?);
        }
    }
    Ok(found)
}

impl Source {
    /// When its next happening was; None: there is no more.
    fn next_at(&mut self, wanted: &Wanted<'_>) -> rusqlite::Result<Option<Duration>> {
        while self.read.is_empty() && self.after < self.last {
            let connection = file::open_to_read(wanted.path)?;
            let reached = match self.rank {
                None => self.lines(&connection, wanted)?,
                Some(rank) => self.events(&connection, wanted, rank)?,
            };
            self.after = reached.unwrap_or(self.last);
        }
        Ok(self.read.front().map(|happening| happening.at))
    }

    /// A page of the log. Returns its last row.
    fn lines(&mut self, from: &Connection, wanted: &Wanted<'_>) -> rusqlite::Result<Option<i64>> {
        let condition = "attempt = ?1 AND n > ?2 AND n <= ?3 AND at_us >= ?4 AND at_us <= ?5 ORDER BY n LIMIT ?6";
        let at = |at_us| wanted.clock.instant(wanted.started_unix_us + at_us);
        let page = params![
            wanted.attempt,
            self.after,
            self.last,
            wanted.since_us,
            wanted.until_us,
            wanted.page as i64
        ];
        saved::log(from, condition, page, at, |line| {
            self.read.push_back(Happening {
                at: since_start(line.at_us),
                rank: line.rank,
                position: line.position,
                point: line.point,
                what: line.what,
                missed: 0,
            });
        })
    }

    /// A page of a rank's events with their values. Returns its last row.
    fn events(
        &mut self,
        from: &Connection,
        wanted: &Wanted<'_>,
        rank: Rank,
    ) -> rusqlite::Result<Option<i64>> {
        let sql = "SELECT e.seq, e.at_us, p.name, e.epoch, e.iter, e.inner_iter, n.name, m.value
            FROM (SELECT * FROM event_rows WHERE attempt = ?1 AND rank = ?2 AND seq > ?3 AND seq <= ?4
                AND at_us >= ?5 AND at_us <= ?6 ORDER BY seq LIMIT ?7) e
            JOIN names p ON p.id = e.point
            LEFT JOIN metric_rows m ON m.attempt = e.attempt AND m.rank = e.rank AND m.seq = e.seq AND m.unknown IS NULL
            LEFT JOIN names n ON n.id = m.name
            ORDER BY e.seq, m.name";
        let mut rows = from.prepare(sql)?;
        let mut rows = rows.query(params![
            wanted.attempt,
            rank.0,
            self.after,
            self.last,
            wanted.since_us,
            wanted.until_us,
            wanted.page as i64
        ])?;
        let mut reached = None;
        while let Some(row) = rows.next()? {
            let seq: i64 = row.get(0)?;
            if reached != Some(seq) {
                reached = Some(seq);
                self.read.push_back(Happening {
                    at: since_start(row.get(1)?),
                    rank: Some(rank),
                    position: Position {
                        epoch: saved::count(row, 3)?,
                        iter: saved::count(row, 4)?,
                        inner_iter: saved::count(row, 5)?,
                    },
                    point: row.get::<_, String>(2)?.into(),
                    what: What::Event(Vec::new()),
                    missed: 0,
                });
            }
            let name: Option<String> = row.get(6)?;
            if let Some(name) = name
                && let Some(Happening {
                    what: What::Event(values),
                    ..
                }) = self.read.back_mut()
            {
                // SQLite knows no NaN: a value that is there and NULL is one.
                let value: Option<f64> = row.get(7)?;
                values.push((name.into(), value.unwrap_or(f64::NAN)));
            }
        }
        Ok(reached)
    }
}

fn since_start(at_us: i64) -> Duration {
    Duration::from_micros(at_us.max(0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::RunId;
    use crate::store::journal::file::Held;

    const EVENTS: u64 = 7000;

    /// Two ranks by turns, with a line of the log beside every thousandth event.
    struct Bench {
        held: Held,
        _directory: tempfile::TempDir,
        clock: Clock,
    }

    impl Bench {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let run = RunId {
                name: "digits".into(),
                launch: "1".into(),
            };
            let held = file::open(directory.path(), &run, "n", 1).unwrap();
            let clock = Clock {
                at: Instant::now(),
                unix: Duration::from_secs(1_800_000_000),
            };
            let started = clock.unix_us(clock.at);
            let sql = format!(
                "BEGIN;
                INSERT INTO attempts VALUES (0, {started}, NULL, 'running', '', 2, NULL, NULL);
                INSERT INTO rank_rows (attempt, rank, session, node, boot_id, ns_pids, command, client, attached_us, settled)
                    VALUES (0, 0, 's', 'n', '', '[]', '', '', 0, 0), (0, 1, 't', 'n', '', '[]', '', '', 0, 0);
                INSERT INTO names VALUES (1, 'after_train_iter'), (2, 'loss'), (3, 'lr');
                WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {EVENTS})
                    INSERT INTO event_rows SELECT 0, rank, i + 1, 1, 0, i, i, 2 * i + rank, NULL FROM n, rank_rows;
                INSERT INTO metric_rows SELECT 0, rank, seq, 2, iter, NULL FROM event_rows WHERE iter % 2 = 0;
                INSERT INTO metric_rows SELECT 0, rank, seq, 3, 0.5, NULL FROM event_rows;
                INSERT INTO log_rows SELECT NULL, 0, at_us, rank, 0, iter, iter, '', 'lifecycle', '', '', '', 'here', NULL, NULL, NULL
                    FROM event_rows WHERE iter % 1000 = 0 ORDER BY at_us;
                COMMIT"
            );
            held.connection.execute_batch(&sql).unwrap();
            Self {
                held,
                _directory: directory,
                clock,
            }
        }

        fn tell(&self, events: bool, each: impl FnMut(Happening) -> bool) {
            let (since, until) = (self.clock.at, self.clock.at + Duration::from_secs(60));
            tell(&self.held.path, self.clock, (since, until), events, each).unwrap();
        }
    }

    /// (microsecond, rank, whether it is an event)
    fn short(one: &Happening) -> (u128, u32, bool) {
        let is_event = matches!(one.what, What::Event(_));
        (one.at.as_micros(), one.rank.unwrap().0, is_event)
    }

    #[test]
    fn all_of_several_pages_comes_once_and_in_order() {
        let bench = Bench::new();
        let mut told = Vec::new();
        bench.tell(true, |one| {
            if let What::Event(values) = &one.what {
                let iter = one.position.iter;
                let loss = (iter % 2 == 0).then(|| ("loss".into(), iter as f64));
                let expected: Vec<_> = loss.into_iter().chain([("lr".into(), 0.5)]).collect();
                assert_eq!(*values, expected);
            }
            told.push(short(&one));
            true
        });
        let expected = (0..2 * u128::from(EVENTS)).flat_map(|at| {
            let rank = (at % 2) as u32;
            let line = (at / 2 % 1000 == 0).then_some((at, rank, false));
            line.into_iter().chain([(at, rank, true)])
        });
        assert!(told.len() > PAGE);
        assert!(told.into_iter().eq(expected));
        let mut lines = 0;
        bench.tell(false, |one| {
            assert!(!short(&one).2);
            lines += 1;
            true
        });
        assert_eq!(lines, 2 * EVENTS / 1000);
    }

    #[test]
    fn who_reads_slowly_holds_up_no_writer_and_hears_nothing_that_came_later() {
        let bench = Bench::new();
        let mut told = 0;
        bench.tell(true, |_| {
            told += 1;
            if told % 1000 == 0 {
                let later = EVENTS as i64 + told;
                let sql = "INSERT INTO event_rows VALUES (0, 0, ?1, 1, 0, 0, 0, 0, NULL)";
                bench.held.connection.execute(sql, [later]).unwrap();
                let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
                let busy: bool = bench
                    .held
                    .connection
                    .query_row(sql, [], |row| row.get(0))
                    .unwrap();
                assert!(!busy, "the write-ahead log cannot be emptied");
            }
            true
        });
        assert_eq!(told as u64, 2 * EVENTS + 2 * EVENTS / 1000);
    }

    #[test]
    fn who_has_left_is_told_nothing_more() {
        let mut told = 0;
        Bench::new().tell(true, |_| {
            told += 1;
            told < 10
        });
        assert_eq!(told, 10);
    }
}
