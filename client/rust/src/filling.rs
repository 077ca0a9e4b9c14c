//! A batch while it is being filled, and how it becomes a frame. Its memory goes round between the training thread, which
//! fills it, and the client's own, which frames it: the training thread asks the allocator for none.

use bytes::Bytes;
use hookbus_proto::v1 as wire;
use prost::Message;

use crate::PointId;
use crate::encode::{put_varint, varint_len};
use crate::retained::Batch;

/// A batch is closed at the latest here, far below the daemon's limit of a frame.
pub(crate) const BATCH_BYTES: usize = 256 << 10;
/// Room for the event that passes the limit. Pages that are not touched cost nothing.
const ROOM_BYTES: usize = BATCH_BYTES + (16 << 10);

/// Events of one batch.
#[derive(Debug)]
pub(crate) struct Filling {
    pub(crate) first_seq: u64,
    pub(crate) events: u64,
    pub(crate) bytes: Vec<u8>,
    points: Vec<(u32, u64)>,
    pub(crate) gates: Vec<wire::GateRequest>,
}

impl Default for Filling {
    fn default() -> Self {
        Self {
            first_seq: 0,
            events: 0,
            bytes: Vec::with_capacity(ROOM_BYTES),
            points: Vec::with_capacity(32),
            gates: Vec::with_capacity(4),
        }
    }
}

/// Names that no batch has said yet.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub(crate) points: Vec<wire::Name>,
    pub(crate) metrics: Vec<wire::Name>,
}

impl Filling {
    /// One more event of this point is in `bytes`.
    pub(crate) fn count(&mut self, point: PointId) {
        let id = u32::from(point.0);
        match self.points.iter_mut().find(|(known, _)| *known == id) {
            Some((_, count)) => *count += 1,
            None => self.points.push((id, 1)),
        }
        self.events += 1;
    }

    /// Ready to be filled again, with its memory.
    pub(crate) fn clear(&mut self) {
        self.events = 0;
        self.bytes.clear();
        self.points.clear();
        self.gates.clear();
    }

    /// What is known of it, for a hole.
    pub(crate) fn without_frame(&self) -> Batch {
        self.with(Bytes::new())
    }

    fn with(&self, frame: Bytes) -> Batch {
        Batch {
            first_seq: self.first_seq,
            last_seq: self.first_seq + self.events - 1,
            points: self.points.clone(),
            frame,
        }
    }

    /// The whole ClientFrame. The first batch after new names says them.
    pub(crate) fn frame(&mut self, names: &mut Names) -> Batch {
        let header = wire::EventBatch {
            first_seq: self.first_seq,
            base_ns: 0,
            new_points: std::mem::take(&mut names.points),
            new_metrics: std::mem::take(&mut names.metrics),
            events: Vec::new(),
            gates: self.gates.drain(..).collect(),
        };
        let len = header.encoded_len() + self.bytes.len();
        let mut frame = Vec::with_capacity(1 + varint_len(len as u64) + len);
        frame.push(3 << 3 | 2); // ClientFrame.batch
        put_varint(&mut frame, len as u64);
        header.encode(&mut frame).expect("a Vec grows as it must");
        frame.extend_from_slice(&self.bytes);
        self.with(Bytes::from(frame))
    }
}
