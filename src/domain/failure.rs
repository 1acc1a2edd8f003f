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

impl fmt::Display for FailureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
