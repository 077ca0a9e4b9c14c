//! TLS to a daemon: whom it believes, what it shows, and what its failures mean.
//!
//! Without a file of authorities the machine's own are believed (the system's store, where an organisation's authority
//! is), not a list that was built in and grows old.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{
    AlertDescription, CertificateError, ClientConfig, Error, InvalidMessage, RootCertStore,
};

use crate::access::{AccessError, AccessFiles, CA_FILE_VARIABLE, file_error, read_secret};

/// Reads the files.
pub(crate) fn config(files: &AccessFiles) -> Result<ClientConfig, AccessError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring speaks TLS 1.2 and 1.3")
        .with_root_certificates(roots(files.ca.as_deref())?);
    let mut config = match (&files.client_cert, &files.client_key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(cert), Some(path)) => {
            let key = PrivateKeyDer::from_pem_slice(&read_secret("client's key", path)?)
                .map_err(|_| file_error("client's key", path, "has no private key in it (PEM)"))?;
            let chain = certificates("client's certificate", cert)?;
            builder.with_client_auth_cert(chain, key).map_err(|error| {
                let why = format!("does not fit to its key: {error}");
                file_error("client's certificate", cert, &why)
            })?
        }
        _ => return Err(AccessError::HalfACertificate),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, AccessError> {
    let mut store = RootCertStore::empty();
    if let Some(path) = ca {
        for authority in certificates("file of authorities", path)? {
            store.add(authority).map_err(|error| {
                let why = format!("has a certificate that is no authority: {error}");
                file_error("file of authorities", path, &why)
            })?;
        }
        return Ok(store);
    }
    let found = rustls_native_certs::load_native_certs();
    // A store has old certificates that nobody can read; one that can is enough to go on.
    store.add_parsable_certificates(found.certs);
    if store.is_empty() {
        let why = found.errors.first().map_or_else(
            || "this machine has no store of authorities".to_owned(),
            ToString::to_string,
        );
        return Err(AccessError::NoTrust(why));
    }
    Ok(store)
}

fn certificates(
    what: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, AccessError> {
    let bytes = std::fs::read(path)
        .map_err(|error| file_error(what, path, &format!("cannot be read: {error}")))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|error| file_error(what, path, &format!("is no PEM: {error}")))?;
    if found.is_empty() {
        let why = "has no certificate in it (-----BEGIN CERTIFICATE-----)";
        return Err(file_error(what, path, why));
    }
    Ok(found)
}

/// The handshake, for the host in `authority` (`host:port`).
pub(crate) async fn handshake(
    stream: TcpStream,
    authority: &str,
    config: Arc<ClientConfig>,
) -> io::Result<TlsStream<TcpStream>> {
    let host = authority
        .rsplit_once(':')
        .map_or(authority, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| io::Error::other(format!("{host} is no name that a certificate can have")))?;
    TlsConnector::from(config).connect(name, stream).await
}

/// What a failure of TLS means to a person; None: it is none.
pub(crate) fn advice(error: &io::Error) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    Some(match error {
        // The second: an authority of the same name with another key, say a private one that was made anew.
        Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => format!(
            "its certificate is from an authority that is not believed here; name the right one by {CA_FILE_VARIABLE} or --ca-file"
        ),
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => format!("{error}; write the address with a name that the certificate has"),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "it does not speak TLS; write http:// if that is meant".to_owned()
        }
        Error::AlertReceived(
            alert @ (AlertDescription::UnknownCA
            | AlertDescription::DecryptError
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired),
        ) => format!("it does not believe this client's certificate ({alert:?})"),
        other => format!("TLS failed: {other}"),
    })
}
