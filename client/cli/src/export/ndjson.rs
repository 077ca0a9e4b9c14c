//! One JSON object a line, its keys in the order of the columns. NULL is null; JSON has no word for not-finite numbers:
//! they are the strings "NaN", "Infinity" and "-Infinity", which pandas, DuckDB and JavaScript's Number() read.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use super::Sink;
use crate::rows::{Cell, Column};

/// Rows of one table as lines.
pub(crate) struct Lines {
    /// Each with what stands before its value.
    keys: Vec<String>,
}

impl Lines {
    /// Each line begins with the key "table" where a name is given.
    pub(crate) fn new(columns: &[Column], table: Option<&str>) -> Lines {
        let text = |text: &str| serde_json::Value::from(text).to_string();
        let begin = table.map_or("{".to_owned(), |table| {
            format!("{{\"table\":{},", text(table))
        });
        let key = |(index, column): (usize, &Column)| {
            let before = if index == 0 { &begin } else { "," };
            format!("{before}{}:", text(&column.name))
        };
        Lines {
            keys: columns.iter().enumerate().map(key).collect(),
        }
    }

    /// One line.
    pub(crate) fn write(&self, out: &mut impl Write, row: &[Cell]) -> io::Result<()> {
        for (key, cell) in self.keys.iter().zip(row) {
            out.write_all(key.as_bytes())?;
            match cell {
                Cell::Null => out.write_all(b"null")?,
                Cell::Integer(value) => write!(out, "{value}")?,
                Cell::Real(value) if value.is_nan() => out.write_all(b"\"NaN\"")?,
                Cell::Real(f64::INFINITY) => out.write_all(b"\"Infinity\"")?,
                Cell::Real(f64::NEG_INFINITY) => out.write_all(b"\"-Infinity\"")?,
                Cell::Real(value) => write!(out, "{value:?}")?,
                Cell::Text(text) => serde_json::to_writer(&mut *out, text)?,
            }
        }
        out.write_all(b"}\n")
    }
}

pub(super) struct Ndjson {
    out: BufWriter<File>,
    lines: Lines,
}

impl Ndjson {
    pub(super) fn new(out: File, columns: &[Column]) -> Ndjson {
        Ndjson {
            out: BufWriter::new(out),
            lines: Lines::new(columns, None),
        }
    }

    fn row(&mut self, row: &[Cell]) -> io::Result<()> {
        self.lines.write(&mut self.out, row)
    }
}

impl Sink for Ndjson {
    fn write(&mut self, rows: Vec<Vec<Cell>>) -> Result<(), String> {
        rows.iter()
            .try_for_each(|row| self.row(row))
            .map_err(|error| error.to_string())
    }

    fn finish(mut self: Box<Self>) -> Result<(), String> {
        self.out.flush().map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Kind;

    #[test]
    fn each_line_is_an_object_that_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("t.ndjson");
        let column = |name: &str, kind| Column {
            name: name.into(),
            kind,
        };
        let columns = [
            column("z", Kind::Real),
            column("a\"b", Kind::Text),
            column("n", Kind::Integer),
        ];
        let mut sink = Ndjson::new(File::create(&file).unwrap(), &columns);
        let row = |x: f64| vec![Cell::Real(x), Cell::Text("é\n\"".into()), Cell::Integer(7)];
        let reals = [
            0.1,
            1e300,
            5.0,
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::MIN_POSITIVE,
        ];
        sink.write(reals.map(row).to_vec()).unwrap();
        sink.write(vec![vec![Cell::Null, Cell::Null, Cell::Null]])
            .unwrap();
        Box::new(sink).finish().unwrap();
        let written = std::fs::read_to_string(&file).unwrap();
        let lines: Vec<serde_json::Value> = written
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(
            written.lines().next().unwrap(),
            r#"{"z":0.1,"a\"b":"é\n\"","n":7}"#
        );
        for (line, real) in lines.iter().zip(reals) {
            match line["z"].as_f64() {
                Some(value) => assert_eq!(value, real),
                None => {
                    assert!(["NaN", "Infinity", "-Infinity"].contains(&line["z"].as_str().unwrap()))
                }
            }
        }
        assert_eq!(lines[7].to_string(), r#"{"a\"b":null,"n":null,"z":null}"#);
    }
}
