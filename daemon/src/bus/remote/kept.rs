//! A provider's hook as the journal keeps it: what it wants to see, so that the plan is the same before the provider is back,
//! and the calls that wait for answers, so that they are not forgotten.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Remote, SILENT, Waiting};
use crate::domain::{HookRequest, Position, Rank, Subscription};
use crate::hooks::Policy;
use crate::providers::{Call, Offered};

#[derive(Serialize, Deserialize)]
struct Kept {
    subscriptions: Vec<Subscription>,
    wants_memory: bool,
    wants_state: bool,
    summary: String,
    ungated: bool,
    failures: u32,
    calls: Vec<KeptCall>,
}

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
    /// For the journal.
    pub(in crate::bus) fn kept(&self) -> serde_json::Value {
        let kept = Kept {
            subscriptions: self.offered.subscriptions.clone(),
            wants_memory: self.offered.wants_memory,
            wants_state: self.offered.wants_state,
            summary: self.offered.summary.clone(),
            ungated: self.ungated,
            failures: self.failures,
            calls: self
                .calls
                .iter()
                .map(|waiting| keep(&waiting.call))
                .collect(),
        };
        serde_json::to_value(kept).unwrap_or_default()
    }

    /// As another daemon wrote it down; its provider has not come yet. Errors: why it does not fit.
    pub(in crate::bus) fn restored(
        module: &str,
        request: &HookRequest,
        priority: i32,
        policy: Policy,
        kept: &serde_json::Value,
        state: serde_json::Value,
    ) -> Result<Self, String> {
        let kept = Kept::deserialize(kept).map_err(|error| error.to_string())?;
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
            }
        };
        let calls: VecDeque<_> = kept.calls.into_iter().map(waits).collect();
        let last = calls.back().map(|waiting| waiting.call.id);
        Ok(Self {
            incomplete: last.filter(|_| kept.wants_memory),
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
