//! The edge: validates, converts, sends one message, returns. The only user of tonic and of the wire.

mod auth;
mod control;
mod convert;
mod inspect;
mod outgoing;
mod passing;
mod peer;
mod providers;
mod session;
mod watching;

use std::sync::Arc;

use hookbus_proto::v1::control_server::ControlServer;
use hookbus_proto::v1::hook_bus_server::HookBusServer;
use hookbus_proto::v1::inspect_server::InspectServer;
use hookbus_proto::v1::providers_server::ProvidersServer;
use tokio::runtime::Handle;
use tonic::service::Routes;

pub use auth::{Access, guard};
pub use convert::{Limits, encode_schedule};

use crate::bus::Hub;
use crate::inspect::Inspector;
use crate::providers::Directory;

/// Names of the services, for health.
const SERVICES: [&str; 4] = [
    "hookbus.v1.HookBus",
    "hookbus.v1.Inspect",
    "hookbus.v1.Control",
    "hookbus.v1.Providers",
];

/// Turns "serving" off, before the drain begins.
pub struct Health(tonic_health::server::HealthReporter);

impl Health {
    /// From now on the standard health service says NOT_SERVING.
    pub async fn not_serving(&self) {
        for service in SERVICES.into_iter().chain([""]) {
            self.0
                .set_service_status(service, tonic_health::ServingStatus::NotServing)
                .await;
        }
    }
}

/// All gRPC services; `read_only`: only those that look. `inspection` is the runtime on which answers for operators are made.
pub async fn routes(
    hub: Hub,
    directory: Directory,
    inspector: Arc<Inspector>,
    limits: Limits,
    inspection: Handle,
    read_only: bool,
) -> (axum::Router, Health) {
    let (reporter, health) = tonic_health::server::health_reporter();
    for service in SERVICES.into_iter().chain([""]) {
        reporter
            .set_service_status(service, tonic_health::ServingStatus::Serving)
            .await;
    }
    let described = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(hookbus_proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let valid = "the committed descriptors are valid";
    let reflection = described().build_v1().expect(valid);
    // What many tools still ask for, Python's own among them.
    let reflection_alpha = described().build_v1alpha().expect(valid);
    let frame_bytes = limits.frame_bytes;
    let inspect = inspect::InspectService::new(inspector, hub.clone(), inspection);
    let inspect = Arc::new(inspect);
    let watch = passing::watch(Arc::clone(&inspect));
    let mut routes = Routes::new(InspectServer::from_arc(inspect))
        .add_service(health)
        .add_service(reflection)
        .add_service(reflection_alpha);
    if !read_only {
        let session = session::SessionService::new(hub.clone(), limits.clone());
        let session = HookBusServer::new(session).max_decoding_message_size(frame_bytes);
        let control = ControlServer::new(control::ControlService::new(hub, limits.clone()));
        let providers = providers::ProviderService::new(directory, limits);
        let providers =
            ProvidersServer::new(providers).max_decoding_message_size(providers::FRAME_BYTES);
        routes = routes
            .add_service(session)
            .add_service(control)
            .add_service(providers);
    }
    let router = routes.into_axum_router().route(passing::WATCH, watch);
    (router, Health(reporter))
}
