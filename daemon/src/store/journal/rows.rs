//! A change as rows. One transaction takes a group of changes whole, or none of them.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, Transaction, params};

use super::change::{Attached, Change, Dropped, Events, HookKept, Kind, Listing, SampleKept};
use crate::domain::{Clock, Names, Position, Rank};
use crate::snapshot::What;

/// Why a hole is one where the client says so.
pub const BY_CLIENT: &str = "the client's buffer was full";

/// Why a hole is one where this daemon never saw the session before.
pub(super) const ELSEWHERE: &str = "acknowledged by a daemon that did not write here";

/// Statements that are kept ready.
const STATEMENTS: usize = 64;

/// One run's open file, and what makes writing to it quick.
pub(super) struct Rows {
    connection: Connection,
    clock: Clock,
    names: HashMap<Arc<str>, i64>,
    /// By attempt and rank: the file's ids for the session's.
    ids: HashMap<(u32, Rank), Ids>,
    /// By attempt: when it began.
    started_unix_us: HashMap<u32, i64>,
}

#[derive(Default)]
struct Ids {
    points: Vec<i64>,
    metrics: Vec<i64>,
}

impl Rows {
    /// Of a file that is at this daemon's version.
    pub(super) fn new(connection: Connection, clock: Clock) -> Self {
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        Self {
            connection,
            clock,
            names: HashMap::new(),
            ids: HashMap::new(),
            started_unix_us: HashMap::new(),
        }
    }

    /// Writes changes down, all or none. Errors: nothing was written, and what this keeps in memory fits the file again.
    pub(super) fn commit<'a>(
        &mut self,
        changes: impl IntoIterator<Item = &'a Change>,
    ) -> rusqlite::Result<()> {
        let transaction = self.connection.unchecked_transaction()?;
        let mut writing = Writing {
            to: &transaction,
            clock: self.clock,
            names: &mut self.names,
            ids: &mut self.ids,
            started_unix_us: &mut self.started_unix_us,
        };
        let written = changes
            .into_iter()
            .try_for_each(|change| writing.change(change));
        let written = written.and_then(|()| transaction.commit());
        if written.is_err() {
            // Names that were given an id in it have none.
            self.names.clear();
            self.ids.clear();
            self.started_unix_us.clear();
        }
        written
    }

    /// For the checkpoint at the end.
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }
}

struct Writing<'a> {
    to: &'a Transaction<'a>,
    clock: Clock,
    names: &'a mut HashMap<Arc<str>, i64>,
    ids: &'a mut HashMap<(u32, Rank), Ids>,
    started_unix_us: &'a mut HashMap<u32, i64>,
}

impl Writing<'_> {
    fn change(&mut self, change: &Change) -> rusqlite::Result<()> {
        let attempt = change.attempt;
        let unix_us = self.clock.unix_us(change.at);
        let to = self.to;
        match &change.kind {
            Kind::Attempt {
                started,
                world_size,
                counted,
                uid,
            } => {
                let started = self.clock.unix_us(*started);
                let sql = "INSERT INTO attempts VALUES (?1, ?2, NULL, 'running', '', ?3, NULL, ?4)
                    ON CONFLICT (attempt) DO UPDATE SET world_size = excluded.world_size";
                to.prepare_cached(sql)?
                    .execute(params![attempt, started, world_size, counted])?;
                to.prepare_cached("UPDATE run SET uid = ?1")?
                    .execute(params![uid])?;
            }
            Kind::Phase(phase, reason) => {
                let ended = (*phase != crate::snapshot::Phase::Running).then_some(unix_us);
                let sql = "UPDATE attempts SET phase = ?2, reason = ?3, ended_unix_us = ?4 WHERE attempt = ?1";
                to.prepare_cached(sql)?
                    .execute(params![attempt, phase.word(), reason, ended])?;
            }
            Kind::Facts(facts) => {
                to.prepare_cached("UPDATE attempts SET facts = ?2 WHERE attempt = ?1")?
                    .execute(params![attempt, json(facts)])?;
            }
            Kind::Rank(attached) => self.rank(attempt, unix_us, attached)?,
            Kind::Ended(rank, reason) => {
                let at = reason.is_some().then_some(self.at_us(attempt, unix_us)?);
                let sql = "UPDATE rank_rows SET ended_us = ?3, ended = ?4 WHERE attempt = ?1 AND rank = ?2";
                to.prepare_cached(sql)?
                    .execute(params![attempt, rank.0, at, reason])?;
            }
            Kind::Events(events) => self.events(attempt, events)?,
            Kind::Holes(rank, holes) => {
                let sql = "DELETE FROM hole_rows WHERE attempt = ?1 AND rank = ?2 AND why = ?3";
                to.prepare_cached(sql)?
                    .execute(params![attempt, rank.0, BY_CLIENT])?;
                for hole in holes {
                    self.leave_to(attempt, *rank, hole)?;
                    self.hole(attempt, *rank, hole)?;
                }
            }
            Kind::Lost(rank, hole, progress) => {
                if let Some(progress) = progress {
                    self.events(attempt, progress)?;
                }
                self.hole(attempt, *rank, hole)?;
                let sql = "UPDATE rank_rows SET settled = max(settled, ?3) WHERE attempt = ?1 AND rank = ?2";
                to.prepare_cached(sql)?
                    .execute(params![attempt, rank.0, hole.last_seq as i64])?;
            }
            Kind::Cause {
                id,
                by,
                what,
                reason,
                ahead,
            } => {
                let sql = "INSERT OR REPLACE INTO causes VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
                to.prepare_cached(sql)?
                    .execute(params![attempt, id, what, by, reason, ahead])?;
            }
            Kind::Log {
                rank,
                position,
                point,
                what,
            } => {
                let at = self.at_us(attempt, unix_us)?;
                self.log(attempt, at, *rank, *position, point, what)?;
            }
            Kind::Command(rank, command) => {
                let sql = "INSERT OR IGNORE INTO command_rows VALUES (?1, ?2, ?3, ?4, ?5, NULL)";
                to.prepare_cached(sql)?.execute(params![
                    attempt,
                    rank.0,
                    command.id,
                    command.by,
                    json(command)
                ])?;
            }
            Kind::Taken(rank, id) => {
                let sql = "UPDATE command_rows SET outcome = 'taken' WHERE attempt = ?1 AND rank = ?2 AND id = ?3
                    AND outcome IS NULL";
                to.prepare_cached(sql)?
                    .execute(params![attempt, rank.0, id])?;
            }
            Kind::Answered(rank, id, outcome) => {
                let sql = "UPDATE command_rows SET outcome = ?4 WHERE attempt = ?1 AND rank = ?2 AND id = ?3";
                to.prepare_cached(sql)?
                    .execute(params![attempt, rank.0, id, outcome.word()])?;
            }
            Kind::Desired(state, memo) => {
                let sql = "INSERT OR REPLACE INTO desired VALUES (?1, ?2, ?3, ?4)";
                to.prepare_cached(sql)?.execute(params![
                    attempt,
                    state.generation as i64,
                    json(state),
                    json(memo)
                ])?;
            }
            Kind::Hook(hook) => self.hook(attempt, hook)?,
            Kind::Sample(sample) => self.sample(attempt, unix_us, sample)?,
            Kind::Unkept(unkept) => {
                let at = self.at_us(attempt, unix_us)?;
                let what = What::Lifecycle(unkept.text());
                self.log(attempt, at, None, Position::default(), "", &what)?;
            }
        }
        Ok(())
    }

    fn rank(&mut self, attempt: u32, unix_us: i64, attached: &Attached) -> rusqlite::Result<()> {
        let Attached {
            hello,
            process,
            settled,
        } = attached;
        let at = self.at_us(attempt, unix_us)?;
        let sql = "INSERT INTO rank_rows (attempt, rank, session, node, local_rank, pid, start_ticks, boot_id, ns_pids, command,
                client, attached_us, settled) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
            ON CONFLICT (attempt, rank) DO UPDATE SET session = excluded.session, pid = excluded.pid,
                start_ticks = excluded.start_ticks, client = excluded.client, ended_us = NULL, ended = NULL";
        self.to.prepare_cached(sql)?.execute(params![
            attempt,
            hello.rank.0,
            hello.session,
            hello.node,
            hello.local_rank,
            process.map(|(pid, _)| pid),
            process.map(|(_, ticks)| ticks as i64),
            hello.process.boot_id,
            json(&hello.process.ns_pids),
            hello.process.command,
            hello.client,
            at,
            *settled as i64
        ])?;
        Ok(())
    }

    fn events(&mut self, attempt: u32, batch: &Events) -> rusqlite::Result<()> {
        let rank = batch.rank.0;
        self.know(attempt, batch.rank, &batch.names)?;
        let ids = &self.ids[&(attempt, batch.rank)];
        let sql = "INSERT OR IGNORE INTO event_rows VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
        let mut event_row = self.to.prepare_cached(sql)?;
        let sql = "INSERT OR IGNORE INTO metric_rows VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let mut metric_row = self.to.prepare_cached(sql)?;
        for event in &batch.events {
            let Position {
                epoch,
                iter,
                inner_iter,
            } = event.position;
            event_row.execute(params![
                attempt,
                rank,
                event.seq as i64,
                ids.points[event.point as usize],
                epoch as i64,
                iter as i64,
                inner_iter as i64,
                event.at.as_micros() as i64 + batch.clock_us.unwrap_or_default(),
                event.rss_bytes.map(|bytes| bytes as i64)
            ])?;
            for (metric, value) in event.metrics.iter().zip(&event.values) {
                let name = ids.metrics[*metric as usize];
                metric_row.execute(params![
                    attempt,
                    rank,
                    event.seq as i64,
                    name,
                    value,
                    None::<&str>
                ])?;
            }
            for unknown in &event.unknown {
                let name = ids.metrics[unknown.metric as usize];
                metric_row.execute(params![
                    attempt,
                    rank,
                    event.seq as i64,
                    name,
                    None::<f64>,
                    unknown.reason
                ])?;
            }
        }
        let progress = &batch.progress;
        let sql = "UPDATE rank_rows SET settled = max(settled, ?3), events = ?4, gates = ?5, epoch = ?6, iter = ?7,
            inner_iter = ?8, point = ?9, step_s = ?10, peak_rss_bytes = ?11, last = ?12, clock_us = ?13,
            gate_timeouts = ?14, gate_wait_s = ?15
            WHERE attempt = ?1 AND rank = ?2";
        self.to.prepare_cached(sql)?.execute(params![
            attempt,
            rank,
            progress.settled as i64,
            progress.events as i64,
            progress.gates as i64,
            progress.position.epoch as i64,
            progress.position.iter as i64,
            progress.position.inner_iter as i64,
            &*progress.point,
            progress.step.map(|step| step.as_secs_f64()),
            progress.peak_rss_bytes.map(|bytes| bytes as i64),
            super::numbers::text(&progress.last),
            batch.clock_us,
            progress.gate_timeouts as i64,
            progress.gate_wait.as_secs_f64()
        ])?;
        Ok(())
    }

    fn hole(&mut self, attempt: u32, rank: Rank, hole: &Dropped) -> rusqlite::Result<()> {
        let sql = "INSERT INTO hole_rows VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        for (point, count) in &hole.points {
            self.to.prepare_cached(sql)?.execute(params![
                attempt,
                rank.0,
                hole.first_seq as i64,
                hole.last_seq as i64,
                &**point,
                *count as i64,
                hole.why
            ])?;
        }
        Ok(())
    }

    /// Of what this daemon could not see, the client knows better what it dropped itself.
    fn leave_to(&mut self, attempt: u32, rank: Rank, hole: &Dropped) -> rusqlite::Result<()> {
        let (first, last) = (hole.first_seq as i64, hole.last_seq as i64);
        let sql = "SELECT rowid, first_seq, last_seq FROM hole_rows
            WHERE attempt = ?1 AND rank = ?2 AND why = ?3 AND first_seq <= ?5 AND last_seq >= ?4";
        let unseen: Vec<(i64, i64, i64)> = self
            .to
            .prepare_cached(sql)?
            .query_map(params![attempt, rank.0, ELSEWHERE, first, last], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })?
            .collect::<rusqlite::Result<_>>()?;
        for (row, from, to) in unseen {
            self.to
                .prepare_cached("DELETE FROM hole_rows WHERE rowid = ?1")?
                .execute([row])?;
            for (from, to) in [(from, first - 1), (last + 1, to)] {
                if from <= to {
                    self.hole(attempt, rank, &Dropped::elsewhere(from as u64, to as u64))?;
                }
            }
        }
        Ok(())
    }

    fn log(
        &mut self,
        attempt: u32,
        at_us: i64,
        rank: Option<Rank>,
        position: Position,
        point: &str,
        what: &What,
    ) -> rusqlite::Result<()> {
        let Some(row) = super::logged::row(what) else {
            return Ok(());
        };
        let sql = "INSERT INTO log_rows VALUES (NULL, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)";
        self.to.prepare_cached(sql)?.execute(params![
            attempt,
            at_us,
            rank.map(|rank| rank.0),
            position.epoch as i64,
            position.iter as i64,
            position.inner_iter as i64,
            point,
            row.kind,
            row.id,
            row.what,
            row.who,
            row.text,
            row.outcome,
            row.old,
            row.new
        ])?;
        Ok(())
    }

    fn hook(&mut self, attempt: u32, hook: &HookKept) -> rusqlite::Result<()> {
        let seen = &hook.seen;
        let args: serde_json::Map<_, _> = seen
            .args
            .iter()
            .map(|(key, value)| (key.clone(), value.as_str().into()))
            .collect();
        let sql = "INSERT OR REPLACE INTO hooks VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13,
            ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22)";
        let counts = &seen.counts;
        self.to.prepare_cached(sql)?.execute(params![
            attempt,
            seen.name,
            hook.place as i64,
            seen.type_name,
            seen.origin,
            seen.policy,
            seen.priority,
            json(&args),
            json(&hook.request),
            seen.calls as i64,
            seen.decisions as i64,
            seen.disabled,
            hook.state.as_str(),
            counts.time.as_secs_f64(),
            counts.errors as i64,
            counts.timeouts as i64,
            counts.missed as i64,
            counts.overruled as i64,
            counts.withheld as i64,
            counts.last_withheld,
            seen.module,
            hook.provider.as_ref().map(Listing::whole)
        ])?;
        Ok(())
    }

    fn sample(&mut self, attempt: u32, unix_us: i64, sample: &SampleKept) -> rusqlite::Result<()> {
        let at = self.at_us(attempt, unix_us)?;
        let name = self.name(&Arc::from(sample.name))?;
        let sql = "INSERT INTO sample_rows VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
        self.to.prepare_cached(sql)?.execute(params![
            attempt,
            at,
            sample.rank.map(|rank| rank.0),
            sample.device,
            name,
            sample.value.as_ref().ok(),
            sample.value.as_ref().err(),
            sample.source,
            sample.position.epoch as i64,
            sample.position.iter as i64
        ])?;
        Ok(())
    }

    /// Since the attempt began.
    fn at_us(&mut self, attempt: u32, unix_us: i64) -> rusqlite::Result<i64> {
        let started = match self.started_unix_us.get(&attempt) {
            Some(started) => *started,
            None => {
                let sql = "SELECT started_unix_us FROM attempts WHERE attempt = ?1";
                let started = self
                    .to
                    .prepare_cached(sql)?
                    .query_row([attempt], |row| row.get(0))?;
                self.started_unix_us.insert(attempt, started);
                started
            }
        };
        Ok(unix_us - started)
    }

    /// Makes the file know a session's names.
    fn know(&mut self, attempt: u32, rank: Rank, names: &Names) -> rusqlite::Result<()> {
        let mut ids = self.ids.remove(&(attempt, rank)).unwrap_or_default();
        for name in &names.points[ids.points.len().min(names.points.len())..] {
            ids.points.push(self.name(name)?);
        }
        for name in &names.metrics[ids.metrics.len().min(names.metrics.len())..] {
            ids.metrics.push(self.name(name)?);
        }
        self.ids.insert((attempt, rank), ids);
        Ok(())
    }

    fn name(&mut self, name: &Arc<str>) -> rusqlite::Result<i64> {
        if let Some(id) = self.names.get(name) {
            return Ok(*id);
        }
        self.to
            .prepare_cached("INSERT OR IGNORE INTO names (name) VALUES (?1)")?
            .execute([&**name])?;
        let id = self
            .to
            .prepare_cached("SELECT id FROM names WHERE name = ?1")?
            .query_row([&**name], |row| row.get(0))?;
        self.names.insert(Arc::clone(name), id);
        Ok(id)
    }
}

/// What serde cannot say (a float that is not finite) becomes null, and is refused where it is read.
fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}
