//! ReduceOnPlateau: scales the learning rate down when a metric no longer falls, as torch's ReduceLROnPlateau does (mode "min",
//! threshold_mode "abs").

use hookbusd::domain::{Every, Hold, Rank, Subscription};
use hookbusd::hooks::{Arg, Context, Decision, Hook, Kind, Page, Seen, Want};
use serde::{Deserialize, Serialize};

const POINT: &str = "after_val_epoch";

/// How the daemon knows it: its name and arguments, for configurations, errors and `hookbus hooks`.
pub(crate) const KIND: Kind = Kind {
    type_name: "ReduceOnPlateau",
    summary: "scales the learning rate down when a metric no longer falls",
    points: &[POINT],
    effect: "learning rate from the next iteration on",
    args: &[
        Arg {
            name: "metric",
            default: "\"val_loss\"",
            help: "which metric is to fall",
        },
        Arg {
            name: "patience",
            default: "10",
            help: "validations without a better value that are let pass",
        },
        Arg {
            name: "factor",
            default: "0.1",
            help: "what the learning rate is multiplied by, each time",
        },
        Arg {
            name: "min_delta",
            default: "0.0001",
            help: "a value is better only if it is lower by more than this",
        },
        Arg {
            name: "cooldown",
            default: "0",
            help: "validations after a reduction in which nothing is counted",
        },
    ],
    example: &[],
    config_only: false,
    page: Page::NONE,
    build: |args| {
        let metric = args.optional_text("metric")?.unwrap_or_default();
        if metric.is_empty() {
            return Err("metric is empty; it names what the trainer reports".to_owned());
        }
        let factor = args.number("factor")?;
        if !(factor > 0.0 && factor < 1.0) {
            return Err(format!(
                "factor is {factor}; it must be between 0 and 1, so that the rate falls"
            ));
        }
        Ok(Box::new(ReduceOnPlateau {
            metric,
            patience: args.integer("patience")?,
            factor,
            min_delta: args.number("min_delta")?,
            cooldown: args.integer("cooldown")?,
            seen: Counted::default(),
        }))
    },
};

struct ReduceOnPlateau {
    metric: String,
    patience: i64,
    factor: f64,
    min_delta: f64,
    cooldown: i64,
    seen: Counted,
}

/// What it has seen. The daemon keeps it in the run's journal, so that a daemon that is started anew goes on from here.
#[derive(Serialize, Deserialize)]
struct Counted {
    /// None: no value yet.
    best: Option<f64>,
    bad: i64,
    cooling: i64,
    scale: f64,
}

impl Default for Counted {
    fn default() -> Self {
        Self {
            best: None,
            bad: 0,
            cooling: 0,
            scale: 1.0,
        }
    }
}

impl Hook for ReduceOnPlateau {
    fn subscriptions(&self) -> Vec<Subscription> {
        vec![Subscription::observe(POINT, Every::ALWAYS, &[&self.metric])]
    }

    fn on_event(&mut self, _: &Context<'_>, seen: &Seen<'_>) -> Vec<Decision> {
        // One hook sees the events of all ranks; the metric is counted once.
        let value = seen.metric(&self.metric).filter(|_| seen.rank == Rank(0));
        let Some(value) = value else {
            return Vec::new();
        };
        let counted = &mut self.seen;
        // A value that is not finite is never better.
        if value.is_finite() && value < counted.best.unwrap_or(f64::INFINITY) - self.min_delta {
            counted.best = Some(value);
            counted.bad = 0;
        } else {
            counted.bad += 1;
        }
        if counted.cooling > 0 {
            counted.cooling -= 1;
            counted.bad = 0;
        }
        if counted.bad <= self.patience {
            return Vec::new();
        }
        counted.bad = 0;
        counted.cooling = self.cooldown;
        counted.scale *= self.factor;
        vec![Decision::Want(Want::Lr {
            group: None,
            hold: Hold::Scale(counted.scale),
        })]
    }

    fn state(&self) -> serde_json::Value {
        serde_json::to_value(&self.seen).unwrap_or_default()
    }

    fn restore(&mut self, state: &serde_json::Value) -> Result<(), String> {
        self.seen = Counted::deserialize(state).map_err(|error| error.to_string())?;
        Ok(())
    }
}
