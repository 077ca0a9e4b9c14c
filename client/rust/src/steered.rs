//! What holds by position in this attempt: learning rates, input size, mode, set_epoch. The client's thread puts the latest
//! state in, the training thread takes what is due at a point. Pure rules.

use std::collections::HashMap;

use hookbus_proto::v1::{self as wire, Outcome};

use crate::Position;
use crate::inbox::Action;
use crate::rates::{Rates, Report, Turn, passed, turn};
use crate::schedules::Complete;

/// Where this attempt is; what hooks decide ahead must be there before training begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Door {
    /// Training has not begun.
    #[default]
    Open,
    /// It has: a field that no hook had decided by then is not decided any more.
    Closed,
}

/// What a hook decides ahead and does not get, because the daemon came late.
const LATE: &str =
    "it was decided only after training had begun; it is not in force in this attempt";

/// Schedules that are complete and not named yet.
const MOST_COMPLETE: usize = 4;

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
    /// The schedule's step when it came into force; it holds until the next one.
    over: Option<Option<usize>>,
}

/// Everything that holds by position.
#[derive(Debug, Default)]
pub(crate) struct Steered {
    door: Door,
    pub(crate) rates: Rates,
    lr_wish: Option<Wish>,
    size_wish: Option<Wish>,
    sizes: Option<Sizes>,
    size_hold: Option<SizeHold>,
    /// What was given to the trainer last.
    size_given: Option<(String, usize)>,
    mode: Option<wire::ModeState>,
    mode_given: Option<String>,
    set_epoch: Option<wire::FlagState>,
    epoch_given: Option<u64>,
    /// Complete, and not named by the state yet.
    complete: HashMap<String, Complete>,
    /// Ids that were refused, so that each is reported once.
    refused: Vec<String>,
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
        self.lr_wish = self.wish(
            self.lr_wish.is_some(),
            (lr.schedule, lr.schedule_hash, lr.by),
            None,
            &mut reports,
        );
        let size = state.size.unwrap_or_default();
        let why = refuses("size");
        if let (Some(hold), Some(why)) = (&size.hold, &why) {
            self.refuse(&hold.id, why, &mut reports);
        }
        self.size_wish = self.wish(
            self.size_wish.is_some(),
            (size.schedule, size.schedule_hash, size.by),
            why.as_deref(),
            &mut reports,
        );
        self.size_hold = size
            .hold
            .filter(|hold| !self.refused.contains(&hold.id))
            .map(|hold| {
                let over = self
                    .size_hold
                    .take()
                    .filter(|old| old.hold.id == hold.id)
                    .and_then(|old| old.over);
                SizeHold { hold, over }
            });
        self.mode = state.mode.filter(|mode| {
            let late = !mode.operator && self.is_late(self.mode.is_some());
            let why = refuses("mode").or_else(|| late.then(|| LATE.to_owned()));
            self.takes(&mode.id, why, &mut reports)
        });
        self.set_epoch = state.set_epoch.filter(|flag| {
            let late = self.is_late(self.set_epoch.is_some());
            let why = refuses("set_epoch").or_else(|| late.then(|| LATE.to_owned()));
            flag.on && self.takes(&flag.id, why, &mut reports)
        });
        if let Some(flag) = state.sync_norm {
            let why = "this client has no process group to do it with";
            if self.once(&flag.id) {
                reports.push(Report::not(Outcome::Unsupported, &flag.id, why));
            }
        }
        self.install();
        reports
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
    pub(crate) fn take(&mut self, at: Position, reports: &mut Vec<Report>) -> Vec<Action> {
        let mut actions = Vec::new();
        if let Some(mode) = self
            .mode
            .as_ref()
            .filter(|mode| at.epoch >= mode.from_epoch)
            && self.mode_given.as_deref() != Some(&mode.id)
        {
            self.mode_given = Some(mode.id.clone());
            actions.push(Action::Mode {
                id: mode.id.clone(),
                skip_types: mode.skip_types.clone(),
            });
        }
        if let Some(flag) = &self.set_epoch
            && self.epoch_given != Some(at.epoch)
        {
            let first = self.epoch_given.replace(at.epoch).is_none();
            let id = &flag.id;
            actions.push(Action::SetEpoch {
                id: if first {
                    id.clone()
                } else {
                    format!("{id}/e{}", at.epoch)
                },
                epoch: at.epoch,
                quiet: !first,
            });
        }
        actions.extend(self.take_size(at, reports));
        actions
    }

    fn take_size(&mut self, at: Position, reports: &mut Vec<Report>) -> Option<Action> {
        let step = self.sizes.as_ref().and_then(|sizes| sizes.step(at));
        if let Some(size) = &mut self.size_hold {
            if size.over.is_none() {
                match turn(size.hold.effective, at) {
                    Turn::Not => {}
                    Turn::Now => size.over = Some(step),
                    Turn::Passed => {
                        let (id, why) = (size.hold.id.clone(), passed(size.hold.effective));
                        self.size_hold = None;
                        self.refuse(&id, &why, reports);
                    }
                }
            } else if size.over != Some(step) {
                self.size_hold = None; // the schedule's next step ends it
            }
        }
        let held = self.size_hold.as_ref().filter(|size| size.over.is_some());
        let (id, index, height, width) = match (held, &self.sizes, step) {
            (Some(size), _, _) => (
                size.hold.id.clone(),
                usize::MAX,
                size.hold.height,
                size.hold.width,
            ),
            (None, Some(sizes), Some(step)) => {
                let wanted = &sizes.steps[step];
                (
                    format!("{}/{step}", sizes.id),
                    step,
                    wanted.height,
                    wanted.width,
                )
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

    /// The iteration and the epoch before which something is due next: nothing is, before either.
    pub(crate) fn next_due(&self, at: Position) -> (u64, u64) {
        let (mut iter, mut epoch) = (u64::MAX, u64::MAX);
        if let Some(mode) = &self.mode
            && self.mode_given.as_deref() != Some(&mode.id)
        {
            epoch = mode.from_epoch;
        }
        if self.set_epoch.is_some() {
            epoch = epoch.min(self.epoch_given.map_or(0, |given| given + 1));
        }
        if let Some(size) = self.size_hold.as_ref().filter(|size| size.over.is_none()) {
            match size.hold.effective {
                Some(effective) if effective.when() == wire::EffectiveWhen::Epoch => {
                    epoch = epoch.min(effective.epoch);
                }
                effective => iter = iter.min(effective.map_or(0, |effective| effective.iter)),
            }
        }
        if let Some(sizes) = &self.sizes {
            let here = sizes.step(at);
            let given = match &self.size_given {
                Some((id, index)) if id.starts_with(&sizes.id) => Some(*index),
                _ => None,
            };
            let held = self
                .size_hold
                .as_ref()
                .is_some_and(|size| size.over == Some(here));
            if here.is_some() && here != given && !held {
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

    fn is_late(&self, had: bool) -> bool {
        self.door == Door::Closed && !had
    }

    /// A schedule that the state names, unless it is refused here.
    fn wish(
        &mut self,
        had: bool,
        (id, hash, by): (String, Vec<u8>, String),
        refused: Option<&str>,
        reports: &mut Vec<Report>,
    ) -> Option<Wish> {
        if id.is_empty() {
            return None;
        }
        let late = self.is_late(had).then_some(LATE);
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
                    self.rates.install(one.id, wish.by.clone(), one.schedule);
                }
            }
            Some(_) => {}
        }
        match &self.size_wish {
            None => self.sizes = None,
            Some(wish) if self.sizes.as_ref().map(|sizes| &sizes.id) != Some(&wish.id) => {
                if let Some(one) = ready(wish, &mut self.complete) {
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

    fn size_state(id: &str, hold: Option<wire::SizeHold>) -> wire::State {
        wire::State {
            size: Some(wire::SizeState {
                schedule: id.into(),
                schedule_hash: vec![1],
                by: "Hook".into(),
                hold,
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

    fn take(steered: &mut Steered, at: Position) -> Vec<String> {
        let mut reports = Vec::new();
        let taken = steered.take(at, &mut reports);
        let reports = reports
            .into_iter()
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
        assert_eq!(steered.state(size_state("s", None), &accept), []);
        assert!(!steered.is_complete());
        steered.complete(sizes("s", &[(1, None, 64), (3, None, 96)]));
        assert!(steered.is_complete());
        assert_eq!(steered.next_due(at(0, 0)), (u64::MAX, 1));
        assert_eq!(take(&mut steered, at(0, 0)), [""; 0]);
        assert_eq!(take(&mut steered, at(1, 10)), ["s/0 64"]);
        assert_eq!(take(&mut steered, at(1, 10)), [""; 0], "once");
        assert_eq!(steered.next_due(at(1, 11)), (u64::MAX, 3));
        let held = || Some(hold("o", 32, 15));
        steered.state(size_state("s", held()), &accept);
        assert_eq!(steered.next_due(at(1, 12)), (15, 3));
        assert_eq!(take(&mut steered, at(1, 14)), [""; 0]);
        assert_eq!(take(&mut steered, at(1, 15)), ["o 32"]);
        steered.state(size_state("s", held()), &accept);
        assert_eq!(take(&mut steered, at(2, 20)), [""; 0], "it still holds");
        assert_eq!(steered.next_due(at(2, 20)), (u64::MAX, 3));
        assert_eq!(take(&mut steered, at(3, 30)), ["s/1 96"]);
        steered.state(size_state("s", Some(hold("p", 32, 15))), &accept);
        assert_eq!(take(&mut steered, at(3, 31)), ["p Rejected"]);
        steered.state(size_state("s", Some(hold("p", 32, 15))), &accept);
        assert_eq!(take(&mut steered, at(3, 32)), [""; 0], "said once");
    }

    #[test]
    fn a_resume_gets_the_step_that_holds_there() {
        let mut steered = Steered::default();
        steered.state(size_state("s", None), &|_| None);
        let by_iter: Vec<_> = (1..6).map(|n| (0, Some(10 * n), 32 * n as u32)).collect();
        steered.complete(sizes("s", &by_iter));
        assert_eq!(steered.next_due(at(0, 35)), (0, 0), "something is due here");
        assert_eq!(take(&mut steered, at(0, 35)), ["s/2 96"]);
        assert_eq!(steered.next_due(at(0, 35)), (40, u64::MAX));
        assert_eq!(take(&mut steered, at(0, 50)), ["s/4 160"]);
        assert_eq!(steered.next_due(at(0, 50)), (u64::MAX, u64::MAX));
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
            }),
            ..Default::default()
        };
        steered.state(state(), &|_| None);
        assert_eq!(steered.next_due(at(0, 0)), (u64::MAX, 0));
        assert_eq!(take(&mut steered, at(0, 0)), ["e 0"]);
        assert_eq!(take(&mut steered, at(0, 0)), [""; 0]);
        assert_eq!(take(&mut steered, at(1, 5)), ["e/e1 1"]);
        steered.state(state(), &|_| None);
        assert_eq!(steered.next_due(at(1, 6)), (u64::MAX, 2));
        assert_eq!(take(&mut steered, at(2, 10)), ["m", "e/e2 2"]);
        assert_eq!(take(&mut steered, at(3, 15)), ["e/e3 3"]);
    }

    #[test]
    fn what_comes_late_or_is_not_allowed_is_rejected_once() {
        let mut steered = Steered::default();
        steered.state(size_state("s", None), &|_| None);
        let (missing, reports) = steered.close_door();
        assert_eq!(
            (missing.as_slice(), reports[0].id.as_str()),
            (&["Hook".to_owned()][..], "s")
        );
        steered.complete(sizes("s", &[(0, None, 64)]));
        assert_eq!(steered.state(size_state("s", None), &|_| None), []);
        assert_eq!(take(&mut steered, at(1, 1)), [""; 0]);
        let reports = steered.state(size_state("t", None), &|_| None);
        assert_eq!((reports.len(), reports[0].outcome), (1, Outcome::Rejected));
        let allowed = |what: &str| (what == "size").then(|| "not on the allow-list".to_owned());
        let reports = steered.state(size_state("", Some(hold("o", 32, 50))), &allowed);
        assert_eq!(reports[0].reason, "not on the allow-list");
        assert_eq!(take(&mut steered, at(1, 50)), [""; 0]);
    }
}
