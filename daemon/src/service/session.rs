//! One trainer's stream: the first frame is Hello, each further frame becomes one message for the run's task.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hookbus_proto::v1::hook_bus_server::HookBus;
use hookbus_proto::v1::{ClientFrame, client_frame};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming};

use super::convert::{self, Limits, Table};
use super::outgoing::Outgoing;
use super::peer;
use crate::bus::{Attach, Fence, FenceReason, Hub, Link, OUTBOX, ToBus, ToTrainer};
use crate::listen::Peer;
use crate::sampler::identity;

/// How long a connection may stay without a Hello.
const HELLO_DEADLINE: Duration = Duration::from_secs(10);

pub(super) struct SessionService {
    hub: Hub,
    limits: Limits,
    places: Arc<Semaphore>,
    serials: AtomicU64,
}

impl SessionService {
    pub(super) fn new(hub: Hub, limits: Limits) -> Self {
        Self {
            hub,
            places: Arc::new(Semaphore::new(limits.sessions)),
            limits,
            serials: AtomicU64::new(1),
        }
    }
}

#[tonic::async_trait]
impl HookBus for SessionService {
    type SessionStream = Outgoing;

    async fn session(
        &self,
        request: Request<Streaming<ClientFrame>>,
    ) -> Result<Response<Outgoing>, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        let (out, frames) = mpsc::channel(OUTBOX);
        let (end, status) = oneshot::channel();
        let ended = CancellationToken::new();
        let outgoing = Outgoing::new(frames, status, self.limits.clone(), ended.clone());
        let reader = Reader {
            hub: self.hub.clone(),
            limits: self.limits.clone(),
            place: Arc::clone(&self.places).try_acquire_owned().ok(),
            serial: self.serials.fetch_add(1, Ordering::Relaxed),
            peer,
            frames: request.into_inner(),
            ended,
        };
        tokio::spawn(async move {
            if let Err(status) = reader.run(out).await {
                tracing::warn!(code = ?status.code(), message = status.message(), "a session ends with an error");
                // The trainer may be gone already.
                let _ = end.send(status);
            }
        });
        Ok(Response::new(outgoing))
    }
}

struct Reader {
    hub: Hub,
    limits: Limits,
    place: Option<OwnedSemaphorePermit>,
    serial: u64,
    peer: Option<Peer>,
    frames: Streaming<ClientFrame>,
    ended: CancellationToken,
}

impl Reader {
    async fn run(mut self, out: mpsc::Sender<ToTrainer>) -> Result<(), Status> {
        let first = tokio::time::timeout(HELLO_DEADLINE, self.frames.message());
        let first = first
            .await
            .map_err(|_| Status::deadline_exceeded("no Hello came within 10 s"))?;
        let Some(client_frame::Frame::Hello(hello)) =
            first.map_err(too_large)?.and_then(|frame| frame.frame)
        else {
            return Err(Status::invalid_argument(
                "the first frame of a session is Hello",
            ));
        };
        if hello.protocol != hookbus_proto::PROTOCOL {
            let text = format!(
                "this daemon speaks protocol {}, the client {}",
                hookbus_proto::PROTOCOL,
                hello.protocol
            );
            return fence(&out, FenceReason::Version, text).await;
        }
        if self.place.is_none() {
            let text = format!(
                "{} sessions are open, limits.sessions allows no more",
                self.limits.sessions
            );
            return fence(&out, FenceReason::OverLimit, text).await;
        }
        let (hello, mut table) = convert::hello(hello, &self.limits)?;
        let process = peer::confirm(self.peer.as_ref(), &hello.process);
        let link = Link {
            rank: hello.rank,
            serial: self.serial,
        };
        let inbox = match self.hub.run(&hello.run) {
            Ok(inbox) => inbox,
            Err(refusal) => return fence(&out, refusal.reason, refusal.text).await,
        };
        let (reply, admitted) = oneshot::channel();
        let who = format!("rank {} of run {}", hello.rank, hello.run);
        let attach = Attach {
            serial: self.serial,
            hello,
            uid: self.peer.as_ref().and_then(|peer| peer.uid),
            process: process.clone(),
            out: out.clone(),
            reply,
        };
        deliver(&inbox, ToBus::Attach(Box::new(attach))).await?;
        match admitted.await {
            Ok(Ok(())) => {}
            Ok(Err(refusal)) => return fence(&out, refusal.reason, refusal.text).await,
            Err(_) => return Err(Status::unavailable("the run's task has ended")),
        }
        drop(out);
        let result = self.forward(link, &inbox, &mut table).await;
        let alive = process.ok().map(identity::alive);
        deliver(&inbox, ToBus::Gone(link, alive)).await?;
        result.map_err(|status| Status::new(status.code(), format!("{who}: {}", status.message())))
    }

    async fn forward(
        &mut self,
        link: Link,
        inbox: &mpsc::Sender<ToBus>,
        table: &mut Table,
    ) -> Result<(), Status> {
        loop {
            let frame = tokio::select! {
                frame = self.frames.message() => frame,
                () = self.ended.cancelled() => return Ok(()),
            };
            match frame {
                Ok(Some(frame)) => {
                    deliver(
                        inbox,
                        convert::client_frame(link, frame, table, &self.limits)?,
                    )
                    .await?
                }
                Ok(None) => return Ok(()),
                // A connection that breaks is no mistake of the client's.
                Err(status) if is_broken(&status) => return Ok(()),
                Err(status) => return Err(too_large(status)),
            }
        }
    }
}

async fn deliver(inbox: &mpsc::Sender<ToBus>, message: ToBus) -> Result<(), Status> {
    inbox
        .send(message)
        .await
        .map_err(|_| Status::unavailable("the run's task has ended"))
}

async fn fence(
    out: &mpsc::Sender<ToTrainer>,
    reason: FenceReason,
    text: String,
) -> Result<(), Status> {
    // A peer that has left needs no fence.
    let _ = out.send(ToTrainer::Fence(Fence { reason, text })).await;
    Ok(())
}

pub(super) fn is_broken(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Cancelled | Code::Unknown | Code::Unavailable | Code::Aborted
    )
}

/// tonic says OUT_OF_RANGE of a frame over the limit, and INTERNAL of one that does not decode.
fn too_large(status: Status) -> Status {
    match status.code() {
        Code::OutOfRange => Status::resource_exhausted(format!(
            "a frame is over limits.frame_bytes: {}",
            status.message()
        )),
        Code::Internal => {
            Status::invalid_argument(format!("a frame does not decode: {}", status.message()))
        }
        _ => status,
    }
}
