//! The plain half of the listener: /healthz, /readyz, /metrics.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::metrics;
use crate::snapshot::Board;
use crate::store::Live;
use crate::store::journal::Counted;

/// Healthy: it answers. Ready: memory was sampled, and no drain has begun. What Prometheus asks for is made on the inspection
/// runtime: with many ranks it is long, and gates are answered on this one.
pub fn routes(
    board: Board,
    live: Live,
    journal: Option<Arc<Counted>>,
    draining: CancellationToken,
    inspection: Handle,
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
                let accept = headers.get(header::ACCEPT);
                let accept = accept.and_then(|accept| accept.to_str().ok()).unwrap_or("");
                let (board, live, journal) = (board.clone(), live.clone(), journal.clone());
                let accept = accept.to_owned();
                let made = inspection.spawn(async move {
                    let journal = journal.as_ref().map(|counted| counted.now());
                    metrics::text(&board.all(), &live, journal, &accept, Instant::now())
                });
                let failed = |why: String| (StatusCode::INTERNAL_SERVER_ERROR, why).into_response();
                match made.await {
                    Ok(Ok((kind, text))) => ([(header::CONTENT_TYPE, kind)], text).into_response(),
                    Ok(Err(error)) => failed(error.to_string()),
                    Err(error) => failed(format!("the answer could not be made: {error}")),
                }
            }),
        )
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use axum::body::Body;
    use axum::http::Request;
    use tokio::sync::oneshot;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn a_scrape_that_takes_long_holds_up_nothing_here() {
        let inspection = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        let app = routes(
            Board::default(),
            Live::default(),
            None,
            CancellationToken::new(),
            inspection.handle().clone(),
        );
        let ask = |path| {
            let request = Request::get(path).body(Body::empty()).expect("a request");
            app.clone().oneshot(request)
        };
        let mut scrape = pin!(ask("/metrics"));
        let healthy = tokio::select! {
            biased;
            _ = &mut scrape => panic!("nobody runs what was given to that runtime yet"),
            reply = ask("/healthz") => reply.expect("an answer"),
        };
        assert_eq!(healthy.status(), StatusCode::OK);
        let (done, over) = oneshot::channel::<()>();
        let runs = std::thread::spawn(move || inspection.block_on(over));
        let scraped = scrape.await.expect("an answer");
        assert_eq!(scraped.status(), StatusCode::OK);
        drop(done);
        assert!(runs.join().is_ok());
    }
}
