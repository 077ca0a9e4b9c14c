//! The Prometheus text, made anew from the newest snapshots at each scrape. What is not known is absent.
//!
//! Labels are `run` (name@launch), `rank`, `role`, `kind` and the like, never a pid or a UUID: words that change with each start
//! are in the `_info` families, to join on.

mod ages;
mod machine;
mod page;
mod runs;
mod text_format;
mod trainers;

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use crate::snapshot::RunSnapshot;
use crate::store::Live;
use crate::store::journal::Counts;
use page::Page;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The whole text and its type, as a scraper's Accept asks for it. Errors: formatting failed, which it does not.
pub fn text(
    runs: &[Arc<RunSnapshot>],
    live: &Live,
    journal: Option<Counts>,
    accept: &str,
    now: Instant,
) -> Result<(&'static str, String), fmt::Error> {
    let mut page = Page::default();
    machine::build(&mut page);
    machine::host(&mut page, live);
    let gpus = ages::gpus(live, now);
    machine::gpus(&mut page, &gpus);
    ages::machine(&mut page, live, now);
    machine::probes(&mut page, &live.costs());
    if let Some(counts) = journal {
        machine::journal(&mut page, counts);
    }
    for run in runs {
        runs::run(&mut page, run);
        trainers::run(&mut page, run, live, &gpus, now);
    }
    let mut registry = Registry::with_prefix("hookbus");
    registry.register_collector(Box::new(page));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(if accept.contains("application/openmetrics-text") {
        (OPENMETRICS, text)
    } else {
        (
            text_format::CONTENT_TYPE,
            text_format::from_openmetrics(&text),
        )
    })
}

#[cfg(test)]
mod tests;
