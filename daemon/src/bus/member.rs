//! One rank as its run knows it: its session, its progress, its losses.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::messages::ToTrainer;
use crate::domain::{
    AllocatorSample, Description, Event, Facts, Heartbeat, Hello, Hole, Names, OwnMemory, Position,
    RunId, StepTimes,
};
use crate::session::{Intake, SILENCE};
use crate::snapshot::RankSnapshot;
use crate::store::journal::{BY_CLIENT, Dropped, Progress, SavedRank};
use crate::store::series::{Name, Number};
use crate::store::{Live, Said, Tracked};

/// Where a number comes from that its client sent.
const TRAINER: &str = "trainer";
/// So long what a rank leaves behind is looked at.
const LOOKED_AT: Duration = Duration::from_secs(10);
/// How many steps the shown step time is the median of, and how many waits the data wait.
const STEPS: usize = 33;

/// Ranks of a run.
pub(super) struct Member {
    pub(super) hello: Hello,
    pub(super) process: Result<(u32, u64), String>,
    pub(super) serial: u64,
    pub(super) out: Option<mpsc::Sender<ToTrainer>>,
    pub(super) intake: Intake,
    pub(super) names: Arc<Names>,
    pub(super) last_heard: Instant,
    pub(super) heartbeat: Heartbeat,
    /// When it went, with a goodbye or without.
    pub(super) left_at: Option<Instant>,
    pub(super) ended: Option<String>,
    pub(super) silent: bool,
    /// It ended on purpose.
    pub(super) said_bye: bool,
    pub(super) gates: u64,
    pub(super) position: Position,
    /// The facts with which its training begins, with their number, until they are answered.
    pub(super) waits: Option<u64>,
    /// The latest that it said, where nothing more follows.
    pub(super) facts: Option<Facts>,
    /// The latest one; hooks see it with each event.
    pub(super) description: Option<Arc<Description>>,
    point: u32,
    before_train_iter: Option<u32>,
    after_train_iter: Option<u32>,
    /// By metric: its last value, and when it came.
    last: HashMap<u32, (f64, Instant)>,
    events: u64,
    /// When the last after_train_iter was, and where.
    last_step: Option<(Duration, Position)>,
    /// Metrics that are the allocator's.
    allocators: Vec<(u32, Name)>,
    steps: VecDeque<Duration>,
    step_times: StepTimes,
    data_waits: VecDeque<Duration>,
    data_wait_times: StepTimes,
    own_rss_bytes: Option<(u64, Instant)>,
    own_memory: Option<(OwnMemory, Instant)>,
    peak_rss_bytes: Option<u64>,
    shown: Option<Arc<RankSnapshot>>,
    /// Something has changed since it was made.
    is_stale: bool,
    /// From its clock to the attempt's, in microseconds.
    pub(super) clock_us: Option<i64>,
    /// The highest number that is settled.
    pub(super) settled: u64,
    /// Events that were taken since the client was told so.
    pub(super) unsettled: u64,
    /// What a daemon before this one knew: last values, what the client dropped, what was lost here.
    last_before: BTreeMap<Arc<str>, f64>,
    point_before: Arc<str>,
    pub(super) dropped_before: BTreeMap<Arc<str>, u64>,
    lost: BTreeMap<Arc<str>, u64>,
    step_before: Option<Duration>,
    /// Its memory over time.
    tracked: Option<Tracked>,
}

impl Member {
    pub(super) fn new(
        hello: Hello,
        process: Result<(u32, u64), String>,
        serial: u64,
        out: mpsc::Sender<ToTrainer>,
        now: Instant,
    ) -> Self {
        Self::with(hello, process, serial, Some(out), now)
    }

    fn with(
        hello: Hello,
        process: Result<(u32, u64), String>,
        serial: u64,
        out: Option<mpsc::Sender<ToTrainer>>,
        now: Instant,
    ) -> Self {
        let intake = Intake::new(hello.next_seq);
        let settled = intake.settled();
        Self {
            intake,
            hello,
            process,
            serial,
            out,
            names: Arc::default(),
            last_heard: now,
            heartbeat: Heartbeat::default(),
            left_at: None,
            ended: None,
            silent: false,
            said_bye: false,
            gates: 0,
            position: Position::default(),
            waits: None,
            facts: None,
            description: None,
            point: u32::MAX,
            before_train_iter: None,
            after_train_iter: None,
            last: HashMap::new(),
            events: 0,
            last_step: None,
            allocators: Vec::new(),
            steps: VecDeque::new(),
            step_times: StepTimes::default(),
            data_waits: VecDeque::new(),
            data_wait_times: StepTimes::default(),
            own_rss_bytes: None,
            own_memory: None,
            peak_rss_bytes: None,
            shown: None,
            is_stale: false,
            clock_us: None,
            settled,
            unsettled: 0,
            last_before: BTreeMap::new(),
            point_before: Arc::from(""),
            dropped_before: BTreeMap::new(),
            lost: BTreeMap::new(),
            step_before: None,
            tracked: None,
        }
    }

    /// As another daemon wrote it down. Whether it still lives is seen from here on.
    pub(super) fn restored(saved: SavedRank, now: Instant) -> Self {
        let progress = saved.progress;
        let hello = Hello {
            run: RunId {
                name: "".into(),
                launch: "".into(),
            },
            attempt: None,
            rank: saved.rank,
            world_size: 1,
            local_rank: saved.local_rank,
            node: saved.node,
            process: saved.identity,
            session: saved.session,
            points: Vec::new(),
            capabilities: Vec::new(),
            next_seq: progress.settled + 1,
            applied: Vec::new(),
            state: None,
            hooks: Vec::new(),
            client: saved.client,
        };
        let process = saved
            .process
            .ok_or_else(|| "its process was not known to the daemon before this one".to_owned());
        Self {
            out: None,
            said_bye: saved
                .ended
                .as_ref()
                .is_some_and(|why| !why.starts_with("lost: ")),
            ended: saved.ended,
            gates: progress.gates,
            position: progress.position,
            heartbeat: Heartbeat {
                position: progress.position,
                gate_timeouts: progress.gate_timeouts,
                gate_wait: progress.gate_wait,
                ..Heartbeat::default()
            },
            events: progress.events,
            peak_rss_bytes: progress.peak_rss_bytes,
            clock_us: saved.clock_us,
            last_before: progress.last.into_iter().collect(),
            point_before: progress.point,
            dropped_before: saved.dropped,
            lost: saved.lost,
            step_before: progress.step,
            // A client that has tried for long comes back within 7.5 s.
            last_heard: now + SILENCE,
            ..Self::with(hello, process, 0, None, now)
        }
    }

    /// The session is back on another connection.
    pub(super) fn resume(
        &mut self,
        hello: Hello,
        process: Result<(u32, u64), String>,
        serial: u64,
        out: mpsc::Sender<ToTrainer>,
        now: Instant,
    ) {
        // A daemon that took it over from another one's file sees it only now.
        if process.is_ok() {
            self.process = process;
        }
        self.hello = hello;
        self.serial = serial;
        self.out = Some(out);
        self.ended = None;
        self.said_bye = false;
        self.heard(now);
    }

    /// A frame came.
    pub(super) fn heard(&mut self, now: Instant) {
        self.last_heard = now;
        self.touch();
    }

    /// Sends to the trainer. A trainer that does not read loses its connection and comes back for the state whole.
    pub(super) fn send(&mut self, message: ToTrainer) {
        let may_skip = matches!(message, ToTrainer::Ack { .. });
        if let Some(out) = &self.out
            && let Err(mpsc::error::TrySendError::Full(_)) = out.try_send(message)
            && !may_skip
        {
            tracing::warn!(rank = %self.hello.rank, "the trainer does not read its stream; closing it, it will reconnect");
            self.out = None;
        }
    }

    /// No sign of life for too long, or its process is gone.
    pub(super) fn is_gone(&self, now: Instant) -> bool {
        self.ended.is_some() || now.duration_since(self.last_heard) > SILENCE
    }

    /// Its process, or what is left of its cgroup, is to be sampled: why it was lost may be written there.
    pub(super) fn is_looked_at(&self, now: Instant) -> bool {
        let is_new = |left| now.saturating_duration_since(left) < LOOKED_AT;
        self.ended.is_none() || self.left_at.is_some_and(is_new)
    }

    /// The latest description, whole. An older one comes too late.
    pub(super) fn describe(&mut self, said: Description) {
        let is_older = |held: &Arc<Description>| said.number < held.number;
        if !self.description.as_ref().is_some_and(is_older) {
            self.description = Some(Arc::new(said));
        }
    }

    /// Its process is sampled as long as it has not ended, and a while what it leaves behind.
    pub(super) fn track(&mut self, run: &RunId, live: &Live, now: Instant) {
        let (rank, is_looked_at) = (self.hello.rank, self.is_looked_at(now));
        let tracked = self
            .tracked
            .get_or_insert_with(|| live.track(run, rank, now));
        tracked.follow(self.process.as_ref().ok().copied(), !is_looked_at);
    }

    /// Its memory over time.
    pub(super) fn tracked(&self) -> Option<&Tracked> {
        self.tracked.as_ref()
    }

    /// What the daemon itself keeps of an event.
    pub(super) fn record(&mut self, event: &Event, names: &Arc<Names>, now: Instant) {
        if !Arc::ptr_eq(&self.names, names) {
            self.names = Arc::clone(names);
            let id_of = |point: &str| {
                let at = names.points.iter().position(|name| &**name == point);
                at.map(|at| at as u32)
            };
            let metric = |name: Name| {
                let mut metrics = names.metrics.iter();
                let at = metrics.position(|metric| **metric == *name.word())?;
                Some((at as u32, name))
            };
            self.allocators = [Name::CudaAllocated, Name::CudaReserved]
                .into_iter()
                .filter_map(metric)
                .collect();
            self.before_train_iter = id_of("before_train_iter");
            self.after_train_iter = id_of("after_train_iter");
        }
        if Some(event.point) == self.before_train_iter {
            self.waited_for_data(event);
        }
        self.events += 1;
        self.position = event.position;
        if let Some(tracked) = &self.tracked {
            tracked.reach(event.position, now);
        }
        self.point = event.point;
        for (metric, value) in event.metrics.iter().zip(&event.values) {
            self.last.insert(*metric, (*value, now));
            let of_allocator = self.allocators.iter().find(|(id, _)| id == metric);
            if let Some((_, name)) = of_allocator {
                self.add(*name, *value, now);
            }
        }
        if let Some(rss) = event.rss_bytes {
            self.own_rss_bytes = Some((rss, now));
            if self.process.is_err() {
                self.add(Name::ProcessRss, rss as f64, now);
            }
            self.saw_rss(rss);
        }
        if Some(event.point) == self.after_train_iter {
            let at = event.position;
            // With a hole between, or where not each one is recorded, it is not one step.
            if let Some((before, reached)) = self.last_step
                && at.inner_iter > 0
                && (at.epoch, at.iter) == (reached.epoch, reached.iter + 1)
            {
                let step = event.at.saturating_sub(before);
                keep(&mut self.steps, step);
                self.step_times.add(step);
            }
            self.last_step = Some((event.at, at));
        }
        self.touch();
    }

    /// The trainer's client says what it sees of its own memory.
    pub(super) fn saw_own(&mut self, memory: OwnMemory, now: Instant) {
        if let Some(rss) = memory.rss_bytes {
            self.own_rss_bytes = Some((rss, now));
            self.saw_rss(rss);
        }
        let at = now.checked_sub(memory.age).unwrap_or(now);
        for (name, value, at) in [
            (Name::ProcessRss, memory.rss_bytes, now),
            (Name::ChildrenRss, memory.children_rss_bytes, at),
            (Name::CgroupCurrent, memory.cgroup_current_bytes, at),
            (Name::CgroupWorkingSet, memory.cgroup_working_set_bytes, at),
            (Name::ShmUsed, memory.shm_used_bytes, at),
        ] {
            if let Some(bytes) = value.filter(|_| self.process.is_err()) {
                self.add(name, bytes as f64, at);
            }
        }
        if let (Some(tracked), Err(why)) = (&self.tracked, &self.process) {
            tracked.say(Said {
                memory: memory.clone(),
                came: now,
                unseen: why.clone(),
            });
        }
        self.own_memory = Some((memory, now));
    }

    /// A number of its trainer's own.
    fn add(&self, name: Name, value: f64, at: Instant) {
        if let Some(tracked) = &self.tracked {
            tracked.add(&Number {
                name,
                at,
                value: Ok(value),
                source: TRAINER,
            });
        }
    }

    /// An iteration begins where the one before it has just ended: between them the loop asked for the next batch. With
    /// anything else between them (a validation, a checkpoint, a hole, an epoch's end) it is no wait for data.
    fn waited_for_data(&mut self, begins: &Event) {
        let (before, now) = (self.position, begins.position);
        let follows = Some(self.point) == self.after_train_iter
            && (now.iter, now.inner_iter) == (before.iter + 1, before.inner_iter + 1);
        if let Some((ended, _)) = self.last_step
            && follows
        {
            let wait = begins.at.saturating_sub(ended);
            keep(&mut self.data_waits, wait);
            self.data_wait_times.add(wait);
        }
    }

    /// A resident set size was read, here or there.
    pub(super) fn saw_rss(&mut self, rss_bytes: u64) {
        if self.peak_rss_bytes.is_none_or(|peak| peak < rss_bytes) {
            self.peak_rss_bytes = Some(rss_bytes);
            self.touch();
        }
    }

    /// Says what is settled and what is taken.
    pub(super) fn acknowledge(&mut self) {
        let (settled, taken) = (self.settled, self.intake.settled());
        self.send(ToTrainer::Ack { settled, taken });
    }

    /// How far it is, for the journal.
    pub(super) fn progress(&self) -> Progress {
        Progress {
            settled: self.intake.settled(),
            events: self.events,
            gates: self.gates,
            position: self.position,
            point: self.point_name(self.point),
            step: self.step(),
            peak_rss_bytes: self.peak_rss_bytes,
            gate_timeouts: self.heartbeat.gate_timeouts,
            gate_wait: self.heartbeat.gate_wait,
            last: self.last().into_iter().collect(),
        }
    }

    /// The client's holes, with names.
    pub(super) fn dropped(&self) -> Vec<Dropped> {
        let hole = |hole: &Hole| Dropped {
            first_seq: hole.first_seq,
            last_seq: hole.last_seq,
            points: hole
                .points
                .iter()
                .map(|(point, count)| (self.point_name(*point), *count))
                .collect(),
            why: BY_CLIENT,
        };
        self.intake.holes().map(hole).collect()
    }

    fn point_name(&self, id: u32) -> Arc<str> {
        let known = self.names.points.get(id as usize).cloned();
        let said = || Some(Arc::from(self.hello.points.get(id as usize)?.as_str()));
        known
            .or_else(said)
            .unwrap_or_else(|| Arc::clone(&self.point_before))
    }

    fn last(&self) -> BTreeMap<Arc<str>, f64> {
        let mut last = self.last_before.clone();
        last.extend(self.last.iter().filter_map(|(id, (value, _))| {
            Some((self.names.metrics.get(*id as usize)?.clone(), *value))
        }));
        last
    }

    /// Of this daemon's time only: when an older value came is not known.
    fn allocator(&self) -> Option<AllocatorSample> {
        let metrics = &self.names.metrics;
        let last = |name: &str| {
            let id = metrics.iter().position(|metric| &**metric == name)?;
            self.last.get(&u32::try_from(id).ok()?).copied()
        };
        AllocatorSample::of(last, self.last_heard)
    }

    fn step(&self) -> Option<Duration> {
        median(&self.steps).or(self.step_before)
    }

    /// For readers; made anew only after a change.
    pub(super) fn snapshot(&mut self) -> Arc<RankSnapshot> {
        if std::mem::take(&mut self.is_stale) {
            self.shown = None;
        }
        self.shown()
    }

    /// As it was made last.
    pub(super) fn shown(&mut self) -> Arc<RankSnapshot> {
        let shown = self.shown.take();
        let shown = shown.unwrap_or_else(|| Arc::new(self.fresh_snapshot()));
        self.shown = Some(Arc::clone(&shown));
        shown
    }

    /// The next snapshot is made anew.
    pub(super) fn touch(&mut self) {
        self.is_stale = true;
    }

    fn fresh_snapshot(&self) -> RankSnapshot {
        let mut dropped = self.dropped_before.clone();
        for (id, count) in self.intake.dropped() {
            *dropped.entry(self.point_name(id)).or_default() += count;
        }
        for (point, count) in &self.lost {
            *dropped.entry(Arc::clone(point)).or_default() += count;
        }
        RankSnapshot {
            rank: self.hello.rank,
            local_rank: self.hello.local_rank,
            node: self.hello.node.clone(),
            connected: self.out.is_some(),
            process: self.process.as_ref().ok().copied(),
            process_unknown: self.process.as_ref().err().cloned().unwrap_or_default(),
            position: self.position,
            point: self.point_name(self.point),
            last: self.last(),
            events: self.events,
            acked: self.settled,
            dropped,
            step: self.step(),
            steps: self.step_times.clone(),
            data_waits: self.data_wait_times.clone(),
            data_wait: median(&self.data_waits),
            last_heard: self.last_heard,
            heartbeat: self.heartbeat.clone(),
            own_rss_bytes: self.own_rss_bytes,
            own_memory: self.own_memory.clone(),
            allocator: self.allocator(),
            peak_rss_bytes: self.peak_rss_bytes,
            gates: self.gates,
            ended: self.ended.clone(),
        }
    }
}

/// Among the last ones.
fn keep(last: &mut VecDeque<Duration>, one: Duration) {
    if last.len() == STEPS {
        last.pop_front();
    }
    last.push_back(one);
}

/// None: of nothing.
fn median(last: &VecDeque<Duration>) -> Option<Duration> {
    let mut sorted: Vec<_> = last.iter().copied().collect();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ProcessIdentity, Rank};

    #[test]
    fn a_wait_for_data_is_from_the_end_of_an_iteration_to_the_next_one_at_once() {
        let hello = Hello {
            run: RunId {
                name: "digits".into(),
                launch: "1".into(),
            },
            attempt: None,
            rank: Rank(0),
            world_size: 1,
            local_rank: None,
            node: String::new(),
            process: ProcessIdentity::default(),
            session: String::new(),
            points: Vec::new(),
            capabilities: Vec::new(),
            next_seq: 1,
            applied: Vec::new(),
            state: None,
            hooks: Vec::new(),
            client: String::new(),
        };
        let now = Instant::now();
        let (out, _inbox) = mpsc::channel(1);
        let mut member = Member::new(hello, Err("a test".to_owned()), 1, out, now);
        let names = Arc::new(Names {
            points: [
                "before_train_iter",
                "after_train_iter",
                "after_save_checkpoint",
            ]
            .map(Arc::from)
            .into(),
            metrics: Vec::new(),
        });
        let (before, after, saved) = (0, 1, 2);
        let mut seen = |point: u32, iter: u64, inner_iter: u64, at_ms: u64| {
            let event = Event {
                point,
                position: Position {
                    epoch: iter / 100,
                    iter,
                    inner_iter,
                },
                at: Duration::from_millis(at_ms),
                ..Event::default()
            };
            member.record(&event, &names, now);
            member.snapshot().data_wait.map(|wait| wait.as_millis())
        };
        assert_eq!(
            seen(before, 0, 0, 50),
            None,
            "nothing was before the first one"
        );
        assert_eq!(seen(after, 0, 0, 60), None);
        assert_eq!(seen(before, 1, 1, 63), Some(3));
        seen(after, 1, 1, 70);
        seen(saved, 1, 1, 570);
        assert_eq!(
            seen(before, 2, 2, 571),
            Some(3),
            "saving is no wait for data"
        );
        seen(after, 2, 2, 580);
        assert_eq!(seen(before, 4, 4, 980), Some(3), "iterations are missing");
        seen(after, 4, 4, 990);
        assert_eq!(seen(before, 5, 0, 1990), Some(3), "another epoch begins");
        seen(after, 5, 0, 2000);
        assert_eq!(seen(before, 6, 1, 2009), Some(9));
    }
}
