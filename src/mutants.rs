//! Owns the deliberate defects on which the chaos suite proves that it would find real ones, and the
//! events that kill their worker. Never does anything without the cargo feature `mutants`, which
//! only test builds have: without it every question here is a constant "no" that compiles away.

#[cfg(feature = "mutants")]
mod chosen;

/// A defect. Its name in `RISKFLEET_TEST_MUTANT` is [`Mutant::name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// A commit does not compare the epoch.
    FenceRemoved,
    /// A pack is acknowledged when it is taken, not when it is committed.
    AckBeforeCommit,
    /// A publication counts as confirmed whatever the broker said.
    ConfirmIgnored,
    /// A consumer sets no prefetch.
    QosForgotten,
    /// An idempotency key is never found again.
    DedupeRemoved,
    /// The outbox row of an accept is deleted before its packs are confirmed.
    SettleBeforeConfirm,
    /// What the broker has lost is never published again.
    RefillSkipped,
    /// Outcomes that a crash left behind are never published again.
    OutcomeNotRepublished,
}

impl Mutant {
    /// Every one.
    pub const ALL: [Self; 8] = [
        Self::FenceRemoved,
        Self::AckBeforeCommit,
        Self::ConfirmIgnored,
        Self::QosForgotten,
        Self::DedupeRemoved,
        Self::SettleBeforeConfirm,
        Self::RefillSkipped,
        Self::OutcomeNotRepublished,
    ];

    /// Its name, in words with dashes.
    pub fn name(self) -> &'static str {
        match self {
            Self::FenceRemoved => "fence-removed",
            Self::AckBeforeCommit => "ack-before-commit",
            Self::ConfirmIgnored => "confirm-ignored",
            Self::QosForgotten => "qos-forgotten",
            Self::DedupeRemoved => "dedupe-removed",
            Self::SettleBeforeConfirm => "settle-before-confirm",
            Self::RefillSkipped => "refill-skipped",
            Self::OutcomeNotRepublished => "outcome-not-republished",
        }
    }
}

#[cfg(feature = "mutants")]
pub use chosen::{active, poison};

/// Whether this process runs with that defect: never, in this build.
#[cfg(not(feature = "mutants"))]
pub const fn active(_: Mutant) -> bool {
    false
}

/// Ends the process, or the task, for an event that asks for it: nothing, in this build.
#[cfg(not(feature = "mutants"))]
pub const fn poison(_: &crate::domain::Event) {}
