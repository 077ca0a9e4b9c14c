//! What the training thread touches: the wishes of the plan and the buffer of encoded events. Under one lock that the
//! client's own thread takes only to swap the buffer out.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use hookbus_proto::v1 as wire;

use crate::encode::{Fields, put_event};
use crate::filling::{BATCH_BYTES, Filling, Names};
use crate::plan::{Compiled, Gate, Wanted, Wish, is_due};
use crate::ranks::{JobGate, wanted};
use crate::retained::Batch;
use crate::{MetricId, POINTS, PointId, Position};

/// From here on the client's thread is woken to flush.
pub(crate) const HIGH_WATER_BYTES: usize = 64 << 10;
/// Closed batches that wait for a starved client thread; beyond this the oldest becomes a hole.
const CLOSED: usize = 32;
/// Cleared batches at hand: as many as may be closed, so that the training thread never asks the allocator. Their pages
/// are only there once they were filled.
pub(crate) const SPARES: usize = CLOSED;
/// Names in one attempt.
pub(crate) const MOST_POINTS: usize = 256;
pub(crate) const MOST_METRICS: usize = 1024;

/// What holds at one point.
#[derive(Debug, Default)]
struct Wishes {
    wishes: Vec<(Wish, Vec<MetricId>)>,
    /// One wish for everything, always, without a gate: nothing is to be asked.
    plain: bool,
}

/// A gate that holds for an event just recorded.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Due {
    pub(crate) seq: u64,
    pub(crate) gates: Vec<Gate>,
}

#[derive(Debug)]
pub(crate) struct Hot {
    base: Instant,
    pub(crate) points: Vec<String>,
    pub(crate) metrics: Vec<String>,
    named_points: usize,
    named_metrics: usize,
    plan: Compiled,
    wishes: Vec<Wishes>,
    open: Filling,
    closed: VecDeque<Filling>,
    /// Cleared ones, so that none is made here.
    spares: Vec<Filling>,
    pub(crate) next_seq: u64,
    pub(crate) batch_events: u64,
    statm: Option<File>,
    page_bytes: u64,
    /// Batches that never got out of here, for the holes.
    lost: Vec<Batch>,
    pub(crate) missed: Missed,
}

/// Fields that due gates look at and that were not reported, each said once.
#[derive(Debug, Default)]
pub(crate) struct Missed {
    said: Vec<String>,
    new: Option<String>,
}

impl Missed {
    #[cold]
    pub(crate) fn note(&mut self, hook: &str, field: &str) {
        if self.said.iter().any(|said| said == hook) {
            return;
        }
        self.said.push(hook.to_owned());
        self.new = Some(format!(
            "hookbus: {hook} looks at {field}, and this iteration reports none: nothing is checked there; report it, or leave the hook out (said once)"
        ));
    }

    /// What is to be said.
    pub(crate) fn take(&mut self) -> Option<String> {
        self.new.take()
    }
}

impl Hot {
    pub(crate) fn new(base: Instant) -> Self {
        Self {
            base,
            points: POINTS.map(str::to_owned).to_vec(),
            metrics: Vec::new(),
            named_points: POINTS.len(),
            named_metrics: 0,
            plan: Compiled::default(),
            wishes: Vec::new(),
            open: Filling::default(),
            closed: VecDeque::with_capacity(CLOSED),
            spares: std::iter::repeat_with(Filling::default)
                .take(SPARES)
                .collect(),
            next_seq: 1,
            batch_events: 4096,
            statm: File::open("/proc/self/statm").ok(),
            page_bytes: rustix::param::page_size() as u64,
            lost: Vec::new(),
            missed: Missed::default(),
        }
    }

    /// The id of a name, given once; None beyond the limit.
    pub(crate) fn point(&mut self, name: &str) -> Option<PointId> {
        let at = self
            .points
            .iter()
            .position(|known| known == name)
            .or_else(|| {
                let fits = self.points.len() < MOST_POINTS && !name.is_empty();
                fits.then(|| {
                    self.points.push(name.to_owned());
                    let wishes = self.compile(name);
                    if !self.wishes.is_empty() {
                        self.wishes.push(wishes);
                    }
                    self.points.len() - 1
                })
            });
        at.map(|at| PointId(at as u8))
    }

    /// The id of a metric's name, given once; None beyond the limit.
    pub(crate) fn metric(&mut self, name: &str) -> Option<MetricId> {
        if let Some(at) = self.metrics.iter().position(|known| known == name) {
            return Some(MetricId(at as u16));
        }
        if self.metrics.len() >= MOST_METRICS || name.is_empty() {
            return None;
        }
        let id = MetricId(self.metrics.len() as u16);
        self.metrics.push(name.to_owned());
        for (wish, ids) in self.wishes.iter_mut().flat_map(|wishes| &mut wishes.wishes) {
            if matches!(&wish.wanted, Wanted::Named(names) if names.iter().any(|wanted| wanted == name))
            {
                ids.push(id);
            }
        }
        Some(id)
    }

    /// A new plan. Returns for each point id whether anybody wants something there.
    pub(crate) fn install(&mut self, plan: Compiled) -> Vec<bool> {
        self.plan = plan;
        self.wishes = self.points.iter().map(|name| self.compile(name)).collect();
        self.wishes
            .iter()
            .map(|wishes| !wishes.wishes.is_empty())
            .collect()
    }

    pub(crate) fn plan(&self) -> &Compiled {
        &self.plan
    }

    /// Whether anybody wants something at a point.
    pub(crate) fn wants(&self, point: PointId) -> bool {
        self.wishes
            .get(point.0 as usize)
            .is_some_and(|wishes| !wishes.wishes.is_empty())
    }

    fn compile(&self, point: &str) -> Wishes {
        let wishes: Vec<_> = self
            .plan
            .at(point)
            .into_iter()
            .map(|wish| {
                let ids = match &wish.wanted {
                    Wanted::All => Vec::new(),
                    Wanted::Named(names) => {
                        let wanted = |at: &usize| names.contains(&self.metrics[*at]);
                        (0..self.metrics.len())
                            .filter(wanted)
                            .map(|at| MetricId(at as u16))
                            .collect()
                    }
                };
                (wish, ids)
            })
            .collect();
        let plain = wishes.first().is_some_and(|(wish, _)| {
            wishes.len() == 1
                && wish.every.base() == wire::Base::Unspecified
                && wish.wanted == Wanted::All
                && !wish.rss
                && wish.gate.is_none()
        });
        Wishes { wishes, plain }
    }

    /// The field that a gate due at `at` must know the value of, even if that is dear.
    pub(crate) fn gate_field(&self, point: PointId, at: Position) -> Option<&str> {
        let wishes = self.wishes.get(point.0 as usize)?;
        let due = wishes
            .wishes
            .iter()
            .filter(|(wish, _)| is_due(&wish.every, at));
        due.filter_map(|(wish, _)| wish.gate.as_ref())
            .find_map(|gate| gate.not_finite.as_deref())
    }

    /// Whether a gate at this point compares what model and datasets are.
    pub(crate) fn wants_description(&self, point: PointId) -> bool {
        let wishes = self.wishes.get(point.0 as usize);
        wishes.is_some_and(|wishes| wishes.wishes.iter().any(|(wish, _)| wish.description))
    }

    /// Records an event if it is due for anybody; `job`: gates that its job's ranks agreed to ask. Returns its gates whose condition holds, and whether the flusher is to
    /// be woken.
    #[inline]
    pub(crate) fn record(
        &mut self,
        point: PointId,
        at: Position,
        values: &[(MetricId, f64)],
        unknown: &[(MetricId, &str)],
        job: &[JobGate],
    ) -> (Option<Due>, bool) {
        let nothing = Wishes::default();
        let wishes = match self.wishes.get(point.0 as usize) {
            Some(wishes) => wishes,
            None if job.is_empty() => return (None, false),
            None => &nothing,
        };
        let mut gates = Vec::new();
        let (mut all, mut rss, mut any) = (wishes.plain, false, wishes.plain);
        let mut named: Vec<MetricId> = Vec::new();
        if !job.is_empty() {
            any = true;
            gates.extend(job.iter().map(|job| job.gate.clone()));
            match wanted(job) {
                Wanted::All => all = true,
                Wanted::Named(names) => {
                    let ids =
                        (0..self.metrics.len()).filter(|at| names.contains(&self.metrics[*at]));
                    named.extend(ids.map(|at| MetricId(at as u16)));
                }
            }
        }
        if !wishes.plain {
            for (wish, ids) in wishes
                .wishes
                .iter()
                .filter(|(wish, _)| is_due(&wish.every, at))
            {
                if let Some(gate) = &wish.gate {
                    let field = gate.not_finite.as_deref();
                    let holds = |(id, value): &(MetricId, f64)| {
                        !value.is_finite() && Some(self.metrics[id.0 as usize].as_str()) == field
                    };
                    if let Some(field) = field
                        && !values.iter().any(holds)
                    {
                        let has = |id: MetricId| self.metrics[id.0 as usize] == field;
                        let there = values.iter().any(|(id, _)| has(*id));
                        if !there && !unknown.iter().any(|(id, _)| has(*id)) {
                            self.missed.note(&gate.hook, field);
                        }
                        continue;
                    }
                    gates.push(gate.clone());
                }
                any = true;
                rss |= wish.rss;
                match wish.wanted {
                    Wanted::All => all = true,
                    Wanted::Named(_) => named.extend_from_slice(ids),
                }
            }
        }
        if !any {
            return (None, false);
        }
        let rss_bytes = if rss { self.rss_bytes() } else { None };
        let offset_ns = self.base.elapsed().as_nanos() as u64;
        if self.open.events == 0 {
            self.open.first_seq = self.next_seq;
        }
        let before = self.open.bytes.len();
        let fields = Fields {
            point: point.0,
            at,
            offset_ns,
            values,
            unknown,
            rss_bytes,
        };
        if all {
            put_event(&mut self.open.bytes, &fields, |_| true);
        } else {
            put_event(&mut self.open.bytes, &fields, |id| named.contains(&id));
        }
        self.open.count(point);
        let seq = self.next_seq;
        self.next_seq += 1;
        let due = (!gates.is_empty()).then_some(Due { seq, gates });
        let after = self.open.bytes.len();
        let high = before < HIGH_WATER_BYTES && after >= HIGH_WATER_BYTES;
        // A gate's request must find its event in the batch that is open.
        if (after >= BATCH_BYTES || self.open.events >= self.batch_events) && due.is_none() {
            self.close_batch();
        }
        (due, high)
    }

    /// The trainer waits for the event that was recorded last. `held_on`: the ranks of a job where its condition holds.
    pub(crate) fn ask(&mut self, due: &Due, held_on: Vec<u32>) {
        let deadline = due
            .gates
            .iter()
            .map(|gate| gate.deadline)
            .max()
            .unwrap_or_default();
        self.open.gates.push(wire::GateRequest {
            seq: due.seq,
            subscribers: due.gates.iter().map(|gate| gate.hook.clone()).collect(),
            deadline_ms: u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX),
            held_on,
        });
    }

    /// Whether nothing waits to be flushed.
    pub(crate) fn is_empty(&self) -> bool {
        self.open.events == 0 && self.closed.is_empty()
    }

    /// Batches that were lost before they became frames, for the holes.
    pub(crate) fn take_lost(&mut self) -> Vec<Batch> {
        std::mem::take(&mut self.lost)
    }

    /// Moves what was recorded to `out`, and takes `spares` back; both belong to the client's thread.
    pub(crate) fn swap(&mut self, spares: &mut Vec<Filling>, out: &mut Vec<Filling>) -> Names {
        out.extend(self.closed.drain(..));
        if self.open.events > 0 {
            let fresh = self.spares.pop().unwrap_or_default();
            out.push(std::mem::replace(&mut self.open, fresh));
        }
        while self.spares.len() < SPARES
            && let Some(spare) = spares.pop()
        {
            self.spares.push(spare);
        }
        if out.is_empty() {
            return Names::default();
        }
        let names = Names {
            points: new_names(&self.points, self.named_points),
            metrics: new_names(&self.metrics, self.named_metrics),
        };
        self.named_points = self.points.len();
        self.named_metrics = self.metrics.len();
        names
    }

    fn close_batch(&mut self) {
        if self.closed.len() >= CLOSED
            && let Some(mut oldest) = self.closed.pop_front()
        {
            self.lost.push(oldest.without_frame());
            oldest.clear();
            self.spares.push(oldest);
        }
        let fresh = self.spares.pop().unwrap_or_default();
        self.closed
            .push_back(std::mem::replace(&mut self.open, fresh));
    }

    /// Field 2 of /proc/self/statm in bytes: one read.
    fn rss_bytes(&self) -> Option<u64> {
        let mut text = [0; 128];
        let read = self.statm.as_ref()?.read_at(&mut text, 0).ok()?;
        let pages = std::str::from_utf8(&text[..read])
            .ok()?
            .split_whitespace()
            .nth(1)?;
        Some(pages.parse::<u64>().ok()? * self.page_bytes)
    }

    /// The lowest number that was not swapped out yet.
    pub(crate) fn next_unflushed(&self) -> u64 {
        let oldest = self.closed.front().unwrap_or(&self.open);
        if oldest.events > 0 {
            oldest.first_seq
        } else {
            self.next_seq
        }
    }

    /// Since the session began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.base.elapsed()
    }
}

fn new_names(names: &[String], said: usize) -> Vec<wire::Name> {
    let new = names.iter().enumerate().skip(said);
    new.map(|(id, name)| wire::Name {
        id: id as u32,
        name: name.clone(),
    })
    .collect()
}
