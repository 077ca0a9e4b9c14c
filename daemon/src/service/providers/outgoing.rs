//! The stream to a provider: frames of the connection itself first, then what runs send, calls together where they wait.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use hookbus_proto::v1::DaemonFrame;
use hookbus_proto::v1::daemon_frame::Frame;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::Stream;
use tokio_util::sync::DropGuard;
use tonic::Status;

use super::{Ending, Runs};
use crate::providers::{Call, ToProvider};
use crate::service::convert;

/// Calls of one frame, and what they have in them, so that it stays far below any client's limit.
const BATCH: usize = 256;
const BATCH_FIELDS: usize = 8192;

#[derive(PartialEq)]
pub(super) enum Sending {
    /// Before Accepted: runs are not heard.
    Own,
    Everything,
    /// Nothing more comes.
    Nothing,
}

/// The stream to a provider. It is read as fast as the provider takes it; what waits meanwhile is bounded by [`crate::providers::OUTBOX`],
/// and its end ends the reading side too.
pub(in crate::service) struct Outgoing {
    pub(super) own: mpsc::Receiver<DaemonFrame>,
    pub(super) messages: mpsc::Receiver<ToProvider>,
    /// What came behind the calls of the last frame.
    pub(super) next: Option<ToProvider>,
    pub(super) end: oneshot::Receiver<Ending>,
    pub(super) state: Sending,
    pub(super) runs: Runs,
    pub(super) _ends_reading: DropGuard,
}

impl Outgoing {
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<ToProvider>> {
        match self.next.take() {
            Some(message) => Poll::Ready(Some(message)),
            None => self.messages.poll_recv(cx),
        }
    }

    fn frame(&mut self, message: ToProvider, cx: &mut Context<'_>) -> DaemonFrame {
        match message {
            ToProvider::Open(opened) => {
                let mut table = self.runs.lock();
                table.told = table.told.max(opened.run);
                table.replies.insert(opened.run, opened.replies.clone());
                drop(table);
                convert::opened(*opened)
            }
            ToProvider::Facts(run, facts) => convert::facts_frame(run, *facts),
            ToProvider::Close(run) => {
                let mut table = self.runs.lock();
                table.replies.remove(&run);
                table.pulse.closed(run);
                drop(table);
                convert::closed(run)
            }
            ToProvider::Call(call) => {
                let calls = self.calls(*call, cx);
                let now = Instant::now();
                let table = self.runs.lock();
                for call in &calls {
                    table.pulse.called(call.run, now);
                }
                drop(table);
                convert::calls(calls, now)
            }
        }
    }

    /// This call and those that wait right behind it.
    fn calls(&mut self, first: Call, cx: &mut Context<'_>) -> Vec<Call> {
        let has = |call: &Call| call.fields.len() + call.unknown.len() + call.memory.len();
        let mut fields = has(&first);
        let mut calls = vec![first];
        while calls.len() < BATCH
            && fields < BATCH_FIELDS
            && let Poll::Ready(Some(message)) = self.messages.poll_recv(cx)
        {
            match message {
                ToProvider::Call(call) => {
                    fields += has(&call);
                    calls.push(*call);
                }
                other => {
                    self.next = Some(other);
                    break;
                }
            }
        }
        calls
    }
}

impl Stream for Outgoing {
    type Item = Result<DaemonFrame, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.state == Sending::Nothing {
            return Poll::Ready(None);
        }
        if let Poll::Ready(Some(frame)) = self.own.poll_recv(cx) {
            if matches!(frame.frame, Some(Frame::Accepted(_))) {
                self.state = Sending::Everything;
            }
            return Poll::Ready(Some(Ok(frame)));
        }
        if let Poll::Ready(ending) = Pin::new(&mut self.end).poll(cx) {
            self.state = Sending::Nothing;
            return Poll::Ready(match ending {
                Ok(Ending::Fence(turned)) => Some(Ok(convert::fence(turned))),
                Ok(Ending::Status(status)) => Some(Err(status)),
                Ok(Ending::Closed) | Err(_) => None,
            });
        }
        if self.state == Sending::Everything
            && let Poll::Ready(Some(message)) = self.poll_message(cx)
        {
            return Poll::Ready(Some(Ok(self.frame(message, cx))));
        }
        Poll::Pending
    }
}
