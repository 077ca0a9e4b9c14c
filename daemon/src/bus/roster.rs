//! The hooks of one run: who is asked, in which order, and what became of each call. A hook cannot hurt from here on.

mod providers;

use std::collections::HashMap;
use std::time::Instant;

use super::claims::Place;
use super::remote::Remote;
use crate::domain::{
    Every, Facts, HookRequest, Otherwise, Plan, Standing, StateText, Subscription, Way,
};
use crate::hooks::{self, Context, Decision, Hook, Origin, Policy, Seen, guarded};
use crate::snapshot::{HookCounts, HookSnapshot};
use crate::store::journal::HookKept;

/// The daemon's own wish for events.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Every n-th event of each point; 0 or less: nothing.
    pub every: i64,
    /// Metrics; "*": every one.
    pub fields: Vec<String>,
}

/// The name under which the daemon itself subscribes.
pub const RECORD: &str = "record";

/// Where a hook runs.
enum Body {
    Here(Box<dyn Hook>),
    There(Box<Remote>),
}

/// One hook.
pub(super) struct Member {
    name: String,
    type_name: String,
    priority: i32,
    /// Counted up as they register; of equal priorities the first goes first.
    order: u64,
    policy: Policy,
    origin: Origin,
    /// As asked for, for people.
    args: Vec<(String, String)>,
    body: Body,
    subscriptions: Vec<Subscription>,
    calls: u64,
    decisions: u64,
    /// How its calls went.
    pub(super) counts: HookCounts,
    disabled: Option<String>,
    /// As it was asked for.
    request: HookRequest,
    /// Calls, decisions and the rest are not in the journal as they are now.
    changed: bool,
    /// The last error that the log has.
    told: Option<String>,
}

/// A decision with the hook that made it.
pub(super) struct Decided {
    /// The hook's name.
    pub by: String,
    /// Whose decision stands over whose.
    pub place: Place,
    /// What happens with it.
    pub policy: Policy,
    /// What it wants.
    pub decision: Decision,
}

/// What one event led to.
#[derive(Default)]
pub(super) struct Calls {
    /// In the hooks' order.
    pub decided: Vec<Decided>,
    /// Hooks that panicked just now.
    pub failed: Vec<Failed>,
    /// Hooks of providers that are to be called, by their place in the roster.
    pub remote: Vec<Due>,
    /// What went wrong in built-in hooks that go on: (place in the roster, error).
    pub erred: Vec<(usize, String)>,
}

/// A provider's hook that an event is due for.
pub(super) struct Due {
    /// Its place in the roster.
    pub member: usize,
    /// What it wants to see of it.
    pub fields: Vec<String>,
    /// How long its gate waits; None: it observes.
    pub gate: Option<std::time::Duration>,
}

/// A hook that panicked.
pub(super) struct Failed {
    /// Its name.
    pub by: String,
    /// The panic's text.
    pub what: String,
    /// Whose decision stands over whose.
    pub place: Place,
    /// What the gate that waits for it does without it, and the reason.
    pub otherwise: Option<(Otherwise, String)>,
}

/// What all hooks of a run decided ahead.
#[derive(Default)]
pub(super) struct AllAhead {
    /// By hook, one for each field of the desired state.
    pub standing: Vec<(String, Standing)>,
    /// (hook, why): what is not in force.
    pub refused: Vec<(String, String)>,
    /// (hook, text) for the trainer's log.
    pub warnings: Vec<(String, String)>,
    /// Hooks that panicked just now.
    pub failed: Vec<Failed>,
}

/// The hooks of one run, in the order of their priorities.
pub(super) struct Roster {
    members: Vec<Member>,
    /// Which members to look at for a point, by the point's name.
    by_point: HashMap<String, Vec<usize>>,
    generation: u64,
    registered: u64,
}

impl Roster {
    /// The hooks of the daemon's configuration. What does not build was already refused at the daemon's start.
    pub(super) fn new(requests: &[HookRequest]) -> Self {
        let mut roster = Self {
            members: Vec::new(),
            by_point: HashMap::new(),
            generation: 1,
            registered: 0,
        };
        for request in requests {
            match hooks::build(request, Origin::Config) {
                Ok(configured) => roster.register(Member::new(configured, request.clone())),
                Err(reason) => tracing::error!(
                    hook = request.name,
                    reason,
                    "a configured hook does not build"
                ),
            }
        }
        roster.index();
        roster
    }

    fn register(&mut self, mut member: Member) {
        self.registered += 1;
        member.order = self.registered;
        self.members.push(member);
    }

    /// Adds what a trainer asks for. Returns what is refused: (what, why). A name that is there already runs once.
    pub(super) fn ask(&mut self, requests: &[HookRequest]) -> Vec<(String, String)> {
        let mut refused = Vec::new();
        let before = self.members.len();
        for request in requests {
            match hooks::build(request, Origin::Trainer) {
                Err(reason) => refused.push((format!("hook {}", request.name), reason)),
                Ok(configured) => {
                    let there = self
                        .members
                        .iter()
                        .find(|member| member.name == request.name);
                    match there {
                        None => self.register(Member::new(configured, request.clone())),
                        Some(there) => refused.extend(there.differs(request)),
                    }
                }
            }
        }
        if self.members.len() != before {
            self.generation += 1;
            self.index();
        }
        refused
    }

    /// What is asked of a client that can emit `points`.
    pub(super) fn plan(
        &self,
        record: &Record,
        stall_budget: f64,
        probe: std::time::Duration,
    ) -> Plan {
        let mut subscriptions = Vec::new();
        if record.every > 0 {
            let fields: Vec<_> = record.fields.iter().map(String::as_str).collect();
            let mut own = Subscription::observe("*", Every::ALWAYS, &fields);
            if record.every > 1 {
                own.every = Every::n(crate::domain::Base::Iter, record.every);
            }
            RECORD.clone_into(&mut own.subscriber);
            subscriptions.push(own);
        }
        for member in self.members.iter().filter(|member| member.is_on()) {
            subscriptions.extend(member.subscriptions.iter().cloned());
        }
        Plan {
            generation: self.generation,
            subscriptions,
            stall_budget,
            probe,
        }
    }

    /// Points that hooks want and a client cannot emit: (what, why).
    pub(super) fn unreachable(&self, points: &[String]) -> Vec<(String, String)> {
        self.members
            .iter()
            .flat_map(|member| &member.subscriptions)
            .filter(|subscription| !points.contains(&subscription.point))
            .map(|subscription| {
                let reason = format!(
                    "this trainer does not emit it, so hook {} never sees it",
                    subscription.subscriber
                );
                (format!("point {}", subscription.point), reason)
            })
            .collect()
    }

    /// Calls every hook that `seen` is due for; a gate's hook only if it is in `asked`.
    pub(super) fn call(&mut self, cx: &Context<'_>, seen: &Seen<'_>, asked: &[String]) -> Calls {
        let mut calls = Calls::default();
        let Some(members) = self.by_point.get(seen.point) else {
            return calls;
        };
        for at in members {
            let member = &mut self.members[*at];
            let wishes = member.subscriptions.iter();
            let due = |wish: &&Subscription| {
                wish.point == seen.point
                    && match wish.way {
                        Way::Gate => asked.contains(&member.name),
                        Way::Observe => wish.every.is_due(seen.position()),
                    }
            };
            // A hook is called once; where its gate waits too, for that.
            let Some(wish) = wishes.filter(due).max_by_key(|wish| wish.way == Way::Gate) else {
                continue;
            };
            let gate = wish.way == Way::Gate;
            let place = member.place();
            let hook = match &mut member.body {
                Body::Here(hook) => hook,
                Body::There(_) => {
                    calls.remote.push(Due {
                        member: *at,
                        fields: wish.fields.clone(),
                        gate: gate.then_some(wish.deadline),
                    });
                    continue;
                }
            };
            let otherwise = gate.then(|| (wish.otherwise, wish.otherwise_text.clone()));
            member.calls += 1;
            member.changed = true;
            let begun = Instant::now();
            let said = guarded(|| (hook.on_event(cx, seen), hook.take_errors()));
            member.counts.time += begun.elapsed();
            match said {
                Ok((decisions, errors)) => {
                    member.decisions += decisions.len() as u64;
                    member.counts.errors += errors.len() as u64;
                    let errors = errors.into_iter().map(|error| (*at, error));
                    calls.erred.extend(errors);
                    calls
                        .decided
                        .extend(decisions.into_iter().map(|decision| Decided {
                            by: member.name.clone(),
                            place,
                            policy: member.policy,
                            decision,
                        }));
                }
                Err(what) => {
                    member.counts.errors += 1;
                    member.disabled = Some(format!("it panicked: {what}"));
                    calls.failed.push(Failed {
                        by: member.name.clone(),
                        what,
                        place,
                        otherwise,
                    });
                }
            }
        }
        if !calls.failed.is_empty() {
            self.generation += 1;
            self.index();
        }
        calls
    }

    /// Asks every hook what it decides ahead from these facts. Two hooks that want the same field: the first one has it.
    pub(super) fn ahead(&mut self, facts: &Facts, run: &str) -> AllAhead {
        let mut all = AllAhead::default();
        for member in &mut self.members {
            if member.disabled.is_some() {
                continue;
            }
            let (name, place) = (member.name.clone(), member.place());
            let Body::Here(hook) = &mut member.body else {
                continue;
            };
            match guarded(|| hook.ahead(facts, run)) {
                Ok(Ok(ahead)) => {
                    let text = |text| (name.clone(), text);
                    all.warnings.extend(ahead.warnings.into_iter().map(text));
                    let Some(standing) = ahead.standing else {
                        continue;
                    };
                    let taken = all
                        .standing
                        .iter()
                        .find(|(_, other)| other.field() == standing.field());
                    if let Some((other, _)) = taken {
                        let why = format!("{} is decided by {other} already", standing.field());
                        all.refused.push((name, why));
                    } else if member.policy != Policy::Act {
                        let policy = member.policy.word();
                        let why = format!(
                            "its policy is {policy}: it would have decided {}, nothing is applied",
                            standing.field()
                        );
                        all.refused.push((name, why));
                    } else {
                        all.standing.push((name, standing));
                    }
                }
                Ok(Err(why)) => all.refused.push((name, why)),
                Err(what) => {
                    member.counts.errors += 1;
                    member.disabled = Some(format!("it panicked: {what}"));
                    member.changed = true;
                    all.failed.push(Failed {
                        by: name,
                        what,
                        place,
                        otherwise: None,
                    });
                }
            }
        }
        if !all.failed.is_empty() {
            self.generation += 1;
            self.index();
        }
        all
    }

    /// What a hook decided ahead is new: the same again, also after a restart, is no other decision.
    pub(super) fn decided_ahead(&mut self, name: &str) {
        let mut members = self.members.iter_mut();
        if let Some(member) = members.find(|member| member.name == name) {
            member.decisions += 1;
            member.changed = true;
        }
    }

    /// Grows with each change of the hooks.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Hooks that are not in the journal as they are now; from here on they are. And those that are off for failing to say
    /// what they remember.
    pub(super) fn changed(&mut self) -> (Vec<HookKept>, Vec<Failed>) {
        let (mut changed, mut failed) = (Vec::new(), Vec::new());
        for member in &mut self.members {
            if !std::mem::take(&mut member.changed) {
                continue;
            }
            let state = match &member.body {
                Body::Here(hook) => guarded(|| StateText::from(&hook.state())),
                Body::There(remote) => Ok(remote.state.clone()),
            };
            let state = state.unwrap_or_else(|what| {
                if member.disabled.is_none() {
                    member.counts.errors += 1;
                    member.disabled = Some(format!("it panicked: {what}"));
                    failed.push(Failed {
                        by: member.name.clone(),
                        what,
                        place: member.place(),
                        otherwise: None,
                    });
                }
                StateText::default()
            });
            changed.push(HookKept {
                place: member.order as usize,
                seen: member.snapshot(),
                request: member.request.clone(),
                state,
                provider: match &member.body {
                    Body::Here(_) => None,
                    Body::There(remote) => Some(remote.kept()),
                },
            });
        }
        if !failed.is_empty() {
            self.generation += 1;
            self.index();
        }
        (changed, failed)
    }

    /// Goes on from what another daemon wrote down: the trainers' hooks are asked for again, and every hook has its state.
    pub(super) fn restore(&mut self, saved: Vec<HookKept>) {
        let of_trainers = saved
            .iter()
            .filter(|kept| kept.seen.origin == Origin::Trainer.to_string())
            .map(|kept| kept.request.clone());
        // What was refused then was not written down.
        let _ = self.ask(&of_trainers.collect::<Vec<_>>());
        let places: HashMap<_, _> = saved
            .iter()
            .map(|kept| (kept.seen.name.clone(), kept.place as u64))
            .collect();
        for kept in saved {
            if kept.provider.is_some() {
                self.restore_remote(kept);
                continue;
            }
            let HookKept {
                seen,
                request,
                state,
                ..
            } = kept;
            let there = self
                .members
                .iter_mut()
                .find(|member| member.name == seen.name);
            // A hook that is configured otherwise now begins anew.
            let Some(member) = there.filter(|member| member.request == request) else {
                continue;
            };
            member.count_on(&seen);
            let Body::Here(hook) = &mut member.body else {
                continue;
            };
            let state = serde_json::from_str(state.as_str()).map_err(|error| error.to_string());
            let restored = state.and_then(|state| {
                guarded(|| hook.restore(&state))
                    .unwrap_or_else(|what| Err(format!("it panicked: {what}")))
            });
            if let Err(why) = restored {
                tracing::error!(
                    hook = seen.name,
                    why,
                    "a hook's state does not fit; it begins anew"
                );
            }
        }
        // They are called in the order in which they were; new ones come after them.
        let after = places.values().max().map_or(0, |last| last + 1);
        let many = self.registered + after;
        for member in &mut self.members {
            let before = places.get(&member.name);
            member.order = before.map_or(many + member.order, |place| *place);
        }
        self.registered += many;
        self.generation += 1;
        self.index();
    }

    /// For `hookbus show`.
    pub(super) fn snapshot(&self) -> Vec<HookSnapshot> {
        self.members.iter().map(Member::snapshot).collect()
    }

    fn index(&mut self) {
        self.members.sort_by_key(Member::place);
        self.by_point.clear();
        for (at, member) in self
            .members
            .iter()
            .enumerate()
            .filter(|(_, member)| member.is_on())
        {
            for subscription in &member.subscriptions {
                let members = self.by_point.entry(subscription.point.clone()).or_default();
                if members.last() != Some(&at) {
                    members.push(at);
                }
            }
        }
    }
}

impl Member {
    fn new(configured: hooks::Configured, request: HookRequest) -> Self {
        let args = configured.args.iter();
        let args = args.map(|(key, value)| (key.clone(), value.to_string()));
        let mut member = Self {
            args: args.collect(),
            subscriptions: configured.subscriptions,
            name: configured.name,
            type_name: configured.type_name.to_owned(),
            priority: configured.priority,
            order: 0,
            policy: configured.policy,
            origin: configured.origin,
            body: Body::Here(configured.hook),
            calls: 0,
            decisions: 0,
            counts: HookCounts::default(),
            disabled: None,
            request,
            changed: true,
            told: None,
        };
        member.sign();
        member
    }

    /// Its subscriptions are its own.
    fn sign(&mut self) {
        for subscription in &mut self.subscriptions {
            subscription.subscriber.clone_from(&self.name);
            // A hook that may not act does not act by its silence either.
            if self.policy != Policy::Act {
                subscription.otherwise = Otherwise::Continue;
            }
        }
    }

    fn place(&self) -> Place {
        (self.priority, self.order)
    }

    /// Whether it is asked anything.
    fn is_on(&self) -> bool {
        self.disabled.is_none()
    }

    /// Goes on from what another daemon counted.
    fn count_on(&mut self, seen: &HookSnapshot) {
        self.calls = seen.calls;
        self.decisions = seen.decisions;
        self.counts = seen.counts.clone();
        self.disabled.clone_from(&seen.disabled);
        self.changed = false;
    }

    /// What to tell a trainer that asks for this name with something else.
    fn differs(&self, request: &HookRequest) -> Option<(String, String)> {
        let theirs = request
            .args
            .iter()
            .map(|(key, value)| (key.clone(), value.to_string()));
        let same_args = self.args.iter().cloned().eq(theirs);
        let is_here = matches!(self.body, Body::Here(_));
        if same_args && self.type_name == request.type_name && is_here {
            return None;
        }
        let mine: Vec<_> = self
            .args
            .iter()
            .map(|(key, value)| format!("{key} = {value}"))
            .collect();
        let from = match (&self.body, self.origin) {
            (Body::There(remote), _) => format!("the provider of module {}", remote.module),
            (_, Origin::Trainer) => "another rank".to_owned(),
            _ => "the daemon's configuration".to_owned(),
        };
        let reason = format!(
            "{from} has it already as {} ({}); that one runs, once; give yours another name to run both",
            self.type_name,
            if mine.is_empty() {
                "defaults".to_owned()
            } else {
                mine.join(", ")
            },
        );
        Some((format!("hook {}", request.name), reason))
    }

    fn snapshot(&self) -> HookSnapshot {
        let remote = match &self.body {
            Body::Here(_) => None,
            Body::There(remote) => Some(remote),
        };
        HookSnapshot {
            name: self.name.clone(),
            type_name: self.type_name.clone(),
            origin: self.origin.to_string(),
            policy: self.policy.word().to_owned(),
            priority: self.priority,
            calls: self.calls,
            decisions: self.decisions,
            disabled: self.disabled.clone(),
            args: self.args.clone(),
            counts: self.counts.clone(),
            module: remote.map(|remote| remote.module.clone()),
            away: remote.and_then(|remote| remote.away.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::domain::{Event, Names, Rank, Value};
    use crate::hooks::Configured;
    use crate::store::{Live, RunView};

    /// What a bug in a hook looks like.
    struct Panics;

    impl Hook for Panics {
        fn subscriptions(&self) -> Vec<Subscription> {
            vec![Subscription::observe(
                "after_train_iter",
                Every::ALWAYS,
                &[],
            )]
        }

        fn on_event(&mut self, _: &Context<'_>, _: &Seen<'_>) -> Vec<Decision> {
            panic!("index out of bounds")
        }
    }

    /// What a bug in what it remembers looks like.
    struct Forgets;

    impl Hook for Forgets {
        fn subscriptions(&self) -> Vec<Subscription> {
            Panics.subscriptions()
        }

        fn on_event(&mut self, _: &Context<'_>, _: &Seen<'_>) -> Vec<Decision> {
            Vec::new()
        }

        fn state(&self) -> serde_json::Value {
            panic!("key must be a string")
        }
    }

    fn call(roster: &mut Roster) -> Calls {
        let names = Names {
            points: vec!["after_train_iter".into()],
            metrics: Vec::new(),
        };
        let event = Event::default();
        let seen = Seen {
            rank: Rank(0),
            point: "after_train_iter",
            event: &event,
            names: &names,
            description: None,
            held_on: &[],
        };
        let run = crate::domain::RunId {
            name: "digits".into(),
            launch: "1".into(),
        };
        let (now, view) = (Instant::now(), RunView::new(Live::default(), run));
        roster.call(&Context { now, view: &view }, &seen, &[])
    }

    fn configured(name: &str, hook: Box<dyn Hook>) -> Configured {
        Configured {
            name: name.to_owned(),
            type_name: "Test",
            priority: 50,
            policy: Policy::Act,
            origin: Origin::Config,
            args: Vec::new(),
            subscriptions: hook.subscriptions(),
            hook,
        }
    }

    #[test]
    fn a_hook_that_cannot_say_what_it_remembers_is_off_once() {
        let mut roster = Roster::new(&[]);
        let request = HookRequest {
            type_name: "Test".into(),
            name: "forgets".into(),
            args: [].into(),
        };
        let forgets = configured("forgets", Box::new(Forgets));
        roster.members.push(Member::new(forgets, request));
        roster.index();
        let (changed, failed) = roster.changed();
        let of: Vec<_> = failed.iter().map(|one| (&*one.by, &*one.what)).collect();
        assert_eq!(of, [("forgets", "key must be a string")]);
        assert!(changed[0].state.is_null());
        assert!(call(&mut roster).decided.is_empty());
        roster.count("forgets", |counts| counts.errors += 1);
        let (changed, failed) = roster.changed();
        assert_eq!((changed.len(), failed.len()), (1, 0));
    }

    #[test]
    fn a_hook_that_panics_is_off_and_the_others_go_on() {
        let mut roster = Roster::new(&[HookRequest {
            type_name: "MemoryProfilerHook".to_owned(),
            name: "memory".to_owned(),
            args: [("interval".to_owned(), Value::Integer(1))].into(),
        }]);
        roster.members.insert(
            0,
            Member::new(
                configured("broken", Box::new(Panics)),
                HookRequest {
                    type_name: "Test".into(),
                    name: "broken".into(),
                    args: [].into(),
                },
            ),
        );
        roster.index();
        let before = roster.generation;
        let first = call(&mut roster);
        let failed: Vec<_> = first
            .failed
            .iter()
            .map(|failed| (failed.by.as_str(), failed.what.as_str()))
            .collect();
        assert_eq!(failed, [("broken", "index out of bounds")]);
        assert_eq!(
            first.decided.len(),
            2,
            "the other hook was asked all the same"
        );
        assert!(roster.generation > before, "the plan changes");
        let second = call(&mut roster);
        assert_eq!((second.failed.len(), second.decided.len()), (0, 2));
        let shown = roster.snapshot();
        assert_eq!(
            shown[0].disabled.as_deref(),
            Some("it panicked: index out of bounds")
        );
    }

    #[test]
    fn a_hook_that_may_not_act_does_not_stop_by_its_silence() {
        for (policy, otherwise) in [
            ("act", Otherwise::Stop),
            ("warn", Otherwise::Continue),
            ("observe", Otherwise::Continue),
        ] {
            let roster = Roster::new(&[HookRequest {
                type_name: "CheckInvalidLossHook".to_owned(),
                name: "check".to_owned(),
                args: [("policy".to_owned(), Value::Text(policy.to_owned()))].into(),
            }]);
            let gate = &roster.members[0].subscriptions[0];
            assert_eq!(
                (gate.way, gate.otherwise),
                (Way::Gate, otherwise),
                "{policy}"
            );
        }
    }
}
