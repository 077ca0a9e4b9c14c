//! What the daemon asks of a client: per subscriber and point, how often, which fields, and whether the trainer waits.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Every;

/// The two ways to send an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Way {
    /// Sent, never waited for.
    Observe,
    /// The trainer waits for the answer if the condition holds, at most the deadline.
    Gate,
}

/// What a gate does on timeout, without a daemon, or with an open breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Otherwise {
    /// The training goes on.
    Continue,
    /// The training stops here.
    Stop,
}

/// A condition that the client checks on its rank.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum When {
    /// No condition.
    Always,
    /// This field is there and is NaN or infinite.
    NotFinite(String),
}

/// One wish of one subscriber at one point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// The hook's name, or "record".
    pub subscriber: String,
    /// The point's name.
    pub point: String,
    /// How often.
    pub every: Every,
    /// Metrics, "rss_bytes", or "*" for every metric.
    pub fields: Vec<String>,
    /// Whether the trainer waits.
    pub way: Way,
    /// Only looked at for a gate.
    pub when: When,
    /// Only looked at for a gate.
    pub otherwise: Otherwise,
    /// Only looked at for a gate.
    pub deadline: Duration,
    /// Reason and log line of a stop by `otherwise`.
    pub otherwise_text: String,
}

impl Subscription {
    /// An observe subscription; the bus fills in the subscriber.
    pub fn observe(point: &str, every: Every, fields: &[&str]) -> Self {
        Self {
            subscriber: String::new(),
            point: point.to_owned(),
            every,
            fields: fields.iter().map(|field| (*field).to_owned()).collect(),
            way: Way::Observe,
            when: When::Always,
            otherwise: Otherwise::Continue,
            deadline: Duration::ZERO,
            otherwise_text: String::new(),
        }
    }
}

/// Everything asked of one client.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Grows with each change.
    pub generation: u64,
    /// In the order of the hooks' priorities.
    pub subscriptions: Vec<Subscription>,
    /// Share of wall time that gates may cost; 0: no budget.
    pub stall_budget: f64,
    /// How often an open breaker probes.
    pub probe: Duration,
}
