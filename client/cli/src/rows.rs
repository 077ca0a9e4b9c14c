//! Rows of a journal's table as they come over the wire, checked against the columns that they came with.

use hookbus_client::inspect::proto::{self, cell::Value};

use crate::failure::Failure;
use crate::table::one_line;

/// What a column holds, beside NULL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Integer,
    Real,
    Text,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

/// One value; of its column's kind, or none.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
}

/// The columns of a table's first reply.
pub(crate) fn columns(said: &[proto::Column]) -> Result<Vec<Column>, String> {
    if said.is_empty() {
        return Err("it has no columns".to_owned());
    }
    let column = |column: &proto::Column| {
        let kind = match column.r#type.as_str() {
            "INTEGER" => Kind::Integer,
            "REAL" => Kind::Real,
            "TEXT" => Kind::Text,
            other => return Err(format!("column {:?} is of type {other:?}", column.name)),
        };
        Ok(Column {
            name: column.name.clone(),
            kind,
        })
    };
    said.iter().map(column).collect()
}

/// Each row with a cell for each column, of its kind.
pub(crate) fn checked(columns: &[Column], rows: Vec<proto::Row>) -> Result<Vec<Vec<Cell>>, String> {
    let row = |row: proto::Row| {
        if row.cells.len() != columns.len() {
            let (cells, count) = (row.cells.len(), columns.len());
            let word = if count == 1 { "column" } else { "columns" };
            return Err(format!("a row has {cells} cells for {count} {word}"));
        }
        let cells = row.cells.into_iter().zip(columns);
        cells.map(|(cell, column)| value(cell, column)).collect()
    };
    rows.into_iter().map(row).collect()
}

fn value(cell: proto::Cell, column: &Column) -> Result<Cell, String> {
    match (cell.value, column.kind) {
        (None, _) => Ok(Cell::Null),
        (Some(Value::Integer(value)), Kind::Integer) => Ok(Cell::Integer(value)),
        (Some(Value::Real(value)), Kind::Real) => Ok(Cell::Real(value)),
        // SQLite stores 1.0 as 1.
        (Some(Value::Integer(value)), Kind::Real) => Ok(Cell::Real(value as f64)),
        (Some(Value::Text(value)), Kind::Text) => Ok(Cell::Text(value)),
        (Some(other), kind) => Err(format!(
            "column {:?} is {kind:?} and has {other:?}",
            column.name
        )),
    }
}

/// A table that is not as it should be.
pub(crate) fn wrong(table: &str, why: &str) -> Failure {
    Failure::failed(format!(
        "the daemon's table {:?} cannot be read: {}; it may be of another version: compare `hookbus doctor`",
        one_line(table),
        one_line(why)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_null_or_of_its_columns_kind() {
        let column = |kind| Column {
            name: "c".into(),
            kind,
        };
        let table = [
            (None, Kind::Text, Ok(Cell::Null)),
            (
                Some(Value::Integer(i64::MIN)),
                Kind::Integer,
                Ok(Cell::Integer(i64::MIN)),
            ),
            (Some(Value::Integer(1)), Kind::Real, Ok(Cell::Real(1.0))),
            (
                Some(Value::Text(String::new())),
                Kind::Text,
                Ok(Cell::Text(String::new())),
            ),
            (Some(Value::Real(1.0)), Kind::Integer, Err(())),
            (Some(Value::Text("1".into())), Kind::Real, Err(())),
            (Some(Value::Integer(1)), Kind::Text, Err(())),
        ];
        for (sent, kind, wanted) in table {
            let got = value(
                proto::Cell {
                    value: sent.clone(),
                },
                &column(kind),
            );
            assert_eq!(got.map_err(|_| ()), wanted, "{sent:?} {kind:?}");
        }
    }
}
