//! One hook of a provider in one run: its calls that wait for answers, and what it counts as that no answer comes. No I/O;
//! the clock is an argument.

mod kept;

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::domain::{Position, Rank, StateText, Subscription};
use crate::providers::{Call, OUTSTANDING, Offered};
use crate::store::View;

/// An observing hook that has been called and says nothing for so long has failed.
pub(in crate::bus) const SILENT: Duration = Duration::from_secs(10);

/// A rank that was not looked at for so long since its hook's provider came back is not going to be.
const UNSAMPLED: Duration = Duration::from_secs(2);

/// Calls of another daemon, which did not write their memory down.
#[derive(Debug)]
struct Incomplete {
    /// The id of the last one.
    last: u64,
    /// Since when their provider is here.
    since: Option<Instant>,
}

/// A call that waits for its answer.
#[derive(Clone, Debug)]
struct Waiting {
    call: Call,
    /// When it went out on this connection; None: it has not.
    sent: Option<Instant>,
    /// A gate waits until then.
    gate: Option<Instant>,
    /// It went on without an answer: what one decides is not looked at any more.
    late: bool,
    /// That it has failed is told already.
    told: bool,
    /// As the journal has it, once it was asked for.
    kept: OnceLock<Arc<str>>,
}

/// A call that has its answer.
pub(in crate::bus) struct Answered {
    pub(in crate::bus) call: Call,
    /// It came too late.
    pub(in crate::bus) late: bool,
    /// From the call to the answer.
    pub(in crate::bus) took: Duration,
}

/// What is told of a call that failed.
#[derive(Debug)]
pub(in crate::bus) struct Missing {
    pub(in crate::bus) id: u64,
    pub(in crate::bus) rank: Rank,
    pub(in crate::bus) point: Arc<str>,
    pub(in crate::bus) at: Position,
    pub(in crate::bus) limit: Duration,
    /// A gate had gone on without it before.
    pub(in crate::bus) gone_on: bool,
}

/// A hook of a provider.
#[derive(Debug)]
pub(in crate::bus) struct Remote {
    /// The provider's namespace.
    pub(in crate::bus) module: String,
    /// As its provider offered it last.
    pub(in crate::bus) offered: Offered,
    /// As its last answer had it.
    pub(in crate::bus) state: StateText,
    /// Why it is not called now.
    pub(in crate::bus) away: Option<String>,
    /// Its gates are not in force: it came after the training had begun.
    pub(in crate::bus) ungated: bool,
    /// Failures since its last answer in time.
    pub(in crate::bus) failures: u32,
    /// Events that it has missed, as the journal has it.
    pub(in crate::bus) missed: u64,
    /// In the order of their ids; those that were sent are the first.
    calls: VecDeque<Waiting>,
    /// Those of them that a gate waits for, and until when.
    gates: Vec<(u64, Instant)>,
    sent: usize,
    /// Those that cannot go out yet.
    incomplete: Option<Incomplete>,
    /// No answer came in time: its gates do not wait until one comes.
    hung: bool,
    /// When it last got on.
    since: Option<Instant>,
}

impl Remote {
    pub(in crate::bus) fn new(module: &str, offered: Offered) -> Self {
        Self {
            module: module.to_owned(),
            offered,
            state: StateText::default(),
            away: None,
            ungated: false,
            failures: 0,
            missed: 0,
            calls: VecDeque::new(),
            gates: Vec::new(),
            sent: 0,
            incomplete: None,
            hung: false,
            since: None,
        }
    }

    /// What it wants to see in this attempt.
    pub(in crate::bus) fn subscriptions(&self) -> Vec<Subscription> {
        let gate = |wish: &&Subscription| wish.way == crate::domain::Way::Gate;
        let wishes = self.offered.subscriptions.iter();
        wishes
            .filter(|wish| !(self.ungated && gate(wish)))
            .cloned()
            .collect()
    }

    /// Whether one more call may wait.
    pub(in crate::bus) fn has_room(&self) -> bool {
        self.calls.len() < OUTSTANDING
    }

    /// Whether a gate may wait for it.
    pub(in crate::bus) fn answers_gates(&self) -> bool {
        self.away.is_none() && !self.hung && self.has_room()
    }

    /// One more call. `gate`: until when a gate waits; one that does not wait for it has gone on already.
    pub(in crate::bus) fn call(&mut self, call: Call, gate: Option<Instant>) {
        let late = call.gate && gate.is_none();
        self.gates.extend(gate.map(|due| (call.id, due)));
        self.calls.push_back(Waiting {
            call,
            sent: None,
            gate,
            late,
            told: false,
            kept: OnceLock::new(),
        });
    }

    /// The next call to send.
    pub(in crate::bus) fn unsent(&self) -> Option<&Call> {
        let next = self.calls.get(self.sent).map(|waiting| &waiting.call);
        next.filter(|call| {
            let incomplete = self.incomplete.as_ref();
            incomplete.is_none_or(|calls| call.id > calls.last)
        })
    }

    /// Gives calls of another daemon their memory, as it is now, once their provider is here and it was looked at. Whether
    /// that was done.
    pub(in crate::bus) fn complete(&mut self, view: &dyn View, now: Instant) -> bool {
        let Some(incomplete) = self.incomplete.as_mut().filter(|_| self.away.is_none()) else {
            return false;
        };
        let last = incomplete.last;
        let since = *incomplete.since.get_or_insert(now);
        let mut waiting = self.calls.iter().map(|waiting| &waiting.call);
        let is_known = waiting.all(|call| call.id > last || view.has_sampled(call.rank));
        if !is_known && now.saturating_duration_since(since) < UNSAMPLED {
            return false;
        }
        self.complete_now(view, now);
        true
    }

    /// The same, whatever is known.
    pub(in crate::bus) fn complete_now(&mut self, view: &dyn View, now: Instant) {
        let Some(Incomplete { last, .. }) = self.incomplete.take() else {
            return;
        };
        let calls = self.calls.iter_mut().map(|waiting| &mut waiting.call);
        for call in calls.filter(|call| call.id <= last) {
            call.memory = view.numbers(call.rank, now);
        }
    }

    /// It went out.
    pub(in crate::bus) fn was_sent(&mut self, now: Instant) {
        if let Some(waiting) = self.calls.get_mut(self.sent) {
            waiting.sent = Some(now);
            self.sent += 1;
        }
    }

    /// Whether a call waits.
    pub(in crate::bus) fn has(&self, id: u64) -> bool {
        self.place(id).is_some()
    }

    /// Calls that wait.
    pub(in crate::bus) fn waiting(&self) -> usize {
        self.calls.len()
    }

    /// The lowest id of a call that waits.
    pub(in crate::bus) fn first_call(&self) -> Option<u64> {
        self.calls.front().map(|waiting| waiting.call.id)
    }

    /// The earliest position of a call that waits.
    pub(in crate::bus) fn earliest(&self) -> Option<Position> {
        self.calls.iter().map(|waiting| waiting.call.at).min()
    }

    /// An answer came.
    pub(in crate::bus) fn answered(&mut self, id: u64, at: Instant) -> Option<Answered> {
        let place = self.place(id).filter(|place| *place < self.sent)?;
        let waiting = self.calls.remove(place)?;
        self.gates.retain(|(gate, _)| *gate != id);
        self.sent -= 1;
        self.hung = false;
        self.since = Some(at);
        let sent = waiting.sent.unwrap_or(at);
        Some(Answered {
            late: waiting.late || waiting.gate.is_some_and(|due| at > due),
            call: waiting.call,
            took: at.saturating_duration_since(sent),
        })
    }

    /// When a call that waits is late.
    pub(in crate::bus) fn due(&self) -> Option<Instant> {
        let gates = self.gates.iter().map(|(_, due)| *due);
        self.silent_at().into_iter().chain(gates).min()
    }

    /// Calls that are late from now on.
    pub(in crate::bus) fn overdue(&mut self, now: Instant) -> Vec<Missing> {
        let mut late: Vec<u64> = Vec::new();
        if self.silent_at().is_some_and(|at| at <= now) {
            late.extend(self.oldest().map(|waiting| waiting.call.id));
            self.since = Some(now);
        }
        let gates = self.gates.extract_if(.., |(_, due)| *due <= now);
        late.extend(gates.map(|(id, _)| id));
        let mut missing = Vec::new();
        for id in late {
            if let Some(place) = self.place(id) {
                missing.push(of(&self.calls[place]));
                self.calls[place].late = true;
                self.calls[place].told = true;
                self.hung = true;
            }
        }
        missing
    }

    /// Its connection is gone: everything is to be sent again. Returns the calls that it went with, and the gates that do
    /// not wait any longer.
    pub(in crate::bus) fn unlinked(&mut self) -> (Vec<Missing>, Vec<Missing>) {
        let died = self.calls.iter().take(self.sent).map(of).collect();
        let mut gates = Vec::new();
        for (id, _) in std::mem::take(&mut self.gates) {
            if let Some(place) = self.place(id) {
                gates.push(of(&self.calls[place]));
            }
        }
        for waiting in &mut self.calls {
            // It is another try; who waited at a gate has gone on.
            waiting.sent = None;
            waiting.gate = None;
            waiting.told = false;
            waiting.late = waiting.call.gate;
        }
        self.sent = 0;
        self.hung = false;
        self.since = None;
        (died, gates)
    }

    /// It is asked nothing any more. Returns the gates that do not wait any longer.
    pub(in crate::bus) fn give_up(&mut self) -> Vec<Missing> {
        let (_, gates) = self.unlinked();
        self.calls.clear();
        gates
    }

    fn place(&self, id: u64) -> Option<usize> {
        let by_id = |waiting: &Waiting| waiting.call.id.cmp(&id);
        self.calls.binary_search_by(by_id).ok()
    }

    /// The oldest call that went out and that no gate waits for.
    fn oldest(&self) -> Option<&Waiting> {
        let mut sent = self.calls.iter().take(self.sent);
        sent.find(|waiting| !waiting.told && waiting.gate.is_none())
    }

    /// When that has waited too long: a hook that gets on is only slow.
    fn silent_at(&self) -> Option<Instant> {
        Some(self.since.max(self.oldest()?.sent)? + SILENT)
    }
}

fn of(waiting: &Waiting) -> Missing {
    Missing {
        id: waiting.call.id,
        rank: waiting.call.rank,
        point: Arc::clone(&waiting.call.point),
        at: waiting.call.at,
        limit: if waiting.gate.is_some() {
            waiting.call.deadline
        } else {
            SILENT
        },
        gone_on: waiting.late,
    }
}
