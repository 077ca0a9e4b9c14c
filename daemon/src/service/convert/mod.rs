//! Between the wire and plain words. Everything that comes in is checked here, once; inside nothing is checked again.

mod changes;
mod follow;
mod gpu;
mod history;
mod incoming;
mod memory;
mod orders;
mod outgoing;
mod providers;
mod reading;
mod state;
mod tables;
mod views;

pub(super) use changes::since;
pub(super) use follow::happening;
pub(super) use history::{history, history_request};
pub(super) use incoming::{Table, client_frame, hello};
pub(super) use orders::{Ordered, named, order, order_update};
pub(super) use outgoing::server_frames;
pub(super) use providers::*;
pub use state::encode_schedule;
pub(super) use tables::rows;
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
