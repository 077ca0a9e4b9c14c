//! From "which daemon?" to an open connection, with one line where there is none.

use std::time::Duration;

use hookbus_client::address::{ADDRESS_VARIABLE, Address, default_socket};
use hookbus_client::inspect::Inspector;

use crate::failure::Failure;

/// A daemon on this machine answers at once, one behind a tunnel within a second; a person waits no longer than this.
pub(crate) const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// Connects to the daemon that the command line, the environment or the default socket names.
pub(crate) async fn reach(explicit: Option<&str>) -> Result<Inspector, Failure> {
    let address = Address::resolve(explicit)?.ok_or_else(|| Failure::failed(nowhere()))?;
    Ok(Inspector::connect(&address, CONNECT_DEADLINE).await?)
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
