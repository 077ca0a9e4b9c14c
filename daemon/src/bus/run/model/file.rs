//! What must hold of a run's file at any time, read as anybody reads it.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::trainer::{POINTS, Trainer};

/// One numbered span of a rank: an event, or a hole with its points.
struct Span {
    first: u64,
    last: u64,
    hole: Option<(String, BTreeMap<String, u64>)>,
}

/// Checks every rank of every attempt against what its session generated, and what each session was told is settled.
/// `at_end`: each client's own holes were said.
pub(super) fn check(path: &Path, trainers: &[&Trainer], at_end: bool) {
    if !path.exists() {
        let acked = trainers.iter().map(|trainer| trainer.acked).max();
        assert_eq!(acked.unwrap_or(0), 0, "acknowledged, and there is no file");
        return;
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let file = Connection::open_with_flags(path, flags).expect("it can be read");
    let mut of_session: BTreeMap<String, Vec<Span>> = BTreeMap::new();
    for (attempt, rank, session, settled) in ranks(&file) {
        let trainer = trainers
            .iter()
            .find(|trainer| trainer.session == session)
            .expect("it was there");
        let mut spans = events(&file, attempt, rank, trainer);
        spans.extend(holes(&file, attempt, rank));
        spans.sort_by_key(|span| span.first);
        let whose = format!("attempt {attempt}, rank {rank}, {session}");
        let mut next = 1;
        for span in &spans {
            let what = if span.hole.is_some() { "hole" } else { "event" };
            assert!(
                span.first >= next,
                "{whose}: {what} {}..{} overlaps what is before {next}: {}",
                span.first,
                span.last,
                words(&spans)
            );
            assert!(
                span.first == next || next > settled,
                "{whose}: nothing is known of {next}..{}: {}",
                span.first,
                words(&spans)
            );
            next = span.last + 1;
            if let Some((why, points)) = &span.hole {
                let unnamed = BTreeMap::from([(String::new(), span.last + 1 - span.first)]);
                if *points == unnamed && (!at_end || trainer.is_past) {
                    continue; // its client knows which
                }
                let generated = trainer.count(span.first, span.last);
                let named = generated
                    .iter()
                    .map(|(point, count)| (POINTS[*point as usize].to_owned(), *count));
                assert_eq!(points, &named.collect(), "{whose}: {why}");
            }
        }
        assert!(
            next > settled,
            "{whose}: {settled} settled, known to {next}: {}",
            words(&spans)
        );
        of_session.entry(session).or_default().extend(spans);
    }
    for trainer in trainers {
        let spans = of_session.get(&trainer.session);
        let known: u64 = spans
            .into_iter()
            .flatten()
            .filter(|span| span.first <= trainer.acked)
            .map(|span| span.last.min(trainer.acked) + 1 - span.first)
            .sum();
        assert_eq!(
            known, trainer.acked,
            "{}: acknowledged, and in the file exactly once",
            trainer.session
        );
    }
    attempts(&file);
}

/// The greatest generation that is written down.
pub(super) fn generation(path: &Path) -> u64 {
    if !path.exists() {
        return 0;
    }
    let file = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let sql = "SELECT coalesce(max(generation), 0) FROM desired";
    let greatest: i64 = file.query_row(sql, [], |row| row.get(0)).unwrap();
    greatest as u64
}

/// All but the latest are over.
fn attempts(file: &Connection) {
    let sql = "SELECT count(*) FROM attempts WHERE (phase = 'running' OR ended_unix_us IS NULL)
        AND attempt < (SELECT max(attempt) FROM attempts)";
    let open: i64 = file.query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(open, 0, "an attempt that is superseded is not closed");
    let sql = "SELECT count(*) FROM rank_rows WHERE ended IS NULL
        AND attempt < (SELECT max(attempt) FROM attempts)";
    let open: i64 = file.query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(
        open, 0,
        "a rank of an attempt that is superseded has not ended"
    );
}

fn ranks(file: &Connection) -> Vec<(u32, u32, String, u64)> {
    let sql = "SELECT attempt, rank, session, settled FROM rank_rows";
    let mut rows = file.prepare(sql).unwrap();
    let rows = rows
        .query_map([], |row| {
            let settled: i64 = row.get(3)?;
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, settled as u64))
        })
        .unwrap();
    rows.collect::<rusqlite::Result<_>>().unwrap()
}

/// Each is as its number generated it.
fn events(file: &Connection, attempt: u32, rank: u32, trainer: &Trainer) -> Vec<Span> {
    let sql = "SELECT e.seq, p.name, e.epoch, e.iter, e.inner_iter, e.rss_bytes,
            (SELECT group_concat(n.name || '=' || coalesce(m.value, 'nan'), ' ' ORDER BY n.name) FROM metric_rows m
                JOIN names n ON n.id = m.name WHERE m.attempt = e.attempt AND m.rank = e.rank AND m.seq = e.seq)
        FROM event_rows e JOIN names p ON p.id = e.point WHERE e.attempt = ?1 AND e.rank = ?2 ORDER BY e.seq";
    let mut rows = file.prepare(sql).unwrap();
    let mut rows = rows.query((attempt, rank)).unwrap();
    let mut spans = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        let seq = row.get::<_, i64>(0).unwrap() as u64;
        let event = &trainer.events[seq as usize - 1];
        let number = |at| row.get::<_, i64>(at).unwrap() as u64;
        let is_at = (number(2), number(3), number(4));
        let at = event.position;
        let point: String = row.get(1).unwrap();
        assert_eq!(point, POINTS[event.point as usize], "event {seq}");
        assert_eq!(is_at, (at.epoch, at.iter, at.inner_iter), "event {seq}");
        let rss: Option<i64> = row.get(5).unwrap();
        assert_eq!(rss.map(|bytes| bytes as u64), event.rss_bytes, "{seq}");
        let metrics: String = row.get(6).unwrap();
        for (word, (id, value)) in metrics
            .split(' ')
            .zip(event.metrics.iter().zip(&event.values))
        {
            let (name, number) = word.split_once('=').unwrap();
            assert_eq!(name, &*trainer.names.metrics[*id as usize], "event {seq}");
            let number: f64 = number.parse().unwrap();
            let close = (number - value).abs() < 1e-9 || (number.is_nan() && value.is_nan());
            assert!(close, "event {seq}: {number} is {value}");
        }
        spans.push(Span {
            first: seq,
            last: seq,
            hole: None,
        });
    }
    spans
}

fn holes(file: &Connection, attempt: u32, rank: u32) -> Vec<Span> {
    let sql = "SELECT first_seq, last_seq, point, count, why FROM hole_rows WHERE attempt = ?1 AND rank = ?2";
    let mut rows = file.prepare(sql).unwrap();
    let mut rows = rows.query((attempt, rank)).unwrap();
    let mut holes: BTreeMap<(u64, u64, String), BTreeMap<String, u64>> = BTreeMap::new();
    while let Some(row) = rows.next().unwrap() {
        let number = |at| row.get::<_, i64>(at).unwrap() as u64;
        let key = (number(0), number(1), row.get(4).unwrap());
        let point: String = row.get(2).unwrap();
        let before = holes.entry(key).or_default().insert(point, number(3));
        assert_eq!(before, None, "a hole is there twice");
    }
    let span = |((first, last, why), points)| Span {
        first,
        last,
        hole: Some((why, points)),
    };
    holes.into_iter().map(span).collect()
}

fn words(spans: &[Span]) -> String {
    let word = |span: &Span| match &span.hole {
        None => format!("{}", span.first),
        Some((why, _)) => format!("[{}..{}: {why}]", span.first, span.last),
    };
    spans.iter().map(word).collect::<Vec<_>>().join(" ")
}
