//! SetEpochInfoHook: tells the model the epoch.
//!
//! Sees nothing: it is decided ahead. The trainer calls `model.set_epoch(epoch)` before each training epoch, 0-based, after a
//! resume from the resumed epoch on, as MMDetection 3.3.0 does. No arguments.

use super::{Ahead, Hook, Kind};
use crate::domain::{Facts, Standing};

pub(super) const KIND: Kind = Kind {
    type_name: "SetEpochInfoHook",
    summary: "tells the model the epoch",
    points: &["before_train_epoch"],
    effect: "model.set_epoch(epoch)",
    args: &[],
    example: &[],
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
