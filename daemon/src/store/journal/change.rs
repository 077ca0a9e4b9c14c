//! What happens to a run, as its journal takes it: one [`Change`] after the other, in the order in which they happened.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::domain::{
    Command, DesiredState, Event, Facts, Hello, HookRequest, Names, Outcome, Position, Rank,
    StateText,
};
use crate::snapshot::{HookSnapshot, Phase, What};

/// One thing to write down, of one attempt.
#[derive(Clone, Debug)]
pub struct Change {
    /// Which start of the run.
    pub attempt: u32,
    /// When.
    pub at: Instant,
    /// What.
    pub kind: Kind,
}

/// What one event costs in memory, with what it carries; other changes are taken for as much, and what may be large in them
/// is counted with it.
pub(super) const ROW_BYTES: usize = 200;

/// Why a hole is one where the daemon lost it.
pub(super) const DISK: &str = "the daemon's disk took no more";

impl Change {
    /// Events become the hole that they leave; how far their rank is stays known.
    pub fn give_events_up(&mut self) {
        if let Kind::Events(events) = &mut self.kind
            && let Some(lost) = lost(events)
        {
            events.events = Vec::new();
            let progress = Events::clone(events);
            self.kind = Kind::Lost(events.rank, lost, Some(Box::new(progress)));
        }
    }

    /// What goes where there is no room: numbers of memory, and lines of the log that only tell what other rows keep.
    pub(super) fn unkept(&self) -> Option<Unkept> {
        let (samples, lines) = match &self.kind {
            Kind::Sample(_) => (1, 0),
            Kind::Log { what, .. } => match what {
                What::Event(_) | What::Decision { .. } | What::Command { .. } => (0, 1),
                What::Lifecycle(_) => (0, 1),
                What::State(_) | What::Result(_) | What::Incident(_) => return None,
            },
            Kind::Unkept(unkept) => return Some(*unkept),
            _ => return None,
        };
        Some(Unkept { samples, lines })
    }

    /// What is written whole each time, of which only the last counts: its attempt, and which hook; None: the desired state.
    pub(super) fn stands_for(&self) -> Option<(u32, Option<String>)> {
        match &self.kind {
            Kind::Hook(hook) => Some((self.attempt, Some(hook.seen.name.clone()))),
            Kind::Desired(..) => Some((self.attempt, None)),
            _ => None,
        }
    }

    /// What it costs in memory, about.
    pub(super) fn bytes(&self) -> usize {
        let more = match &self.kind {
            Kind::Hook(hook) => hook.bytes(),
            _ => 0,
        };
        ROW_BYTES * self.rows() + more
    }

    /// Rows that it makes, about.
    pub fn rows(&self) -> usize {
        match &self.kind {
            Kind::Events(events) => events.events.len().max(1),
            _ => 1,
        }
    }
}

/// What is written down.
#[derive(Clone, Debug)]
pub enum Kind {
    /// An attempt begins, or how many ranks it has is known better.
    Attempt {
        /// When its first rank attached.
        started: Instant,
        /// How many ranks there shall be.
        world_size: u32,
        /// The launcher's count that opened it.
        counted: Option<u32>,
        /// Whose it is.
        uid: Option<u32>,
    },
    /// Where the attempt is in its life.
    Phase(Phase, String),
    /// What is decided from.
    Facts(Box<Facts>),
    /// A rank is in.
    Rank(Box<Attached>),
    /// A rank has ended, or (None) is back.
    Ended(Rank, Option<String>),
    /// Events that hooks have seen.
    Events(Box<Events>),
    /// The client's holes, whole.
    Holes(Rank, Vec<Dropped>),
    /// What the daemon itself could not keep, and how far the rank was with it, if that goes with it.
    Lost(Rank, Dropped, Option<Box<Events>>),
    /// What an id is about.
    Cause {
        /// The decision's or order's id.
        id: String,
        /// Who.
        by: String,
        /// "stop", "lr" and so on.
        what: String,
        /// Why.
        reason: String,
        /// Decided from the facts, for the whole training.
        ahead: bool,
    },
    /// For who reads or follows.
    Log {
        /// None: the whole run.
        rank: Option<Rank>,
        /// Where.
        position: Position,
        /// At which point.
        point: Arc<str>,
        /// What.
        what: What,
    },
    /// A command that a rank has to answer.
    Command(Rank, Box<Command>),
    /// It has it, so it is not sent again; its answer may still come.
    Taken(Rank, String),
    /// It has answered. Nothing, where the id is no command's.
    Answered(Rank, String, Outcome),
    /// The desired state, and what else must be known to go on from it.
    Desired(Box<DesiredState>, serde_json::Value),
    /// A hook, with its state after what it has seen.
    Hook(Box<HookKept>),
    /// One number of memory.
    Sample(Box<SampleKept>),
    /// What there was no room for.
    Unkept(Unkept),
}

/// Rows that are not written, for the disk took nothing and memory is bounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unkept {
    /// Numbers of memory.
    pub samples: u64,
    /// Lines of the log.
    pub lines: u64,
}

impl Unkept {
    /// Whether there are any.
    pub(super) fn any(self) -> bool {
        self != Self::default()
    }

    /// For the log.
    pub(super) fn text(self) -> String {
        let Self { samples, lines } = self;
        format!("{DISK}: {samples} samples of memory and {lines} lines of this log are missing")
    }
}

impl std::ops::Add for Unkept {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            samples: self.samples + other.samples,
            lines: self.lines + other.lines,
        }
    }
}

/// A rank that came in.
#[derive(Clone, Debug)]
pub struct Attached {
    /// Its first words.
    pub hello: Hello,
    /// Its process as the daemon sees it.
    pub process: Option<(u32, u64)>,
    /// The last number before what it will send.
    pub settled: u64,
}

/// Events of one rank, and how far it is with them.
#[derive(Clone, Debug)]
pub struct Events {
    /// Whose.
    pub rank: Rank,
    /// Names of its ids.
    pub names: Arc<Names>,
    /// In order.
    pub events: Vec<Event>,
    /// From its clock to the attempt's, in microseconds; None: not known yet.
    pub clock_us: Option<i64>,
    /// How far it is with them.
    pub progress: Progress,
}

/// How far a rank is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// The highest number that was taken.
    pub settled: u64,
    /// Events received.
    pub events: u64,
    /// Gates answered.
    pub gates: u64,
    /// Where.
    pub position: Position,
    /// The last point.
    pub point: Arc<str>,
    /// Median of the last steps.
    pub step: Option<Duration>,
    /// The largest resident set size seen.
    pub peak_rss_bytes: Option<u64>,
    /// As the client counted them.
    pub gate_timeouts: u64,
    /// Time that the training waited in gates.
    pub gate_wait: Duration,
    /// The last value of each metric.
    pub last: Vec<(Arc<str>, f64)>,
}

/// Numbers that were generated and are in no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The first.
    pub first_seq: u64,
    /// The last, inclusive.
    pub last_seq: u64,
    /// How many of each point; "": not known which.
    pub points: Vec<(Arc<str>, u64)>,
    /// Why.
    pub why: &'static str,
}

impl Dropped {
    /// What was acknowledged to a client by a daemon that wrote elsewhere, or that it dropped itself: its own holes say.
    pub fn elsewhere(first_seq: u64, last_seq: u64) -> Self {
        Self {
            first_seq,
            last_seq,
            points: vec![("".into(), last_seq + 1 - first_seq)],
            why: super::rows::ELSEWHERE,
        }
    }
}

/// A hook as the journal keeps it. While it changes there are many of these: what is large in them they share.
#[derive(Clone, Debug)]
pub struct HookKept {
    /// Its place in the order in which hooks are called.
    pub place: usize,
    /// As people see it.
    pub seen: HookSnapshot,
    /// As it was asked for.
    pub request: HookRequest,
    /// Its own state.
    pub state: StateText,
    /// Of a provider's hook: what it wants to see, and its calls that wait for answers.
    pub provider: Option<Listing>,
}

impl HookKept {
    /// For tests: a provider's hook with so many bytes of state and calls.
    #[cfg(test)]
    pub(super) fn large(name: &str, calls: u64, bytes: usize) -> Self {
        let request = HookRequest {
            type_name: "Own".to_owned(),
            name: name.to_owned(),
            args: BTreeMap::new(),
        };
        let half = format!("\"{}\"", "x".repeat(bytes / 2));
        Self {
            place: 0,
            seen: HookSnapshot {
                name: name.to_owned(),
                type_name: "Own".to_owned(),
                origin: "provider".to_owned(),
                policy: "act".to_owned(),
                priority: 50,
                calls,
                decisions: 0,
                disabled: None,
                args: Vec::new(),
                counts: Default::default(),
                module: None,
                away: None,
            },
            request,
            state: StateText::new(&half).expect("it is JSON"),
            provider: Some(Listing::new("[".to_owned(), vec![half.into()], "]")),
        }
    }

    /// What it costs in memory, where nobody shares it.
    pub(super) fn bytes(&self) -> usize {
        let args = self.seen.args.iter();
        // As they are shown, and as they were asked for.
        let args: usize = args.map(|(key, value)| 2 * (key.len() + value.len())).sum();
        let provider = self.provider.as_ref().map_or(0, |listing| listing.bytes);
        args + self.state.as_str().len() + provider
    }
}

/// JSON with a long list in it, whose items were made once and are shared. It is whole only where it is written.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    before: String,
    items: Vec<Arc<str>>,
    after: &'static str,
    bytes: usize,
}

impl Listing {
    /// What is before the first item and after the last one, and each of them.
    pub fn new(before: String, items: Vec<Arc<str>>, after: &'static str) -> Self {
        let each = items.iter().map(|item| size_of::<Arc<str>>() + item.len());
        Self {
            bytes: before.len() + each.sum::<usize>(),
            before,
            items,
            after,
        }
    }

    /// As one text.
    pub fn whole(&self) -> String {
        let mut text = String::with_capacity(self.bytes);
        text.push_str(&self.before);
        for (at, item) in self.items.iter().enumerate() {
            text.push_str(if at == 0 { "" } else { "," });
            text.push_str(item);
        }
        text.push_str(self.after);
        text
    }
}

/// One number of memory as the journal keeps it.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleKept {
    /// Whose; None: the host's.
    pub rank: Option<Rank>,
    /// Which GPU.
    pub device: Option<String>,
    /// "process_rss_bytes".
    pub name: &'static str,
    /// The number, or why there is none.
    pub value: Result<f64, String>,
    /// Where it comes from.
    pub source: &'static str,
    /// Where the training was.
    pub position: Position,
}

/// What a batch that is given up becomes.
fn lost(events: &Events) -> Option<Dropped> {
    let (first, last) = (events.events.first()?, events.events.last()?);
    let mut points: BTreeMap<Arc<str>, u64> = BTreeMap::new();
    for event in &events.events {
        let point = Arc::clone(&events.names.points[event.point as usize]);
        *points.entry(point).or_default() += 1;
    }
    Some(Dropped {
        first_seq: first.seq,
        last_seq: last.seq,
        points: points.into_iter().collect(),
        why: DISK,
    })
}
