//! Several ranks, one decision: what concerns the whole job comes from rank 0 only, over the job's own process group, and all
//! apply it at the same position. Where they meet is agreed once, before training begins, so that no rank's daemon has a say
//! in it. Pure rules; the collectives themselves are the trainer's.

use hookbus_proto::v1 as wire;

use crate::plan::{Gate, Wanted, Wish, is_due};
use crate::position::{AFTER_TRAIN_EPOCH, BEFORE_TRAIN_EPOCH, BEFORE_TRAIN_ITER, is_evaluation};
use crate::schedules::Complete;
use crate::{POINTS, PointId, Position};

/// Commands that wait for the next meeting.
const COMMANDS: usize = 1024;
/// Schedules that wait; a state names two.
const SCHEDULES: usize = 4;

/// Where what concerns the job comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Standing {
    /// From this rank's daemon.
    #[default]
    Alone,
    /// From nowhere yet: the ranks have not agreed, and what a daemon wants waits.
    Gathering,
    /// From this rank's daemon, for all: this is rank 0.
    Leads,
    /// From rank 0.
    Follows,
    /// From nowhere any more: the ranks cannot meet. What is in force stays.
    Parted,
}

/// A gate of the job's hooks, the same on every rank.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct JobGate {
    pub(crate) point: String,
    pub(crate) wish: Wish,
    pub(crate) gate: Gate,
}

/// A meeting of all ranks at a point.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Meeting {
    pub(crate) at: Position,
    /// Rank 0 hands over what is new, if anything is.
    pub exchange: bool,
    /// For each gate that is due only where a condition holds: whether it does on this rank.
    pub held: Vec<bool>,
    /// Gates due here: first those of `held`, in its order, then those that are always asked.
    pub(crate) gates: Vec<JobGate>,
}

impl Meeting {
    /// By which ranks see that they meet at the same point: 64 bits of its place and the iteration.
    pub fn tag(&self, point: PointId) -> u64 {
        // Ids of a trainer's own points are this rank's.
        let point = u64::from(point.0).min(POINTS.len() as u64);
        (self.at.iter << 8 | point) & (u64::MAX >> 1)
    }

    /// Whether rank 0 asks its daemon, and hands its answer over; `lowest`: for each of `held` the lowest rank where it
    /// holds, if any.
    pub fn is_asked(&self, lowest: &[Option<u32>]) -> bool {
        self.gates.len() > self.held.len() || lowest.iter().any(Option::is_some)
    }

    /// The gates that are asked, and the ranks where a condition holds.
    pub(crate) fn asked(&self, lowest: &[Option<u32>]) -> (Vec<JobGate>, Vec<u32>) {
        let conditional = self.gates.iter().zip(lowest);
        let held = conditional.filter(|(_, lowest)| lowest.is_some());
        let always = self.gates.iter().skip(self.held.len());
        let gates = held.map(|(gate, _)| gate).chain(always).cloned().collect();
        let mut ranks: Vec<u32> = lowest.iter().flatten().copied().collect();
        ranks.sort_unstable();
        ranks.dedup();
        (gates, ranks)
    }
}

/// What this rank knows of its job.
#[derive(Debug, Default)]
pub(crate) struct Ranks {
    pub(crate) standing: Standing,
    /// Iterations between two exchanges.
    every: u64,
    /// Every rank reaches the points of a validation or test.
    evaluates: bool,
    gates: Vec<JobGate>,
    /// Shares that were handed over.
    shares: u64,
    /// Ids of the share that is being handed over.
    on_its_way: Vec<String>,
    first_gates: Option<wire::Plan>,
    state: Option<wire::State>,
    schedules: Vec<Complete>,
    commands: Vec<wire::Command>,
}

impl Ranks {
    /// What a daemon wants waits for the next meeting. None: it is for this rank to apply, now or (where another rank
    /// decides) never.
    pub(crate) fn stages(&self) -> bool {
        matches!(self.standing, Standing::Gathering | Standing::Leads)
    }

    pub(crate) fn stage_state(&mut self, state: wire::State) {
        self.state = Some(state);
    }

    pub(crate) fn stage_schedule(&mut self, complete: Complete) {
        if self.schedules.len() >= SCHEDULES {
            self.schedules.remove(0);
        }
        self.schedules.push(complete);
    }

    /// False: too many wait.
    pub(crate) fn stage_command(&mut self, command: wire::Command) -> bool {
        let fits = self.commands.len() < COMMANDS;
        if fits {
            self.commands.push(command);
        }
        fits
    }

    /// Whether every schedule that the waiting state names is here.
    pub(crate) fn is_complete(&self) -> bool {
        let here = |id: &str, hash: &[u8]| {
            let same = |one: &Complete| one.id == id && one.hash == hash;
            id.is_empty() || self.schedules.iter().any(same)
        };
        let Some(state) = &self.state else {
            return true;
        };
        let lr = state.lr.as_ref();
        let size = state.size.as_ref();
        lr.is_none_or(|lr| here(&lr.schedule, &lr.schedule_hash))
            && size.is_none_or(|size| here(&size.schedule, &size.schedule_hash))
    }

    /// The ranks have agreed. `plan`: what rank 0's daemon wants; its gates are the job's.
    pub(crate) fn agree(
        &mut self,
        leads: bool,
        every: u64,
        evaluates: bool,
        plan: Option<&wire::Plan>,
    ) {
        self.every = every.max(1);
        self.evaluates = evaluates;
        if leads {
            self.standing = Standing::Leads;
            let mut gates = plan.cloned().unwrap_or_default();
            gates
                .subscriptions
                .retain(|wish| wish.way() == wire::Way::Gate);
            self.first_gates = Some(gates);
        } else {
            self.standing = Standing::Follows;
            self.forget();
        }
    }

    /// The ranks cannot meet any more. Returns the ids of what operators want and no rank has.
    pub(crate) fn part(&mut self) -> Vec<String> {
        self.standing = Standing::Parted;
        self.gates.clear();
        let mut ids = std::mem::take(&mut self.on_its_way);
        ids.extend(self.waiting());
        self.forget();
        ids
    }

    fn waiting(&self) -> Vec<String> {
        let mut ids: Vec<_> = self.state.iter().flat_map(asked).collect();
        ids.extend(self.commands.iter().map(|command| command.id.clone()));
        ids
    }

    fn forget(&mut self) {
        self.state = None;
        self.schedules.clear();
        self.commands.clear();
    }

    /// What is new, if anything is: rank 0 hands it to all, itself too.
    pub(crate) fn offer(&mut self) -> Option<wire::Share> {
        self.on_its_way = self.waiting();
        let gates = self.first_gates.take();
        let state = self.state.take();
        let schedules = std::mem::take(&mut self.schedules);
        let commands = std::mem::take(&mut self.commands);
        let new =
            gates.is_some() || state.is_some() || !schedules.is_empty() || !commands.is_empty();
        new.then(|| wire::Share {
            number: self.shares + 1,
            gates,
            state,
            schedules: schedules.into_iter().map(whole).collect(),
            commands,
        })
    }

    /// A share is handed over. Errors: one before it was missed.
    pub(crate) fn take(&mut self, share: &wire::Share) -> Result<(), String> {
        if share.number != self.shares + 1 {
            return Err(format!(
                "share {} came after share {}: ranks met at different points",
                share.number, self.shares
            ));
        }
        self.shares += 1;
        self.on_its_way.clear();
        if let Some(plan) = &share.gates {
            let gates = plan.subscriptions.iter().filter_map(|subscription| {
                let wish = Wish::new(subscription);
                let gate = wish.gate.clone()?;
                let point = subscription.point.clone();
                Some(JobGate { point, wish, gate })
            });
            self.gates = gates.collect();
        }
        Ok(())
    }

    /// Whether the ranks may meet at a point.
    pub(crate) fn meets_at(&self, id: u8, name: &str) -> bool {
        let agreed = matches!(self.standing, Standing::Leads | Standing::Follows);
        agreed && (is_exchange(id) || self.gates.iter().any(|gate| gate.point == name))
    }

    /// The meeting at this point and position, if there is one. `is_not_finite`: of a field, on this rank.
    pub(crate) fn meeting(
        &self,
        (id, name): (u8, &str),
        at: Position,
        is_not_finite: impl Fn(&str) -> bool,
    ) -> Option<Meeting> {
        let exchange =
            is_exchange(id) && (id != BEFORE_TRAIN_ITER || at.iter.is_multiple_of(self.every));
        let reached = self.evaluates || !is_evaluation(id);
        let due = |gate: &&JobGate| reached && gate.point == name && is_due(&gate.wish.every, at);
        let due = || self.gates.iter().filter(due);
        let conditional = || due().filter(|gate| gate.gate.not_finite.is_some());
        let always = due().filter(|gate| gate.gate.not_finite.is_none());
        let held =
            conditional().map(|gate| gate.gate.not_finite.as_deref().is_some_and(&is_not_finite));
        let held: Vec<bool> = held.collect();
        let gates: Vec<_> = conditional().chain(always).cloned().collect();
        (exchange || !gates.is_empty()).then_some(Meeting {
            at,
            exchange,
            held,
            gates,
        })
    }

    /// The field that a gate due here must know the value of, even where reading it is dear.
    pub(crate) fn gate_field(&self, name: &str, at: Position) -> Option<&str> {
        let here = |gate: &&JobGate| gate.point == name && is_due(&gate.wish.every, at);
        let mut due = self.gates.iter().filter(here);
        due.find_map(|gate| gate.gate.not_finite.as_deref())
    }

    /// Whether a gate here compares what model and datasets are; None: the ranks have no gates of their own.
    pub(crate) fn wants_description(&self, name: &str) -> Option<bool> {
        match self.standing {
            Standing::Alone | Standing::Gathering => None,
            Standing::Follows | Standing::Parted => Some(false),
            Standing::Leads => Some(
                self.gates
                    .iter()
                    .any(|gate| gate.point == name && gate.wish.description),
            ),
        }
    }
}

/// The ids of what operators want in a state, and hooks while the training runs.
pub(crate) fn asked(state: &wire::State) -> Vec<String> {
    let stop = state.stop.iter().map(|stop| &stop.id);
    let lr = state
        .lr
        .iter()
        .flat_map(|lr| &lr.holds)
        .map(|hold| &hold.id);
    let size = state
        .size
        .iter()
        .flat_map(|size| &size.holds)
        .map(|hold| &hold.id);
    let mode = state
        .mode
        .iter()
        .filter(|mode| mode.operator || mode.running)
        .map(|mode| &mode.id);
    let flags = state.set_epoch.iter().chain(&state.sync_norm);
    let flags = flags.filter(|flag| flag.running).map(|flag| &flag.id);
    let standing = stop.chain(lr).chain(size).chain(mode);
    standing.chain(flags).cloned().collect()
}

/// Where rank 0 hands over what is new: every so many iterations, and where an epoch begins and ends.
fn is_exchange(id: u8) -> bool {
    matches!(
        id,
        BEFORE_TRAIN_ITER | BEFORE_TRAIN_EPOCH | AFTER_TRAIN_EPOCH
    )
}

fn whole(complete: Complete) -> wire::WholeSchedule {
    wire::WholeSchedule {
        id: complete.id,
        hash: complete.hash,
        schedule: Some(complete.schedule),
    }
}

/// A schedule that was handed over.
pub(crate) fn complete(whole: wire::WholeSchedule) -> Complete {
    Complete {
        id: whole.id,
        hash: whole.hash,
        schedule: whole.schedule.unwrap_or_default(),
    }
}

/// The fields that the gates want.
pub(crate) fn wanted(gates: &[JobGate]) -> Wanted {
    let names = gates.iter().map(|gate| match &gate.wish.wanted {
        Wanted::All => None,
        Wanted::Named(names) => Some(names.clone()),
    });
    names
        .collect::<Option<Vec<_>>>()
        .map_or(Wanted::All, |names| Wanted::Named(names.concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(point: &str, not_finite: Option<&str>, every: wire::Every) -> wire::Subscription {
        wire::Subscription {
            subscriber: point.into(),
            point: point.into(),
            way: wire::Way::Gate.into(),
            every: Some(every),
            when: not_finite.map(|field| wire::When {
                condition: Some(wire::when::Condition::NotFinite(field.into())),
            }),
            ..Default::default()
        }
    }

    fn every(n: i64) -> wire::Every {
        wire::Every {
            base: wire::Base::Iter.into(),
            n,
            start: 0,
        }
    }

    fn plan() -> wire::Plan {
        let observe = wire::Subscription {
            point: "*".into(),
            ..Default::default()
        };
        wire::Plan {
            subscriptions: vec![
                observe,
                gate("before_train_epoch", None, wire::Every::default()),
                gate("before_val_epoch", None, wire::Every::default()),
                gate("after_train_iter", Some("loss"), every(2)),
            ],
            ..Default::default()
        }
    }

    fn at(iter: u64) -> Position {
        Position {
            iter,
            ..Position::default()
        }
    }

    const ITER: (u8, &str) = (BEFORE_TRAIN_ITER, "before_train_iter");
    const EPOCH: (u8, &str) = (BEFORE_TRAIN_EPOCH, "before_train_epoch");
    const AFTER: (u8, &str) = (crate::position::AFTER_TRAIN_ITER, "after_train_iter");
    const VAL: (u8, &str) = (8, "before_val_epoch");

    /// Two ranks that have agreed and met once.
    fn agreed(evaluates: bool) -> (Ranks, Ranks) {
        let (mut leader, mut follower) = (Ranks::default(), Ranks::default());
        leader.standing = Standing::Gathering;
        leader.agree(true, 10, evaluates, Some(&plan()));
        follower.agree(false, 10, evaluates, None);
        let share = leader.offer().expect("the gates are new");
        assert!(leader.take(&share).is_ok() && follower.take(&share).is_ok());
        (leader, follower)
    }

    #[test]
    fn all_ranks_meet_at_the_same_points() {
        let (leader, follower) = agreed(true);
        for iter in 0..40 {
            for point in [ITER, EPOCH, AFTER, VAL] {
                let meeting = |ranks: &Ranks| ranks.meeting(point, at(iter), |_| false);
                assert_eq!(meeting(&leader), meeting(&follower));
            }
            let met = |point| leader.meeting(point, at(iter), |_| false);
            assert_eq!(met(ITER).is_some(), iter % 10 == 0, "{iter}");
            assert_eq!(met(AFTER).is_some(), iter % 2 == 1, "{iter}");
            assert!(met(VAL).is_some_and(|meeting| meeting.is_asked(&[]) && !meeting.exchange));
        }
        let (leader, _) = agreed(false);
        assert_eq!(
            leader.meeting(VAL, at(0), |_| false),
            None,
            "only some ranks validate"
        );
        assert!(leader.meets_at(ITER.0, ITER.1) && leader.meets_at(AFTER.0, AFTER.1));
        assert!(!leader.meets_at(0, "before_run"));
    }

    #[test]
    fn a_gate_is_asked_where_its_condition_holds_on_any_rank() {
        let (leader, follower) = agreed(true);
        let bad = |ranks: &Ranks| {
            ranks
                .meeting(AFTER, at(1), |field| field == "loss")
                .expect("due")
        };
        let fine = leader.meeting(AFTER, at(1), |_| false).expect("due");
        assert_eq!(
            (fine.held.as_slice(), bad(&follower).held.as_slice()),
            (&[false][..], &[true][..])
        );
        assert!(!fine.is_asked(&[None]) && fine.is_asked(&[Some(1)]));
        let (gates, ranks) = fine.asked(&[Some(1)]);
        assert_eq!((gates.len(), ranks), (1, vec![1]));
        let epoch = leader.meeting(EPOCH, at(0), |_| false).expect("always");
        assert!(epoch.is_asked(&[]) && epoch.held.is_empty() && epoch.exchange);
        assert_eq!(leader.gate_field("after_train_iter", at(1)), Some("loss"));
        assert_eq!(leader.gate_field("after_train_iter", at(2)), None);
    }

    #[test]
    fn what_is_new_is_handed_over_once_and_in_order() {
        let (mut leader, mut follower) = agreed(true);
        assert_eq!(leader.offer(), None);
        assert!(leader.stages() && !follower.stages());
        leader.stage_state(wire::State {
            generation: 7,
            ..Default::default()
        });
        assert!(leader.stage_command(wire::Command {
            id: "c".into(),
            ..Default::default()
        }));
        let share = leader.offer().expect("news");
        assert_eq!((share.number, share.commands.len()), (2, 1));
        assert_eq!(share.state.as_ref().map(|state| state.generation), Some(7));
        assert!(share.gates.is_none() && leader.offer().is_none());
        assert!(follower.take(&share).is_ok());
        let why = follower.take(&share).expect_err("twice");
        assert!(why.contains("share 2 came after share 2"), "{why}");
    }

    #[test]
    fn a_state_waits_for_the_schedules_that_it_names() {
        let mut ranks = Ranks {
            standing: Standing::Gathering,
            ..Ranks::default()
        };
        assert!(ranks.is_complete());
        let lr = wire::LrState {
            schedule: "a".into(),
            schedule_hash: vec![1],
            ..Default::default()
        };
        ranks.stage_state(wire::State {
            lr: Some(lr),
            ..Default::default()
        });
        assert!(!ranks.is_complete());
        let complete = |hash| Complete {
            id: "a".into(),
            hash: vec![hash],
            schedule: wire::Schedule::default(),
        };
        ranks.stage_schedule(complete(2));
        assert!(!ranks.is_complete(), "another one of that name");
        ranks.stage_schedule(complete(1));
        assert!(ranks.is_complete());
        ranks.part();
        assert!(!ranks.meets_at(ITER.0, ITER.1) && ranks.offer().is_none());
    }
}
