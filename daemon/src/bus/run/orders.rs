//! Operators' orders: checked against what is known, put into the state or sent as commands, and waited for.

use std::collections::BTreeSet;
use std::time::Instant;

use super::{Member, Run, ToTrainer, Updates};
use crate::bus::messages::{Asked, Order};
use crate::domain::{
    Command, Deed, Effective, Hold, LrHold, Mode, Outcome, Position, Rank, Size, SizeHold, Stop,
};
use crate::snapshot::What;
use crate::store::journal::Kind;

/// What YOLOX leaves out where nobody says it.
pub(super) const SKIP_TYPES: [&str; 3] = ["Mosaic", "RandomAffine", "MixUp"];

impl Run {
    /// Takes an order, or says in one line why not.
    pub(in crate::bus) fn order(&mut self, order: Order, now: Instant) {
        let updates = order.updates.clone();
        if let Err(why) = self.take_order(order, now) {
            // An operator who left needs no answer.
            let _ = updates.try_send(Err(why));
        }
    }

    fn take_order(&mut self, order: Order, now: Instant) -> Result<(), String> {
        let Order {
            id,
            by,
            uid,
            asked,
            effective,
            ranks,
            timeout,
            updates,
        } = order;
        self.check_owner(uid)?;
        if self.answers.knows(&id) {
            return Err(format!("an order with the id {id} was given already"));
        }
        let is_command = matches!(asked, Asked::Command(_));
        let addressed = self.addressed(&ranks, is_command)?;
        let is_line = matches!(asked, Asked::Command(Deed::Log(_)));
        if !ranks.is_empty() && !is_line && self.acts_together() {
            return Err(format!(
                "the ranks of run {} act together: leave --ranks out, the order is for every rank",
                self.id
            ));
        }
        self.check_leader(is_line)?;
        self.check_position(effective)?;
        self.check_asked(&asked, effective)?;
        let what = asked.word();
        tracing::info!(run = %self.id, id, by, what, ?asked, %effective, "an operator's order");
        let before = self.desired.state().lines();
        let mut replaced = Vec::new();
        let reason = match asked {
            Asked::Command(deed) => {
                self.note(&id, &by, what, &format!("{by} asked for it"), now);
                self.expect(&id, addressed.clone(), now + timeout, updates);
                for rank in addressed {
                    let command = Command {
                        id: id.clone(),
                        by: by.clone(),
                        at: Position::default(),
                        effective,
                        deed: deed.clone(),
                    };
                    self.deliver(rank, command, now);
                }
                return Ok(());
            }
            Asked::Stop(reason) => {
                let stop = Stop {
                    id: id.clone(),
                    effective,
                    reason: reason.clone(),
                    by: by.clone(),
                };
                self.desired.stop(stop).map_err(|stands| {
                    let text = format!("by {}: {}", stands.by, stands.reason);
                    format!("run {} is stopping already, {text}", self.id)
                })?;
                reason
            }
            Asked::Lr { group, hold } => {
                let hold = LrHold {
                    id: id.clone(),
                    effective,
                    group,
                    hold,
                    by: by.clone(),
                };
                let reason = format!("learning rate {hold}");
                replaced = self.desired.hold_lr(hold)?;
                reason
            }
            Asked::Size(size) => {
                let hold = SizeHold {
                    id: id.clone(),
                    effective,
                    size,
                    by: by.clone(),
                };
                replaced = self.desired.hold_size(hold)?;
                format!("input size {} x {}, {effective}", size.height, size.width)
            }
            Asked::Mode(skip_types) => {
                let from_epoch = match effective {
                    Effective::Epoch(epoch) => epoch,
                    _ => 0,
                };
                let mode = Mode {
                    id: id.clone(),
                    from_epoch,
                    skip_types,
                    by: by.clone(),
                    operator: true,
                    running: false,
                };
                replaced.extend(self.desired.mode(mode, &SKIP_TYPES)?);
                "mode on".to_owned()
            }
        };
        self.note(&id, &by, what, &reason, now);
        for old in replaced {
            let why = format!("{by} ordered something else for the same thing first ({id})");
            let told = self.steering.superseded(&old, &why);
            self.tell(told);
        }
        self.expect(&id, addressed, now + timeout, updates);
        self.send_state(&before, now);
        Ok(())
    }

    /// A run belongs to its user; the daemon's own and root may act on every one.
    pub(super) fn check_owner(&self, uid: Option<u32>) -> Result<(), String> {
        match (self.uid, uid) {
            (Some(owner), Some(uid)) if ![owner, 0, self.rules.own_uid].contains(&uid) => {
                Err(format!(
                    "run {} belongs to uid {owner}; uid {uid} may look at it, not act on it",
                    self.id
                ))
            }
            _ => Ok(()),
        }
    }

    /// The ranks that an order is for. State is for every rank of the run, also for one that is not here (yet, or again
    /// after this daemon was started anew): it finds the state when it comes.
    fn addressed(
        &self,
        ranks: &BTreeSet<Rank>,
        is_command: bool,
    ) -> Result<BTreeSet<Rank>, String> {
        let live: BTreeSet<_> = self
            .members
            .iter()
            .filter(|(_, member)| member.ended.is_none())
            .map(|(rank, _)| *rank)
            .collect();
        if live.is_empty() {
            return Err(format!("run {} is over: {}", self.id, self.reason()));
        }
        if ranks.is_empty() && (is_command || self.acts_together()) {
            return Ok(live); // of a job whose ranks act together the others are told by rank 0
        }
        if ranks.is_empty() {
            let ended = |rank: &Rank| {
                self.members
                    .get(rank)
                    .is_some_and(|member| member.ended.is_some())
            };
            return Ok((0..self.world_size)
                .map(Rank)
                .filter(|rank| !ended(rank))
                .collect());
        }
        match ranks.iter().find(|rank| !live.contains(rank)) {
            None => Ok(ranks.clone()),
            Some(missing) => {
                let there: Vec<_> = live.iter().map(Rank::to_string).collect();
                Err(format!(
                    "rank {missing} of run {} is not there; there are: {}",
                    self.id,
                    there.join(", ")
                ))
            }
        }
    }

    /// Whether what rank 0 is told reaches every rank.
    pub(super) fn acts_together(&self) -> bool {
        let mut members = self.members.values();
        members.any(|member| member.ended.is_none() && member.heartbeat.together)
    }

    /// Of a job whose ranks act together, rank 0 takes orders, from its own daemon.
    fn check_leader(&self, is_line: bool) -> Result<(), String> {
        let is_here = |member: &Member| member.ended.is_none();
        let leader = self.members.get(&Rank(0));
        if is_line || !self.acts_together() || leader.is_some_and(is_here) {
            return Ok(());
        }
        let here = self.members.iter().filter(|(_, member)| is_here(member));
        let there: Vec<_> = here.map(|(rank, _)| rank.to_string()).collect();
        Err(format!(
            "the ranks of run {} act together, and rank 0 is not here: give the order to its daemon, if it has one (here: rank {})",
            self.id,
            there.join(", ")
        ))
    }

    /// A position that has passed on any rank could not be the same on all.
    fn check_position(&self, effective: Effective) -> Result<(), String> {
        let live = || {
            self.members
                .iter()
                .filter(|(_, member)| member.ended.is_none())
        };
        let (what, asked, end) = match effective {
            Effective::Iter(iter) => ("iteration", iter, self.facts.total_iters()),
            Effective::Epoch(epoch) => ("epoch", epoch, self.facts.max_epochs),
            Effective::Next | Effective::Now => return Ok(()),
        };
        let is_at = |at: Position| match effective {
            Effective::Epoch(_) => at.epoch,
            _ => at.iter,
        };
        // An epoch that is under way has begun.
        let begun = |at: Position| match (effective, self.facts.iters_per_epoch) {
            (Effective::Epoch(epoch), Some(iters)) => at.iter > epoch.saturating_mul(iters),
            _ => false,
        };
        let passed = |at: Position| is_at(at) > asked || (is_at(at) == asked && begun(at));
        if let Some((rank, member)) = live().find(|(_, member)| passed(member.position)) {
            let at = is_at(member.position);
            return Err(format!(
                "{what} {asked} has passed: rank {rank} of run {} is at {what} {at}",
                self.id
            ));
        }
        match end {
            Some(end) if asked >= end => Err(format!(
                "{what} {asked} never comes: run {} has {end} of them, counted from 0",
                self.id
            )),
            _ => Ok(()),
        }
    }

    pub(super) fn check_asked(&self, asked: &Asked, effective: Effective) -> Result<(), String> {
        match asked {
            Asked::Lr { group, hold } => {
                if let Hold::Value(number) | Hold::Scale(number) = hold
                    && !(number.is_finite() && *number >= 0.0)
                {
                    return Err(format!(
                        "a learning rate is held at, or scaled by, a finite number from 0 on; {number} is none"
                    ));
                }
                let groups = self.facts.groups.len();
                match group {
                    Some(group) if groups > 0 && *group as usize >= groups => Err(format!(
                        "there is no parameter group {group}: run {} has {groups}, counted from 0",
                        self.id
                    )),
                    _ => Ok(()),
                }
            }
            Asked::Size(Size { height, width }) => {
                let multiple = self.facts.size_multiple;
                let fits =
                    |pixels: u32| pixels > 0 && (multiple == 0 || pixels.is_multiple_of(multiple));
                if fits(*height) && fits(*width) {
                    Ok(())
                } else {
                    Err(format!(
                        "{height} x {width} is no input size here: each side is a multiple of {} and at least that",
                        multiple.max(1)
                    ))
                }
            }
            Asked::Mode(_) if matches!(effective, Effective::Iter(_) | Effective::Now) => Err(
                "the mode is switched before an epoch: say --at-epoch, or nothing for the next one"
                    .to_owned(),
            ),
            _ => Ok(()),
        }
    }

    fn expect(&mut self, id: &str, ranks: BTreeSet<Rank>, deadline: Instant, updates: Updates) {
        let first = self
            .steering
            .expect(id.to_owned(), ranks, deadline, updates.clone());
        // An operator who left needs no answer.
        let _ = updates.try_send(Ok(first));
    }

    /// Puts a command on its way to one rank.
    pub(super) fn command(
        &mut self,
        id: String,
        by: &str,
        rank: Rank,
        at: Position,
        deed: Deed,
        now: Instant,
    ) {
        let command = Command {
            id,
            by: by.to_owned(),
            at,
            effective: Effective::Now,
            deed,
        };
        self.deliver(rank, command, now);
    }

    pub(super) fn deliver(&mut self, rank: Rank, command: Command, now: Instant) {
        let outcomes = self.answers.outcomes(&command.id);
        if let Some(outcome) = outcomes.and_then(|outcomes| outcomes.get(&rank)).copied() {
            // It was decided before this daemon's time, and done: that is said already.
            let id = command.id.clone();
            self.write(now, Kind::Command(rank, Box::new(command)));
            return self.write(now, Kind::Answered(rank, id, outcome));
        }
        if let Some(lost) = self.steering.command(rank, command.clone()) {
            tracing::warn!(run = %self.id, %rank, id = lost.id, "a command was dropped: the trainer does not answer");
            self.write(now, Kind::Answered(rank, lost.id, Outcome::Expired));
        }
        let what = What::Command {
            by: command.by.clone(),
            what: command.deed.word().into(),
            id: command.id.clone(),
        };
        self.happened(now, Some(rank), command.at, "", what);
        self.write(now, Kind::Command(rank, Box::new(command.clone())));
        self.send(rank, ToTrainer::Command(command));
    }
}
