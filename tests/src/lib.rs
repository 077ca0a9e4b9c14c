//! Daemon and clients together. This crate holds what its tests share: a sandbox with the real daemon in a private
//! directory, and a raw trainer that speaks the protocol frame by frame, so that tests can also break it; and a provider of hooks that does.

mod interpreter;
mod provider;
mod raw;
mod sandbox;

pub use interpreter::{Interpreter, Started};
pub use provider::ScriptedProvider;
pub use raw::{Raw, points};
pub use sandbox::{NVML, Sandbox, binary, wait_for};
