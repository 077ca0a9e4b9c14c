//! Replies that are bytes already. They are made on the inspection runtime: with many ranks that is long, and here, where gates
//! are answered, they are only passed on. This is what answers `Inspect.Watch`, in front of the generated service.

use std::pin::Pin;
use std::sync::Arc;

use axum::extract::Request;
use axum::routing::{MethodRouter, post};
use bytes::{BufMut, Bytes};
use hookbus_proto::v1::WatchRequest;
use prost::Message;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{Grpc, ServerStreamingService};
use tonic::{Response, Status};

use super::inspect::InspectService;
use super::watching::Watching;

/// The path of the call.
pub(super) const WATCH: &str = "/hookbus.v1.Inspect/Watch";

/// Answers it.
pub(super) fn watch(inspect: Arc<InspectService>) -> MethodRouter {
    post(async move |request: Request| {
        let watch = Watch(inspect);
        Grpc::new(Passing).server_streaming(watch, request).await
    })
}

struct Watch(Arc<InspectService>);

impl ServerStreamingService<WatchRequest> for Watch {
    type Response = Bytes;
    type ResponseStream = Watching;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Watching>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<WatchRequest>) -> Self::Future {
        let inspect = Arc::clone(&self.0);
        Box::pin(async move {
            inspect
                .watched(request.into_inner())
                .await
                .map(Response::new)
        })
    }
}

struct Passing;

impl Codec for Passing {
    type Encode = Bytes;
    type Decode = WatchRequest;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Passing {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, reply: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(reply);
        Ok(())
    }
}

impl Decoder for Passing {
    type Item = WatchRequest;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<WatchRequest>, Status> {
        let request = WatchRequest::decode(bytes);
        let mistaken = |error| Status::invalid_argument(format!("no WatchRequest: {error}"));
        request.map(Some).map_err(mistaken)
    }
}
