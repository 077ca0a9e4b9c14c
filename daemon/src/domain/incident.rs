//! Things to look at. An incident opens once and closes on recovery.

use super::{Position, Rank};

/// What kind of thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IncidentKind {
    /// A loss that is not finite.
    InvalidLoss,
    /// A head does not have as many classes as its dataset.
    ClassMismatch,
    /// Ranks did different things with one decision.
    MixedResults,
    /// A hook raised, or panicked, and is off.
    HookFailed,
    /// A rank went without a goodbye.
    RankLost,
    /// A rank did not do what a hook decided ahead.
    NotApplied,
    /// Ranks know different things of their training.
    FactsDiffer,
    /// A trainer took the decision itself, because no answer came in time.
    GateTimedOut,
    /// What happens is not written down: the disk is full, or fails.
    JournalStopped,
    /// A journal of this run could not be read, and was set aside.
    JournalSetAside,
    /// The kernel killed in a trainer's cgroup for want of memory.
    OutOfMemory,
    /// Something that a hook of one's own found.
    ByHook,
}

impl IncidentKind {
    /// Every kind.
    const ALL: [Self; 12] = [
        Self::InvalidLoss,
        Self::ClassMismatch,
        Self::MixedResults,
        Self::HookFailed,
        Self::RankLost,
        Self::NotApplied,
        Self::FactsDiffer,
        Self::GateTimedOut,
        Self::JournalStopped,
        Self::JournalSetAside,
        Self::OutOfMemory,
        Self::ByHook,
    ];

    /// The word on the wire and in `hookbus show`.
    pub fn word(self) -> &'static str {
        match self {
            Self::InvalidLoss => "invalid_loss",
            Self::ClassMismatch => "class_mismatch",
            Self::MixedResults => "mixed_results",
            Self::HookFailed => "hook_failed",
            Self::RankLost => "rank_lost",
            Self::NotApplied => "not_applied",
            Self::FactsDiffer => "facts_differ",
            Self::GateTimedOut => "gate_timed_out",
            Self::JournalStopped => "journal_stopped",
            Self::JournalSetAside => "journal_set_aside",
            Self::OutOfMemory => "out_of_memory",
            Self::ByHook => "by_hook",
        }
    }

    /// Back again.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

/// Something to look at.
#[derive(Clone, Debug, PartialEq)]
pub struct Incident {
    /// The same for the same cause, so that it opens once.
    pub id: String,
    /// What kind.
    pub kind: IncidentKind,
    /// For people.
    pub text: String,
    /// Closed on recovery.
    pub open: bool,
    /// Whose, if one rank's.
    pub rank: Option<Rank>,
    /// Where.
    pub at: Position,
}
