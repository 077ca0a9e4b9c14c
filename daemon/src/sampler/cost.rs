//! What looking costs, and when to look next: each probe has an interval and a budget of processor time. It never skips a
//! look; beyond the budget it only comes later, but never much: numbers that are minutes old help nobody.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::domain::ProbeCost;

/// So much of the budget may be used at once: an expensive first look is no reason to be slow afterwards.
const BURST: Duration = Duration::from_secs(10);
/// Beyond its budget a probe still looks once in so many of its intervals.
const MOST_INTERVALS: u32 = 10;
/// "Of late".
const LATE: Duration = Duration::from_secs(30);

/// Processor time of the thread that asks, by a system call. All of it is some probe's: what lies between two probes goes to
/// the second.
#[derive(Debug)]
pub(super) struct Meter(Duration);

impl Meter {
    pub(super) fn start() -> Self {
        Self(thread_time())
    }

    /// Since the last time.
    pub(super) fn lap(&mut self) -> Duration {
        let now = thread_time();
        now.saturating_sub(std::mem::replace(&mut self.0, now))
    }
}

/// Shares `cpu` out among the looks that are not paid for, as those cost that were measured last. False: all are paid for.
pub(super) fn pay(paces: [&mut Pace; 2], now: Instant, cpu: impl FnOnce() -> Duration) -> bool {
    if paces.iter().all(|pace| pace.unpaid == 0) {
        return false;
    }
    let cpu = cpu();
    let weight = |pace: &Pace| pace.measured.as_secs_f64().max(1e-9) * f64::from(pace.unpaid);
    let all: f64 = paces.iter().map(|pace| weight(pace)).sum();
    for pace in paces {
        let share = cpu.mul_f64(weight(pace) / all);
        pace.unpaid = 0;
        pace.charge(now, share);
    }
    true
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// How often, and for how much of one core.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// How often to look.
    pub interval: Duration,
    /// Of one core, in percent.
    pub budget_percent: f64,
}

/// One probe's turns.
#[derive(Debug)]
pub(super) struct Pace {
    name: &'static str,
    rate: Rate,
    due: Instant,
    /// Something has happened then that asks for a look out of turn.
    hurried: Option<Instant>,
    /// Not before then, by the budget.
    allowed: Instant,
    slowed_to: Option<Duration>,
    reads: u64,
    cpu: Duration,
    /// Of the last look whose cost was measured.
    measured: Duration,
    /// So many looks since have not been paid for.
    unpaid: u32,
    longest: Duration,
    /// Spent beyond what the budget has given since, in seconds of processor time.
    debt_s: f64,
    debt_at: Instant,
    /// (when, `cpu` then): the oldest at least `LATE` ago, where there is one.
    marks: VecDeque<(Instant, Duration)>,
}

impl Pace {
    pub(super) fn new(name: &'static str, rate: Rate, now: Instant) -> Self {
        Self {
            name,
            rate,
            due: now,
            hurried: None,
            allowed: now,
            slowed_to: None,
            reads: 0,
            cpu: Duration::ZERO,
            measured: Duration::ZERO,
            unpaid: 0,
            longest: Duration::ZERO,
            debt_s: 0.0,
            debt_at: now,
            marks: VecDeque::from([(now, Duration::ZERO)]),
        }
    }

    pub(super) fn due(&self) -> Instant {
        self.hurried.map_or(self.due, |at| at.min(self.due))
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due() <= now
    }

    /// It is its turn, whatever else has happened.
    pub(super) fn in_turn(&self, now: Instant) -> bool {
        self.due <= now
    }

    /// At once, budget or not: something has happened. Its turns stay where they are.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.hurried = Some(now);
    }

    /// It looked at `started`; the next time is a multiple of the interval later, so that probes with like intervals wake
    /// the thread together, or when the budget has it. What it cost, or None: that is paid later, by `pay`.
    pub(super) fn looked(&mut self, started: Instant, ended: Instant, cpu: Option<Duration>) {
        let out_of_turn = self.hurried.take().is_some() && started < self.due;
        let interval = self.rate.interval;
        let behind = started.saturating_duration_since(self.due);
        let steps = if behind < interval {
            1
        } else {
            let steps = behind.as_nanos() / interval.as_nanos().max(1) + 1;
            u32::try_from(steps).unwrap_or(u32::MAX)
        };
        let next = self.due + interval * if out_of_turn { 0 } else { steps };
        self.read(started, ended);
        match cpu {
            Some(cpu) => self.spent(ended, cpu),
            None => self.unpaid += 1,
        }
        self.due = next.max(self.allowed);
        let gap = self.due.saturating_duration_since(started);
        self.slowed_to = (self.allowed > next).then_some(gap);
    }

    /// It looked at one of many things, `since` after it had looked at the same one before. `wish` says when the next one is
    /// to be looked at.
    pub(super) fn looked_at_one(
        &mut self,
        started: Instant,
        ended: Instant,
        cpu: Duration,
        since: Option<Duration>,
    ) {
        self.read(started, ended);
        self.spent(ended, cpu);
        if let Some(since) = since {
            self.slowed_to = (since > self.rate.interval.mul_f64(1.25)).then_some(since);
        }
    }

    /// To look next at `then`, or when the budget has it.
    pub(super) fn wish(&mut self, then: Instant) {
        self.due = then.max(self.allowed);
    }

    fn read(&mut self, started: Instant, ended: Instant) {
        self.reads += 1;
        self.longest = self.longest.max(ended.saturating_duration_since(started));
    }

    /// Of one look.
    fn spent(&mut self, ended: Instant, cpu: Duration) {
        self.measured = cpu;
        self.charge(ended, cpu);
    }

    /// Keeps the account.
    fn charge(&mut self, ended: Instant, cpu: Duration) {
        self.cpu += cpu;
        let given = self.rate.budget_percent / 100.0;
        let passed = ended.saturating_duration_since(self.debt_at).as_secs_f64();
        self.debt_s = (self.debt_s - given * passed).max(0.0) + cpu.as_secs_f64();
        self.debt_at = ended;
        let over_s = self.debt_s - given * BURST.as_secs_f64();
        if over_s > 0.0 {
            // What it may not wait for it need not pay back either, else it would wait again and again.
            let most_s = (self.rate.interval * MOST_INTERVALS).as_secs_f64();
            let wait_s = (over_s / given).min(most_s);
            self.debt_s -= over_s - wait_s * given;
            self.allowed = ended + Duration::from_secs_f64(wait_s);
        }
    }

    /// As it is now.
    pub(super) fn cost(&mut self, now: Instant) -> ProbeCost {
        let since = |at: Instant| now.saturating_duration_since(at);
        while self.marks.len() > 1 && since(self.marks[1].0) >= LATE {
            self.marks.pop_front();
        }
        let (from, before) = self.marks[0];
        let seconds = since(from).as_secs_f64();
        let spent = self.cpu.saturating_sub(before).as_secs_f64();
        self.marks.push_back((now, self.cpu));
        ProbeCost {
            name: self.name,
            interval: self.rate.interval,
            slowed_to: self.slowed_to,
            reads: self.reads,
            cpu: self.cpu,
            longest: self.longest,
            share_percent: if seconds > 0.0 {
                spent / seconds * 100.0
            } else {
                0.0
            },
            budget_percent: self.rate.budget_percent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn pace(interval_ms: u64, budget_percent: f64, now: Instant) -> Pace {
        let rate = Rate {
            interval: ms(interval_ms),
            budget_percent,
        };
        Pace::new("host", rate, now)
    }

    #[test]
    fn within_its_budget_it_keeps_to_multiples_of_its_interval() {
        let start = Instant::now();
        let mut pace = pace(100, 1.0, start);
        for (at_ms, due_ms) in [(0, 100), (103, 200), (200, 300), (520, 600)] {
            let now = start + ms(at_ms);
            assert!(pace.is_due(now));
            pace.looked(now, now + ms(1), Some(Duration::from_micros(20)));
            assert_eq!(pace.due(), start + ms(due_ms), "after a look at {at_ms}");
        }
        assert_eq!(pace.cost(start + ms(600)).slowed_to, None);
    }

    #[test]
    fn a_look_out_of_turn_moves_no_turn() {
        let start = Instant::now();
        let mut pace = pace(100, 1.0, start);
        pace.looked(start, start, Some(Duration::from_micros(20)));
        let now = start + ms(37);
        pace.hurry(now);
        assert!(pace.is_due(now));
        pace.looked(now, now, Some(Duration::from_micros(20)));
        assert!(!pace.is_due(now));
        assert_eq!(pace.due(), start + ms(100));
    }

    #[test]
    fn over_its_budget_it_comes_less_often_and_then_comes_back() {
        let start = Instant::now();
        let mut pace = pace(100, 1.0, start);
        // Five times what it may use: 5 ms each 100 ms.
        let mut now = start;
        while now < start + ms(120_000) {
            pace.looked(now, now + ms(5), Some(ms(5)));
            now = pace.due();
        }
        let cost = pace.cost(now);
        let slowed = cost.slowed_to.expect("it is slowed");
        assert!((ms(495)..=ms(510)).contains(&slowed), "{slowed:?}");
        assert!(
            cost.cpu <= ms(1_310),
            "1 % of two minutes and a burst: {cost:?}"
        );
        // Cheap again.
        for _ in 0..20 {
            pace.looked(now, now, Some(Duration::from_micros(100)));
            now = pace.due();
        }
        assert_eq!(pace.cost(now).slowed_to, None);
    }

    #[test]
    fn however_much_it_costs_it_comes_after_ten_intervals_and_is_soon_back() {
        let start = Instant::now();
        let mut pace = pace(100, 0.1, start);
        for at in 0..64 {
            let now = start + ms(at);
            pace.hurry(now);
            pace.looked(now, now + ms(20), Some(ms(20)));
        }
        let wait = pace.due() - start;
        assert!((ms(1_000)..=ms(1_200)).contains(&wait), "{wait:?}");
        let mut now = pace.due();
        for _ in 0..20 {
            pace.looked(now, now, Some(Duration::from_micros(20)));
            now = pace.due();
        }
        assert_eq!(pace.cost(now).slowed_to, None);
    }

    #[test]
    fn one_expensive_look_is_within_the_burst() {
        let start = Instant::now();
        let mut pace = pace(100, 1.0, start);
        pace.looked(start, start + ms(90), Some(ms(90)));
        assert_eq!(pace.due(), start + ms(100));
    }

    #[test]
    fn the_share_is_that_of_the_last_half_minute() {
        let start = Instant::now();
        let mut pace = pace(1000, 100.0, start);
        for second in 0..120 {
            let now = start + ms(second * 1000);
            let cpu = if second < 60 { ms(10) } else { ms(2) };
            pace.looked(now, now + cpu, Some(cpu));
            pace.cost(now + ms(500));
        }
        let cost = pace.cost(start + ms(120_000));
        assert!((0.19..0.21).contains(&cost.share_percent), "{cost:?}");
        assert_eq!((cost.reads, cost.longest), (120, ms(10)));
    }

    #[test]
    fn the_meter_counts_this_thread_alone() {
        let mut meter = Meter::start();
        let before = Instant::now();
        let mut sum = 0_u64;
        while meter.0 == thread_time() || before.elapsed() < ms(2) {
            sum = std::hint::black_box(sum + 1);
        }
        let spent = meter.lap();
        assert!(spent > Duration::ZERO && spent <= before.elapsed() + ms(1));
    }
}
