//! Memory as a run's file has it: what the series in memory are too young for.

use std::path::Path;
use std::sync::Arc;

use super::file;
use crate::domain::Rank;
use crate::store::series::{Mark, Name, Place};

/// One number of the table of samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// When, in microseconds since 1970.
    pub at_us: i64,
    /// Whose; None: the machine's.
    pub rank: Option<Rank>,
    /// Of which GPU.
    pub device: Option<u32>,
    /// Which.
    pub name: Name,
    /// The number, or why there is none.
    pub value: Result<f64, Arc<str>>,
    /// Where the training was.
    pub place: Place,
}

/// Which rows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rows {
    /// Only the latest attempt.
    pub latest: bool,
    /// From then on.
    pub from_us: Option<i64>,
    /// Until then.
    pub to_us: Option<i64>,
}

/// Samples in the order of their time. Errors: the file cannot be read.
pub fn samples(path: &Path, rows: Rows, mut each: impl FnMut(Sample)) -> Result<(), String> {
    let words = |error: rusqlite::Error| format!("{}: {error}", path.display());
    read_samples(path, rows, &mut each).map_err(words)
}

fn read_samples(path: &Path, rows: Rows, each: &mut impl FnMut(Sample)) -> rusqlite::Result<()> {
    let connection = file::open_to_read(path)?;
    let sql = "SELECT started_unix_us + at_us AS at, rank, device, n.name, value, unknown, epoch, iter
        FROM sample_rows s JOIN attempts a ON a.attempt = s.attempt JOIN names n ON n.id = s.name
        WHERE (?1 IS NULL OR started_unix_us + at_us >= ?1) AND (?2 IS NULL OR started_unix_us + at_us <= ?2)
        AND (NOT ?3 OR s.attempt = (SELECT max(attempt) FROM attempts)) ORDER BY s.rowid";
    let mut select = connection.prepare(sql)?;
    let mut found = select.query((rows.from_us, rows.to_us, rows.latest))?;
    // A reason stands in thousands of rows.
    let mut reasons: Vec<Arc<str>> = Vec::new();
    while let Some(row) = found.next()? {
        // What a later daemon wrote may have other names.
        let Some(name) = Name::of(row.get_ref(3)?.as_str()?) else {
            continue;
        };
        let device: Option<String> = row.get(2)?;
        let value = match row.get(4)? {
            Some(value) => Ok(value),
            None => {
                let why = row.get_ref(5)?.as_str_or_null()?.unwrap_or_default();
                let known = reasons.iter().find(|known| &***known == why).cloned();
                Err(known.unwrap_or_else(|| {
                    reasons.push(why.into());
                    why.into()
                }))
            }
        };
        each(Sample {
            at_us: row.get(0)?,
            rank: row.get::<_, Option<u32>>(1)?.map(Rank),
            device: device.and_then(|index| index.parse().ok()),
            name,
            value,
            place: place(row, 6)?,
        });
    }
    Ok(())
}

/// When epochs of a rank began, as its own events say.
pub fn marks(path: &Path, rank: Rank, rows: Rows) -> Result<Vec<Mark>, String> {
    let words = |error: rusqlite::Error| format!("{}: {error}", path.display());
    read_marks(path, rank, rows).map_err(words)
}

fn read_marks(path: &Path, rank: Rank, rows: Rows) -> rusqlite::Result<Vec<Mark>> {
    let connection = file::open_to_read(path)?;
    let sql = "SELECT started_unix_us + at_us AS at, epoch, iter FROM event_rows e
        JOIN attempts a ON a.attempt = e.attempt JOIN names n ON n.id = e.point
        WHERE n.name = 'before_train_epoch' AND rank = ?1
        AND (?2 IS NULL OR started_unix_us + at_us >= ?2) AND (?3 IS NULL OR started_unix_us + at_us <= ?3)
        AND (NOT ?4 OR e.attempt = (SELECT max(attempt) FROM attempts)) ORDER BY at";
    let mut select = connection.prepare(sql)?;
    let window = (rank.0, rows.from_us, rows.to_us, rows.latest);
    let found = select.query_map(window, |row| {
        Ok(Mark {
            at_us: row.get(0)?,
            place: place(row, 1)?,
        })
    })?;
    found.collect()
}

fn place(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<Place> {
    let count = |at| Ok::<_, rusqlite::Error>(row.get::<_, i64>(at)? as u64);
    Ok(Place {
        epoch: count(at)?,
        iter: count(at + 1)?,
    })
}
