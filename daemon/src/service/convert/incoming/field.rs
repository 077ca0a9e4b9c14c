//! One field of any frame, checked. It does not know which frame it stands in; the caller names it for the status.

use std::time::Duration;

use hookbus_proto::v1 as wire;
use tonic::Status;

use crate::domain::Position;
use crate::service::convert::Limits;

pub(super) fn invalid(text: String) -> Status {
    Status::invalid_argument(text)
}

pub(in crate::service::convert) fn text(
    what: &str,
    text: String,
    limits: &Limits,
) -> Result<String, Status> {
    if text.len() > limits.string_bytes {
        return Err(invalid(format!(
            "{what} has {} bytes, limits.string_bytes is {}",
            text.len(),
            limits.string_bytes
        )));
    }
    Ok(text)
}

pub(in crate::service::convert) fn name(
    what: &str,
    name: String,
    limits: &Limits,
) -> Result<String, Status> {
    if name.is_empty() {
        return Err(invalid(format!("{what} is empty")));
    }
    text(what, name, limits)
}

pub(super) fn position(position: Option<wire::Position>) -> Position {
    position
        .map(|at| Position {
            epoch: at.epoch,
            iter: at.iter,
            inner_iter: at.inner_iter,
        })
        .unwrap_or_default()
}

/// Seconds as a duration; what is not one counts as 0.
pub(super) fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}
