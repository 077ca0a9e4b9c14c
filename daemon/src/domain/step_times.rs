//! How long steps took, in buckets.

use std::time::Duration;

/// Upper bounds in milliseconds; the last bucket has none.
const BOUNDS_MS: [u64; 15] = [
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000,
];

/// Durations of steps, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepTimes {
    counts: [u64; BOUNDS_MS.len() + 1],
    sum: Duration,
}

impl StepTimes {
    /// One more step. A bound belongs to its bucket.
    pub fn add(&mut self, step: Duration) {
        let is_within = |bound: &&u64| step <= Duration::from_millis(**bound);
        let at = BOUNDS_MS
            .iter()
            .take_while(|bound| !is_within(bound))
            .count();
        self.counts[at] += 1;
        self.sum = self.sum.saturating_add(step);
    }

    /// All of them together.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Upper bounds in seconds, with how many each bucket has; the last bound is infinite.
    pub fn buckets_s(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let bounds = BOUNDS_MS.iter().map(|bound| *bound as f64 / 1e3);
        bounds.chain([f64::INFINITY]).zip(self.counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_in_one_bucket() {
        let mut times = StepTimes::default();
        for ms in [1, 2, 3, 61_000] {
            times.add(Duration::from_millis(ms));
        }
        let filled: Vec<_> = times.buckets_s().filter(|(_, count)| *count > 0).collect();
        assert_eq!(
            filled,
            [(0.001, 1), (0.002, 1), (0.005, 1), (f64::INFINITY, 1)]
        );
        assert_eq!(
            (times.count(), times.sum()),
            (4, Duration::from_millis(61_006))
        );
    }
}
