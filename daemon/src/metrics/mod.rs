//! The Prometheus text, made anew from the newest snapshots at each scrape. What is not known is absent.
//!
//! Labels are `run` (name@launch), `rank`, `role`, `kind` and the like, never a pid or a UUID: words that change with each start
//! are in the `_info` families, to join on.

mod machine;
mod page;
mod runs;
mod text_format;
mod trainers;

use std::fmt;
use std::sync::Arc;

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
) -> Result<(&'static str, String), fmt::Error> {
    let mut page = Page::default();
    machine::build(&mut page);
    machine::host(&mut page, live);
    machine::gpus(&mut page, live);
    machine::probes(&mut page, &live.costs());
    if let Some(counts) = journal {
        machine::journal(&mut page, counts);
    }
    for run in runs {
        runs::run(&mut page, run);
        trainers::run(&mut page, run, live);
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
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_absent() {
        let (kind, text) = text(&[], &Live::default(), None, OPENMETRICS).expect("text");
        assert_eq!(kind, OPENMETRICS);
        assert!(text.contains("hookbus_build_info{version="), "{text}");
        assert!(
            !text.contains("hookbus_host_memory"),
            "nothing was sampled yet: {text}"
        );
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn who_does_not_ask_for_openmetrics_gets_the_older_text() {
        let (kind, text) = text(&[], &Live::default(), None, "*/*").expect("text");
        assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
        assert!(!text.contains("# EOF"), "{text}");
    }
}
