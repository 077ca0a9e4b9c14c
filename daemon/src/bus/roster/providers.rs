//! Hooks of providers among the others: they join while a run is under way, keep their places while their provider is away,
//! and go when it does not have them any more.

use std::sync::Arc;
use std::time::Instant;

use super::{Body, Member, Roster};
use crate::bus::claims::Place;
use crate::bus::remote::{Missing, Remote};
use crate::domain::{Otherwise, Position, Way};
use crate::hooks::{Origin, Policy};
use crate::providers::Offered;
use crate::snapshot::HookCounts;
use crate::store::View;
use crate::store::journal::HookKept;

/// What is said of a hook that its provider had and has no more.
const NOT_OFFERED: &str = "its provider does not have it any more";

/// What came of an offer.
#[derive(Default)]
pub(in crate::bus) struct Joined {
    /// (what, why)
    pub(in crate::bus) refused: Vec<(String, String)>,
    /// Gates that do not wait any longer, by hook.
    pub(in crate::bus) gates: Vec<(String, Missing)>,
}

impl Roster {
    /// The hooks that a provider has now. `begun`: the training has, so no new gate comes into force.
    pub(in crate::bus) fn join(&mut self, module: &str, hooks: &[Offered], begun: bool) -> Joined {
        let mut joined = Joined::default();
        let mut names: Vec<&str> = Vec::new();
        for offered in hooks {
            let name = offered.request.name.as_str();
            let what = format!("hook {name} of module {module}");
            if names.contains(&name) {
                let why = "the module has two hooks of this name: name one otherwise".to_owned();
                joined.refused.push((what, why));
                continue;
            }
            let there = self.members.iter_mut().find(|member| member.name == name);
            let ungated = match there {
                None => {
                    let member = Member::there(module, offered.clone(), begun);
                    let ungated = member.is_ungated();
                    self.register(member);
                    self.generation += 1;
                    ungated
                }
                Some(member) if member.is_left_to(module) => {
                    let order = member.order;
                    *member = Member::there(module, offered.clone(), begun);
                    member.order = order;
                    self.generation += 1;
                    member.is_ungated()
                }
                Some(member) => match member.is_offered(module, offered, begun) {
                    Err(who) => {
                        let why =
                            format!("{who} has this name already: name one of them otherwise");
                        joined.refused.push((what, why));
                        continue;
                    }
                    Ok((changed, gates)) => {
                        self.generation += u64::from(changed);
                        let gates = gates.into_iter().map(|gate| (name.to_owned(), gate));
                        joined.gates.extend(gates);
                        member.is_ungated()
                    }
                },
            };
            names.push(name);
            if ungated {
                let why = "it came after the training had begun, so its gates are not in force in this attempt";
                joined.refused.push((what, why.to_owned()));
            }
        }
        for member in &mut self.members {
            let Body::There(remote) = &mut member.body else {
                continue;
            };
            if remote.module != module || names.contains(&member.name.as_str()) {
                continue;
            }
            remote.away = Some(NOT_OFFERED.to_owned());
            let gates = remote.give_up().into_iter();
            joined
                .gates
                .extend(gates.map(|gate| (member.name.clone(), gate)));
            if !std::mem::take(&mut member.subscriptions).is_empty() {
                member.changed = true;
                self.generation += 1;
            }
        }
        self.index();
        joined
    }

    /// Whether a module's hooks are called now, and why not.
    pub(in crate::bus) fn set_away(&mut self, module: &str, away: Option<&str>) {
        for member in &mut self.members {
            if let Body::There(remote) = &mut member.body
                && remote.module == module
                && remote.away.as_deref() != Some(NOT_OFFERED)
            {
                remote.away = away.map(str::to_owned);
            }
        }
    }

    /// A hook of a provider goes on from what another daemon wrote down, before its provider is back.
    pub(super) fn restore_remote(&mut self, kept: HookKept) {
        let HookKept {
            seen,
            request,
            state,
            provider,
            ..
        } = kept;
        let policy = match seen.policy.as_str() {
            "warn" => Policy::Warn,
            "observe" => Policy::Observe,
            _ => Policy::Act,
        };
        let (module, calling) = (seen.module.clone(), provider.unwrap_or_default().whole());
        let module = module.unwrap_or_default();
        let taken = self.members.iter().any(|member| member.name == seen.name);
        match Remote::restored(&module, &request, seen.priority, policy, &calling, state) {
            _ if taken => {}
            Err(why) => {
                tracing::error!(
                    hook = seen.name,
                    why,
                    "a hook's state does not fit; it begins anew"
                );
            }
            Ok(remote) => {
                let mut member = Member::of(remote);
                member.count_on(&seen);
                self.register(member);
            }
        }
    }

    /// One hook, by its place now.
    pub(in crate::bus) fn member(&mut self, at: usize) -> &mut Member {
        &mut self.members[at]
    }

    /// Where a hook is.
    pub(in crate::bus) fn named(&self, name: &str) -> Option<usize> {
        self.members.iter().position(|member| member.name == name)
    }

    /// Whose call this is.
    pub(in crate::bus) fn whose(&mut self, module: &str, id: u64) -> Option<usize> {
        self.of_module(module)
            .find(|(_, remote)| remote.has(id))
            .map(|(at, _)| at)
    }

    /// Memory for calls that another daemon made. Whether there were any.
    pub(in crate::bus) fn complete_calls(&mut self, view: &dyn View, now: Instant) -> bool {
        let remotes = self.members.iter_mut().filter_map(Member::remote);
        let completed = remotes.filter_map(|remote| remote.complete(view, now).then_some(()));
        completed.count() > 0
    }

    /// A provider's hooks.
    pub(in crate::bus) fn of_module(
        &mut self,
        module: &str,
    ) -> impl Iterator<Item = (usize, &mut Remote)> {
        let members = self.members.iter_mut().enumerate();
        members.filter_map(move |(at, member)| {
            let remote = member.remote()?;
            (remote.module == module).then_some((at, remote))
        })
    }

    fn remotes(&self) -> impl Iterator<Item = &Remote> {
        self.members.iter().filter_map(|member| match &member.body {
            Body::Here(_) => None,
            Body::There(remote) => Some(&**remote),
        })
    }

    /// When a call is late.
    pub(in crate::bus) fn next_due(&self) -> Option<Instant> {
        self.remotes().filter_map(Remote::due).min()
    }

    /// Where the earliest call was made that waits for its answer.
    pub(in crate::bus) fn earliest_call(&self) -> Option<Position> {
        self.remotes().filter_map(Remote::earliest).min()
    }

    /// The lowest id of a call that waits.
    pub(in crate::bus) fn first_call(&self) -> Option<u64> {
        self.remotes().filter_map(Remote::first_call).min()
    }

    /// How many calls wait for their answers.
    pub(in crate::bus) fn waiting(&self) -> usize {
        self.remotes().map(Remote::waiting).sum()
    }

    /// The highest id of a call that waits.
    pub(in crate::bus) fn last_call(&self) -> Option<u64> {
        self.remotes().filter_map(Remote::last_call).max()
    }

    /// Calls that are late from now on, by hook.
    pub(in crate::bus) fn overdue(&mut self, now: Instant) -> Vec<(String, Missing)> {
        let mut late = Vec::new();
        for member in &mut self.members {
            let missing = match &mut member.body {
                Body::There(remote) if remote.due().is_some_and(|due| due <= now) => {
                    remote.overdue(now)
                }
                _ => continue,
            };
            late.extend(missing.into_iter().map(|one| (member.name.clone(), one)));
        }
        late
    }

    /// What hooks have missed goes to the journal now and then: with each event it would be all calls that wait, again.
    pub(in crate::bus) fn note_missed(&mut self) {
        for member in &mut self.members {
            let missed = member.counts.missed;
            if let Body::There(remote) = &mut member.body
                && std::mem::replace(&mut remote.missed, missed) != missed
            {
                member.changed = true;
            }
        }
    }

    /// Whether a hook is asked anything.
    pub(in crate::bus) fn is_on(&self, at: usize) -> bool {
        self.members[at].is_on()
    }

    /// Switches a hook off. Returns the gates that do not wait any longer.
    pub(in crate::bus) fn switch_off(&mut self, at: usize, why: String) -> Vec<Missing> {
        let member = &mut self.members[at];
        member.disabled = Some(why);
        member.changed = true;
        let gates = member.remote().map(Remote::give_up).unwrap_or_default();
        self.generation += 1;
        self.index();
        gates
    }

    /// Nobody asks for the answers any more.
    pub(in crate::bus) fn give_up_calls(&mut self) {
        for member in &mut self.members {
            let Some(remote) = member.remote() else {
                continue;
            };
            let waiting = remote.waiting() as u64;
            if waiting > 0 {
                remote.give_up();
                member.counts.missed += waiting;
                member.changed = true;
            }
        }
    }

    /// Counts something of a hook.
    pub(in crate::bus) fn count(&mut self, name: &str, count: impl FnOnce(&mut HookCounts)) {
        if let Some(at) = self.named(name) {
            count(&mut self.members[at].counts);
            self.members[at].changed = true;
        }
    }
}

impl Member {
    fn there(module: &str, offered: Offered, begun: bool) -> Self {
        let mut remote = Remote::new(module, offered);
        remote.ungated = begun && has_gates(&remote.offered);
        Self::of(remote)
    }

    fn of(remote: Remote) -> Self {
        let offered = &remote.offered;
        let args = offered.request.args.iter();
        let args = args.map(|(key, value)| (key.clone(), value.to_string()));
        let mut member = Self {
            name: offered.request.name.clone(),
            type_name: offered.request.type_name.clone(),
            priority: offered.priority,
            order: 0,
            policy: offered.policy,
            origin: Origin::Provider,
            args: args.collect(),
            subscriptions: remote.subscriptions(),
            calls: 0,
            decisions: 0,
            counts: HookCounts::default(),
            disabled: None,
            request: offered.request.clone(),
            changed: true,
            told: None,
            body: Body::There(Box::new(remote)),
        };
        member.sign();
        member
    }

    fn is_ungated(&self) -> bool {
        matches!(&self.body, Body::There(remote) if remote.ungated)
    }

    /// Its provider offers it (again). Returns whether something of it has changed, and the gates that do not wait any
    /// longer. Errors: whose name it is.
    fn is_offered(
        &mut self,
        module: &str,
        offered: &Offered,
        begun: bool,
    ) -> Result<(bool, Vec<Missing>), String> {
        let remote = match &mut self.body {
            Body::There(remote) if remote.module == module => remote,
            Body::There(remote) => return Err(format!("a hook of module {}", remote.module)),
            Body::Here(_) => return Err(format!("the {}'s {}", self.origin, self.type_name)),
        };
        let was_gone = remote.away.as_deref() == Some(NOT_OFFERED);
        if was_gone {
            remote.away = None;
        }
        if remote.offered == *offered && !was_gone {
            return Ok((false, Vec::new()));
        }
        let mut gates = Vec::new();
        let mut new = Remote::new(module, offered.clone());
        new.ungated =
            begun && has_gates(offered) && (remote.ungated || !has_gates(&remote.offered));
        if self.request == offered.request {
            remote.ungated = new.ungated;
            remote.offered = new.offered;
        } else {
            // Configured otherwise it begins anew.
            gates = remote.give_up();
            new.away = remote.away.take();
            **remote = new;
        }
        let again = Self::of(Remote::new(module, offered.clone()));
        self.subscriptions = remote.subscriptions();
        self.type_name = again.type_name;
        self.priority = again.priority;
        self.policy = again.policy;
        self.args = again.args;
        self.request = again.request;
        self.changed = true;
        self.sign();
        Ok((true, gates))
    }

    /// Another module's provider has it no more, and its name is free.
    fn is_left_to(&self, module: &str) -> bool {
        match &self.body {
            Body::There(remote) => {
                remote.module != module && remote.away.as_deref() == Some(NOT_OFFERED)
            }
            Body::Here(_) => false,
        }
    }

    /// Where it is in another process.
    pub(in crate::bus) fn remote(&mut self) -> Option<&mut Remote> {
        match &mut self.body {
            Body::Here(_) => None,
            Body::There(remote) => Some(remote),
        }
    }

    /// Its name.
    pub(in crate::bus) fn name(&self) -> &str {
        &self.name
    }

    /// Whose decision stands over whose.
    pub(in crate::bus) fn rightful_place(&self) -> Place {
        self.place()
    }

    /// What happens with its decisions.
    pub(in crate::bus) fn policy(&self) -> Policy {
        self.policy
    }

    /// It was called once more.
    pub(in crate::bus) fn was_called(&mut self) {
        self.calls += 1;
        self.changed = true;
    }

    /// It answered, with so many decisions.
    pub(in crate::bus) fn has_decided(&mut self, decisions: usize) {
        self.decisions += decisions as u64;
        self.changed = true;
    }

    /// What its gate at a point does without it, and the reason.
    pub(in crate::bus) fn otherwise(&self, point: &str) -> (Otherwise, String) {
        let mut wishes = self.subscriptions.iter();
        let gate = wishes.find(|wish| wish.way == Way::Gate && wish.point == point);
        gate.map_or((Otherwise::Continue, String::new()), |wish| {
            (wish.otherwise, wish.otherwise_text.clone())
        })
    }

    /// Whether an error is worth a line in the daemon's log: a new one is, one that is always the same now and then.
    pub(in crate::bus) fn is_news(&mut self, error: &str) -> bool {
        let is_new = self.told.as_deref() != Some(error);
        if is_new {
            self.told = Some(error.to_owned());
        }
        is_new || (self.counts.errors + self.counts.timeouts).is_power_of_two()
    }

    /// Writes how it is into the journal, some time.
    pub(in crate::bus) fn touch(&mut self) {
        self.changed = true;
    }

    /// The hook's name, shared.
    pub(in crate::bus) fn shared_name(&self) -> Arc<str> {
        self.name.as_str().into()
    }
}

fn has_gates(offered: &Offered) -> bool {
    offered
        .subscriptions
        .iter()
        .any(|wish| wish.way == Way::Gate)
}
