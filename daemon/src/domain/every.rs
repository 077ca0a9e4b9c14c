//! "Every n": intervals as MMEngine 0.10.7 counts them (`mmengine/hooks/hook.py`).

use serde::{Deserialize, Serialize};

use super::Position;
use super::counting::{Interval, every_n};

/// What an interval counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Base {
    /// Always due.
    Always,
    /// The iteration over the whole training.
    Iter,
    /// The iteration within the epoch, validation or test.
    InnerIter,
    /// The epoch.
    Epoch,
}

/// An interval. `n <= 0` is never due (but for [`Base::Always`], which looks at neither number).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Every {
    /// What is counted.
    pub base: Base,
    /// The interval.
    pub n: i64,
    /// The first counted value, as MMEngine's `start`.
    pub start: i64,
}

impl Every {
    /// At every position.
    pub const ALWAYS: Self = Self {
        base: Base::Always,
        n: 1,
        start: 0,
    };

    /// Every `n` of `base`, from 0.
    pub const fn n(base: Base, n: i64) -> Self {
        Self { base, n, start: 0 }
    }

    /// Whether `position` is due: with `d = count + 1 - start`, `n > 0 and d >= 0 and d % n == 0`.
    pub fn is_due(&self, position: Position) -> bool {
        let count = match self.base {
            Base::Always => return true,
            Base::Iter => position.iter,
            Base::InnerIter => position.inner_iter,
            Base::Epoch => position.epoch,
        };
        every_n(count, Interval::Whole(self.n), self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_as_mmengine_counts() {
        let at = |iter| Position {
            iter,
            ..Position::default()
        };
        for (n, start, iter, due) in [
            (1, 0, 0, true),
            (50, 0, 49, true),
            (50, 0, 50, false),
            (5, 2, 0, false),
            (5, 2, 1, true), // d == 0 is due
            (2, -1, 0, true),
            (0, 0, 9, false),
            (-1, 0, 9, false),
            (i64::MAX, i64::MIN, u64::MAX, false),
        ] {
            assert_eq!(
                Every {
                    base: Base::Iter,
                    n,
                    start
                }
                .is_due(at(iter)),
                due,
                "n {n} start {start} iter {iter}"
            );
        }
    }
}
