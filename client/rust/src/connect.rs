//! One gRPC channel to a daemon, over its Unix socket, TCP or TLS.
//!
//! A failure names the address and what to do about it, because the person who reads it has a training at stake. It
//! makes one attempt: who wants to try again decides when.

use std::io;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};

use crate::access::{Access, AccessError, Bearer};
use crate::address::Address;
use crate::explained::Explained;
use crate::tls;

/// A channel that shows the token on every call.
pub type Connection = InterceptedService<Channel, Bearer>;

/// What a Unix socket's HTTP/2 authority is: a path is no authority, and servers refuse an empty one.
const LOCAL_AUTHORITY: &str = "http://localhost";

/// Why no channel came to be.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No socket, or a socket that nobody listens on.
    #[error("no daemon listens at {address}: start one with `hookbusd` or `hookbus run` ({cause})")]
    NobodyListens {
        /// Where it was tried.
        address: Address,
        /// The system's word for it.
        cause: io::Error,
    },
    /// The socket is another user's.
    #[error(
        "no permission to connect to {address}: it is open to the daemon's own user and root; become that user, or set mode and group in the daemon's configuration ({cause})"
    )]
    NoPermission {
        /// Where it was tried.
        address: Address,
        /// The system's word for it.
        cause: io::Error,
    },
    /// Somebody may be there, but did not answer.
    #[error("no answer from {address} within {} s: the daemon is stuck, or something between here and there drops the connection", .waited.as_secs_f64())]
    Timeout {
        /// Where it was tried.
        address: Address,
        /// How long.
        waited: Duration,
    },
    /// TLS was not agreed on.
    #[error("no TLS connection to {address}: {cause}")]
    Tls {
        /// Where it was tried.
        address: Address,
        /// What it means, and what to do.
        cause: String,
    },
    /// A certificate or its authorities cannot be read.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// Any other failure of the system or of the handshake.
    #[error("cannot connect to {address}: {cause}")]
    Other {
        /// Where it was tried.
        address: Address,
        /// What happened, as far as it was said.
        cause: String,
    },
}

/// Opens a channel to the daemon at `address`, in one attempt that takes at most `timeout`, and shows nothing.
pub async fn connect(address: &Address, timeout: Duration) -> Result<Connection, ConnectError> {
    connect_with(address, &Access::default(), timeout).await
}

/// The same, and shows what `access` has on every call.
pub async fn connect_with(
    address: &Address,
    access: &Access,
    timeout: Duration,
) -> Result<Connection, ConnectError> {
    let opened = match address {
        Address::Unix(path) => {
            let path = path.clone();
            let connector = tower::service_fn(move |_| {
                let path = path.clone();
                async move { Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
            });
            let endpoint = Endpoint::from_static(LOCAL_AUTHORITY);
            tokio::time::timeout(timeout, endpoint.connect_with_connector(connector)).await
        }
        Address::Tcp(authority) => {
            let endpoint = endpoint(address)?;
            let authority = authority.clone();
            let connector = tower::service_fn(move |_| {
                let authority = authority.clone();
                async move { Ok::<_, io::Error>(TokioIo::new(Explained::new(open(&authority).await?))) }
            });
            tokio::time::timeout(timeout, endpoint.connect_with_connector(connector)).await
        }
        Address::Tls(authority) => {
            let endpoint = endpoint(address)?;
            let (authority, config) = (authority.clone(), access.tls()?);
            let connector = tower::service_fn(move |_| {
                let (authority, config) = (authority.clone(), config.clone());
                async move {
                    let stream = open(&authority).await?;
                    let stream = tls::handshake(stream, &authority, config).await?;
                    Ok::<_, io::Error>(TokioIo::new(Explained::new(stream)))
                }
            });
            tokio::time::timeout(timeout, endpoint.connect_with_connector(connector)).await
        }
    };
    match opened {
        Ok(Ok(channel)) => Ok(InterceptedService::new(channel, access.bearer())),
        Ok(Err(error)) => Err(explain(address, &error)),
        Err(_) => Err(ConnectError::Timeout {
            address: address.clone(),
            waited: timeout,
        }),
    }
}

fn endpoint(address: &Address) -> Result<Endpoint, ConnectError> {
    Endpoint::from_shared(address.to_string()).map_err(|error| ConnectError::Other {
        address: address.clone(),
        cause: causes(&error),
    })
}

async fn open(authority: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(authority).await?;
    stream.set_nodelay(true)?; // a gate is one small frame that a training waits for
    Ok(stream)
}

/// The system's error, where there is one at the bottom of the transport's chain, decides what to advise.
fn explain(address: &Address, error: &tonic::transport::Error) -> ConnectError {
    let address = address.clone();
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = next {
        if let Some(system) = current.downcast_ref::<io::Error>() {
            if let Some(cause) = tls::advice(system) {
                return ConnectError::Tls { address, cause };
            }
            let cause = io::Error::new(system.kind(), system.to_string());
            return match system.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    ConnectError::NobodyListens { address, cause }
                }
                io::ErrorKind::PermissionDenied => ConnectError::NoPermission { address, cause },
                _ => ConnectError::Other {
                    address,
                    cause: cause.to_string(),
                },
            };
        }
        next = current.source();
    }
    ConnectError::Other {
        address,
        cause: causes(error),
    }
}

/// What a call's end says, with what is below it where the transport broke: there is the reason.
pub(crate) fn words(status: &tonic::Status) -> String {
    let mut text = status.message().to_owned();
    let mut next = std::error::Error::source(status);
    while let Some(inner) = next {
        let words = inner.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        next = inner.source();
    }
    text
}

fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(inner) = next {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        next = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_missing_socket_names_the_address_and_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let address = Address::unix(&directory.path().join("none.sock")).unwrap();
        let error = connect(&address, SOON).await.unwrap_err();
        assert!(
            matches!(error, ConnectError::NobodyListens { .. }),
            "{error:?}"
        );
        let text = error.to_string();
        assert!(
            text.contains(&format!(
                "no daemon listens at {address}: start one with `hookbusd`"
            )),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_socket_file_that_nobody_listens_on_reads_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("stale.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let error = connect(&Address::unix(&path).unwrap(), SOON)
            .await
            .unwrap_err();
        assert!(
            matches!(error, ConnectError::NobodyListens { .. }),
            "{error:?}"
        );
    }

    #[tokio::test]
    async fn a_closed_port_reads_the_same() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap().to_string());
        drop(listener);
        let error = connect(&address, SOON).await.unwrap_err();
        assert!(
            matches!(error, ConnectError::NobodyListens { .. }),
            "{error:?}"
        );
    }
}
