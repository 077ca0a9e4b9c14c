//! `hookbus watch RUN`: what happens in a run, a line each, as it happens.

use std::fmt::Write;

use hookbus_client::inspect::Inspector;
use hookbus_client::inspect::proto::{Happening, Seen, happening};
use serde_json::{Map, Value, json};

use crate::args::WatchArgs;
use crate::failure::Failure;
use crate::table::one_line;
use crate::terminal::Style;
use crate::{format, json, reach, recorded, show, terminal};

/// Prints until the run or the daemon ends, `count` is reached, or a signal comes.
pub(crate) async fn watch(address: &reach::Target, args: WatchArgs) -> Result<u8, Failure> {
    recorded::ask(address, &args.state, async |inspector| {
        print(inspector, &args).await
    })
    .await
}

async fn print(mut inspector: Inspector, args: &WatchArgs) -> Result<u8, Failure> {
    let style = Style::stdout();
    // LAST and a name may mean another run later on.
    let run = match inspector.snapshot(&args.run).await?.run {
        Some(run) if args.since.is_none() && show::has_ended(&run) => return Ok(is_over(&run.id)),
        Some(run) => run.id,
        None => args.run.clone(),
    };
    let mut happenings = inspector.follow(&run, !args.no_events, args.since).await?;
    let mut shown: u64 = 0;
    while args.count.is_none_or(|count| shown < count) {
        let Some(happened) = happenings.next().await? else {
            return ended(inspector, &run).await;
        };
        if args.output.json {
            terminal::answer_json(&as_json(&happened))?;
        } else {
            terminal::answer(&line(&happened, style))?;
        }
        shown += 1;
    }
    Ok(0)
}

/// Nobody waits for what cannot happen any more.
fn is_over(run: &str) -> u8 {
    let run = one_line(run);
    terminal::note(&format!(
        "{run} is over; what happened: hookbus watch {run} --since start"
    ));
    0
}

/// There is no more: a run that is over has none, a daemon that ends says so.
async fn ended(mut inspector: Inspector, run: &str) -> Result<u8, Failure> {
    match inspector.snapshot(run).await {
        Ok(reply) if reply.run.as_ref().is_some_and(show::has_ended) => Ok(0),
        _ => Err(Failure::failed("the daemon ended the watch")),
    }
}

fn values(seen: &Seen) -> String {
    let mut values: Vec<_> = seen.values.iter().collect();
    values.sort_by(|a, b| a.0.cmp(b.0));
    values
        .iter()
        .fold(String::new(), |mut text, (name, value)| {
            // A String takes whatever is written to it.
            let _ = write!(text, " {} {}", one_line(name), format::number(**value));
            text
        })
}

fn line(happened: &Happening, style: Style) -> String {
    let mut text = String::new();
    if happened.missed > 0 {
        let _ = writeln!(
            text,
            "... {} missed: this reader was too slow",
            happened.missed
        );
    }
    let _ = write!(text, "{:>9.3} s  ", happened.at_s);
    if let Some(rank) = happened.rank {
        let _ = write!(text, "rank {rank}  ");
    }
    let place = match (&happened.at, happened.point.as_str()) {
        (Some(at), point) if !point.is_empty() => {
            format!("{} {}  ", format::position(Some(at)), one_line(point))
        }
        _ => String::new(),
    };
    text.push_str(&place);
    let words = match &happened.what {
        None => "something that this version does not know".to_owned(),
        Some(happening::What::Event(seen)) => values(seen).trim_start().to_owned(),
        Some(happening::What::Decision(decided)) => format!(
            "{} {} by {}: {}",
            style.bold("decision"),
            one_line(&decided.what),
            one_line(&decided.by),
            one_line(&decided.reason)
        ),
        Some(happening::What::State(wanted)) => format!(
            "{} {}: {} (by {})",
            style.bold("state"),
            wanted.field,
            one_line(&wanted.text),
            one_line(&wanted.by)
        ),
        Some(happening::What::Command(sent)) => format!(
            "{} {} (by {})",
            style.bold("command"),
            sent.what,
            one_line(&sent.by)
        ),
        Some(happening::What::Result(done)) => format!(
            "{} {} by {}: {}",
            style.bold("result"),
            one_line(&done.what),
            one_line(&done.by),
            show::outcome(done.result.as_ref())
        ),
        Some(happening::What::Incident(incident)) => show::incident_line(incident, style),
        Some(happening::What::Lifecycle(life)) => one_line(&life.text),
    };
    text.push_str(&words);
    let mut text = text.trim_end().to_owned();
    text.push('\n');
    text
}

fn as_json(happened: &Happening) -> Value {
    let (kind, what) = match &happened.what {
        None => ("unknown", Value::Null),
        Some(happening::What::Event(seen)) => {
            let values: Map<_, _> = seen
                .values
                .iter()
                .map(|(name, value)| (name.clone(), json::number(*value)))
                .collect();
            ("event", Value::Object(values))
        }
        Some(happening::What::Decision(one)) => (
            "decision",
            json!({"by": one.by, "what": one.what, "reason": one.reason, "id": one.id}),
        ),
        Some(happening::What::State(one)) => ("state", json::wanted(one)),
        Some(happening::What::Command(one)) => (
            "command",
            json!({"by": one.by, "what": one.what, "id": one.id}),
        ),
        Some(happening::What::Result(one)) => ("result", json::rank_result(one)),
        Some(happening::What::Incident(one)) => ("incident", json::incident(one)),
        Some(happening::What::Lifecycle(one)) => ("lifecycle", Value::from(one.text.as_str())),
    };
    json!({
        "at_s": json::number(happened.at_s), "missed": happened.missed, "rank": happened.rank,
        "position": json::position(happened.at.as_ref()), "point": happened.point, "kind": kind, kind: what,
    })
}

#[cfg(test)]
mod tests {
    use hookbus_client::inspect::proto::{Decided, Position};

    use super::*;

    fn happening(what: happening::What) -> Happening {
        Happening {
            at_s: 1.5,
            rank: Some(2),
            at: Some(Position {
                epoch: 1,
                iter: 7,
                inner_iter: 2,
            }),
            point: "after_train_iter".into(),
            what: Some(what),
            ..Default::default()
        }
    }

    #[test]
    fn each_happening_is_a_line() {
        let seen = Seen {
            values: [("loss".to_owned(), f64::NAN), ("a".to_owned(), 0.5)].into(),
        };
        let event = happening(happening::What::Event(seen));
        assert_eq!(
            line(&event, Style::plain()),
            "    1.500 s  rank 2  epoch 1 iter 7 after_train_iter  a 0.5000 loss nan\n"
        );
        assert_eq!(as_json(&event)["event"]["loss"], "nan");
        let decided = happening(happening::What::Decision(Decided {
            by: "Check".into(),
            what: "stop".into(),
            reason: "because\nof it".into(),
            id: "x".into(),
        }));
        let missed = Happening {
            missed: 3,
            ..decided
        };
        let text = line(&missed, Style::plain());
        assert!(text.starts_with("... 3 missed"), "{text}");
        assert!(
            text.ends_with("decision stop by Check: because of it\n"),
            "{text}"
        );
    }
}
