//! Owns the words for wrong input: what was expected, and where (RFC 6901 pointers).

use serde::Serialize;
use std::fmt;

use super::failure::Failure;

/// One wrong field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// JSON pointer (RFC 6901) into the event; empty for the event as a whole.
    pub pointer: String,
    /// What was expected, and what came.
    pub detail: String,
    /// What that is a failure of.
    #[serde(skip)]
    pub failure: Failure,
}

impl Violation {
    /// A violation at `pointer`.
    pub fn at(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into(), failure: Failure::InvalidEvent }
    }
}

/// Why a text is not an event. Every kind has its own answer on every door.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// The text is no JSON, or nested too deeply to be read.
    #[error("broken JSON: {0}")]
    Broken(String),
    /// JSON, but not an event: every wrong field at once.
    #[error("invalid event: {}", Listed(.0))]
    Fields(Vec<Violation>),
    /// The event names another tenant than the credential or header.
    #[error("tenant mismatch: the event says {said:?}, the caller is {caller:?}")]
    TenantMismatch {
        /// The tenant in the event.
        said: String,
        /// The tenant of the credential or header.
        caller: String,
    },
    /// No tenant in the event, the header or the credential.
    #[error("tenant missing: give `tenant_id`, or the header `X-Tenant-ID`")]
    TenantMissing,
    /// No idempotency key where one is required.
    #[error("idempotency key missing: {0}")]
    KeyMissing(&'static str),
}

impl Invalid {
    /// What it is a failure of; of several wrong fields the one that weighs the most.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Fields(wrong) => failure_of(wrong),
            Self::Broken(_) | Self::KeyMissing(_) => Failure::InvalidEvent,
            Self::TenantMismatch { .. } => Failure::Isolation,
            Self::TenantMissing => Failure::InvalidTenant,
        }
    }
}

/// What wrong fields are a failure of: a risk score outside its range weighs more than any other.
pub fn failure_of(wrong: &[Violation]) -> Failure {
    let high = wrong.iter().any(|violation| violation.failure == Failure::ScoreOutOfRange);
    if high { Failure::ScoreOutOfRange } else { Failure::InvalidEvent }
}

struct Listed<'a>(&'a [Violation]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, v) in self.0.iter().enumerate() {
            let (gap, at) = (if n == 0 { "" } else { "; " }, if v.pointer.is_empty() { "/" } else { &v.pointer });
            write!(f, "{gap}{at}: {}", v.detail)?;
        }
        Ok(())
    }
}

/// `name` as one segment of a JSON pointer.
pub fn pointer_segment(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
