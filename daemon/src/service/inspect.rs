//! Operators look here. Answers are made on the inspection runtime, so that a look never stalls a gate.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hookbus_proto::v1::inspect_server::Inspect;
use hookbus_proto::v1::{
    AboutReply, AboutRequest, FollowRequest, Happening, HooksReply, HooksRequest, RowsReply,
    RowsRequest, RunsReply, RunsRequest, SnapshotReply, SnapshotRequest, WatchRequest,
};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, WatchStream};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::convert;
use crate::bus::{FOLLOWED, Hub, ToBus};
use crate::inspect::Inspector;

pub(super) struct InspectService {
    inspector: Arc<Inspector>,
    hub: Hub,
    runtime: Handle,
}

impl InspectService {
    pub(super) fn new(inspector: Arc<Inspector>, hub: Hub, runtime: Handle) -> Self {
        Self {
            inspector,
            hub,
            runtime,
        }
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
}

#[tonic::async_trait]
impl Inspect for InspectService {
    type FollowStream = Pin<Box<dyn Stream<Item = Result<Happening, Status>> + Send>>;
    type RowsStream = Pin<Box<dyn Stream<Item = Result<RowsReply, Status>> + Send>>;
    type WatchStream = Pin<Box<dyn Stream<Item = Result<SnapshotReply, Status>> + Send>>;

    async fn runs(&self, _: Request<RunsRequest>) -> Result<Response<RunsReply>, Status> {
        let reply = self.away(|inspector| {
            let now = inspector.now();
            RunsReply {
                runs: inspector
                    .runs()
                    .iter()
                    .map(|run| convert::run_summary(run, now))
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

    async fn watch(
        &self,
        request: Request<WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let WatchRequest { run, interval_s } = request.into_inner();
        let interval = Duration::try_from_secs_f64(interval_s)
            .ok()
            .filter(|interval| !interval.is_zero());
        let interval = interval
            .unwrap_or(Duration::from_secs(1))
            .max(Duration::from_millis(100));
        let asked = run.clone();
        let first = self
            .away(move |inspector| inspector.look(&asked).map(|look| convert::snapshot(&look)))
            .await?;
        let (publish, latest) = watch::channel((0_u64, first.map_err(Status::not_found)?));
        let inspector = Arc::clone(&self.inspector);
        self.runtime.spawn(async move {
            let mut tick =
                tokio::time::interval_at(tokio::time::Instant::now() + interval, interval);
            let mut serial = 0;
            loop {
                tokio::select! {
                    _ = tick.tick() => {}
                    () = publish.closed() => break,
                }
                let Ok(look) = inspector.look(&run) else {
                    break;
                };
                serial += 1;
                publish.send_replace((serial, convert::snapshot(&look)));
            }
        });
        let mut expected = 0;
        let replies = WatchStream::new(latest).map(move |(serial, mut reply)| {
            reply.missed = serial.saturating_sub(expected);
            expected = serial + 1;
            Ok(reply)
        });
        Ok(Response::new(Box::pin(replies)))
    }

    async fn follow(
        &self,
        request: Request<FollowRequest>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let FollowRequest { run, events, .. } = request.into_inner();
        let run = self.hub.board().find(&run).map_err(Status::not_found)?;
        let ended = || Status::unavailable("the run's task has ended");
        let inbox = self.hub.find(&run.id).ok_or_else(ended)?;
        let (out, happenings) = mpsc::channel(FOLLOWED);
        inbox
            .send(ToBus::Follow(out, events))
            .await
            .map_err(|_| ended())?;
        let replies = ReceiverStream::new(happenings).map(|one| Ok(convert::happening(one)));
        Ok(Response::new(Box::pin(replies)))
    }

    async fn rows(&self, _: Request<RowsRequest>) -> Result<Response<Self::RowsStream>, Status> {
        Err(Status::failed_precondition("this daemon keeps no journal"))
    }

    async fn hooks(&self, _: Request<HooksRequest>) -> Result<Response<HooksReply>, Status> {
        Ok(Response::new(convert::hooks()))
    }

    async fn about(&self, _: Request<AboutRequest>) -> Result<Response<AboutReply>, Status> {
        self.away(|inspector| convert::about(&inspector.about()))
            .await
            .map(Response::new)
    }
}
