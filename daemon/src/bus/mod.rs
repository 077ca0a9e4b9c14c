//! The bus: one task a run owns its ranks and hooks; events in, decisions out. What the task does with a message is in
//! `run.rs`; this file is the task itself and the hub that finds it.

mod answers;
mod claims;
mod followers;
mod hub;
mod incidents;
mod keeping;
mod member;
mod messages;
mod remote;
mod roster;
mod run;
mod samples;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

pub use followers::FOLLOWED;
pub use hub::Hub;
pub use messages::{
    Asked, Attach, Fence, FenceReason, Followed, GateAnswer, GateStop, Link, Order, ToBus,
    ToTrainer, Verdict, Welcome,
};
pub use roster::{RECORD, Record};

use keeping::Keeping;

use crate::domain::{HookRequest, Rank, Schedule};
use crate::providers::Known;
use crate::snapshot::RunSnapshot;
use crate::store::journal::Saved;
use crate::store::{Live, RunView};
use run::Run;

/// How many messages wait for a run's task.
pub const INBOX: usize = 256;
/// How many answers of providers wait for a run's task.
const REPLIES: usize = 1024;
/// How many messages wait for a trainer.
pub const OUTBOX: usize = 256;
/// Readers see a change after at most this.
const PUBLISH: Duration = Duration::from_millis(100);
/// So many ranks are made anew for readers before the next message is looked at.
const AT_ONCE: usize = 8;
/// Between two shares of the ranks that are told how far they are.
const BETWEEN: Duration = Duration::from_millis(1);
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
    /// How often memory goes to the journal.
    pub sample_every: Duration,
    /// A schedule's bytes on the wire.
    pub encode: fn(&Schedule) -> Vec<u8>,
    /// Hooks in other processes.
    pub providers: Known,
    /// So many failures in a row of one of them switch it off.
    pub provider_failures: u32,
}

/// A run as its file has it, for who looks: nothing of it goes on. `written`: when something came from it last, if it has
/// not ended.
pub fn archived(saved: Saved, written: std::time::Instant, rules: &Rules) -> RunSnapshot {
    let heard = saved.attempt.ended.unwrap_or(written);
    let hooks = saved.hooks.iter().map(|kept| kept.seen.clone());
    let hooks = hooks.collect();
    let rules = Rules {
        hooks: Vec::new(),
        ..rules.clone()
    };
    let mut run = Run::restore(saved, Arc::new(rules), heard).snapshot();
    for rank in run.ranks.values_mut() {
        Arc::make_mut(rank).last_heard = heard;
    }
    RunSnapshot { hooks, ..run }
}

/// The task of one run. Ends when its inbox closes.
async fn task(
    rules: Arc<Rules>,
    live: Live,
    mut keeping: Keeping,
    mut inbox: mpsc::Receiver<ToBus>,
    publish: watch::Sender<Arc<RunSnapshot>>,
    mut run: Run,
) {
    let alive = rules.alive;
    let mut dirty = false;
    let mut published = Instant::now();
    let mut sampled: Option<Instant> = None;
    let view = RunView::new(live.clone(), run.id().clone());
    let (replies, mut answers) = mpsc::channel(REPLIES);
    let mut known = rules.providers.clone();
    run.hear(replies);
    look_at_providers(&mut run, &mut known);
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // What is done for every rank is done for a few at a time, and whoever asks in between is answered.
    let mut unheard: Option<Instant> = None;
    let mut refreshing: Option<Rank> = None;
    loop {
        let wake = run.next_deadline().map(Instant::from_std);
        let due = keeping.due().map(Instant::from_std);
        let (mut force, mut ticked) = (false, false);
        tokio::select! {
            biased;
            // No more of them come than calls were made.
            Some(reply) = answers.recv() => {
                run.answer(reply, Instant::now().into_std());
                dirty = true;
            }
            message = inbox.recv() => {
                let Some(message) = message else { break };
                force = !matches!(message, ToBus::Batch(..) | ToBus::Heartbeat(..));
                dirty = true;
                handle(&mut run, message, &view, &mut keeping, alive);
            }
            () = changed(&mut known) => {
                look_at_providers(&mut run, &mut known);
                run.complete_calls(&view, Instant::now().into_std());
                force = true;
            }
            () = keeping.changed() => {
                keeping.report(&mut run, Instant::now().into_std());
                dirty = true;
            }
            _ = tick.tick() => {
                run.complete_calls(&view, Instant::now().into_std());
                run.tick(Instant::now().into_std(), alive);
                ticked = true;
                let now = Instant::now();
                run.look_at_memory(&view, now.into_std());
                run.note_positions(now.into_std());
                if sampled.is_none_or(|at| now - at >= rules.sample_every)
                    && run.sample(&live, now.into_std())
                {
                    sampled = Some(now);
                }
            }
            () = sleep_until(due) => {}
            () = sleep_until(wake) => run.tick(Instant::now().into_std(), alive),
            () = sleep_until(unheard), if unheard.is_some() => {}
            () = tokio::task::yield_now(), if refreshing.is_some() => {}
            () = tokio::time::sleep_until(published + PUBLISH), if dirty && refreshing.is_none() => {}
        }
        keeping.keep(&mut run, force || ticked, Instant::now().into_std());
        if unheard.is_none_or(|at| at <= Instant::now()) {
            unheard = run.acknowledge().then(|| Instant::now() + BETWEEN);
        }
        if force || ticked {
            run.track(&live, Instant::now().into_std());
        }
        if force || ticked || (dirty && published.elapsed() >= PUBLISH && refreshing.is_none()) {
            refreshing = Some(Rank(0));
            dirty = false;
        }
        let Some(from) = refreshing else { continue };
        refreshing = run.refresh(from, if force { usize::MAX } else { AT_ONCE });
        if refreshing.is_none() {
            run.look_at_new(&view, Instant::now().into_std());
            publish.send_replace(Arc::new(run.shown()));
            published = Instant::now();
        }
    }
    keeping.hand_over(&mut run, Instant::now().into_std());
    tracing::debug!(run = %run.id(), "the run's task ends");
}

fn handle(
    run: &mut Run,
    message: ToBus,
    view: &RunView,
    keeping: &mut Keeping,
    alive: fn((u32, u64)) -> bool,
) {
    let now = Instant::now().into_std();
    match message {
        ToBus::Attach(attach) => run.attach(*attach, now, alive),
        ToBus::Batch(link, first_seq, batch) => run.batch(link, first_seq, batch, view, now),
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
        ToBus::Follow(out, events, from) => {
            run.follow(out, events);
            // Whoever asked may have left.
            let _ = from.send((now, keeping.flush(run, now)));
        }
        ToBus::Shutdown => run.shutdown(),
    }
}

fn look_at_providers(run: &mut Run, known: &mut Known) {
    let list = Arc::clone(&known.borrow_and_update());
    run.look_at_providers(&list, Instant::now().into_std());
}

/// Waits for other providers. Cancel safe.
async fn changed(known: &mut Known) {
    if known.changed().await.is_err() {
        // The daemon ends, or has none: they stay as they are.
        std::future::pending().await
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
