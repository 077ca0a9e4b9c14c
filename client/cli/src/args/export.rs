//! `hookbus export`: which run and tables, as what, and where.

use std::path::PathBuf;

use clap::Args;

use super::StateArgs;

const EXPORT_EXAMPLES: &str = "\
Examples:
  hookbus export digits --csv digits-csv
  hookbus export LAST --parquet out --table samples --table metrics
  duckdb -c \"select name, max(value) from 'out/samples.parquet' group by name\"

A file a table, named after it; nothing is there before all of it is. What is not known is NULL: \
empty in CSV (as an empty text is), null in NDJSON and Parquet. Not-finite numbers are nan, inf and \
-inf in CSV, the strings \"NaN\", \"Infinity\" and \"-Infinity\" in NDJSON, and themselves in Parquet.";

#[derive(Debug, Args)]
#[command(after_help = EXPORT_EXAMPLES)]
pub(crate) struct ExportArgs {
    /// A run's name or id, or LAST for the newest; without it the only run
    #[arg(default_value = "", hide_default_value = true)]
    pub(crate) run: String,

    #[command(flatten)]
    pub(crate) to: ExportTo,

    /// Only this table, and those of further --table
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) table: Vec<String>,

    /// Replace files that are already there
    #[arg(long)]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) state: StateArgs,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct ExportTo {
    /// Write CSV files into this directory, which is made where it is missing
    #[arg(long, value_name = "DIR")]
    pub(crate) csv: Option<PathBuf>,

    /// Write files of one JSON object a line
    #[arg(long, value_name = "DIR")]
    pub(crate) ndjson: Option<PathBuf>,

    /// Write Parquet files, for DuckDB, pandas, polars and Spark
    #[arg(long, value_name = "DIR")]
    pub(crate) parquet: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use crate::args::{Verb, parse};

    #[test]
    fn a_format_is_named_once() {
        let line = [
            "export", "LAST", "--csv", "d", "--table", "a", "--table", "b",
        ];
        let Verb::Export(args) = parse(&line).unwrap().verb else {
            panic!("export")
        };
        assert_eq!((args.run.as_str(), args.force), ("LAST", false));
        assert_eq!(args.table, ["a", "b"]);
        for line in [
            &["export", "LAST"][..],
            &["export", "LAST", "--csv", "a", "--parquet", "b"],
            &["export", "LAST", "--csv", "a", "--table", ""],
        ] {
            assert!(parse(line).is_err(), "{line:?}");
        }
    }
}
