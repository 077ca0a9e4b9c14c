//! When a gate may wait. A breaker opens at the first timeout and lets one gate through at a time to probe; a budget
//! bounds the share of wall time that gates cost. The clock is an argument.

use std::time::{Duration, Instant};

/// The budget is looked at only after this.
const BUDGET_AFTER: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Breaker {
    started: Instant,
    open_since: Option<Instant>,
    waited: Duration,
    timeouts: u64,
}

impl Breaker {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            started: now,
            open_since: None,
            waited: Duration::ZERO,
            timeouts: 0,
        }
    }

    /// Whether a gate may wait now; else it answers by its `otherwise` at once.
    pub(crate) fn may_wait(&mut self, now: Instant, stall_budget: f64, probe: Duration) -> bool {
        let run = now.saturating_duration_since(self.started);
        if stall_budget > 0.0
            && run > BUDGET_AFTER
            && self.waited.as_secs_f64() > stall_budget * run.as_secs_f64()
        {
            return false;
        }
        match self.open_since {
            Some(since) if now.saturating_duration_since(since) < probe => false,
            Some(_) => {
                self.open_since = Some(now);
                true
            }
            None => true,
        }
    }

    /// An answer came.
    pub(crate) fn answered(&mut self, waited: Duration) {
        self.waited += waited;
        self.open_since = None;
    }

    /// None came.
    pub(crate) fn timed_out(&mut self, waited: Duration, now: Instant) {
        self.waited += waited;
        self.timeouts += 1;
        self.open_since = Some(now);
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open_since.is_some()
    }

    pub(crate) fn timeouts(&self) -> u64 {
        self.timeouts
    }

    pub(crate) fn waited(&self) -> Duration {
        self.waited
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn it_opens_at_the_first_timeout_and_probes() {
        let start = Instant::now();
        let mut breaker = Breaker::new(start);
        assert!(breaker.may_wait(start, 0.005, SECOND));
        breaker.timed_out(Duration::from_millis(50), start);
        assert!(!breaker.may_wait(start + SECOND / 2, 0.005, SECOND));
        assert!(breaker.may_wait(start + SECOND, 0.005, SECOND), "one probe");
        assert!(!breaker.may_wait(start + SECOND, 0.005, SECOND), "only one");
        breaker.answered(Duration::ZERO);
        assert!(breaker.may_wait(start + SECOND, 0.005, SECOND));
        assert!(!breaker.is_open());
        assert_eq!(
            (breaker.timeouts(), breaker.waited()),
            (1, Duration::from_millis(50))
        );
    }

    #[test]
    fn gates_cost_at_most_the_budget() {
        let start = Instant::now();
        let mut breaker = Breaker::new(start);
        breaker.answered(SECOND);
        assert!(
            breaker.may_wait(start + 29 * SECOND, 0.005, SECOND),
            "not counted yet"
        );
        assert!(
            !breaker.may_wait(start + 31 * SECOND, 0.005, SECOND),
            "1 s of 31 s is over 0.5 %"
        );
        assert!(
            breaker.may_wait(start + 31 * SECOND, 0.0, SECOND),
            "no budget"
        );
        assert!(breaker.may_wait(start + 201 * SECOND, 0.005, SECOND));
    }
}
