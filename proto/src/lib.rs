//! `hookbus.v1`: the wire between trainers, operators and hookbusd, and nothing else.
//!
//! The `.proto` files beside this crate are the protocol and its documentation. The code under `src/generated` is
//! committed, so that no build needs a protobuf compiler; `tests/generated.rs` fails when the two differ.

mod codec;

/// The messages and services of `hookbus.v1`.
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod v1 {
    include!("generated/hookbus.v1.rs");
}

/// The serialised `FileDescriptorSet` of `hookbus.v1`, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!("generated/hookbus.v1.bin");

/// The version that `Hello.protocol` carries.
pub const PROTOCOL: u32 = 1;
