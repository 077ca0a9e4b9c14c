//! The hooks that a provider has, checked for what needs no knowledge of other hooks.

use std::time::Duration;

use hookbus_proto::v1::{self as wire, when::Condition};
use tonic::Status;

use super::incoming::invalid;
use crate::domain::{Base, Every, Otherwise, Subscription, Way, When};
use crate::hooks::{EPOCH_DEADLINE, ITER_DEADLINE};
use crate::providers::{Offer, Offering};
use crate::service::convert::Limits;
use crate::service::convert::incoming::{hook_request, name, text};

/// Hooks of one provider.
const HOOKS: usize = 64;
/// Subscriptions of all of them.
const SUBSCRIPTIONS: usize = 256;
/// What a training may be asked to wait at a gate.
const LONGEST_DEADLINE: Duration = Duration::from_secs(60);

/// What no trainer sends.
const NOT_SENT: [&str; 7] = [
    "model",
    "runner",
    "data_batch",
    "outputs",
    "optimizer",
    "dataset",
    "description",
];

/// Of what is said of a mistake.
pub(super) const MISTAKE_BYTES: usize = 1024;

/// A text for people is cut, not refused.
pub(super) fn cut(text: String, most: usize) -> String {
    if text.len() <= most {
        return text;
    }
    let end = (0..=most).rev().find(|end| text.is_char_boundary(*end));
    format!("{} …", &text[..end.unwrap_or(0)])
}

pub(super) fn offer(said: wire::Offer, limits: &Limits) -> Result<Offer, Status> {
    if said.hooks.len() > HOOKS {
        return Err(invalid(&format!(
            "Offer.hooks has {} hooks, more than {HOOKS}",
            said.hooks.len()
        )));
    }
    if said.refused.len() > SUBSCRIPTIONS {
        return Err(invalid(&format!(
            "Offer.refused has {} entries, more than {SUBSCRIPTIONS}",
            said.refused.len()
        )));
    }
    let mut hooks = Vec::new();
    // What does not hold is refused by name; the others hold.
    let mut not_valid = Vec::new();
    let mut wishes = 0;
    for (at, hook) in said.hooks.into_iter().enumerate() {
        let asked = hook.request.as_ref();
        let named = asked.map_or("", |asked| {
            if asked.name.is_empty() {
                &asked.r#type
            } else {
                &asked.name
            }
        });
        let named = format!("hook {}", line(named.to_owned(), limits));
        wishes += hook.subscriptions.len();
        if wishes > SUBSCRIPTIONS {
            let why = format!(
                "with it Offer.hooks has {wishes} subscriptions, more than {SUBSCRIPTIONS}"
            );
            not_valid.push((named, why));
            wishes -= hook.subscriptions.len();
            continue;
        }
        match offering(&format!("Offer.hooks[{at}]"), hook, limits) {
            Ok(hook) => hooks.push(hook),
            Err(status) => not_valid.push((named, cut(status.message().to_owned(), MISTAKE_BYTES))),
        }
    }
    let refused = said.refused.into_iter().enumerate();
    let refused = refused.map(|(at, refusal)| {
        let what = name(&format!("Offer.refused[{at}].what"), refusal.what, limits)?;
        Ok((what, line(refusal.reason, limits)))
    });
    let mut refused = refused.collect::<Result<Vec<_>, Status>>()?;
    refused.extend(not_valid);
    Ok(Offer { hooks, refused })
}

/// One line for people.
pub(super) fn line(text: String, limits: &Limits) -> String {
    let line = text.trim().replace(['\n', '\r'], " ");
    cut(line, limits.string_bytes)
}

fn offering(what: &str, said: wire::OfferedHook, limits: &Limits) -> Result<Offering, Status> {
    let request = said
        .request
        .ok_or_else(|| invalid(&format!("{what}.request is missing")))?;
    let request = hook_request(request, limits)
        .map_err(|status| invalid(&format!("{what}.request: {}", status.message())))?;
    let wishes = said.subscriptions.into_iter().enumerate();
    let wishes =
        wishes.map(|(at, wish)| subscription(&format!("{what}.subscriptions[{at}]"), wish, limits));
    Ok(Offering {
        request,
        subscriptions: wishes.collect::<Result<_, _>>()?,
        wants_memory: said.wants_memory,
        wants_state: said.wants_state,
        summary: line(said.summary, limits),
    })
}

fn subscription(
    what: &str,
    said: wire::Subscription,
    limits: &Limits,
) -> Result<Subscription, Status> {
    if said.fields.len() > limits.fields {
        return Err(invalid(&format!(
            "{what}.fields has {} fields, limits.fields is {}",
            said.fields.len(),
            limits.fields
        )));
    }
    let mut fields = said.fields.iter();
    if let Some(field) = fields.find(|field| NOT_SENT.contains(&field.as_str())) {
        return Err(invalid(&format!(
            "{what}.fields has {field:?}, which a trainer cannot send: it stays in its process; a field is a number that it reports"
        )));
    }
    let way = match said.way() {
        wire::Way::Gate => Way::Gate,
        wire::Way::Observe | wire::Way::Unspecified => Way::Observe,
    };
    let otherwise = match said.otherwise() {
        wire::Otherwise::Stop => Otherwise::Stop,
        wire::Otherwise::Continue | wire::Otherwise::Unspecified => Otherwise::Continue,
    };
    let every = said.every.map_or(Every::ALWAYS, |every| Every {
        base: match every.base() {
            wire::Base::Unspecified => Base::Always,
            wire::Base::Iter => Base::Iter,
            wire::Base::InnerIter => Base::InnerIter,
            wire::Base::Epoch => Base::Epoch,
        },
        n: every.n,
        start: every.start,
    });
    let point = name(&format!("{what}.point"), said.point, limits)?;
    let deadline = match said.deadline_ms {
        0 if point.ends_with("_iter") => ITER_DEADLINE,
        0 => EPOCH_DEADLINE,
        ms => Duration::from_millis(ms.into()),
    };
    if deadline > LONGEST_DEADLINE {
        return Err(invalid(&format!(
            "{what}.deadline_ms is {}: a training waits at most {} ms",
            said.deadline_ms,
            LONGEST_DEADLINE.as_millis()
        )));
    }
    let fields = said.fields.into_iter();
    let fields = fields.map(|field| name(&format!("{what}.fields"), field, limits));
    let when = match said.when.and_then(|when| when.condition) {
        // A condition that this daemon does not know: the hook looks itself.
        None => When::Always,
        Some(Condition::NotFinite(field)) => {
            When::NotFinite(name(&format!("{what}.when.not_finite"), field, limits)?)
        }
    };
    Ok(Subscription {
        subscriber: String::new(),
        point,
        every,
        fields: fields.collect::<Result<_, _>>()?,
        when,
        otherwise,
        deadline: if way == Way::Gate {
            deadline
        } else {
            Duration::ZERO
        },
        otherwise_text: text(
            &format!("{what}.otherwise_text"),
            said.otherwise_text,
            limits,
        )?,
        way,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::convert::incoming::LIMITS;

    fn hook(subscriptions: Vec<wire::Subscription>) -> wire::OfferedHook {
        wire::OfferedHook {
            request: Some(wire::HookRequest {
                r#type: "Mine".into(),
                ..Default::default()
            }),
            subscriptions,
            ..Default::default()
        }
    }

    fn of(hooks: Vec<wire::OfferedHook>) -> wire::Offer {
        wire::Offer {
            hooks,
            ..Default::default()
        }
    }

    fn at(point: &str) -> wire::Subscription {
        wire::Subscription {
            point: point.into(),
            ..Default::default()
        }
    }

    #[test]
    fn what_is_not_said_has_its_default() {
        let gate = |point: &str, deadline_ms| wire::Subscription {
            way: wire::Way::Gate.into(),
            deadline_ms,
            ..at(point)
        };
        let wishes = vec![
            at("after_train_iter"),
            gate("after_train_iter", 0),
            gate("after_val_epoch", 0),
            gate("after_val_epoch", 7),
        ];
        let taken = offer(of(vec![hook(wishes)]), &LIMITS).expect("valid");
        let hook = &taken.hooks[0];
        assert_eq!(hook.request.name, "Mine", "by default the type");
        let wishes = &hook.subscriptions;
        let observe = Subscription::observe("after_train_iter", Every::ALWAYS, &[]);
        assert_eq!(wishes[0], observe);
        let deadlines: Vec<_> = wishes
            .iter()
            .map(|wish| wish.deadline.as_millis())
            .collect();
        assert_eq!(deadlines, [0, 50, 2000, 7]);
    }

    #[test]
    fn each_mistake_is_named() {
        let many = || vec![at("after_train_iter"); 9];
        for (said, text) in [
            (of(vec![hook(Vec::new()); 65]), "has 65 hooks, more than 64"),
            (
                of(vec![hook(many()); 29]),
                "has 261 subscriptions, more than 256",
            ),
            (
                of(vec![wire::OfferedHook::default()]),
                "Offer.hooks[0].request is missing",
            ),
            (
                of(vec![
                    hook(Vec::new()),
                    wire::OfferedHook {
                        request: Some(wire::HookRequest::default()),
                        ..Default::default()
                    },
                ]),
                "Offer.hooks[1].request: a hook's type is empty",
            ),
            (
                of(vec![hook(vec![at("")])]),
                "Offer.hooks[0].subscriptions[0].point is empty",
            ),
            (
                of(vec![hook(vec![wire::Subscription {
                    deadline_ms: 60_001,
                    way: wire::Way::Gate.into(),
                    ..at("after_train_iter")
                }])]),
                "deadline_ms is 60001: a training waits at most 60000 ms",
            ),
            (
                of(vec![hook(vec![wire::Subscription {
                    fields: vec!["loss".into(); 5],
                    ..at("after_train_iter")
                }])]),
                "fields has 5 fields, limits.fields is 4",
            ),
            (
                of(vec![hook(vec![wire::Subscription {
                    fields: vec!["model".into()],
                    ..at("after_train_iter")
                }])]),
                "fields has \"model\", which a trainer cannot send",
            ),
        ] {
            let message = match offer(said, &LIMITS) {
                Err(status) => status.message().to_owned(),
                Ok(taken) => {
                    let last = taken.refused.last().expect("one is refused");
                    assert!(last.0.starts_with("hook "), "{last:?}");
                    last.1.clone()
                }
            };
            assert!(message.contains(text), "{message:?} does not say {text:?}");
        }
    }

    #[test]
    fn one_hook_that_does_not_hold_leaves_the_others() {
        let wrong = hook(vec![at("")]);
        let right = hook(vec![at("after_train_iter")]);
        let taken = offer(of(vec![wrong, right]), &LIMITS).expect("the rest holds");
        assert_eq!((taken.hooks.len(), taken.refused.len()), (1, 1));
        assert_eq!(taken.refused[0].0, "hook Mine");
    }

    #[test]
    fn a_text_for_people_is_one_line_and_cut() {
        let long = format!("\nValueError:\n{}", "ü".repeat(60));
        let line = line(long, &LIMITS);
        assert!(
            line.starts_with("ValueError: ü") && line.ends_with("ü …"),
            "{line}"
        );
        assert!(line.len() <= LIMITS.string_bytes + " …".len());
    }
}
