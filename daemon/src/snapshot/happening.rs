//! What happens in a run, for who follows it live.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::ResultSeen;
use crate::domain::{Incident, Position, Rank, Wanted};

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Happening {
    /// Since the run's first rank attached.
    pub at: Duration,
    /// None: the whole run.
    pub rank: Option<Rank>,
    /// Where.
    pub position: Position,
    /// At which point.
    pub point: Arc<str>,
    /// What.
    pub what: What,
    /// So many before this one were lost to this reader.
    pub missed: u64,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum What {
    /// A trainer's event, with its values.
    Event(Vec<(Arc<str>, f64)>),
    /// A hook decided.
    Decision {
        /// The hook.
        by: String,
        /// "stop", "log", "would stop".
        what: Cow<'static, str>,
        /// Why.
        reason: String,
        /// Its id.
        id: String,
    },
    /// A field of the desired state is new or changed.
    State(Wanted),
    /// A command went out.
    Command {
        /// The operator or the hook.
        by: String,
        /// What it does.
        what: Cow<'static, str>,
        /// Its id.
        id: String,
    },
    /// A rank did something.
    Result(ResultSeen),
    /// Something to look at opened or closed.
    Incident(Incident),
    /// A rank came or went.
    Lifecycle(String),
}
