//! `hookbus runs`: one line a run, the newest last, where the eye is. What does not fit a terminal is folded, never cut:
//! an id is there to be copied.

use hookbus_client::inspect::proto::RunSummary;

use crate::args::RunsArgs;
use crate::failure::Failure;
use crate::local_time::{self, LocalTime};
use crate::table::{Table, one_line};
use crate::{format, json, reach, recorded, terminal};

/// More than these are a history: `--all`.
const SHOWN: usize = 20;

/// Prints every run that the daemon knows.
pub(crate) async fn runs(address: &reach::Target, args: RunsArgs) -> Result<u8, Failure> {
    recorded::ask(address, &args.state, async |mut inspector| {
        let runs = inspector.runs().await?;
        if args.output.json {
            terminal::answer_json(&runs.iter().map(json::run).collect())?;
        } else {
            let limit = if args.all { usize::MAX } else { SHOWN };
            let now = LocalTime::of(local_time::now_unix_s());
            terminal::answer(&text(runs, limit, terminal::width(), now))?;
        }
        Ok(0)
    })
    .await
}

fn text(
    mut runs: Vec<RunSummary>,
    limit: usize,
    width: Option<usize>,
    now: Option<LocalTime>,
) -> String {
    if runs.is_empty() {
        return "no run yet: no trainer has attached to this daemon, and none was recorded\n"
            .to_owned();
    }
    // Stable: what a daemon does not date stays in its order.
    runs.sort_by(|a, b| a.started_unix_s.total_cmp(&b.started_unix_s));
    let names: Vec<String> = (0..runs.len()).map(|n| called(&runs, n)).collect();
    let old = runs.len().saturating_sub(limit);
    let shown: Vec<_> = runs
        .iter()
        .zip(&names)
        .enumerate()
        .filter(|(n, (run, _))| *n >= old || is_live(run))
        .map(|(_, both)| both)
        .collect();
    let mut text = String::new();
    let hidden = runs.len() - shown.len();
    if hidden > 0 {
        text = format!("({hidden} older ones: --all)\n");
    }
    let mut table = Table::new(0);
    table.row(["STARTED", "PHASE", "AT", "LOSS", "RUN"]);
    for (run, _) in &shown {
        let started = LocalTime::of(run.started_unix_s);
        table.row([
            &started.map_or("unknown".to_owned(), |at| at.short(now)),
            format::phase(run.phase()),
            &format::short_progress(run),
            &run.loss.map_or("-".to_owned(), format::number),
            // The rest is put behind it, folded as it needs.
            "RUN",
        ]);
    }
    let lines = table.render();
    let mut lines = lines.lines();
    text.push_str(lines.next().unwrap_or_default());
    text.push('\n');
    for (line, (run, name)) in lines.zip(shown) {
        let before = line.strip_suffix("RUN").unwrap_or(line);
        text.push_str(&folded(
            before,
            &one_line(name),
            &one_line(&note(run)),
            width,
        ));
    }
    text
}

/// A trainer of it may be at work.
fn is_live(run: &RunSummary) -> bool {
    !run.archived && run.ended_unix_s.is_none()
}

/// The shortest word that names run `n` to every verb: its name, where it is the newest of that name, else its id.
fn called(runs: &[RunSummary], n: usize) -> String {
    let run = &runs[n];
    let newer = runs[n + 1..].iter().any(|other| other.name == run.name);
    if newer || run.name.is_empty() {
        run.id.clone()
    } else {
        run.name.clone()
    }
}

/// What is out of the ordinary.
fn note(run: &RunSummary) -> String {
    let mut parts = Vec::new();
    // The first is 0.
    if run.attempt > 0 {
        parts.push(format!("attempt {}", run.attempt));
    }
    if is_live(run) && run.connected < run.world_size {
        parts.push(format!(
            "{} of {} ranks connected",
            run.connected, run.world_size
        ));
    }
    if run.incidents > 0 {
        let word = if run.incidents == 1 {
            "incident"
        } else {
            "incidents"
        };
        parts.push(format!("{} open {word}", run.incidents));
    }
    if !run.reason.is_empty() {
        parts.push(run.reason.clone());
    }
    parts.join("; ")
}

/// `before` with name and note behind it, each on the same line where it fits, else on the next.
fn folded(before: &str, name: &str, note: &str, width: Option<usize>) -> String {
    let fits = |text: &str| width.is_none_or(|width| text.chars().count() <= width);
    let mut text = String::new();
    let mut line = before.to_owned() + name;
    if !fits(&line) {
        text = before.trim_end().to_owned() + "\n";
        line = format!("    {name}");
    }
    if !note.is_empty() {
        let longer = format!("{line}  {note}");
        if fits(&longer) {
            line = longer;
        } else {
            text.push_str(&format!("{line}\n"));
            line = format!("    {note}");
        }
    }
    text.push_str(&line);
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use hookbus_client::inspect::proto::{Position, RunPhase};

    use super::*;

    fn run(name: &str, started_unix_s: f64) -> RunSummary {
        RunSummary {
            id: format!("{name}@process-1a2b3c4d-12345-9876543-0"),
            name: name.into(),
            started_unix_s,
            attempt: 0,
            phase: RunPhase::Finished.into(),
            archived: true,
            max_epochs: Some(10),
            position: Some(Position {
                epoch: 3,
                ..Default::default()
            }),
            loss: Some(0.25),
            ..Default::default()
        }
    }

    #[test]
    fn a_run_is_one_line_and_no_run_says_so() {
        assert!(text(vec![], 20, None, None).starts_with("no run yet"));
        let mut one = run("digits", 0.0);
        one.loss = Some(f64::NAN);
        one.reason = "a\nb".into();
        one.attempt = 3;
        assert_eq!(
            text(vec![one], 20, None, None),
            "STARTED  PHASE     AT          LOSS  RUN\n\
             unknown  finished  epoch 3/10  nan   digits  attempt 3; a b\n"
        );
    }

    #[test]
    fn the_newest_are_shown_last_and_the_live_ones_always() {
        let mut live = run("live", 1_000.0);
        (live.archived, live.connected, live.world_size) = (false, 1, 2);
        let mut runs: Vec<_> = (0..30)
            .map(|n| run("digits", 100_000.0 + f64::from(n)))
            .collect();
        runs.insert(7, live);
        let shown = text(runs.clone(), 20, None, None);
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(lines[0], "(10 older ones: --all)");
        assert!(
            lines[2].ends_with("live  1 of 2 ranks connected"),
            "{shown}"
        );
        assert_eq!(lines.len(), 2 + 1 + 20);
        // Only the newest of a name is meant by it.
        assert!(lines[22].ends_with("  digits"), "{shown}");
        assert!(lines[21].ends_with("  digits@process-1a2b3c4d-12345-9876543-0"));
        assert_eq!(text(runs, usize::MAX, None, None).lines().count(), 1 + 31);
    }

    #[test]
    fn at_80_columns_it_is_folded_and_nothing_is_lost() {
        let mut long = run("a-rather-long-name", 0.0);
        long.reason = "loss is nan at epoch 3 iter 12345, said CheckInvalidLossHook".into();
        long.incidents = 1;
        let shown = text(
            vec![long, run("digits", 0.0), run("digits", 0.0)],
            20,
            Some(80),
            None,
        );
        assert_eq!(
            shown,
            "STARTED  PHASE     AT          LOSS    RUN\n\
             unknown  finished  epoch 3/10  0.2500  a-rather-long-name\n\
             \x20   1 open incident; loss is nan at epoch 3 iter 12345, said CheckInvalidLossHook\n\
             unknown  finished  epoch 3/10  0.2500  digits@process-1a2b3c4d-12345-9876543-0\n\
             unknown  finished  epoch 3/10  0.2500  digits\n"
        );
        assert_eq!(
            folded("a  ", "a-name", "", Some(8)),
            "a\n    a-name\n",
            "an id is never cut"
        );
    }
}
