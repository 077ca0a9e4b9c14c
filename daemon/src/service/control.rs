//! Operators act here; every order is audited in the daemon's log.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hookbus_proto::v1::control_server::Control;
use hookbus_proto::v1::{Order as WireOrder, OrderUpdate, order};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::convert;
use crate::bus::{Hub, Order, ToBus};
use crate::listen::Peer;

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

pub(super) struct ControlService {
    hub: Hub,
    serials: AtomicU64,
    /// Ids of orders stay unique over restarts of the daemon.
    nonce: u64,
}

impl ControlService {
    pub(super) fn new(hub: Hub) -> Self {
        Self {
            hub,
            serials: AtomicU64::new(1),
            nonce: RandomState::new().hash_one("orders"),
        }
    }
}

#[tonic::async_trait]
impl Control for ControlService {
    type SendStream =
        std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<OrderUpdate, Status>> + Send>>;

    async fn send(
        &self,
        request: Request<WireOrder>,
    ) -> Result<Response<Self::SendStream>, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        let asked = request.into_inner();
        let Some(order::What::Stop(stop)) = asked.what else {
            return Err(Status::invalid_argument(
                "this order has nothing in it that this daemon knows; it knows stop",
            ));
        };
        let run = self
            .hub
            .board()
            .find(&asked.run)
            .map_err(Status::not_found)?;
        let inbox = self
            .hub
            .find(&run.id)
            .ok_or_else(|| Status::unavailable("the run's task has ended"))?;
        let (updates, replies) = mpsc::channel(1024);
        // The kernel's word, or where a token came from: what the operator says of itself may be anything.
        let uid = peer.map(|peer| peer.remote);
        let by = ["operator", asked.by.as_str()]
            .into_iter()
            .map(str::to_owned)
            .chain(uid)
            .filter(|word| !word.is_empty());
        let order = Order {
            id: if asked.id.is_empty() {
                format!(
                    "order-{:x}-{}",
                    self.nonce,
                    self.serials.fetch_add(1, Ordering::Relaxed)
                )
            } else {
                asked.id
            },
            by: by.collect::<Vec<_>>().join(" "),
            reason: if stop.reason.is_empty() {
                "stopped by an operator".to_owned()
            } else {
                stop.reason
            },
            effective: convert::effective(stop.effective)?,
            timeout: Duration::try_from_secs_f64(asked.timeout_s)
                .ok()
                .filter(|timeout| !timeout.is_zero())
                .map_or(DEFAULT_TIMEOUT, |timeout| timeout.min(LONGEST_TIMEOUT)),
            updates,
        };
        inbox
            .send(ToBus::Order(order))
            .await
            .map_err(|_| Status::unavailable("the run's task has ended"))?;
        let replies = ReceiverStream::new(replies).map(|reply| match reply {
            Ok(update) => Ok(convert::order_update(update)),
            Err(text) => Err(Status::failed_precondition(text)),
        });
        Ok(Response::new(Box::pin(replies)))
    }
}
