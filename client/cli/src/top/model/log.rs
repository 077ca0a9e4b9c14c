//! What happened in the run, a line each, the newest last.

use std::collections::VecDeque;

use hookbus_client::inspect::proto::{Happening, Outcome, SnapshotReply, happening};

use super::super::text::clean;
use crate::{format, show};

/// Nobody scrolls further; the rest is in `hookbus watch --since`.
const MOST_LINES: usize = 500;

/// When something happened.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::top) enum When {
    /// By the daemon's clock, since 1970.
    Unix(f64),
    /// Seconds since the run's first rank attached.
    Since(f64),
}

impl When {
    /// How long ago. None: when the run started is not known.
    pub(in crate::top) fn age_s(self, now_unix_s: f64, started_unix_s: Option<f64>) -> Option<f64> {
        let at = match self {
            When::Unix(at) => at,
            When::Since(since) => started_unix_s? + since,
        };
        Some((now_unix_s - at).max(0.0))
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::top) struct Line {
    pub(in crate::top) at: When,
    /// "decision", "result" and so on.
    pub(in crate::top) kind: &'static str,
    pub(in crate::top) text: String,
    /// To look at.
    pub(in crate::top) alert: bool,
}

/// All of them.
#[derive(Debug, Default, Clone)]
pub(in crate::top) struct Log {
    pub(in crate::top) lines: VecDeque<Line>,
    /// Lost because we were too slow.
    pub(in crate::top) missed: u64,
    /// They come from a snapshot: nobody has told us more yet.
    from_snapshot: bool,
}

impl Log {
    /// What a snapshot knows of before, until the daemon tells it in order.
    pub(in crate::top) fn seed(&mut self, reply: &SnapshotReply, now_unix_s: f64) {
        if !self.lines.is_empty() && !self.from_snapshot {
            return;
        }
        self.from_snapshot = true;
        let mut lines = Vec::new();
        let mut add = |age_s: f64, line: Line| lines.push((age_s, line));
        for seen in &reply.results {
            if seen.what == "log" {
                continue;
            }
            let outcome = seen.result.as_ref().map(|result| result.outcome());
            let line = Line {
                at: When::Unix(now_unix_s - seen.age_s),
                kind: "result",
                text: format!(
                    "rank {} {} by {}: {}",
                    seen.rank,
                    clean(&seen.what),
                    clean(&seen.by),
                    clean(&show::outcome(seen.result.as_ref()))
                ),
                alert: outcome != Some(Outcome::Applied),
            };
            add(seen.age_s, line);
        }
        for incident in &reply.incidents {
            let line = Line {
                at: When::Unix(now_unix_s - incident.age_s),
                kind: "incident",
                text: self::incident(incident),
                alert: incident.open,
            };
            add(incident.age_s, line);
        }
        lines.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        self.lines = lines.into_iter().map(|(_, line)| line).collect();
    }

    /// Something happened, or had before we came. False: it is no line of its own.
    pub(in crate::top) fn add(&mut self, happened: &Happening) -> bool {
        if self.from_snapshot {
            self.lines.clear();
            self.from_snapshot = false;
        }
        self.missed += happened.missed;
        if is_of_a_log_line(happened) {
            return false;
        }
        if self.lines.len() == MOST_LINES {
            self.lines.pop_front();
        }
        let (kind, text, alert) = words(happened);
        self.lines.push_back(Line {
            at: When::Since(happened.at_s),
            kind,
            text,
            alert,
        });
        true
    }
}

/// A line for the trainer's log is decided, sent and reported: where that is seen thrice, nothing else is seen.
fn is_of_a_log_line(happened: &Happening) -> bool {
    match &happened.what {
        Some(happening::What::Command(one)) => one.what == "log",
        Some(happening::What::Result(one)) => {
            let outcome = one.result.as_ref().map(|result| result.outcome());
            one.what == "log" && outcome == Some(Outcome::Applied)
        }
        _ => false,
    }
}

/// One incident without its age.
pub(in crate::top) fn incident(incident: &hookbus_client::inspect::proto::Incident) -> String {
    let rank = incident
        .rank
        .map_or(String::new(), |rank| format!(" rank {rank}"));
    let at = incident.at.as_ref().map_or(String::new(), |at| {
        format!(" at {}", format::position(Some(at)))
    });
    let state = if incident.open { "open" } else { "closed" };
    format!(
        "{state} {}{rank}{at}: {}",
        clean(&incident.kind),
        clean(&incident.text)
    )
}

fn words(happened: &Happening) -> (&'static str, String, bool) {
    use happening::What;
    let rank = happened
        .rank
        .map_or(String::new(), |rank| format!("rank {rank} "));
    let place = match (&happened.at, happened.point.as_str()) {
        (Some(at), point) if !point.is_empty() => {
            format!("{} {}: ", format::position(Some(at)), clean(point))
        }
        _ => String::new(),
    };
    let (kind, text, alert) = match &happened.what {
        None => (
            "?",
            "something that this version does not know".to_owned(),
            false,
        ),
        Some(What::Event(_)) => ("event", String::new(), false),
        Some(What::Decision(one)) => (
            "decision",
            format!(
                "{} by {}: {}",
                clean(&one.what),
                clean(&one.by),
                clean(&one.reason)
            ),
            one.what == "stop",
        ),
        Some(What::State(one)) => (
            "state",
            format!(
                "{}: {} (by {})",
                clean(&one.field),
                clean(&one.text),
                clean(&one.by)
            ),
            false,
        ),
        Some(What::Command(one)) => (
            "command",
            format!("{} (by {})", clean(&one.what), clean(&one.by)),
            false,
        ),
        Some(What::Result(one)) => {
            let said = clean(&show::outcome(one.result.as_ref()));
            let applied =
                one.result.as_ref().map(|result| result.outcome()) == Some(Outcome::Applied);
            let text = format!("{} by {}: {said}", clean(&one.what), clean(&one.by));
            // Its own place is in what the rank said.
            return ("result", rank + &text, !applied);
        }
        Some(What::Incident(one)) => return ("incident", incident(one), one.open),
        Some(What::Lifecycle(life)) => ("life", clean(&life.text), false),
    };
    (kind, rank + &place + &text, alert)
}

#[cfg(test)]
mod tests {
    use hookbus_client::inspect::proto::{Decided, Incident, Lifecycle};

    use super::*;

    fn life(text: &str) -> Happening {
        Happening {
            at_s: 2.0,
            what: Some(happening::What::Lifecycle(Lifecycle { text: text.into() })),
            ..Default::default()
        }
    }

    #[test]
    fn what_a_snapshot_knew_makes_way_for_the_whole_story() {
        let mut log = Log::default();
        let reply = SnapshotReply {
            incidents: vec![Incident {
                kind: "invalid_loss".into(),
                text: "nan\x1b[2J".into(),
                open: true,
                age_s: 5.0,
                ..Default::default()
            }],
            ..Default::default()
        };
        log.seed(&reply, 100.0);
        assert_eq!(log.lines[0].text, "open invalid_loss: nan [2J");
        assert_eq!(
            (log.lines[0].at, log.lines[0].alert),
            (When::Unix(95.0), true)
        );
        log.add(&life("rank 0 attached"));
        log.seed(&reply, 101.0);
        assert_eq!(log.lines.len(), 1);
        let at = log.lines[0].at;
        assert_eq!(at.age_s(60.0, Some(50.0)), Some(8.0));
        assert_eq!(at.age_s(60.0, None), None, "no age that is made up");
        for _ in 0..MOST_LINES {
            log.add(&life("again"));
        }
        assert_eq!(log.lines.len(), MOST_LINES);
        assert_eq!(log.lines[0].text, "again");
    }

    #[test]
    fn a_log_line_is_seen_once() {
        let mut log = Log::default();
        let what = "log".to_owned();
        for what in [
            happening::What::Decision(Decided {
                what: what.clone(),
                ..Default::default()
            }),
            happening::What::Command(hookbus_client::inspect::proto::CommandSent {
                what,
                ..Default::default()
            }),
        ] {
            let happened = Happening {
                what: Some(what),
                ..Default::default()
            };
            log.add(&happened);
        }
        assert_eq!(log.lines.len(), 1);
    }

    #[test]
    fn a_decision_to_stop_stands_out() {
        let decided = Happening {
            what: Some(happening::What::Decision(Decided {
                by: "Check".into(),
                what: "stop".into(),
                reason: "loss is nan".into(),
                id: "d".into(),
            })),
            missed: 3,
            ..Default::default()
        };
        let mut log = Log::default();
        log.add(&decided);
        assert_eq!(log.missed, 3);
        assert_eq!(log.lines[0].text, "stop by Check: loss is nan");
        assert!(log.lines[0].alert);
    }
}
