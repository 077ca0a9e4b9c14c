//! The stream to a trainer: frames as the bus sends them, and the status with which a session ends.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use hookbus_proto::v1::ServerFrame;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::Stream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;

use super::convert::{self, Limits};
use crate::bus::ToTrainer;

/// Ends after a fence, after a status, or when the bus lets go of the session. Its end ends the reading side too.
pub(super) struct Outgoing {
    frames: mpsc::Receiver<ToTrainer>,
    status: Option<oneshot::Receiver<Status>>,
    limits: Limits,
    fenced: bool,
    /// The rest of a message of several frames.
    rest: VecDeque<ServerFrame>,
    _ends_reading: DropGuard,
}

impl Outgoing {
    pub(super) fn new(
        frames: mpsc::Receiver<ToTrainer>,
        status: oneshot::Receiver<Status>,
        limits: Limits,
        ended: CancellationToken,
    ) -> Self {
        Self {
            frames,
            status: Some(status),
            limits,
            fenced: false,
            rest: VecDeque::new(),
            _ends_reading: ended.drop_guard(),
        }
    }
}

impl Stream for Outgoing {
    type Item = Result<ServerFrame, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.fenced {
            return Poll::Ready(None);
        }
        if let Some(frame) = self.rest.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        let frame = self.frames.poll_recv(cx);
        if let Poll::Ready(Some(message)) = frame {
            self.fenced = matches!(message, ToTrainer::Fence(_));
            self.rest = convert::server_frames(message, &self.limits).into();
            return Poll::Ready(self.rest.pop_front().map(Ok));
        }
        if let Some(status) = &mut self.status
            && let Poll::Ready(ended) = Pin::new(status).poll(cx)
        {
            self.status = None;
            if let Ok(status) = ended {
                self.fenced = true;
                return Poll::Ready(Some(Err(status)));
            }
        }
        match frame {
            Poll::Ready(None) => Poll::Ready(None),
            _ => Poll::Pending,
        }
    }
}
