//! Whether a connection answers: how many calls are under way, and since when nothing came back. It judges nothing.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Of one connection. `now` is the caller's.
#[derive(Debug, Default)]
pub struct Pulse(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    /// Calls without an answer, by the run's number.
    calls: HashMap<u64, usize>,
    /// When the last answer came, or the first call went out after there was none; None: there is none.
    since: Option<Instant>,
}

impl Pulse {
    /// A call of this run went out.
    pub fn called(&self, run: u64, now: Instant) {
        let mut open = self.lock();
        *open.calls.entry(run).or_default() += 1;
        open.since.get_or_insert(now);
    }

    /// An answer came. False: no call of this run waits for one.
    pub fn answered(&self, run: u64, now: Instant) -> bool {
        let mut open = self.lock();
        let Some(calls) = open.calls.get_mut(&run) else {
            return false;
        };
        *calls -= 1;
        if *calls == 0 {
            open.calls.remove(&run);
        }
        open.since = (!open.calls.is_empty()).then_some(now);
        true
    }

    /// Nothing of this run is waited for any more.
    pub fn closed(&self, run: u64) {
        let mut open = self.lock();
        open.calls.remove(&run);
        if open.calls.is_empty() {
            open.since = None;
        }
    }

    /// What was waited for so far does not count.
    pub fn begin_anew(&self, now: Instant) {
        let mut open = self.lock();
        open.since = open.since.map(|_| now);
    }

    /// For how long nothing came back, and how many calls wait; None: none does.
    pub fn silent(&self, now: Instant) -> Option<(Duration, usize)> {
        let open = self.lock();
        let since = open.since?;
        let calls = open.calls.values().sum();
        Some((now.saturating_duration_since(since), calls))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_begins_with_the_first_open_call_and_anew_with_each_answer() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let pulse = Pulse::default();
        assert_eq!(pulse.silent(at(9)), None, "nothing was asked");
        pulse.called(1, at(10));
        pulse.called(1, at(15));
        pulse.called(2, at(16));
        assert_eq!(pulse.silent(at(20)), Some((Duration::from_secs(10), 3)));
        pulse.begin_anew(at(20));
        assert_eq!(pulse.silent(at(20)), Some((Duration::ZERO, 3)));
        assert!(pulse.answered(1, at(21)));
        assert_eq!(pulse.silent(at(22)), Some((Duration::from_secs(1), 2)));
        pulse.closed(2);
        assert!(pulse.answered(1, at(30)));
        assert_eq!(pulse.silent(at(99)), None, "everything was answered");
        pulse.begin_anew(at(99));
        assert_eq!(pulse.silent(at(99)), None);
        assert!(!pulse.answered(7, at(31)), "of a run that is over");
        assert!(!pulse.answered(1, at(31)), "one more than there were calls");
        assert_eq!(pulse.silent(at(99)), None);
    }
}
