//! The certificate that the daemon shows over TCP, read and checked at the start.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::secret::read_secret;
use crate::domain::Role;

/// What listen.tls_… says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The daemon's chain, PEM.
    pub cert: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// Whose clients' certificates count; None: nobody's.
    pub client_ca: Option<PathBuf>,
    /// What such a certificate gives.
    pub client_role: Role,
}

/// The files, and what was made of them.
#[derive(Clone)]
pub struct Tls {
    /// Where it came from.
    pub files: TlsFiles,
    /// What handshakes are made with.
    pub server: Arc<ServerConfig>,
}

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        self.files == other.files
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.files.fmt(out)
    }
}

/// Reads everything. Errors: each a key and why.
pub(super) fn load(files: TlsFiles) -> Result<Tls, Vec<(&'static str, String)>> {
    let mut mistakes = Vec::new();
    let chain = certificates(&files.cert)
        .map_err(|why| mistakes.push(("listen.tls_cert", why)))
        .ok();
    let key = key(&files.key)
        .map_err(|why| mistakes.push(("listen.tls_key", why)))
        .ok();
    let roots = files.client_ca.as_deref().map(certificates).transpose();
    let roots = roots
        .map_err(|why| mistakes.push(("listen.tls_client_ca", why)))
        .ok();
    let (Some(chain), Some(key), Some(roots)) = (chain, key, roots) else {
        return Err(mistakes);
    };
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("ring speaks TLS 1.2 and 1.3");
    let builder = match roots {
        None => builder.with_no_client_auth(),
        Some(authorities) => {
            let mut store = RootCertStore::empty();
            let verifier = authorities
                .into_iter()
                .try_for_each(|authority| store.add(authority).map_err(|error| error.to_string()))
                .and_then(|()| {
                    // A client without a certificate is let in: its token decides.
                    WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider)
                        .allow_unauthenticated()
                        .build()
                        .map_err(|error| error.to_string())
                });
            let verifier = verifier
                .map_err(|error| vec![("listen.tls_client_ca", unfit(&files.client_ca, &error))])?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut server = builder.with_single_cert(chain, key).map_err(|error| {
        let why = format!(
            "{} does not fit to listen.tls_cert: {error}",
            files.key.display()
        );
        vec![("listen.tls_key", why)]
    })?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Tls {
        files,
        server: Arc::new(server),
    })
}

fn unfit(path: &Option<PathBuf>, error: &str) -> String {
    let shown = path.as_deref().unwrap_or(Path::new("")).display();
    format!("{shown} has a certificate that is no authority: {error}")
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let shown = path.display();
    let bytes = std::fs::read(path).map_err(|error| format!("{shown} cannot be read: {error}"))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|error| format!("{shown} is no PEM: {error}"))?;
    if found.is_empty() {
        return Err(format!(
            "{shown} has no certificate in it (-----BEGIN CERTIFICATE-----)"
        ));
    }
    Ok(found)
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let bytes = read_secret(path)?;
    PrivateKeyDer::from_pem_slice(&bytes)
        .map_err(|_| format!("{} has no private key in it (PEM)", path.display()))
}
