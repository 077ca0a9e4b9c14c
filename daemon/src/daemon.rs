//! The wiring: the only file that knows every part. Starts them, and drains them in order.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::announce;
use crate::bus::{Hub, Record, Rules, TakenByTheBus};
use crate::config::Config;
use crate::domain::Role;
use crate::inspect::Inspector;
use crate::lifetime::Lifetime;
use crate::listen::{Connections, Listeners};
use crate::sampler::{Sampler, identity};
use crate::service::{self, Access, Limits};
use crate::snapshot::Board;
use crate::store::Live;

/// Serves until its lifetime is over, then drains within the deadline. `on_ready` is called when everything serves.
pub async fn run(
    config: Config,
    listeners: Listeners,
    lifetime: Lifetime,
    on_ready: impl FnOnce(),
) -> anyhow::Result<()> {
    let live = Live::default();
    let sampler = Sampler::start(config.sampler.clone(), live.clone())
        .context("the sampler's thread does not start")?;
    let board = Board::default();
    let tasks = TaskTracker::new();
    let rules = Rules {
        hooks: config.hooks.clone(),
        record: Record {
            every: if config.record.enabled {
                config.record.every
            } else {
                0
            },
            fields: config.record.fields.clone(),
        },
        stall_budget: config.limits.stall_budget,
        probe: config.limits.probe,
        alive: identity::alive,
        own_uid: rustix::process::geteuid().as_raw(),
        encode: service::encode_schedule,
    };
    let hub = Hub::new(rules, live.clone(), board.clone(), tasks.clone(), || {
        Box::new(TakenByTheBus)
    });
    let inspector = Arc::new(Inspector::new(
        board.clone(),
        live.clone(),
        listeners.addresses(),
    ));
    let inspection = Inspection::start().context("the inspection thread does not start")?;
    let limits = Limits {
        sessions: config.limits.sessions,
        frame_bytes: config.limits.frame_bytes,
        string_bytes: config.limits.string_bytes,
        fields: config.limits.fields,
        batch_events: config.limits.batch_events,
        in_flight_bytes: config.limits.in_flight_bytes,
        metrics: config.limits.metrics,
    };
    let (grpc, health) =
        service::routes(hub.clone(), inspector, limits, inspection.handle.clone()).await;
    let app = grpc.merge(crate::http::routes(board, live, lifetime.shutdown.clone()));
    if let Some(tcp) = config.listen.tcp
        && !tcp.ip().is_loopback()
        && !config.tokens.has(Role::Viewer)
    {
        tracing::warn!(%tcp, "whoever reaches this address may look, for auth.viewer_token_file is not set");
    }
    let access = Access {
        tokens: config.tokens.clone(),
        certified: (config.listen.tls.as_ref()).map_or(Role::Viewer, |tls| tls.files.client_role),
    };
    let app = service::guard(app, access);
    let (stop_accepting, kill) = (CancellationToken::new(), CancellationToken::new());
    let connections = Connections::default();
    let serving = crate::listen::serve(
        listeners,
        app,
        stop_accepting.clone(),
        kill.clone(),
        connections.clone(),
    );
    let serving = tokio::spawn(serving);
    on_ready();
    let idle = async {
        match lifetime.idle_exit {
            Some(so_long) => connections.none_for(so_long).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = lifetime.shutdown.cancelled() => {}
        () = idle => {
            tracing::info!("no connection for the time of --idle-exit");
            lifetime.shutdown.cancel();
        }
    }
    tracing::info!("draining");
    announce::stopping(config.notify_socket.as_deref());
    let drain = async {
        health.not_serving().await;
        stop_accepting.cancel();
        hub.shutdown().await;
        connections.none().await;
        tasks.close();
        tasks.wait().await;
    };
    tokio::select! {
        () = drain => {}
        deadline = lifetime.drain_is_over(config.drain.deadline) => tracing::warn!(
            deadline_ms = deadline.as_millis(),
            "the drain's deadline is over; connections are cut"
        ),
    }
    kill.cancel();
    serving.await.context("the listener's task failed")?;
    sampler.stop();
    inspection.stop();
    tracing::info!("ended");
    Ok(())
}

/// The runtime on which answers for operators are made, on a thread of its own.
struct Inspection {
    handle: tokio::runtime::Handle,
    stop: CancellationToken,
    thread: std::thread::JoinHandle<()>,
}

impl Inspection {
    fn start() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        let handle = runtime.handle().clone();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = std::thread::Builder::new()
            .name("inspection".to_owned())
            .spawn(move || {
                runtime.block_on(stopped.cancelled());
                runtime.shutdown_timeout(Duration::ZERO);
            })?;
        Ok(Self {
            handle,
            stop,
            thread,
        })
    }

    fn stop(self) {
        self.stop.cancel();
        if self.thread.join().is_err() {
            tracing::warn!("the inspection thread panicked");
        }
    }
}
