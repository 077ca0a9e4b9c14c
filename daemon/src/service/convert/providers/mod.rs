//! Between providers of hooks and the daemon: what they say, checked, and what they are told.

mod answers;
mod incoming;
mod offer;
mod outgoing;

pub(in crate::service) use incoming::{FromProvider, Introduction, introduction, provider_frame};
pub(in crate::service) use outgoing::{
    accepted, assignment, calls, closed, facts_frame, fence, opened,
};
