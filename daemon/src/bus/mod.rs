//! The bus: one task a run owns its ranks and hooks; events in, decisions out. What the task does with a message is in
//! `run.rs`; this file is the task itself and the hub that finds it.

mod answers;
mod followers;
mod hub;
mod incidents;
mod member;
mod messages;
mod roster;
mod run;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

pub use followers::FOLLOWED;
pub use hub::Hub;
pub use messages::{
    Asked, Attach, Fence, FenceReason, GateAnswer, GateStop, Link, Order, ToBus, ToTrainer,
    Verdict, Welcome,
};
pub use roster::{RECORD, Record};

use crate::domain::{Batch, HookRequest, Rank, RunId, Schedule};
use crate::snapshot::RunSnapshot;
use crate::store::Live;
use run::Run;

/// How many messages wait for a run's task.
pub const INBOX: usize = 256;
/// How many messages wait for a trainer.
pub const OUTBOX: usize = 256;
/// Readers see a change after at most this.
const PUBLISH: Duration = Duration::from_millis(100);
/// How often silence is looked for.
const TICK: Duration = Duration::from_secs(1);

/// What holds for every run.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Hooks of the daemon's configuration.
    pub hooks: Vec<HookRequest>,
    /// What the daemon itself wants to see.
    pub record: Record,
    /// Share of wall time that gates may cost.
    pub stall_budget: f64,
    /// How often an open breaker probes.
    pub probe: Duration,
    /// Whether a process (pid, start ticks) lives.
    pub alive: fn((u32, u64)) -> bool,
    /// The daemon's own user.
    pub own_uid: u32,
    /// A schedule's bytes on the wire.
    pub encode: fn(&Schedule) -> Vec<u8>,
}

/// Where events are made to last. Acknowledgement means that this said yes.
pub trait Journal: Send {
    /// Takes the events of a batch from index `skip` on. True: they are settled now.
    fn append(&mut self, run: &RunId, attempt: u32, rank: Rank, batch: &Batch, skip: usize)
    -> bool;
}

/// Settled when the bus took them: they do not survive the daemon.
pub struct TakenByTheBus;

impl Journal for TakenByTheBus {
    fn append(&mut self, _: &RunId, _: u32, _: Rank, _: &Batch, _: usize) -> bool {
        true
    }
}

/// The task of one run. Ends when its inbox closes.
async fn task(
    id: RunId,
    rules: Arc<Rules>,
    live: Live,
    mut journal: Box<dyn Journal>,
    mut inbox: mpsc::Receiver<ToBus>,
    publish: watch::Sender<Arc<RunSnapshot>>,
    mut run: Run,
) {
    let alive = rules.alive;
    let mut dirty = false;
    let mut published = Instant::now();
    let mut watched = std::collections::BTreeSet::new();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let wake = run.next_deadline().map(Instant::from_std);
        let mut force = false;
        tokio::select! {
            biased;
            message = inbox.recv() => {
                let Some(message) = message else { break };
                force = !matches!(message, ToBus::Batch(..) | ToBus::Heartbeat(..));
                dirty = true;
                handle(&mut run, message, &live, journal.as_mut(), alive);
            }
            _ = tick.tick() => {
                run.tick(Instant::now().into_std(), alive);
                force = true;
            }
            () = sleep_until(wake) => run.tick(Instant::now().into_std(), alive),
            () = tokio::time::sleep_until(published + PUBLISH), if dirty => {}
        }
        watch_processes(&mut run, &live, &mut watched);
        if force || (dirty && published.elapsed() >= PUBLISH) {
            publish.send_replace(Arc::new(run.snapshot()));
            published = Instant::now();
            dirty = false;
        }
    }
    tracing::debug!(run = %id, "the run's task ends");
}

fn handle(
    run: &mut Run,
    message: ToBus,
    live: &Live,
    journal: &mut dyn Journal,
    alive: fn((u32, u64)) -> bool,
) {
    let now = Instant::now().into_std();
    match message {
        ToBus::Attach(attach) => run.attach(*attach, now, alive),
        ToBus::Batch(link, first_seq, batch) => {
            run.batch(link, first_seq, batch, live, journal, now)
        }
        ToBus::Holes(link, holes) => run.holes(link, holes, now),
        ToBus::Facts(link, number, provisional, facts) => {
            run.facts(link, number, provisional, *facts, now)
        }
        ToBus::Description(link, said) => run.description(link, *said, now),
        ToBus::Result(link, result) => run.result(link, result, now),
        ToBus::Heartbeat(link, heartbeat) => run.heartbeat(link, heartbeat, now),
        ToBus::Bye(link, reason, failed) => run.bye(link, reason, failed, now),
        ToBus::Gone(link, alive) => run.gone(link, alive, now),
        ToBus::Order(order) => run.order(*order, now),
        ToBus::Follow(out, events) => run.follow(out, events),
        ToBus::Shutdown => run.shutdown(),
    }
}

/// The sampler looks at the processes of ranks that have not ended.
fn watch_processes(
    run: &mut Run,
    live: &Live,
    watched: &mut std::collections::BTreeSet<(u32, u64)>,
) {
    let mut wanted = std::collections::BTreeSet::new();
    for member in run.members.values_mut() {
        if let Ok(process) = member.process
            && member.ended.is_none()
        {
            wanted.insert(process);
        }
    }
    if wanted != *watched {
        for (pid, start_ticks) in wanted.difference(watched) {
            live.watch(*pid, *start_ticks);
        }
        for (pid, start_ticks) in watched.difference(&wanted) {
            live.unwatch(*pid, *start_ticks);
        }
        *watched = wanted;
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
