//! What a trainer tells: points reached, with their fields.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Rank;

/// A place in a training, 0-based as in MMEngine.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct Position {
    /// Grows after after_train_epoch.
    pub epoch: u64,
    /// Grows over the whole training, after after_train_iter.
    pub iter: u64,
    /// Restarts with each epoch, validation and test.
    pub inner_iter: u64,
}

/// The names that a session's ids stand for; append-only within an attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// By point id.
    pub points: Vec<Arc<str>>,
    /// By metric id.
    pub metrics: Vec<Arc<str>>,
}

/// One field that was wanted and is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownField {
    /// Id in the name table.
    pub metric: u32,
    /// Why.
    pub reason: String,
}

/// A point reached at a position. Ids are valid in the batch's name table (checked at the edge).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Event {
    /// The client's number, from 1, without gaps but for counted holes.
    pub seq: u64,
    /// Id in the name table.
    pub point: u32,
    /// Where.
    pub position: Position,
    /// When, on the client's monotonic clock.
    pub at: Duration,
    /// Metric ids, one per value.
    pub metrics: Vec<u32>,
    /// Values; NaN and infinities are values.
    pub values: Vec<f64>,
    /// Wanted and not there.
    pub unknown: Vec<UnknownField>,
    /// The trainer's own resident set size, where asked for.
    pub rss_bytes: Option<u64>,
}

impl Event {
    /// The value of a metric by name; None if the event does not carry it.
    pub fn metric(&self, names: &Names, name: &str) -> Option<f64> {
        let at = self
            .metrics
            .iter()
            .position(|id| &*names.metrics[*id as usize] == name)?;
        self.values.get(at).copied()
    }
}

/// A trainer waits for the answer to the event with this number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateRequest {
    /// The event's number; also the gate's id.
    pub seq: u64,
    /// The hooks whose condition held.
    pub subscribers: Vec<String>,
    /// How long the trainer waits.
    pub deadline: Duration,
    /// Of a job whose ranks act together: where the condition held. Empty: on the rank that asks.
    pub held_on: Vec<Rank>,
}

/// Events with consecutive numbers, and the names that they use.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The session's names up to and with this batch.
    pub names: Arc<Names>,
    /// In order of their numbers.
    pub events: Vec<Event>,
    /// Gates of events in this batch.
    pub gates: Vec<GateRequest>,
}
