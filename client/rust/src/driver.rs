//! One session on the client's own thread: connects, flushes, sends, receives, reconnects for ever. The training thread
//! never waits for any of it but in a gate.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use hookbus_proto::v1::{self as wire, client_frame::Frame, server_frame};
use prost::Message;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::codec::RawCodec;
use crate::connect::{connect_with, words};
use crate::filling::Filling;
use crate::hot::SPARES;
use crate::identity;
use crate::own_memory::OwnMemory;
use crate::ranks::{Standing, asked};
use crate::retained::Retained;
use crate::schedules::Assembly;
use crate::shared::{Shared, Stage, lock};

const FLUSH: Duration = Duration::from_millis(20);
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Silent for so long, the flusher parks, and the next event wakes it.
const PARK_AFTER: Duration = Duration::from_secs(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// After a goodbye, at most this for the last acknowledgements.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Until a daemon says its own.
const LIMITS: wire::Limits = wire::Limits {
    frame_bytes: 1 << 20,
    string_bytes: 4096,
    fields: 256,
    batch_events: 8192,
    in_flight_bytes: 4 << 20,
    metrics: 1024,
};
const PATH: &str = "/hookbus.v1.HookBus/Session";

/// An open stream.
struct Link {
    out: mpsc::Sender<Bytes>,
    frames: Streaming<wire::ServerFrame>,
}

pub(crate) struct Driver {
    shared: Arc<Shared>,
    session: String,
    retained: Retained,
    /// Batches taken over, and their memory for the next ones: kept, so that a flush makes none.
    taken: Vec<Filling>,
    spares: Vec<Filling>,
    link: Option<Link>,
    connecting: Option<JoinHandle<Result<(Link, server_frame::Frame), String>>>,
    retry_at: Instant,
    backoff: Duration,
    limits: wire::Limits,
    quiet_since: Instant,
    holes_changed: bool,
    had_plan: bool,
    said_bye: Option<Instant>,
    last_points: u64,
    moved_at: Instant,
    fenced_as: String,
    assembly: Assembly,
    /// Why the description was not sent; empty: it was.
    unfit_for: String,
    /// The last desired state of this attempt.
    last_state: wire::State,
    /// Where the daemon cannot see this process.
    own_memory: Option<OwnMemory>,
}

fn encode(frame: Frame) -> Bytes {
    wire::ClientFrame { frame: Some(frame) }
        .encode_to_vec()
        .into()
}

impl Driver {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let now = Instant::now();
        Self {
            retained: Retained::new(shared.options.buffer_bytes),
            shared,
            session: identity::nonce(),
            taken: Vec::new(),
            spares: vec![Filling::default()],
            link: None,
            connecting: None,
            retry_at: now,
            backoff: BACKOFF.0,
            limits: LIMITS,
            quiet_since: now,
            holes_changed: false,
            had_plan: false,
            said_bye: None,
            last_points: 0,
            moved_at: now,
            fenced_as: String::new(),
            assembly: Assembly::default(),
            unfit_for: String::new(),
            last_state: wire::State::default(),
            own_memory: None,
        }
    }

    /// Runs until the session is closed or not wanted.
    pub(crate) async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if shared.hurry.swap(false, Ordering::Relaxed) {
                self.retry_at = Instant::now();
            }
            if self.link.is_none() && self.connecting.is_none() && Instant::now() >= self.retry_at {
                self.begin_connecting();
            }
            let parked = shared.parked.load(Ordering::SeqCst);
            let flush_at = Instant::now() + FLUSH;
            tokio::select! {
                biased;
                frame = next_frame(&mut self.link) => self.received(frame),
                opened = opened(&mut self.connecting) => self.opened(opened),
                () = shared.wake.notified() => { shared.parked.store(false, Ordering::SeqCst); }
                _ = heartbeat.tick() => self.heartbeat(),
                () = tokio::time::sleep_until(flush_at), if !parked => {}
                () = tokio::time::sleep_until(self.retry_at), if self.link.is_none() && self.connecting.is_none() => {}
            }
            if lock(&shared.status).off {
                break;
            }
            self.flush();
            self.send();
            if self.is_done() {
                break;
            }
        }
        shared.update(|status| {
            status.connected = false;
            if !matches!(status.stage, Stage::Fenced(_)) {
                status.stage = Stage::Closed;
            }
        });
    }

    fn begin_connecting(&mut self) {
        let Some(address) = self.shared.options.address.clone() else {
            self.retry_at = Instant::now() + Duration::from_secs(3600);
            return;
        };
        let access = self.shared.options.access.clone();
        let hello = self.hello();
        self.connecting = Some(tokio::spawn(async move {
            let channel = connect_with(&address, &access, CONNECT_TIMEOUT)
                .await
                .map_err(|error| error.to_string())?;
            let mut grpc = tonic::client::Grpc::new(channel);
            grpc.ready().await.map_err(|error| error.to_string())?;
            let (out, frames) = mpsc::channel(64);
            out.try_send(hello).map_err(|error| error.to_string())?;
            let request = tonic::Request::new(ReceiverStream::new(frames));
            let path = http::uri::PathAndQuery::from_static(PATH);
            let opening = async {
                let mut frames = grpc.streaming(request, path, RawCodec).await?.into_inner();
                let first = frames.message().await?;
                Ok::<_, tonic::Status>((frames, first))
            };
            let opening = tokio::time::timeout(CONNECT_TIMEOUT, opening).await;
            let (frames, first) = opening
                .map_err(|_| {
                    format!("{address} took the connection but sent no Welcome within 5 s")
                })?
                .map_err(|status| format!("{address} refused the session: {}", words(&status)))?;
            let first = first
                .and_then(|frame| frame.frame)
                .ok_or_else(|| format!("{address} ended the session without a word"))?;
            Ok((Link { out, frames }, first))
        }));
    }

    fn hello(&self) -> Bytes {
        let options = &self.shared.options;
        // /proc is read before the lock is taken: the training thread never waits for it.
        let (node, process) = (identity::node(), identity::wire_process(&options.process));
        let capabilities = lock(&self.shared.capabilities).iter().cloned().collect();
        let mut applied = lock(&self.shared.inbox).applied();
        let steered = lock(&self.shared.steered);
        applied.extend(steered.installed());
        applied.extend(steered.in_force());
        drop(steered);
        let of_job = lock(&self.shared.job_state).clone();
        let state = of_job.unwrap_or_else(|| self.last_state.clone());
        let state = (state.generation > 0).then_some(state);
        let hot = lock(&self.shared.hot);
        let identity = &options.identity;
        encode(Frame::Hello(wire::Hello {
            protocol: hookbus_proto::PROTOCOL,
            run: identity.run.clone(),
            launch: identity.launch.clone(),
            attempt: identity.attempt,
            rank: identity.rank,
            world_size: identity.world_size,
            local_rank: identity.local_rank,
            node,
            process: Some(process),
            session: self.session.clone(),
            points: hot.points.clone(),
            metrics: hot.metrics.clone(),
            capabilities,
            next_seq: self.retained.lowest(hot.next_unflushed()),
            applied,
            state,
            hooks: options.hooks.clone(),
            client: options.client.clone(),
        }))
    }

    fn opened(&mut self, opened: Result<(Link, server_frame::Frame), String>) {
        self.connecting = None;
        match opened {
            Ok((link, server_frame::Frame::Welcome(welcome))) => {
                self.link = Some(link);
                self.welcome(welcome);
            }
            Ok((_, server_frame::Frame::Fence(fence))) => self.fenced(&fence),
            Ok(_) => self.failed("the daemon's first frame is no Welcome".to_owned()),
            Err(text) => self.failed(text),
        }
    }

    fn failed(&mut self, text: String) {
        self.shared.update(|status| {
            status.connected = false;
            if status.stage != Stage::Attached {
                status.stage = Stage::Failed(text);
            }
        });
        self.back_off();
    }

    fn back_off(&mut self) {
        // Jitter without a random crate: ranks differ in their pids and in the nanosecond.
        let spread =
            u64::from(std::process::id()) ^ lock(&self.shared.hot).elapsed().as_nanos() as u64;
        let jitter = self.backoff.mul_f64((spread % 1000) as f64 / 2000.0);
        self.retry_at = Instant::now() + self.backoff + jitter;
        self.backoff = (self.backoff * 2).min(BACKOFF.1);
    }

    fn welcome(&mut self, welcome: wire::Welcome) {
        if welcome.own_memory {
            self.own_memory.get_or_insert_with(OwnMemory::new);
        } else {
            self.own_memory = None;
        }
        let shared = Arc::clone(&self.shared);
        self.backoff = BACKOFF.0;
        self.fenced_as.clear();
        if welcome.verdict() == wire::Verdict::Lost {
            // Its number is only where this client said that it goes on: it settles nothing that was let go.
            self.retained.judge(0);
        } else {
            lock(&shared.inbox).settle(welcome.ack);
        }
        self.retained.settle(welcome.ack);
        self.retained.judge(welcome.taken.max(welcome.ack));
        self.retained.rewind();
        self.holes_changed = !self.retained.holes().is_empty();
        lock(&shared.inbox).rewind();
        shared.facts_changed.store(true, Ordering::Relaxed);
        shared.description_changed.store(true, Ordering::Relaxed);
        if let Some(limits) = welcome.limits {
            lock(&shared.hot).batch_events = u64::from(limits.batch_events).clamp(1, 4096);
            self.limits = limits;
        }
        let verdict = match welcome.verdict() {
            wire::Verdict::Resumed => "resumed",
            wire::Verdict::Lost => "lost",
            wire::Verdict::New | wire::Verdict::Unspecified => "new",
        };
        let plan = welcome.plan.unwrap_or_default();
        // Without a plan when its job's ranks agreed there are no gates in this attempt.
        let leads = lock(&shared.ranks).standing == Standing::Leads;
        let begun = shared.training.load(Ordering::Relaxed) || leads;
        let late = !self.had_plan && begun;
        if late {
            let compiled = crate::plan::Compiled::new(&plan, true);
            let gated = compiled.gated_hooks();
            if !gated.is_empty() {
                let hooks = gated.join(", ");
                shared.warn(format!(
                    "the daemon answered only after training had begun: {hooks} cannot stop this attempt; it records and samples, and an operator can steer"
                ));
            }
        }
        let gates = self.had_plan || !late;
        self.had_plan |= gates;
        shared.install(plan, gates);
        if let Some(state) = welcome.state {
            self.state(state);
        }
        shared.update(|status| {
            status.stage = Stage::Attached;
            status.connected = true;
            status.verdict = verdict.to_owned();
            status.run_id = welcome.run_id;
            status.attempt = welcome.attempt;
            status.refused = welcome
                .refused
                .into_iter()
                .map(|refusal| (refusal.what, refusal.reason))
                .collect();
            status.acked = self.retained.settled();
        });
        shared.beat.store(true, Ordering::Relaxed);
    }

    fn fenced(&mut self, fence: &wire::Fence) {
        use wire::FenceReason::{Duplicate, OverLimit, Shutdown, Unspecified};
        self.disconnected();
        let again = matches!(
            fence.reason(),
            Duplicate | OverLimit | Shutdown | Unspecified
        );
        let text = format!("the daemon ended this session: {}", fence.text);
        let attached = self.shared.attached.load(Ordering::Relaxed);
        if fence.reason() != Shutdown && self.fenced_as != fence.text {
            self.fenced_as.clone_from(&fence.text);
            let then = if again {
                "; it keeps trying"
            } else {
                "; hookbus is off for this process, the training goes on"
            };
            // The first word on it is said by `attach` itself.
            if attached {
                self.shared.warn(format!("{text}{then}"));
            }
        }
        self.shared.update(|status| {
            if status.stage != Stage::Attached || !again {
                status.stage = Stage::Fenced(text);
            }
            status.off |= !again;
        });
        if !again {
            self.shared.switch_off();
        }
    }

    fn received(&mut self, frame: Result<Option<wire::ServerFrame>, tonic::Status>) {
        let shared = Arc::clone(&self.shared);
        match frame {
            Ok(Some(wire::ServerFrame { frame: Some(frame) })) => match frame {
                server_frame::Frame::Gate(answer) => {
                    // An answer that comes too late finds nobody who waits.
                    shared.change_answers(|answers| {
                        if let Some(slot) = answers.get_mut(&answer.seq) {
                            *slot = Some(answer);
                        }
                    });
                }
                server_frame::Frame::Ack(ack) => {
                    self.retained.settle(ack.seq);
                    self.retained.take(ack.taken);
                    lock(&shared.inbox).settle(ack.seq);
                    shared.update(|status| status.acked = self.retained.settled());
                }
                server_frame::Frame::State(state) => self.state(state),
                server_frame::Frame::Command(command) => {
                    self.command(command);
                }
                server_frame::Frame::Plan(plan) => shared.install(plan, self.had_plan),
                server_frame::Frame::Schedule(chunk) => self.schedule(chunk),
                server_frame::Frame::FactsTaken(taken) => self.facts_taken(taken),
                server_frame::Frame::Fence(fence) => self.fenced(&fence),
                server_frame::Frame::Welcome(_) => {}
            },
            Ok(Some(_)) => {}
            Ok(None) => self.disconnected(),
            Err(status) => {
                if matches!(
                    status.code(),
                    tonic::Code::InvalidArgument | tonic::Code::ResourceExhausted
                ) {
                    shared.warn(format!(
                        "the daemon ended the session: {}",
                        status.message()
                    ));
                }
                self.disconnected();
            }
        }
    }

    /// The desired state, whole; an older one, or the same again, changes nothing.
    fn state(&mut self, state: wire::State) {
        if state.generation <= self.last_state.generation {
            return;
        }
        self.last_state = state.clone();
        // Locked all the while: what is newer never comes before what waited.
        let mut ranks = lock(&self.shared.ranks);
        if ranks.stages() {
            ranks.stage_state(state);
        } else if ranks.standing == Standing::Alone {
            self.shared.put_state(state);
            self.shared.look_ahead();
        } else if ranks.standing == Standing::Parted {
            drop(ranks);
            self.shared.refuse_parted(asked(&state));
        }
    }

    fn command(&mut self, command: wire::Command) {
        let shared = Arc::clone(&self.shared);
        let mut ranks = lock(&shared.ranks);
        let own = matches!(command.what, Some(wire::command::What::Log(_)));
        if own || ranks.standing == Standing::Alone {
            shared.put_command(command);
            shared.look_ahead();
        } else if ranks.stages() {
            if !ranks.stage_command(command) {
                lock(&shared.inbox).dropped += 1;
            }
        } else if ranks.standing == Standing::Parted {
            drop(ranks);
            shared.refuse_parted(vec![command.id]);
        }
    }

    fn schedule(&mut self, chunk: wire::ScheduleChunk) {
        let shared = &*self.shared;
        let mut ranks = lock(&shared.ranks);
        match self.assembly.chunk(chunk) {
            Ok(Some(complete)) if ranks.stages() => ranks.stage_schedule(complete),
            Ok(Some(complete)) if ranks.standing == Standing::Alone => {
                lock(&shared.steered).complete(complete);
            }
            Ok(_) => return,
            Err((id, why)) => {
                let reports = lock(&shared.steered).broken(&id, &why);
                shared.report(reports, "");
            }
        }
        shared.look_ahead();
    }

    fn facts_taken(&mut self, taken: wire::FactsTaken) {
        let refused: Vec<_> = taken
            .refused
            .into_iter()
            .map(|refusal| (refusal.what, refusal.reason))
            .collect();
        let shared = &*self.shared;
        // Before training begins the facts may still be incomplete: what counts is said then.
        if shared.training.load(Ordering::Relaxed) {
            let known = lock(&shared.status).refused_ahead.clone();
            for (what, why) in refused.iter().filter(|one| !known.contains(one)) {
                shared.warn(format!("hookbus: refused: {what}: {why}"));
            }
        }
        shared.update(|status| {
            status.facts_taken = status.facts_taken.max(taken.number);
            status.refused_ahead = refused;
        });
    }

    fn disconnected(&mut self) {
        self.link = None;
        self.retained.rewind();
        self.assembly.clear();
        self.shared.update(|status| status.connected = false);
        // Whoever waits for an answer on this connection need not wait longer.
        self.shared.change_answers(crate::shared::Answers::clear);
        self.back_off();
    }

    fn flush(&mut self) {
        let shared = &self.shared;
        let now = Instant::now();
        let mut hot = match shared.hot.try_lock() {
            Ok(hot) => hot,
            // The training thread is recording: it is not made to wait, the next turn comes at once.
            Err(std::sync::TryLockError::WouldBlock) => {
                shared.wake.notify_one();
                return;
            }
            Err(std::sync::TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        };
        if hot.is_empty() {
            if now.duration_since(self.quiet_since) > PARK_AFTER {
                // Under the lock: an event either is in the buffer now or finds the flusher parked.
                shared.parked.store(true, Ordering::SeqCst);
            }
            return;
        }
        let lost = hot.take_lost();
        let mut names = hot.swap(&mut self.spares, &mut self.taken);
        drop(hot);
        self.quiet_since = now;
        for batch in lost {
            self.holes_changed |= self.retained.lose(batch);
        }
        for mut filled in self.taken.drain(..) {
            self.holes_changed |= self.retained.push(filled.frame(&mut names));
            if self.spares.len() < SPARES {
                filled.clear();
                self.spares.push(filled);
            }
        }
        let (dropped, buffered_bytes) = (self.retained.dropped(), self.retained.bytes());
        let mut status = lock(&shared.status);
        status.dropped = dropped;
        status.buffered_bytes = buffered_bytes;
        status.flushes += 1;
    }

    fn send(&mut self) {
        let shared = Arc::clone(&self.shared);
        if shared.beat.swap(false, Ordering::Relaxed) {
            self.heartbeat();
        }
        let Some(link) = &self.link else { return };
        let out = link.out.clone();
        let put = |frame: Bytes| out.try_send(frame).is_ok();
        if shared.facts_changed.swap(false, Ordering::Relaxed)
            && let Some(facts) = lock(&shared.facts).clone()
            && !put(encode(Frame::Facts(facts)))
        {
            shared.facts_changed.store(true, Ordering::Relaxed);
        }
        if shared.description_changed.swap(false, Ordering::Relaxed) && !self.send_description(put)
        {
            // No gate overtakes what it is decided from.
            shared.description_changed.store(true, Ordering::Relaxed);
            return;
        }
        if self.holes_changed
            && put(encode(Frame::Holes(wire::Holes {
                holes: self.retained.holes().to_vec(),
            })))
        {
            self.holes_changed = false;
        }
        let in_flight_bytes = self.limits.in_flight_bytes.max(1 << 16) as usize;
        while let Some(batch) = self.retained.unsent(in_flight_bytes) {
            if !put(batch.frame.clone()) {
                break;
            }
            self.retained.mark_sent();
        }
        loop {
            let mut inbox = lock(&shared.inbox);
            let Some(result) = inbox.next_result().cloned() else {
                break;
            };
            if !put(encode(Frame::Result(result))) {
                break;
            }
            inbox.result_sent(self.retained.sent_seq());
        }
        if self.said_bye.is_none()
            && self.retained.all_sent()
            && lock(&shared.inbox).next_result().is_none()
            && let Some(bye) = lock(&shared.bye).clone()
            && lock(&shared.hot).is_empty()
            && put(encode(Frame::Bye(bye)))
        {
            self.said_bye = Some(Instant::now());
        }
    }

    /// What the trainer described, if it did. False: there is no room in the stream now.
    fn send_description(&mut self, put: impl Fn(Bytes) -> bool) -> bool {
        let fitted = lock(&self.shared.description).fitted(&self.limits);
        let Some((frame, fits)) = fitted else {
            return true;
        };
        if !put(encode(frame)) {
            return false;
        }
        let why = fits.err().unwrap_or_default();
        if !why.is_empty() && why != self.unfit_for {
            self.shared.warn(format!(
                "hookbus: what the model and its datasets are does not fit and is not sent: {why}; hooks that compare them check nothing"
            ));
        }
        self.unfit_for = why;
        true
    }

    fn heartbeat(&mut self) {
        let shared = Arc::clone(&self.shared);
        let now = Instant::now();
        let points = shared.points_reached.load(Ordering::Relaxed);
        if points != self.last_points {
            self.last_points = points;
            self.moved_at = now;
        }
        let Some(link) = &self.link else { return };
        let at = shared.counters.last();
        let last_point = shared.last_point.load(Ordering::Relaxed) as usize;
        // One lock at a time: a gate on the training thread takes hot and then the breaker.
        let (timeouts, is_open, waited) = {
            let breaker = lock(&shared.breaker);
            (breaker.timeouts(), breaker.is_open(), breaker.waited())
        };
        let together = matches!(
            lock(&shared.ranks).standing,
            Standing::Leads | Standing::Follows
        );
        let dropped_texts = lock(&shared.inbox).dropped;
        let (elapsed, open_point) = {
            let hot = lock(&shared.hot);
            (
                hot.elapsed(),
                hot.points.get(last_point).cloned().unwrap_or_default(),
            )
        };
        let beat = wire::Heartbeat {
            now_ns: elapsed.as_nanos() as u64,
            points,
            position: Some(wire::Position {
                epoch: at.epoch,
                iter: at.iter,
                inner_iter: at.inner_iter,
            }),
            open_point,
            since_point_s: now.duration_since(self.moved_at).as_secs_f64(),
            since_interpreter_tick_s: None,
            dropped_events: self.retained.dropped(),
            dropped_texts,
            buffered_bytes: self.retained.bytes() as u64,
            gate_timeouts: timeouts,
            breaker_open: is_open,
            gate_wait_s: waited.as_secs_f64(),
            together,
            memory: self.own_memory.as_mut().map(|own| own.read(now)),
        };
        // A full queue is a daemon that does not read; the next heartbeat tells the same.
        let _ = link.out.try_send(encode(Frame::Heartbeat(beat)));
    }

    /// Whether a session that shall end has ended.
    fn is_done(&self) -> bool {
        if lock(&self.shared.bye).is_none() {
            return false;
        }
        match self.said_bye {
            // The daemon ends the stream when it has taken the goodbye; before that it may still be on its way.
            Some(at) => self.link.is_none() || at.elapsed() > LAST_WORDS,
            // Without a connection there is nobody to say it to.
            None => self.link.is_none() && self.connecting.is_none(),
        }
    }
}

async fn next_frame(link: &mut Option<Link>) -> Result<Option<wire::ServerFrame>, tonic::Status> {
    match link {
        Some(link) => link.frames.message().await,
        None => std::future::pending().await,
    }
}

async fn opened(
    connecting: &mut Option<JoinHandle<Result<(Link, server_frame::Frame), String>>>,
) -> Result<(Link, server_frame::Frame), String> {
    match connecting {
        Some(task) => task
            .await
            .unwrap_or_else(|error| Err(format!("the connection's task failed: {error}"))),
        None => std::future::pending().await,
    }
}
