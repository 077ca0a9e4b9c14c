//! What an attach is asked for.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hookbus_proto::v1 as wire;

use crate::address::{Address, AddressError, default_socket};
use crate::identity::{Identity, ProcessFacts, identify, process_facts};

static ATTACHES: AtomicU64 = AtomicU64::new(0);

/// Everything that an attach needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the daemon is; None: nowhere yet, and nothing is tried.
    pub address: Option<Address>,
    /// Wait for the Welcome: an address was given, or the default socket exists.
    pub wait: bool,
    /// How long to wait for it.
    pub timeout: Duration,
    /// Who this is.
    pub identity: Identity,
    /// Hooks that the trainer asks for.
    pub hooks: Vec<wire::HookRequest>,
    /// What it can apply: "stop", "log", "lr", "size", "mode", "set_epoch", "checkpoint", "custom:NAME".
    pub capabilities: Vec<String>,
    /// What it takes from a daemon, in the words of `capabilities`; None: everything.
    pub allow: Option<BTreeSet<String>>,
    /// Client and version, for people.
    pub client: String,
    /// Events that are not settled are kept up to this.
    pub buffer_bytes: usize,
    /// This process.
    pub process: ProcessFacts,
}

impl Options {
    /// For a run of this name: the address from `address`, `HOOKBUS_ADDRESS` or the default socket, the identity from the
    /// launcher's environment. Errors: the address is none.
    pub fn new(run: &str, address: Option<&str>) -> Result<Self, AddressError> {
        let found = Address::resolve(address)?;
        let later = || default_socket().and_then(|path| Address::unix(&path).ok());
        let wait = found.is_some();
        Ok(Self::with(run, found.or_else(later), wait))
    }

    /// For a run that has no daemon to look for, say because its address is none.
    pub fn alone(run: &str) -> Self {
        Self::with(run, None, false)
    }

    fn with(run: &str, address: Option<Address>, wait: bool) -> Self {
        let env: HashMap<_, _> = std::env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let process = process_facts();
        let nth = ATTACHES.fetch_add(1, Ordering::Relaxed);
        Self {
            address,
            wait,
            timeout: Duration::from_secs(5),
            identity: identify(run, &env, &process, nth),
            hooks: Vec::new(),
            capabilities: vec!["stop".to_owned(), "log".to_owned()],
            allow: None,
            client: format!("hookbus-client {}", env!("CARGO_PKG_VERSION")),
            buffer_bytes: 8 << 20,
            process,
        }
    }
}
