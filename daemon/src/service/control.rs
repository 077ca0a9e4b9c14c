//! Operators act here; every order is audited in the daemon's log.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};

use hookbus_proto::v1::control_server::Control;
use hookbus_proto::v1::{Order as WireOrder, OrderUpdate};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::convert::{self, Limits, Ordered};
use crate::bus::{Hub, Order, ToBus};
use crate::listen::Peer;

pub(super) struct ControlService {
    hub: Hub,
    limits: Limits,
    serials: AtomicU64,
    /// Ids of orders stay unique over restarts of the daemon.
    nonce: u64,
}

impl ControlService {
    pub(super) fn new(hub: Hub, limits: Limits) -> Self {
        Self {
            hub,
            limits,
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
        let wanted = request.into_inner();
        let run = wanted.run.clone();
        let (id, who) = convert::named(&wanted, &self.limits)?;
        let Ordered {
            asked,
            effective,
            ranks,
            timeout,
        } = convert::order(wanted, &self.limits)?;
        let run = self.hub.board().find(&run).map_err(Status::not_found)?;
        let inbox = self
            .hub
            .find(&run.id)
            .ok_or_else(|| Status::unavailable("the run's task has ended"))?;
        let (updates, replies) = mpsc::channel(1024);
        // The kernel's word, or where a token came from: what the operator says of itself may be anything.
        let uid = peer.as_ref().and_then(|peer| peer.uid);
        let from = peer.map(|peer| peer.remote);
        let by = ["operator", who.as_str()]
            .into_iter()
            .map(str::to_owned)
            .chain(from)
            .filter(|word| !word.is_empty());
        let order = Order {
            id: if id.is_empty() {
                format!(
                    "order-{:x}-{}",
                    self.nonce,
                    self.serials.fetch_add(1, Ordering::Relaxed)
                )
            } else {
                id
            },
            by: by.collect::<Vec<_>>().join(" "),
            uid,
            asked,
            effective,
            ranks,
            timeout,
            updates,
        };
        inbox
            .send(ToBus::Order(Box::new(order)))
            .await
            .map_err(|_| Status::unavailable("the run's task has ended"))?;
        let replies = ReceiverStream::new(replies).map(|reply| match reply {
            Ok(update) => Ok(convert::order_update(update)),
            Err(text) => Err(Status::failed_precondition(text)),
        });
        Ok(Response::new(Box::pin(replies)))
    }
}
