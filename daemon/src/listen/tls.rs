//! The handshake of one connection over TCP, with its deadline.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{Error, InvalidMessage, ServerConfig};
use tokio_rustls::server::TlsStream;

/// A handshake takes two round trips; whoever takes longer does not mean to finish it.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long, and for how many bytes, a client that was refused is listened to.
const PARTING: Duration = Duration::from_secs(1);
const MOST_REST_BYTES: usize = 64 << 10;

/// The stream, and whether the client has shown a certificate that counts. Errors: why not, for the log.
pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    tls: Arc<ServerConfig>,
) -> Result<(TlsStream<S>, bool), String> {
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
async fn part(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_rustls::rustls::crypto::ring;
    use tokio_rustls::rustls::pki_types::PrivateKeyDer;

    fn tls() -> Arc<ServerConfig> {
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
        let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).expect("a key");
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions");
        let server = builder
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.into()], key);
        Arc::new(server.expect("they fit"))
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_says_nothing_is_let_go_after_the_deadline() {
        let (near, far) = tokio::io::duplex(1 << 16);
        let began = tokio::time::Instant::now();
        let why = accept(far, tls()).await.expect_err("nobody spoke");
        assert_eq!(why, "no handshake within 10 s");
        assert_eq!(began.elapsed(), DEADLINE);
        drop(near);
    }

    #[tokio::test(start_paused = true)]
    async fn plain_text_gets_an_alert_and_is_read_to_its_end() {
        let (mut near, far) = tokio::io::duplex(1 << 16);
        let text = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        near.write_all(text).await.expect("it reads");
        let accepting = tokio::spawn(accept(far, tls()));
        let mut reply = Vec::new();
        near.read_to_end(&mut reply).await.expect("it answers");
        // The record's type; the client knows TLS by it.
        assert_eq!(reply.first(), Some(&21), "{reply:?}");
        near.write_all(text).await.expect("it still reads");
        drop(near);
        let why = accepting.await.expect("no panic").expect_err("no TLS");
        assert_eq!(why, "the client speaks plain text");
    }
}
