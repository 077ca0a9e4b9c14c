//! What is shown to a daemon over TCP: a token, a certificate; and whom TLS believes.
//!
//! A token is read from a file that only its owner can read, goes out as `authorization: Bearer TOKEN`, and is never
//! shown: not in a log, not in a `Debug`, not in an error. Over a Unix socket none of it is read: the kernel vouches
//! for who is there.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::ClientConfig;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

use crate::address::Address;
use crate::tls;

/// The environment variable that names the token's file.
pub const TOKEN_FILE_VARIABLE: &str = "HOOKBUS_TOKEN_FILE";
/// The environment variable that names the PEM file of the authorities that TLS believes.
pub const CA_FILE_VARIABLE: &str = "HOOKBUS_CA_FILE";
/// The environment variable that names the client's certificate, PEM.
pub const CLIENT_CERT_FILE_VARIABLE: &str = "HOOKBUS_CLIENT_CERT_FILE";
/// The environment variable that names its key, PEM.
pub const CLIENT_KEY_FILE_VARIABLE: &str = "HOOKBUS_CLIENT_KEY_FILE";

/// A file that is larger holds no token and no key: it is the wrong one.
const MOST_FILE_BYTES: u64 = 1 << 20;

/// Why nothing can be shown. No text has a token in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// A file cannot be used.
    #[error("the {what} {path}: {why}")]
    File {
        /// What it is for.
        what: &'static str,
        /// Where it is.
        path: String,
        /// What is wrong with it, and what to do.
        why: String,
    },
    /// One of certificate and key is missing.
    #[error(
        "a client's certificate needs both {CLIENT_CERT_FILE_VARIABLE} and {CLIENT_KEY_FILE_VARIABLE}"
    )]
    HalfACertificate,
    /// Everybody on the way could read the token.
    #[error(
        "no token is sent to {0}: everybody on the way could read it; write https://, or tunnel to a loopback address"
    )]
    InTheClear(Address),
    /// No certificate can be judged.
    #[error(
        "TLS believes nobody here: {0}; name the daemon's authority by {CA_FILE_VARIABLE} or --ca-file"
    )]
    NoTrust(String),
}

/// Which files to read. None: nothing is shown, and the machine's own trust is used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessFiles {
    /// The token's.
    pub token: Option<PathBuf>,
    /// The authorities' certificates.
    pub ca: Option<PathBuf>,
    /// The client's certificate.
    pub client_cert: Option<PathBuf>,
    /// Its key.
    pub client_key: Option<PathBuf>,
}

impl AccessFiles {
    /// The explicit files, else those that the environment names.
    pub fn resolve(token: Option<&Path>, ca: Option<&Path>) -> Self {
        let named = |variable| {
            std::env::var_os(variable)
                .filter(|path| !path.is_empty())
                .map(PathBuf::from)
        };
        let or = |explicit: Option<&Path>, variable| {
            explicit.map(Path::to_owned).or_else(|| named(variable))
        };
        Self {
            token: or(token, TOKEN_FILE_VARIABLE),
            ca: or(ca, CA_FILE_VARIABLE),
            client_cert: named(CLIENT_CERT_FILE_VARIABLE),
            client_key: named(CLIENT_KEY_FILE_VARIABLE),
        }
    }
}

/// A secret word, ready to be sent.
#[derive(Clone)]
struct Token(MetadataValue<Ascii>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// What is shown to one daemon, read and checked.
#[derive(Debug, Clone, Default)]
pub struct Access {
    bearer: Bearer,
    tls: Option<Arc<ClientConfig>>,
}

impl Access {
    /// Reads what `address` needs of `files`: nothing for a Unix socket, the token for TCP, everything for TLS.
    pub fn load(address: &Address, files: &AccessFiles) -> Result<Access, AccessError> {
        let tls = match address {
            Address::Unix(_) => return Ok(Access::default()),
            Address::Tcp(_) => {
                if files.token.is_some() && !address.is_loopback() {
                    return Err(AccessError::InTheClear(address.clone()));
                }
                None
            }
            Address::Tls(_) => Some(Arc::new(tls::config(files)?)),
        };
        let token = files.token.as_deref().map(read_token).transpose()?;
        Ok(Access {
            bearer: Bearer(token),
            tls,
        })
    }

    pub(crate) fn bearer(&self) -> Bearer {
        self.bearer.clone()
    }

    /// How TLS is spoken, where nothing was loaded: with the machine's own trust.
    pub(crate) fn tls(&self) -> Result<Arc<ClientConfig>, AccessError> {
        match &self.tls {
            Some(tls) => Ok(Arc::clone(tls)),
            None => tls::config(&AccessFiles::default()).map(Arc::new),
        }
    }
}

/// Puts the token, if there is one, on every call.
#[derive(Debug, Clone, Default)]
pub struct Bearer(Option<Token>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(Token(value)) = &self.0 {
            request
                .metadata_mut()
                .insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// The file's first token; the daemon's own file of several may be given.
fn read_token(path: &Path) -> Result<Token, AccessError> {
    let fail = |why: &str| file_error("token file", path, why);
    let text = read_secret("token file", path)?;
    let text = std::str::from_utf8(&text).map_err(|_| fail("it is no text"))?;
    let token = text
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with('#'))
        .ok_or_else(|| fail("it has no token in it"))?;
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(fail(
            "a token has letters, digits and signs of ASCII, and no blanks",
        ));
    }
    let mut value: MetadataValue<Ascii> = format!("Bearer {token}")
        .parse()
        .map_err(|_| fail("what is in it can't be sent as a header"))?;
    // Neither this process's traces nor HTTP/2's table of headers keep it.
    value.set_sensitive(true);
    Ok(Token(value))
}

/// The bytes of a file that only its owner can read.
pub(crate) fn read_secret(what: &'static str, path: &Path) -> Result<Vec<u8>, AccessError> {
    let system = |error: &io::Error| file_error(what, path, &format!("cannot be read: {error}"));
    let mut file = File::open(path).map_err(|error| system(&error))?;
    let meta = file.metadata().map_err(|error| system(&error))?;
    if !meta.is_file() || meta.len() > MOST_FILE_BYTES {
        return Err(file_error(what, path, "is no file of at most 1 MiB"));
    }
    let mode = meta.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        let why = format!(
            "has mode {mode:04o}, so other users could read it: chmod 600 {}",
            path.display()
        );
        return Err(file_error(what, path, &why));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)
        .map_err(|error| system(&error))?;
    Ok(bytes)
}

pub(crate) fn file_error(what: &'static str, path: &Path, why: &str) -> AccessError {
    AccessError::File {
        what,
        path: path.display().to_string(),
        why: why.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "very-secret-very-secret";

    fn load(text: &str, mode: u32, address: &str) -> Result<Access, AccessError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let files = AccessFiles {
            token: Some(path),
            ..AccessFiles::default()
        };
        Access::load(&Address::parse(address).unwrap(), &files)
    }

    #[test]
    fn the_first_token_of_the_file_goes_out_and_is_never_shown() {
        let access = load(
            &format!("# mine\n\n {SECRET} \nanother-another-one\n"),
            0o600,
            "127.0.0.1:1",
        )
        .unwrap();
        let request = access.bearer().call(Request::new(())).unwrap();
        let sent = request.metadata().get("authorization").unwrap();
        assert_eq!(sent.to_str().unwrap(), format!("Bearer {SECRET}"));
        assert!(sent.is_sensitive());
        for shown in [format!("{access:?}"), format!("{request:?}")] {
            assert!(!shown.contains("secret"), "{shown}");
        }
    }

    #[test]
    fn every_mistake_is_one_line_with_file_and_mend_and_without_the_token() {
        let table = [
            (
                SECRET,
                0o644,
                "localhost:1",
                "has mode 0644, so other users could read it: chmod 600 /",
            ),
            (SECRET, 0o640, "[::1]:1", "has mode 0640"),
            ("# none\n", 0o600, "127.0.0.1:1", "has no token in it"),
            ("very-secret very-secret", 0o600, "127.0.0.1:1", "no blanks"),
            (
                SECRET,
                0o600,
                "10.0.0.7:1",
                "no token is sent to http://10.0.0.7:1",
            ),
            (SECRET, 0o600, "gpu7:1", "write https://"),
        ];
        for (text, mode, address, words) in table {
            let error = load(text, mode, address).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
            assert!(
                !error.contains('\n') && !error.contains("secret"),
                "{error}"
            );
        }
        let missing = AccessFiles {
            token: Some("/no/such/token".into()),
            ..AccessFiles::default()
        };
        let error = Access::load(&Address::parse("127.0.0.1:1").unwrap(), &missing).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("the token file /no/such/token: cannot be read")
        );
    }

    #[test]
    fn over_a_unix_socket_nothing_is_read() {
        let access = load(SECRET, 0o644, "/run/a.sock").unwrap();
        let request = access.bearer().call(Request::new(())).unwrap();
        assert!(request.metadata().get("authorization").is_none());
    }
}
