//! Things done once, and what a rank did with them.

use serde::{Deserialize, Serialize};

use super::{Effective, Position};

/// How loud a line is, as Python's logging names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogLevel {
    /// DEBUG
    Debug,
    /// INFO
    Info,
    /// WARNING
    Warning,
    /// ERROR
    Error,
}

/// A line for the trainer's own log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Its level.
    pub level: LogLevel,
    /// Without a line break at its end.
    pub text: String,
}

/// What a command does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Deed {
    /// Writes a line to the trainer's log.
    Log(LogLine),
    /// Saves a checkpoint.
    Checkpoint {
        /// A word for the file's name.
        tag: String,
    },
    /// Something of the trainer's own.
    Custom {
        /// What.
        name: String,
        /// With what; empty: nothing.
        json: String,
    },
}

impl Deed {
    /// The word for people.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Log(_) => "log",
            Self::Checkpoint { .. } => "checkpoint",
            Self::Custom { .. } => "custom",
        }
    }
}

/// A command on its way to one rank: something done once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// A hook's derives from (run, attempt, hook, rank, position, n): a repeat has the same id. An operator's comes with it.
    pub id: String,
    /// The hook, or the operator.
    pub by: String,
    /// Where it comes from.
    pub at: Position,
    /// From where it may be done.
    pub effective: Effective,
    /// What.
    pub deed: Deed,
}

/// What a rank did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Done.
    Applied,
    /// The trainer does not accept it, or its position has passed.
    Rejected,
    /// Nothing is bound that could do it.
    Unsupported,
    /// Tried, and it raised.
    Failed,
    /// The run ended or the time was over before.
    Expired,
}

impl Outcome {
    /// Every one.
    const ALL: [Self; 5] = [
        Self::Applied,
        Self::Rejected,
        Self::Unsupported,
        Self::Failed,
        Self::Expired,
    ];

    /// The word for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Rejected => "rejected",
            Self::Unsupported => "unsupported",
            Self::Failed => "failed",
            Self::Expired => "expired",
        }
    }

    /// Back again.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.word() == word)
    }
}

/// What one rank did with a state or a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrainerResult {
    /// The decision's or command's id.
    pub id: String,
    /// What happened.
    pub outcome: Outcome,
    /// Where it was applied.
    pub at: Position,
    /// At which point.
    pub point: String,
    /// The value before.
    pub old: Option<String>,
    /// The value after.
    pub new: Option<String>,
    /// Why not.
    pub reason: String,
}
