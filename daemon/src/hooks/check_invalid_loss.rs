//! CheckInvalidLossHook: stops the training when the loss is NaN or infinite.
//!
//! Sees `loss` at after_train_iter, every `interval` global iterations. Fires when it is there and not finite, at a gate,
//! so that the training stops at this very iteration; without an answer it stops too (`otherwise: stop`).
//! Writes "loss become infinite or NaN!" to the trainer's log at INFO, as MMDetection 3.3.0 does. Between due iterations
//! nothing is looked at. Of a job whose ranks act together all stop where the loss of any is not finite. Arguments: `interval` (50), a float too; 0 or less: never.

use super::{Arg, Context, Decision, Hook, ITER_DEADLINE, Kind, Seen};
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
    use std::time::Instant;

    use super::*;
    use crate::domain::{Event, HostSample, Names, Position, Rank};
    use crate::store::View;

    struct NoView;

    impl View for NoView {
        fn host(&self) -> Result<HostSample, String> {
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
