//! What is decided before training starts: facts come in, the hooks decide from them, every rank gets state and schedules.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::{Link, Run, ToTrainer};
use crate::bus::roster::{AllAhead, Failed};
use crate::domain::{
    Deed, EncodedSchedule, Facts, Flag, IncidentKind, LogLevel, LogLine, Mode, Position, Rank,
    Schedule, ScheduleRef, Standing, hex,
};
use crate::steering::FromHooks;

/// How long rank 0 is waited for.
const LEADER: Duration = Duration::from_secs(3);

impl Run {
    /// A rank says what it knows. Provisional facts are only shown. Others are answered when rank 0's have been: what is
    /// decided ahead, and then that this is all of it.
    pub(in crate::bus) fn facts(
        &mut self,
        link: Link,
        number: u64,
        provisional: bool,
        facts: Facts,
        now: Instant,
    ) {
        let rank = link.rank;
        let Some(member) = self.live(link, now) else {
            return;
        };
        let facts = Facts {
            world_size: member.hello.world_size,
            ..facts
        };
        if !provisional {
            member.waits = Some(number);
            member.facts = Some(facts.clone());
        }
        if self.leader.is_none() && (rank == Rank(0) || self.facts == Facts::default()) {
            self.facts = facts;
            self.write_facts(now);
        }
        if provisional {
            return;
        }
        match self.leader {
            Some(leader) => self.lead(leader, now),
            None if rank == Rank(0) => self.lead(rank, now),
            None => {
                self.lead_by.get_or_insert(now + LEADER);
            }
        }
    }

    /// Rank 0 is not here: the lowest rank that is leads.
    pub(super) fn lead_without_rank_0(&mut self, now: Instant) {
        if self.leader.is_some() || self.lead_by.is_none_or(|at| now < at) {
            return;
        }
        let ready = self
            .members
            .iter()
            .find(|(_, member)| member.facts.is_some());
        if let Some(rank) = ready.map(|(rank, _)| *rank) {
            tracing::warn!(run = %self.id, %rank, "rank 0 has not come; this rank's facts decide");
            self.lead(rank, now);
        }
    }

    fn lead(&mut self, rank: Rank, now: Instant) {
        self.leader = Some(rank);
        let facts = self
            .members
            .get(&rank)
            .and_then(|member| member.facts.clone());
        self.facts = facts.unwrap_or_default();
        self.write_facts(now);
        // After a reconnect the same facts come again.
        let from = (self.facts.clone(), self.roster.generation());
        if self.decided_from.as_ref() != Some(&from) {
            self.decided_from = Some(from);
            self.decide_ahead(rank, now);
            self.take_early(now);
        }
        self.answer_facts(now);
    }

    /// Everything decided ahead is on its way to whoever waits for it.
    fn answer_facts(&mut self, now: Instant) {
        let refused: Vec<_> = self
            .refused_ahead
            .iter()
            .map(|(hook, why)| (format!("hook {hook}"), why.clone()))
            .collect();
        let waiting: Vec<_> = self
            .members
            .iter_mut()
            .filter_map(|(rank, member)| Some((*rank, member.waits.take()?)))
            .collect();
        for (rank, number) in waiting {
            self.send(rank, ToTrainer::FactsTaken(number, refused.clone()));
            let facts = self
                .members
                .get(&rank)
                .and_then(|member| member.facts.clone());
            if let Some(facts) = facts {
                self.compare_facts(rank, &facts, now);
            }
        }
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
            self.stand(hook, standing, &mut wanted, &mut schedules, now);
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
            if !self.answers.knows(&id) {
                self.note(&id, &hook, "warning", &text, now);
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
        }
        // After a restart of this daemon a rank may have it still.
        for schedule in new {
            for member in self.members.values_mut() {
                if !member.hello.applied.contains(&schedule.id) {
                    member.send(ToTrainer::Schedule(Arc::clone(&schedule)));
                }
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
        now: Instant,
    ) {
        let field = standing.field();
        let flag = |id: String, by: String| {
            Some(Flag {
                id,
                by,
                on: true,
                running: false,
            })
        };
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
                    running: false,
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
        if !self.answers.knows(&id) {
            self.roster.decided_ahead(&hook);
        }
        let reason = "decided ahead, from the trainer's facts";
        self.note_ahead(&id, &hook, field, reason, now);
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
        let id = format!("{hook}/{field}/{}", hex::text(&hash[..6]));
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
        let Some(leader) = self.leader.filter(|leader| *leader != rank) else {
            return;
        };
        let id = format!("facts/{}/{rank}", self.attempt);
        let difference = differing(&self.facts)
            .into_iter()
            .zip(differing(facts))
            .find(|((_, ours), (_, theirs))| ours != theirs)
            .map(|((what, ours), (_, theirs))| (what, ours, theirs));
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

/// What must be the same on every rank, in words.
fn differing(facts: &Facts) -> [(&'static str, String); 7] {
    let words = |value: Option<u64>| value.map_or("not said".to_owned(), |n| n.to_string());
    let rates: Vec<_> = facts
        .groups
        .iter()
        .take(8)
        .map(|group| group.base_lr)
        .collect();
    [
        ("max_epochs", words(facts.max_epochs)),
        ("max_iters", words(facts.max_iters)),
        ("iters_per_epoch", words(facts.iters_per_epoch)),
        ("parameter groups", facts.groups.len().to_string()),
        ("base learning rates", format!("{rates:?}")),
        (
            "a scheduler of its own",
            facts
                .own_scheduler
                .clone()
                .unwrap_or_else(|| "none".to_owned()),
        ),
        ("the size's multiple", facts.size_multiple.to_string()),
    ]
}

fn short_hash(bytes: &[u8]) -> String {
    hex::text(&Sha256::digest(bytes)[..6])
}
