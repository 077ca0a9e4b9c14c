//! The handshake of one connection over TCP, with its deadline.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{Error, InvalidMessage, ServerConfig};
use tokio_rustls::server::TlsStream;

/// A handshake takes two round trips; whoever takes longer does not mean to finish it.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long, and for how many bytes, a client that was refused is listened to.
const PARTING: Duration = Duration::from_secs(1);
const MOST_REST_BYTES: usize = 64 << 10;

/// The stream, and whether the client has shown a certificate that counts. Errors: why not, for the log.
pub(super) async fn accept(
    stream: TcpStream,
    tls: Arc<ServerConfig>,
) -> Result<(TlsStream<TcpStream>, bool), String> {
    let shaking = TlsAcceptor::from(tls).accept(stream).into_fallible();
    match tokio::time::timeout(DEADLINE, shaking).await {
        Ok(Ok(stream)) => {
            let certified = stream.get_ref().1.peer_certificates().is_some();
            Ok((stream, certified))
        }
        Ok(Err((error, stream))) => {
            part(stream).await;
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
            Err(match inner {
                Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
                    "the client speaks plain text".to_owned()
                }
                _ => error.to_string(),
            })
        }
        Err(_) => Err(format!("no handshake within {} s", DEADLINE.as_secs())),
    }
}

/// A socket that is closed with bytes unread is reset, and the alert that says why is lost on the way: it is read empty.
async fn part(mut stream: TcpStream) {
    let reading = async {
        stream.shutdown().await?;
        let mut rest = [0; 1024];
        let mut left = MOST_REST_BYTES;
        while left > 0 {
            match stream.read(&mut rest).await? {
                0 => break,
                bytes => left = left.saturating_sub(bytes),
            }
        }
        Ok::<_, std::io::Error>(())
    };
    // Either way the connection ends here.
    let _ = tokio::time::timeout(PARTING, reading).await;
}
