//! Providers as one run sees them: which there are, what was said to each on its connection, and what is still to be said.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::{Position, Run, ToTrainer};
use crate::providers::{Offered, Opened, Provider, ProviderLink, Reply, ToProvider};

/// Attempts of runs, as providers hear of them.
static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// A run that is over waits so long for answers.
const LAST_ANSWERS: Duration = Duration::from_secs(10);

/// The providers of one run.
#[derive(Default)]
pub(super) struct Providers {
    /// This attempt's; None: nobody has heard of it.
    number: Option<u64>,
    last_call: u64,
    replies: Option<mpsc::Sender<Reply>>,
    each: Vec<Peer>,
    /// By module: (what, why).
    refused: Vec<(String, String, String)>,
    /// The attempt is over, and that was said.
    closed: bool,
}

struct Peer {
    module: String,
    /// None: it has said nothing since this daemon started.
    hooks: Option<Arc<Vec<Offered>>>,
    /// (what, why): what was asked of it and does not hold, in any run.
    refused: Arc<Vec<(String, String)>>,
    link: Result<ProviderLink, String>,
    by_hand: bool,
    uid: Option<u32>,
    /// It has heard of this attempt.
    opened: bool,
    /// The facts are new to it.
    has_new_facts: bool,
    /// Attempts that are over, to be said.
    closes: Vec<u64>,
}

impl Peer {
    fn serial(&self) -> Option<u64> {
        self.link.as_ref().ok().map(|link| link.serial)
    }
}

impl Providers {
    /// Another attempt begins.
    pub(super) fn next_attempt(self) -> Self {
        let number = self.number.filter(|_| !self.closed);
        let each = self.each.into_iter().map(|mut peer| {
            let was_opened = std::mem::take(&mut peer.opened);
            peer.closes.extend(number.filter(|_| was_opened));
            peer.has_new_facts = false;
            peer
        });
        Self {
            number: None,
            last_call: self.last_call,
            replies: self.replies,
            each: each.collect(),
            refused: Vec::new(),
            closed: false,
        }
    }

    /// The id of one more call.
    pub(super) fn next_call(&mut self) -> u64 {
        self.last_call += 1;
        self.last_call
    }

    /// Calls that another daemon made have ids up to this one.
    pub(super) fn calls_up_to(&mut self, id: u64) {
        self.last_call = self.last_call.max(id);
    }

    /// Whose connection this is.
    pub(super) fn module_of(&self, serial: u64) -> Option<String> {
        let peer = self
            .each
            .iter()
            .find(|peer| peer.serial() == Some(serial))?;
        Some(peer.module.clone())
    }

    /// (what, why) of what providers do not get.
    pub(super) fn refused(&self) -> impl Iterator<Item = (String, String)> {
        let refused = self.refused.iter();
        let refused = refused.map(|(_, what, why)| (what.clone(), why.clone()));
        let each = self.each.iter();
        each.flat_map(|peer| peer.refused.iter().cloned())
            .chain(refused)
    }
}

impl Run {
    /// Where providers answer.
    pub(in crate::bus) fn hear(&mut self, replies: mpsc::Sender<Reply>) {
        self.providers.replies = Some(replies);
    }

    /// The providers that there are now. Their hooks join, and come back.
    pub(in crate::bus) fn look_at_providers(&mut self, list: &[Provider], now: Instant) {
        let generation = self.roster.generation();
        // A name that one has left is free before another takes it.
        let (here, gone): (Vec<_>, Vec<_>) = list.iter().partition(|each| each.link.is_ok());
        for provider in gone.into_iter().chain(here) {
            self.look_at_provider(provider, now);
        }
        let known: BTreeSet<_> = list.iter().map(|provider| &provider.module).collect();
        for at in 0..self.providers.each.len() {
            let peer = &self.providers.each[at];
            if !known.contains(&peer.module) && peer.link.is_ok() {
                let gone = Provider {
                    module: peer.module.clone(),
                    hooks: peer.hooks.clone(),
                    refused: Arc::default(),
                    link: Err("its provider has left".to_owned()),
                    by_hand: peer.by_hand,
                    uid: peer.uid,
                };
                self.look_at_provider(&gone, now);
            }
        }
        if generation != self.roster.generation() && !self.members.is_empty() {
            let live = self.members.iter();
            let live = live.filter(|(_, member)| member.out.is_some());
            let refused: Vec<_> = live
                .map(|(rank, member)| (*rank, self.roster.unreachable(&member.hello.points)))
                .collect();
            for (rank, refused) in refused {
                self.refuse(rank, &refused);
            }
            let plan = self.plan();
            self.send_all(&ToTrainer::Plan(plan));
        }
        self.pump_all(now);
    }

    fn look_at_provider(&mut self, provider: &Provider, now: Instant) {
        let module = &provider.module;
        let mut each = self.providers.each.iter();
        let there = each.position(|peer| peer.module == *module);
        if there.is_none() && provider.by_hand && provider.link.is_err() {
            return; // it left before this run began
        }
        let at = there.unwrap_or_else(|| {
            self.providers.each.push(Peer {
                module: module.clone(),
                hooks: None,
                refused: Arc::default(),
                link: Err(String::new()),
                by_hand: provider.by_hand,
                uid: provider.uid,
                opened: false,
                has_new_facts: false,
                closes: Vec::new(),
            });
            self.providers.each.len() - 1
        });
        let peer = &mut self.providers.each[at];
        let (before, serial) = (
            peer.serial(),
            provider.link.as_ref().ok().map(|link| link.serial),
        );
        peer.link = provider.link.clone();
        if before != serial {
            peer.opened = false;
            peer.has_new_facts = false;
            peer.closes.clear();
        }
        let is_new = there.is_none()
            || peer.uid != provider.uid
            || peer.hooks.as_ref().map(Arc::as_ptr) != provider.hooks.as_ref().map(Arc::as_ptr);
        (peer.by_hand, peer.uid) = (provider.by_hand, provider.uid);
        peer.hooks.clone_from(&provider.hooks);
        peer.refused = Arc::clone(&provider.refused);
        let away = provider.link.as_ref().err();
        self.roster.set_away(module, away.map(String::as_str));
        if before.is_some() && before != serial {
            self.unlinked(module, now);
        }
        // When its first rank is here, it is known whose the run is, and everything joins.
        if is_new && (self.uid.is_some() || !self.members.is_empty()) {
            self.join(at, now);
        }
    }

    /// The hooks of a provider are this run's too, if it is of a user who may act on it.
    fn join(&mut self, at: usize, now: Instant) {
        let begun = |member: &super::Member| {
            member.facts.is_some() || member.position > Position::default()
        };
        let begun = self.leader.is_some() || self.members.values().any(begun);
        let peer = &self.providers.each[at];
        let module = peer.module.clone();
        // What this run has of it from a daemon before this one stays as it is until it comes.
        let Some(mut hooks) = peer.hooks.clone() else {
            return;
        };
        let foreign = self.check_owner(peer.uid).err();
        if foreign.is_some() {
            hooks = Arc::default();
        }
        let away = peer.link.as_ref().err().cloned();
        let joined = self.roster.join(&module, &hooks, begun);
        self.roster.set_away(&module, away.as_deref());
        for (hook, gate) in &joined.gates {
            self.gate_without(hook, gate, now);
        }
        let refused = &mut self.providers.refused;
        refused.retain(|(of, _, _)| *of != module);
        let foreign = foreign.map(|why| (format!("the hooks of module {module}"), why));
        for (what, why) in joined.refused.into_iter().chain(foreign) {
            tracing::warn!(run = %self.id, what, why, "refused");
            refused.push((module.clone(), what, why));
        }
    }

    /// In another attempt every hook begins anew. What was served by hand and is gone is not in it.
    pub(super) fn join_all(&mut self, now: Instant) {
        let is_here = |peer: &Peer| !peer.by_hand || peer.link.is_ok();
        self.providers.each.retain(is_here);
        for at in 0..self.providers.each.len() {
            self.join(at, now);
        }
    }

    /// The facts are others.
    pub(super) fn tell_providers_facts(&mut self, now: Instant) {
        for peer in &mut self.providers.each {
            peer.has_new_facts = peer.opened;
        }
        self.pump_all(now);
    }

    /// A rank is here, so the attempt is not over.
    pub(super) fn open_providers(&mut self, now: Instant) {
        self.providers.closed = false;
        self.pump_all(now);
    }

    /// An attempt that is over is closed when its last calls are answered, or nobody answers them.
    pub(super) fn close_providers(&mut self, now: Instant) {
        let waited = |at: Instant| now.saturating_duration_since(at) >= LAST_ANSWERS;
        if self.providers.closed
            || !self.is_over()
            || (self.roster.waiting() > 0 && !self.over.is_some_and(waited))
        {
            return;
        }
        self.providers.closed = true;
        self.roster.give_up_calls();
        let number = self.providers.number;
        for peer in &mut self.providers.each {
            let was_opened = std::mem::take(&mut peer.opened);
            peer.closes.extend(number.filter(|_| was_opened));
        }
    }

    pub(super) fn pump_all(&mut self, now: Instant) {
        for at in 0..self.providers.each.len() {
            self.pump_at(at, now);
        }
    }

    /// Sends a provider what waits for it.
    pub(super) fn pump(&mut self, module: &str, now: Instant) {
        let mut each = self.providers.each.iter();
        if let Some(at) = each.position(|peer| peer.module == module) {
            self.pump_at(at, now);
        }
    }

    fn pump_at(&mut self, at: usize, now: Instant) {
        let foreign = self.check_owner(self.providers.each[at].uid).is_err();
        let number = self.providers.number;
        let peer = &mut self.providers.each[at];
        if foreign && std::mem::take(&mut peer.opened) {
            peer.closes.extend(number);
        }
        let Ok(link) = peer.link.clone() else {
            return;
        };
        // What does not fit now waits here; a connection that is gone is told of elsewhere.
        while let Some(number) = peer.closes.first() {
            if link.out.try_send(ToProvider::Close(*number)).is_err() {
                return;
            }
            peer.closes.remove(0);
        }
        if foreign || self.members.is_empty() || self.archived || self.providers.closed {
            return;
        }
        if peer.hooks.as_ref().is_none_or(|hooks| hooks.is_empty()) && !peer.opened {
            return;
        }
        let Some(replies) = self.providers.replies.clone() else {
            return;
        };
        let number = self
            .providers
            .number
            .get_or_insert_with(|| NUMBERS.fetch_add(1, Ordering::Relaxed));
        let number = *number;
        let facts = (self.facts != Default::default()).then(|| self.facts.clone());
        if !peer.opened {
            let mut states = Vec::new();
            for (place, remote) in self.roster.of_module(&peer.module) {
                if !remote.state.is_null() {
                    states.push((place, remote.state.clone()));
                }
            }
            let states = states
                .into_iter()
                .map(|(place, state)| (self.roster.member(place).name().to_owned(), state));
            let opened = Opened {
                run: number,
                id: self.id.clone(),
                attempt: self.attempt,
                world_size: self.world_size,
                facts,
                states: states.collect(),
                replies,
            };
            if link
                .out
                .try_send(ToProvider::Open(Box::new(opened)))
                .is_err()
            {
                return;
            }
            peer.opened = true;
            peer.has_new_facts = false;
        } else if peer.has_new_facts {
            let facts = ToProvider::Facts(number, Box::new(facts.unwrap_or_default()));
            if link.out.try_send(facts).is_err() {
                return;
            }
            peer.has_new_facts = false;
        }
        loop {
            let hooks = self.roster.of_module(&peer.module);
            let next = hooks
                .filter(|(_, remote)| remote.away.is_none())
                .filter_map(|(_, remote)| Some((remote.unsent()?.id, remote)))
                .min_by_key(|(id, _)| *id);
            let Some((_, remote)) = next else {
                return;
            };
            let Some(mut call) = remote.unsent().cloned() else {
                return;
            };
            call.run = number;
            if remote.offered.wants_state && call.desired.is_none() {
                // Of a daemon before this one, which did not write it down.
                call.desired = Some(Arc::new(self.desired.state().clone()));
            }
            if link.out.try_send(ToProvider::Call(Box::new(call))).is_err() {
                return;
            }
            remote.was_sent(now);
        }
    }
}
