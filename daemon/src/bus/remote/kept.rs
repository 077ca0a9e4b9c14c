//! A provider's hook as the journal keeps it: what it wants to see, so that the plan is the same before the provider is back,
//! and the calls that wait for answers, so that they are not forgotten.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use super::{Incomplete, Remote, SILENT, Waiting};
use crate::domain::{HookRequest, Position, Rank, StateText, Subscription};
use crate::hooks::Policy;
use crate::providers::{Call, Offered};
use crate::store::journal::Listing;

#[derive(Serialize, Deserialize)]
struct Kept {
    subscriptions: Vec<Subscription>,
    wants_memory: bool,
    wants_state: bool,
    summary: String,
    ungated: bool,
    failures: u32,
    /// The last: they are put in when all of it is written.
    calls: Vec<KeptCall>,
}

/// How it ends after the last call.
const AFTER: &str = "]}";

#[derive(Serialize, Deserialize)]
struct KeptCall {
    id: u64,
    rank: u32,
    point: String,
    at: Position,
    /// As text: JSON has no NaN.
    fields: Vec<(String, String)>,
    unknown: Vec<(String, String)>,
    rss_bytes: Option<u64>,
    gate: bool,
    held_on: Vec<u32>,
}

impl Remote {
    /// For the journal. A call that waits is written out once, however often its hook changes meanwhile.
    pub(in crate::bus) fn kept(&self) -> Listing {
        let kept = Kept {
            subscriptions: self.offered.subscriptions.clone(),
            wants_memory: self.offered.wants_memory,
            wants_state: self.offered.wants_state,
            summary: self.offered.summary.clone(),
            ungated: self.ungated,
            failures: self.failures,
            calls: Vec::new(),
        };
        let text = serde_json::to_string(&kept).unwrap_or_default();
        let before = text.strip_suffix(AFTER).unwrap_or_default().to_owned();
        let calls = self.calls.iter().map(Waiting::kept).collect();
        Listing::new(before, calls, AFTER)
    }

    /// As another daemon wrote it down; its provider has not come yet. Errors: why it does not fit.
    pub(in crate::bus) fn restored(
        module: &str,
        request: &HookRequest,
        priority: i32,
        policy: Policy,
        kept: &str,
        state: StateText,
    ) -> Result<Self, String> {
        let kept: Kept = serde_json::from_str(kept).map_err(|error| error.to_string())?;
        let offered = Offered {
            request: request.clone(),
            priority,
            policy,
            subscriptions: kept.subscriptions,
            wants_memory: kept.wants_memory,
            wants_state: kept.wants_state,
            summary: kept.summary,
        };
        let name: Arc<str> = request.name.as_str().into();
        let waits = |call| {
            let call = restore(call, &name);
            Waiting {
                // Whoever waited has gone on.
                late: call.gate,
                call,
                sent: None,
                gate: None,
                told: false,
                kept: OnceLock::new(),
            }
        };
        let calls: VecDeque<_> = kept.calls.into_iter().map(waits).collect();
        let last = calls.back().map(|waiting| waiting.call.id);
        Ok(Self {
            incomplete: last
                .filter(|_| kept.wants_memory)
                .map(|last| Incomplete { last, since: None }),
            state,
            away: Some("its provider has not come since this daemon started".to_owned()),
            ungated: kept.ungated,
            failures: kept.failures,
            calls,
            ..Self::new(module, offered)
        })
    }

    /// The highest id of a call that waits.
    pub(in crate::bus) fn last_call(&self) -> Option<u64> {
        self.calls.back().map(|waiting| waiting.call.id)
    }
}

impl Waiting {
    fn kept(&self) -> Arc<str> {
        let text = || serde_json::to_string(&keep(&self.call)).unwrap_or_default();
        Arc::clone(self.kept.get_or_init(|| text().into()))
    }
}

/// Without memory and state: a call that is made again has them as they are then.
fn keep(call: &Call) -> KeptCall {
    let text = |(name, value): &(Arc<str>, f64)| (name.to_string(), format!("{value:?}"));
    let word = |(name, why): &(Arc<str>, String)| (name.to_string(), why.clone());
    KeptCall {
        id: call.id,
        rank: call.rank.0,
        point: call.point.to_string(),
        at: call.at,
        fields: call.fields.iter().map(text).collect(),
        unknown: call.unknown.iter().map(word).collect(),
        rss_bytes: call.rss_bytes,
        gate: call.gate,
        held_on: call.held_on.iter().map(|rank| rank.0).collect(),
    }
}

fn restore(call: KeptCall, hook: &Arc<str>) -> Call {
    let number = |(name, text): (String, String)| Some((name.into(), text.parse().ok()?));
    Call {
        id: call.id,
        run: 0, // filled in when it is sent
        hook: Arc::clone(hook),
        rank: Rank(call.rank),
        point: call.point.into(),
        at: call.at,
        fields: call.fields.into_iter().filter_map(number).collect(),
        unknown: call
            .unknown
            .into_iter()
            .map(|(name, why)| (name.into(), why))
            .collect(),
        rss_bytes: call.rss_bytes,
        gate: call.gate,
        deadline: SILENT,
        held_on: call.held_on.into_iter().map(Rank).collect(),
        memory: Vec::new(),
        desired: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Every;

    fn call(id: u64) -> Call {
        Call {
            id,
            run: 0,
            hook: "a".into(),
            rank: Rank(3),
            point: "after_train_iter".into(),
            at: Position {
                epoch: 1,
                iter: 20 + id,
                inner_iter: id,
            },
            fields: vec![("loss".into(), f64::INFINITY), ("lr".into(), 0.1)],
            unknown: vec![("acc".into(), "on \"device\"".to_owned())],
            rss_bytes: Some(7),
            gate: false,
            deadline: SILENT,
            held_on: vec![Rank(1)],
            memory: Vec::new(),
            desired: None,
        }
    }

    #[test]
    fn it_goes_on_from_what_was_kept() {
        let offered = Offered {
            request: HookRequest {
                type_name: "Own".to_owned(),
                name: "a".to_owned(),
                args: Default::default(),
            },
            priority: 50,
            policy: Policy::Act,
            subscriptions: vec![Subscription::observe("p", Every::ALWAYS, &["loss"])],
            wants_memory: true,
            wants_state: false,
            summary: "]}".to_owned(),
        };
        let mut remote = Remote::new("my_hooks", offered.clone());
        for calls in 0..3 {
            let text = remote.kept().whole();
            let again = Remote::restored(
                "my_hooks",
                &offered.request,
                50,
                Policy::Act,
                &text,
                StateText::default(),
            );
            let again = again.expect("it fits");
            assert_eq!((&again.offered, again.waiting()), (&offered, calls));
            assert_eq!(again.kept().whole(), text);
            let waiting = again.calls.iter().zip(&remote.calls);
            for (again, before) in waiting {
                assert_eq!(format!("{:?}", again.call), format!("{:?}", before.call));
            }
            remote.call(call(calls as u64), None);
        }
        let before = remote.calls[0].kept();
        assert!(Arc::ptr_eq(&before, &remote.calls[0].kept()), "made once");
    }
}
