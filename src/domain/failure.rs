//! Owns the six classes of failure. Every failure has exactly one.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What kind of failure it was: what the operator does next depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FailureClass {
    /// The event, tenant or metadata is not valid.
    ValidationError,
    /// Unapproved model, authorization, isolation, governance.
    PolicyViolation,
    /// A risk score outside its range.
    HighRisk,
    /// Illegal transition, idempotency conflict, a stage that failed.
    WorkflowError,
    /// Encryption, store, broker, Redis.
    InfraError,
    /// Anything else.
    UnexpectedError,
}

impl FailureClass {
    /// Every class, in the order of their numbers in the store.
    pub const ALL: [Self; 6] = [
        Self::ValidationError,
        Self::PolicyViolation,
        Self::HighRisk,
        Self::WorkflowError,
        Self::InfraError,
        Self::UnexpectedError,
    ];

    /// The upper-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ValidationError => "VALIDATION_ERROR",
            Self::PolicyViolation => "POLICY_VIOLATION",
            Self::HighRisk => "HIGH_RISK",
            Self::WorkflowError => "WORKFLOW_ERROR",
            Self::InfraError => "INFRA_ERROR",
            Self::UnexpectedError => "UNEXPECTED_ERROR",
        }
    }

    /// Reads the upper-case name.
    pub fn parse(raw: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.as_str() == raw)
    }
}

/// What went wrong, as far as the class depends on it. Every error of the system is one of these, by an
/// exhaustive match beside its type: a new kind of error can't be forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// An event, or a request, that is not what it must be; metadata among them.
    InvalidEvent,
    /// A tenant that is missing or is no tenant's name.
    InvalidTenant,
    /// A risk score outside its range.
    ScoreOutOfRange,
    /// A model or prompt that is not approved, or can't be vouched for.
    NotApproved,
    /// A credential that does not hold, does not allow it, or asks for more than it may.
    NotAuthorized,
    /// Another tenant's.
    Isolation,
    /// Against a rule of governance: four eyes, legal hold, erasure, retention.
    Governance,
    /// Something that can't follow on where a thing stands.
    IllegalTransition,
    /// An idempotency key that stands for something else.
    IdempotencyConflict,
    /// A stage that failed.
    Workflow,
    /// What does not open, or can't be sealed.
    Encryption,
    /// The store.
    Store,
    /// The broker.
    Broker,
    /// Leases, rates or context.
    Redis,
    /// The process itself: full, stopping, too slow.
    Process,
    /// A defect of ours.
    Unexpected,
}

impl Failure {
    /// Its class.
    pub fn class(self) -> FailureClass {
        match self {
            Self::InvalidEvent | Self::InvalidTenant => FailureClass::ValidationError,
            Self::ScoreOutOfRange => FailureClass::HighRisk,
            Self::NotApproved | Self::NotAuthorized | Self::Isolation | Self::Governance => {
                FailureClass::PolicyViolation
            }
            Self::IllegalTransition | Self::IdempotencyConflict | Self::Workflow => FailureClass::WorkflowError,
            Self::Encryption | Self::Store | Self::Broker | Self::Redis | Self::Process => FailureClass::InfraError,
            Self::Unexpected => FailureClass::UnexpectedError,
        }
    }
}

impl fmt::Display for FailureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
