//! Things done once, and what a rank did with them.

use super::Position;

/// How loud a line is, as Python's logging names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Its level.
    pub level: LogLevel,
    /// Without a line break at its end.
    pub text: String,
}

/// A command on its way to one rank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Derived from (run, attempt, hook, rank, position, n): a repeat has the same id.
    pub id: String,
    /// The hook, or the operator.
    pub by: String,
    /// Where it comes from.
    pub at: Position,
    /// What: so far only a line for the log.
    pub log: LogLine,
}

/// What a rank did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
