//! What trainers and operators say, checked. A mistake is a status that names it; no run is looked up here.
//!
//! | file | what it checks |
//! |---|---|
//! | `hello` | a session's first frame, and the hooks that it asks for |
//! | `names` | the table of names that a session grows |
//! | `batch` | events and their gates, by that table |
//! | `reports` | facts, holes and results |
//! | `description` | what model and datasets are |
//! | `field` | one text, name, position or duration within any of them |

mod batch;
mod description;
mod field;
mod hello;
mod names;
mod reports;

use hookbus_proto::v1::{self as wire, client_frame::Frame};
use tonic::Status;

use super::Limits;
use crate::bus::{Link, ToBus};
use crate::domain::Heartbeat;
use batch::batch;
use description::description;
use field::{invalid, position, seconds};
use reports::{facts, hole, own_memory, result};

pub(super) use field::{name, text};
pub(in crate::service) use hello::hello;
pub(super) use hello::hook_request;
pub(in crate::service) use names::Table;

/// Every frame after Hello.
pub(in crate::service) fn client_frame(
    link: Link,
    frame: wire::ClientFrame,
    table: &mut Table,
    limits: &Limits,
) -> Result<ToBus, Status> {
    Ok(
        match frame.frame.ok_or_else(|| {
            invalid("a frame is empty, or of a kind that this daemon does not know".to_owned())
        })? {
            Frame::Hello(_) => return Err(invalid("a second Hello in one session".to_owned())),
            Frame::Batch(frame) => {
                let first_seq = frame.first_seq;
                ToBus::Batch(link, first_seq, batch(frame, table, limits)?)
            }
            Frame::Facts(known) => {
                let (number, provisional) = (known.number, known.provisional);
                ToBus::Facts(link, number, provisional, Box::new(facts(known, limits)?))
            }
            Frame::Description(said) => {
                ToBus::Description(link, Box::new(description(said, limits)?))
            }
            Frame::Holes(frame) => ToBus::Holes(
                link,
                frame
                    .holes
                    .into_iter()
                    .map(hole)
                    .collect::<Result<_, _>>()?,
            ),
            Frame::Result(done) => ToBus::Result(link, result(done, limits)?),
            Frame::Heartbeat(beat) => ToBus::Heartbeat(
                link,
                Heartbeat {
                    points: beat.points,
                    position: position(beat.position),
                    open_point: text("Heartbeat.open_point", beat.open_point, limits)?,
                    since_point: seconds(beat.since_point_s),
                    dropped_events: beat.dropped_events,
                    gate_timeouts: beat.gate_timeouts,
                    breaker_open: beat.breaker_open,
                    gate_wait: seconds(beat.gate_wait_s),
                    together: beat.together,
                    memory: beat
                        .memory
                        .map(|memory| own_memory(memory, limits))
                        .transpose()?,
                },
            ),
            Frame::Bye(bye) => {
                ToBus::Bye(link, text("Bye.reason", bye.reason, limits)?, bye.failed)
            }
        },
    )
}

/// Small enough that a test can go beyond each.
#[cfg(test)]
pub(super) const LIMITS: Limits = Limits {
    sessions: 1,
    frame_bytes: 1 << 20,
    string_bytes: 64,
    fields: 4,
    batch_events: 8,
    in_flight_bytes: 1 << 20,
    metrics: 3,
};
