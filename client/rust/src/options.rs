//! What an attach is asked for.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hookbus_proto::v1 as wire;

use crate::access::{Access, AccessError, AccessFiles};
use crate::address::{Address, AddressError, default_socket};
use crate::identity::{Identity, ProcessFacts, identify, process_facts};

static ATTACHES: AtomicU64 = AtomicU64::new(0);

/// Why an attach cannot even be tried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// The address is none.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// What is to be shown to the daemon cannot be read, or must not be sent there.
    #[error(transparent)]
    Access(#[from] AccessError),
}

/// Everything that an attach needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the daemon is; None: nowhere yet, and nothing is tried.
    pub address: Option<Address>,
    /// What is shown to it.
    pub access: Access,
    /// Why nothing can be tried, where something was asked for that cannot work.
    pub mistake: Option<String>,
    /// Wait for the Welcome: an address was given, or the default socket exists.
    pub wait: bool,
    /// How long to wait for it.
    pub timeout: Duration,
    /// Who this is.
    pub identity: Identity,
    /// Hooks that the trainer asks for.
    pub hooks: Vec<wire::HookRequest>,
    /// What it can apply: "stop", "log", "lr", "size", "mode", "set_epoch", "sync_norm", "checkpoint",
    /// "custom:NAME".
    pub capabilities: Vec<String>,
    /// Ranks of its job may have to act together: what concerns the job waits until [`Session::agree`] or
    /// [`Session::alone`] is called.
    ///
    /// [`Session::agree`]: crate::Session::agree
    /// [`Session::alone`]: crate::Session::alone
    pub gathers: bool,
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
    /// For a run of this name: the address from `address`, `HOOKBUS_ADDRESS` or the default socket, token and TLS from the
    /// environment, the identity from the launcher's. Errors: the address is none, or a file cannot be used.
    pub fn new(run: &str, address: Option<&str>) -> Result<Self, OptionsError> {
        Self::showing(run, address, &AccessFiles::resolve(None, None))
    }

    /// The same with these files.
    pub fn showing(
        run: &str,
        address: Option<&str>,
        files: &AccessFiles,
    ) -> Result<Self, OptionsError> {
        let found = Address::resolve(address)?;
        let later = || default_socket().and_then(|path| Address::unix(&path).ok());
        let wait = found.is_some();
        let mut options = Self::with(run, found.or_else(later), wait);
        if let Some(address) = &options.address {
            options.access = Access::load(address, files)?;
        }
        Ok(options)
    }

    /// For a run that has no daemon to look for, because what was asked for cannot work; its one warning says why.
    pub fn alone(run: &str, mistake: &OptionsError) -> Self {
        let mut options = Self::with(run, None, false);
        options.mistake = Some(mistake.to_string());
        options
    }

    /// Rank and number of ranks as a process group knows them, where no launcher has said it: processes that one parent has
    /// spawned, say.
    pub fn place(&mut self, rank: u32, world_size: u32) {
        let said = ["RANK", "WORLD_SIZE"].map(|name| std::env::var_os(name).is_some());
        if self.identity.world_size > 1 || said == [true; 2] {
            return;
        }
        let mut env = environment();
        env.insert("RANK".to_owned(), rank.to_string());
        env.insert("WORLD_SIZE".to_owned(), world_size.to_string());
        self.identity = identify(&self.identity.run, &env, &self.process, 0);
    }

    fn with(run: &str, address: Option<Address>, wait: bool) -> Self {
        let env = environment();
        let process = process_facts();
        let nth = ATTACHES.fetch_add(1, Ordering::Relaxed);
        Self {
            address,
            access: Access::default(),
            mistake: None,
            wait,
            timeout: Duration::from_secs(5),
            identity: identify(run, &env, &process, nth),
            hooks: Vec::new(),
            capabilities: vec!["stop".to_owned(), "log".to_owned()],
            gathers: false,
            allow: None,
            client: format!("hookbus-client {}", env!("CARGO_PKG_VERSION")),
            buffer_bytes: 8 << 20,
            process,
        }
    }
}

fn environment() -> HashMap<String, String> {
    std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}
