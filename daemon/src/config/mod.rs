//! The configuration: defaults, file, environment, flags, in that order; the only reader of any of them. It is walked key by
//! key, so that every mistake is reported at once.
//!
//! | file | what it is |
//! |---|---|
//! | `keys` | the one list of keys, which everything follows |
//! | `args` | the command line |
//! | `walk` | what was said last for each key, where, and every mistake |
//! | `layers` | defaults, file, environment and flags, said to the walk one after the other |
//! | `values` | one value: read, and fitted to its key's kind |
//! | `hook_tables` | `[[hooks]]` of the file |
//! | `modules` | hooks of modules of your own, and who runs them |
//! | `checked` | what was said, made into the [`Config`] |
//! | `listen`, `access` | keys that must fit each other: sockets; tokens and TLS |
//! | `journal` | where runs are written down |
//! | `secret`, `tls` | files that are read at the start |
//! | `printed`, `example` | the configuration as TOML: the one in force, and one to begin with |

mod access;
mod args;
mod checked;
mod example;
mod hook_tables;
mod journal;
mod keys;
mod layers;
mod listen;
mod modules;
mod printed;
mod secret;
mod tls;
mod values;
mod walk;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use args::Args;
pub use example::example;
pub use secret::{Token, Tokens};
pub use tls::{Tls, TlsFiles};

use crate::domain::HookRequest;
use crate::providers;
use crate::sampler;
use crate::store::journal::Settings;

/// Where the daemon listens.
#[derive(Clone, Debug, PartialEq)]
pub struct Listen {
    /// None: no Unix socket.
    pub socket: Option<PathBuf>,
    /// Rights of the socket.
    pub socket_mode: u32,
    /// Empty: the daemon's own uid and root.
    pub allowed_uids: Vec<u32>,
    /// None: no TCP.
    pub tcp: Option<SocketAddr>,
    /// None: TCP is plain.
    pub tls: Option<Tls>,
    /// Where directories for a while are made.
    pub temporary: PathBuf,
}

/// What the daemon itself wants to see.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    /// False: nothing.
    pub enabled: bool,
    /// Every n-th iteration.
    pub every: i64,
    /// Metrics; "*": every one.
    pub fields: Vec<String>,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// The log.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// error, warn, info, debug or trace.
    pub level: String,
    /// RUST_LOG, which wins.
    pub filter: Option<String>,
    /// Text or JSON.
    pub format: LogFormat,
    /// None: standard error.
    pub file: Option<PathBuf>,
    /// NO_COLOR is not set.
    pub colour: bool,
}

/// What a session may ask.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionLimits {
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
    /// Share of wall time that gates may cost.
    pub stall_budget: f64,
    /// How often an open breaker probes.
    pub probe: Duration,
}

/// What is written down.
#[derive(Clone, Debug, PartialEq)]
pub struct Keep {
    /// None: nothing is, by configuration or for want of a place.
    pub journal: Option<Settings>,
    /// The directory was said: that it cannot be written is a mistake.
    pub said: bool,
    /// How often memory goes to it.
    pub sample_every: Duration,
}

/// How the daemon ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Drain {
    /// At most this.
    pub deadline: Duration,
}

/// Everything, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `[listen]`
    pub listen: Listen,
    /// `[auth]`
    pub tokens: Tokens,
    /// `[record]`
    pub record: Recording,
    /// `[log]`
    pub log: Log,
    /// `[limits]`
    pub limits: SessionLimits,
    /// `[sampler]`
    pub sampler: sampler::Settings,
    /// `[journal]`
    pub keep: Keep,
    /// `[drain]`
    pub drain: Drain,
    /// `[[hooks]]` without a module.
    pub hooks: Vec<HookRequest>,
    /// `[providers]`, and `[[hooks]]` with a module.
    pub providers: providers::Settings,
    /// So many failures of a provider's hook in a row switch it off.
    pub failures: u32,
    /// Only what was written down is shown; nothing is taken, sampled or written.
    pub read_only: bool,
    /// systemd's NOTIFY_SOCKET.
    pub notify_socket: Option<String>,
    /// As TOML that is read back the same.
    pub printed: String,
}

/// Every mistake, one line each.
#[derive(Debug, PartialEq, Eq)]
pub struct Mistakes(pub Vec<String>);

impl fmt::Display for Mistakes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Mistakes {}

/// Reads everything.
pub fn load(args: &Args) -> Result<Config, Mistakes> {
    let env: std::collections::HashMap<_, _> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let config = walk::load(args, &env)?;
    Ok(Config {
        read_only: args.read_only,
        ..config
    })
}
