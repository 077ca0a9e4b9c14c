//! A run's tables.

use hookbus_proto::v1::{self as wire, cell::Value};

use crate::store::journal::{Cell, Table};

/// A part of a table.
pub(in crate::service) fn rows(part: Table) -> wire::RowsReply {
    let column = |(name, kind)| wire::Column { name, r#type: kind };
    let row = |cells: Vec<Cell>| wire::Row {
        cells: cells.into_iter().map(cell).collect(),
    };
    wire::RowsReply {
        table: part.name.to_owned(),
        columns: part.columns.into_iter().map(column).collect(),
        rows: part.rows.into_iter().map(row).collect(),
    }
}

fn cell(cell: Cell) -> wire::Cell {
    let value = match cell {
        Cell::Null => None,
        Cell::Integer(number) => Some(Value::Integer(number)),
        Cell::Real(number) => Some(Value::Real(number)),
        Cell::Text(text) => Some(Value::Text(text)),
    };
    wire::Cell { value }
}
