//! The providers of this daemon: those that its configuration asks for, before they are connected and after they are gone,
//! and those that attached by hand. It owns the list that runs follow; it starts no process and speaks no wire.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use super::offer::{Asked, Offer, judge};
use super::{Known, Offered, Provider, ProviderLink, Pulse, ToProvider};
use crate::domain::HookRequest;

/// Modules with a provider; bounds what somebody who attaches by hand can fill.
const MODULES: usize = 64;

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

    /// Takes a module's place for a connection. Errors: why it may not.
    pub fn introduce(&self, module: &str, ticket: &str) -> Result<Seat, Turned> {
        let mut state = self.lock();
        if state.ending {
            return Err(turned(End::Shutdown, "the daemon ends"));
        }
        if state.entry(module).is_none() {
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
            hooks: Arc::clone(&self.hooks),
            refused,
            link: self.link.clone(),
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
mod tests {
    use super::super::offer::tests::{asked, offering};
    use super::*;

    fn out() -> mpsc::Sender<ToProvider> {
        mpsc::channel(1).0
    }

    fn offer(names: &[&str]) -> Offer {
        Offer {
            hooks: names.iter().map(|name| offering(name, &[])).collect(),
            refused: Vec::new(),
        }
    }

    /// "module [hooks] link", and what is refused.
    fn list(directory: &Directory) -> Vec<String> {
        let known = directory.known();
        let known = known.borrow();
        let lines = known.iter().map(|provider| {
            let hooks = provider.hooks.iter();
            let hooks: Vec<_> = hooks.map(|hook| &*hook.request.name).collect();
            let link = match &provider.link {
                Ok(link) => format!("by {}", link.serial),
                Err(why) => why.clone(),
            };
            let refused = provider.refused.iter();
            let refused: String = refused
                .map(|(what, why)| format!("; {what}: {why}"))
                .collect();
            format!("{} [{}] {link}{refused}", provider.module, hooks.join(" "))
        });
        lines.collect()
    }

    fn seat(directory: &Directory, module: &str, ticket: &str) -> Seat {
        directory
            .introduce(module, ticket)
            .unwrap_or_else(|turned| panic!("{turned:?}"))
    }

    fn turned(directory: &Directory, module: &str, ticket: &str) -> (End, String) {
        let turned = directory.introduce(module, ticket).err();
        let turned = turned.expect("it may not come in");
        (turned.end, turned.text)
    }

    #[test]
    fn what_is_asked_for_is_there_before_anybody_comes_and_stays_after() {
        let directory = Directory::new(vec![("m".to_owned(), vec![asked("a")])], Vec::new());
        let away = "its provider has not come yet";
        assert_eq!(list(&directory), [format!("m [] {away}; hook a: {away}")]);
        directory.starting("m", "one");
        directory.failed("m", "it exited");
        let gone = ["m [] it exited; hook a: it exited"];
        assert_eq!(list(&directory), gone);
        directory.starting("m", "two");
        let mut seat = seat(&directory, "m", "two");
        assert_eq!(seat.asked, [asked("a").request]);
        assert_eq!(list(&directory), gone, "it has offered nothing");
        let not = seat
            .offer(offer(&["a", "b"]), out())
            .expect("it has its place");
        assert_eq!(not.len(), 1, "{not:?}");
        let more = "; hook b: the daemon's configuration does not ask for it";
        assert_eq!(list(&directory), [format!("m [a] by 1{more}")]);
        seat.gone = "its connection broke".to_owned();
        drop(seat);
        assert_eq!(
            list(&directory),
            [format!("m [a] its connection broke{more}")]
        );
    }

    #[test]
    fn only_the_process_that_was_started_last_has_the_place() {
        let directory = Directory::new(vec![("m".to_owned(), vec![asked("a")])], Vec::new());
        directory.starting("m", "one");
        for (ticket, text) in [
            ("", "which starts its provider itself"),
            ("x", "did not start"),
        ] {
            let (end, said) = turned(&directory, "m", ticket);
            assert!(end == End::Refused && said.contains(text), "{said}");
        }
        let mut first = seat(&directory, "m", "one");
        assert_eq!(turned(&directory, "m", "one").0, End::Duplicate);
        directory.starting("m", "two");
        let second = seat(&directory, "m", "two");
        let told = first.end.try_recv().expect("it is told");
        assert_eq!(told.end, End::Superseded);
        assert!(
            first.offer(offer(&["a"]), out()).is_err(),
            "its place is gone"
        );
        drop(first);
        second
            .offer(offer(&["a"]), out())
            .expect("it has its place");
        assert_eq!(list(&directory), [format!("m [a] by {}", second.serial)]);
    }

    #[test]
    fn by_hand_a_module_comes_and_one_that_offers_nothing_leaves_nothing() {
        let reserved = vec![("taken".to_owned(), "the configuration".to_owned())];
        let directory = Directory::new(Vec::new(), reserved);
        let first = seat(&directory, "m", "");
        assert_eq!(list(&directory), [""; 0]);
        let not = first
            .offer(offer(&["taken", "a"]), out())
            .expect("its place");
        assert!(
            not[0].1.contains("is taken by the configuration"),
            "{not:?}"
        );
        assert_eq!(list(&directory).len(), 1);
        drop(first);
        let again = seat(&directory, "m", "");
        again.offer(Offer::default(), out()).expect("its place");
        drop(again);
        assert_eq!(list(&directory), [""; 0]);
        let many: Vec<_> = (0..MODULES)
            .map(|at| seat(&directory, &at.to_string(), ""))
            .collect();
        assert_eq!(turned(&directory, "more", "").0, End::OverLimit);
        drop(many);
        directory.shutdown();
        assert_eq!(turned(&directory, "m", "").0, End::Shutdown);
    }

    #[test]
    fn a_connection_that_does_not_answer_is_seen() {
        let directory = Directory::new(Vec::new(), Vec::new());
        let now = Instant::now();
        assert_eq!(directory.silent("m", now), None);
        let seat = seat(&directory, "m", "");
        seat.pulse.called(1, now);
        let later = now + Duration::from_secs(7);
        assert_eq!(
            directory.silent("m", later),
            Some((Duration::from_secs(7), 1))
        );
    }

    #[tokio::test]
    async fn settled_is_when_each_module_has_offered_or_failed() {
        let both = ["m", "n"].map(|module| (module.to_owned(), vec![asked(module)]));
        let directory = Directory::new(both.to_vec(), Vec::new());
        let waiting = directory.clone();
        let settled = tokio::spawn(async move { waiting.settled().await });
        directory.failed("m", "it exited");
        tokio::task::yield_now().await;
        assert!(!settled.is_finished(), "n is on its way");
        let seat = seat(&directory, "n", "");
        seat.offer(offer(&["n"]), out()).expect("its place");
        settled.await.expect("it is settled");
    }
}
