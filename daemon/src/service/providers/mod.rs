//! One provider's stream: Introduction, then its hooks, then answers; each becomes one message for the directory or for the
//! task of a run.

mod outgoing;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hookbus_proto::v1::providers_server::Providers;
use hookbus_proto::v1::{DaemonFrame, ProviderFrame};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming};

use outgoing::{Outgoing, Sending};

use super::convert::{self, FromProvider, Introduction, Limits};
use super::session::is_broken;
use crate::listen::Peer;
use crate::providers::{Answer, Directory, End, OUTBOX, Pulse, Reply, Seat, ToProvider, Turned};

/// How long a connection may stay without an Introduction.
const INTRODUCTION_DEADLINE: Duration = Duration::from_secs(10);
/// Bytes of a frame: a hook's state alone may have 1 MiB.
pub(super) const FRAME_BYTES: usize = 4 << 20;
/// Frames of the connection itself that wait: Assignment and Accepted.
const OWN: usize = 2;

pub(super) struct ProviderService {
    directory: Directory,
    limits: Limits,
}

impl ProviderService {
    pub(super) fn new(directory: Directory, limits: Limits) -> Self {
        Self { directory, limits }
    }
}

#[tonic::async_trait]
impl Providers for ProviderService {
    type ServeStream = Outgoing;

    async fn serve(
        &self,
        request: Request<Streaming<ProviderFrame>>,
    ) -> Result<Response<Outgoing>, Status> {
        let peer = request.extensions().get::<Peer>();
        let remote = peer.map_or_else(String::new, |peer| peer.remote.clone());
        let uid = peer.and_then(|peer| peer.uid);
        let (own, own_frames) = mpsc::channel(OWN);
        let (out, messages) = mpsc::channel(OUTBOX);
        let (end, ends) = oneshot::channel();
        let ended = CancellationToken::new();
        let runs = Runs::default();
        let outgoing = Outgoing {
            own: own_frames,
            messages,
            next: None,
            end: ends,
            state: Sending::Own,
            runs: runs.clone(),
            _ends_reading: ended.clone().drop_guard(),
        };
        let reader = Reader {
            directory: self.directory.clone(),
            limits: self.limits.clone(),
            remote,
            uid,
            frames: request.into_inner(),
            read: 0,
            own,
            out,
            runs,
            ended,
        };
        tokio::spawn(async move {
            let ending = reader.run().await;
            // The provider may be gone already.
            let _ = end.send(ending);
        });
        Ok(Response::new(outgoing))
    }
}

/// How a connection ends.
enum Ending {
    /// It was closed, or broke.
    Closed,
    Fence(Turned),
    Status(Status),
}

impl From<Status> for Ending {
    fn from(status: Status) -> Self {
        if is_broken(&status) {
            Self::Closed
        } else {
            Self::Status(status)
        }
    }
}

impl From<Turned> for Ending {
    fn from(turned: Turned) -> Self {
        Self::Fence(turned)
    }
}

/// What one connection knows of its runs: where answers go, and whether they come.
#[derive(Clone, Default)]
struct Runs(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    replies: HashMap<u64, mpsc::Sender<Reply>>,
    /// The highest number that this connection was told.
    told: u64,
    pulse: Arc<Pulse>,
}

impl Runs {
    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where an answer of a run goes; None: the run is over, or no call of it waits. Errors: there was none of that number.
    fn answered(&self, run: u64, now: Instant) -> Result<Option<mpsc::Sender<Reply>>, u64> {
        let table = self.lock();
        if run == 0 || run > table.told {
            return Err(table.told);
        }
        let replies = table.replies.get(&run);
        let replies = replies.filter(|_| table.pulse.answered(run, now));
        Ok(replies.cloned())
    }
}

struct Reader {
    directory: Directory,
    limits: Limits,
    remote: String,
    uid: Option<u32>,
    frames: Streaming<ProviderFrame>,
    /// Frames read.
    read: u64,
    own: mpsc::Sender<DaemonFrame>,
    out: mpsc::Sender<ToProvider>,
    runs: Runs,
    ended: CancellationToken,
}

impl Reader {
    async fn run(mut self) -> Ending {
        let said = match tokio::time::timeout(INTRODUCTION_DEADLINE, self.introduction()).await {
            Ok(Ok(said)) => said,
            Ok(Err(ending)) => return self.told("nobody", ending),
            Err(_) => {
                let status = Status::deadline_exceeded("no Introduction came within 10 s");
                return self.told("nobody", status.into());
            }
        };
        let Introduction { module, client, .. } = &said;
        let mut seat = match self.seat(&said) {
            Ok(seat) => seat,
            Err(turned) => return self.told(module, turned.into()),
        };
        self.runs.lock().pulse = Arc::clone(&seat.pulse);
        tracing::info!(
            module,
            client,
            remote = self.remote,
            "a provider of hooks connects"
        );
        let ending = self.forward(&mut seat).await;
        seat.gone = match &ending {
            Ending::Closed => "its provider is not connected".to_owned(),
            Ending::Fence(turned) => format!("its provider was turned out: {}", turned.text),
            Ending::Status(status) => {
                format!("its provider's connection was ended: {}", status.message())
            }
        };
        self.told(module, ending)
    }

    /// Says in the log how the connection ends.
    fn told(&self, module: &str, ending: Ending) -> Ending {
        let remote = &self.remote;
        match &ending {
            Ending::Closed => tracing::info!(module, remote, "a provider of hooks is gone"),
            Ending::Fence(turned) if turned.end == End::Shutdown => {
                tracing::debug!(
                    module,
                    remote,
                    "a provider of hooks is told that the daemon ends"
                );
            }
            Ending::Fence(turned) => {
                tracing::warn!(
                    module,
                    remote,
                    why = turned.text,
                    "a provider of hooks is turned out"
                );
            }
            Ending::Status(status) => {
                let (code, why) = (status.code(), status.message());
                tracing::warn!(
                    module,
                    remote,
                    ?code,
                    why,
                    "a provider's connection ends with an error"
                );
            }
        }
        ending
    }

    async fn introduction(&mut self) -> Result<Introduction, Ending> {
        let frame = self.frame().await?.ok_or(Ending::Closed)?;
        Ok(convert::introduction(frame, &self.limits)?)
    }

    fn seat(&self, said: &Introduction) -> Result<Seat, Turned> {
        if said.protocol != hookbus_proto::PROTOCOL {
            return Err(Turned {
                end: End::Version,
                text: format!(
                    "this daemon speaks protocol {}, the provider {}",
                    hookbus_proto::PROTOCOL,
                    said.protocol
                ),
            });
        }
        self.directory
            .introduce(&said.module, &said.ticket, self.uid)
    }

    async fn forward(&mut self, seat: &mut Seat) -> Ending {
        let assignment = convert::assignment(std::mem::take(&mut seat.asked));
        if self.own.send(assignment).await.is_err() {
            return Ending::Closed;
        }
        let mut offered = false;
        loop {
            let ended = self.ended.clone();
            let frame = tokio::select! {
                frame = self.frame() => frame,
                turned = &mut seat.end => {
                    return turned.map_or(Ending::Closed, Ending::Fence);
                }
                () = ended.cancelled() => return Ending::Closed,
            };
            let said = match frame {
                Ok(Some(frame)) => convert::provider_frame(self.read, frame, &self.limits),
                Ok(None) => return Ending::Closed,
                Err(status) => return status.into(),
            };
            let done = match said {
                Ok(FromProvider::Offer(_)) if offered => Err(self.wrong("a second Offer")),
                Ok(FromProvider::Offer(offer)) => {
                    offered = true;
                    self.offer(seat, offer).await
                }
                Ok(FromProvider::Answers(_)) if !offered => {
                    Err(self.wrong("Answers before an Offer"))
                }
                Ok(FromProvider::Answers(answers)) => self.answers(seat, answers).await,
                Err(status) => Err(status.into()),
            };
            if let Err(ending) = done {
                return ending;
            }
        }
    }

    fn wrong(&self, what: &str) -> Ending {
        Ending::Status(Status::invalid_argument(format!(
            "frame {}: {what} in one connection",
            self.read
        )))
    }

    async fn offer(&self, seat: &Seat, offer: crate::providers::Offer) -> Result<(), Ending> {
        let refused = seat.offer(offer, self.out.clone())?;
        let sent = self.own.send(convert::accepted(refused)).await;
        sent.map_err(|_| Ending::Closed)
    }

    async fn answers(&self, seat: &Seat, answers: Vec<(u64, Answer)>) -> Result<(), Ending> {
        for (at, (run, answer)) in answers.into_iter().enumerate() {
            let at_which = |told| {
                Ending::Status(Status::invalid_argument(format!(
                    "frame {}: Answers.answers[{at}].run is {run}: this connection was told of runs up to {told}",
                    self.read
                )))
            };
            let now = Instant::now();
            let replies = self.runs.answered(run, now).map_err(at_which)?;
            if let Some(replies) = replies {
                let reply = Reply {
                    serial: seat.serial,
                    at: now,
                    answer,
                };
                // A run whose task has ended needs no answer.
                let _ = replies.send(reply).await;
            }
        }
        Ok(())
    }

    async fn frame(&mut self) -> Result<Option<ProviderFrame>, Status> {
        self.read += 1;
        self.frames
            .message()
            .await
            .map_err(|status| match status.code() {
                Code::OutOfRange => Status::resource_exhausted(format!(
                    "frame {} is over {FRAME_BYTES} bytes: send fewer answers at once",
                    self.read
                )),
                Code::Internal => Status::invalid_argument(format!(
                    "frame {} does not decode: {}",
                    self.read,
                    status.message()
                )),
                _ => status,
            })
    }
}
