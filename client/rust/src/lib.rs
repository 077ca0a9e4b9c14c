//! The client of hookbusd: attach a trainer, and ask the daemon what it sees.

pub mod address;
pub mod connect;
pub mod inspect;
