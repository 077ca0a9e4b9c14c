//! Parquet: INT64, DOUBLE and UTF-8 columns, each of which may be NULL, packed with Snappy. Rows are gathered column by
//! column until a row group is full, so that a long run does not need the memory that its file will have.

use std::fs::File;
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::errors::Result;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::Type;

use super::Sink;
use crate::rows::{Cell, Column, Kind};

/// A row group is written when it has this many rows ...
const GROUP_ROWS: usize = 64 << 10;
/// ... or this much text.
const GROUP_TEXT_BYTES: usize = 32 << 20;

pub(super) struct Parquet {
    out: SerializedFileWriter<File>,
    columns: Vec<Gathered>,
    rows: usize,
    text_bytes: usize,
}

/// One column of the row group that is being gathered.
enum Gathered {
    Integer(Levels<i64>),
    Real(Levels<f64>),
    Text(Levels<ByteArray>),
}

/// Parquet's form of a column with NULLs: the values that are there, and for each row whether one is.
struct Levels<T> {
    values: Vec<T>,
    there: Vec<i16>,
}

impl<T> Default for Levels<T> {
    fn default() -> Self {
        Levels {
            values: Vec::new(),
            there: Vec::new(),
        }
    }
}

impl<T> Levels<T> {
    fn push(&mut self, value: Option<T>) {
        self.there.push(i16::from(value.is_some()));
        self.values.extend(value);
    }
}

impl Parquet {
    pub(super) fn new(out: File, columns: &[Column]) -> std::result::Result<Parquet, String> {
        let made = || {
            let fields = columns.iter().map(field).collect::<Result<_>>()?;
            let schema = Type::group_type_builder("row")
                .with_fields(fields)
                .build()?;
            let properties = WriterProperties::builder()
                .set_compression(Compression::SNAPPY)
                .set_created_by(format!("hookbus {}", env!("CARGO_PKG_VERSION")))
                .build();
            SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties))
        };
        Ok(Parquet {
            out: made().map_err(|error| error.to_string())?,
            columns: columns.iter().map(|column| empty(column.kind)).collect(),
            rows: 0,
            text_bytes: 0,
        })
    }

    fn push(&mut self, row: Vec<Cell>) {
        self.rows += 1;
        for (column, cell) in self.columns.iter_mut().zip(row) {
            match (column, cell) {
                (Gathered::Integer(into), Cell::Integer(value)) => into.push(Some(value)),
                (Gathered::Real(into), Cell::Real(value)) => into.push(Some(value)),
                (Gathered::Text(into), Cell::Text(text)) => {
                    self.text_bytes += text.len();
                    into.push(Some(ByteArray::from(text.into_bytes())));
                }
                // A cell is of its column's kind or NULL: `rows::checked`.
                (Gathered::Integer(into), _) => into.push(None),
                (Gathered::Real(into), _) => into.push(None),
                (Gathered::Text(into), _) => into.push(None),
            }
        }
    }

    fn write_group(&mut self) -> Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        let mut group = self.out.next_row_group()?;
        for column in &mut self.columns {
            match column {
                Gathered::Integer(from) => write_column::<Int64Type>(&mut group, from)?,
                Gathered::Real(from) => write_column::<DoubleType>(&mut group, from)?,
                Gathered::Text(from) => write_column::<ByteArrayType>(&mut group, from)?,
            }
        }
        group.close()?;
        (self.rows, self.text_bytes) = (0, 0);
        Ok(())
    }
}

impl Sink for Parquet {
    fn write(&mut self, rows: Vec<Vec<Cell>>) -> std::result::Result<(), String> {
        for row in rows {
            self.push(row);
            if self.rows >= GROUP_ROWS || self.text_bytes >= GROUP_TEXT_BYTES {
                self.write_group().map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> std::result::Result<(), String> {
        self.write_group().map_err(|error| error.to_string())?;
        let closed = self.out.close();
        closed.map(|_| ()).map_err(|error| error.to_string())
    }
}

fn empty(kind: Kind) -> Gathered {
    match kind {
        Kind::Integer => Gathered::Integer(Levels::default()),
        Kind::Real => Gathered::Real(Levels::default()),
        Kind::Text => Gathered::Text(Levels::default()),
    }
}

fn field(column: &Column) -> Result<Arc<Type>> {
    let (physical, logical) = match column.kind {
        Kind::Integer => (Physical::INT64, None),
        Kind::Real => (Physical::DOUBLE, None),
        Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
    };
    let field = Type::primitive_type_builder(&column.name, physical)
        .with_repetition(Repetition::OPTIONAL)
        .with_logical_type(logical);
    Ok(Arc::new(field.build()?))
}

fn write_column<T: parquet::data_type::DataType>(
    group: &mut SerializedRowGroupWriter<'_, File>,
    from: &mut Levels<T::T>,
) -> Result<()> {
    let mut column = group
        .next_column()?
        .expect("a row group has the columns of its schema");
    column
        .typed::<T>()
        .write_batch(&from.values, Some(&from.there), None)?;
    column.close()?;
    // The room that they took serves the next group.
    from.values.clear();
    from.there.clear();
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::Field;

    use super::*;

    fn columns() -> [Column; 3] {
        [
            ("n", Kind::Integer),
            ("x", Kind::Real),
            ("text", Kind::Text),
        ]
        .map(|(name, kind)| Column {
            name: name.into(),
            kind,
        })
    }

    fn written(file: &Path, chunks: Vec<Vec<Vec<Cell>>>) -> SerializedFileReader<File> {
        let mut sink = Parquet::new(File::create(file).unwrap(), &columns()).unwrap();
        for rows in chunks {
            sink.write(rows).unwrap();
        }
        Box::new(sink).finish().unwrap();
        SerializedFileReader::new(File::open(file).unwrap()).unwrap()
    }

    #[test]
    fn it_is_read_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let row = |n: i64, x: f64, text: &str| {
            vec![Cell::Integer(n), Cell::Real(x), Cell::Text(text.into())]
        };
        let nothing = vec![Cell::Null, Cell::Null, Cell::Null];
        let reader = written(
            &folder.path().join("t.parquet"),
            vec![
                vec![row(i64::MIN, f64::NAN, "é\n"), nothing],
                vec![row(7, f64::INFINITY, "")],
            ],
        );
        let rows: Vec<Vec<Field>> = reader
            .get_row_iter(None)
            .unwrap()
            .map(|row| {
                row.unwrap()
                    .into_columns()
                    .into_iter()
                    .map(|(_, field)| field)
                    .collect()
            })
            .collect();
        assert!(matches!(rows[0][1], Field::Double(x) if x.is_nan()));
        assert_eq!(rows[0][0], Field::Long(i64::MIN));
        assert_eq!(rows[0][2], Field::Str("é\n".into()));
        assert_eq!(rows[1], [Field::Null, Field::Null, Field::Null]);
        assert_eq!(
            rows[2],
            [
                Field::Long(7),
                Field::Double(f64::INFINITY),
                Field::Str(String::new())
            ]
        );
        let names: Vec<_> = reader
            .metadata()
            .file_metadata()
            .schema()
            .get_fields()
            .iter()
            .map(|field| field.name().to_owned())
            .collect();
        assert_eq!(names, ["n", "x", "text"]);
    }

    #[test]
    fn a_long_table_is_several_row_groups_and_an_empty_one_none() {
        let folder = tempfile::tempdir().unwrap();
        let row = |n: usize| vec![Cell::Integer(n as i64), Cell::Null, Cell::Null];
        let chunk = |from: usize| (from..from + 50_000).map(row).collect();
        let reader = written(
            &folder.path().join("long.parquet"),
            vec![chunk(0), chunk(50_000)],
        );
        let groups: Vec<_> = reader
            .metadata()
            .row_groups()
            .iter()
            .map(|group| group.num_rows())
            .collect();
        assert_eq!(groups, [65_536, 34_464]);
        let sum: i64 = reader
            .get_row_iter(None)
            .unwrap()
            .map(|row| match row.unwrap().into_columns()[0].1 {
                Field::Long(n) => n,
                _ => 0,
            })
            .sum();
        assert_eq!(sum, 99_999 * 50_000);
        let text = || vec![Cell::Null, Cell::Null, Cell::Text("x".repeat(20 << 20))];
        let reader = written(
            &folder.path().join("wide.parquet"),
            vec![vec![text(), text(), text()]],
        );
        assert_eq!(reader.metadata().num_row_groups(), 2);
        let reader = written(&folder.path().join("empty.parquet"), vec![]);
        assert_eq!(reader.metadata().num_row_groups(), 0);
    }
}
