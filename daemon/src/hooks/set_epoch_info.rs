//! SetEpochInfoHook: tells the model the epoch. What it sees, when it fires and what it does is on its page, below.

use super::{Ahead, Difference, Hook, Kind, Page, Recorded};
use crate::domain::{Facts, Standing};

pub(super) const KIND: Kind = Kind {
    type_name: "SetEpochInfoHook",
    summary: "tells the model the epoch",
    points: &["before_train_epoch"],
    effect: "model.set_epoch(epoch)",
    args: &[],
    example: &[],
    config_only: false,
    page: Page {
        original: "MMDetection 3.3.0",
        sees: "Nothing. It is decided before the training starts, so that a daemon that dies later changes nothing.",
        fires: "Before each training epoch. In an iteration-based loop once, with 0.",
        does: "The trainer calls `model.set_epoch(epoch)`: the epoch counts from 0, and after a resume from the resumed one on. \
             One wrapper (`DataParallel`, `DistributedDataParallel` and those of MMEngine) is taken off first.",
        differences: &[Difference {
            what: "a model without `set_epoch`, one wrapper taken off",
            ours: "the result is \"failed\", with the reason, and the training goes on",
            why: "the original's `AttributeError` ends the training",
            recorded: Some(Recorded {
                file: "set_epoch_info",
                kinds: &["no_set_epoch", "epochs"],
                fields: "raised",
            }),
        }],
        more: None,
    },
    build: |_| Ok(Box::new(SetEpochInfoHook)),
};

/// See the module.
#[derive(Debug)]
pub struct SetEpochInfoHook;

impl Hook for SetEpochInfoHook {
    fn ahead(&mut self, _: &Facts, _: &str) -> Result<Ahead, String> {
        Ok(Ahead {
            standing: Some(Standing::SetEpoch),
            warnings: Vec::new(),
        })
    }
}
