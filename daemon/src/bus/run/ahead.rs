//! What is decided before training starts: facts come in, the hooks decide from them, every rank gets state and schedules.

use std::sync::Arc;
use std::time::Instant;

use sha2::{Digest, Sha256};

use super::{Link, Run, ToTrainer};
use crate::bus::roster::{AllAhead, Failed};
use crate::domain::{
    Deed, EncodedSchedule, Facts, Flag, IncidentKind, LogLevel, LogLine, Mode, Position, Rank,
    Schedule, ScheduleRef, Standing,
};
use crate::steering::FromHooks;

impl Run {
    /// A rank says what it knows. Answered at once: what is decided ahead, and then that this is all of it.
    pub(in crate::bus) fn facts(&mut self, link: Link, number: u64, facts: Facts, now: Instant) {
        let Some(member) = self.live(link, now) else {
            return;
        };
        let facts = Facts {
            world_size: member.hello.world_size,
            ..facts
        };
        let rank = link.rank;
        let leads = rank == Rank(0) || self.facts_of.is_none() || self.facts_of == Some(rank);
        if leads {
            self.facts_of = Some(rank);
            if self.facts != facts {
                self.facts = facts.clone();
            }
            self.decide_ahead(rank, now);
        }
        self.compare_facts(rank, &facts, now);
        let refused = self
            .refused_ahead
            .iter()
            .map(|(hook, why)| (format!("hook {hook}"), why.clone()))
            .collect();
        self.send(rank, ToTrainer::FactsTaken(number, refused));
    }

    fn decide_ahead(&mut self, rank: Rank, now: Instant) {
        let before = self.desired.state().lines();
        let AllAhead {
            standing,
            refused,
            warnings,
            failed,
        } = self.roster.ahead(&self.facts, &self.id.name);
        let mut wanted = FromHooks::default();
        let mut schedules = Vec::new();
        for (hook, standing) in standing {
            self.stand(hook, standing, &mut wanted, &mut schedules);
        }
        for (hook, why) in &refused {
            if !self.refused_ahead.iter().any(|(old, _)| old == hook) {
                tracing::info!(run = %self.id, hook, why, "a hook cannot work with these facts");
            }
        }
        self.refused_ahead = refused;
        for (hook, text) in warnings {
            let line = LogLine {
                level: LogLevel::Warning,
                text: format!("{hook}: {text}"),
            };
            // The same facts again make the same id: the line is written once.
            let id = format!(
                "{hook}/{}/warning/{}",
                self.attempt,
                short_hash(text.as_bytes())
            );
            if !self.causes.contains_key(&id) {
                self.note(&id, &hook, "warning", &text);
                self.command(id, &hook, rank, Position::default(), Deed::Log(line), now);
            }
        }
        self.report_failed(failed, now);
        let new: Vec<_> = schedules
            .iter()
            .filter(|new| !self.schedules.contains(new))
            .cloned()
            .collect();
        self.schedules = schedules;
        if self.desired.ahead(wanted) {
            self.send_state(&before, now);
            for schedule in new {
                self.send_all(&ToTrainer::Schedule(schedule));
            }
        }
    }

    /// Puts one hook's wish into the state; ids derive from the content.
    fn stand(
        &mut self,
        hook: String,
        standing: Standing,
        wanted: &mut FromHooks,
        schedules: &mut Vec<Arc<EncodedSchedule>>,
    ) {
        let field = standing.field();
        let flag = |id: String, by: String| Some(Flag { id, by });
        let id = match standing {
            Standing::Rates {
                curves,
                group_curve,
            } => {
                let schedule = Schedule {
                    curves,
                    group_curve,
                    sizes: Vec::new(),
                };
                let named = self.schedule(&hook, field, &schedule, schedules);
                wanted.lr.insert(named).id.clone()
            }
            Standing::Sizes(sizes) => {
                let schedule = Schedule {
                    sizes,
                    ..Schedule::default()
                };
                let named = self.schedule(&hook, field, &schedule, schedules);
                wanted.size.insert(named).id.clone()
            }
            Standing::Mode {
                from_epoch,
                skip_types,
            } => {
                let content = short_hash(skip_types.join("\n").as_bytes());
                let id = format!("{hook}/mode/e{from_epoch}/{content}");
                wanted.mode = Some(Mode {
                    id: id.clone(),
                    from_epoch,
                    skip_types,
                    by: hook.clone(),
                    operator: false,
                });
                id
            }
            Standing::SetEpoch => {
                let id = format!("{hook}/set_epoch");
                wanted.set_epoch = flag(id.clone(), hook.clone());
                id
            }
            Standing::SyncNorm => {
                let id = format!("{hook}/sync_norm");
                wanted.sync_norm = flag(id.clone(), hook.clone());
                id
            }
        };
        self.note(&id, &hook, field, "decided ahead, from the trainer's facts");
    }

    fn schedule(
        &self,
        hook: &str,
        field: &str,
        schedule: &Schedule,
        schedules: &mut Vec<Arc<EncodedSchedule>>,
    ) -> ScheduleRef {
        let bytes = (self.rules.encode)(schedule);
        let hash: [u8; 32] = Sha256::digest(&bytes).into();
        let id = format!("{hook}/{field}/{}", hex(&hash[..6]));
        schedules.push(Arc::new(EncodedSchedule {
            id: id.clone(),
            hash,
            bytes: bytes.into(),
        }));
        ScheduleRef {
            id,
            hash,
            by: hook.to_owned(),
        }
    }

    /// Ranks that know different things would be steered differently.
    fn compare_facts(&mut self, rank: Rank, facts: &Facts, now: Instant) {
        let Some(leader) = self.facts_of.filter(|leader| *leader != rank) else {
            return;
        };
        let id = format!("facts/{}/{rank}", self.attempt);
        let ours = &self.facts;
        let words = |value: Option<u64>| value.map_or("not said".to_owned(), |n| n.to_string());
        let groups = |facts: &Facts| facts.groups.len().to_string();
        let difference = [
            (
                "max_epochs",
                words(ours.max_epochs),
                words(facts.max_epochs),
            ),
            ("max_iters", words(ours.max_iters), words(facts.max_iters)),
            (
                "iters_per_epoch",
                words(ours.iters_per_epoch),
                words(facts.iters_per_epoch),
            ),
            ("parameter groups", groups(ours), groups(facts)),
        ]
        .into_iter()
        .find(|(_, ours, theirs)| ours != theirs);
        match difference {
            None => self.close_incident(&id, now),
            Some((what, ours, theirs)) => {
                let text = format!(
                    "rank {rank} and rank {leader} differ in {what}: {theirs} and {ours}; what is decided ahead is rank {leader}'s"
                );
                let kind = IncidentKind::FactsDiffer;
                self.open_incident(id, kind, text, Some(rank), facts.position, now);
            }
        }
    }

    pub(super) fn report_failed(&mut self, failed: Vec<Failed>, now: Instant) {
        if failed.is_empty() {
            return;
        }
        for Failed { by, what, .. } in failed {
            let text = format!("hook {by} panicked and is off: {what}");
            tracing::error!(run = %self.id, hook = by, what, "a hook panicked and is off");
            self.open_incident(
                format!("hook/{}/{by}", self.attempt),
                IncidentKind::HookFailed,
                text,
                None,
                Position::default(),
                now,
            );
        }
        let plan = self.plan();
        self.send_all(&ToTrainer::Plan(plan));
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // A String takes whatever is written to it.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn short_hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes)[..6])
}
