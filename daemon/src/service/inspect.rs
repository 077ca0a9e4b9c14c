//! Operators look here. Answers are made on the inspection runtime, so that a look never stalls a gate.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hookbus_proto::v1::inspect_server::Inspect;
use hookbus_proto::v1::{
    AboutReply, AboutRequest, FollowRequest, Happening, HistoryReply, HistoryRequest, HooksReply,
    HooksRequest, RowsReply, RowsRequest, RunsReply, RunsRequest, SnapshotReply, SnapshotRequest,
    WatchRequest,
};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::convert;
use super::watching::{Looks, Watching};
use crate::bus::{FOLLOWED, Hub, ToBus};
use crate::inspect::{self, Inspector};
use crate::snapshot::Phase;

/// Parts of a table that wait for who reads them.
const PARTS: usize = 4;

/// So many histories are made at a time: each may take much memory.
const HISTORIES: usize = 2;

pub(super) struct InspectService {
    inspector: Arc<Inspector>,
    hub: Hub,
    runtime: Handle,
    looks: Arc<Looks>,
    histories: Arc<Semaphore>,
}

impl InspectService {
    pub(super) fn new(inspector: Arc<Inspector>, hub: Hub, runtime: Handle) -> Self {
        Self {
            looks: Arc::new(Looks::new(Arc::clone(&inspector))),
            histories: Arc::new(Semaphore::new(HISTORIES)),
            inspector,
            hub,
            runtime,
        }
    }

    /// Who watches a run. Errors: there is no such run.
    pub(super) async fn watched(&self, request: WatchRequest) -> Result<Watching, Status> {
        let WatchRequest { run, interval_s } = request;
        let interval = Duration::try_from_secs_f64(interval_s)
            .ok()
            .filter(|interval| !interval.is_zero());
        let interval = interval
            .unwrap_or(Duration::from_secs(1))
            .max(Duration::from_millis(100));
        let (looks, runtime) = (Arc::clone(&self.looks), self.runtime.clone());
        let watching = move |_: &Inspector| Watching::start(looks, run, interval, runtime);
        self.away(watching).await?.map_err(Status::not_found)
    }

    async fn away<T: Send + 'static>(
        &self,
        answer: impl FnOnce(&Inspector) -> T + Send + 'static,
    ) -> Result<T, Status> {
        let inspector = Arc::clone(&self.inspector);
        let task = self.runtime.spawn(async move { answer(&inspector) });
        task.await
            .map_err(|error| Status::internal(format!("the answer could not be made: {error}")))
    }

    /// Reading a long run takes seconds: on a thread of its own, as fast as it is taken.
    fn read<T: Send + 'static>(
        &self,
        most: usize,
        read: impl FnOnce(&Inspector, &mut dyn FnMut(T) -> bool) -> Result<(), Status> + Send + 'static,
    ) -> ReceiverStream<Result<T, Status>> {
        let (out, replies) = mpsc::channel(most);
        let inspector = Arc::clone(&self.inspector);
        tokio::task::spawn_blocking(move || {
            let mut each = |one| out.blocking_send(Ok(one)).is_ok();
            if let Err(why) = read(&inspector, &mut each) {
                // Whoever asked may have left.
                let _ = out.blocking_send(Err(why));
            }
        });
        ReceiverStream::new(replies)
    }
}

#[tonic::async_trait]
impl Inspect for InspectService {
    type FollowStream = Pin<Box<dyn Stream<Item = Result<Happening, Status>> + Send>>;
    type RowsStream = Pin<Box<dyn Stream<Item = Result<RowsReply, Status>> + Send>>;
    type WatchStream = tokio_stream::Empty<Result<SnapshotReply, Status>>;

    async fn runs(&self, request: Request<RunsRequest>) -> Result<Response<RunsReply>, Status> {
        let live = request.into_inner().live;
        let reply = self.away(move |inspector| {
            let now = inspector.now();
            RunsReply {
                runs: (if live {
                    inspector.live_runs()
                } else {
                    inspector.runs()
                })
                .iter()
                .map(|run| convert::run_summary(run, inspector.clock(), now))
                .collect(),
            }
        });
        reply.await.map(Response::new)
    }

    async fn snapshot(
        &self,
        request: Request<SnapshotRequest>,
    ) -> Result<Response<SnapshotReply>, Status> {
        let run = request.into_inner().run;
        let reply =
            self.away(move |inspector| inspector.look(&run).map(|look| convert::snapshot(&look)));
        reply.await?.map(Response::new).map_err(Status::not_found)
    }

    async fn watch(&self, _: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::internal("Watch is answered in front of this"))
    }

    async fn history(
        &self,
        request: Request<HistoryRequest>,
    ) -> Result<Response<HistoryReply>, Status> {
        let query = convert::history_request(request.into_inner());
        let query = query.map_err(Status::invalid_argument)?;
        let run = query.run.clone();
        if let Ok(run) = self.away(move |inspector| inspector.find(&run)).await?
            && run.phase != Phase::Running
            && let Some(inbox) = self.hub.find(&run.id)
        {
            flush(&inbox).await;
        }
        let inspector = Arc::clone(&self.inspector);
        // What is older is in a file.
        let turn = Arc::clone(&self.histories).acquire_owned().await;
        let past = tokio::task::spawn_blocking(move || {
            // Whoever asked may leave; this goes on, and has its turn until it ends.
            let _turn = turn;
            inspector.history(&query).map(convert::history)
        });
        let failed = |error| Status::internal(format!("the answer could not be made: {error}"));
        let past = past.await.map_err(failed)?;
        past.map(Response::new).map_err(Status::not_found)
    }

    async fn follow(
        &self,
        request: Request<FollowRequest>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let FollowRequest {
            run,
            events,
            since_s,
        } = request.into_inner();
        let run = self.away(move |inspector| inspector.find(&run)).await?;
        let run = run.map_err(Status::not_found)?;
        let live = self.hub.find(&run.id);
        if live.is_none() && since_s.is_none() {
            let text = format!("run {} is over: say --since to see what happened", run.id);
            return Err(Status::failed_precondition(text));
        }
        let (out, happenings) = mpsc::channel(FOLLOWED);
        let mut until = self.inspector.now();
        if run.phase != Phase::Running && since_s.is_some() {
            // What it has to say is said.
            if let Some(inbox) = live {
                flush(&inbox).await;
            }
            drop(out);
        } else if let Some(inbox) = live {
            let ended = || Status::unavailable("the run's task has ended");
            let (from, followed) = oneshot::channel();
            let follow = ToBus::Follow(out, events, from);
            inbox.send(follow).await.map_err(|_| ended())?;
            let (at, flushed) = followed.await.map_err(|_| ended())?;
            until = at;
            if let Some(flushed) = flushed.filter(|_| since_s.is_some()) {
                // Where the journal cannot be written what it has must do.
                let _ = flushed.await;
            }
        } else {
            drop(out);
        }
        let happenings = ReceiverStream::new(happenings).map(|one| Ok(convert::happening(one)));
        let Some(since_s) = since_s else {
            return Ok(Response::new(Box::pin(happenings)));
        };
        let since = Duration::try_from_secs_f64(since_s).ok();
        let before = self.read(FOLLOWED, move |inspector, each| {
            let each = |one| each(convert::happening(one));
            inspector
                .happenings(&run, since, until, events, each)
                .map_err(Status::failed_precondition)
        });
        // What cannot be read ends the stream: what comes live is no answer to what was asked.
        Ok(Response::new(Box::pin(before.chain(happenings))))
    }

    async fn rows(
        &self,
        request: Request<RowsRequest>,
    ) -> Result<Response<Self::RowsStream>, Status> {
        let RowsRequest {
            run,
            table,
            since_s,
        } = request.into_inner();
        if !self.inspector.records() {
            return Err(Status::failed_precondition(inspect::NO_JOURNAL));
        }
        let run = self.away(move |inspector| inspector.find(&run)).await?;
        let run = run.map_err(Status::not_found)?;
        if let Some(inbox) = self.hub.find(&run.id) {
            flush(&inbox).await;
        }
        let since = since_s.and_then(|since_s| Duration::try_from_secs_f64(since_s).ok());
        let parts = self.read(PARTS, move |inspector, each| {
            let each = |part| each(convert::rows(part));
            inspector
                .rows(&run, &table, since, each)
                .map_err(Status::not_found)
        });
        Ok(Response::new(Box::pin(parts)))
    }

    async fn hooks(&self, _: Request<HooksRequest>) -> Result<Response<HooksReply>, Status> {
        Ok(Response::new(convert::hooks(&self.inspector.providers())))
    }

    async fn about(&self, _: Request<AboutRequest>) -> Result<Response<AboutReply>, Status> {
        self.away(|inspector| convert::about(&inspector.about()))
            .await
            .map(Response::new)
    }
}

/// Everything that a run has said so far is in its file.
async fn flush(inbox: &mpsc::Sender<ToBus>) {
    let (nobody, _) = mpsc::channel(1);
    let (from, followed) = oneshot::channel();
    if inbox.send(ToBus::Follow(nobody, false, from)).await.is_ok()
        && let Ok((_, Some(flushed))) = followed.await
    {
        // Where the journal cannot be written what it has must do.
        let _ = flushed.await;
    }
}
