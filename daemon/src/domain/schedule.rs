//! What is decided ahead: functions of the position for a whole attempt, complete before training starts.

use serde::{Deserialize, Serialize};

use bytes::Bytes;

use super::Position;

/// A learning rate for each iteration.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// The iteration that the first value is for.
    pub first_iter: u64,
    /// One an iteration.
    pub values: Vec<f64>,
}

/// Height and width of the input, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Pixels.
    pub height: u32,
    /// Pixels.
    pub width: u32,
}

/// From where a size holds, until the next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeFrom {
    /// Before this epoch.
    Epoch(u64),
    /// Before this iteration over the whole training.
    Iter(u64),
}

/// One change of the input size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeStep {
    /// From where.
    pub from: SizeFrom,
    /// What.
    pub size: Size,
}

impl SizeFrom {
    /// Whether the step holds at `at`.
    pub fn holds(self, at: Position) -> bool {
        match self {
            Self::Epoch(epoch) => at.epoch >= epoch,
            Self::Iter(iter) => at.iter >= iter,
        }
    }
}

/// A whole schedule: curves of learning rates, or changes of the size.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schedule {
    /// One for each distinct base learning rate.
    pub curves: Vec<Curve>,
    /// For each parameter group the index of its curve.
    pub group_curve: Vec<u32>,
    /// In the order of their positions.
    pub sizes: Vec<SizeStep>,
}

/// What a hook wants of an attempt from its facts.
#[derive(Clone, Debug, PartialEq)]
pub enum Standing {
    /// A learning rate for each iteration and group.
    Rates {
        /// One for each distinct base learning rate.
        curves: Vec<Curve>,
        /// For each parameter group the index of its curve.
        group_curve: Vec<u32>,
    },
    /// Input sizes.
    Sizes(Vec<SizeStep>),
    /// YOLOX's mode for the end of a training.
    Mode {
        /// Holds for every epoch from this one on.
        from_epoch: u64,
        /// Pipeline steps to leave out from then on.
        skip_types: Vec<String>,
    },
    /// `model.set_epoch(epoch)` before each epoch.
    SetEpoch,
    /// The mean of the norm layers' states over all ranks, before each validation.
    SyncNorm,
}

impl Standing {
    /// The field of the desired state that it fills.
    pub fn field(&self) -> &'static str {
        match self {
            Self::Rates { .. } => "lr",
            Self::Sizes(_) => "size",
            Self::Mode { .. } => "mode",
            Self::SetEpoch => "set_epoch",
            Self::SyncNorm => "sync_norm",
        }
    }
}

/// A schedule as it goes over the wire, made once for all ranks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedSchedule {
    /// Its id.
    pub id: String,
    /// sha256 of `bytes`.
    pub hash: [u8; 32],
    /// The serialised `hookbus.v1.Schedule`.
    pub bytes: Bytes,
}
