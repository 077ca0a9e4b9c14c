//! What a file says of its run: enough to go on with it, and to show it when it is over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, Row};

use super::{HookKept, Listing, logged, numbers, schema};
use crate::domain::{
    Clock, Command, DesiredState, Facts, HookRequest, Incident, Outcome, Position, ProcessIdentity,
    Rank, RunId, StateText,
};
use crate::snapshot::{AttemptSeen, HookCounts, HookSnapshot, Phase, ResultSeen, What};

/// The newest results, incidents and commands that are read back.
const NEWEST: usize = 1024;
/// Ids whose cause is read back.
const CAUSES: usize = 4096;

/// A run as its file has it: its latest attempt whole, the ones before in a line each.
#[derive(Debug)]
pub struct Saved {
    /// Which.
    pub run: RunId,
    /// On which node it was written.
    pub node: String,
    /// Whose it is.
    pub uid: Option<u32>,
    /// The latest attempt.
    pub attempt: AttemptSeen,
    /// How many ranks it has.
    pub world_size: u32,
    /// The launcher's count that opened it.
    pub counted: Option<u32>,
    /// What is decided from.
    pub facts: Option<Facts>,
    /// Older ones, the oldest first.
    pub before: Vec<AttemptSeen>,
    /// Their sessions.
    pub superseded: BTreeSet<String>,
    /// Of the latest attempt.
    pub ranks: Vec<SavedRank>,
    /// In the order in which they are called, with their request and their own state.
    pub hooks: Vec<HookKept>,
    /// The desired state, and what else must be known to go on from it.
    pub desired: Option<(DesiredState, serde_json::Value)>,
    /// What ids are about: the oldest first.
    pub causes: Vec<SavedCause>,
    /// The newest last.
    pub results: Vec<ResultSeen>,
    /// Each as it stands, in the order in which they opened.
    pub incidents: Vec<(Incident, Instant)>,
    /// Commands with what became of them; None: not answered. The newest last.
    pub commands: Vec<(Rank, Command, Option<Outcome>)>,
}

/// One rank.
#[derive(Debug)]
pub struct SavedRank {
    /// Which.
    pub rank: Rank,
    /// Its session's nonce.
    pub session: String,
    /// Its node.
    pub node: String,
    /// Its number there.
    pub local_rank: Option<u32>,
    /// As the daemon saw it.
    pub process: Option<(u32, u64)>,
    /// As it said.
    pub identity: ProcessIdentity,
    /// Its client.
    pub client: String,
    /// How it ended.
    pub ended: Option<String>,
    /// From its clock to the attempt's.
    pub clock_us: Option<i64>,
    /// How far it is.
    pub progress: super::change::Progress,
    /// What the client dropped, by point.
    pub dropped: BTreeMap<Arc<str>, u64>,
    /// What the daemon could not keep, by point.
    pub lost: BTreeMap<Arc<str>, u64>,
}

/// What an id is about.
#[derive(Debug)]
pub struct SavedCause {
    /// The id.
    pub id: String,
    /// Who.
    pub by: String,
    /// What.
    pub what: String,
    /// Why.
    pub reason: String,
    /// For the whole training.
    pub ahead: bool,
}

/// What can be read of any file in no time.
pub(super) struct Brief {
    pub(super) run: RunId,
    pub(super) node: String,
    /// None: no rank ever came.
    pub(super) latest: Option<Latest>,
}

/// A run's latest attempt.
pub(super) struct Latest {
    pub(super) attempt: u32,
    /// It has not ended.
    pub(super) running: bool,
    pub(super) started_unix_us: i64,
    pub(super) ended_unix_us: Option<i64>,
}

impl Brief {
    /// Its latest attempt has not ended.
    pub(super) fn is_running(&self) -> bool {
        self.latest.as_ref().is_some_and(|latest| latest.running)
    }
}

/// None: no run was ever written into it.
pub(super) fn brief(connection: &Connection) -> rusqlite::Result<Option<Brief>> {
    let sql = "SELECT name, launch, node, a.attempt, a.phase, a.started_unix_us, a.ended_unix_us
        FROM run LEFT JOIN (SELECT * FROM attempts ORDER BY attempt DESC LIMIT 1) a";
    let brief = connection.query_row(sql, [], |row| {
        let attempt: Option<u32> = row.get(3)?;
        let latest = |attempt| -> rusqlite::Result<_> {
            Ok(Latest {
                attempt,
                running: row.get::<_, String>(4)? == Phase::Running.word(),
                started_unix_us: row.get(5)?,
                ended_unix_us: row.get(6)?,
            })
        };
        Ok(Brief {
            run: RunId {
                name: row.get::<_, String>(0)?.into(),
                launch: row.get::<_, String>(1)?.into(),
            },
            node: row.get(2)?,
            latest: attempt.map(latest).transpose()?,
        })
    });
    brief.optional()
}

/// Reads it. None: no rank ever came.
pub(super) fn read(connection: &Connection, clock: Clock) -> rusqlite::Result<Option<Saved>> {
    let sql = "SELECT name, launch, node, uid FROM run";
    let of = connection.query_row(sql, [], |row| {
        let run = RunId {
            name: row.get::<_, String>(0)?.into(),
            launch: row.get::<_, String>(1)?.into(),
        };
        Ok((run, row.get(2)?, row.get(3)?))
    });
    let Some((run, node, uid)) = of.optional()? else {
        return Ok(None);
    };
    let mut attempts = attempts(connection, clock)?;
    let Some((attempt, world_size, facts, counted)) = attempts.pop() else {
        return Ok(None);
    };
    let number = attempt.attempt;
    let started = clock.unix_us(attempt.started);
    Ok(Some(Saved {
        run,
        node,
        uid,
        world_size,
        counted,
        facts,
        before: attempts.into_iter().map(|(seen, ..)| seen).collect(),
        superseded: superseded(connection, number)?,
        ranks: ranks(connection, number)?,
        hooks: hooks(connection, number)?,
        desired: desired(connection, number)?,
        causes: causes(connection, number)?,
        results: results(connection, number, started, clock)?,
        incidents: incidents(connection, number, started, clock)?,
        commands: commands(connection, number)?,
        attempt,
    }))
}

type AttemptRow = (AttemptSeen, u32, Option<Facts>, Option<u32>);

fn attempts(connection: &Connection, clock: Clock) -> rusqlite::Result<Vec<AttemptRow>> {
    let sql = "SELECT a.attempt, phase, reason, started_unix_us, ended_unix_us, world_size, facts,
        coalesce(max(r.epoch), 0), coalesce(max(r.iter), 0), counted
        FROM attempts a LEFT JOIN rank_rows r ON r.attempt = a.attempt GROUP BY a.attempt ORDER BY a.attempt";
    let mut rows = connection.prepare(sql)?;
    let each = rows.query_map([], |row| {
        let facts: Option<String> = row.get(6)?;
        let seen = AttemptSeen {
            attempt: row.get(0)?,
            phase: Phase::of(&row.get::<_, String>(1)?).unwrap_or(Phase::Lost),
            reason: row.get(2)?,
            started: clock.instant(row.get(3)?),
            ended: row.get::<_, Option<i64>>(4)?.map(|us| clock.instant(us)),
            position: Position {
                epoch: count(row, 7)?,
                iter: count(row, 8)?,
                inner_iter: 0,
            },
        };
        Ok((
            seen,
            row.get(5)?,
            facts.and_then(|facts| parsed(&facts)),
            row.get(9)?,
        ))
    })?;
    each.collect()
}

fn superseded(connection: &Connection, latest: u32) -> rusqlite::Result<BTreeSet<String>> {
    let mut rows = connection.prepare("SELECT session FROM rank_rows WHERE attempt < ?1")?;
    let each = rows.query_map([latest], |row| row.get(0))?;
    each.collect()
}

fn ranks(connection: &Connection, attempt: u32) -> rusqlite::Result<Vec<SavedRank>> {
    let sql = "SELECT rank, session, node, local_rank, pid, start_ticks, boot_id, ns_pids, command, client, ended, clock_us,
        settled, events, gates, epoch, iter, inner_iter, point, step_s, peak_rss_bytes, last, gate_timeouts, gate_wait_s
        FROM rank_rows WHERE attempt = ?1 ORDER BY rank";
    let mut rows = connection.prepare(sql)?;
    let each = rows.query_map([attempt], |row| {
        let pid: Option<u32> = row.get(4)?;
        let ticks: Option<i64> = row.get(5)?;
        let process = pid.zip(ticks.map(|ticks| ticks as u64));
        let step: Option<f64> = row.get(19)?;
        Ok(SavedRank {
            rank: Rank(row.get(0)?),
            session: row.get(1)?,
            node: row.get(2)?,
            local_rank: row.get(3)?,
            identity: ProcessIdentity {
                ns_pids: parsed(&row.get::<_, String>(7)?).unwrap_or_default(),
                start_ticks: ticks.unwrap_or_default() as u64,
                boot_id: row.get(6)?,
                command: row.get(8)?,
            },
            process,
            client: row.get(9)?,
            ended: row.get(10)?,
            clock_us: row.get(11)?,
            progress: super::change::Progress {
                settled: count(row, 12)?,
                events: count(row, 13)?,
                gates: count(row, 14)?,
                position: Position {
                    epoch: count(row, 15)?,
                    iter: count(row, 16)?,
                    inner_iter: count(row, 17)?,
                },
                point: row.get::<_, String>(18)?.into(),
                step: step.and_then(|step| Duration::try_from_secs_f64(step).ok()),
                peak_rss_bytes: row.get::<_, Option<i64>>(20)?.map(|bytes| bytes as u64),
                last: numbers::read(&row.get::<_, String>(21)?),
                gate_timeouts: count(row, 22)?,
                gate_wait: Duration::try_from_secs_f64(row.get(23)?).unwrap_or_default(),
            },
            dropped: BTreeMap::new(),
            lost: BTreeMap::new(),
        })
    })?;
    let mut ranks: Vec<SavedRank> = each.collect::<rusqlite::Result<_>>()?;
    let sql = "SELECT point, sum(count), why = ?3 FROM hole_rows WHERE attempt = ?1 AND rank = ?2 GROUP BY point, why = ?3";
    let mut rows = connection.prepare(sql)?;
    for rank in &mut ranks {
        let mut rows = rows.query((attempt, rank.rank.0, super::BY_CLIENT))?;
        while let Some(row) = rows.next()? {
            let of = if row.get(2)? {
                &mut rank.dropped
            } else {
                &mut rank.lost
            };
            of.insert(row.get::<_, String>(0)?.into(), count(row, 1)?);
        }
    }
    Ok(ranks)
}

fn hooks(connection: &Connection, attempt: u32) -> rusqlite::Result<Vec<HookKept>> {
    let version: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let counted = if version >= schema::HAS_COUNTED_HOOKS {
        "time_s, errors, timeouts, missed, overruled, withheld, last_withheld, module, provider"
    } else {
        "0.0, 0, 0, 0, 0, 0, NULL, NULL, NULL"
    };
    let sql = format!(
        "SELECT name, type, origin, policy, priority, args, request, calls, decisions, disabled, state, place, {counted}
        FROM hooks WHERE attempt = ?1 ORDER BY place"
    );
    let mut rows = connection.prepare(&sql)?;
    let each = rows.query_map([attempt], |row| {
        let args: BTreeMap<String, String> = parsed(&row.get::<_, String>(5)?).unwrap_or_default();
        let seconds = Duration::try_from_secs_f64(row.get(12)?).unwrap_or_default();
        let seen = HookSnapshot {
            name: row.get(0)?,
            type_name: row.get(1)?,
            origin: row.get(2)?,
            policy: row.get(3)?,
            priority: row.get(4)?,
            calls: count(row, 7)?,
            decisions: count(row, 8)?,
            disabled: row.get(9)?,
            args: args.into_iter().collect(),
            counts: HookCounts {
                time: seconds,
                errors: count(row, 13)?,
                timeouts: count(row, 14)?,
                missed: count(row, 15)?,
                overruled: count(row, 16)?,
                withheld: count(row, 17)?,
                last_withheld: row.get(18)?,
            },
            module: row.get(19)?,
            away: None,
        };
        let request = parsed(&row.get::<_, String>(6)?).unwrap_or_else(|| HookRequest {
            type_name: seen.type_name.clone(),
            name: seen.name.clone(),
            args: BTreeMap::new(),
        });
        let state: String = row.get(10)?;
        let provider: Option<String> = row.get(20)?;
        Ok(HookKept {
            place: count(row, 11)? as usize,
            seen,
            request,
            state: told(StateText::new(&state), &state).unwrap_or_default(),
            provider: provider.map(|text| Listing::new(text, Vec::new(), "")),
        })
    })?;
    each.collect()
}

fn desired(
    connection: &Connection,
    attempt: u32,
) -> rusqlite::Result<Option<(DesiredState, serde_json::Value)>> {
    let sql = "SELECT state, memo FROM desired WHERE attempt = ?1";
    let texts = connection.query_row(sql, [attempt], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
    });
    Ok(texts
        .optional()?
        .and_then(|(state, memo)| Some((parsed(&state)?, parsed(&memo)?))))
}

fn causes(connection: &Connection, attempt: u32) -> rusqlite::Result<Vec<SavedCause>> {
    let sql = "SELECT id, who, what, reason, ahead FROM (SELECT rowid AS n, * FROM causes WHERE attempt = ?1
        ORDER BY rowid DESC LIMIT ?2) ORDER BY n";
    let mut rows = connection.prepare(sql)?;
    let each = rows.query_map((attempt, CAUSES as i64), |row| {
        Ok(SavedCause {
            id: row.get(0)?,
            by: row.get(1)?,
            what: row.get(2)?,
            reason: row.get(3)?,
            ahead: row.get(4)?,
        })
    })?;
    each.collect()
}

fn results(
    connection: &Connection,
    attempt: u32,
    started_unix_us: i64,
    clock: Clock,
) -> rusqlite::Result<Vec<ResultSeen>> {
    let condition = "attempt = ?1 AND kind = 'result' ORDER BY n DESC LIMIT ?2";
    let mut found = Vec::new();
    let at = |at_us| clock.instant(started_unix_us + at_us);
    let newest = (attempt, NEWEST as i64);
    log(connection, condition, newest, at, |line| {
        if let What::Result(seen) = line.what {
            found.push(seen);
        }
    })?;
    found.reverse();
    Ok(found)
}

fn incidents(
    connection: &Connection,
    attempt: u32,
    started_unix_us: i64,
    clock: Clock,
) -> rusqlite::Result<Vec<(Incident, Instant)>> {
    let condition = "attempt = ?1 AND kind = 'incident' ORDER BY n LIMIT ?2";
    let mut found: Vec<(Incident, Instant)> = Vec::new();
    let at = |at_us| clock.instant(started_unix_us + at_us);
    log(connection, condition, (attempt, i64::MAX), at, |line| {
        if let What::Incident(incident) = line.what {
            let at = at(line.at_us);
            match found.iter_mut().find(|(old, _)| old.id == incident.id) {
                Some((old, _)) => old.open = incident.open,
                None => found.push((incident, at)),
            }
        }
    })?;
    Ok(found)
}

fn commands(
    connection: &Connection,
    attempt: u32,
) -> rusqlite::Result<Vec<(Rank, Command, Option<Outcome>)>> {
    let sql = "SELECT rank, command, outcome FROM (
            SELECT rowid AS n, rank, command, outcome FROM command_rows WHERE attempt = ?1 AND outcome IS NULL
            UNION SELECT * FROM (SELECT rowid AS n, rank, command, outcome FROM command_rows WHERE attempt = ?1
                ORDER BY rowid DESC LIMIT ?2))
        ORDER BY n";
    let mut rows = connection.prepare(sql)?;
    let each = rows.query_map((attempt, NEWEST as i64), |row| {
        let command: Option<Command> = parsed(&row.get::<_, String>(1)?);
        let outcome: Option<String> = row.get(2)?;
        Ok((Rank(row.get(0)?), command, outcome))
    })?;
    let mut found = Vec::new();
    for one in each {
        let (rank, command, outcome) = one?;
        if let Some(command) = command {
            // Taken, or a word of a later version: it is not sent again all the same.
            let outcome = outcome.map(|word| Outcome::of(&word).unwrap_or(Outcome::Failed));
            found.push((rank, command, outcome));
        }
    }
    Ok(found)
}

/// One row of the log.
pub(super) struct Line {
    pub(super) at_us: i64,
    pub(super) rank: Option<Rank>,
    pub(super) position: Position,
    pub(super) point: Arc<str>,
    pub(super) what: What,
}

/// Rows of the log, in the order that the condition says. Returns the number of the last one; None: there is none.
pub(super) fn log(
    connection: &Connection,
    condition: &str,
    parameters: impl rusqlite::Params,
    at: impl Fn(i64) -> Instant,
    mut each: impl FnMut(Line),
) -> rusqlite::Result<Option<i64>> {
    let sql = format!(
        "SELECT at_us, rank, epoch, iter, inner_iter, point, kind, id, what, who, text, outcome, old, new, n
         FROM log_rows WHERE {condition}"
    );
    let mut rows = connection.prepare(&sql)?;
    let mut rows = rows.query(parameters)?;
    let mut last = None;
    while let Some(row) = rows.next()? {
        last = Some(row.get(14)?);
        let at_us: i64 = row.get(0)?;
        let position = Position {
            epoch: count(row, 2)?,
            iter: count(row, 3)?,
            inner_iter: count(row, 4)?,
        };
        let texts: Vec<Option<String>> = (5..14)
            .map(|at| row.get(at))
            .collect::<rusqlite::Result<_>>()?;
        let text = |at: usize| texts[at].as_deref().unwrap_or_default();
        let rank: Option<u32> = row.get(1)?;
        let columns = logged::Row {
            kind: text(1),
            id: text(2),
            what: text(3),
            who: text(4),
            text: text(5),
            outcome: texts[6].as_deref(),
            old: texts[7].as_deref(),
            new: texts[8].as_deref(),
        };
        let rank = rank.map(Rank);
        let point: Arc<str> = text(0).into();
        if let Some(what) = logged::what(&columns, rank, position, &point, at(at_us)) {
            each(Line {
                at_us,
                rank,
                position,
                point,
                what,
            });
        }
    }
    Ok(last)
}

pub(super) fn count(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(at)? as u64)
}

fn parsed<T: serde::de::DeserializeOwned>(text: &str) -> Option<T> {
    told(serde_json::from_str(text), text)
}

/// What cannot be read is told.
fn told<T>(read: serde_json::Result<T>, text: &str) -> Option<T> {
    match read {
        Ok(value) => Some(value),
        Err(error) => {
            tracing::warn!(%error, text, "something in a journal cannot be read and is left out");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_of_an_older_file_are_read_with_counts_of_nothing() {
        let mut file = Connection::open_in_memory().unwrap();
        file.execute_batch(schema::FIRST).unwrap();
        file.pragma_update(None, "user_version", 1).unwrap();
        let row = "INSERT INTO hooks VALUES (0, 'a', 3, 'A', 'config', 'act', 50, '{}', '?', 7, 2, NULL, '[1]')";
        file.execute_batch(row).unwrap();
        let read = |file: &Connection| {
            let hooks = hooks(file, 0).unwrap();
            let kept = &hooks[0];
            assert_eq!((hooks.len(), kept.place, kept.seen.calls), (1, 3, 7));
            assert_eq!(kept.seen.counts, HookCounts::default());
            assert_eq!((&kept.seen.module, kept.provider.is_none()), (&None, true));
            assert_eq!(kept.state.as_str(), "[1]");
        };
        read(&file);
        schema::migrate(&mut file).unwrap();
        read(&file);
    }
}
