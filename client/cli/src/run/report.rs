//! The few lines at the end of `hookbus run`: what happened to each run, and why it ended.

use std::collections::BTreeMap;
use std::fmt::Write;

use hookbus_client::inspect::proto::{Outcome, RankResult};

use super::observer::Seen;
use crate::format;
use crate::show;
use crate::table::one_line;
use crate::terminal::Style;

/// The report; `recorded`: it can be read again; `daemon_gone` is how the daemon ended and its last words, where it ended
/// before the command.
pub(crate) fn text(
    seen: &BTreeMap<String, Seen>,
    recorded: bool,
    daemon_gone: Option<&str>,
    style: Style,
) -> String {
    let mut text = String::new();
    if let Some(how) = daemon_gone {
        let mut lines = how.lines();
        let first = lines.next().unwrap_or_default();
        let _ = writeln!(
            text,
            "the daemon died during the training ({first}); the training went on without it"
        );
        for line in lines {
            let _ = writeln!(text, "  {}", one_line(line));
        }
        if !seen.is_empty() {
            text.push_str("what was last seen before that:\n");
        }
    }
    for (id, seen) in seen {
        run(&mut text, id, seen, style);
    }
    if seen.is_empty() && daemon_gone.is_none() {
        text.push_str(
            "no trainer attached to the daemon: does the command call hookbus.attach()?\n",
        );
    }
    match seen.len() {
        1 if recorded => text.push_str("to read it again: hookbus show LAST\n"),
        2.. if recorded => text.push_str("to read them again: hookbus runs\n"),
        _ => {}
    }
    text
}

fn run(text: &mut String, id: &str, seen: &Seen, style: Style) {
    let snapshot = &seen.snapshot;
    let Some(run) = &snapshot.run else { return };
    let phase = format::phase(run.phase());
    let _ = writeln!(
        text,
        "{}: {phase} at {}",
        style.bold(&one_line(id)),
        format::progress(run)
    );
    if !run.reason.is_empty() {
        let _ = writeln!(text, "  why: {}", one_line(&run.reason));
    }
    for line in stops(&snapshot.results) {
        let _ = writeln!(text, "  {line}");
    }
    let loss = run
        .loss
        .map_or("unknown: none was reported".to_owned(), format::number);
    let peak = seen
        .peak_bytes
        .map_or("unknown: never sampled".to_owned(), format::bytes);
    let _ = writeln!(
        text,
        "  last loss {loss}; highest memory seen {peak} (trainer and children, resident)"
    );
    for rank in snapshot.ranks.iter().filter(|rank| rank.dropped > 0) {
        let _ = writeln!(
            text,
            "  rank {} dropped {} events: {}",
            rank.rank,
            rank.dropped,
            show::drops(rank)
        );
    }
    for refused in &snapshot.refused {
        let _ = writeln!(
            text,
            "  refused: {}: {}",
            one_line(&refused.what),
            one_line(&refused.reason)
        );
    }
    for hook in snapshot
        .hooks
        .iter()
        .filter(|hook| !hook.disabled.is_empty())
    {
        let _ = writeln!(
            text,
            "  hook {} was switched off: {}",
            one_line(&hook.name),
            one_line(&hook.disabled)
        );
    }
    for incident in &snapshot.incidents {
        let _ = writeln!(text, "  incident: {}", show::incident_line(incident, style));
    }
}

/// Who stopped it and where: one line for all ranks that did the same at the same place.
fn stops(results: &[RankResult]) -> Vec<String> {
    let mut lines: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for result in results.iter().filter(|result| result.what.contains("stop")) {
        let Some(said) = result.result.as_ref() else {
            continue;
        };
        let (by, what) = (one_line(&result.by), one_line(&result.what));
        let line = if said.outcome() == Outcome::Applied {
            format!("{what} by {by} at {}", format::position(said.at.as_ref()))
        } else {
            format!("{what} by {by}: {}", show::outcome(Some(said)))
        };
        lines.entry(line).or_default().push(result.rank);
    }
    let count = |ranks: &[u32]| {
        if ranks.len() == 1 {
            format!("rank {}", ranks[0])
        } else {
            format!("{} ranks", ranks.len())
        }
    };
    lines
        .into_iter()
        .map(|(line, ranks)| format!("{line} ({})", count(&ranks)))
        .collect()
}

#[cfg(test)]
mod tests {
    use hookbus_client::inspect::proto::{
        self, Position, Rank, Refused, RunPhase, RunSummary, SnapshotReply,
    };

    use super::*;

    fn stopped() -> BTreeMap<String, Seen> {
        let at = Some(Position {
            epoch: 0,
            iter: 49,
            inner_iter: 49,
        });
        let result = proto::Result {
            outcome: Outcome::Applied.into(),
            at,
            ..Default::default()
        };
        let stop = |rank| RankResult {
            rank,
            what: "stop".into(),
            by: "CheckInvalidLossHook".into(),
            result: Some(result.clone()),
            age_s: 0.1,
        };
        let snapshot = SnapshotReply {
            run: Some(RunSummary {
                phase: RunPhase::Stopped.into(),
                position: at,
                reason: "loss is nan".into(),
                loss: Some(f64::NAN),
                ..Default::default()
            }),
            ranks: vec![Rank {
                dropped: 2,
                dropped_points: [("before_iter".to_owned(), 2)].into(),
                ..Default::default()
            }],
            results: vec![stop(0), stop(1)],
            refused: vec![Refused {
                what: "hook X".into(),
                reason: "not known".into(),
                rank: 0,
            }],
            ..Default::default()
        };
        [(
            "digits@1".to_owned(),
            Seen {
                snapshot,
                peak_bytes: Some(1.5 * 1024.0 * 1024.0),
            },
        )]
        .into()
    }

    #[test]
    fn a_stopped_run_says_who_where_and_why() {
        let text = text(&stopped(), false, None, Style::plain());
        let wanted = "\
digits@1: stopped at epoch 0 iter 49
  why: loss is nan
  stop by CheckInvalidLossHook at epoch 0 iter 49 (2 ranks)
  last loss nan; highest memory seen 1.5 MiB (trainer and children, resident)
  rank 0 dropped 2 events: before_iter 2
  refused: hook X: not known
";
        assert_eq!(text, wanted);
    }

    #[test]
    fn what_was_recorded_can_be_read_again() {
        let mut seen = stopped();
        let one = text(&seen, true, None, Style::plain());
        assert!(
            one.ends_with("\nto read it again: hookbus show LAST\n"),
            "{one}"
        );
        seen.append(
            &mut stopped()
                .into_values()
                .map(|one| ("b@2".to_owned(), one))
                .collect(),
        );
        let two = text(&seen, true, None, Style::plain());
        assert!(
            two.ends_with("\nto read them again: hookbus runs\n"),
            "{two}"
        );
    }

    #[test]
    fn a_dead_daemon_is_told_with_its_last_words() {
        let text = text(
            &stopped(),
            true,
            Some("signal: 9 (SIGKILL)\nlast line"),
            Style::plain(),
        );
        assert!(
            text.starts_with("the daemon died during the training (signal: 9 (SIGKILL));"),
            "{text}"
        );
        assert!(
            text.contains("  last line\nwhat was last seen before that:\ndigits@1"),
            "{text}"
        );
    }

    #[test]
    fn a_command_that_never_attached_hears_so() {
        assert!(
            text(&BTreeMap::new(), true, None, Style::plain()).starts_with("no trainer attached")
        );
    }
}
