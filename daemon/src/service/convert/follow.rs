//! What happens in a run, for who follows it.

use hookbus_proto::v1::{self as wire, happening};

use super::outgoing::{position, result};
use super::views::incident;
use crate::domain::Wanted;
use crate::snapshot::{Happening, ResultSeen, What};

/// One happening.
pub(in crate::service) fn happening(happened: Happening) -> wire::Happening {
    let what = match happened.what {
        What::Event(values) => happening::What::Event(wire::Seen {
            values: values
                .into_iter()
                .map(|(name, value)| (name.to_string(), value))
                .collect(),
        }),
        What::Decision {
            by,
            what,
            reason,
            id,
        } => happening::What::Decision(wire::Decided {
            by,
            what: what.into_owned(),
            reason,
            id,
        }),
        What::State(line) => happening::What::State(wanted(&line)),
        What::Command { by, what, id } => happening::What::Command(wire::CommandSent {
            by,
            what: what.into_owned(),
            id,
        }),
        What::Result(seen) => happening::What::Result(rank_result(&seen, 0.0)),
        What::Incident(seen) => happening::What::Incident(incident(&seen, 0.0)),
        What::Lifecycle(text) => happening::What::Lifecycle(wire::Lifecycle { text }),
    };
    wire::Happening {
        at_s: happened.at.as_secs_f64(),
        missed: happened.missed,
        rank: happened.rank.map(|rank| rank.0),
        at: Some(position(happened.position)),
        point: happened.point.to_string(),
        what: Some(what),
    }
}

pub(super) fn rank_result(seen: &ResultSeen, age_s: f64) -> wire::RankResult {
    wire::RankResult {
        rank: seen.rank.0,
        result: Some(result(seen.result.clone())),
        by: seen.by.clone(),
        what: seen.what.to_string(),
        age_s,
    }
}

pub(super) fn wanted(line: &Wanted) -> wire::Wanted {
    wire::Wanted {
        field: line.field.to_string(),
        text: line.text.clone(),
        by: line.by.clone(),
        id: line.id.clone(),
    }
}
