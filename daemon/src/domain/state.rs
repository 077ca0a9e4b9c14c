//! What the daemon wants of a run: one small record with a generation, always sent whole.

/// From where a field of the desired state holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effective {
    /// The next boundary.
    Next,
    /// The next point of any kind.
    Now,
}

/// The training shall end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// The decision's id.
    pub id: String,
    /// From where.
    pub effective: Effective,
    /// Why, for people.
    pub reason: String,
    /// The hook, or the operator.
    pub by: String,
}

/// The desired state of an attempt. An absent field asks for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DesiredState {
    /// Grows with each change, never goes back.
    pub generation: u64,
    /// End the training.
    pub stop: Option<Stop>,
}
