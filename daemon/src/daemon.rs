//! The wiring: the only file that knows every part. Starts them, and drains them in order.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::announce;
use crate::bus::{self, Hub, Record, Rules};
use crate::config::Config;
use crate::domain::{Clock, Role};
use crate::inspect::Inspector;
use crate::lifetime::Lifetime;
use crate::listen::{Connections, Listeners};
use crate::providers::{Directory, Supervisor};
use crate::sampler::{Sampler, identity};
use crate::service::{self, Access, Limits};
use crate::snapshot::Board;
use crate::store::Live;
use crate::store::journal::{Archive, Journals, Thread};

/// So long runs are taken back before anything is served.
const TAKING_BACK: Duration = Duration::from_secs(3);
/// At most this for the last words to the disk.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How often old journals are looked for.
const RETAIN: Duration = Duration::from_secs(3600);

/// Serves until its lifetime is over, then drains within the deadline. `on_ready` is called when everything serves.
pub async fn run(
    config: Config,
    mut listeners: Listeners,
    lifetime: Lifetime,
    on_ready: impl FnOnce(),
) -> anyhow::Result<()> {
    let live = Live::default();
    let clock = Clock {
        at: Instant::now(),
        unix: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .context("the clock is before 1970")?,
    };
    let sampler = (!config.read_only)
        .then(|| Sampler::start(config.sampler.clone(), live.clone()))
        .transpose()
        .context("the sampler's thread does not start")?;
    let board = Board::default();
    let tasks = TaskTracker::new();
    let directory = directory(&config);
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
        sample_every: config.keep.sample_every,
        encode: service::encode_schedule,
        providers: directory.known(),
        provider_failures: config.failures,
    };
    let archive = archive(&config, clock, &rules)?;
    let recorded = archive.clone();
    let (journals, journal) = match archive.as_ref().filter(|_| !config.read_only) {
        Some(archive) => {
            let (journals, thread) = Journals::start(archive.settings().clone(), clock)
                .context("the journal's thread does not start")?;
            (Some(journals), Some(thread))
        }
        None => (None, None),
    };
    let counted = journals
        .as_ref()
        .map(|journals| Arc::clone(journals.counted()));
    let hub = Hub::new(rules, live.clone(), board.clone(), tasks.clone(), journals);
    if let Some(archive) = archive.filter(|_| !config.read_only) {
        let (of, back) = (archive.clone(), hub.clone());
        let taking_back = tokio::spawn(async move {
            let unfinished = tokio::task::spawn_blocking(move || of.unfinished()).await;
            for run in unfinished.unwrap_or_default() {
                back.take_back(&run).await;
            }
        });
        // A trainer that comes meanwhile has its run all the same. Many or large ones go on being read after that.
        if tokio::time::timeout(TAKING_BACK, taking_back)
            .await
            .is_err()
        {
            tracing::info!("runs are still taken back while this daemon serves already");
        }
        let retained = move || archive.retain(Instant::now());
        tokio::spawn(retain(retained, lifetime.shutdown.clone()));
    }
    let inspector = Arc::new(Inspector::new(
        board.clone(),
        live.clone(),
        clock,
        listeners.addresses(),
        recorded,
        directory.known(),
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
    let (grpc, health) = service::routes(
        hub.clone(),
        directory.clone(),
        inspector,
        limits,
        inspection.handle.clone(),
        config.read_only,
    )
    .await;
    let app = grpc.merge(crate::http::routes(
        board,
        live,
        counted,
        lifetime.shutdown.clone(),
        inspection.handle.clone(),
    ));
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
    let providers = &config.providers;
    let supervisor = match &providers.python {
        Some(python) if !config.read_only && !providers.modules.is_empty() => {
            let address = listeners.open_private(&config.listen.temporary)?;
            Some(Supervisor::start(providers, python, &address, &directory))
        }
        _ => None,
    };
    let (stop_accepting, kill) = (CancellationToken::new(), CancellationToken::new());
    let (connections, own) = (Connections::default(), Connections::default());
    let serving = crate::listen::serve(
        listeners,
        app,
        stop_accepting.clone(),
        kill.clone(),
        connections.clone(),
        own.clone(),
    );
    let serving = tokio::spawn(serving);
    if supervisor.is_some() {
        // A trainer that comes first would have a plan without their hooks.
        tokio::select! {
            () = directory.settled() => {}
            () = tokio::time::sleep(providers.start) => {}
            () = lifetime.shutdown.cancelled() => {}
            () = directory.report_awaited() => {}
        }
        directory.report();
    }
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
        directory.shutdown();
        if let Some(supervisor) = supervisor {
            supervisor.stop().await;
        }
        connections.none().await;
        own.none().await;
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
    // What the last sessions said is in their files before this ends.
    let stopping = tokio::task::spawn_blocking(move || journal.map(Thread::stop));
    if tokio::time::timeout(LAST_WORDS, stopping).await.is_err() {
        tracing::error!(
            "the disk does not answer; what was not acknowledged may be missing in the journal"
        );
    }
    if let Some(sampler) = sampler {
        sampler.stop();
    }
    inspection.stop();
    tracing::info!("ended");
    Ok(())
}

/// The providers that the configuration asks for; of what was only written down nothing is asked.
fn directory(config: &Config) -> Directory {
    let modules = config.providers.modules.iter();
    let modules = modules.filter(|_| !config.read_only);
    let asked = modules.map(|module| (module.name.clone(), module.hooks.clone()));
    let reserved = config.hooks.iter().map(|hook| {
        let whose = "a hook of the daemon's configuration".to_owned();
        (hook.name.clone(), whose)
    });
    let itself = (bus::RECORD.to_owned(), "the daemon itself".to_owned());
    Directory::new(asked.collect(), reserved.chain([itself]).collect())
}

/// Where runs are written down; None: nowhere. Errors: a directory that was said cannot be written.
fn archive(config: &Config, clock: Clock, rules: &Rules) -> anyhow::Result<Option<Archive>> {
    use std::os::unix::fs::DirBuilderExt;
    let Some(settings) = config.keep.journal.clone() else {
        return Ok(None);
    };
    let directory = settings.directory.clone();
    let made = if config.read_only {
        std::fs::read_dir(&directory).map(|_| ())
    } else {
        let made = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory);
        made.and_then(|()| {
            rustix::fs::access(&directory, rustix::fs::Access::WRITE_OK).map_err(Into::into)
        })
    };
    match made {
        Ok(()) => {}
        Err(error) if config.keep.said && !config.read_only => anyhow::bail!(
            "journal.dir {}: {error}; say a directory that can be written, or journal.enabled = false",
            directory.display()
        ),
        Err(error) if config.read_only => {
            anyhow::bail!("nothing was written down: {}: {error}", directory.display())
        }
        Err(error) => {
            tracing::warn!(directory = %directory.display(), %error, "runs are not written down and do not survive this daemon: say journal.dir, a directory that can be written");
            return Ok(None);
        }
    }
    let rules = rules.clone();
    let show = move |saved, written| bus::archived(saved, written, &rules);
    Ok(Some(Archive::new(settings, clock, Arc::new(show))))
}

/// Removes what is too old or too large, now and each hour.
async fn retain(retained: impl Fn() + Clone + Send + 'static, shutdown: CancellationToken) {
    loop {
        let retained = retained.clone();
        if tokio::task::spawn_blocking(retained).await.is_err() {
            tracing::error!("removing old journals failed");
        }
        tokio::select! {
            () = tokio::time::sleep(RETAIN) => {}
            () = shutdown.cancelled() => break,
        }
    }
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
