//! The tables of a file, part by part, as they are.

use std::path::Path;
use std::time::Instant;

use rusqlite::types::ValueRef;

use super::{file, schema};
use crate::domain::Clock;

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

/// Hands on one table, or ("") every one; `since`: only rows with a time from then on. `each` says whether to go on.
pub(super) fn tell(
    path: &Path,
    clock: Clock,
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
    let since = since.map(|since| clock.unix_us(since) as f64 / 1e6);
    for name in wanted {
        if !part_by_part(&connection, name, since, &mut each).map_err(words)? {
            break;
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
