//! Where a daemon listens, written as people write it.
//!
//! One place reads an address for everyone: the trainer's client, the operator's binary and the Python package. Every
//! mistake is one line that says what was wrong and what works. It opens no connection and changes no environment.

use std::fmt;
use std::path::{Path, PathBuf};

use http::uri::Authority;

/// The environment variable that names a daemon.
pub const ADDRESS_VARIABLE: &str = "HOOKBUS_ADDRESS";

/// `sun_path` holds 108 bytes, the closing NUL among them.
pub const MAX_SOCKET_PATH_BYTES: usize = 107;

/// Where a daemon listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// A Unix socket, by its absolute path.
    Unix(PathBuf),
    /// A TCP listener without TLS, as `host:port`.
    Tcp(String),
    /// A TCP listener with TLS, as `host:port`.
    Tls(String),
}

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nothing was written.
    #[error("the address is empty: write unix:///path/to/hookbusd.sock or host:port")]
    Empty,
    /// The path does not fit into a socket address.
    #[error(
        "the socket path is too long: {bytes} bytes, at most {MAX_SOCKET_PATH_BYTES} fit: {path}; choose a shorter directory, such as /tmp/hookbus"
    )]
    PathTooLong {
        /// The path as it was given.
        path: String,
        /// Its length.
        bytes: usize,
    },
    /// The path depends on a working directory, and two processes may have two.
    #[error("the socket path must be absolute: {0}; write unix:///path/to/hookbusd.sock")]
    Relative(String),
    /// Another scheme, no port, or something that is no host.
    #[error("not an address: {text}: {why}; write unix:///path/to/hookbusd.sock or host:port")]
    Invalid {
        /// The text as it was given.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The environment's address is wrong; the inner error says how.
    #[error("in the environment variable {ADDRESS_VARIABLE}: {0}")]
    Environment(Box<AddressError>),
}

impl Address {
    /// Reads `unix:///path`, `unix:/path`, `/path`, `https://host:port`, `http://host:port` or `host:port`.
    pub fn parse(text: &str) -> Result<Address, AddressError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(AddressError::Empty);
        }
        if let Some(path) = text
            .strip_prefix("unix://")
            .or_else(|| text.strip_prefix("unix:"))
        {
            return Address::unix(Path::new(path));
        }
        if text.starts_with(['/', '.']) {
            return Address::unix(Path::new(text));
        }
        let (rest, kind): (_, fn(String) -> Address) = match text.strip_prefix("https://") {
            Some(rest) => (rest, Address::Tls),
            None => (text.strip_prefix("http://").unwrap_or(text), Address::Tcp),
        };
        if rest.contains("://") {
            return Err(invalid(text, "this scheme is not known"));
        }
        authority(text, rest.strip_suffix('/').unwrap_or(rest)).map(kind)
    }

    /// A socket at an absolute path that fits into a socket address.
    pub fn unix(path: &Path) -> Result<Address, AddressError> {
        let bytes = path.as_os_str().len();
        if !path.is_absolute() {
            return Err(AddressError::Relative(path.display().to_string()));
        }
        if bytes > MAX_SOCKET_PATH_BYTES {
            return Err(AddressError::PathTooLong {
                path: path.display().to_string(),
                bytes,
            });
        }
        Ok(Address::Unix(path.to_owned()))
    }

    /// Whether what is sent there stays on this machine.
    pub fn is_loopback(&self) -> bool {
        let (Address::Tcp(authority) | Address::Tls(authority)) = self else {
            return true;
        };
        let host = authority.rsplit_once(':').map_or("", |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost")
            || host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    }

    /// The address to use: the explicit one, else `HOOKBUS_ADDRESS`, else the default socket if it exists, else none.
    pub fn resolve(explicit: Option<&str>) -> Result<Option<Address>, AddressError> {
        let environment = std::env::var(ADDRESS_VARIABLE).ok();
        choose(explicit, environment.as_deref(), default_socket())
    }
}

/// Where a daemon of this user listens by default, whether one does or not. None: not root and no `XDG_RUNTIME_DIR`.
pub fn default_socket() -> Option<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Some(PathBuf::from("/run/hookbus/hookbusd.sock"));
    }
    std::env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join("hookbus/hookbusd.sock"))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix://{}", path.display()),
            Address::Tcp(authority) => write!(f, "http://{authority}"),
            Address::Tls(authority) => write!(f, "https://{authority}"),
        }
    }
}

impl std::str::FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        Address::parse(text)
    }
}

fn choose(
    explicit: Option<&str>,
    environment: Option<&str>,
    default: Option<PathBuf>,
) -> Result<Option<Address>, AddressError> {
    if let Some(text) = explicit {
        return Address::parse(text).map(Some);
    }
    // An empty variable is how a shell says "not set" in passing.
    if let Some(text) = environment.filter(|text| !text.trim().is_empty()) {
        return Address::parse(text)
            .map(Some)
            .map_err(|error| AddressError::Environment(Box::new(error)));
    }
    match default {
        Some(path) if path.exists() => Address::unix(&path).map(Some),
        _ => Ok(None),
    }
}

fn authority(text: &str, authority: &str) -> Result<String, AddressError> {
    let parsed: Authority = authority
        .parse()
        .map_err(|_| invalid(text, "this is no host:port"))?;
    if authority.contains('@') {
        return Err(invalid(text, "a user name has no place here"));
    }
    if parsed.host().is_empty() {
        return Err(invalid(text, "the host is missing"));
    }
    match parsed.port_u16() {
        None => Err(invalid(text, "the port is missing or is no port")),
        Some(0) => Err(invalid(text, "port 0 is where nobody can connect to")),
        Some(_) => Ok(authority.to_owned()),
    }
}

fn invalid(text: &str, why: &'static str) -> AddressError {
    AddressError::Invalid {
        text: text.to_owned(),
        why,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_its_display_is_read_back() {
        let table = [
            ("unix:///run/a.sock", Address::Unix("/run/a.sock".into())),
            ("unix:/run/a.sock", Address::Unix("/run/a.sock".into())),
            ("/run/a.sock", Address::Unix("/run/a.sock".into())),
            ("  /run/a.sock\n", Address::Unix("/run/a.sock".into())),
            (
                "http://localhost:50051",
                Address::Tcp("localhost:50051".into()),
            ),
            (
                "http://localhost:50051/",
                Address::Tcp("localhost:50051".into()),
            ),
            ("https://gpu7:443/", Address::Tls("gpu7:443".into())),
            ("10.0.0.7:1", Address::Tcp("10.0.0.7:1".into())),
            ("[::1]:50051", Address::Tcp("[::1]:50051".into())),
        ];
        for (text, wanted) in table {
            let address = Address::parse(text).unwrap();
            assert_eq!(address, wanted, "{text}");
            assert_eq!(
                Address::parse(&address.to_string()).unwrap(),
                wanted,
                "{address}"
            );
        }
    }

    #[test]
    fn every_mistake_is_one_line_that_says_what_works() {
        let table = [
            ("", "is empty"),
            ("unix://run/a.sock", "must be absolute"),
            ("unix:a.sock", "must be absolute"),
            ("./a.sock", "must be absolute"),
            ("a.sock", "the port is missing"),
            ("localhost", "the port is missing"),
            ("localhost:http", "not an address"),
            ("localhost:70000", "not an address"),
            ("localhost:0", "port 0"),
            (":50051", "not an address"),
            ("user@host:1", "a user name has no place here"),
            ("http://host:1/path", "this is no host:port"),
            ("ftp://host:1", "this scheme is not known"),
            ("https://host", "the port is missing"),
            ("https://http://host:1", "this scheme is not known"),
        ];
        for (text, words) in table {
            let error = Address::parse(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text:?}: {error}");
            assert!(!error.contains('\n'), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_path_of_107_bytes_fits_and_one_of_108_does_not() {
        let fits = format!("/{}", "a".repeat(106));
        assert_eq!(
            Address::parse(&fits).unwrap(),
            Address::Unix(fits.clone().into())
        );
        let long = format!("{fits}a");
        let error = Address::parse(&format!("unix://{long}")).unwrap_err();
        assert_eq!(
            error,
            AddressError::PathTooLong {
                path: long,
                bytes: 108
            }
        );
        assert!(error.to_string().contains("108 bytes, at most 107 fit"));
    }

    #[test]
    fn loopback_is_told_from_the_network() {
        for (text, loopback) in [
            ("/run/a.sock", true),
            ("localhost:1", true),
            ("127.0.0.9:1", true),
            ("https://[::1]:1", true),
            ("10.0.0.7:1", false),
            ("localhost.example:1", false),
            ("0.0.0.0:1", false),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!(address.is_loopback(), loopback, "{text}");
        }
    }

    #[test]
    fn explicit_wins_over_environment_wins_over_an_existing_default() {
        let here = tempfile::NamedTempFile::new().unwrap();
        let there = Some(here.path().to_owned());
        let unix = |path: &str| Some(Address::Unix(path.into()));
        assert_eq!(
            choose(Some("/a"), Some("/b"), there.clone()).unwrap(),
            unix("/a")
        );
        assert_eq!(choose(None, Some("/b"), there.clone()).unwrap(), unix("/b"));
        assert_eq!(
            choose(None, Some(" "), there.clone()).unwrap(),
            Some(Address::Unix(here.path().into()))
        );
        assert_eq!(
            choose(None, None, Some("/no/such/hookbusd.sock".into())).unwrap(),
            None
        );
        assert_eq!(choose(None, None, None).unwrap(), None);
        let error = choose(None, Some("https://x"), there)
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("in the environment variable HOOKBUS_ADDRESS: not an address"),
            "{error}"
        );
    }
}
