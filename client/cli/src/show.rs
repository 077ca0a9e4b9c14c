//! `hookbus show`: one run, as a page for a person. Sections with nothing in them are left out, but for ranks and hooks;
//! of a run that is over, so is what only a live one has.

use std::fmt::Write;

use hookbus_client::inspect::proto::{
    Attempt, HookStatus, Incident, Rank, RankResult, RunSummary, SnapshotReply,
};

use crate::args::ShowArgs;
use crate::failure::Failure;
use crate::table::{Table, one_line};
use crate::terminal::Style;
use crate::{format, json, local_time, reach, recorded, terminal};

/// Log lines on the page, the newest; they are long.
const SHOWN_LOGS: usize = 6;

/// Prints one run.
pub(crate) async fn show(address: &reach::Target, args: ShowArgs) -> Result<u8, Failure> {
    recorded::ask(address, &args.state, async |mut inspector| {
        let reply = inspector.snapshot(&args.run).await?;
        if args.output.json {
            terminal::answer_json(&json::snapshot(&reply))?;
        } else {
            terminal::answer(&text(&reply, Style::stdout()))?;
        }
        Ok(0)
    })
    .await
}

fn text(reply: &SnapshotReply, style: Style) -> String {
    let Some(run) = &reply.run else {
        return "no run yet: no trainer has attached to this daemon\n".to_owned();
    };
    let mut page = heading(run, style);
    let over = has_ended(run);
    let mut section = |title: &str, body: String| {
        if !body.is_empty() {
            // A String takes whatever is written to it.
            let _ = write!(page, "\n{}\n{body}", style.bold(title));
        }
    };
    section("attempts", attempts(&reply.attempts));
    section("ranks", ranks(&reply.ranks, over));
    section("rank notes", rank_notes(&reply.ranks));
    section("last values", last_values(&reply.ranks));
    section("hooks", hooks(reply, over));
    section("refused", refused(reply));
    let title = if over {
        "was wanted of the training"
    } else {
        "wanted of the training"
    };
    section(title, wanted(reply));
    section("results", results(&reply.results));
    section("incidents", incidents(&reply.incidents, style));
    section("log lines sent to the trainer", logs(reply));
    page
}

/// Nothing of it is live any more.
pub(crate) fn has_ended(run: &RunSummary) -> bool {
    run.archived || run.ended_unix_s.is_some()
}

fn heading(run: &RunSummary, style: Style) -> String {
    let phase = format::phase(run.phase());
    let mut text = format!(
        "{}: {phase}, attempt {}, ",
        style.bold(&one_line(&run.id)),
        run.attempt
    );
    let progress = format::progress(run);
    if has_ended(run) {
        let _ = writeln!(text, "{progress}, {}", ran(run));
    } else {
        let _ = write!(
            text,
            "{} of {} ranks connected, ",
            run.connected, run.world_size
        );
        let _ = writeln!(text, "{progress}, since {}", format::age(run.age_s));
    }
    if !run.reason.is_empty() {
        let _ = writeln!(text, "reason: {}", one_line(&run.reason));
    }
    if run.archived {
        let _ = writeln!(text, "{}", recorded(run));
    }
    text
}

fn ran(run: &RunSummary) -> String {
    match run.ended_unix_s {
        Some(ended) => format!("ran {}", format::age(ended - run.started_unix_s)),
        None => "its end was not recorded".to_owned(),
    }
}

fn recorded(run: &RunSummary) -> String {
    match run.ended_unix_s {
        Some(ended) => format!(
            "recorded {}; nothing of it is live",
            local_time::span(run.started_unix_s, ended)
        ),
        // It may be another daemon's, whose journal is only read here.
        None => format!(
            "recorded from {} on; no end of it was recorded: its daemon died, or is another one than was asked here",
            local_time::date_time(run.started_unix_s)
        ),
    }
}

/// Every start, where there was more than one.
fn attempts(attempts: &[Attempt]) -> String {
    if attempts.len() < 2 {
        return String::new();
    }
    let mut table = Table::new(2);
    table.row(["ATTEMPT", "PHASE", "STARTED", "RAN", "REACHED", "REASON"]);
    for attempt in attempts {
        let ran = match attempt.ended_unix_s {
            Some(ended) => format::age(ended - attempt.started_unix_s),
            None => "-".to_owned(),
        };
        table.row([
            &attempt.attempt.to_string(),
            format::phase(attempt.phase()),
            &local_time::date_time(attempt.started_unix_s),
            &ran,
            &format::position(attempt.position.as_ref()),
            &attempt.reason,
        ]);
    }
    table.render()
}

/// A line each. `over`: what is true of a connection only is left out, for there is none.
fn ranks(ranks: &[Rank], over: bool) -> String {
    if ranks.is_empty() {
        let none = if over { "was recorded" } else { "has attached" };
        return format!("  none {none}\n");
    }
    let mut table = Table::new(2);
    let mut add = |cells: [&str; 11]| {
        let [
            rank,
            node,
            pid,
            state,
            position,
            point,
            step,
            heard,
            events,
            dropped,
            gates,
        ] = cells;
        if over {
            table.row([rank, node, position, point, step, events, dropped, gates]);
        } else {
            table.row([
                rank, node, pid, state, position, point, step, heard, events, dropped, gates,
            ]);
        }
    };
    add([
        "RANK",
        "NODE",
        "PID",
        "STATE",
        "POSITION",
        "LAST POINT",
        "STEP",
        "HEARD",
        "EVENTS",
        "DROPPED",
        "GATES",
    ]);
    for rank in ranks {
        add([
            &rank.rank.to_string(),
            &rank.node,
            &if rank.pid == 0 {
                "unknown".to_owned()
            } else {
                rank.pid.to_string()
            },
            if rank.connected { "connected" } else { "gone" },
            &format::position(rank.position.as_ref()),
            &rank.point,
            &rank.step_s.map_or("-".to_owned(), format::short),
            &format!("{} ago", format::age(rank.last_heard_s)),
            &rank.events.to_string(),
            &rank.dropped.to_string(),
            &rank.gates.to_string(),
        ]);
    }
    table.render()
}

/// What a rank has beside its line: drops per point, gates that were not answered, how it ended.
fn rank_notes(ranks: &[Rank]) -> String {
    let mut text = String::new();
    for rank in ranks {
        let number = rank.rank;
        if rank.dropped > 0 {
            let _ = writeln!(
                text,
                "  rank {number} dropped {} events: {}",
                rank.dropped,
                drops(rank)
            );
        }
        if rank.gate_timeouts > 0 || rank.breaker_open {
            let breaker = if rank.breaker_open {
                "; the breaker is open: gates answer by their `otherwise`"
            } else {
                ""
            };
            let waited = format::short(rank.gate_wait_s);
            let _ = writeln!(
                text,
                "  rank {number} had {} gate timeouts, waited {waited}{breaker}",
                rank.gate_timeouts
            );
        }
        if !rank.reason.is_empty() {
            let _ = writeln!(text, "  rank {number} ended: {}", one_line(&rank.reason));
        }
    }
    text
}

/// Dropped events per point, the most first.
pub(crate) fn drops(rank: &Rank) -> String {
    let mut points: Vec<_> = rank.dropped_points.iter().collect();
    points.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let points: Vec<_> = points
        .iter()
        .map(|(point, count)| format!("{} {count}", one_line(point)))
        .collect();
    if points.is_empty() {
        "points unknown: the client has not said".to_owned()
    } else {
        points.join(", ")
    }
}

fn last_values(ranks: &[Rank]) -> String {
    let mut text = String::new();
    for rank in ranks.iter().filter(|rank| !rank.last.is_empty()) {
        let mut values: Vec<_> = rank.last.iter().collect();
        values.sort_by(|a, b| a.0.cmp(b.0));
        let values: Vec<_> = values
            .iter()
            .map(|(name, value)| format!("{} {}", one_line(name), format::number(**value)))
            .collect();
        let _ = writeln!(text, "  rank {}: {}", rank.rank, values.join(", "));
    }
    text
}

fn hooks(reply: &SnapshotReply, over: bool) -> String {
    if reply.hooks.is_empty() && over {
        return "  none was recorded\n".to_owned();
    }
    if reply.hooks.is_empty() {
        return "  none: the daemon records and samples only\n".to_owned();
    }
    let mut table = Table::new(2);
    table.row([
        "HOOK",
        "FROM",
        "POLICY",
        "CALLS",
        "DECISIONS",
        "ARGUMENTS",
        "",
    ]);
    for hook in &reply.hooks {
        let mut args: Vec<_> = hook
            .args
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        args.sort();
        let name = if hook.name == hook.r#type {
            hook.name.clone()
        } else {
            format!("{} ({})", hook.name, hook.r#type)
        };
        let notes = notes(hook);
        let (calls, decisions) = (hook.calls.to_string(), hook.decisions.to_string());
        table.row([
            &name,
            &hook.origin,
            &hook.policy,
            &calls,
            &decisions,
            &args.join(" "),
            &notes,
        ]);
    }
    table.render()
}

/// What is not as it is with most hooks.
fn notes(hook: &HookStatus) -> String {
    let said = |what: &str, text: &str| {
        let text = one_line(text);
        (!text.is_empty()).then(|| format!("{what}{text}"))
    };
    let counted = |count: u64, one: &str, more: &str| {
        let what = if count == 1 { one } else { more };
        (count > 0).then(|| format!("{count} {what}"))
    };
    // Of one in another process it says how far away it is.
    let each_s = hook.time_s / hook.calls.max(1) as f64;
    let takes = !hook.module.is_empty() && hook.time_s > 0.0;
    [
        said("switched off: ", &hook.disabled),
        said("away: ", &hook.away),
        said("of module ", &hook.module),
        takes.then(|| format!("{:.1} ms a call", each_s * 1e3)),
        counted(hook.errors, "error", "errors"),
        counted(hook.timeouts, "timeout", "timeouts"),
        counted(hook.missed, "missed", "missed"),
        counted(hook.overruled, "overruled", "overruled"),
        counted(hook.withheld, "withheld", "withheld"),
        said("last: ", &hook.last_withheld),
    ]
    .into_iter()
    .flatten()
    .collect::<Vec<_>>()
    .join("; ")
}

fn refused(reply: &SnapshotReply) -> String {
    let mut text = String::new();
    for refused in &reply.refused {
        let (what, reason) = (one_line(&refused.what), one_line(&refused.reason));
        let _ = writeln!(text, "  rank {}: {what}: {reason}", refused.rank);
    }
    text
}

fn wanted(reply: &SnapshotReply) -> String {
    let mut text = String::new();
    for wanted in &reply.wanted {
        let (words, by) = (one_line(&wanted.text), one_line(&wanted.by));
        let _ = writeln!(text, "  {}: {words} (by {by})", wanted.field);
    }
    text
}

fn results(results: &[RankResult]) -> String {
    let mut text = String::new();
    for result in results {
        let (what, by) = (one_line(&result.what), one_line(&result.by));
        let said = outcome(result.result.as_ref());
        let ago = format::age(result.age_s);
        let _ = writeln!(
            text,
            "  rank {}: {what} by {by}: {said} ({ago} ago)",
            result.rank
        );
    }
    text
}

/// What one rank did, in one line: outcome, place, values and reason as far as they are there.
pub(crate) fn outcome(result: Option<&hookbus_client::inspect::proto::Result>) -> String {
    let Some(result) = result else {
        return "no result".to_owned();
    };
    let mut text = json::outcome(result.outcome()).to_owned();
    if result.at.is_some() {
        let _ = write!(text, " at {}", format::position(result.at.as_ref()));
    }
    if !result.point.is_empty() {
        let _ = write!(text, ", {}", one_line(&result.point));
    }
    if let Some(new) = &result.new {
        let old = result.old.as_deref().unwrap_or("-");
        let _ = write!(text, ", {} -> {}", one_line(old), one_line(new));
    }
    if !result.reason.is_empty() {
        let _ = write!(text, ": {}", one_line(&result.reason));
    }
    text
}

fn incidents(incidents: &[Incident], style: Style) -> String {
    let mut text = String::new();
    for incident in incidents {
        let _ = writeln!(text, "  {}", incident_line(incident, style));
    }
    text
}

/// One incident in one line; an open one stands out.
pub(crate) fn incident_line(incident: &Incident, style: Style) -> String {
    let state = if incident.open {
        style.alert("open")
    } else {
        "closed".to_owned()
    };
    let rank = incident
        .rank
        .map_or(String::new(), |rank| format!(" rank {rank}"));
    let at = incident.at.map_or(String::new(), |at| {
        format!(" at {}", format::position(Some(&at)))
    });
    let (kind, words) = (one_line(&incident.kind), one_line(&incident.text));
    format!(
        "{state} {kind}{rank}{at}: {words} ({} ago)",
        format::age(incident.age_s)
    )
}

fn logs(reply: &SnapshotReply) -> String {
    let mut text = String::new();
    let older = reply.logs.len().saturating_sub(SHOWN_LOGS);
    if older > 0 {
        let _ = writeln!(text, "  ({older} older ones: --json)");
    }
    for log in &reply.logs[older..] {
        let (by, words) = (one_line(&log.by), one_line(&log.text));
        let _ = writeln!(
            text,
            "  rank {} {} {by}: {words}",
            log.rank,
            format::position(log.at.as_ref())
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use hookbus_client::inspect::proto::{self, LogSeen, Position, Refused, RunPhase};

    use super::*;

    #[test]
    fn a_page_shows_what_went_wrong() {
        let at = Some(Position {
            epoch: 1,
            iter: 50,
            inner_iter: 10,
        });
        let applied = proto::Result {
            outcome: proto::Outcome::Applied.into(),
            at,
            ..Default::default()
        };
        let reply = SnapshotReply {
            run: Some(RunSummary {
                id: "digits@1".into(),
                position: at,
                ..Default::default()
            }),
            ranks: vec![Rank {
                dropped: 3,
                dropped_points: [("before_iter".to_owned(), 1), ("after_iter".to_owned(), 2)]
                    .into(),
                last: [("loss".to_owned(), f64::NAN)].into(),
                step_s: Some(0.0125),
                ..Default::default()
            }],
            refused: vec![Refused {
                what: "hook X".into(),
                reason: "not known".into(),
                rank: 0,
            }],
            results: vec![RankResult {
                what: "stop".into(),
                by: "CheckInvalidLossHook".into(),
                result: Some(applied),
                ..Default::default()
            }],
            incidents: vec![Incident {
                kind: "invalid_loss".into(),
                open: true,
                at,
                ..Default::default()
            }],
            logs: vec![LogSeen {
                text: "Memory information".into(),
                at,
                ..Default::default()
            }],
            ..Default::default()
        };
        let page = text(&reply, Style::plain());
        for words in [
            "digits@1: unknown, attempt 0",
            "dropped 3 events: after_iter 2, before_iter 1",
            "rank 0: loss nan",
            "12.5 ms",
            "hook X: not known",
            "stop by CheckInvalidLossHook: applied at epoch 1 iter 50",
            "open invalid_loss at epoch 1 iter 50",
            "Memory information",
            "none: the daemon records and samples only",
        ] {
            assert!(page.contains(words), "{words:?} is missing in:\n{page}");
        }
    }

    #[test]
    fn a_recorded_run_says_so_and_has_nothing_live() {
        let attempt = |attempt, phase: RunPhase, reason: &str, ended_unix_s| Attempt {
            attempt,
            phase: phase.into(),
            reason: reason.into(),
            started_unix_s: 1_000_000_000.0,
            ended_unix_s,
            position: Some(Position {
                epoch: 2,
                iter: 70,
                inner_iter: 10,
            }),
        };
        let mut run = RunSummary {
            id: "old@7".into(),
            attempt: 2,
            phase: RunPhase::Finished.into(),
            started_unix_s: 1_000_000_000.0,
            ended_unix_s: Some(1_000_003_600.0),
            archived: true,
            ..Default::default()
        };
        let mut reply = SnapshotReply {
            run: Some(run.clone()),
            ranks: vec![Rank {
                node: "gpu7".into(),
                ..Default::default()
            }],
            attempts: vec![
                attempt(1, RunPhase::Lost, "rank 0 went", None),
                attempt(2, RunPhase::Finished, "", Some(1_000_000_090.0)),
            ],
            ..Default::default()
        };
        let page = text(&reply, Style::plain());
        for words in [
            "old@7: finished, attempt 2, -, ran 1 h 0 min\n",
            "; nothing of it is live\n",
            "attempts\n  ATTEMPT  PHASE     STARTED           RAN         REACHED          REASON\n  1        lost      ",
            "  -           epoch 2 iter 70  rank 0 went\n",
            "  1 min 30 s  epoch 2 iter 70\n",
            "  RANK  NODE  POSITION",
        ] {
            assert!(page.contains(words), "{words:?} is missing in:\n{page}");
        }
        for words in ["connected", "HEARD", "gone"] {
            assert!(!page.contains(words), "{words:?} is in:\n{page}");
        }
        // One attempt is the run itself; an end that was not recorded is not invented.
        reply.attempts.pop();
        run.ended_unix_s = None;
        reply.run = Some(run);
        let page = text(&reply, Style::plain());
        assert!(!page.contains("ATTEMPT"), "{page}");
        assert!(page.contains("its end was not recorded"), "{page}");
        assert!(page.contains("no end of it was recorded"), "{page}");
    }

    #[test]
    fn a_trainers_text_cannot_steer_the_terminal() {
        let run = RunSummary {
            id: "a\x1b[2J".into(),
            reason: "b\nc".into(),
            ..Default::default()
        };
        let page = text(
            &SnapshotReply {
                run: Some(run),
                ..Default::default()
            },
            Style::plain(),
        );
        assert!(
            !page.contains('\x1b') && page.contains("reason: b c"),
            "{page}"
        );
    }

    #[test]
    fn a_hook_has_a_note_of_what_is_not_as_with_most() {
        let reply = SnapshotReply {
            hooks: vec![HookStatus {
                name: "plateau".into(),
                r#type: "plateau".into(),
                calls: 4,
                time_s: 0.01,
                timeouts: 1,
                withheld: 2,
                last_withheld: "would have set lr at iteration 9: released".into(),
                module: "my_hooks".into(),
                away: "it was killed".into(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let shown = hooks(&reply, false);
        let note = "away: it was killed; of module my_hooks; 2.5 ms a call; 1 timeout; 2 withheld; last: would have set lr at iteration 9: released";
        assert!(shown.trim_end().ends_with(note), "{shown}");
    }
}
