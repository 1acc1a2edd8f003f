//! Bugs that are planted, to show that the simulation finds them. Each is something that a change of
//! the real code could bring about.

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A pack is acknowledged when it is delivered, before its commit.
    AckOnDelivery,
    /// The store takes every request for a new one.
    DedupeForgotten,
    /// What the broker has confirmed and lost is never published again.
    NoRefill,
    /// Outcomes that were not confirmed are never published again.
    OutcomesNotRepeated,
    /// A commit is written whatever epoch it comes under.
    NoFence,
    /// The store says that it has written, and has not.
    CommitForgotten,
}

impl Bug {
    pub(crate) const ALL: [Self; 6] = [
        Self::AckOnDelivery,
        Self::DedupeForgotten,
        Self::NoRefill,
        Self::OutcomesNotRepeated,
        Self::NoFence,
        Self::CommitForgotten,
    ];
}
