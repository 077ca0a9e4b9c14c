//! What hooks want of the desired state while the training runs. A hook's newer word takes the place of its older one, so
//! that its words do not pile up; operators' words stay as they are.

use serde::{Deserialize, Serialize};

use super::Desired;
use super::desired::MOST_HOLDS;
use crate::domain::{DesiredState, Flag, Hold, LrHold, Mode, Size, SizeHold};

/// A field that is on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// `model.set_epoch` before each epoch.
    SetEpoch,
    /// The mean of the norm layers' states before each validation.
    SyncNorm,
}

/// What hooks wanted last while the training ran; it stands over what was decided ahead.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Late {
    mode: Option<Mode>,
    set_epoch: Option<Switched>,
    sync_norm: Option<Switched>,
    /// Each hook's last word on a learning rate, also where another's stands over it.
    #[serde(default)]
    lr: Vec<LrWord>,
    /// Each hook's last word on the size.
    #[serde(default)]
    size: Vec<SizeWord>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct LrWord {
    by: String,
    group: Option<u32>,
    hold: Hold,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SizeWord {
    by: String,
    size: Size,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Switched {
    on: bool,
    flag: Flag,
}

impl Late {
    /// What holds where this was decided ahead.
    pub(super) fn flag(&self, which: Switch, ahead: Option<Flag>) -> Option<Flag> {
        let wanted = match which {
            Switch::SetEpoch => &self.set_epoch,
            Switch::SyncNorm => &self.sync_norm,
        };
        match wanted {
            None => ahead,
            Some(Switched { on, flag }) => Some(Flag {
                on: *on,
                running: true,
                ..flag.clone()
            }),
        }
    }

    /// What holds where this was decided ahead.
    pub(super) fn mode(&self, ahead: Option<Mode>) -> Option<Mode> {
        let wanted = self.mode.clone().map(|mode| Mode {
            running: true,
            ..mode
        });
        wanted.or(ahead)
    }

    /// What a trainer still has of it. `ours`: what was decided here stands.
    pub(super) fn adopt(&mut self, theirs: &DesiredState, ours: bool) {
        let switched = |flag: &Flag| Switched {
            on: flag.on,
            flag: flag.clone(),
        };
        for (held, theirs) in [
            (&mut self.set_epoch, &theirs.set_epoch),
            (&mut self.sync_norm, &theirs.sync_norm),
        ] {
            if let Some(flag) = theirs.as_ref().filter(|flag| flag.running)
                && !(ours && held.is_some())
            {
                *held = Some(switched(flag));
            }
        }
        if let Some(mode) = theirs.mode.as_ref().filter(|mode| mode.running)
            && !(ours && self.mode.is_some())
        {
            self.mode = Some(mode.clone());
        }
    }
}

impl Late {
    /// Notes a hook's word. Returns whether it is the same as its last one.
    fn says_lr_again(&mut self, hold: &LrHold) -> bool {
        let of_group = |word: &LrWord| hold.group.is_none() || word.group == hold.group;
        let covered: Vec<_> = self
            .lr
            .extract_if(.., |word| word.by == hold.by && of_group(word))
            .collect();
        let word = LrWord {
            by: hold.by.clone(),
            group: hold.group,
            hold: hold.hold,
        };
        let again = covered == std::slice::from_ref(&word);
        // A release of everything leaves nothing to be said again.
        if hold.hold != Hold::Release || hold.group.is_some() {
            keep(&mut self.lr, word);
        }
        again
    }

    /// The same of a size.
    fn says_size_again(&mut self, hold: &SizeHold) -> bool {
        let word = SizeWord {
            by: hold.by.clone(),
            size: hold.size,
        };
        let again = self.size.contains(&word);
        self.size.retain(|old| old.by != hold.by);
        keep(&mut self.size, word);
        again
    }
}

fn keep<T>(words: &mut Vec<T>, word: T) {
    if words.len() >= MOST_HOLDS {
        words.remove(0);
    }
    words.push(word);
}

/// Whether a hook's last word once more changes nothing: it holds, or an operator has said otherwise since. Over what another
/// hook has said since it holds anew, as where each sets it in its turn. `own`, `operators`: of the words that concern the
/// same, in their order.
fn changes_nothing<T>(
    words: &[T],
    own: impl Fn(&T) -> bool,
    operators: impl Fn(&T) -> bool,
) -> bool {
    let at = words.iter().rposition(own);
    let since = &words[at.map_or(0, |at| at + 1)..];
    since.iter().any(operators) || (at.is_some() && since.is_empty())
}

impl Desired {
    /// A hook's word on a learning rate. Its release takes its own words back, nobody else's. Returns whether the state has
    /// changed. Errors: too many words stand.
    pub fn hook_lr(&mut self, hold: LrHold) -> Result<bool, String> {
        let covers = |old: &LrHold| hold.group.is_none() || hold.group == old.group;
        let own = |old: &LrHold| old.by == hold.by && is_hooks(&old.id, &old.by);
        let holds = &self.state.lr_holds;
        let again = self.late.says_lr_again(&hold);
        self.revision += u64::from(!again);
        let concerned = |old: &&LrHold| covers(old) || old.group.is_none();
        let words: Vec<_> = holds.iter().filter(concerned).collect();
        let operators = |old: &&LrHold| !is_hooks(&old.id, &old.by);
        if again && changes_nothing(&words, |old| own(old), operators) {
            return Ok(false);
        }
        let left: Vec<_> = holds
            .iter()
            .filter(|old| !(own(old) && covers(old)))
            .cloned()
            .collect();
        // Of what it holds in every group one group is released.
        let releases = hold.hold != Hold::Release || left.iter().any(own);
        if releases && left.len() >= MOST_HOLDS {
            return Err(format!(
                "{MOST_HOLDS} words on learning rates stand already; release some first"
            ));
        }
        if !releases && left.len() == holds.len() {
            return Ok(false);
        }
        self.state.lr_holds = left;
        if releases {
            self.given_here.insert(hold.id.clone());
            self.state.lr_holds.push(hold);
        }
        self.changed();
        Ok(true)
    }

    /// A hook's input size. Returns whether the state has changed. Errors: too many words stand.
    pub fn hook_size(&mut self, hold: SizeHold) -> Result<bool, String> {
        let own = |old: &SizeHold| old.by == hold.by && is_hooks(&old.id, &old.by);
        let again = self.late.says_size_again(&hold);
        self.revision += u64::from(!again);
        let holds = &mut self.state.size_holds;
        let operators = |old: &SizeHold| !is_hooks(&old.id, &old.by);
        let is_so = holds.last().is_some_and(|last| last.size == hold.size);
        if is_so || (again && changes_nothing(holds, own, operators)) {
            return Ok(false);
        }
        if holds.iter().filter(|old| !own(old)).count() >= MOST_HOLDS {
            return Err(format!("{MOST_HOLDS} words on the size stand already"));
        }
        holds.retain(|old| !own(old));
        self.given_here.insert(hold.id.clone());
        holds.push(hold);
        self.changed();
        Ok(true)
    }

    /// A hook switches the mode on. An operator's stands over it. Returns whether the state has changed.
    pub fn hook_mode(&mut self, mut mode: Mode, default_types: &[&str]) -> bool {
        mode.running = true;
        if mode.skip_types.is_empty() {
            mode.skip_types = self.types(default_types);
        }
        let same =
            |old: &Mode| (old.from_epoch, &old.skip_types) == (mode.from_epoch, &mode.skip_types);
        let operators = self.state.mode.as_ref().is_some_and(|old| old.operator);
        if self
            .late
            .mode
            .as_ref()
            .or(self.state.mode.as_ref().filter(|_| !operators))
            .is_some_and(same)
        {
            return false;
        }
        self.late.mode = Some(mode.clone());
        self.revision += 1;
        if !operators {
            self.given_here.insert(mode.id.clone());
            self.state.mode = Some(mode);
            self.changed();
        }
        !operators
    }

    /// A hook switches something on or off; off is said, so that a trainer that has it on takes it out of force. Returns
    /// whether the state has changed.
    pub fn hook_switch(&mut self, which: Switch, on: bool, flag: Flag) -> bool {
        let (held, late) = match which {
            Switch::SetEpoch => (&mut self.state.set_epoch, &mut self.late.set_epoch),
            Switch::SyncNorm => (&mut self.state.sync_norm, &mut self.late.sync_norm),
        };
        if held.as_ref().is_some_and(|held| held.on) == on {
            return false;
        }
        let flag = Flag {
            on,
            running: true,
            ..flag
        };
        *held = Some(flag.clone());
        *late = Some(Switched { on, flag });
        self.changed();
        true
    }

    /// A word of a hook that another one has overruled goes. Returns whether the state has changed.
    pub fn overrule(&mut self, id: &str) -> bool {
        let before = (self.state.lr_holds.len(), self.state.size_holds.len());
        // To say it again is not to repeat what holds.
        for hold in self.state.lr_holds.iter().filter(|hold| hold.id == id) {
            let word = |word: &LrWord| word.by == hold.by && word.group == hold.group;
            self.late.lr.retain(|old| !word(old));
        }
        for hold in self.state.size_holds.iter().filter(|hold| hold.id == id) {
            self.late.size.retain(|old| old.by != hold.by);
        }
        self.state.lr_holds.retain(|hold| hold.id != id);
        self.state.size_holds.retain(|hold| hold.id != id);
        let changed = before != (self.state.lr_holds.len(), self.state.size_holds.len());
        if changed {
            self.changed();
        }
        changed
    }

    fn changed(&mut self) {
        self.revision += 1;
        self.state.generation += 1;
        // What does not stand any more is not asked for again.
        let state = &self.state;
        let stands = |id: &String| {
            state.lr_holds.iter().any(|hold| hold.id == *id)
                || state.size_holds.iter().any(|hold| hold.id == *id)
                || state.mode.as_ref().is_some_and(|mode| mode.id == *id)
                || state.stop.as_ref().is_some_and(|stop| stop.id == *id)
        };
        self.settled.retain(stands);
        self.given_here.retain(stands);
    }
}

/// A hook's decision is named after it; an operator's order has an id of its own.
pub(super) fn is_hooks(id: &str, by: &str) -> bool {
    id.strip_prefix(by)
        .is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Effective, Size};
    use crate::steering::FromHooks;

    fn hold(by: &str, n: u32, group: Option<u32>, hold: Hold) -> LrHold {
        let id = if by == "operator" {
            format!("o{n}")
        } else {
            format!("{by}/0/r0/after_train_iter/e0.i{n}.0/0")
        };
        LrHold {
            id,
            effective: Effective::Next,
            group,
            hold,
            by: by.into(),
        }
    }

    fn stands(desired: &Desired) -> Vec<String> {
        let holds = desired.state().lr_holds.iter();
        holds.map(|hold| format!("{}: {hold}", hold.by)).collect()
    }

    #[test]
    fn a_hooks_newer_word_takes_the_place_of_its_older_one_and_an_operators_stays() {
        let mut desired = Desired::new(0);
        let operators = hold("operator", 0, Some(1), Hold::Value(0.5));
        desired.hold_lr(operators).expect("there is room");
        desired.answered("o0", true);
        for n in 0..200 {
            let word = hold("plateau", n, None, Hold::Scale(1.0 / f64::from(n + 2)));
            let id = word.id.clone();
            assert_eq!(desired.hook_lr(word), Ok(true));
            desired.answered(&id, n % 2 == 0);
        }
        let word = hold("plateau", 200, None, Hold::Value(0.1));
        let id = word.id.clone();
        assert_eq!(desired.hook_lr(word), Ok(true));
        desired.answered(&id, true);
        let next = "from the next boundary";
        let both = [
            format!("operator: held at 0.5 in group 1, {next}"),
            format!("plateau: held at 0.1, {next}"),
        ];
        assert_eq!(stands(&desired), both);
        let again = hold("plateau", 201, None, Hold::Value(0.1));
        assert_eq!(desired.hook_lr(again), Ok(false), "it stands");
        assert!(desired.memo().to_string().len() < 300, "{}", desired.memo());

        let group = hold("plateau", 202, Some(0), Hold::Release);
        assert_eq!(desired.hook_lr(group), Ok(true));
        assert_eq!(stands(&desired).len(), 3, "the other groups are held");
        let again = hold("plateau", 202, Some(0), Hold::Release);
        assert_eq!(desired.hook_lr(again), Ok(false));
        let release = hold("plateau", 203, None, Hold::Release);
        assert_eq!(desired.hook_lr(release), Ok(true));
        assert_eq!(stands(&desired), both[..1]);
        let nothing = hold("plateau", 204, None, Hold::Release);
        assert_eq!(desired.hook_lr(nothing), Ok(false));

        let mine = hold("plateau", 205, Some(1), Hold::Value(0.2));
        assert_eq!(desired.hook_lr(mine.clone()), Ok(true));
        assert!(desired.overrule(&mine.id) && !desired.overrule(&mine.id));
        assert_eq!(stands(&desired), both[..1]);
    }

    #[test]
    fn a_word_that_is_repeated_takes_nothing_from_an_operator_and_has_its_turn_among_hooks() {
        let mut desired = Desired::new(0);
        let mut n = 0;
        let mut says = |desired: &mut Desired, by: &str, value: f64| {
            n += 1;
            let word = hold(by, n, None, Hold::Value(value));
            let id = word.id.clone();
            let changed = desired.hook_lr(word).expect("there is room");
            if changed {
                desired.answered(&id, true);
            }
            changed
        };
        assert!(says(&mut desired, "a", 0.1));
        assert!(!says(&mut desired, "a", 0.1));
        assert!(says(&mut desired, "b", 0.2));
        assert!(says(&mut desired, "a", 0.1), "its turn has come again");
        assert!(!says(&mut desired, "a", 0.1));
        let next = "from the next boundary";
        assert_eq!(
            stands(&desired),
            [
                format!("b: held at 0.2, {next}"),
                format!("a: held at 0.1, {next}")
            ]
        );
        let operators = hold("operator", 1, None, Hold::Value(0.01));
        desired.hold_lr(operators).expect("there is room");
        assert!(
            !says(&mut desired, "a", 0.1),
            "before the ranks have answered"
        );
        desired.answered("o1", true);
        let one = [format!("operator: held at 0.01, {next}")];
        assert_eq!(stands(&desired), one);
        assert!(!says(&mut desired, "a", 0.1), "and after it");
        assert!(!says(&mut desired, "b", 0.2));
        let mut desired = Desired::restore(desired.state().clone(), &desired.memo());
        assert!(!says(&mut desired, "a", 0.1), "nor with another daemon");
        assert_eq!(stands(&desired), one);
        assert!(says(&mut desired, "a", 0.05), "another word is a newer one");
    }

    #[test]
    fn a_word_that_was_overruled_is_a_new_one_when_it_is_said_again() {
        let mut desired = Desired::new(0);
        let operators = hold("operator", 1, Some(1), Hold::Value(0.5));
        desired.hold_lr(operators).expect("there is room");
        let word = |n| hold("a", n, None, Hold::Value(0.1));
        assert_eq!(desired.hook_lr(word(1)), Ok(true));
        assert!(desired.overrule(&word(1).id));
        assert_eq!(desired.hook_lr(word(2)), Ok(true));
        assert_eq!(desired.hook_lr(word(3)), Ok(false));
    }

    #[test]
    fn a_repeated_size_takes_nothing_from_an_operator() {
        let mut desired = Desired::new(0);
        let size = |by: &str, n: u32, height| SizeHold {
            id: if by == "operator" {
                format!("o{n}")
            } else {
                format!("{by}/0/{n}")
            },
            effective: Effective::Next,
            size: Size { height, width: 32 },
            by: by.into(),
        };
        assert_eq!(desired.hook_size(size("sizes", 1, 64)), Ok(true));
        desired
            .hold_size(size("operator", 2, 32))
            .expect("there is room");
        assert_eq!(desired.hook_size(size("sizes", 3, 64)), Ok(false));
        assert_eq!(desired.hook_size(size("sizes", 4, 96)), Ok(true));
    }

    #[test]
    fn sizes_do_not_pile_up_either() {
        let mut desired = Desired::new(0);
        let size = |n: u32| SizeHold {
            id: format!("sizes/0/{n}"),
            effective: Effective::Next,
            size: Size {
                height: 32 * n,
                width: 32,
            },
            by: "sizes".into(),
        };
        for n in 1..200 {
            assert_eq!(desired.hook_size(size(n)), Ok(true));
            assert_eq!(desired.hook_size(size(n)), Ok(false));
        }
        assert_eq!(desired.state().size_holds, [size(199)]);
    }

    #[test]
    fn what_hooks_want_stands_over_what_was_decided_ahead_and_an_operators_mode_over_both() {
        let flag = |by: &str| Flag {
            id: format!("{by}/set_epoch"),
            by: by.to_owned(),
            on: true,
            running: by == "late",
        };
        let mode = |by: &str, from_epoch, operator| Mode {
            id: format!("{by}/mode"),
            from_epoch,
            skip_types: Vec::new(),
            by: by.into(),
            operator,
            running: false,
        };
        let ahead = FromHooks {
            set_epoch: Some(flag("ahead")),
            ..FromHooks::default()
        };
        let mut desired = Desired::new(0);
        desired.ahead(ahead.clone());
        assert!(
            !desired.hook_switch(Switch::SetEpoch, true, flag("late")),
            "it is on"
        );
        assert!(desired.hook_switch(Switch::SetEpoch, false, flag("late")));
        assert!(desired.hook_switch(Switch::SyncNorm, true, flag("late")));
        assert!(desired.hook_mode(mode("late", 7, false), &["MixUp"]));
        assert!(!desired.hook_mode(mode("late", 7, false), &["MixUp"]));
        let check = |desired: &mut Desired| {
            assert!(!desired.ahead(ahead.clone()), "the same facts again");
            let state = desired.state();
            let off = Flag {
                on: false,
                ..flag("late")
            };
            assert_eq!(state.set_epoch, Some(off), "off is said");
            assert_eq!(state.sync_norm, Some(flag("late")));
            let mode = state.mode.as_ref();
            assert_eq!(
                mode.map(|mode| (mode.from_epoch, mode.running)),
                Some((7, true))
            );
        };
        check(&mut desired);
        let mut next = Desired::restore(desired.state().clone(), &desired.memo());
        check(&mut next);
        next.mode(mode("o", 5, true), &[]).expect("none is sooner");
        assert!(!next.hook_mode(mode("late", 3, false), &["MixUp"]));
        assert_eq!(
            next.state().mode.as_ref().map(|mode| mode.from_epoch),
            Some(5)
        );
        assert!(next.answered("o/mode", false), "nobody took it");
        assert_eq!(
            next.state().mode.as_ref().map(|mode| mode.from_epoch),
            Some(3)
        );
    }

    #[test]
    fn a_switch_is_said_once_and_off_only_over_what_is_on() {
        let flag = |n: u32| Flag {
            id: format!("own/{n}"),
            by: "own".into(),
            on: true,
            running: true,
        };
        let mut desired = Desired::new(0);
        assert!(!desired.hook_switch(Switch::SetEpoch, false, flag(0)));
        assert_eq!(desired.state().set_epoch, None);
        for (n, on) in [(1, true), (2, false), (3, true)] {
            assert!(desired.hook_switch(Switch::SetEpoch, on, flag(n)));
            assert!(!desired.hook_switch(Switch::SetEpoch, on, flag(9)));
            let said = Flag { on, ..flag(n) };
            assert_eq!(desired.state().set_epoch, Some(said));
        }
        assert_eq!(desired.state().generation, 3);
    }

    #[test]
    fn a_daemon_that_knows_nothing_goes_on_from_what_a_trainer_still_has() {
        let flag = |by: &str, on, running| Flag {
            id: format!("{by}/set_epoch"),
            by: by.into(),
            on,
            running,
        };
        let ahead = || FromHooks {
            set_epoch: Some(flag("ahead", true, false)),
            ..FromHooks::default()
        };
        let mode = Mode {
            id: "own/mode".into(),
            from_epoch: 7,
            skip_types: vec!["Mosaic".into()],
            by: "own".into(),
            operator: false,
            running: true,
        };
        let mut old = Desired::new(0);
        old.ahead(ahead());
        old.hook_switch(Switch::SetEpoch, false, flag("own", true, true));
        old.hook_mode(mode.clone(), &[]);
        let theirs = old.state().clone();
        for decided in [false, true] {
            let mut new = Desired::new(0);
            if decided {
                new.ahead(ahead());
            }
            assert!(new.adopt(theirs.clone(), &[], |_| false));
            new.ahead(ahead());
            let state = new.state();
            assert_eq!(state.set_epoch, Some(flag("own", false, true)));
            assert_eq!(state.mode.as_ref(), Some(&mode));
        }
    }
}
