//! CSV as RFC 4180 has it, with a heading. NULL and an empty text are both an empty field; not-finite numbers are the
//! words nan, inf and -inf.

use std::fs::File;

use super::Sink;
use crate::format;
use crate::rows::{Cell, Column};

pub(super) struct Csv(csv::Writer<File>);

impl Csv {
    pub(super) fn new(out: File, columns: &[Column]) -> Result<Csv, String> {
        let mut writer = csv::Writer::from_writer(out);
        let names = columns.iter().map(|column| &column.name);
        writer
            .write_record(names)
            .map_err(|error| error.to_string())?;
        Ok(Csv(writer))
    }

    fn row(&mut self, row: Vec<Cell>) -> csv::Result<()> {
        for cell in row {
            match cell {
                Cell::Null => self.0.write_field(""),
                Cell::Integer(value) => self.0.write_field(value.to_string()),
                Cell::Real(value) => self.0.write_field(real(value)),
                Cell::Text(text) => self.0.write_field(text),
            }?;
        }
        self.0.write_record(None::<&[u8]>)
    }
}

impl Sink for Csv {
    fn write(&mut self, rows: Vec<Vec<Cell>>) -> Result<(), String> {
        rows.into_iter()
            .try_for_each(|row| self.row(row))
            .map_err(|error| error.to_string())
    }

    fn finish(mut self: Box<Self>) -> Result<(), String> {
        self.0.flush().map_err(|error| error.to_string())
    }
}

/// The shortest text that reads back as the same number, and as no integer.
fn real(value: f64) -> String {
    if value.is_finite() {
        format!("{value:?}")
    } else {
        format::number(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Kind;

    #[test]
    fn it_is_read_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("t.csv");
        let column = |name: &str, kind| Column {
            name: name.into(),
            kind,
        };
        let columns = [
            column("n", Kind::Integer),
            column("x", Kind::Real),
            column("text", Kind::Text),
        ];
        let mut sink = Csv::new(File::create(&file).unwrap(), &columns).unwrap();
        let text = |text: &str| Cell::Text(text.into());
        sink.write(vec![
            vec![
                Cell::Integer(i64::MAX),
                Cell::Real(0.1),
                text("a, \"b\"\nc é"),
            ],
            vec![Cell::Null, Cell::Null, Cell::Null],
        ])
        .unwrap();
        sink.write(vec![
            vec![Cell::Integer(-1), Cell::Real(f64::NAN), text("")],
            vec![Cell::Null, Cell::Real(f64::NEG_INFINITY), text("x")],
            vec![Cell::Null, Cell::Real(2.0), text("x")],
        ])
        .unwrap();
        Box::new(sink).finish().unwrap();
        let mut reader = csv::Reader::from_path(&file).unwrap();
        assert_eq!(reader.headers().unwrap(), vec!["n", "x", "text"]);
        let rows: Vec<Vec<String>> = reader
            .records()
            .map(|row| row.unwrap().iter().map(str::to_owned).collect())
            .collect();
        let wanted = [
            ["9223372036854775807", "0.1", "a, \"b\"\nc é"],
            ["", "", ""],
            ["-1", "nan", ""],
            ["", "-inf", "x"],
            ["", "2.0", "x"],
        ];
        assert_eq!(rows, wanted);
    }
}
