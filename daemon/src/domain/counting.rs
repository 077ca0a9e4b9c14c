//! Counting as MMEngine 0.10.7 counts (`mmengine/hooks/hook.py`): what is due, and what is the last. Counts are 0-based, and
//! -1 is one: before the first.

/// The n of "every n": a Python int or float. Due at its multiples; never where it is 0 or less.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Interval {
    /// An int.
    Whole(i64),
    /// A float: 2.5 is due at 5, 10, 15.
    Real(f64),
}

impl Interval {
    /// The whole number with the same whole multiples: a float p / 2^k in lowest terms has those of p. None: no count is
    /// ever a multiple (infinite, or beyond `i64`).
    pub fn whole(self) -> Option<i64> {
        const BEYOND: f64 = 9_223_372_036_854_775_808.0; // 2^63
        let mut numerator = match self {
            Self::Whole(n) => return Some(n),
            Self::Real(n) if !n.is_finite() => return None,
            Self::Real(n) => n,
        };
        while numerator.fract() != 0.0 {
            numerator *= 2.0; // exact
        }
        (numerator.abs() < BEYOND).then_some(numerator as i64)
    }

    fn divides(self, distance: i128) -> bool {
        match self {
            Self::Whole(n) => n > 0 && distance % i128::from(n) == 0,
            // fmod is exact, in Python as here.
            Self::Real(n) => n > 0.0 && distance as f64 % n == 0.0,
        }
    }
}

/// `every_n_epochs` and `every_n_train_iters`: with `d = count + 1 - start`, `d >= 0 and n > 0 and d % n == 0`.
pub fn every_n(count: impl Into<i128>, n: Interval, start: i64) -> bool {
    let distance = count.into() + 1 - i128::from(start);
    distance >= 0 && n.divides(distance)
}

/// `every_n_inner_iters`: `n > 0 and (batch_idx + 1) % n == 0`.
pub fn every_n_inner_iters(batch_idx: i64, n: Interval) -> bool {
    n.divides(i128::from(batch_idx) + 1)
}

/// `end_of_epoch`: never true past the end.
pub fn end_of_epoch(batch_idx: i64, iters_per_epoch: i64) -> bool {
    is_next(batch_idx, iters_per_epoch)
}

/// `is_last_train_epoch`: never true past the end.
pub fn is_last_train_epoch(epoch: i64, max_epochs: i64) -> bool {
    is_next(epoch, max_epochs)
}

/// `is_last_train_iter`: never true past the end.
pub fn is_last_train_iter(iter: i64, max_iters: i64) -> bool {
    is_next(iter, max_iters)
}

fn is_next(count: i64, end: i64) -> bool {
    count.checked_add(1) == Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_float_and_its_whole_number_are_due_alike() {
        for n in [
            0.1,
            0.5,
            0.75,
            1.0,
            1.5,
            2.5,
            3.0,
            6.25,
            -2.5,
            0.0,
            -0.0,
            5e-324,
            1e300,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN,
        ] {
            let real = Interval::Real(n);
            let whole = Interval::Whole(real.whole().unwrap_or(0));
            for count in 0..2000_i64 {
                assert_eq!(
                    every_n(count, real, 0),
                    every_n(count, whole, 0),
                    "every {n} at {count}"
                );
            }
        }
        assert_eq!(Interval::Real(2.5).whole(), Some(5));
        assert_eq!(Interval::Real(-0.5).whole(), Some(-1));
        assert_eq!(Interval::Real(9.3e18).whole(), None);
        assert_eq!(Interval::Whole(i64::MIN).whole(), Some(i64::MIN));
    }

    #[test]
    fn the_edges_do_not_overflow() {
        let whole = Interval::Whole;
        assert!(every_n(-1_i64, whole(3), 0), "a distance of 0 is due");
        assert!(!every_n(i64::MIN, whole(1), i64::MAX));
        assert!(every_n(u64::MAX, whole(1), i64::MIN));
        assert!(every_n_inner_iters(-3, whole(2)), "no start, no guard");
        assert!(!every_n_inner_iters(i64::MAX, whole(-1)));
        assert!(!end_of_epoch(i64::MAX, i64::MIN));
        assert!(is_last_train_epoch(-1, 0) && !is_last_train_epoch(1, 1));
        assert!(is_last_train_iter(9, 10) && !is_last_train_iter(10, 10));
    }
}
