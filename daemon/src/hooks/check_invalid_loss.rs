//! CheckInvalidLossHook: stops the training when the loss is NaN or infinite. What it sees, when it fires and what it does
//! is on its page, below.

use super::{
    Arg, Context, Decision, Difference, Hook, INTERVAL_IS_A_NUMBER, ITER_DEADLINE, Kind, Page,
    Recorded, Seen,
};
use crate::domain::{
    Base, Every, IncidentKind, LogLevel, LogLine, Otherwise, Rank, Subscription, Way, When,
};

const POINT: &str = "after_train_iter";
const LINE: &str = "loss become infinite or NaN!";

pub(super) const KIND: Kind = Kind {
    type_name: "CheckInvalidLossHook",
    summary: "stops the training when the loss is NaN or infinite",
    points: &[POINT],
    effect: "stop at this iteration",
    args: &[Arg {
        name: "interval",
        default: "50",
        help: "look every n global iterations; 0 or less: never",
    }],
    example: &[],
    config_only: false,
    page: Page {
        original: "MMDetection 3.3.0",
        sees: "`loss`: the sum that the training reports with each iteration, and no other loss. It counts in its own type: a \
             float16 loss that overflows is infinite. On a GPU it is read at due iterations only, as the original does.",
        fires: "Every `interval` iterations, counted over the whole training (with 50: the 50th, the 100th, …), if the loss is \
             NaN or infinite. Between them nothing is looked at: one bad loss off this grid goes unseen, and one that stays \
             bad is found at the next due iteration.",
        does: "- It writes `loss become infinite or NaN!` to the trainer's log at INFO.\n\
             - It stops the training at this very iteration: `hookbus.TrainingStopped` is raised there, on every rank of a \
             process group, also where one rank's loss alone is bad.\n\
             - The run has an incident, with the loss and the iteration.\n\
             The training waits for the daemon's answer only where the loss is bad, 50 ms at most. Without an answer it stops \
             all the same (`otherwise: stop`): a daemon that died lets no bad loss through.",
        differences: &[
            Difference {
                what: "the exception",
                ours: "`hookbus.TrainingStopped`, an `AssertionError` too; its text is the reason",
                why: "the original's message is `None`, which tells nobody anything",
                recorded: Some(Recorded {
                    file: "check_invalid_loss",
                    kinds: &["seq_*", "value"],
                    fields: "first_raise.type, str, args; raised",
                }),
            },
            Difference {
                what: "a loss that is missing, or no single number",
                ours: "no decision: the training goes on, and one error in its log says so, once",
                why: "the original raises a `KeyError`, `TypeError` or `RuntimeError` in mid-training",
                recorded: Some(Recorded {
                    file: "check_invalid_loss",
                    kinds: &["value", "not_a_tensor"],
                    fields: "raised",
                }),
            },
            Difference {
                what: "a loss that is a plain number, not a tensor",
                ours: "it is looked at",
                why: "the original raises a `TypeError`",
                recorded: Some(Recorded {
                    file: "check_invalid_loss",
                    kinds: &["not_a_tensor"],
                    fields: "raised",
                }),
            },
            Difference {
                what: "`python -O`",
                ours: "nothing changes",
                why: "it takes the original's whole check away",
                recorded: None,
            },
            INTERVAL_IS_A_NUMBER,
        ],
        more: None,
    },
    build: |args| {
        Ok(Box::new(CheckInvalidLossHook {
            interval: args.interval("interval")?.whole().unwrap_or(0),
        }))
    },
};

/// See the module.
#[derive(Debug)]
pub struct CheckInvalidLossHook {
    interval: i64,
}

impl Hook for CheckInvalidLossHook {
    fn subscriptions(&self) -> Vec<Subscription> {
        vec![Subscription {
            way: Way::Gate,
            when: When::NotFinite("loss".to_owned()),
            otherwise: Otherwise::Stop,
            otherwise_text: LINE.to_owned(),
            deadline: ITER_DEADLINE,
            ..Subscription::observe(POINT, Every::n(Base::Iter, self.interval), &["loss"])
        }]
    }

    fn on_event(&mut self, _: &Context<'_>, seen: &Seen<'_>) -> Vec<Decision> {
        let own = seen.metric("loss").filter(|loss| !loss.is_finite());
        let which = match (own, seen.held_on) {
            (None, []) => return Vec::new(),
            (Some(loss), [] | [_]) if seen.held_on.iter().all(|rank| *rank == seen.rank) => {
                format!("loss {loss}")
            }
            (_, ranks) => {
                let ranks: Vec<_> = ranks.iter().map(Rank::to_string).collect();
                format!("on rank {}", ranks.join(", "))
            }
        };
        let at = seen.position();
        vec![Decision::Stop {
            reason: format!(
                "{LINE} ({which}, at iteration {}, epoch {})",
                at.iter, at.epoch
            ),
            logs: vec![LogLine {
                level: LogLevel::Info,
                text: LINE.to_owned(),
            }],
            incident: IncidentKind::InvalidLoss,
        }]
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::domain::{DeviceUse, Event, HostSample, Names, Position, ProcessSample, Rank};
    use crate::store::series::{Lately, Name};
    use crate::store::{Said, View, Whose};

    struct NoView;

    impl View for NoView {
        fn host(&self) -> Result<HostSample, String> {
            Err("not sampled".to_owned())
        }

        fn process(&self, _: Rank) -> Result<ProcessSample, String> {
            Err("not sampled".to_owned())
        }

        fn said(&self, _: Rank) -> Option<Said> {
            None
        }

        fn devices(&self, _: Rank) -> Result<Vec<DeviceUse>, String> {
            Err("there is none here".to_owned())
        }

        fn newest(&self, _: Whose, _: Name) -> Result<f64, String> {
            Err("not sampled".to_owned())
        }

        fn lately(&self, _: Whose, _: Name, _: Duration, _: Instant) -> Result<Lately, String> {
            Err("not sampled".to_owned())
        }
    }

    #[test]
    fn only_what_is_not_finite_stops() {
        let names = Names {
            points: vec![POINT.into()],
            metrics: vec!["lr".into(), "loss".into()],
        };
        for (loss, stops) in [
            (Some(0.0), false),
            (Some(-1.0), false),
            (Some(5e-324), false),
            (Some(1e300), false),
            (Some(f64::NAN), true),
            (Some(f64::INFINITY), true),
            (Some(f64::NEG_INFINITY), true),
            (None, false),
        ] {
            let (metrics, values) = loss.map_or((vec![0], vec![f64::NAN]), |loss| {
                (vec![0, 1], vec![0.1, loss])
            });
            let position = Position {
                epoch: 1,
                iter: 12,
                inner_iter: 2,
            };
            let event = Event {
                metrics,
                values,
                position,
                ..Event::default()
            };
            let seen = Seen {
                rank: Rank(0),
                point: POINT,
                event: &event,
                names: &names,
                description: None,
                held_on: &[],
            };
            let cx = Context {
                now: Instant::now(),
                view: &NoView,
            };
            let decisions = CheckInvalidLossHook { interval: 1 }.on_event(&cx, &seen);
            assert_eq!(decisions.len(), usize::from(stops), "loss {loss:?}");
            if let [Decision::Stop { reason, logs, .. }] = decisions.as_slice() {
                assert!(
                    reason.starts_with(LINE) && reason.contains("iteration 12"),
                    "{reason}"
                );
                assert_eq!(
                    logs,
                    &[LogLine {
                        level: LogLevel::Info,
                        text: LINE.to_owned()
                    }]
                );
            }
        }
    }
}
