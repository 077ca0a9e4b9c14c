//! What hooks decide is checked, ruled on where two want the same thing, and carried out as far as their policies let it.

use std::borrow::Cow;
use std::time::Instant;

use sha2::{Digest, Sha256};

use super::gates::Said;
use super::orders::SKIP_TYPES;
use super::{GateStop, IncidentKind, KEPT_LOGS, Position, Run, push_bounded};
use crate::bus::Asked;
use crate::bus::claims::{Claim, Claimed, Place, Ruling};
use crate::bus::roster::Decided;
use crate::domain::{
    Command, Deed, Effective, Flag, Hold, LogLevel, LogLine, LrHold, Mode, Rank, SizeHold, Stop,
    hex,
};
use crate::hooks::{Decision, Policy, Want};
use crate::snapshot::{LogSeen, What};
use crate::steering::Switch;

/// Where a decision comes from.
pub(super) struct Whence<'a> {
    pub(super) rank: Rank,
    pub(super) point: &'a str,
    pub(super) at: Position,
    /// Counts the events that something is said to, as calls are counted.
    pub(super) no: u64,
}

/// One decision, with all that follows it.
struct Taken<'a> {
    id: String,
    by: String,
    place: Place,
    from: &'a Whence<'a>,
}

impl Run {
    /// Takes a hook's n-th decision of one event. `gate`: a gate waits for what the hook says.
    pub(super) fn decide(
        &mut self,
        from: &Whence<'_>,
        n: usize,
        decided: Decided,
        gate: Option<&mut Said>,
        now: Instant,
    ) {
        let Decided {
            by,
            place,
            policy,
            decision,
        } = decided;
        let id = self.decision_id(&by, from.rank, from.point, from.at, n);
        let taken = Taken {
            id,
            by,
            place,
            from,
        };
        if let Err(why) = self.check(&decision) {
            return self.not_valid(&taken, &decision, &why);
        }
        let (what, reason) = words(&decision);
        let carried_out = match policy {
            Policy::Act => true,
            Policy::Warn => matches!(decision, Decision::Log(_) | Decision::Incident(_)),
            Policy::Observe => false,
        };
        if !carried_out {
            return self.withhold(&taken, policy, &decision, gate, now);
        }
        let Some(over) = self.rule(&taken, &decision, &reason, now) else {
            return;
        };
        self.told(&taken, what.into(), reason, now);
        match decision {
            Decision::Log(line) | Decision::Do(Deed::Log(line)) => self.log(&taken, line, now),
            Decision::Incident(text) => self.hooks_incident(&taken, &text, text.clone(), now),
            Decision::Do(deed) => self.order_deed(taken, deed, now),
            Decision::Want(want) => self.want(taken, want, over, now),
            Decision::Stop {
                reason,
                logs,
                incident,
            } => self.stop(taken, reason, logs, incident, gate, now),
        }
    }

    /// Whether it may be sent, as operators' orders are checked.
    fn check(&self, decision: &Decision) -> Result<(), String> {
        let asked = match decision {
            Decision::Want(Want::Lr { group, hold }) => Asked::Lr {
                group: *group,
                hold: *hold,
            },
            Decision::Want(Want::Size(size)) => Asked::Size(*size),
            Decision::Do(Deed::Custom { json, .. }) if !json.is_empty() => {
                let parsed: Result<serde::de::IgnoredAny, _> = serde_json::from_str(json);
                return parsed.map(|_| ()).map_err(|why| format!("no JSON: {why}"));
            }
            _ => return Ok(()),
        };
        self.check_asked(&asked, Effective::Next)
    }

    fn not_valid(&mut self, taken: &Taken<'_>, decision: &Decision, why: &str) {
        let (what, _) = words(decision);
        self.roster.count(&taken.by, |counts| counts.errors += 1);
        let Some(place) = self.roster.named(&taken.by) else {
            return;
        };
        if self.roster.member(place).is_news(why) {
            let (rank, iter) = (taken.from.rank, taken.from.at.iter);
            tracing::warn!(run = %self.id, hook = taken.by, %rank, iter, what, why, "a hook's decision is not valid; it is not sent");
        }
    }

    /// Its policy keeps it from the training.
    fn withhold(
        &mut self,
        taken: &Taken<'_>,
        policy: Policy,
        decision: &Decision,
        gate: Option<&mut Said>,
        now: Instant,
    ) {
        let (what, reason) = words(decision);
        let would = would_have(decision);
        let iter = taken.from.at.iter;
        let last = format!("would have {would} at iteration {iter}: {reason}");
        self.roster.count(&taken.by, |counts| {
            counts.withheld += 1;
            counts.last_withheld = Some(last);
        });
        self.told(taken, format!("would {what}").into(), reason.clone(), now);
        if policy != Policy::Warn {
            return;
        }
        let text = match decision {
            Decision::Stop { .. } => {
                format!("{} would have stopped the training: {reason}", taken.by)
            }
            _ => format!("{} would have {would}: {reason}", taken.by),
        };
        let (rank, at) = (Some(taken.from.rank), taken.from.at);
        let kind = match decision {
            Decision::Stop { incident, .. } => *incident,
            _ => IncidentKind::ByHook,
        };
        // It says so again and again where it is not heeded.
        let id = format!("withheld/{}/{}/{what}", self.attempt, taken.by);
        self.open_incident(id, kind, text.clone(), rank, at, now);
        let line = LogLine {
            level: LogLevel::Warning,
            text,
        };
        match gate {
            Some(said) => said.logs.push((taken.place, line)),
            None => self.log(taken, line, now),
        }
    }

    /// Whether it stands beside what is decided at this position already; then what it overrules.
    fn rule(
        &mut self,
        taken: &Taken<'_>,
        decision: &Decision,
        reason: &str,
        now: Instant,
    ) -> Option<Vec<Claim>> {
        let what = match decision {
            Decision::Want(want) => Claimed::Want(want.clone()),
            Decision::Do(deed) if !matches!(deed, Deed::Log(_)) && self.acts_together() => {
                Claimed::Deed(deed.clone())
            }
            _ => return Some(Vec::new()),
        };
        let field = words(decision).0;
        let claim = Claim {
            by: taken.by.clone(),
            place: taken.place,
            what,
            id: taken.id.clone(),
            no: taken.from.no,
            rank: taken.from.rank.0,
        };
        let evaluates = ["_val", "_test"]
            .iter()
            .any(|loop_| taken.from.point.contains(loop_));
        self.forget_claims(taken.from);
        match self.claims.claim((taken.from.at, evaluates), claim) {
            Ruling::Again => None,
            Ruling::Overruled(by) => {
                self.roster.count(&taken.by, |counts| counts.overruled += 1);
                let text = format!("{field} is decided by {by} here; it was: {reason}");
                self.told(taken, "overruled".into(), text, now);
                None
            }
            Ruling::Stands(over) => {
                for loser in &over {
                    self.roster.count(&loser.by, |counts| counts.overruled += 1);
                    let text = format!("{field} is decided by {} here", taken.by);
                    let told = What::Decision {
                        by: loser.by.clone(),
                        what: "overruled".into(),
                        reason: text,
                        id: loser.id.clone(),
                    };
                    let (rank, at) = (Some(taken.from.rank), taken.from.at);
                    self.happened(now, rank, at, taken.from.point, told);
                }
                Some(over)
            }
        }
    }

    fn told(&mut self, taken: &Taken<'_>, what: Cow<'static, str>, reason: String, now: Instant) {
        let told = What::Decision {
            by: taken.by.clone(),
            what,
            reason,
            id: taken.id.clone(),
        };
        let (rank, at) = (Some(taken.from.rank), taken.from.at);
        self.happened(now, rank, at, taken.from.point, told);
    }

    fn stop(
        &mut self,
        taken: Taken<'_>,
        reason: String,
        logs: Vec<LogLine>,
        incident: IncidentKind,
        gate: Option<&mut Said>,
        now: Instant,
    ) {
        let (rank, at) = (taken.from.rank, taken.from.at);
        let Taken { id, by, place, .. } = taken;
        let before = self.desired.state().lines();
        if gate.is_none() {
            let stop = Stop {
                id: id.clone(),
                effective: Effective::Next,
                reason: reason.clone(),
                by: by.clone(),
            };
            if self.desired.stop(stop).is_err() {
                return; // it ends already
            }
        }
        tracing::warn!(run = %self.id, %rank, hook = by, iter = at.iter, reason, "a hook stops the training");
        let incident_id = format!("stop/{id}");
        self.open_incident(incident_id, incident, reason.clone(), Some(rank), at, now);
        self.note(&id, &by, "stop", &reason, now);
        if let Some(said) = gate {
            said.logs.extend(logs.into_iter().map(|line| (place, line)));
            said.stops.push((place, GateStop { id, reason, by }));
            return;
        }
        for (n, line) in logs.into_iter().enumerate() {
            self.write_line(format!("{id}/log{n}"), &by, (rank, at), line, now);
        }
        self.send_state(&before, now);
    }

    /// What was said to a gate whose trainer does not hear the answer any more: it stops at its next boundary.
    pub(super) fn stop_without_gate(&mut self, said: Said, now: Instant) {
        let stops = said.stops.into_iter().min_by_key(|(place, _)| *place);
        let Some((_, GateStop { id, reason, by })) = stops else {
            return;
        };
        let before = self.desired.state().lines();
        let effective = Effective::Next;
        let stop = Stop {
            id,
            effective,
            reason,
            by,
        };
        if self.desired.stop(stop).is_ok() {
            self.send_state(&before, now);
        }
    }

    fn want(&mut self, taken: Taken<'_>, want: Want, over: Vec<Claim>, now: Instant) {
        let before = self.desired.state().lines();
        let mut changed = false;
        for loser in over {
            changed |= self.desired.overrule(&loser.id);
        }
        let (what, reason) = (want.field(), wanted(&want));
        let Taken { id, by, from, .. } = taken;
        let flag = Flag {
            id: id.clone(),
            by: by.clone(),
            on: true,
            running: true,
        };
        let done = match want {
            Want::Lr { group, hold } => self.desired.hook_lr(LrHold {
                id: id.clone(),
                effective: Effective::Next,
                group,
                hold,
                by: by.clone(),
            }),
            Want::Size(size) => self.desired.hook_size(SizeHold {
                id: id.clone(),
                effective: Effective::Next,
                size,
                by: by.clone(),
            }),
            Want::Mode {
                from_epoch,
                skip_types,
            } => {
                let mode = Mode {
                    id: id.clone(),
                    from_epoch: from_epoch.unwrap_or_default(),
                    skip_types,
                    by: by.clone(),
                    operator: false,
                    running: true,
                };
                Ok(self.desired.hook_mode(mode, &SKIP_TYPES))
            }
            Want::SetEpoch(on) => Ok(self.desired.hook_switch(Switch::SetEpoch, on, flag)),
            Want::SyncNorm(on) => Ok(self.desired.hook_switch(Switch::SyncNorm, on, flag)),
        };
        match done {
            Ok(new) => {
                if new {
                    self.note(&id, &by, what, &reason, now);
                }
                changed |= new;
            }
            Err(why) => {
                self.roster.count(&by, |counts| counts.errors += 1);
                let (rank, iter) = (from.rank, from.at.iter);
                tracing::warn!(run = %self.id, hook = by, %rank, iter, why, "a hook's decision has no room");
            }
        }
        if changed {
            self.send_state(&before, now);
        }
    }

    /// Something done once: by the rank whose event it was, or by all where they act together.
    fn order_deed(&mut self, taken: Taken<'_>, deed: Deed, now: Instant) {
        let (rank, at) = (taken.from.rank, taken.from.at);
        let together = self.acts_together();
        let live = self.members.iter();
        let live = live.filter(|(_, member)| member.ended.is_none());
        let ranks: Vec<_> = live
            .map(|(live, _)| *live)
            .filter(|live| together || *live == rank)
            .collect();
        let Taken { id, by, .. } = taken;
        if ranks.is_empty() {
            tracing::info!(run = %self.id, %rank, hook = by, what = deed.word(), "a hook's command comes after its rank has ended");
            return;
        }
        self.note(&id, &by, deed.word(), &done(&deed), now);
        for rank in ranks {
            let command = Command {
                id: id.clone(),
                by: by.clone(),
                at,
                effective: Effective::Now,
                deed: deed.clone(),
            };
            self.deliver(rank, command, now);
        }
    }

    fn hooks_incident(&mut self, taken: &Taken<'_>, key: &str, text: String, now: Instant) {
        let hash = hex::text(&Sha256::digest(key.as_bytes())[..6]);
        let id = format!("hook_incident/{}/{}/{hash}", self.attempt, taken.by);
        let (rank, at) = (Some(taken.from.rank), taken.from.at);
        let text = format!("{}: {text}", taken.by);
        self.open_incident(id, IncidentKind::ByHook, text, rank, at, now);
    }

    fn log(&mut self, taken: &Taken<'_>, line: LogLine, now: Instant) {
        let whose = (taken.from.rank, taken.from.at);
        self.write_line(taken.id.clone(), &taken.by, whose, line, now);
    }

    fn write_line(
        &mut self,
        id: String,
        by: &str,
        (rank, at): (Rank, Position),
        line: LogLine,
        now: Instant,
    ) {
        push_bounded(
            &mut self.logs,
            LogSeen {
                rank,
                at,
                text: line.text.clone(),
                by: by.to_owned(),
            },
            KEPT_LOGS,
        );
        self.command(id, by, rank, at, Deed::Log(line), now);
    }
}

/// What it is, in a word, and in words.
fn words(decision: &Decision) -> (&'static str, String) {
    match decision {
        Decision::Stop { reason, .. } => ("stop", reason.clone()),
        Decision::Log(line) => ("log", line.text.clone()),
        Decision::Want(want) => (want.field(), wanted(want)),
        Decision::Do(deed) => (deed.word(), done(deed)),
        Decision::Incident(text) => ("incident", text.clone()),
    }
}

/// "would have …".
fn would_have(decision: &Decision) -> String {
    match decision {
        Decision::Stop { .. } => "stopped".to_owned(),
        Decision::Log(_) => "logged".to_owned(),
        Decision::Want(want) => format!("set {}", want.field()),
        Decision::Do(deed) => format!("sent {}", deed.word()),
        Decision::Incident(_) => "opened an incident".to_owned(),
    }
}

fn wanted(want: &Want) -> String {
    let switch = |on: &bool| if *on { "on" } else { "off" }.to_owned();
    match want {
        Want::Lr { group, hold } => {
            let how = match hold {
                Hold::Value(value) => format!("held at {value:?}"),
                Hold::Scale(scale) => format!("scaled by {scale:?}"),
                Hold::Release => "released".to_owned(),
            };
            let group = group.map_or(String::new(), |group| format!(" in group {group}"));
            format!("learning rate {how}{group}")
        }
        Want::Size(size) => format!("input size {} x {}", size.height, size.width),
        Want::Mode { from_epoch, .. } => match from_epoch {
            Some(epoch) => format!("mode on from epoch {epoch}"),
            None => "mode on from the next epoch".to_owned(),
        },
        Want::SetEpoch(on) => format!("set_epoch {}", switch(on)),
        Want::SyncNorm(on) => format!("sync_norm {}", switch(on)),
    }
}

fn done(deed: &Deed) -> String {
    match deed {
        Deed::Log(line) => line.text.clone(),
        Deed::Checkpoint { tag } => format!("a checkpoint {tag:?}"),
        Deed::Custom { name, .. } => name.clone(),
    }
}
