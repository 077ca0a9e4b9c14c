//! Names of things: which run, which rank.

use std::fmt;
use std::sync::Arc;

/// One training job: its name and what all ranks of one start share.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId {
    /// The run's name, as people say it.
    pub name: Arc<str>,
    /// The launch id; tells two runs of one name apart.
    pub launch: Arc<str>,
}

impl RunId {
    /// Whether this is its name or its id.
    pub fn is_called(&self, asked: &str) -> bool {
        *self.name == *asked || self.to_string() == asked
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}@{}", self.name, self.launch)
    }
}

/// One process of a run, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rank(pub u32);

impl fmt::Display for Rank {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}
