//! The names of points and metrics that a session has said so far. It only grows: an id never changes its name.

use std::sync::Arc;

use tonic::Status;

use super::field::{invalid, name};
use crate::domain::Names;
use crate::service::convert::Limits;

/// Points of an attempt.
pub(super) const POINTS: usize = 256;

/// The names that a session has said so far.
pub(in crate::service) struct Table(pub(super) Arc<Names>);

/// Adds a name under its id, or under the next one. Errors: the id has another name, leaves a gap, or is one too many.
pub(super) fn add_name(
    what: &str,
    names: &mut Vec<Arc<str>>,
    id: Option<u32>,
    new: String,
    most: usize,
    limits: &Limits,
) -> Result<(), Status> {
    let new = name(what, new, limits)?;
    let id = id.map_or(names.len(), |id| id as usize);
    match names.get(id) {
        Some(old) if **old == *new => Ok(()),
        Some(old) => Err(invalid(format!(
            "{what} id {id} is {old:?} already; it cannot become {new:?}"
        ))),
        None if id > names.len() => Err(invalid(format!(
            "{what} id {id} leaves a gap: the next one is {}",
            names.len()
        ))),
        None if names.len() >= most => Err(Status::resource_exhausted(format!(
            "more than {most} {what} names in one attempt"
        ))),
        None => {
            names.push(new.into());
            Ok(())
        }
    }
}
