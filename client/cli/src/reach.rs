//! From "which daemon?" to an open connection, with one line where there is none.

use std::time::Duration;

use hookbus_client::access::{Access, AccessError, AccessFiles};
use hookbus_client::address::{ADDRESS_VARIABLE, Address, AddressError, default_socket};
use hookbus_client::inspect::{InspectError, Inspector};

use crate::failure::Failure;

/// A daemon on this machine answers at once, one behind a tunnel within a second; a person waits no longer than this.
pub(crate) const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// Which daemon, and what is shown to it.
#[derive(Debug)]
pub(crate) struct Target {
    /// What the command line says; None: the environment or the default socket.
    pub(crate) address: Option<String>,
    /// Token and TLS.
    pub(crate) files: AccessFiles,
}

impl Target {
    /// Where the daemon is; None: nowhere.
    pub(crate) fn resolve(&self) -> Result<Option<Address>, AddressError> {
        Address::resolve(self.address.as_deref())
    }

    /// The outer error: what should be shown cannot be. The inner one: nobody answers.
    pub(crate) async fn connect(
        &self,
        address: &Address,
    ) -> Result<Result<Inspector, InspectError>, AccessError> {
        let access = Access::load(address, &self.files)?;
        Ok(Inspector::connect_with(address, &access, CONNECT_DEADLINE).await)
    }
}

/// Connects to the daemon that the command line, the environment or the default socket names.
pub(crate) async fn reach(target: &Target) -> Result<Inspector, Failure> {
    let address = target
        .resolve()?
        .ok_or_else(|| Failure::failed(nowhere()))?;
    Ok(target.connect(&address).await??)
}

/// Where was looked, and what to do.
pub(crate) fn nowhere() -> String {
    let default = match default_socket() {
        Some(path) => format!("there is no socket at {}", path.display()),
        None => "XDG_RUNTIME_DIR is not set, so there is no default socket".to_owned(),
    };
    format!(
        "no daemon found: {ADDRESS_VARIABLE} is not set and {default}; start one with `hookbusd`, \
         or name one: hookbus --address unix:///path/to/hookbusd.sock ..."
    )
}
