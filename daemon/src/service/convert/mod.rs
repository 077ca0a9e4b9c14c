//! Between the wire and plain words. Everything that comes in is checked here, once; inside nothing is checked again.

mod incoming;
mod outgoing;
mod views;

pub(super) use incoming::{Table, client_frame, effective, hello};
pub(super) use outgoing::{order_update, server_frame};
pub(super) use views::{about, hooks, run_summary, snapshot};

/// What one session may ask of this daemon.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open sessions.
    pub sessions: usize,
    /// Bytes of one frame.
    pub frame_bytes: usize,
    /// Bytes of one name or text.
    pub string_bytes: usize,
    /// Fields of one event.
    pub fields: usize,
    /// Events of one batch.
    pub batch_events: usize,
    /// Bytes sent and not acknowledged.
    pub in_flight_bytes: usize,
    /// Metric names of an attempt.
    pub metrics: usize,
}
