//! YOLOXModeSwitchHook: leaves out strong augmentation and adds the L1 loss at the end of a training. What it sees, when it
//! fires and what it does is on its page, below.

use super::{Ahead, Arg, Args, Difference, Hook, Kind, Page, Recorded};
use crate::domain::{Facts, Standing};

pub(super) const KIND: Kind = Kind {
    type_name: "YOLOXModeSwitchHook",
    summary: "leaves out strong augmentation and adds the L1 loss at the end of a training",
    points: &["before_train_epoch"],
    effect: "skip types, new workers, use_l1",
    args: &[
        Arg {
            name: "num_last_epochs",
            default: "15",
            help: "switch this many epochs, and one, before the end; -1 or less: never",
        },
        Arg {
            name: "skip_type_keys",
            default: "[\"Mosaic\", \"RandomAffine\", \"MixUp\"]",
            help: "pipeline steps to leave out from then on",
        },
    ],
    example: &[],
    config_only: false,
    page: Page {
        original: "MMDetection 3.3.0",
        sees: "`max_epochs`. The epoch is decided before the training starts, so that a daemon that dies later changes nothing.",
        fires: "Once, before the first epoch with `epoch + 1 >= max_epochs - num_last_epochs`, counted from 0: so the last \
             `num_last_epochs + 1` epochs are in the new mode, as in MMDetection (of 300 with 15: from epoch 284 on). A \
             training that is resumed after that switches in its first epoch. An iteration-based loop has one epoch, as in \
             MMEngine: it switches before its first iteration.",
        does: "In this order, before the data loader's iterator is made where it is made for each epoch:\n\
             - `No mosaic and mixup aug now!` in the trainer's log, and `dataset.update_skip_type_keys(skip_type_keys)`;\n\
             - new data-loader workers where they are persistent, for they hold copies of the dataset;\n\
             - `Add additional L1 loss now!` in the log, and `bbox_head.use_l1 = True`, on `model.detector` where the model \
             has one, else on the model. One wrapper is taken off first.\n\
             In a plain loop `bus.on(\"mode\", …)` takes the place of all that. In YOLOX configs this comes before EMAHook \
             (49): say `priority=48` of HookbusHook.",
        differences: &[
            Difference {
                what: "`skip_type_keys` that is no list of strings",
                ours: "refused where it is configured",
                why: "the original fails at the switch, hundreds of epochs later",
                recorded: Some(Recorded {
                    file: "yolox_mode_switch",
                    kinds: &["skip_type_keys"],
                    fields: "raised, events",
                }),
            },
            Difference {
                what: "a model without `bbox_head`, one wrapper taken off; a dataset without `update_skip_type_keys`",
                ours: "the result is \"failed\", with the reason and what was done before it; an incident, and the training goes on",
                why: "the original's `AttributeError` ends the training",
                recorded: Some(Recorded {
                    file: "yolox_mode_switch",
                    kinds: &["model_*"],
                    fields: "raised",
                }),
            },
        ],
        more: None,
    },
    build: |args| Ok(Box::new(YOLOXModeSwitchHook::new(args)?)),
};

/// See the module.
#[derive(Debug)]
pub struct YOLOXModeSwitchHook {
    num_last_epochs: f64,
    skip_types: Vec<String>,
}

impl YOLOXModeSwitchHook {
    fn new(args: &mut Args<'_>) -> Result<Self, String> {
        Ok(Self {
            num_last_epochs: args.number("num_last_epochs")?,
            skip_types: args.texts("skip_type_keys")?,
        })
    }

    /// The first epoch with `epoch + 1 >= max_epochs - num_last_epochs`, if the training reaches it.
    fn switch_epoch(&self, max_epochs: u64) -> Option<u64> {
        let from = (max_epochs as f64 - self.num_last_epochs).ceil() - 1.0;
        let from = from.max(0.0) as u64;
        (from < max_epochs).then_some(from)
    }
}

impl Hook for YOLOXModeSwitchHook {
    fn ahead(&mut self, facts: &Facts, _: &str) -> Result<Ahead, String> {
        let max_epochs = facts.max_epochs.ok_or(
            "max_epochs is not known, so neither is the epoch to switch at: say attach(max_epochs=...), 1 where the training \
             counts iterations only",
        )?;
        let standing = self
            .switch_epoch(max_epochs)
            .map(|from_epoch| Standing::Mode {
                from_epoch,
                skip_types: self.skip_types.clone(),
            });
        Ok(Ahead {
            standing,
            warnings: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Value;
    use crate::hooks::tests::{decided, refused};

    const TYPE: &str = "YOLOXModeSwitchHook";

    fn mode(num_last_epochs: Value, max_epochs: u64) -> Option<u64> {
        let facts = Facts {
            max_epochs: Some(max_epochs),
            ..Facts::default()
        };
        match decided(TYPE, &[("num_last_epochs", num_last_epochs)], &facts).standing {
            Some(Standing::Mode { from_epoch, .. }) => Some(from_epoch),
            None => None,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_mode_holds_in_one_epoch_more_than_asked() {
        for (last, max_epochs, from) in [
            (15, 300, Some(284)),
            (15, 16, Some(0)),
            (15, 17, Some(1)),
            (0, 5, Some(4)),
            (-1, 5, None),
            (i64::MIN, 5, None),
            (i64::MAX, 5, Some(0)),
            (15, 1, Some(0)), // an iteration-based loop
            (15, 0, None),
        ] {
            assert_eq!(
                mode(Value::Integer(last), max_epochs),
                from,
                "{last} of {max_epochs}"
            );
        }
        // epoch + 1 >= 7.5
        assert_eq!(mode(Value::Number(2.5), 10), Some(7));
    }

    #[test]
    fn skip_types_are_strings() {
        let text = |text: &str| Value::Text(text.to_owned());
        let facts = Facts {
            max_epochs: Some(1),
            ..Facts::default()
        };
        for (said, skip) in [
            (None, vec!["Mosaic", "RandomAffine", "MixUp"]),
            (Some(Value::List(Vec::new())), vec![]),
            (Some(text("MiX")), vec!["M", "i", "X"]),
            (Some(Value::List(vec![text("Mosaic")])), vec!["Mosaic"]),
        ] {
            let args: Vec<_> = said
                .map(|value| ("skip_type_keys", value))
                .into_iter()
                .collect();
            let standing = decided(TYPE, &args, &facts).standing;
            let skip_types = skip.into_iter().map(str::to_owned).collect();
            let mode = Standing::Mode {
                from_epoch: 0,
                skip_types,
            };
            assert_eq!(standing, Some(mode));
        }
        for (value, says) in [
            (Value::Null, "skip_type_keys is None"),
            (
                Value::List(vec![text("Mosaic"), Value::Integer(1)]),
                "skip_type_keys is [\"Mosaic\", 1]; it must be a list of strings",
            ),
        ] {
            let why = refused(TYPE, &[("skip_type_keys", value)], &facts);
            assert!(why.contains(says), "{why}");
        }
    }

    #[test]
    fn without_max_epochs_it_says_what_to_give() {
        let why = refused(TYPE, &[], &Facts::default());
        assert!(why.contains("attach(max_epochs=...)"), "{why}");
    }
}
