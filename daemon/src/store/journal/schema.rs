//! The tables, and how an older file becomes a newer one. `docs/journal.md` explains them to who reads the file.

use rusqlite::{Connection, Transaction, TransactionBehavior};

/// "hkbs": says of a file that it is one of ours.
pub(super) const APPLICATION: i32 = 0x686b_6273;

/// What makes version n + 1 from version n. What is here never changes; a new version is a new entry.
const STEPS: &[&str] = &[FIRST, COUNTED_HOOKS];

/// The version that this daemon writes.
pub(super) const VERSION: usize = STEPS.len();

/// Times are microseconds: `…_unix_us` since 1970-01-01 UTC, `at_us` since the attempt began.
pub(super) const FIRST: &str = "
CREATE TABLE run (name TEXT NOT NULL, launch TEXT NOT NULL, node TEXT NOT NULL, uid INTEGER, hookbusd TEXT NOT NULL,
    created_unix_us INTEGER NOT NULL);
CREATE TABLE attempts (attempt INTEGER PRIMARY KEY, started_unix_us INTEGER NOT NULL, ended_unix_us INTEGER,
    phase TEXT NOT NULL, reason TEXT NOT NULL, world_size INTEGER NOT NULL, facts TEXT, counted INTEGER);
CREATE TABLE rank_rows (attempt INTEGER NOT NULL, rank INTEGER NOT NULL, session TEXT NOT NULL, node TEXT NOT NULL,
    local_rank INTEGER, pid INTEGER, start_ticks INTEGER, boot_id TEXT NOT NULL, ns_pids TEXT NOT NULL, command TEXT NOT NULL,
    client TEXT NOT NULL, attached_us INTEGER NOT NULL, ended_us INTEGER, ended TEXT, clock_us INTEGER,
    settled INTEGER NOT NULL, events INTEGER NOT NULL DEFAULT 0, gates INTEGER NOT NULL DEFAULT 0,
    epoch INTEGER NOT NULL DEFAULT 0, iter INTEGER NOT NULL DEFAULT 0, inner_iter INTEGER NOT NULL DEFAULT 0,
    point TEXT NOT NULL DEFAULT '', step_s REAL, peak_rss_bytes INTEGER, last TEXT NOT NULL DEFAULT '{}',
    gate_timeouts INTEGER NOT NULL DEFAULT 0, gate_wait_s REAL NOT NULL DEFAULT 0, PRIMARY KEY (attempt, rank)) WITHOUT ROWID;
CREATE TABLE names (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE event_rows (attempt INTEGER NOT NULL, rank INTEGER NOT NULL, seq INTEGER NOT NULL, point INTEGER NOT NULL,
    epoch INTEGER NOT NULL, iter INTEGER NOT NULL, inner_iter INTEGER NOT NULL, at_us INTEGER NOT NULL, rss_bytes INTEGER,
    PRIMARY KEY (attempt, rank, seq)) WITHOUT ROWID;
CREATE TABLE metric_rows (attempt INTEGER NOT NULL, rank INTEGER NOT NULL, seq INTEGER NOT NULL, name INTEGER NOT NULL,
    value REAL, unknown TEXT, PRIMARY KEY (attempt, rank, seq, name)) WITHOUT ROWID;
CREATE TABLE hole_rows (attempt INTEGER NOT NULL, rank INTEGER NOT NULL, first_seq INTEGER NOT NULL,
    last_seq INTEGER NOT NULL, point TEXT NOT NULL, count INTEGER NOT NULL, why TEXT NOT NULL);
CREATE INDEX hole_rows_by_rank ON hole_rows (attempt, rank);
CREATE TABLE log_rows (n INTEGER PRIMARY KEY, attempt INTEGER NOT NULL, at_us INTEGER NOT NULL, rank INTEGER,
    epoch INTEGER NOT NULL, iter INTEGER NOT NULL, inner_iter INTEGER NOT NULL, point TEXT NOT NULL, kind TEXT NOT NULL,
    id TEXT NOT NULL, what TEXT NOT NULL, who TEXT NOT NULL, text TEXT NOT NULL, outcome TEXT, old TEXT, new TEXT);
CREATE INDEX log_rows_results ON log_rows (attempt, n) WHERE kind = 'result';
CREATE INDEX log_rows_incidents ON log_rows (attempt, n) WHERE kind = 'incident';
CREATE TABLE causes (attempt INTEGER NOT NULL, id TEXT NOT NULL, what TEXT NOT NULL, who TEXT NOT NULL,
    reason TEXT NOT NULL, ahead INTEGER NOT NULL, PRIMARY KEY (attempt, id));
CREATE TABLE command_rows (attempt INTEGER NOT NULL, rank INTEGER NOT NULL, id TEXT NOT NULL, who TEXT NOT NULL,
    command TEXT NOT NULL, outcome TEXT, PRIMARY KEY (attempt, rank, id));
CREATE INDEX command_rows_open ON command_rows (attempt, rank) WHERE outcome IS NULL;
CREATE TABLE desired (attempt INTEGER PRIMARY KEY, generation INTEGER NOT NULL, state TEXT NOT NULL, memo TEXT NOT NULL);
CREATE TABLE hooks (attempt INTEGER NOT NULL, name TEXT NOT NULL, place INTEGER NOT NULL, type TEXT NOT NULL,
    origin TEXT NOT NULL, policy TEXT NOT NULL, priority INTEGER NOT NULL, args TEXT NOT NULL, request TEXT NOT NULL,
    calls INTEGER NOT NULL, decisions INTEGER NOT NULL, disabled TEXT, state TEXT NOT NULL,
    PRIMARY KEY (attempt, name)) WITHOUT ROWID;
CREATE TABLE sample_rows (attempt INTEGER NOT NULL, at_us INTEGER NOT NULL, rank INTEGER, device TEXT,
    name INTEGER NOT NULL, value REAL, unknown TEXT, source TEXT NOT NULL, epoch INTEGER NOT NULL, iter INTEGER NOT NULL);

CREATE VIEW ranks AS SELECT r.attempt, rank, node, local_rank, pid, command, client,
    (started_unix_us + attached_us) / 1e6 AS attached_unix_s, (started_unix_us + ended_us) / 1e6 AS ended_unix_s, ended,
    settled, events, gates, epoch, iter, inner_iter, point, step_s, peak_rss_bytes, last, gate_timeouts, gate_wait_s
    FROM rank_rows r JOIN attempts a ON a.attempt = r.attempt;
CREATE VIEW events AS SELECT e.attempt, rank, seq, (started_unix_us + at_us) / 1e6 AS time_unix_s, name AS point,
    epoch, iter, inner_iter, rss_bytes
    FROM event_rows e JOIN attempts a ON a.attempt = e.attempt JOIN names n ON n.id = e.point;
CREATE VIEW metrics AS SELECT e.attempt, e.rank, e.seq, (started_unix_us + at_us) / 1e6 AS time_unix_s, p.name AS point,
    epoch, iter, inner_iter, n.name AS metric, value, unknown
    FROM event_rows e JOIN metric_rows m ON m.attempt = e.attempt AND m.rank = e.rank AND m.seq = e.seq
    JOIN attempts a ON a.attempt = e.attempt JOIN names n ON n.id = m.name JOIN names p ON p.id = e.point;
CREATE VIEW holes AS SELECT attempt, rank, first_seq, last_seq, point, count, why FROM hole_rows;
CREATE VIEW log AS SELECT n, l.attempt, (started_unix_us + at_us) / 1e6 AS time_unix_s, rank, epoch, iter, inner_iter, point,
    kind, what, who, text, id, outcome, old, new FROM log_rows l JOIN attempts a ON a.attempt = l.attempt;
CREATE VIEW decisions AS SELECT attempt, time_unix_s, rank, epoch, iter, inner_iter, point, what, who, text, id
    FROM log WHERE kind = 'decision';
CREATE VIEW states AS SELECT attempt, time_unix_s, what, who, text, id FROM log WHERE kind = 'state';
CREATE VIEW commands AS SELECT c.attempt, c.rank, l.time_unix_s, l.what, c.who, c.id, c.outcome, c.command
    FROM command_rows c LEFT JOIN log l ON l.attempt = c.attempt AND l.rank = c.rank AND l.id = c.id AND l.kind = 'command';
CREATE VIEW results AS SELECT attempt, time_unix_s, rank, epoch, iter, inner_iter, point, what, who, outcome, old, new,
    text AS reason, id FROM log WHERE kind = 'result';
CREATE VIEW incidents AS SELECT attempt, time_unix_s, rank, epoch, iter, what AS kind, outcome AS change, text, id
    FROM log WHERE kind = 'incident';
CREATE VIEW samples AS SELECT s.attempt, (started_unix_us + at_us) / 1e6 AS time_unix_s, rank, device, n.name, value,
    unknown, source, epoch, iter FROM sample_rows s JOIN attempts a ON a.attempt = s.attempt JOIN names n ON n.id = s.name;
";

/// How the calls of hooks went, and hooks of providers.
const COUNTED_HOOKS: &str = "
ALTER TABLE hooks ADD COLUMN time_s REAL NOT NULL DEFAULT 0;
ALTER TABLE hooks ADD COLUMN errors INTEGER NOT NULL DEFAULT 0;
ALTER TABLE hooks ADD COLUMN timeouts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE hooks ADD COLUMN missed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE hooks ADD COLUMN overruled INTEGER NOT NULL DEFAULT 0;
ALTER TABLE hooks ADD COLUMN withheld INTEGER NOT NULL DEFAULT 0;
ALTER TABLE hooks ADD COLUMN last_withheld TEXT;
ALTER TABLE hooks ADD COLUMN module TEXT;
ALTER TABLE hooks ADD COLUMN provider TEXT;
";

/// The first version whose hooks are counted.
pub(super) const HAS_COUNTED_HOOKS: u32 = 2;

/// What can be read by name: the documented tables, in the order of their use.
pub(super) const TABLES: [&str; 14] = [
    "run",
    "attempts",
    "ranks",
    "events",
    "metrics",
    "samples",
    "holes",
    "hooks",
    "decisions",
    "states",
    "commands",
    "results",
    "incidents",
    "log",
];

/// Brings a file of ours, or a new one, to this daemon's version.
pub(super) fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    migrate_by(connection, STEPS)
}

fn migrate_by(connection: &mut Connection, steps: &[&str]) -> rusqlite::Result<()> {
    let version: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let version = version as usize;
    if version >= steps.len() {
        return Ok(());
    }
    let transaction = Transaction::new(connection, TransactionBehavior::Immediate)?;
    for step in &steps[version..] {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", steps.len() as u32)?;
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_file_becomes_a_newer_one_and_keeps_its_rows() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate_by(
            &mut connection,
            &["CREATE TABLE a (x); INSERT INTO a VALUES (7)"],
        )
        .unwrap();
        let steps = [
            "never run again",
            "ALTER TABLE a ADD COLUMN y; UPDATE a SET y = x + 1",
        ];
        migrate_by(&mut connection, &steps).unwrap();
        let row = connection.query_row("SELECT x, y FROM a", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
        });
        assert_eq!(row.unwrap(), (7, 8));
        let wrong = ["", "", "CREATE TABLE b (x); no SQL"];
        assert!(migrate_by(&mut connection, &wrong).is_err());
        let there: bool = connection
            .query_row(
                "SELECT count(*) FROM sqlite_schema WHERE name = 'b'",
                [],
                |row| row.get(0),
            )
            .unwrap();
        assert!(!there, "a step that fails leaves nothing");
    }

    #[test]
    fn every_documented_table_is_there() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection).unwrap();
        for table in TABLES {
            let sql = format!("SELECT * FROM {table}");
            connection
                .prepare(&sql)
                .unwrap_or_else(|error| panic!("{table}: {error}"));
        }
    }
}
