//! One run's file as its writer sees it: changes wait in order, and go to the file group by group. What could not be
//! committed stays, and is tried again; what does not fit in memory meanwhile is lost, and counted. No thread and no clock.

use std::path::PathBuf;

use super::backlog::Backlog;
use super::change::Change;
use super::file::{self, Held};
use super::rows::Rows;
use super::{Settings, saved};
use crate::domain::{Clock, RunId};

/// The file of one run.
pub struct Writer {
    open: Option<Open>,
    waiting: Backlog,
    committed: u64,
    /// Why the last attempt to write failed.
    trouble: Option<String>,
    /// A file that was found damaged and set aside: a line for people.
    set_aside: Option<String>,
    make: Box<dyn FnMut() -> Result<Held, String> + Send>,
    clock: Clock,
}

struct Open {
    rows: Rows,
    path: PathBuf,
    _lock: std::fs::File,
}

impl Open {
    fn new(held: Held, clock: Clock) -> Self {
        let (path, connection, lock) = held.into_parts();
        Self {
            rows: Rows::new(connection, clock),
            path,
            _lock: lock,
        }
    }
}

/// A run's file, just opened.
pub struct Opened {
    /// Writes it.
    pub writer: Writer,
    /// What it says of the run; None: nothing yet.
    pub saved: Option<saved::Saved>,
    /// A file that was there and set aside: a line for people.
    pub set_aside: Option<String>,
}

impl Writer {
    /// Opens a run's file, or makes it. Where that fails the writer tries again with each group.
    pub fn open(settings: &Settings, clock: Clock, run: &RunId) -> Opened {
        let most_bytes = settings.most_bytes;
        let (settings, run) = (settings.clone(), run.clone());
        let make = move || {
            file::open(
                &settings.directory,
                &run,
                &settings.node,
                clock.unix_us(clock.at),
            )
            .map_err(|error| error.to_string())
        };
        Self::with(most_bytes, clock, Box::new(make))
    }

    fn with(
        most_bytes: usize,
        clock: Clock,
        make: Box<dyn FnMut() -> Result<Held, String> + Send>,
    ) -> Opened {
        let mut writer = Self {
            open: None,
            waiting: Backlog::new(most_bytes),
            committed: 0,
            trouble: None,
            set_aside: None,
            make,
            clock,
        };
        let (mut found, mut set_aside) = (None, None);
        if let Some((held, saved)) = writer.reopen() {
            set_aside = writer.set_aside.take().or(held.set_aside.clone());
            found = saved;
            writer.write_to(held);
        }
        Opened {
            writer,
            saved: found,
            set_aside,
        }
    }

    /// The file, with what it says of the run. One that is damaged is set aside, and another is made.
    fn reopen(&mut self) -> Option<(Held, Option<saved::Saved>)> {
        let mut opened = (self.make)();
        for _ in 0..2 {
            let held = match opened {
                Ok(held) => held,
                Err(why) => {
                    self.fail(&why);
                    return None;
                }
            };
            match saved::read(&held.connection, self.clock) {
                Ok(saved) => return Some((held, saved)),
                Err(error) if is_damage(&error) => {
                    let why = format!("cannot be read ({error})");
                    let (path, connection, lock) = held.into_parts();
                    drop(connection);
                    let aside = file::put_aside(&path, &why, self.clock.unix_us(self.clock.at));
                    drop(lock);
                    match aside {
                        Ok(line) => self.set_aside = Some(line),
                        Err(error) => {
                            self.fail(&format!("{} {why}, and stays: {error}", path.display()));
                            return None;
                        }
                    }
                    opened = (self.make)();
                }
                // It may be better the next time: nothing of it is given up.
                Err(error) => {
                    self.fail(&format!("{}: {error}", held.path.display()));
                    return None;
                }
            }
        }
        None
    }

    fn write_to(&mut self, held: Held) {
        self.open = Some(Open::new(held, self.clock));
    }

    /// Takes changes. They are committed with, or before, what comes later.
    pub fn push(&mut self, ticket: u64, changes: Vec<Change>) {
        self.waiting.push(ticket, changes);
        if self.trouble.is_some() {
            self.waiting.make_room();
        }
    }

    /// Rows that wait, about.
    pub fn rows(&self) -> usize {
        self.waiting.rows()
    }

    /// What they cost in memory, about.
    pub fn bytes(&self) -> usize {
        self.waiting.bytes()
    }

    /// Whether anything waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The number of the last message that is committed.
    pub fn committed(&self) -> u64 {
        self.committed
    }

    /// Why the last attempt to write failed; None: it did not.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Writes all that waits, or nothing of it.
    pub fn commit(&mut self) {
        let Some(ticket) = self.waiting.last() else {
            return;
        };
        if self.open.is_none()
            && let Some((held, saved)) = self.reopen()
        {
            if saved.is_some() {
                // The run began without it: its attempts and numbers would be mixed with those of the file.
                let path = held.path.display();
                self.fail(&format!(
                    "{path} could not be read when the run began, and can now: start hookbusd again, it goes on from there"
                ));
            } else {
                self.write_to(held);
            }
        }
        let Some(open) = &mut self.open else { return };
        match open.rows.commit(self.waiting.changes()) {
            Ok(()) => {
                let unkept = self.waiting.clear();
                self.committed = ticket;
                if self.trouble.take().is_some() || unkept.any() {
                    let (samples, lines) = (unkept.samples, unkept.lines);
                    tracing::info!(path = %open.path.display(), samples, lines, "the journal is written again; so many rows were not kept meanwhile");
                }
            }
            Err(error) => {
                let why = format!("{}: {error}", open.path.display());
                self.fail(&why);
                self.waiting.make_room();
            }
        }
    }

    fn fail(&mut self, why: &str) {
        if self.trouble.is_none() {
            tracing::error!(
                why,
                "the journal cannot be written; nothing is acknowledged until it can"
            );
        }
        self.trouble = Some(why.to_owned());
    }

    /// Commits what waits, and makes one file of it.
    pub fn close(mut self) {
        self.commit();
        if let Some(open) = self.open {
            let checkpoint = open
                .rows
                .connection()
                .execute_batch("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA optimize;");
            if let Err(error) = checkpoint {
                tracing::warn!(path = %open.path.display(), %error, "the journal's last checkpoint failed; nothing is lost");
            }
        }
    }

    /// For tests: the file takes no more than so many pages.
    #[cfg(test)]
    pub(crate) fn limit_pages(&mut self, pages: u32) {
        let open = self.open.as_ref().expect("it is open");
        let connection = open.rows.connection();
        connection
            .pragma_update(None, "max_page_count", pages)
            .expect("SQLite takes it");
    }
}

/// What is in the file is not what was written; anything else may pass.
fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::{Error, ErrorCode};
    match error {
        Error::SqliteFailure(error, _) => {
            matches!(
                error.code,
                ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase
            )
        }
        Error::InvalidColumnType(..)
        | Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::Utf8Error(..) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::super::change::ROW_BYTES;
    use super::*;
    use crate::domain::{Event, Names, Position, Rank};
    use crate::store::journal::change::Progress;
    use crate::store::journal::change::{Dropped, Events, Kind};

    fn run() -> RunId {
        RunId {
            name: "digits".into(),
            launch: "1".into(),
        }
    }

    struct Bench {
        directory: tempfile::TempDir,
        clock: Clock,
        names: Arc<Names>,
    }

    impl Bench {
        fn new() -> Self {
            Self {
                directory: tempfile::tempdir().unwrap(),
                clock: Clock {
                    at: Instant::now(),
                    unix: Duration::from_secs(1_800_000_000),
                },
                names: Arc::new(Names {
                    points: vec!["before_train_iter".into(), "after_train_iter".into()],
                    metrics: vec!["loss".into()],
                }),
            }
        }

        fn open(&self) -> Opened {
            let settings = Settings {
                directory: self.directory.path().to_owned(),
                node: "n".to_owned(),
                most_age: Duration::MAX,
                most_disk_bytes: u64::MAX,
                most_bytes: 100 * ROW_BYTES,
            };
            Writer::open(&settings, self.clock, &run())
        }

        fn change(&self, kind: Kind) -> Change {
            Change {
                attempt: 0,
                at: self.clock.at,
                kind,
            }
        }

        fn begin(&self, writer: &mut Writer) {
            let attempt = self.change(Kind::Attempt {
                started: self.clock.at,
                world_size: 1,
                counted: None,
                uid: None,
            });
            let hello = crate::domain::Hello {
                run: run(),
                attempt: None,
                rank: Rank(0),
                world_size: 1,
                local_rank: None,
                node: "n".into(),
                process: Default::default(),
                session: "s".into(),
                points: Vec::new(),
                capabilities: Vec::new(),
                next_seq: 1,
                applied: Vec::new(),
                state: None,
                hooks: Vec::new(),
                client: String::new(),
            };
            let rank = self.change(Kind::Rank(Box::new(crate::store::journal::Attached {
                hello,
                process: None,
                settled: 0,
            })));
            writer.push(1, vec![attempt, rank]);
        }

        fn events(&self, first_seq: u64, count: u64) -> Vec<Change> {
            let event = |seq| Event {
                seq,
                point: (seq % 2) as u32,
                position: Position {
                    iter: seq,
                    ..Position::default()
                },
                metrics: vec![0],
                values: vec![if seq == 3 { f64::NAN } else { 0.5 }],
                ..Event::default()
            };
            let events = Events {
                rank: Rank(0),
                names: Arc::clone(&self.names),
                events: (first_seq..first_seq + count).map(event).collect(),
                clock_us: Some(0),
                progress: Progress {
                    settled: first_seq + count - 1,
                    ..Progress::default()
                },
            };
            vec![self.change(Kind::Events(Box::new(events)))]
        }

        fn numbers(&self, sql: &str) -> Vec<i64> {
            let path = self.directory.path().join("digits@1.db");
            let connection = file::open_to_read(&path).unwrap();
            let mut rows = connection.prepare(sql).unwrap();
            let rows = rows.query_map([], |row| row.get(0)).unwrap();
            rows.collect::<rusqlite::Result<_>>().unwrap()
        }
    }

    #[test]
    fn what_is_committed_is_in_the_file_and_what_is_not_is_not() {
        let bench = Bench::new();
        let mut writer = bench.open().writer;
        bench.begin(&mut writer);
        writer.push(2, bench.events(1, 4));
        writer.commit();
        assert_eq!((writer.committed(), writer.trouble()), (2, None));
        writer.push(3, bench.events(5, 1));
        drop(writer); // as SIGKILL leaves it
        assert_eq!(bench.numbers("SELECT seq FROM events"), [1, 2, 3, 4]);
        assert_eq!(
            bench.numbers("SELECT seq FROM metrics WHERE value IS NULL AND unknown IS NULL"),
            [3]
        );
        let saved = bench.open().saved.expect("there is a run");
        assert_eq!(saved.ranks[0].progress.settled, 4);
    }

    #[test]
    fn a_command_that_a_rank_has_is_not_sent_again_and_keeps_the_answer_that_comes_late() {
        use crate::domain::{Command, Deed, Effective, Outcome};
        let bench = Bench::new();
        let mut writer = bench.open().writer;
        bench.begin(&mut writer);
        let id = || "c".to_owned();
        let command = Command {
            id: id(),
            by: "operator".to_owned(),
            at: Position::default(),
            effective: Effective::Next,
            deed: Deed::Checkpoint { tag: String::new() },
        };
        writer.push(
            2,
            vec![bench.change(Kind::Command(Rank(0), Box::new(command)))],
        );
        let mut ticket = 2;
        let mut then = |kind| {
            ticket += 1;
            writer.push(ticket, vec![bench.change(kind)]);
            writer.commit();
            let path = bench.directory.path().join("digits@1.db");
            let connection = file::open_to_read(&path).unwrap();
            let saved = saved::read(&connection, bench.clock).unwrap().unwrap();
            saved.commands[0].2
        };
        let open = Kind::Ended(Rank(0), None);
        assert_eq!(then(open), None);
        assert_ne!(then(Kind::Taken(Rank(0), id())), None);
        let answered = Kind::Answered(Rank(0), id(), Outcome::Applied);
        assert_eq!(then(answered), Some(Outcome::Applied));
        let again = then(Kind::Taken(Rank(0), id()));
        assert_eq!(again, Some(Outcome::Applied));
    }

    #[test]
    fn what_the_client_dropped_itself_is_not_also_the_loss_of_another_daemon() {
        let bench = Bench::new();
        let mut writer = bench.open().writer;
        bench.begin(&mut writer);
        let hole = |first_seq, last_seq| Dropped {
            why: crate::store::journal::BY_CLIENT,
            ..Dropped::elsewhere(first_seq, last_seq)
        };
        let lost = Kind::Lost(Rank(0), Dropped::elsewhere(1, 100), None);
        writer.push(2, vec![bench.change(lost)]);
        let holes = [vec![hole(11, 20)], vec![hole(11, 20), hole(91, 120)]];
        for holes in holes {
            writer.push(3, vec![bench.change(Kind::Holes(Rank(0), holes))]);
        }
        writer.commit();
        let firsts = bench.numbers("SELECT first_seq FROM holes ORDER BY first_seq");
        let lasts = bench.numbers("SELECT last_seq FROM holes ORDER BY first_seq");
        assert_eq!(
            (firsts, lasts),
            (vec![1, 11, 21, 91], vec![10, 20, 90, 120])
        );
        assert_eq!(bench.numbers("SELECT sum(count) FROM holes"), [120]);
    }

    #[test]
    fn what_cannot_be_read_is_set_aside_and_never_written_on() {
        let bench = Bench::new();
        let mut writer = bench.open().writer;
        bench.begin(&mut writer);
        writer.push(2, bench.events(1, 4));
        writer.close();
        let path = bench.directory.path().join("digits@1.db");
        let spoil = "UPDATE rank_rows SET epoch = 'x'";
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection.execute(spoil, []).unwrap();
        drop(connection);

        let opened = bench.open();
        assert!(opened.saved.is_none());
        let line = opened.set_aside.expect("it was set aside");
        assert!(line.contains("cannot be read"), "{line}");
        let mut writer = opened.writer;
        assert_eq!(writer.trouble(), None);
        bench.begin(&mut writer);
        writer.push(2, bench.events(1, 2));
        writer.commit();
        assert_eq!((writer.committed(), writer.trouble()), (2, None));
        assert_eq!(bench.numbers("SELECT seq FROM events"), [1, 2]);
    }

    #[test]
    fn a_file_that_could_not_be_read_at_the_start_is_not_written_over() {
        let bench = Bench::new();
        let mut writer = bench.open().writer;
        bench.begin(&mut writer);
        writer.push(2, bench.events(1, 4));
        writer.commit();
        drop(writer);
        let (file, lock) = ("digits@1.db", "digits@1.db.lock");
        let at = |name: &str| bench.directory.path().join(name);
        std::fs::remove_file(at(lock)).unwrap();
        std::fs::create_dir(at(lock)).unwrap();
        let opened = bench.open();
        assert!(opened.saved.is_none() && opened.writer.trouble().is_some());
        let mut writer = opened.writer;
        std::fs::remove_dir(at(lock)).unwrap();
        bench.begin(&mut writer);
        writer.push(2, bench.events(1, 9));
        writer.commit();
        assert_eq!(writer.committed(), 0);
        assert!(writer.trouble().is_some_and(|why| why.contains(file)));
        assert_eq!(bench.numbers("SELECT count(*) FROM events"), [4]);
        drop(writer);
        assert!(bench.open().saved.is_some());
    }

    #[test]
    fn a_full_disk_loses_only_what_does_not_fit_in_memory_and_counts_it() {
        let bench = Bench::new();
        let mut writer = bench.open().writer;
        bench.begin(&mut writer);
        writer.push(2, bench.events(1, 10));
        writer.commit();
        writer.limit_pages(1); // not below what it has
        let mut ticket = 2;
        let mut next = 11;
        while writer.trouble().is_none() {
            ticket += 1;
            writer.push(ticket, bench.events(next, 50));
            next += 50;
            writer.commit();
        }
        let committed = writer.committed();
        for _ in 0..20 {
            ticket += 1;
            writer.push(ticket, bench.events(next, 50));
            next += 50;
            writer.commit();
            assert_eq!(writer.committed(), committed, "nothing is acknowledged");
        }
        assert!(writer.rows() <= 200, "{} rows wait", writer.rows());
        writer.limit_pages(1 << 20);
        writer.commit();
        assert_eq!((writer.committed(), writer.trouble()), (ticket, None));
        let there = bench.numbers("SELECT count(*) FROM events")[0];
        let lost = bench.numbers("SELECT sum(count) FROM holes")[0];
        assert!(lost > 0);
        assert_eq!(there + lost, next as i64 - 1);
        let outside =
            "SELECT count(*) FROM events e JOIN (SELECT DISTINCT first_seq, last_seq FROM holes) h
            ON e.seq BETWEEN h.first_seq AND h.last_seq";
        assert_eq!(bench.numbers(outside), [0]);
        let spans = "SELECT sum(last_seq - first_seq + 1) FROM (SELECT DISTINCT first_seq, last_seq FROM holes)";
        assert_eq!(bench.numbers(spans), [lost]);
        assert_eq!(
            bench.numbers("SELECT count(*) FROM holes"),
            [2],
            "one hole, two points"
        );
        assert_eq!(
            bench.numbers("SELECT settled FROM ranks"),
            [next as i64 - 1]
        );
    }

    #[test]
    fn a_full_disk_holds_few_samples_and_lines_and_says_how_many_are_missing() {
        use crate::domain::{Command, Deed, Effective, Outcome};
        use crate::snapshot::What;
        use crate::store::journal::SampleKept;
        let bench = Bench::new();
        let mut writer = bench.open().writer;
        bench.begin(&mut writer);
        writer.commit();
        writer.limit_pages(1); // not below what it has
        let line = |kind| Kind::Log {
            rank: None,
            position: Position::default(),
            point: "".into(),
            what: kind,
        };
        let sample = SampleKept {
            rank: None,
            device: None,
            name: "host_used_bytes",
            value: Ok(1.0),
            source: "/proc/meminfo",
            position: Position::default(),
        };
        let minute = || {
            let mut changes = vec![bench.change(line(What::Lifecycle("came".to_owned())))];
            changes.extend((0..60).map(|_| bench.change(Kind::Sample(Box::new(sample.clone())))));
            changes
        };
        let mut ticket = 1;
        while writer.trouble().is_none() {
            ticket += 1;
            writer.push(ticket, minute());
            writer.commit();
        }
        for n in 0..50 {
            ticket += 1;
            writer.push(ticket, minute());
            if n == 7 {
                ticket += 1;
                let command = Command {
                    id: "c".to_owned(),
                    by: "operator".to_owned(),
                    at: Position::default(),
                    effective: Effective::Next,
                    deed: Deed::Checkpoint { tag: String::new() },
                };
                let answered = Kind::Answered(Rank(0), "c".to_owned(), Outcome::Applied);
                let kinds = [Kind::Command(Rank(0), Box::new(command)), answered];
                writer.push(ticket, kinds.map(|kind| bench.change(kind)).into());
            }
        }
        assert!(writer.rows() <= 101, "{} rows wait", writer.rows());
        writer.limit_pages(1 << 20);
        writer.commit();
        assert_eq!((writer.committed(), writer.trouble()), (ticket, None));
        assert_eq!(
            bench.numbers("SELECT outcome = 'applied' FROM command_rows"),
            [1]
        );
        let minutes = ticket as i64 - 2;
        let samples = bench.numbers("SELECT count(*) FROM sample_rows")[0];
        let lines = bench.numbers("SELECT count(*) FROM log_rows WHERE text = 'came'")[0];
        assert!(lines < minutes);
        let text = format!(
            "SELECT count(*) FROM log_rows WHERE text LIKE '%: {} samples of memory and {} lines%'",
            60 * minutes - samples,
            minutes - lines
        );
        assert_eq!(bench.numbers(&text), [1], "it is told once, and truly");
        writer.push(ticket + 1, minute());
        writer.commit();
        assert_eq!(bench.numbers(&text), [1]);
    }

    #[test]
    fn a_full_disk_holds_a_hook_once_and_its_newest_state_comes_with_its_events() {
        use crate::store::journal::HookKept;
        const LARGE: usize = 1 << 20;
        let bench = Bench::new();
        let mut writer = bench.open().writer;
        bench.begin(&mut writer);
        writer.commit();
        writer.limit_pages(1); // not below what it has
        let mut ticket = 1;
        for _ in 0..100 {
            ticket += 1;
            let hook = HookKept::large("Own", ticket, LARGE);
            let mut changes = bench.events(ticket - 1, 1);
            changes.push(bench.change(Kind::Hook(Box::new(hook))));
            writer.push(ticket, changes);
            writer.commit();
            assert!(writer.trouble().is_some());
            assert!(writer.bytes() < LARGE + 200 * ROW_BYTES);
        }
        writer.limit_pages(1 << 20);
        writer.commit();
        assert_eq!((writer.committed(), writer.trouble()), (ticket, None));
        assert_eq!(writer.bytes(), 0);
        assert_eq!(
            bench.numbers("SELECT settled FROM ranks"),
            [ticket as i64 - 1]
        );
        drop(writer);
        let saved = bench.open().saved.expect("there is a run");
        let [hook] = saved.hooks.as_slice() else {
            panic!("one hook: {:?}", saved.hooks.len());
        };
        assert_eq!(hook.seen.calls, ticket);
        let text = format!("\"{}\"", "x".repeat(LARGE / 2));
        assert_eq!(hook.state.as_str(), text);
        let provider = hook.provider.as_ref().expect("it is a provider's");
        assert_eq!(provider.whole(), format!("[{text}]"));
    }
}
