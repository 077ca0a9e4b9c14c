//! The daemon's plan, compiled: per point a few wishes with their intervals. Pure, so that its tests are tables and the
//! recorded cases of the real hooks can be put through it.

use std::time::Duration;

use hookbus_proto::v1 as wire;

use crate::Position;

/// The trainer's own resident set size, as a field name.
pub const RSS_BYTES: &str = "rss_bytes";

/// What model and datasets are, as a field name.
const DESCRIPTION: &str = "description";

/// Whether `every` is due at `at`, as MMEngine counts: `n > 0`, `d = count + 1 - start >= 0`, `d % n == 0`.
pub fn is_due(every: &wire::Every, at: Position) -> bool {
    let count = match every.base() {
        wire::Base::Unspecified => return true,
        wire::Base::Iter => at.iter,
        wire::Base::InnerIter => at.inner_iter,
        wire::Base::Epoch => at.epoch,
    };
    if every.start == 0 && every.n > 0 {
        return count.wrapping_add(1) % every.n as u64 == 0;
    }
    let distance = i128::from(count) + 1 - i128::from(every.start);
    every.n > 0 && distance >= 0 && distance % i128::from(every.n) == 0
}

/// Which metrics a wish wants.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    /// Every one.
    All,
    /// These names.
    Named(Vec<String>),
}

/// A gate of one hook.
#[derive(Clone, Debug, PartialEq)]
pub struct Gate {
    /// The hook's name.
    pub hook: String,
    /// It concerns this field: the trainer waits if it is there and not finite. None: always.
    pub not_finite: Option<String>,
    /// How long the trainer waits.
    pub deadline: Duration,
    /// What happens without an answer: Some: stop, with this reason and log line.
    pub otherwise_stop: Option<String>,
}

/// One wish at one point.
#[derive(Clone, Debug, PartialEq)]
pub struct Wish {
    /// How often.
    pub every: wire::Every,
    /// Which metrics.
    pub wanted: Wanted,
    /// The trainer's own resident set size too.
    pub rss: bool,
    /// What model and datasets are must have been said.
    pub description: bool,
    /// The trainer may wait.
    pub gate: Option<Gate>,
}

impl Wish {
    /// A subscription as the client understands it. UNSPECIFIED values are read as the protocol defines.
    pub fn new(wish: &wire::Subscription) -> Self {
        let names: Vec<_> = wish
            .fields
            .iter()
            .filter(|name| *name != RSS_BYTES && *name != DESCRIPTION)
            .cloned()
            .collect();
        let gate = (wish.way() == wire::Way::Gate).then(|| Gate {
            hook: wish.subscriber.clone(),
            not_finite: wish
                .when
                .as_ref()
                .and_then(|when| when.condition.as_ref())
                .map(|condition| match condition {
                    wire::when::Condition::NotFinite(field) => field.clone(),
                }),
            deadline: Duration::from_millis(wish.deadline_ms.into()),
            otherwise_stop: (wish.otherwise() == wire::Otherwise::Stop)
                .then(|| wish.otherwise_text.clone()),
        });
        Self {
            every: wish.every.unwrap_or_default(),
            wanted: if names.iter().any(|name| name == "*") {
                Wanted::All
            } else {
                Wanted::Named(names)
            },
            rss: wish.fields.iter().any(|name| name == RSS_BYTES),
            description: wish.fields.iter().any(|name| name == DESCRIPTION),
            gate,
        }
    }
}

/// Everything that is asked, by point.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Compiled {
    everywhere: Vec<Wish>,
    by_point: Vec<(String, Wish)>,
    /// Share of wall time that gates may cost; 0: no budget.
    pub stall_budget: f64,
    /// How often an open breaker probes.
    pub probe: Duration,
}

impl Compiled {
    /// Compiles a plan; `gates`: false leaves gates out (a daemon that came after training began).
    pub fn new(plan: &wire::Plan, gates: bool) -> Self {
        let mut compiled = Self {
            stall_budget: plan.stall_budget,
            probe: Duration::from_millis(if plan.probe_ms == 0 {
                1000
            } else {
                plan.probe_ms
            }),
            ..Self::default()
        };
        for subscription in &plan.subscriptions {
            let wish = Wish::new(subscription);
            if wish.gate.is_some() && !gates {
                continue;
            }
            if subscription.point == "*" {
                compiled.everywhere.push(wish);
            } else {
                compiled.by_point.push((subscription.point.clone(), wish));
            }
        }
        compiled
    }

    /// The wishes at a point, in the plan's order.
    pub fn at(&self, point: &str) -> Vec<Wish> {
        let named = self
            .by_point
            .iter()
            .filter(|(name, _)| name == point)
            .map(|(_, wish)| wish);
        self.everywhere.iter().chain(named).cloned().collect()
    }

    /// The hooks whose gates this plan has.
    pub fn gated_hooks(&self) -> Vec<&str> {
        let mut hooks: Vec<_> = self
            .by_point
            .iter()
            .filter_map(|(_, wish)| Some(wish.gate.as_ref()?.hook.as_str()))
            .collect();
        hooks.dedup();
        hooks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_at_any_position_after_any_jump() {
        let naive = |n: i64, start: i64, count: u64| {
            let distance = i128::from(count) + 1 - i128::from(start);
            n > 0 && distance >= 0 && distance % i128::from(n) == 0
        };
        for n in [-1, 0, 1, 2, 7, 50, i64::MAX] {
            for start in [0, 1, 5, -3] {
                for count in [0, 1, 4, 6, 48, 49, 50, 99, 1 << 40] {
                    let every = wire::Every {
                        base: wire::Base::Iter.into(),
                        n,
                        start,
                    };
                    let at = Position {
                        iter: count,
                        ..Position::default()
                    };
                    assert_eq!(
                        is_due(&every, at),
                        naive(n, start, count),
                        "n {n} start {start} count {count}"
                    );
                }
            }
        }
        assert!(
            is_due(&wire::Every::default(), Position::default()),
            "no base: always"
        );
    }

    #[test]
    fn a_late_daemon_gets_no_gates() {
        let gate = wire::Subscription {
            point: "after_train_iter".into(),
            way: wire::Way::Gate.into(),
            subscriber: "Check".into(),
            ..Default::default()
        };
        let all = wire::Subscription {
            point: "*".into(),
            fields: vec!["*".into()],
            ..Default::default()
        };
        let plan = wire::Plan {
            subscriptions: vec![gate, all],
            ..Default::default()
        };
        assert_eq!(Compiled::new(&plan, true).at("after_train_iter").len(), 2);
        assert_eq!(Compiled::new(&plan, false).at("after_train_iter").len(), 1);
        assert_eq!(Compiled::new(&plan, true).gated_hooks(), ["Check"]);
        assert_eq!(
            Compiled::new(&plan, true).at("a point of one's own").len(),
            1
        );
    }
}
