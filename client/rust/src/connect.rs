//! One gRPC channel to a daemon, over its Unix socket or TCP.
//!
//! A failure names the address and what to do about it, because the person who reads it has a training at stake. It
//! makes one attempt: who wants to try again decides when.

use std::io;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tonic::transport::{Channel, Endpoint};

use crate::address::Address;

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
    /// Any other failure of the system or of the handshake.
    #[error("cannot connect to {address}: {cause}")]
    Other {
        /// Where it was tried.
        address: Address,
        /// What happened, as far as it was said.
        cause: String,
    },
}

/// Opens a channel to the daemon at `address`, in one attempt that takes at most `timeout`.
pub async fn connect(address: &Address, timeout: Duration) -> Result<Channel, ConnectError> {
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
            let uri = format!("http://{authority}");
            let endpoint = Endpoint::from_shared(uri).map_err(|error| ConnectError::Other {
                address: address.clone(),
                cause: causes(&error),
            })?;
            let authority = authority.clone();
            let connector = tower::service_fn(move |_| {
                let authority = authority.clone();
                async move {
                    let stream = TcpStream::connect(authority.as_str()).await?;
                    stream.set_nodelay(true)?; // a gate is one small frame that a training waits for
                    Ok::<_, io::Error>(TokioIo::new(stream))
                }
            });
            tokio::time::timeout(timeout, endpoint.connect_with_connector(connector)).await
        }
    };
    match opened {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(explain(address, &error)),
        Err(_) => Err(ConnectError::Timeout {
            address: address.clone(),
            waited: timeout,
        }),
    }
}

/// The system's error, where there is one at the bottom of the transport's chain, decides what to advise.
fn explain(address: &Address, error: &tonic::transport::Error) -> ConnectError {
    let address = address.clone();
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = next {
        if let Some(system) = current.downcast_ref::<io::Error>() {
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
