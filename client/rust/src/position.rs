//! Where the training is, counted as MMEngine counts: `iter` after after_train_iter, `epoch` after after_train_epoch.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A place in a training, 0-based.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Grows after after_train_epoch.
    pub epoch: u64,
    /// Grows over the whole training, after after_train_iter.
    pub iter: u64,
    /// Restarts with each epoch, validation and test.
    pub inner_iter: u64,
}

/// The lifecycle points of MMEngine 0.10.7 in their order, then after_save_checkpoint. A point's id is its place here.
pub const POINTS: [&str; 23] = [
    "before_run",
    "after_load_checkpoint",
    "before_train",
    "before_train_epoch",
    "before_train_iter",
    "after_train_iter",
    "after_train_epoch",
    "before_val",
    "before_val_epoch",
    "before_val_iter",
    "after_val_iter",
    "after_val_epoch",
    "after_val",
    "before_save_checkpoint",
    "after_train",
    "before_test",
    "before_test_epoch",
    "before_test_iter",
    "after_test_iter",
    "after_test_epoch",
    "after_test",
    "after_run",
    "after_save_checkpoint",
];

const AFTER_LOAD_CHECKPOINT: u8 = 1;
const BEFORE_TRAIN: u8 = 2;
pub(crate) const BEFORE_TRAIN_EPOCH: u8 = 3;
pub(crate) const BEFORE_TRAIN_ITER: u8 = 4;
pub(crate) const AFTER_TRAIN_ITER: u8 = 5;
pub(crate) const AFTER_TRAIN_EPOCH: u8 = 6;
const BEFORE_VAL: u8 = 7;
pub(crate) const BEFORE_VAL_EPOCH: u8 = 8;
const AFTER_VAL_ITER: u8 = 10;
const AFTER_VAL: u8 = 12;
const BEFORE_TEST: u8 = 15;
const BEFORE_TEST_EPOCH: u8 = 16;
const AFTER_TEST_ITER: u8 = 18;
const AFTER_TEST: u8 = 20;

/// What a caller knows of the position; the rest is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// The epoch.
    pub epoch: Option<u64>,
    /// The iteration over the whole training.
    pub iter: Option<u64>,
    /// The iteration within the epoch, validation or test.
    pub inner_iter: Option<u64>,
}

impl Given {
    /// Nothing: everything is counted.
    pub const NOTHING: Self = Self {
        epoch: None,
        iter: None,
        inner_iter: None,
    };
}

/// The counters. Written by the training thread, read by the client's own; plain loads and stores, no locked operation.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    epoch: AtomicU64,
    iter: AtomicU64,
    train_inner: AtomicU64,
    /// Of a validation or a test; they do not nest.
    eval_inner: AtomicU64,
    /// Of the last point reached.
    last: [AtomicU64; 3],
    /// No iteration of this epoch has ended.
    under_way: AtomicBool,
    /// The trainer says where its epochs begin.
    says_epochs: AtomicBool,
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn set(counter: &AtomicU64, value: u64) {
    counter.store(value, Ordering::Relaxed);
}

impl Counters {
    /// A point is reached: the position that its event has. `given` wins over what was counted.
    #[inline]
    pub(crate) fn reach(&self, point: u8, given: &Given) -> Position {
        let inner = if is_evaluation(point) {
            &self.eval_inner
        } else {
            &self.train_inner
        };
        match point {
            BEFORE_TRAIN_EPOCH => {
                set(inner, 0);
                self.says_epochs.store(true, Ordering::Relaxed);
                self.under_way.store(false, Ordering::Relaxed);
            }
            BEFORE_VAL | BEFORE_VAL_EPOCH | BEFORE_TEST | BEFORE_TEST_EPOCH => set(inner, 0),
            _ => {}
        }
        if *given != Given::NOTHING {
            self.give(inner, given);
        }
        let at = Position {
            epoch: get(&self.epoch),
            iter: get(&self.iter),
            inner_iter: get(inner),
        };
        set(&self.last[0], at.epoch);
        set(&self.last[1], at.iter);
        set(&self.last[2], at.inner_iter);
        match point {
            AFTER_TRAIN_ITER => {
                set(&self.iter, at.iter.wrapping_add(1));
                set(inner, at.inner_iter.wrapping_add(1));
                self.under_way.store(true, Ordering::Relaxed);
            }
            AFTER_TRAIN_EPOCH => {
                set(&self.epoch, at.epoch.wrapping_add(1));
                self.under_way.store(false, Ordering::Relaxed);
            }
            AFTER_VAL_ITER | AFTER_TEST_ITER => set(inner, at.inner_iter.wrapping_add(1)),
            _ => {}
        }
        at
    }

    /// Where the training is.
    pub(crate) fn now(&self) -> Position {
        Position {
            epoch: get(&self.epoch),
            iter: get(&self.iter),
            inner_iter: get(&self.train_inner),
        }
    }

    /// The position of the last point reached.
    pub(crate) fn last(&self) -> Position {
        Position {
            epoch: get(&self.last[0]),
            iter: get(&self.last[1]),
            inner_iter: get(&self.last[2]),
        }
    }

    /// Training goes on from here, say after a resume.
    pub(crate) fn set(&self, at: Position) {
        set(&self.epoch, at.epoch);
        set(&self.iter, at.iter);
        set(&self.train_inner, at.inner_iter);
        self.under_way.store(false, Ordering::Relaxed);
    }

    /// What an epoch's beginning depends on, at the point reached last.
    pub(crate) fn phase(&self, point: u8) -> Phase {
        let fresh = !self.under_way.load(Ordering::Relaxed);
        let says_epochs = self.says_epochs.load(Ordering::Relaxed);
        Phase {
            fresh,
            epoch_begins: fresh && (point == BEFORE_TRAIN_EPOCH || !says_epochs),
        }
    }

    #[cold]
    fn give(&self, inner: &AtomicU64, given: &Given) {
        if given.epoch.is_some_and(|epoch| epoch != get(&self.epoch)) {
            self.under_way.store(false, Ordering::Relaxed);
        }
        for (counter, value) in [
            (&self.epoch, given.epoch),
            (&self.iter, given.iter),
            (inner, given.inner_iter),
        ] {
            if let Some(value) = value {
                set(counter, value);
            }
        }
    }
}

/// Where in its epoch a point is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Phase {
    /// No iteration of the epoch has ended.
    pub(crate) fresh: bool,
    /// The epoch begins here: what is for a whole epoch is applied.
    pub(crate) epoch_begins: bool,
}

/// Whether a point belongs to a validation or a test: not every rank may reach it.
pub(crate) fn is_evaluation(point: u8) -> bool {
    matches!(point, BEFORE_VAL..=AFTER_VAL | BEFORE_TEST..=AFTER_TEST)
}

/// Whether a point comes before the work itself.
pub(crate) fn comes_before(point: u8) -> bool {
    point <= AFTER_LOAD_CHECKPOINT
}

/// Whether a point means that training has begun: what comes first from a daemon after it is late.
pub(crate) fn begins_training(point: u8) -> bool {
    matches!(point, BEFORE_TRAIN..=AFTER_TRAIN_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_those_of_mmengine() {
        let counters = Counters::default();
        let id = |name: &str| {
            POINTS
                .iter()
                .position(|point| *point == name)
                .expect("a point") as u8
        };
        let mut seen = Vec::new();
        for epoch in 0..2 {
            seen.push(("before_train_epoch", (epoch, 2 * epoch, 0)));
            for inner in 0..2 {
                seen.push(("before_train_iter", (epoch, 2 * epoch + inner, inner)));
                seen.push(("after_train_iter", (epoch, 2 * epoch + inner, inner)));
            }
            // iter is the new one already, epoch is still the old one
            seen.push(("after_train_epoch", (epoch, 2 * epoch + 2, 2)));
            seen.push(("before_val_epoch", (epoch + 1, 2 * epoch + 2, 0)));
            for inner in 0..3 {
                seen.push(("before_val_iter", (epoch + 1, 2 * epoch + 2, inner)));
                seen.push(("after_val_iter", (epoch + 1, 2 * epoch + 2, inner)));
            }
            seen.push(("after_val", (epoch + 1, 2 * epoch + 2, 3)));
        }
        for (point, (epoch, iter, inner_iter)) in seen {
            let at = counters.reach(id(point), &Given::NOTHING);
            assert_eq!(
                at,
                Position {
                    epoch,
                    iter,
                    inner_iter
                },
                "{point}"
            );
        }
    }

    #[test]
    fn a_validation_between_iterations_leaves_the_inner_iteration_alone() {
        let counters = Counters::default();
        counters.reach(AFTER_TRAIN_ITER, &Given::NOTHING);
        counters.reach(BEFORE_VAL_EPOCH, &Given::NOTHING);
        counters.reach(AFTER_VAL_ITER, &Given::NOTHING);
        assert_eq!(
            counters
                .reach(BEFORE_TRAIN_ITER, &Given::NOTHING)
                .inner_iter,
            1
        );
    }

    #[test]
    fn an_epoch_begins_where_it_is_said_or_where_its_number_changes() {
        let counters = Counters::default();
        let begins = |point| {
            counters.reach(point, &Given::NOTHING);
            counters.phase(point).epoch_begins
        };
        assert!(begins(BEFORE_TRAIN_ITER), "the first iteration");
        assert!(!begins(AFTER_TRAIN_ITER) && !begins(BEFORE_TRAIN_ITER));
        let next = Given {
            epoch: Some(1),
            ..Given::NOTHING
        };
        counters.reach(BEFORE_TRAIN_ITER, &next);
        assert!(counters.phase(BEFORE_TRAIN_ITER).epoch_begins);
        assert!(begins(BEFORE_TRAIN_EPOCH));
        let phase = {
            counters.reach(BEFORE_TRAIN_ITER, &Given::NOTHING);
            counters.phase(BEFORE_TRAIN_ITER)
        };
        assert!(phase.fresh && !phase.epoch_begins, "it was said before");
    }

    #[test]
    fn only_a_training_begins_one() {
        let begin: Vec<_> = (0..POINTS.len() as u8)
            .filter(|point| begins_training(*point))
            .map(|point| POINTS[point as usize])
            .collect();
        assert_eq!(
            begin,
            [
                "before_train",
                "before_train_epoch",
                "before_train_iter",
                "after_train_iter",
                "after_train_epoch"
            ]
        );
    }

    #[test]
    fn what_is_given_wins_and_is_counted_on() {
        let counters = Counters::default();
        let given = Given {
            epoch: Some(4),
            iter: Some(100),
            inner_iter: None,
        };
        assert_eq!(
            counters.reach(AFTER_TRAIN_ITER, &given),
            Position {
                epoch: 4,
                iter: 100,
                inner_iter: 0
            }
        );
        assert_eq!(
            counters.reach(BEFORE_TRAIN_ITER, &Given::NOTHING),
            Position {
                epoch: 4,
                iter: 101,
                inner_iter: 1
            }
        );
    }
}
