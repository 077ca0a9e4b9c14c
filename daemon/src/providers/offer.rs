//! Which of the hooks that a provider offers hold, and why the others do not. Pure: who has a name already is asked of the
//! directory.

use super::Offered;
use crate::domain::{HookRequest, Subscription};
use crate::hooks::{self, NORMAL, Policy};

/// A hook that the daemon's configuration asks of a module.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// Type, name and the constructor's arguments.
    pub request: HookRequest,
    /// None: the hook's own, else NORMAL.
    pub priority: Option<i32>,
    /// None: the hook's own, else act.
    pub policy: Option<Policy>,
}

/// A hook as its provider has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Offering {
    /// As asked for; by hand `priority` and `policy` are among its arguments.
    pub request: HookRequest,
    /// Without the subscriber.
    pub subscriptions: Vec<Subscription>,
    /// Its calls have memory.
    pub wants_memory: bool,
    /// Its calls have the desired state.
    pub wants_state: bool,
    /// For people.
    pub summary: String,
}

/// Everything that a provider has.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Offer {
    /// In their order.
    pub hooks: Vec<Offering>,
    /// ("hook NAME", why): what could not be made.
    pub refused: Vec<(String, String)>,
}

/// What of an offer holds.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Judged {
    /// In the order of the configuration, else of the offer.
    pub(super) hooks: Vec<Offered>,
    /// (what, why)
    pub(super) refused: Vec<(String, String)>,
}

/// Judges an offer. `asked`: what the configuration asks of the module; None: it asks for nothing, and what is offered
/// holds. `taken`: who has this name already.
pub(super) fn judge(
    asked: Option<&[Asked]>,
    offer: &Offer,
    mut taken: impl FnMut(&str) -> Option<String>,
) -> Judged {
    let mut judged = Judged::default();
    for offering in &offer.hooks {
        let name = &offering.request.name;
        let what = format!("hook {name}");
        if judged.hooks.iter().any(|hook| hook.request.name == *name) {
            let why = format!(
                "the name {name:?} is taken by another hook of this provider; give one of them another `name`"
            );
            judged.refused.push((what, why));
            continue;
        }
        if let Some(holder) = taken(name) {
            let why =
                format!("the name {name:?} is taken by {holder}; give one of them another `name`");
            judged.refused.push((what, why));
            continue;
        }
        match accepted(asked, offering, &mut judged.refused) {
            Ok(hook) => judged.hooks.push(hook),
            Err(why) => judged.refused.push((what, why)),
        }
    }
    let asked = asked.unwrap_or_default();
    for one in asked {
        let name = &one.request.name;
        let said = |(what, _): &(String, String)| *what == format!("hook {name}");
        let is_there = judged.hooks.iter().any(|hook| hook.request.name == *name)
            || judged.refused.iter().any(said)
            || offer.refused.iter().any(said);
        if !is_there {
            let why = "its provider does not offer it".to_owned();
            judged.refused.push((format!("hook {name}"), why));
        }
    }
    judged.hooks.sort_by_key(|hook| {
        asked
            .iter()
            .position(|one| one.request.name == hook.request.name)
    });
    judged
}

/// A hook whose name is free. Errors: why it does not hold.
fn accepted(
    asked: Option<&[Asked]>,
    offering: &Offering,
    refused: &mut Vec<(String, String)>,
) -> Result<Offered, String> {
    let name = &offering.request.name;
    let mut request = offering.request.clone();
    let mut priority = hooks::priority(&mut request.args)?;
    let mut policy = hooks::policy(&mut request.args)?;
    if let Some(asked) = asked {
        let one = asked.iter().find(|one| one.request.name == *name);
        let one = one.ok_or("the daemon's configuration does not ask for it")?;
        request = one.request.clone();
        priority = one.priority.or(priority);
        policy = one.policy.or(policy);
    }
    let mut subscriptions = Vec::new();
    for wish in &offering.subscriptions {
        if wish.point == "*" {
            let why = format!("a hook names its points, and hook {name} does not");
            refused.push(("point *".to_owned(), why));
            continue;
        }
        subscriptions.push(Subscription {
            subscriber: name.clone(),
            ..wish.clone()
        });
    }
    Ok(Offered {
        request,
        priority: priority.unwrap_or(NORMAL),
        policy: policy.unwrap_or_default(),
        subscriptions,
        wants_memory: offering.wants_memory,
        wants_state: offering.wants_state,
        summary: offering.summary.clone(),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::{Every, Value};

    pub(in crate::providers) fn request(name: &str, args: &[(&str, Value)]) -> HookRequest {
        let args = args.iter().cloned();
        HookRequest {
            type_name: "Mine".to_owned(),
            name: name.to_owned(),
            args: args
                .map(|(key, value)| (key.to_owned(), value))
                .collect::<BTreeMap<_, _>>(),
        }
    }

    pub(in crate::providers) fn offering(name: &str, args: &[(&str, Value)]) -> Offering {
        Offering {
            request: request(name, args),
            subscriptions: vec![Subscription::observe(
                "after_train_iter",
                Every::ALWAYS,
                &["loss"],
            )],
            wants_memory: false,
            wants_state: true,
            summary: "mine".to_owned(),
        }
    }

    pub(in crate::providers) fn asked(name: &str) -> Asked {
        Asked {
            request: request(name, &[("interval", Value::Integer(3))]),
            priority: None,
            policy: None,
        }
    }

    fn text(word: &str) -> Value {
        Value::Text(word.to_owned())
    }

    fn lines(judged: &Judged) -> Vec<String> {
        let each = judged.refused.iter();
        each.map(|(what, why)| format!("{what}: {why}")).collect()
    }

    #[test]
    fn by_hand_everything_holds_whose_name_and_words_are_right() {
        let offer = Offer {
            hooks: vec![
                offering("a", &[("priority", text("LOW")), ("n", Value::Integer(1))]),
                offering("a", &[]),
                offering("taken", &[]),
                offering("loud", &[("policy", text("shout"))]),
                offering("b", &[("policy", text("warn"))]),
            ],
            refused: Vec::new(),
        };
        let taken = |name: &str| (name == "taken").then(|| "module other".to_owned());
        let judged = judge(None, &offer, taken);
        let hooks: Vec<_> = judged
            .hooks
            .iter()
            .map(|hook| (hook.request.name.as_str(), hook.priority, hook.policy))
            .collect();
        assert_eq!(hooks, [("a", 70, Policy::Act), ("b", NORMAL, Policy::Warn)]);
        assert_eq!(
            judged.hooks[0].request.args.len(),
            1,
            "priority is no argument"
        );
        assert_eq!(judged.hooks[0].subscriptions[0].subscriber, "a");
        assert_eq!(
            lines(&judged),
            [
                "hook a: the name \"a\" is taken by another hook of this provider; give one of them another `name`",
                "hook taken: the name \"taken\" is taken by module other; give one of them another `name`",
                "hook loud: policy is \"shout\"; it must be \"act\", \"warn\" or \"observe\"",
            ]
        );
    }

    #[test]
    fn what_is_asked_for_comes_in_its_order_and_what_is_missing_is_named() {
        let wanted = [
            Asked {
                priority: Some(10),
                ..asked("first")
            },
            asked("second"),
            asked("raises"),
            asked("forgotten"),
        ];
        let offer = Offer {
            hooks: vec![
                offering("second", &[("priority", text("HIGH"))]),
                offering("first", &[("priority", text("LOW"))]),
                offering("more", &[]),
            ],
            refused: vec![("hook raises".to_owned(), "TypeError".to_owned())],
        };
        let judged = judge(Some(&wanted), &offer, |_| None);
        let hooks: Vec<_> = judged
            .hooks
            .iter()
            .map(|hook| (hook.request.name.as_str(), hook.priority))
            .collect();
        assert_eq!(hooks, [("first", 10), ("second", 30)]);
        assert_eq!(judged.hooks[0].request, wanted[0].request);
        assert_eq!(
            lines(&judged),
            [
                "hook more: the daemon's configuration does not ask for it",
                "hook forgotten: its provider does not offer it",
            ]
        );
    }

    #[test]
    fn a_hook_names_its_points() {
        let mut everywhere = offering("a", &[]);
        everywhere.subscriptions[0].point = "*".to_owned();
        let offer = Offer {
            hooks: vec![everywhere],
            refused: Vec::new(),
        };
        let judged = judge(None, &offer, |_| None);
        assert!(judged.hooks[0].subscriptions.is_empty());
        assert_eq!(
            lines(&judged),
            ["point *: a hook names its points, and hook a does not"]
        );
    }
}
