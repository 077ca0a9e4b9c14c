//! The providers of this daemon: those that its configuration asks for, before they are connected and after they are gone,
//! and those that attached by hand. It owns the list that runs follow; it starts no process and speaks no wire.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use super::offer::{Asked, Offer, judge};
use super::{Known, Offered, Provider, ProviderLink, Pulse, ToProvider};
use crate::domain::{HookRequest, Way};

/// Modules with a provider; bounds what somebody who attaches by hand can fill.
const MODULES: usize = 64;

/// How often it is said for whom the daemon waits.
const AWAITED: Duration = Duration::from_secs(10);

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Another one of the module is there.
    Duplicate,
    /// A newer one of the module is there.
    Superseded,
    /// It may not be here.
    Refused,
    /// It speaks another protocol.
    Version,
    /// There are too many modules.
    OverLimit,
    /// The daemon ends.
    Shutdown,
}

/// Why a connection ends, for who is at its other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turned {
    /// Which kind.
    pub end: End,
    /// For people.
    pub text: String,
}

/// All providers. Cloning gives another handle of the same list.
#[derive(Clone)]
pub struct Directory(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    known: watch::Sender<Arc<Vec<Provider>>>,
}

#[derive(Default)]
struct State {
    /// In the order in which they came first.
    entries: Vec<Entry>,
    /// (name, whose): hooks that no provider may have.
    reserved: Vec<(String, String)>,
    serials: u64,
    ending: bool,
}

/// One module.
struct Entry {
    module: String,
    /// What the configuration asks of it; None: nothing, it attached by hand.
    asked: Option<Vec<Asked>>,
    /// What the process that was started last has to show; None: anybody may come.
    ticket: Option<String>,
    place: Option<Place>,
    /// Whose process came last.
    uid: Option<u32>,
    /// It has offered its hooks once.
    offered: bool,
    /// Its process has failed once.
    failed: bool,
    hooks: Arc<Vec<Offered>>,
    refused: Arc<Vec<(String, String)>>,
    link: Result<ProviderLink, String>,
}

/// The connection of a module.
struct Place {
    serial: u64,
    ticket: Option<String>,
    end: Option<oneshot::Sender<Turned>>,
    pulse: Arc<Pulse>,
}

/// The place of one connection. Dropped: the provider is away.
pub struct Seat {
    /// Unique in this daemon.
    pub serial: u64,
    /// What the configuration asks of this module.
    pub asked: Vec<HookRequest>,
    /// The connection is to end.
    pub end: oneshot::Receiver<Turned>,
    /// Whether it answers.
    pub pulse: Arc<Pulse>,
    /// Why the provider is away once this is dropped.
    pub gone: String,
    directory: Directory,
}

impl Directory {
    /// With the modules of the configuration, which are not connected yet; `reserved`: (name, whose) of hooks that no
    /// provider may have.
    pub fn new(asked: Vec<(String, Vec<Asked>)>, reserved: Vec<(String, String)>) -> Self {
        let entries = asked.into_iter().map(|(module, asked)| {
            let away = "its provider has not come yet".to_owned();
            Entry::new(module, Some(asked), away)
        });
        let state = State {
            entries: entries.collect(),
            reserved,
            ..State::default()
        };
        let (known, _) = watch::channel(state.published());
        Self(Arc::new(Shared {
            state: Mutex::new(state),
            known,
        }))
    }

    /// The list, and its changes.
    pub fn known(&self) -> Known {
        self.0.known.subscribe()
    }

    /// A process is started for this module: only who shows this ticket has its place.
    pub fn starting(&self, module: &str, ticket: &str) {
        self.change(|state| {
            if let Some(entry) = state.entry(module) {
                entry.ticket = Some(ticket.to_owned());
            }
        });
    }

    /// The process of this module has ended, or could not be started: why.
    pub fn failed(&self, module: &str, why: &str) {
        self.change(|state| {
            if let Some(entry) = state.entry(module) {
                entry.failed = true;
                entry.link = Err(why.to_owned());
                entry.turn_out(End::Superseded, why);
            }
        });
    }

    /// For how long the module's connection has not answered, and how many calls wait for it.
    pub fn silent(&self, module: &str, now: Instant) -> Option<(Duration, usize)> {
        let mut state = self.lock();
        let place = state.entry(module)?.place.as_ref()?;
        place.pulse.silent(now)
    }

    /// The daemon stood still, and the module's process with it: its silence begins anew.
    pub fn stood_still(&self, module: &str, now: Instant) {
        let mut state = self.lock();
        if let Some(place) = state.entry(module).and_then(|entry| entry.place.as_ref()) {
            place.pulse.begin_anew(now);
        }
    }

    /// How long a hook of the module may take, where a training waits for it.
    pub fn longest_gate(&self, module: &str) -> Duration {
        let mut state = self.lock();
        let hooks = state.entry(module).map(|entry| Arc::clone(&entry.hooks));
        let hooks = hooks.iter().flat_map(|hooks| hooks.iter());
        let wishes = hooks.flat_map(|hook| &hook.subscriptions);
        let gates = wishes.filter(|wish| wish.way == Way::Gate);
        gates.map(|gate| gate.deadline).max().unwrap_or_default()
    }

    /// Waits until every module of the configuration has offered its hooks, or its process has failed.
    pub async fn settled(&self) {
        let mut known = self.known();
        let settled = |_: &Arc<Vec<Provider>>| {
            let state = self.lock();
            let mut asked = state.entries.iter().filter(|entry| entry.asked.is_some());
            asked.all(|entry| entry.offered || entry.failed)
        };
        // It fails where the sender is gone, and we have it.
        let _ = known.wait_for(settled).await;
    }

    /// Says in the log for whom the daemon waits, as long as this is polled: who started it sees that it gets on.
    pub async fn report_awaited(&self) {
        loop {
            tokio::time::sleep(AWAITED).await;
            let state = self.lock();
            let awaited = |entry: &&Entry| entry.asked.is_some() && !entry.offered && !entry.failed;
            let modules = state.entries.iter().filter(awaited);
            let modules: Vec<_> = modules.map(|entry| entry.module.as_str()).collect();
            let modules = modules.join(", ");
            tracing::warn!(
                modules,
                "still waiting for the hooks of these modules (providers.start_ms)"
            );
        }
    }

    /// Names in the log what the configuration asks for and nobody has offered so far.
    pub fn report(&self) {
        let state = self.lock();
        for entry in state.entries.iter().filter(|entry| !entry.offered) {
            for (what, why) in entry.published().refused.iter() {
                tracing::error!(
                    module = entry.module,
                    what,
                    why,
                    "a provider's hook is not there"
                );
            }
        }
    }

    /// Takes a module's place for a connection of this user's. Errors: why it may not.
    pub fn introduce(&self, module: &str, ticket: &str, uid: Option<u32>) -> Result<Seat, Turned> {
        let mut state = self.lock();
        if state.ending {
            return Err(turned(End::Shutdown, "the daemon ends"));
        }
        if state.entry(module).is_none() {
            if state.entries.len() >= MODULES {
                // Runs that know one which is gone know it without this.
                let is_here = |entry: &Entry| entry.asked.is_some() || entry.place.is_some();
                state.entries.retain(is_here);
            }
            if state.entries.len() >= MODULES {
                let text = format!("{MODULES} modules have a provider, there is room for no more");
                return Err(turned(End::OverLimit, &text));
            }
            let away = "its provider has not offered its hooks".to_owned();
            let entry = Entry::new(module.to_owned(), None, away);
            state.entries.push(entry);
        }
        state.serials += 1;
        let serial = state.serials;
        let entry = state
            .entry(module)
            .expect("it was added where it was not there");
        if let Some(wanted) = &entry.ticket
            && wanted != ticket
        {
            let text = if ticket.is_empty() {
                format!(
                    "module {module} is in the daemon's configuration, which starts its provider itself: take it out there, set providers.python = \"\", or give the module another name"
                )
            } else {
                format!(
                    "the daemon did not start this process for module {module}, or has started another one since"
                )
            };
            return Err(turned(End::Refused, &text));
        }
        let ticket = entry.ticket.clone();
        if let Some(place) = &entry.place {
            if place.ticket == ticket {
                let text = format!(
                    "module {module} has a provider that is connected: end that one, or give the module another name"
                );
                return Err(turned(End::Duplicate, &text));
            }
            entry.turn_out(End::Superseded, "its process was started anew");
        }
        entry.uid = uid;
        let (end, ended) = oneshot::channel();
        let pulse = Arc::new(Pulse::default());
        entry.place = Some(Place {
            serial,
            ticket,
            end: Some(end),
            pulse: Arc::clone(&pulse),
        });
        let asked = entry.asked.iter().flatten();
        Ok(Seat {
            serial,
            asked: asked.map(|one| one.request.clone()).collect(),
            end: ended,
            pulse,
            gone: "its provider is not connected".to_owned(),
            directory: self.clone(),
        })
    }

    /// The daemon ends: every connection is told, and nobody comes in any more.
    pub fn shutdown(&self) {
        self.change(|state| {
            state.ending = true;
            for entry in &mut state.entries {
                entry.turn_out(End::Shutdown, "the daemon ends");
            }
        });
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let changed = change(&mut state);
        // Within the lock, so that the newest list is published last.
        self.0.known.send_replace(state.published());
        changed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Takes what the provider has; from now on runs know it. Returns what of it does not hold: (what, why).
    pub fn offer(
        &self,
        offer: Offer,
        out: mpsc::Sender<ToProvider>,
    ) -> Result<Vec<(String, String)>, Turned> {
        let taken = self
            .directory
            .change(|state| state.take(self.serial, offer, out));
        taken.ok_or_else(|| turned(End::Superseded, "another provider has this module's place"))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.directory
            .change(|state| state.leave(self.serial, &self.gone));
    }
}

impl State {
    fn entry(&mut self, module: &str) -> Option<&mut Entry> {
        let mut entries = self.entries.iter_mut();
        entries.find(|entry| entry.module == module)
    }

    fn seated(&mut self, serial: u64) -> Option<usize> {
        let is_its = |place: &Place| place.serial == serial;
        let mut entries = self.entries.iter();
        entries.position(|entry| entry.place.as_ref().is_some_and(is_its))
    }

    /// None: the connection has lost its place.
    fn take(
        &mut self,
        serial: u64,
        offer: Offer,
        out: mpsc::Sender<ToProvider>,
    ) -> Option<Vec<(String, String)>> {
        let at = self.seated(serial)?;
        let judged = judge(self.entries[at].asked.as_deref(), &offer, |name| {
            self.holder(at, name)
        });
        for hook in &judged.hooks {
            self.give_way(at, &hook.request.name);
        }
        let entry = &mut self.entries[at];
        let mut refused = offer.refused;
        refused.extend(judged.refused.iter().cloned());
        for (what, why) in &refused {
            tracing::error!(
                module = entry.module,
                what,
                why,
                "a provider's hook does not hold"
            );
        }
        entry.offered = true;
        entry.hooks = Arc::new(judged.hooks);
        entry.refused = Arc::new(refused);
        entry.link = Ok(ProviderLink { serial, out });
        Some(judged.refused)
    }

    /// Who has this name, other than the module at `at`.
    fn holder(&self, at: usize, name: &str) -> Option<String> {
        let reserved = self.reserved.iter().find(|(taken, _)| taken == name);
        if let Some((_, whose)) = reserved {
            return Some(whose.clone());
        }
        let mut others = self.entries.iter().enumerate();
        let holder = others.find(|(other, entry)| *other != at && entry.holds(name));
        holder.map(|(_, entry)| format!("module {}", entry.module))
    }

    /// A hook that attached by hand and is gone leaves its name to one that is here.
    fn give_way(&mut self, at: usize, name: &str) {
        for (other, entry) in self.entries.iter_mut().enumerate() {
            if other != at && entry.hooks.iter().any(|hook| hook.request.name == name) {
                Arc::make_mut(&mut entry.hooks).retain(|hook| hook.request.name != name);
            }
        }
    }

    fn leave(&mut self, serial: u64, why: &str) {
        let Some(at) = self.seated(serial) else {
            return;
        };
        let entry = &mut self.entries[at];
        entry.place = None;
        if entry.link.is_ok() {
            entry.link = Err(why.to_owned());
        }
        if entry.asked.is_none() && entry.hooks.is_empty() {
            self.entries.remove(at);
        }
    }

    fn published(&self) -> Arc<Vec<Provider>> {
        let entries = self.entries.iter();
        let known = entries.filter(|entry| entry.offered || entry.asked.is_some());
        Arc::new(known.map(Entry::published).collect())
    }
}

impl Entry {
    fn new(module: String, asked: Option<Vec<Asked>>, away: String) -> Self {
        Self {
            module,
            asked,
            ticket: None,
            place: None,
            uid: None,
            offered: false,
            failed: false,
            hooks: Arc::default(),
            refused: Arc::default(),
            link: Err(away),
        }
    }

    /// Whether the name of a hook is its.
    fn holds(&self, name: &str) -> bool {
        let mut asked = self.asked.iter().flatten();
        let mut hooks = self.hooks.iter();
        asked.any(|one| one.request.name == name)
            || (self.place.is_some() && hooks.any(|hook| hook.request.name == name))
    }

    fn turn_out(&mut self, end: End, text: &str) {
        let place = self.place.as_mut();
        if let Some(out) = place.and_then(|place| place.end.take()) {
            // Its connection may have ended already.
            let _ = out.send(turned(end, text));
        }
    }

    fn published(&self) -> Provider {
        let refused = match &self.link {
            // What it said last holds also while it is away.
            Err(why) if !self.offered => {
                let asked = self.asked.iter().flatten();
                let names = asked.map(|one| format!("hook {}", one.request.name));
                Arc::new(names.map(|what| (what, why.clone())).collect())
            }
            _ => Arc::clone(&self.refused),
        };
        Provider {
            module: self.module.clone(),
            hooks: self.offered.then(|| Arc::clone(&self.hooks)),
            refused,
            link: self.link.clone(),
            by_hand: self.asked.is_none(),
            uid: self.uid,
        }
    }
}

fn turned(end: End, text: &str) -> Turned {
    Turned {
        end,
        text: text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
