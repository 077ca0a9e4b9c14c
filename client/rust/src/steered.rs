//! What holds by position in this attempt: learning rates, input size, mode, set_epoch. The client's thread puts the latest
//! state in, the training thread takes what is due at a point. Pure rules.

use std::collections::HashMap;

use hookbus_proto::v1::{self as wire, Outcome};

use crate::Position;
use crate::inbox::Action;
use crate::position::Phase;
use crate::rates::{Rates, Report, Turn, passed, turn};
use crate::schedules::Complete;

/// Where this attempt is; what hooks decide ahead must be there before training begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Door {
    /// Training has not begun.
    #[default]
    Open,
    /// It has: a field that no hook had decided by then is not decided ahead any more.
    Closed,
}

/// What a hook decides ahead and does not get, because the daemon came late.
const LATE: &str =
    "it was decided only after training had begun; it is not in force in this attempt";

/// Schedules that are complete and not named yet.
const MOST_COMPLETE: usize = 4;
/// Refused ids that are remembered; one that comes again after so many others is reported again.
const MOST_REFUSED: usize = 1024;

#[derive(Debug)]
struct Wish {
    id: String,
    hash: Vec<u8>,
    by: String,
}

#[derive(Debug)]
struct Sizes {
    id: String,
    steps: Vec<wire::SizeStep>,
}

impl Sizes {
    /// The index of the step that holds at `at`.
    fn step(&self, at: Position) -> Option<usize> {
        let after = self.steps.partition_point(|step| match step.from_iter {
            Some(iter) => at.iter >= iter,
            None => at.epoch >= step.from_epoch,
        });
        after.checked_sub(1)
    }
}

#[derive(Debug)]
struct SizeHold {
    hold: wire::SizeHold,
    /// As which one it came into force, and over which of the schedule's steps; it holds until the next step.
    begun: Option<(u64, Option<usize>)>,
}

/// What a hook switches on and off.
#[derive(Debug, Default)]
struct Switch {
    on: Option<wire::FlagState>,
    /// The id that has its result.
    told: Option<String>,
}

impl Switch {
    /// What is done once more; true: it is the first time, and has its result.
    fn again(&mut self) -> Option<(&str, bool)> {
        let id = &self.on.as_ref()?.id;
        let first = self.told.as_ref() != Some(id);
        if first {
            self.told = Some(id.clone());
        }
        Some((id, first))
    }
}

/// Everything that holds by position.
#[derive(Debug, Default)]
pub(crate) struct Steered {
    door: Door,
    pub(crate) rates: Rates,
    lr_wish: Option<Wish>,
    size_wish: Option<Wish>,
    sizes: Option<Sizes>,
    size_holds: Vec<SizeHold>,
    /// How many came into force.
    begun: u64,
    /// Ids of those that the schedule's next step has ended.
    ended: Vec<String>,
    /// What was given to the trainer last.
    size_given: Option<(String, usize)>,
    mode: Option<wire::ModeState>,
    mode_given: Option<String>,
    set_epoch: Switch,
    epoch_given: Option<u64>,
    sync_norm: Switch,
    /// Complete, and not named by the state yet.
    complete: HashMap<String, Complete>,
    /// Ids that were refused, so that each is reported once.
    refused: Vec<String>,
    /// Ids of what a hook decided and was in force once: such a one never comes late.
    had: Vec<String>,
    /// The schedule of sizes that was reported.
    size_reported: Option<String>,
}

/// Why this trainer does not take something, if it does not.
pub(crate) type Refusal<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Steered {
    /// The latest state, whole. `refuses` says of a field why the trainer's allow-list does not have it.
    pub(crate) fn state(&mut self, state: wire::State, refuses: Refusal<'_>) -> Vec<Report> {
        let mut reports = Vec::new();
        let mut lr = state.lr.unwrap_or_default();
        if let Some(why) = refuses("lr") {
            for id in lr.holds.drain(..).map(|hold| hold.id) {
                self.refuse(&id, &why, &mut reports);
            }
            let schedule = std::mem::take(&mut lr.schedule);
            if !schedule.is_empty() {
                self.refuse(&schedule, &why, &mut reports);
            }
        }
        self.rates.hold(lr.holds);
        let named = (lr.schedule, lr.schedule_hash, lr.by);
        let before = self.lr_wish.take();
        self.lr_wish = self.wish(before, named, None, &mut reports);
        let size = state.size.unwrap_or_default();
        let why = refuses("size");
        if let Some(why) = &why {
            for hold in &size.holds {
                self.refuse(&hold.id, why, &mut reports);
            }
        }
        let named = (size.schedule, size.schedule_hash, size.by);
        let before = self.size_wish.take();
        self.size_wish = self.wish(before, named, why.as_deref(), &mut reports);
        self.hold_sizes(size.holds);
        let mode = state.mode.filter(|mode| {
            let ahead = !(mode.operator || mode.running);
            let late = ahead && self.is_late(self.mode.is_some(), &mode.id);
            let why = refuses("mode").or_else(|| late.then(|| LATE.to_owned()));
            self.takes(&mode.id, why, &mut reports)
        });
        let agreed = |mode: &wire::ModeState| !mode.operator;
        self.mode = mode.or_else(|| self.mode.take().filter(agreed).filter(|_| self.is_closed()));
        let (old, why) = (std::mem::take(&mut self.set_epoch), refuses("set_epoch"));
        self.set_epoch = self.switch(old, state.set_epoch, why, &mut reports);
        if self.set_epoch.on.is_none() {
            self.epoch_given = None;
        }
        let (old, why) = (std::mem::take(&mut self.sync_norm), refuses("sync_norm"));
        self.sync_norm = self.switch(old, state.sync_norm, why, &mut reports);
        self.install();
        reports
    }

    /// `refused`: why this trainer does not take it. Off is said while the training runs only; what is not said any more
    /// stays on once training has begun.
    fn switch(
        &mut self,
        old: Switch,
        flag: Option<wire::FlagState>,
        refused: Option<String>,
        reports: &mut Vec<Report>,
    ) -> Switch {
        let was_on = old.on.is_some();
        let flag = flag.filter(|flag| {
            let late = !flag.running && self.is_late(was_on, &flag.id);
            let why = refused.or_else(|| late.then(|| LATE.to_owned()));
            (flag.on || flag.running) && self.takes(&flag.id, why, reports)
        });
        let Switch { on, mut told } = old;
        let on = match flag {
            None => on.filter(|_| self.is_closed()),
            Some(flag) if flag.on => Some(flag),
            Some(off) => {
                if told.as_ref() != Some(&off.id) {
                    let old = if was_on { "on" } else { "off" };
                    reports.push(Report {
                        id: off.id.clone(),
                        outcome: Outcome::Applied,
                        old: Some(old.to_owned()),
                        new: Some("off".to_owned()),
                        reason: String::new(),
                    });
                    told = Some(off.id);
                }
                None
            }
        };
        Switch { on, told }
    }

    /// Operators' sizes, whole. Those that were there keep the moment from which they hold.
    fn hold_sizes(&mut self, holds: Vec<wire::SizeHold>) {
        self.ended
            .retain(|id| holds.iter().any(|hold| hold.id == *id));
        let mut old = std::mem::take(&mut self.size_holds);
        let Self { refused, ended, .. } = self;
        let stands =
            |hold: &wire::SizeHold| !refused.contains(&hold.id) && !ended.contains(&hold.id);
        self.size_holds = holds
            .into_iter()
            .filter(stands)
            .map(|hold| {
                let known = old.iter().position(|known| known.hold.id == hold.id);
                let begun = known.and_then(|at| old.swap_remove(at).begun);
                SizeHold { hold, begun }
            })
            .collect();
    }

    /// A schedule is complete.
    pub(crate) fn complete(&mut self, complete: Complete) {
        // What the state never named goes.
        if self.complete.len() >= MOST_COMPLETE {
            self.complete.clear();
        }
        self.complete.insert(complete.id.clone(), complete);
        self.install();
    }

    /// A schedule cannot be installed.
    pub(crate) fn broken(&mut self, id: &str, why: &str) -> Vec<Report> {
        let mut reports = Vec::new();
        self.refuse(id, why, &mut reports);
        reports
    }

    /// Whether every schedule that the state names is here.
    pub(crate) fn is_complete(&self) -> bool {
        let lr = self.lr_wish.as_ref().map(|wish| wish.id.as_str());
        let size = self.size_wish.as_ref().map(|wish| wish.id.as_str());
        lr == self.rates.schedule() && size == self.sizes.as_ref().map(|sizes| sizes.id.as_str())
    }

    /// Ids of the schedules that are here, for Hello.
    pub(crate) fn installed(&self) -> Vec<String> {
        let size = self.sizes.as_ref().map(|sizes| sizes.id.clone());
        self.rates
            .schedule()
            .map(str::to_owned)
            .into_iter()
            .chain(size)
            .collect()
    }

    /// Ids of operators' holds that are in force, for Hello.
    pub(crate) fn in_force(&self) -> Vec<String> {
        let sizes = self.size_holds.iter().filter(|size| size.begun.is_some());
        let sizes = sizes.map(|size| size.hold.id.clone());
        self.rates
            .in_force()
            .map(str::to_owned)
            .chain(sizes)
            .collect()
    }

    /// Ids of what operators want, and hooks while the training runs, that was taken, in force or not yet.
    pub(crate) fn taken(&self) -> Vec<String> {
        let sizes = self.size_holds.iter().map(|size| size.hold.id.clone());
        let mode = self.mode.iter().map(|mode| mode.id.clone());
        let rates = self.rates.taken().map(str::to_owned);
        let flags = [&self.set_epoch, &self.sync_norm].into_iter();
        let flags = flags.flat_map(|flag| {
            let on = flag.on.iter().map(|on| on.id.clone());
            on.chain(flag.told.clone())
        });
        rates
            .chain(sizes)
            .chain(flags)
            .chain(mode)
            .chain(self.mode_given.clone())
            .collect()
    }

    /// Training begins: what is not here now does not come. Returns the hooks whose schedules are missing.
    pub(crate) fn close_door(&mut self) -> (Vec<String>, Vec<Report>) {
        self.door = Door::Closed;
        let here = self.installed();
        let mut missing = Vec::new();
        for wish in [&mut self.lr_wish, &mut self.size_wish] {
            missing.extend(wish.take_if(|wish| !here.contains(&wish.id)));
        }
        let mut reports = Vec::new();
        for wish in &missing {
            self.refuse(&wish.id, LATE, &mut reports);
        }
        let hooks = missing.into_iter().map(|wish| wish.by);
        (hooks.collect(), reports)
    }

    /// What is due at the top of an iteration or epoch.
    pub(crate) fn take(
        &mut self,
        at: Position,
        phase: Phase,
        reports: &mut Vec<Report>,
    ) -> Vec<Action> {
        let mut actions = Vec::new();
        if phase.epoch_begins {
            actions.extend(self.take_mode(at));
            actions.extend(self.take_set_epoch(at));
        }
        actions.extend(self.take_size(at, phase, reports));
        actions
    }

    fn take_mode(&mut self, at: Position) -> Option<Action> {
        let mode = self
            .mode
            .as_ref()
            .filter(|mode| at.epoch >= mode.from_epoch)?;
        if self.mode_given.as_deref() == Some(&mode.id) {
            return None;
        }
        self.mode_given = Some(mode.id.clone());
        Some(Action::Mode {
            id: mode.id.clone(),
            skip_types: mode.skip_types.clone(),
        })
    }

    fn take_set_epoch(&mut self, at: Position) -> Option<Action> {
        if self.epoch_given == Some(at.epoch) {
            return None;
        }
        let (id, first) = self.set_epoch.again()?;
        self.epoch_given = Some(at.epoch);
        Some(Action::SetEpoch {
            id: if first {
                id.to_owned()
            } else {
                format!("{id}/e{}", at.epoch)
            },
            epoch: at.epoch,
            quiet: !first,
        })
    }

    /// Whether norm layers are averaged before each validation.
    pub(crate) fn syncs_norm(&self) -> bool {
        self.sync_norm.on.is_some()
    }

    /// What is due where a validation's epoch begins.
    pub(crate) fn take_sync_norm(&mut self, at: Position) -> Option<Action> {
        let (id, first) = self.sync_norm.again()?;
        Some(Action::SyncNorm {
            id: if first {
                id.to_owned()
            } else {
                format!("{id}/i{}", at.iter)
            },
            quiet: !first,
        })
    }

    fn take_size(
        &mut self,
        at: Position,
        phase: Phase,
        reports: &mut Vec<Report>,
    ) -> Option<Action> {
        self.report_sizes(reports);
        let step = self.sizes.as_ref().and_then(|sizes| sizes.step(at));
        self.begin_sizes(at, phase, step, reports);
        let held = self.size_holds.iter().filter(|size| size.begun.is_some());
        let held = held.max_by_key(|size| size.begun);
        let (id, index, height, width) = match (held, &self.sizes, step) {
            (Some(SizeHold { hold, .. }), _, _) => {
                (hold.id.clone(), usize::MAX, hold.height, hold.width)
            }
            (None, Some(sizes), Some(step)) => {
                let wanted = &sizes.steps[step];
                let id = format!("{}/{step}", sizes.id);
                (id, step, wanted.height, wanted.width)
            }
            _ => return None,
        };
        let given = Some((id.clone(), index));
        if self.size_given == given {
            return None;
        }
        self.size_given = given;
        Some(Action::Size { id, height, width })
    }

    /// Holds come into force, are refused, or are ended by the schedule's next step.
    fn begin_sizes(
        &mut self,
        at: Position,
        phase: Phase,
        step: Option<usize>,
        reports: &mut Vec<Report>,
    ) {
        let mut passed_by = Vec::new();
        let Self {
            size_holds,
            begun,
            ended,
            ..
        } = self;
        size_holds.retain_mut(|size| match size.begun {
            Some((_, over)) if over != step => {
                ended.push(size.hold.id.clone());
                false
            }
            Some(_) => true,
            None => match turn(size.hold.effective, at, phase.fresh) {
                Turn::Not => true,
                Turn::Now => {
                    *begun += 1;
                    size.begun = Some((*begun, step));
                    true
                }
                Turn::Passed => {
                    passed_by.push((size.hold.id.clone(), passed(size.hold.effective)));
                    false
                }
            },
        });
        for (id, why) in passed_by {
            self.refuse(&id, &why, reports);
        }
    }

    /// A schedule of sizes is in force from here on.
    fn report_sizes(&mut self, reports: &mut Vec<Report>) {
        let Some(sizes) = &self.sizes else { return };
        if self.size_reported.as_ref() != Some(&sizes.id) {
            self.size_reported = Some(sizes.id.clone());
            reports.push(Report {
                id: sizes.id.clone(),
                outcome: Outcome::Applied,
                old: None,
                new: Some(format!("{} changes planned", sizes.steps.len())),
                reason: String::new(),
            });
        }
    }

    /// The iteration and the epoch before which something is due next: nothing is, before either.
    pub(crate) fn next_due(&self, at: Position, fresh: bool) -> (u64, u64) {
        // What is for a whole epoch waits for the next one where this one is under way.
        let next_epoch = at.epoch + u64::from(!fresh);
        let (mut iter, mut epoch) = (u64::MAX, u64::MAX);
        if let Some(mode) = &self.mode
            && self.mode_given.as_deref() != Some(&mode.id)
        {
            epoch = mode.from_epoch.max(next_epoch);
        }
        if self.set_epoch.on.is_some() {
            let next = self.epoch_given.map_or(next_epoch, |given| given + 1);
            epoch = epoch.min(next.max(next_epoch));
        }
        for size in self.size_holds.iter().filter(|size| size.begun.is_none()) {
            match size.hold.effective {
                Some(effective) if effective.when() == wire::EffectiveWhen::Epoch => {
                    epoch = epoch.min(effective.epoch);
                }
                Some(effective) if effective.when() == wire::EffectiveWhen::Iter => {
                    iter = iter.min(effective.iter);
                }
                _ => return (0, 0),
            }
        }
        if let Some(sizes) = &self.sizes {
            if self.size_reported.as_ref() != Some(&sizes.id) {
                return (0, 0);
            }
            let here = sizes.step(at);
            let given = match &self.size_given {
                Some((id, index)) if id.starts_with(&sizes.id) => Some(*index),
                _ => None,
            };
            let over_here = |size: &SizeHold| size.begun.is_some_and(|(_, over)| over == here);
            if here.is_some() && here != given && !self.size_holds.iter().any(over_here) {
                return (0, 0);
            }
            let next = sizes.steps.get(here.map_or(0, |step| step + 1));
            match next.map(|step| (step.from_iter, step.from_epoch)) {
                Some((Some(from), _)) => iter = iter.min(from),
                Some((None, from)) => epoch = epoch.min(from),
                None => {}
            }
        }
        (iter, epoch)
    }

    fn is_closed(&self) -> bool {
        self.door == Door::Closed
    }

    /// `had`: the field was decided before.
    fn is_late(&self, had: bool, id: &str) -> bool {
        self.is_closed() && !had && !self.had.iter().any(|known| known == id)
    }

    /// A schedule that the state names, unless it is refused here. Once training has begun, none named leaves the one that
    /// is in force alone.
    fn wish(
        &mut self,
        before: Option<Wish>,
        (id, hash, by): (String, Vec<u8>, String),
        refused: Option<&str>,
        reports: &mut Vec<Report>,
    ) -> Option<Wish> {
        if id.is_empty() {
            return before.filter(|_| self.is_closed());
        }
        let late = self.is_late(before.is_some(), &id).then_some(LATE);
        let why = refused.or(late).map(str::to_owned);
        self.takes(&id, why, reports)
            .then_some(Wish { id, hash, by })
    }

    fn takes(&mut self, id: &str, why: Option<String>, reports: &mut Vec<Report>) -> bool {
        if let Some(why) = why {
            self.refuse(id, &why, reports);
        }
        !self.refused.iter().any(|refused| refused == id)
    }

    fn refuse(&mut self, id: &str, why: &str, reports: &mut Vec<Report>) {
        if self.once(id) {
            reports.push(Report::not(Outcome::Rejected, id, why));
        }
    }

    /// True: this id was not refused before.
    fn once(&mut self, id: &str) -> bool {
        let new = !self.refused.iter().any(|known| known == id);
        if new {
            // What a hook says at each iteration, and the allow-list refuses each time, must not pile up.
            if self.refused.len() >= MOST_REFUSED {
                self.refused.remove(0);
            }
            self.refused.push(id.to_owned());
        }
        new
    }

    /// Puts in force what is named and complete; takes out what is not named any more.
    fn install(&mut self) {
        let ready = |wish: &Wish, complete: &mut HashMap<String, Complete>| {
            let fits = complete
                .get(&wish.id)
                .is_some_and(|one| one.hash == wish.hash);
            fits.then(|| complete.remove(&wish.id)).flatten()
        };
        match &self.lr_wish {
            None => self.rates.uninstall(),
            Some(wish) if self.rates.schedule() != Some(wish.id.as_str()) => {
                if let Some(one) = ready(wish, &mut self.complete) {
                    self.had.push(one.id.clone());
                    self.rates.install(one.id, wish.by.clone(), one.schedule);
                }
            }
            Some(_) => {}
        }
        match &self.size_wish {
            None => self.sizes = None,
            Some(wish) if self.sizes.as_ref().map(|sizes| &sizes.id) != Some(&wish.id) => {
                if let Some(one) = ready(wish, &mut self.complete) {
                    self.had.push(one.id.clone());
                    self.sizes = Some(Sizes {
                        id: one.id,
                        steps: one.schedule.sizes,
                    });
                }
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookbus_proto::v1::EffectiveWhen;

    fn at(epoch: u64, iter: u64) -> Position {
        Position {
            epoch,
            iter,
            inner_iter: 0,
        }
    }

    fn sizes(id: &str, steps: &[(u64, Option<u64>, u32)]) -> Complete {
        let step = |&(from_epoch, from_iter, height): &(u64, Option<u64>, u32)| wire::SizeStep {
            from_epoch,
            from_iter,
            height,
            width: 2 * height,
        };
        Complete {
            id: id.into(),
            hash: vec![1],
            schedule: wire::Schedule {
                sizes: steps.iter().map(step).collect(),
                ..Default::default()
            },
        }
    }

    fn size_state(id: &str, holds: Vec<wire::SizeHold>) -> wire::State {
        wire::State {
            size: Some(wire::SizeState {
                schedule: id.into(),
                schedule_hash: vec![1],
                by: "Hook".into(),
                holds,
            }),
            ..Default::default()
        }
    }

    fn hold(id: &str, height: u32, iter: u64) -> wire::SizeHold {
        wire::SizeHold {
            id: id.into(),
            effective: Some(wire::Effective {
                when: EffectiveWhen::Iter.into(),
                iter,
                ..Default::default()
            }),
            height,
            width: height,
            by: "me".into(),
        }
    }

    /// At the beginning of an epoch.
    const BEGINS: Phase = Phase {
        fresh: true,
        epoch_begins: true,
    };

    fn take(steered: &mut Steered, at: Position) -> Vec<String> {
        take_in(steered, at, BEGINS)
    }

    fn take_in(steered: &mut Steered, at: Position, phase: Phase) -> Vec<String> {
        let mut reports = Vec::new();
        let taken = steered.take(at, phase, &mut reports);
        let reports = reports
            .into_iter()
            .filter(|report| report.outcome != Outcome::Applied)
            .map(|report| format!("{} {:?}", report.id, report.outcome));
        let taken = taken.into_iter().map(|action| match action {
            Action::Size { id, height, .. } => format!("{id} {height}"),
            Action::Mode { id, .. } => id,
            Action::SetEpoch { id, epoch, .. } => format!("{id} {epoch}"),
            other => panic!("{other:?}"),
        });
        taken.chain(reports).collect()
    }

    #[test]
    fn sizes_change_at_their_steps_and_an_operators_holds_until_the_next() {
        let mut steered = Steered::default();
        let accept = |_: &str| None;
        assert_eq!(steered.state(size_state("s", Vec::new()), &accept), []);
        assert!(!steered.is_complete());
        steered.complete(sizes("s", &[(1, None, 64), (3, None, 96)]));
        assert!(steered.is_complete());
        assert_eq!(steered.next_due(at(0, 0), true), (0, 0), "to be reported");
        assert_eq!(take(&mut steered, at(0, 0)), [""; 0]);
        assert_eq!(steered.next_due(at(0, 0), true), (u64::MAX, 1));
        assert_eq!(take(&mut steered, at(1, 10)), ["s/0 64"]);
        assert_eq!(take(&mut steered, at(1, 10)), [""; 0], "once");
        assert_eq!(steered.next_due(at(1, 11), true), (u64::MAX, 3));
        let held = || hold("o", 32, 15);
        steered.state(size_state("s", vec![held()]), &accept);
        assert_eq!(steered.next_due(at(1, 12), true), (15, 3));
        assert_eq!(take(&mut steered, at(1, 14)), [""; 0]);
        assert_eq!(take(&mut steered, at(1, 15)), ["o 32"]);
        steered.state(size_state("s", vec![held()]), &accept);
        assert_eq!(take(&mut steered, at(2, 20)), [""; 0], "it still holds");
        assert_eq!(steered.next_due(at(2, 20), true), (u64::MAX, 3));
        assert_eq!(take(&mut steered, at(3, 30)), ["s/1 96"]);
        steered.state(size_state("s", vec![held()]), &accept);
        assert_eq!(take(&mut steered, at(3, 30)), [""; 0], "it was ended");
        let two = || vec![hold("now", 32, 31), hold("later", 48, 35)];
        steered.state(size_state("s", two()), &accept);
        assert_eq!(take(&mut steered, at(3, 31)), ["now 32"]);
        steered.state(size_state("s", two()), &accept);
        assert_eq!(take(&mut steered, at(3, 32)), [""; 0], "it still holds");
        assert_eq!(take(&mut steered, at(3, 35)), ["later 48"]);
        assert_eq!(steered.in_force(), ["now", "later"]);
        let late = || vec![hold("later", 48, 35), hold("p", 32, 15)];
        steered.state(size_state("s", late()), &accept);
        assert_eq!(take(&mut steered, at(3, 36)), ["p Rejected"]);
        steered.state(size_state("s", late()), &accept);
        assert_eq!(take(&mut steered, at(3, 37)), [""; 0], "said once");
    }

    #[test]
    fn a_resume_gets_the_step_that_holds_there() {
        let mut steered = Steered::default();
        steered.state(size_state("s", Vec::new()), &|_| None);
        let by_iter: Vec<_> = (1..6).map(|n| (0, Some(10 * n), 32 * n as u32)).collect();
        steered.complete(sizes("s", &by_iter));
        assert_eq!(
            steered.next_due(at(0, 35), true),
            (0, 0),
            "something is due here"
        );
        assert_eq!(take(&mut steered, at(0, 35)), ["s/2 96"]);
        assert_eq!(steered.next_due(at(0, 35), true), (40, u64::MAX));
        assert_eq!(take(&mut steered, at(0, 50)), ["s/4 160"]);
        assert_eq!(steered.next_due(at(0, 50), true), (u64::MAX, u64::MAX));
    }

    #[test]
    fn mode_and_set_epoch_come_at_their_epochs() {
        let mut steered = Steered::default();
        let state = || wire::State {
            mode: Some(wire::ModeState {
                id: "m".into(),
                from_epoch: 2,
                ..Default::default()
            }),
            set_epoch: Some(wire::FlagState {
                id: "e".into(),
                on: true,
                by: "Hook".into(),
                running: false,
            }),
            ..Default::default()
        };
        steered.state(state(), &|_| None);
        assert_eq!(steered.next_due(at(0, 0), true), (u64::MAX, 0));
        assert_eq!(take(&mut steered, at(0, 0)), ["e 0"]);
        assert_eq!(take(&mut steered, at(0, 0)), [""; 0]);
        assert_eq!(take(&mut steered, at(1, 5)), ["e/e1 1"]);
        steered.state(state(), &|_| None);
        assert_eq!(steered.next_due(at(1, 6), true), (u64::MAX, 2));
        assert_eq!(take(&mut steered, at(2, 10)), ["m", "e/e2 2"]);
        assert_eq!(take(&mut steered, at(3, 15)), ["e/e3 3"]);
    }

    #[test]
    fn norm_layers_are_averaged_before_every_validation_and_it_is_reported_once() {
        let flag = |on| wire::State {
            sync_norm: Some(wire::FlagState {
                id: "n".into(),
                on,
                by: "Hook".into(),
                running: false,
            }),
            ..Default::default()
        };
        let mut steered = Steered::default();
        assert_eq!(steered.take_sync_norm(at(1, 10)), None);
        steered.state(flag(true), &|_| None);
        assert!(steered.syncs_norm());
        let sync = |id: &str, quiet| {
            Some(Action::SyncNorm {
                id: id.into(),
                quiet,
            })
        };
        assert_eq!(steered.take_sync_norm(at(1, 10)), sync("n", false));
        assert_eq!(steered.take_sync_norm(at(2, 20)), sync("n/i20", true));
        steered.close_door();
        steered.state(wire::State::default(), &|_| None);
        assert!(steered.syncs_norm(), "what was agreed stays in force");

        let mut late = Steered::default();
        late.close_door();
        let reports = late.state(flag(true), &|_| None);
        assert!(!late.syncs_norm());
        assert_eq!(reports.len(), 1);
        assert_eq!(reports[0].reason, LATE);
    }

    #[test]
    fn the_mode_waits_for_the_next_epoch_where_one_is_under_way() {
        let under_way = Phase::default();
        let mut steered = Steered::default();
        steered.close_door();
        let mode = |id: &str, operator| wire::State {
            mode: Some(wire::ModeState {
                id: id.into(),
                operator,
                ..Default::default()
            }),
            ..Default::default()
        };
        steered.state(mode("o", true), &|_| None);
        assert_eq!(steered.next_due(at(4, 41), false), (u64::MAX, 5));
        assert_eq!(take_in(&mut steered, at(4, 41), under_way), [""; 0]);
        assert_eq!(take(&mut steered, at(5, 50)), ["o"]);
    }

    #[test]
    fn what_a_hook_switches_while_the_training_runs_holds_from_the_next_boundary_on() {
        let running = |id: &str, on| {
            Some(wire::FlagState {
                id: id.into(),
                on,
                by: "Own".into(),
                running: true,
            })
        };
        let set_epoch = |id: &str, on| wire::State {
            set_epoch: running(id, on),
            ..Default::default()
        };
        let off = |id: &str, old: &str| Report {
            id: id.into(),
            outcome: Outcome::Applied,
            old: Some(old.into()),
            new: Some("off".into()),
            reason: String::new(),
        };
        let accept = |_: &str| None;
        let mut steered = Steered::default();
        steered.close_door();
        assert_eq!(steered.state(set_epoch("a", true), &accept), []);
        assert_eq!(steered.next_due(at(2, 25), false), (u64::MAX, 3));
        let under_way = Phase::default();
        assert_eq!(take_in(&mut steered, at(2, 25), under_way), [""; 0]);
        assert_eq!(take(&mut steered, at(3, 30)), ["a 3"]);
        assert_eq!(take(&mut steered, at(4, 40)), ["a/e4 4"]);
        let absent = wire::State::default();
        assert_eq!(steered.state(absent, &accept), []);
        assert_eq!(take(&mut steered, at(5, 50)), ["a/e5 5"], "it stays");
        let reports = steered.state(set_epoch("b", false), &accept);
        assert_eq!(reports, [off("b", "on")]);
        assert_eq!(steered.state(set_epoch("b", false), &accept), [], "once");
        assert_eq!(steered.next_due(at(5, 51), false), (u64::MAX, u64::MAX));
        assert_eq!(take(&mut steered, at(6, 60)), [""; 0]);
        let ahead = wire::State {
            set_epoch: Some(wire::FlagState {
                id: "Hook/set_epoch".into(),
                on: true,
                ..Default::default()
            }),
            ..Default::default()
        };
        let reports = steered.state(ahead, &accept);
        assert_eq!(reports[0].reason, LATE, "of a daemon that forgot it");
        assert_eq!(steered.state(set_epoch("c", true), &accept), []);
        assert_eq!(steered.next_due(at(6, 61), false), (u64::MAX, 7));
        assert_eq!(take(&mut steered, at(7, 70)), ["c 7"]);
        assert_eq!(take(&mut steered, at(8, 80)), ["c/e8 8"]);

        let sync_norm = |id: &str, on| wire::State {
            sync_norm: running(id, on),
            ..Default::default()
        };
        let ids = |steered: &mut Steered, iter| match steered.take_sync_norm(at(9, iter)) {
            Some(Action::SyncNorm { id, quiet }) => format!("{id} {quiet}"),
            None => String::new(),
            other => panic!("{other:?}"),
        };
        steered.state(sync_norm("n", true), &accept);
        assert!(steered.syncs_norm());
        assert_eq!(ids(&mut steered, 90), "n false");
        assert_eq!(ids(&mut steered, 91), "n/i91 true");
        let reports = steered.state(sync_norm("o", false), &accept);
        assert_eq!(reports, [off("o", "on")]);
        assert!(!steered.syncs_norm());
        assert_eq!(ids(&mut steered, 92), "");
        let reports = steered.state(sync_norm("p", false), &accept);
        assert_eq!(reports, [off("p", "off")], "each word has its result");
        steered.state(sync_norm("q", true), &accept);
        assert_eq!(ids(&mut steered, 93), "q false");

        let refuses = |_: &str| Some("not on the allow-list".to_owned());
        let reports = steered.state(sync_norm("r", false), &refuses);
        assert_eq!(reports[0].outcome, Outcome::Rejected);
        assert!(steered.syncs_norm());
        let mode = || wire::State {
            mode: Some(wire::ModeState {
                id: "m".into(),
                running: true,
                ..Default::default()
            }),
            ..Default::default()
        };
        let mut steered = Steered::default();
        steered.close_door();
        assert_eq!(steered.state(mode(), &accept), []);
        assert_eq!(steered.next_due(at(4, 41), false), (u64::MAX, 5));
        assert_eq!(take_in(&mut steered, at(4, 41), under_way), [""; 0]);
        assert_eq!(take(&mut steered, at(5, 50)), ["m"]);
        steered.state(mode(), &accept);
        assert_eq!(take(&mut steered, at(6, 60)), [""; 0], "once");
    }

    #[test]
    fn what_was_agreed_is_switched_off_and_only_where_it_is_said() {
        let flag = |id: &str, on, running| wire::State {
            set_epoch: Some(wire::FlagState {
                id: id.into(),
                on,
                by: "Hook".into(),
                running,
            }),
            ..Default::default()
        };
        let accept = |_: &str| None;
        let mut steered = Steered::default();
        steered.state(flag("e", true, false), &accept);
        steered.close_door();
        assert_eq!(take(&mut steered, at(0, 0)), ["e 0"]);
        assert_eq!(steered.state(flag("f", false, false), &accept), []);
        assert_eq!(take(&mut steered, at(1, 10)), ["e/e1 1"]);
        assert_eq!(steered.state(flag("f", false, true), &accept).len(), 1);
        assert_eq!(take(&mut steered, at(2, 20)), [""; 0]);
    }

    #[test]
    fn what_was_agreed_stays_in_force_whatever_a_later_state_says() {
        let mut steered = Steered::default();
        steered.state(size_state("s", Vec::new()), &|_| None);
        steered.complete(sizes("s", &[(0, None, 64), (2, None, 96)]));
        steered.close_door();
        assert_eq!(take(&mut steered, at(0, 0)), ["s/0 64"]);
        steered.state(wire::State::default(), &|_| None);
        assert_eq!(
            take(&mut steered, at(2, 20)),
            ["s/1 96"],
            "a daemon that knows nothing"
        );
        assert_eq!(steered.state(size_state("s", Vec::new()), &|_| None), []);
        assert_eq!(
            steered.state(size_state("t", Vec::new()), &|_| None),
            [],
            "other facts"
        );
        steered.complete(sizes("t", &[(0, None, 128)]));
        assert_eq!(take(&mut steered, at(2, 21)), ["t/0 128"]);
        let late = wire::State {
            mode: Some(wire::ModeState {
                id: "m".into(),
                ..Default::default()
            }),
            ..size_state("t", Vec::new())
        };
        assert_eq!(
            steered.state(late, &|_| None)[0].id,
            "m",
            "it was never agreed"
        );
    }

    #[test]
    fn what_comes_late_or_is_not_allowed_is_rejected_once() {
        let mut steered = Steered::default();
        steered.state(size_state("s", Vec::new()), &|_| None);
        let (missing, reports) = steered.close_door();
        assert_eq!(
            (missing.as_slice(), reports[0].id.as_str()),
            (&["Hook".to_owned()][..], "s")
        );
        steered.complete(sizes("s", &[(0, None, 64)]));
        assert_eq!(steered.state(size_state("s", Vec::new()), &|_| None), []);
        assert_eq!(take(&mut steered, at(1, 1)), [""; 0]);
        let reports = steered.state(size_state("t", Vec::new()), &|_| None);
        assert_eq!((reports.len(), reports[0].outcome), (1, Outcome::Rejected));
        let allowed = |what: &str| (what == "size").then(|| "not on the allow-list".to_owned());
        let reports = steered.state(size_state("", vec![hold("o", 32, 50)]), &allowed);
        assert_eq!(reports[0].reason, "not on the allow-list");
        assert_eq!(take(&mut steered, at(1, 50)), [""; 0]);
    }
}
