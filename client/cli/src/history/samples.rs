//! The rows of the journal's table of samples, gathered by the time that they were taken at. Columns are known by their
//! names, so that a later version may have more of them.

use std::collections::HashSet;

use hookbus_client::inspect::proto::RowsReply;

use crate::failure::Failure;
use crate::rows::{self, Cell, Column, wrong};

/// One number, or why it is not known.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Reading {
    /// None: the host or a device.
    pub(super) rank: Option<i64>,
    pub(super) device: Option<String>,
    pub(super) name: String,
    pub(super) value: Option<f64>,
    pub(super) unknown: Option<String>,
    pub(super) source: Option<String>,
    /// Where it is made of several.
    pub(super) spread: Option<Spread>,
}

/// The readings that a value is the mean of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spread {
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) readings: u32,
}

/// What was sampled at one time.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Moment {
    pub(super) attempt: i64,
    pub(super) time_unix_s: f64,
    /// Where the training was.
    pub(super) epoch: Option<i64>,
    pub(super) iter: Option<i64>,
    pub(super) readings: Vec<Reading>,
}

/// Samples of one round differ by less, in seconds: a GPU answers later than /proc.
const ONE_ROUND_S: f64 = 0.5;

const NEEDED: [&str; 9] = [
    "attempt",
    "time_unix_s",
    "rank",
    "device",
    "name",
    "value",
    "unknown",
    "epoch",
    "iter",
];

/// Rows in, moments out.
#[derive(Debug, Default)]
pub(super) struct Gatherer {
    columns: Vec<Column>,
    moment: Option<Moment>,
    /// What the moment has already: a second one of the same begins the next.
    has: HashSet<(Option<i64>, Option<String>, String)>,
}

impl Gatherer {
    /// The moments that are complete with it.
    pub(super) fn take(&mut self, reply: RowsReply) -> Result<Vec<Moment>, Failure> {
        let table = reply.table;
        if self.columns.is_empty() {
            self.columns = rows::columns(&reply.columns).map_err(|why| wrong(&table, &why))?;
            for name in NEEDED {
                if !self.columns.iter().any(|column| column.name == name) {
                    return Err(wrong(&table, &format!("it has no column {name:?}")));
                }
            }
        }
        let rows = rows::checked(&self.columns, reply.rows).map_err(|why| wrong(&table, &why))?;
        Ok(rows.into_iter().filter_map(|row| self.add(row)).collect())
    }

    /// The one that nothing came after.
    pub(super) fn last(self) -> Option<Moment> {
        self.moment
    }

    fn add(&mut self, row: Vec<Cell>) -> Option<Moment> {
        let (at, reading) = self.read(row);
        let key = (reading.rank, reading.device.clone(), reading.name.clone());
        let goes_on = self.moment.as_ref().is_some_and(|moment| {
            moment.attempt == at.attempt
                && (moment.time_unix_s - at.time_unix_s).abs() < ONE_ROUND_S
                && !self.has.contains(&key)
        });
        let complete = if goes_on {
            None
        } else {
            self.has.clear();
            self.moment.replace(at)
        };
        self.has.insert(key);
        if let Some(moment) = &mut self.moment {
            moment.readings.push(reading);
        }
        complete
    }

    /// A row as a moment without readings, and its reading.
    fn read(&self, row: Vec<Cell>) -> (Moment, Reading) {
        let (mut at, mut reading) = (Moment::default(), Reading::default());
        for (column, cell) in self.columns.iter().zip(row) {
            match (column.name.as_str(), cell) {
                ("attempt", Cell::Integer(value)) => at.attempt = value,
                ("time_unix_s", Cell::Real(value)) => at.time_unix_s = value,
                ("epoch", Cell::Integer(value)) => at.epoch = Some(value),
                ("iter", Cell::Integer(value)) => at.iter = Some(value),
                ("rank", Cell::Integer(value)) => reading.rank = Some(value),
                ("device", Cell::Text(text)) => reading.device = Some(text),
                ("name", Cell::Text(text)) => reading.name = text,
                ("value", Cell::Real(value)) => reading.value = Some(value),
                ("unknown", Cell::Text(text)) => reading.unknown = Some(text),
                ("source", Cell::Text(text)) => reading.source = Some(text),
                _ => {}
            }
        }
        (at, reading)
    }
}

#[cfg(test)]
mod tests {
    use hookbus_client::inspect::proto::{self, cell::Value};

    use super::*;

    fn reply(rows: &[(i64, f64, Option<i64>, &str)]) -> RowsReply {
        let text = |text: &str| Some(Value::Text(text.into()));
        let row = |&(attempt, time, rank, name): &(i64, f64, Option<i64>, &str)| proto::Row {
            cells: [
                Some(Value::Integer(attempt)),
                Some(Value::Real(time)),
                rank.map(Value::Integer),
                None,
                text(name),
                Some(Value::Real(1.0)),
                None,
                None,
                Some(Value::Integer(7)),
                // Of a later version.
                text("x"),
            ]
            .map(|value| proto::Cell { value })
            .to_vec(),
        };
        let types = [
            "INTEGER", "REAL", "INTEGER", "TEXT", "TEXT", "REAL", "TEXT", "INTEGER", "INTEGER",
        ];
        let mut columns: Vec<_> = NEEDED
            .iter()
            .zip(types)
            .map(|(name, kind)| proto::Column {
                name: (*name).into(),
                r#type: kind.into(),
            })
            .collect();
        columns.push(proto::Column {
            name: "later".into(),
            r#type: "TEXT".into(),
        });
        RowsReply {
            table: "samples".into(),
            columns,
            rows: rows.iter().map(row).collect(),
        }
    }

    #[test]
    fn a_moment_ends_with_the_time_the_attempt_or_the_same_again() {
        let mut gatherer = Gatherer::default();
        let mut all = gatherer
            .take(reply(&[
                (1, 10.0, None, "host_used_bytes"),
                (1, 10.1, Some(0), "process_rss_bytes"),
                (1, 10.2, None, "host_used_bytes"),
                (1, 12.0, Some(0), "process_rss_bytes"),
            ]))
            .unwrap();
        let rest = reply(&[
            (1, 12.0, Some(1), "process_rss_bytes"),
            (2, 12.1, None, "host_used_bytes"),
        ]);
        all.extend(gatherer.take(rest).unwrap());
        all.extend(gatherer.last());
        let counts: Vec<_> = all
            .iter()
            .map(|moment| (moment.attempt, moment.time_unix_s, moment.readings.len()))
            .collect();
        assert_eq!(
            counts,
            [(1, 10.0, 2), (1, 10.2, 1), (1, 12.0, 2), (2, 12.1, 1)]
        );
        assert_eq!((all[0].epoch, all[0].iter), (None, Some(7)));
    }

    #[test]
    fn a_table_without_a_column_is_one_line() {
        let mut short = reply(&[]);
        short.columns.remove(4);
        let failure = Gatherer::default().take(short).unwrap_err();
        assert!(
            failure.text.contains("it has no column \"name\""),
            "{}",
            failure.text
        );
    }
}
