//! `hookbus runs`: one line a run.

use hookbus_client::inspect::proto::RunSummary;

use crate::args::RunsArgs;
use crate::failure::Failure;
use crate::table::Table;
use crate::{format, json, reach, recorded, terminal};

/// Prints every run that the daemon knows.
pub(crate) async fn runs(address: &reach::Target, args: RunsArgs) -> Result<u8, Failure> {
    recorded::ask(address, &args.state, async |mut inspector| {
        let runs = inspector.runs().await?;
        if args.output.json {
            terminal::answer_json(&runs.iter().map(json::run).collect())?;
        } else {
            terminal::answer(&text(&runs))?;
        }
        Ok(0)
    })
    .await
}

fn text(runs: &[RunSummary]) -> String {
    if runs.is_empty() {
        return "no run yet: no trainer has attached to this daemon\n".to_owned();
    }
    let mut table = Table::new(0);
    table.row([
        "RUN",
        "ATTEMPT",
        "PHASE",
        "RANKS",
        "POSITION",
        "LOSS",
        "AGE",
        "INCIDENTS",
        "REASON",
    ]);
    for run in runs {
        table.row([
            &run.id,
            &run.attempt.to_string(),
            format::phase(run.phase()),
            &format!("{}/{}", run.connected, run.world_size),
            &format::progress(run),
            &run.loss.map_or("-".to_owned(), format::number),
            &format::age(run.age_s),
            &run.incidents.to_string(),
            &run.reason,
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_one_line_and_no_run_says_so() {
        assert!(text(&[]).starts_with("no run yet"));
        let run = RunSummary {
            id: "digits@1".into(),
            loss: Some(f64::NAN),
            reason: "a\nb".into(),
            ..Default::default()
        };
        let text = text(&[run]);
        assert_eq!(text.lines().count(), 2);
        assert!(
            text.contains("digits@1") && text.contains("nan") && text.contains("a b"),
            "{text}"
        );
    }
}
