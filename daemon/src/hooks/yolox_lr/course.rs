//! The arithmetic: bit for bit the float64 of mmcv 1.7.2 (`CosineAnnealingLrUpdaterHook`, `annealing_cos`) and mmdet 2.28.2
//! (`YOLOXLrUpdaterHook`) on glibc, so each operation is in its order and none is simplified.

use std::f64::consts::PI;
use std::hint::black_box;

use crate::domain::Curve;

/// The rate of the tail.
#[derive(Clone, Copy, Debug)]
pub(super) enum Least {
    Rate(f64),
    ShareOfBase(f64),
}

/// What progress is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    Iters,
    Epochs {
        /// Of one epoch.
        iters: u64,
        max_epochs: u64,
    },
    /// By epoch, where there are none: mmcv's iteration-based runner never calls before_train_epoch.
    Never,
}

/// One training's course, for any base rate. Lengths are Python's ints, exact up to 2^53.
#[derive(Debug)]
pub(super) struct Course {
    /// Of the whole training.
    pub(super) iters: u64,
    /// W, in iterations.
    pub(super) warmup: f64,
    /// None: no warm-up, though W counts in the cosine.
    pub(super) warmup_ratio: Option<f64>,
    /// L, in iterations.
    pub(super) last: f64,
    pub(super) least: Least,
    pub(super) pace: Pace,
}

impl Course {
    /// The whole curve of one base rate. Errors: which numbers collide.
    pub(super) fn curve(&self, base: f64, start_iter: u64) -> Result<Curve, String> {
        // What divides by zero does so from the training's start on; a resume after that has its rates.
        let first_iter = (0..self.iters)
            .find(|iter| self.rate(base, *iter).is_some())
            .unwrap_or(self.iters);
        if first_iter > start_iter {
            return Err(self.collision());
        }
        let rate = |iter| {
            self.rate(base, iter)
                .expect("so have all iterations after the first")
        };
        Ok(Curve {
            first_iter,
            values: (first_iter..self.iters).map(rate).collect(),
        })
    }

    /// At a 0-based iteration. None: it would divide by zero.
    fn rate(&self, base: f64, iter: u64) -> Option<f64> {
        let warm = self
            .warmup_ratio
            .filter(|_| (iter as f64) < self.warmup)
            .map(|ratio| self.warm(base, ratio, iter));
        match self.pace {
            Pace::Iters => {
                let regular = self.regular(base, iter + 1, self.iters)?;
                Some(warm.unwrap_or(regular))
            }
            Pace::Epochs { iters, max_epochs } => {
                // The original computes it in the warm-up too.
                let regular = self.regular(base, iter / iters + 1, max_epochs)?;
                Some(warm.unwrap_or(regular))
            }
            Pace::Never => warm.or_else(|| {
                let last = (self.warmup - 1.0) as u64;
                Some(self.warm(base, self.warmup_ratio?, last))
            }),
        }
    }

    fn warm(&self, base: f64, ratio: f64, iter: u64) -> f64 {
        // Python's pow is libm's; a constant exponent of 2 would become a multiplication here, which rounds otherwise.
        let square = ((iter + 1) as f64 / self.warmup).powf(black_box(2.0));
        base * (ratio * square)
    }

    fn regular(&self, base: f64, progress: u64, max: u64) -> Option<f64> {
        let (progress, max) = (progress as f64, max as f64);
        let target = match self.least {
            Least::Rate(rate) => rate,
            Least::ShareOfBase(share) => base * share,
        };
        if progress >= max - self.last {
            return Some(target);
        }
        let span = max - self.warmup - self.last;
        let factor = (span != 0.0).then(|| (progress - self.warmup) / span)?;
        Some(target + 0.5 * (base - target) * ((PI * factor).cos() + 1.0))
    }

    fn collision(&self) -> String {
        let max = match self.pace {
            Pace::Epochs { max_epochs, .. } => format!("max_epochs ({max_epochs})"),
            _ => format!("the training's length ({} iterations)", self.iters),
        };
        format!(
            "{max} equals warm-up ({} iterations) plus num_last_epochs ({} iterations), which leaves nothing to anneal over and \
             divides by zero: change one of the three",
            self.warmup, self.last
        )
    }
}
