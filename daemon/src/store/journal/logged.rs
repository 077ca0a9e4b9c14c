//! What happened, as one row of the log and back.

use std::borrow::Cow;
use std::time::Instant;

use crate::domain::{Incident, IncidentKind, Outcome, Position, Rank, TrainerResult, Wanted};
use crate::snapshot::{ResultSeen, What};

/// The columns that a happening fills.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Row<'a> {
    pub(super) kind: &'a str,
    pub(super) id: &'a str,
    pub(super) what: &'a str,
    pub(super) who: &'a str,
    pub(super) text: &'a str,
    pub(super) outcome: Option<&'a str>,
    pub(super) old: Option<&'a str>,
    pub(super) new: Option<&'a str>,
}

/// None: a trainer's event, which has a table of its own.
pub(super) fn row(what: &What) -> Option<Row<'_>> {
    Some(match what {
        What::Event(_) => return None,
        What::Decision {
            by,
            what,
            reason,
            id,
        } => Row {
            kind: "decision",
            id,
            what,
            who: by,
            text: reason,
            ..Row::default()
        },
        What::State(line) => Row {
            kind: "state",
            id: &line.id,
            what: &line.field,
            who: &line.by,
            text: &line.text,
            ..Row::default()
        },
        What::Command { by, what, id } => Row {
            kind: "command",
            id,
            what,
            who: by,
            ..Row::default()
        },
        What::Result(seen) => Row {
            kind: "result",
            id: &seen.result.id,
            what: &seen.what,
            who: &seen.by,
            text: &seen.result.reason,
            outcome: Some(seen.result.outcome.word()),
            old: seen.result.old.as_deref(),
            new: seen.result.new.as_deref(),
        },
        What::Incident(incident) => Row {
            kind: "incident",
            id: &incident.id,
            what: incident.kind.word(),
            text: &incident.text,
            outcome: Some(if incident.open { "opened" } else { "closed" }),
            ..Row::default()
        },
        What::Lifecycle(text) => Row {
            kind: "lifecycle",
            text,
            ..Row::default()
        },
    })
}

/// Back again; None: a row of a kind that a later version wrote.
pub(super) fn what(
    row: &Row<'_>,
    rank: Option<Rank>,
    position: Position,
    point: &str,
    at: Instant,
) -> Option<What> {
    let owned = |text: &str| Cow::Owned(text.to_owned());
    Some(match row.kind {
        "decision" => What::Decision {
            by: row.who.to_owned(),
            what: owned(row.what),
            reason: row.text.to_owned(),
            id: row.id.to_owned(),
        },
        "state" => What::State(Wanted {
            field: owned(row.what),
            text: row.text.to_owned(),
            by: row.who.to_owned(),
            id: row.id.to_owned(),
        }),
        "command" => What::Command {
            by: row.who.to_owned(),
            what: owned(row.what),
            id: row.id.to_owned(),
        },
        "result" => What::Result(ResultSeen {
            rank: rank?,
            result: TrainerResult {
                id: row.id.to_owned(),
                outcome: Outcome::of(row.outcome?)?,
                at: position,
                point: point.to_owned(),
                old: row.old.map(str::to_owned),
                new: row.new.map(str::to_owned),
                reason: row.text.to_owned(),
            },
            by: row.who.to_owned(),
            what: owned(row.what),
            at,
        }),
        "incident" => What::Incident(Incident {
            id: row.id.to_owned(),
            kind: IncidentKind::of(row.what)?,
            text: row.text.to_owned(),
            open: row.outcome? == "opened",
            rank,
            at: position,
        }),
        "lifecycle" => What::Lifecycle(row.text.to_owned()),
        _ => return None,
    })
}
