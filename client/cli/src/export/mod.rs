//! `hookbus export RUN`: a run's journal as files of other tools, a file a table.
//!
//! All of it is there, or none: tables are written under names that no tool takes for whole, and get their own when the
//! last one is through.
//!
//! | file | idea |
//! |---|---|
//! | `part` | a file that is not there yet |
//! | `csv`, `ndjson`, `parquet` | one format each |

mod csv;
pub(crate) mod ndjson;
mod parquet;
mod part;

use std::path::Path;

use hookbus_client::inspect::Inspector;
use hookbus_client::inspect::proto::RowsReply;

use crate::args::ExportArgs;
use crate::failure::Failure;
use crate::rows::{self, Cell, Column, wrong};
use crate::table::Table;
use crate::{reach, recorded, terminal};
use part::Part;

/// What a file is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Csv,
    Ndjson,
    Parquet,
}

impl Format {
    fn extension(self) -> &'static str {
        match self {
            Format::Csv => "csv",
            Format::Ndjson => "ndjson",
            Format::Parquet => "parquet",
        }
    }
}

/// One table's file in its format. Nothing is complete before `finish`.
trait Sink: Send {
    fn write(&mut self, rows: Vec<Vec<Cell>>) -> Result<(), String>;
    fn finish(self: Box<Self>) -> Result<(), String>;
}

/// Writes the files, and says what is in them.
pub(crate) async fn export(address: &reach::Target, args: ExportArgs) -> Result<u8, Failure> {
    recorded::ask(address, &args.state, async |inspector| {
        let text = write(inspector, &args).await?;
        terminal::answer(&text)?;
        Ok(0)
    })
    .await
}

async fn write(mut inspector: Inspector, args: &ExportArgs) -> Result<String, Failure> {
    let (format, folder) = place(args);
    let mut export = Export {
        format,
        folder,
        force: args.force,
        open: None,
        done: Vec::new(),
    };
    let every = [String::new()];
    let tables = if args.table.is_empty() {
        &every[..]
    } else {
        &args.table[..]
    };
    for table in tables {
        let mut replies = inspector.rows(&args.run, table, None).await?;
        while let Some(reply) = replies.next().await? {
            export.take(reply)?;
        }
        export.close()?;
    }
    export.publish()
}

fn place(args: &ExportArgs) -> (Format, &Path) {
    let to = &args.to;
    let named = [
        (Format::Csv, &to.csv),
        (Format::Ndjson, &to.ndjson),
        (Format::Parquet, &to.parquet),
    ];
    named
        .into_iter()
        .find_map(|(format, folder)| Some((format, folder.as_deref()?)))
        .expect("the command line has exactly one of them")
}

/// The table that is being written. Its directory is made with the first one: not for a run that is not there.
struct Open {
    name: String,
    columns: Vec<Column>,
    rows: u64,
    part: Part,
    sink: Box<dyn Sink>,
}

/// A table that is whole, and has not got its name yet.
struct Done {
    name: String,
    rows: u64,
    part: Part,
}

struct Export<'a> {
    format: Format,
    folder: &'a Path,
    force: bool,
    open: Option<Open>,
    done: Vec<Done>,
}

impl Export<'_> {
    fn take(&mut self, reply: RowsReply) -> Result<(), Failure> {
        if self
            .open
            .as_ref()
            .is_none_or(|open| open.name != reply.table)
        {
            self.close()?;
            self.begin(&reply)?;
        }
        let open = self.open.as_mut().expect("it was just begun");
        let rows =
            rows::checked(&open.columns, reply.rows).map_err(|why| wrong(&open.name, &why))?;
        open.rows += rows.len() as u64;
        let file = open.part.file().display();
        open.sink
            .write(rows)
            .map_err(|why| Failure::failed(format!("cannot write {file}: {why}")))
    }

    fn begin(&mut self, reply: &RowsReply) -> Result<(), Failure> {
        let name = reply.table.clone();
        // It becomes a file's name, and the daemon may be another machine's.
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(plain) {
            let why = "this is no name of a table";
            return Err(wrong(&name, why));
        }
        if self.done.iter().any(|done| done.name == name) {
            return Err(wrong(&name, "it came twice"));
        }
        let columns = rows::columns(&reply.columns).map_err(|why| wrong(&name, &why))?;
        let file = self
            .folder
            .join(format!("{name}.{}", self.format.extension()));
        let part = Part::create(file, self.force)?;
        let out = part.open()?;
        let sink: Result<Box<dyn Sink>, String> = match self.format {
            Format::Csv => csv::Csv::new(out, &columns).map(|sink| Box::new(sink) as _),
            Format::Ndjson => Ok(Box::new(ndjson::Ndjson::new(out, &columns))),
            Format::Parquet => parquet::Parquet::new(out, &columns).map(|sink| Box::new(sink) as _),
        };
        let sink = sink.map_err(|why| part.failed(&why))?;
        self.open = Some(Open {
            name,
            columns,
            rows: 0,
            part,
            sink,
        });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Failure> {
        if let Some(open) = self.open.take() {
            open.sink.finish().map_err(|why| open.part.failed(&why))?;
            self.done.push(Done {
                name: open.name,
                rows: open.rows,
                part: open.part,
            });
        }
        Ok(())
    }

    /// Gives every file its name. The text has a line for each.
    fn publish(self) -> Result<String, Failure> {
        if self.done.is_empty() {
            return Err(Failure::failed("the daemon sent no table: nothing written"));
        }
        let mut table = Table::new(0);
        table.row(["TABLE", "ROWS", "FILE"]);
        for done in self.done {
            let file = done.part.publish()?;
            table.row([
                &done.name,
                &done.rows.to_string(),
                &file.display().to_string(),
            ]);
        }
        Ok(table.render())
    }
}

#[cfg(test)]
mod tests {
    use hookbus_client::inspect::proto;

    use super::*;

    fn reply(table: &str, columns: &[(&str, &str)], rows: Vec<proto::Row>) -> RowsReply {
        let column = |&(name, kind): &(&str, &str)| proto::Column {
            name: name.into(),
            r#type: kind.into(),
        };
        RowsReply {
            table: table.into(),
            columns: columns.iter().map(column).collect(),
            rows,
        }
    }

    fn row(cells: &[Option<i64>]) -> proto::Row {
        let cell = |value: &Option<i64>| proto::Cell {
            value: value.map(proto::cell::Value::Integer),
        };
        proto::Row {
            cells: cells.iter().map(cell).collect(),
        }
    }

    fn to(folder: &Path, force: bool) -> Export<'_> {
        Export {
            format: Format::Csv,
            folder,
            force,
            open: None,
            done: Vec::new(),
        }
    }

    fn files(folder: &Path) -> Vec<String> {
        let name =
            |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name().into_string();
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| name(entry).unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn chunks_of_a_table_are_one_file_and_the_next_table_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let mut export = to(folder.path(), false);
        let columns = [("n", "INTEGER")];
        export
            .take(reply("runs", &columns, vec![row(&[Some(1)])]))
            .unwrap();
        export
            .take(reply("runs", &[], vec![row(&[None]), row(&[Some(3)])]))
            .unwrap();
        export.take(reply("events", &columns, vec![])).unwrap();
        export.close().unwrap();
        assert!(
            files(folder.path())
                .iter()
                .all(|name| name.ends_with(".part"))
        );
        let text = export.publish().unwrap();
        assert_eq!(files(folder.path()), ["events.csv", "runs.csv"]);
        assert!(text.contains("runs    3     /"), "{text}");
        let written = std::fs::read_to_string(folder.path().join("runs.csv")).unwrap();
        assert_eq!(written, "n\n1\n\"\"\n3\n");
    }

    #[test]
    fn a_broken_export_leaves_nothing_and_an_old_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let old = folder.path().join("b.csv");
        std::fs::write(&old, "mine").unwrap();
        let columns = [("n", "INTEGER")];
        let mut export = to(folder.path(), false);
        export
            .take(reply("a", &columns, vec![row(&[Some(1)])]))
            .unwrap();
        let refused = export.take(reply("b", &columns, vec![])).unwrap_err();
        assert!(refused.text.contains("--force"), "{}", refused.text);
        drop(export);
        assert_eq!(files(folder.path()), ["b.csv"]);
        assert_eq!(std::fs::read_to_string(&old).unwrap(), "mine");
        let mut export = to(folder.path(), true);
        export.take(reply("b", &columns, vec![])).unwrap();
        export.close().unwrap();
        export.publish().unwrap();
        assert_eq!(std::fs::read_to_string(&old).unwrap(), "n\n");
    }

    #[test]
    fn what_is_no_table_is_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let columns = [("n", "INTEGER")];
        let table = [
            (
                reply("../../etc/passwd", &columns, vec![]),
                "no name of a table",
            ),
            (reply("", &columns, vec![]), "no name of a table"),
            (reply("a", &[], vec![]), "it has no columns"),
            (
                reply("a", &[("n", "BLOB")], vec![]),
                "column \"n\" is of type \"BLOB\"",
            ),
            (
                reply("a", &columns, vec![row(&[Some(1), None])]),
                "a row has 2 cells for 1 column",
            ),
        ];
        for (reply, words) in table {
            let failure = to(folder.path(), false).take(reply).unwrap_err();
            assert!(failure.text.contains(words), "{}", failure.text);
            assert_eq!(failure.text.lines().count(), 1);
        }
        assert!(files(folder.path()).is_empty());
    }
}
