//! The desired state of one attempt: what hooks want from the facts, and what operators put over it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::while_running::{Late, Switch, is_hooks};
use crate::domain::{
    DesiredState, Effective, Flag, Hold, LrHold, Mode, ScheduleRef, SizeHold, Stop,
};

/// Words on learning rates that may stand at once; the state stays small.
pub(super) const MOST_HOLDS: usize = 64;

/// What the hooks of a run want, whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FromHooks {
    /// Learning rates.
    pub lr: Option<ScheduleRef>,
    /// Input sizes.
    pub size: Option<ScheduleRef>,
    /// YOLOX's mode.
    pub mode: Option<Mode>,
    /// `model.set_epoch`.
    pub set_epoch: Option<Flag>,
    /// Mean of norm states.
    pub sync_norm: Option<Flag>,
}

/// The desired state, merged. Its generation grows with each change and never goes back.
#[derive(Debug)]
pub struct Desired {
    pub(super) state: DesiredState,
    hooks_mode: Option<Mode>,
    /// What hooks want over what was decided ahead.
    pub(super) late: Late,
    /// Holds that every rank has answered, at least one of them with "applied".
    pub(super) settled: BTreeSet<String>,
    /// Ids of the orders that were given to this daemon.
    pub(super) given_here: BTreeSet<String>,
    /// The hooks have decided here.
    decided: bool,
    /// Grows with each change of any of these.
    pub(super) revision: u64,
}

/// What [`Desired`] writes down beside its state.
#[derive(Default, Serialize, Deserialize)]
struct Memo {
    hooks_mode: Option<Mode>,
    #[serde(default)]
    late: Late,
    settled: BTreeSet<String>,
}

impl Desired {
    /// Nothing is wanted yet. Generations go on from `generation`.
    pub fn new(generation: u64) -> Self {
        Self {
            state: DesiredState {
                generation,
                ..DesiredState::default()
            },
            hooks_mode: None,
            late: Late::default(),
            settled: BTreeSet::new(),
            given_here: BTreeSet::new(),
            decided: false,
            revision: 0,
        }
    }

    /// Goes on from what another daemon wrote down: the state, and [`Desired::memo`]. Orders count as given to that one.
    pub fn restore(state: DesiredState, memo: &serde_json::Value) -> Self {
        let memo = Memo::deserialize(memo).unwrap_or_default();
        Self {
            state,
            hooks_mode: memo.hooks_mode,
            late: memo.late,
            settled: memo.settled,
            ..Self::new(0)
        }
    }

    /// What else must be known to go on from the state.
    pub fn memo(&self) -> serde_json::Value {
        let memo = Memo {
            hooks_mode: self.hooks_mode.clone(),
            late: self.late.clone(),
            settled: self.settled.clone(),
        };
        serde_json::to_value(memo).unwrap_or_default()
    }

    /// Grows with each change of the state or the memo.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The desired state, whole.
    pub fn state(&self) -> &DesiredState {
        &self.state
    }

    /// What a trainer still has from a daemon that is gone, and which ids of it are in force there: it goes on from the
    /// newest state that any rank has, with the orders that were given here since, and with those of an older state that
    /// nobody here `knows`. True: other ranks are to hear of it.
    pub fn adopt(
        &mut self,
        theirs: DesiredState,
        in_force: &[String],
        knows: impl Fn(&str) -> bool,
    ) -> bool {
        self.revision += 1;
        let ours = &self.state;
        if theirs == *ours {
            return false;
        }
        if theirs.generation < ours.generation {
            return self.add_unknown(theirs, in_force, knows);
        }
        let holds = theirs.lr_holds.iter().map(|hold| &hold.id);
        let holds = holds.chain(theirs.size_holds.iter().map(|hold| &hold.id));
        self.settled
            .extend(holds.filter(|id| in_force.contains(id)).cloned());
        let ahead = |mode: &&Mode| !mode.operator && !mode.running;
        if let Some(mode) = theirs.mode.as_ref().filter(ahead) {
            self.hooks_mode.get_or_insert_with(|| mode.clone());
        }
        self.late.adopt(&theirs, self.decided);
        let here = |id: &String| self.given_here.contains(id);
        let mut new = theirs.clone();
        let missing = |hold: &&LrHold| here(&hold.id) && !theirs.lr_holds.contains(hold);
        new.lr_holds
            .extend(ours.lr_holds.iter().filter(missing).cloned());
        let missing = |hold: &&SizeHold| here(&hold.id) && !theirs.size_holds.contains(hold);
        new.size_holds
            .extend(ours.size_holds.iter().filter(missing).cloned());
        if let Some(stop) = ours.stop.as_ref().filter(|stop| here(&stop.id)) {
            new.stop = Some(stop.clone());
        }
        if let Some(mode) = ours.mode.as_ref().filter(|mode| here(&mode.id)) {
            new.mode = Some(mode.clone());
        }
        if self.decided {
            new.lr.clone_from(&ours.lr);
            new.size.clone_from(&ours.size);
            new.set_epoch = self.late.flag(Switch::SetEpoch, ours.set_epoch.clone());
            new.sync_norm = self.late.flag(Switch::SyncNorm, ours.sync_norm.clone());
            if !new.mode.as_ref().is_some_and(|mode| mode.operator) {
                new.mode = self.late.mode(self.hooks_mode.clone());
            }
        }
        if new != theirs || theirs.generation == ours.generation {
            new.generation += 1;
        }
        self.state = new;
        true
    }

    /// Orders that were given to a daemon which died before it had written them down.
    fn add_unknown(
        &mut self,
        mut theirs: DesiredState,
        in_force: &[String],
        knows: impl Fn(&str) -> bool,
    ) -> bool {
        let ours = &mut self.state;
        theirs.lr_holds.retain(|hold| !knows(&hold.id));
        theirs.size_holds.retain(|hold| !knows(&hold.id));
        theirs.stop.take_if(|stop| knows(&stop.id));
        theirs
            .mode
            .take_if(|mode| !mode.operator || knows(&mode.id));
        let lr = theirs.lr_holds.iter().map(|hold| &hold.id);
        let ids = lr.chain(theirs.size_holds.iter().map(|hold| &hold.id));
        self.settled
            .extend(ids.filter(|id| in_force.contains(id)).cloned());
        let before = ours.clone();
        // They were given before what was given here.
        ours.lr_holds.splice(0..0, theirs.lr_holds);
        ours.size_holds.splice(0..0, theirs.size_holds);
        ours.stop = ours.stop.take().or(theirs.stop);
        if !ours.mode.as_ref().is_some_and(|mode| mode.operator) && theirs.mode.is_some() {
            ours.mode = theirs.mode;
        }
        let changed = *ours != before;
        ours.generation += u64::from(changed);
        changed
    }

    /// What the hooks want from the latest facts. True: the state has changed.
    pub fn ahead(&mut self, wanted: FromHooks) -> bool {
        self.revision += 1;
        let mut new = self.state.clone();
        new.lr = wanted.lr;
        new.size = wanted.size;
        new.set_epoch = self.late.flag(Switch::SetEpoch, wanted.set_epoch);
        new.sync_norm = self.late.flag(Switch::SyncNorm, wanted.sync_norm);
        if !new.mode.as_ref().is_some_and(|mode| mode.operator) {
            new.mode = self.late.mode(wanted.mode.clone());
        }
        self.hooks_mode = wanted.mode;
        self.decided = true;
        let changed = new != self.state;
        if changed {
            self.state = new;
            self.state.generation += 1;
        }
        changed
    }

    /// Asks for a stop. The first stop stands; only one that holds sooner replaces it. Errors: the stop that stands.
    pub fn stop(&mut self, stop: Stop) -> Result<(), &Stop> {
        self.revision += 1;
        let turn = |stop: &Stop| match stop.effective {
            Effective::Now => 0,
            Effective::Next => 1,
            Effective::Iter(_) | Effective::Epoch(_) => 2,
        };
        let stands = |old: &Stop| turn(old) <= turn(&stop);
        if self.state.stop.as_ref().is_some_and(stands) {
            return Err(self.state.stop.as_ref().expect("it stands, so it is there"));
        }
        self.given_here.insert(stop.id.clone());
        self.state.stop = Some(stop);
        self.state.generation += 1;
        Ok(())
    }

    /// An operator's word on a learning rate. Returns the holds that it takes the place of before they were applied.
    /// Errors: too many stand already.
    pub fn hold_lr(&mut self, hold: LrHold) -> Result<Vec<String>, String> {
        self.revision += 1;
        let replaced: Vec<_> = self
            .state
            .lr_holds
            .iter()
            .filter(|old| {
                !self.settled.contains(&old.id)
                    && old.group == hold.group
                    && old.effective == hold.effective
            })
            .map(|old| old.id.clone())
            .collect();
        if self.state.lr_holds.len() - replaced.len() >= MOST_HOLDS {
            return Err(format!(
                "{MOST_HOLDS} learning-rate orders stand already; release some first"
            ));
        }
        self.state
            .lr_holds
            .retain(|old| !replaced.contains(&old.id));
        self.given_here.insert(hold.id.clone());
        self.state.lr_holds.push(hold);
        self.state.generation += 1;
        Ok(replaced)
    }

    /// An operator's input size. Returns the holds that it takes the place of before they were applied. Errors: too many
    /// stand already.
    pub fn hold_size(&mut self, hold: SizeHold) -> Result<Vec<String>, String> {
        self.revision += 1;
        let replaced: Vec<_> = self
            .state
            .size_holds
            .iter()
            .filter(|old| !self.settled.contains(&old.id) && old.effective == hold.effective)
            .map(|old| old.id.clone())
            .collect();
        if self.state.size_holds.len() - replaced.len() >= MOST_HOLDS {
            return Err(format!("{MOST_HOLDS} size orders stand already"));
        }
        self.state
            .size_holds
            .retain(|old| !replaced.contains(&old.id));
        self.given_here.insert(hold.id.clone());
        self.state.size_holds.push(hold);
        self.state.generation += 1;
        Ok(replaced)
    }

    /// The schedule's next step is in force everywhere: the sizes that were held until then are over. True: the state has
    /// changed.
    pub fn size_step_applied(&mut self) -> bool {
        self.revision += 1;
        let settled = &self.settled;
        let before = self.state.size_holds.len();
        self.state
            .size_holds
            .retain(|hold| !settled.contains(&hold.id));
        let changed = self.state.size_holds.len() != before;
        self.state.generation += u64::from(changed);
        changed
    }

    /// An operator switches the mode on. Without types of its own those of the hooks are taken. Returns the operator's
    /// mode that it takes the place of. Errors: a hook switches it before that.
    pub fn mode(
        &mut self,
        mut mode: Mode,
        default_types: &[&str],
    ) -> Result<Option<String>, String> {
        self.revision += 1;
        if let Some(hooks) = &self.hooks_mode
            && mode.from_epoch > hooks.from_epoch
        {
            return Err(format!(
                "{} switches the mode at epoch {} already",
                hooks.by, hooks.from_epoch
            ));
        }
        if mode.skip_types.is_empty() {
            mode.skip_types = self.types(default_types);
        }
        self.given_here.insert(mode.id.clone());
        self.state.generation += 1;
        let old = self.state.mode.replace(mode);
        Ok(old.filter(|old| old.operator).map(|old| old.id))
    }

    /// What the mode leaves out where nobody says it.
    pub(super) fn types(&self, default_types: &[&str]) -> Vec<String> {
        let words = || default_types.iter().map(|name| (*name).to_owned());
        let hooks = self.hooks_mode.as_ref();
        hooks.map_or_else(|| words().collect(), |hooks| hooks.skip_types.clone())
    }

    /// Ids of operators' words, and of hooks' holds, that stand.
    pub fn orders(&self) -> Vec<String> {
        let state = &self.state;
        let lr = state.lr_holds.iter().map(|hold| &hold.id);
        let size = state.size_holds.iter().map(|hold| &hold.id);
        let mode = state.mode.iter().filter(|mode| mode.operator);
        let stop = state.stop.iter().map(|stop| &stop.id);
        lr.chain(size)
            .chain(mode.map(|mode| &mode.id))
            .chain(stop)
            .filter(|id| !self.settled.contains(*id))
            .cloned()
            .collect()
    }

    /// Every rank has answered an operator's word. What nobody applied is withdrawn; what an applied hold covers for good
    /// goes. True: the state has changed.
    pub fn answered(&mut self, id: &str, applied: bool) -> bool {
        self.revision += 1;
        let before = self.state.clone();
        if applied {
            self.compact(id);
        } else {
            self.withdraw(id);
        }
        let changed = before != self.state;
        if changed {
            self.state.generation += 1;
        }
        changed
    }

    fn withdraw(&mut self, id: &str) {
        let state = &mut self.state;
        state.lr_holds.retain(|hold| hold.id != id);
        state.size_holds.retain(|hold| hold.id != id);
        state.stop.take_if(|stop| stop.id == id);
        if state
            .mode
            .as_ref()
            .is_some_and(|mode| mode.operator && mode.id == id)
        {
            state.mode = self.late.mode(self.hooks_mode.clone());
        }
    }

    fn compact(&mut self, id: &str) {
        if self.state.size_holds.iter().any(|hold| hold.id == id) {
            // The newest in force: an older one never comes back.
            let settled = &self.settled;
            self.state
                .size_holds
                .retain(|hold| !settled.contains(&hold.id));
            self.settled.insert(id.to_owned());
            return;
        }
        if self.state.mode.as_ref().is_some_and(|mode| mode.id == id) {
            self.settled.insert(id.to_owned());
            return;
        }
        let holds = &mut self.state.lr_holds;
        let Some(at) = holds.iter().position(|hold| hold.id == id) else {
            return;
        };
        self.settled.insert(id.to_owned());
        let new = holds[at].clone();
        // It came into force last, so whatever it covers and was in force before never comes back.
        let covers = |old: &LrHold| {
            let may = !is_hooks(&new.id, &new.by) || old.by == new.by;
            may && (new.group.is_none() || new.group == old.group)
        };
        let settled = &self.settled;
        holds.retain(|old| old.id == new.id || !covers(old) || !settled.contains(&old.id));
        // A release over nothing that is in force releases nothing any more.
        let others = |hold: &LrHold| hold.id != new.id && settled.contains(&hold.id);
        if new.hold == Hold::Release && !holds.iter().any(others) {
            holds.retain(|hold| hold.id != new.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Size;

    fn stop(id: &str, effective: Effective) -> Stop {
        Stop {
            id: id.into(),
            effective,
            reason: "because".into(),
            by: "me".into(),
        }
    }

    fn hold(id: &str, group: Option<u32>, hold: Hold, effective: Effective) -> LrHold {
        LrHold {
            id: id.into(),
            effective,
            group,
            hold,
            by: "me".into(),
        }
    }

    fn nobody(_: &str) -> bool {
        false
    }

    fn ids(desired: &Desired) -> Vec<&str> {
        let holds = desired.state().lr_holds.iter();
        holds.map(|hold| hold.id.as_str()).collect()
    }

    #[test]
    fn the_first_stop_stands_and_only_one_that_holds_sooner_is_stronger() {
        let mut desired = Desired::new(4);
        assert_eq!(desired.stop(stop("0", Effective::Epoch(90))), Ok(()));
        assert!(desired.stop(stop("1", Effective::Epoch(80))).is_err());
        assert_eq!(desired.stop(stop("a", Effective::Next)), Ok(()));
        assert_eq!(
            desired
                .stop(stop("b", Effective::Iter(9)))
                .map_err(|old| old.id.as_str()),
            Err("a")
        );
        assert_eq!(desired.stop(stop("c", Effective::Now)), Ok(()));
        assert_eq!(desired.state().generation, 7);
        assert!(desired.stop(stop("d", Effective::Now)).is_err());
    }

    #[test]
    fn the_same_facts_change_nothing() {
        let mut desired = Desired::new(0);
        let lr = ScheduleRef {
            id: "lr/1".into(),
            hash: [1; 32],
            by: "hook".into(),
        };
        let wanted = FromHooks {
            lr: Some(lr),
            ..FromHooks::default()
        };
        assert!(desired.ahead(wanted.clone()));
        assert!(!desired.ahead(wanted));
        assert_eq!(desired.state().generation, 1);
        assert!(desired.ahead(FromHooks::default()), "no hook wants it now");
        assert_eq!(desired.state().lr, None);
    }

    #[test]
    fn holds_stand_until_one_that_was_applied_covers_them() {
        let mut desired = Desired::new(0);
        let next = Effective::Next;
        let put = |desired: &mut Desired, one| desired.hold_lr(one).expect("there is room");
        put(&mut desired, hold("a", Some(1), Hold::Value(0.1), next));
        assert!(!desired.answered("a", true), "nothing before it");
        put(
            &mut desired,
            hold("b", None, Hold::Scale(0.5), Effective::Iter(100)),
        );
        put(&mut desired, hold("c", Some(1), Hold::Value(0.2), next));
        assert_eq!(ids(&desired), ["a", "b", "c"]);
        assert!(desired.answered("c", true));
        assert_eq!(ids(&desired), ["b", "c"], "b is yet to come");
        assert!(desired.answered("b", true));
        assert_eq!(
            ids(&desired),
            ["b"],
            "in force after c, and for every group"
        );
        put(&mut desired, hold("d", Some(1), Hold::Release, next));
        assert!(!desired.answered("d", true), "c is gone already");
        assert_eq!(ids(&desired), ["b", "d"], "b holds in the other groups");
        let late = Effective::Iter(900);
        put(&mut desired, hold("e", None, Hold::Release, late));
        put(
            &mut desired,
            hold("f", Some(0), Hold::Value(1.0), Effective::Iter(800)),
        );
        desired.answered("f", true);
        assert!(
            desired.answered("e", true),
            "said before f, in force after it"
        );
        assert_eq!(ids(&desired), [""; 0], "nothing is left to release");
    }

    #[test]
    fn a_second_word_on_the_same_thing_takes_the_place_of_one_that_waits() {
        let mut desired = Desired::new(0);
        let next = Effective::Next;
        let mut put = |id: &str, group| {
            desired
                .hold_lr(hold(id, group, Hold::Scale(2.0), next))
                .expect("there is room")
        };
        assert_eq!(put("a", None), [""; 0]);
        assert_eq!(put("b", Some(0)), [""; 0], "another scope");
        assert_eq!(put("c", None), ["a"]);
        for n in 0..MOST_HOLDS - 2 {
            put(&format!("{n}"), Some(n as u32 + 1));
        }
        let over = desired.hold_lr(hold("z", Some(999), Hold::Scale(1.0), next));
        assert!(over.is_err_and(|why| why.contains("release some first")));
    }

    #[test]
    fn what_nobody_applied_is_withdrawn() {
        let mut desired = Desired::new(0);
        let types = |word: &str| vec![word.to_owned()];
        let mode = |id: &str, operator, skip_types| Mode {
            id: id.into(),
            from_epoch: 3,
            skip_types,
            by: "x".into(),
            operator,
            running: false,
        };
        let hooks = FromHooks {
            mode: Some(mode("h", false, types("Mosaic"))),
            ..FromHooks::default()
        };
        desired.ahead(hooks.clone());
        assert_eq!(
            desired.mode(mode("o", true, Vec::new()), &["MixUp"]),
            Ok(None)
        );
        assert_eq!(
            desired.state().mode.as_ref().map(|mode| &mode.skip_types),
            Some(&types("Mosaic")),
            "those of the hook"
        );
        assert!(!desired.ahead(hooks), "an operator's stays");
        assert!(desired.answered("o", false));
        assert_eq!(
            desired.state().mode.as_ref().map(|mode| mode.id.as_str()),
            Some("h")
        );
        let size = SizeHold {
            id: "s".into(),
            effective: Effective::Next,
            size: Size {
                height: 32,
                width: 32,
            },
            by: "x".into(),
        };
        assert_eq!(desired.hold_size(size.clone()), Ok(Vec::new()));
        let other = SizeHold {
            id: "t".into(),
            ..size.clone()
        };
        assert_eq!(desired.hold_size(other), Ok(vec!["s".to_owned()]));
        desired.answered("t", false);
        assert_eq!(desired.state().size_holds, []);
        desired.hold_size(size).expect("there is room");
        desired.answered("s", true);
        assert!(desired.size_step_applied() && !desired.size_step_applied());
        let later = Mode {
            from_epoch: 9,
            ..mode("late", true, Vec::new())
        };
        let refused = desired.mode(later, &[]);
        assert!(refused.is_err_and(|why| why.contains("at epoch 3 already")));
    }

    #[test]
    fn a_new_daemon_takes_over_what_operators_said_to_the_old_one() {
        let mut old = Desired::new(0);
        old.hold_lr(hold("a", None, Hold::Value(0.1), Effective::Next))
            .expect("there is room");
        let lr = ScheduleRef {
            id: "lr".into(),
            hash: [0; 32],
            by: "hook".into(),
        };
        old.ahead(FromHooks {
            lr: Some(lr),
            ..FromHooks::default()
        });
        let mut new = Desired::new(0);
        assert!(new.adopt(old.state().clone(), &["a".to_owned()], nobody));
        assert_eq!(ids(&new), ["a"]);
        assert_eq!(new.state(), old.state(), "the generation too");
        assert!(!new.adopt(DesiredState::default(), &[], nobody));
        assert!(
            !new.adopt(old.state().clone(), &[], nobody),
            "the same again"
        );

        // A rank that missed the last words comes first; an order is given; then one comes that heard them.
        let behind = old.state().clone();
        old.hold_lr(hold("r", None, Hold::Release, Effective::Next))
            .expect("there is room");
        old.answered("a", true);
        old.answered("r", true);
        let mut new = Desired::new(0);
        new.adopt(behind.clone(), &["a".to_owned()], nobody);
        new.hold_lr(hold("here", Some(1), Hold::Value(0.3), Effective::Next))
            .expect("there is room");
        assert!(new.adopt(old.state().clone(), &[], nobody));
        assert_eq!(ids(&new), ["here"], "a was released, here was given since");
        assert!(new.state().generation > old.state().generation);
        assert!(
            !new.adopt(behind.clone(), &[], |id| id == "a"),
            "it is known"
        );
        let mut ahead = behind;
        let size = SizeHold {
            id: "s".into(),
            effective: Effective::Next,
            size: Size {
                height: 32,
                width: 32,
            },
            by: "x".into(),
        };
        ahead.size_holds.push(size);
        assert!(
            new.adopt(ahead, &[], |id| id == "a"),
            "s was never heard of"
        );
        assert_eq!((ids(&new), new.state().size_holds.len()), (vec!["here"], 1));
        assert!(new.ahead(FromHooks::default()), "hooks decide anew");
        assert_eq!(new.state().lr, None);
    }
}
