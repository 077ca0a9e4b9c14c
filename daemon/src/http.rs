//! The plain half of the listener: /healthz, /readyz, /metrics.

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio_util::sync::CancellationToken;

use crate::metrics;
use crate::snapshot::Board;
use crate::store::Live;
use crate::store::journal::Counted;

/// Healthy: it answers. Ready: memory was sampled, and no drain has begun.
pub fn routes(
    board: Board,
    live: Live,
    journal: Option<Arc<Counted>>,
    draining: CancellationToken,
) -> Router {
    let ready = live.clone();
    Router::new()
        .route(
            "/",
            get(|| async { "hookbusd: gRPC hookbus.v1, /healthz, /readyz, /metrics\n" }),
        )
        .route("/healthz", get(|| async { "ok\n" }))
        .route(
            "/readyz",
            get(async move || {
                if draining.is_cancelled() {
                    return (StatusCode::SERVICE_UNAVAILABLE, "draining\n".to_owned());
                }
                match ready.host() {
                    Ok(_) => (StatusCode::OK, "ok\n".to_owned()),
                    Err(why) => (
                        StatusCode::SERVICE_UNAVAILABLE,
                        format!("host memory: {why}\n"),
                    ),
                }
            }),
        )
        .route(
            "/metrics",
            get(async move |headers: HeaderMap| {
                let journal = journal.as_ref().map(|counted| counted.now());
                let accept = headers.get(header::ACCEPT);
                let accept = accept.and_then(|accept| accept.to_str().ok()).unwrap_or("");
                match metrics::text(&board.all(), &live, journal, accept) {
                    Ok((kind, text)) => ([(header::CONTENT_TYPE, kind)], text).into_response(),
                    Err(error) => {
                        (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()
                    }
                }
            }),
        )
}
