//! A connection over TCP whose first failures say what they mean: TLS where none is spoken, a certificate that is not
//! believed. What fails after the handshake reaches the caller only as the text of an error, so it is put in here.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::tls;

/// A record of TLS that is an alert: so it answers a client that speaks plain text. No frame of HTTP/2 begins so, for the
/// first one is a short SETTINGS.
const ALERT: u8 = 21;

/// The stream.
pub(crate) struct Explained<S> {
    stream: S,
    answered: bool,
}

impl<S> Explained<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            answered: false,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Explained<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, into));
        if let Err(error) = read {
            let explained = tls::advice(&error).map(|text| io::Error::new(error.kind(), text));
            return Poll::Ready(Err(explained.unwrap_or(error)));
        }
        if !self.answered
            && let Some(first) = into.filled().get(before)
        {
            self.answered = true;
            if *first == ALERT {
                let text = "it speaks TLS; write https://";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, text)));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Explained<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
