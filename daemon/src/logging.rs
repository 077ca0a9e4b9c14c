//! Tracing as text or JSON, to the terminal or a file. RUST_LOG wins over the configured level.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal};
use std::sync::Mutex;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use crate::config::{Log, LogFormat};

/// Begins. Errors: the log's file cannot be opened.
pub fn start(log: &Log) -> io::Result<()> {
    let (writer, colours) = match &log.file {
        Some(path) => (
            BoxMakeWriter::new(Mutex::new(
                OpenOptions::new().create(true).append(true).open(path)?,
            )),
            false,
        ),
        None => (
            BoxMakeWriter::new(io::stderr),
            io::stderr().is_terminal() && log.colour,
        ),
    };
    let filter = log.filter.as_deref().unwrap_or(&log.level);
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(colours)
        .with_target(false);
    let started = match log.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    started.map_err(io::Error::other)
}
