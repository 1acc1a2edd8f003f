//! Owns the life cycle of an event and which steps of it are legal.
//!
//! Status is derived from what is stored, never a column of its own; `validated` and `processing`
//! are passed inside a worker and show only in the timeline.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Where an event stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Accepted and stored; no worker has decided it.
    Received,
    /// Read back and found to be a valid event.
    Validated,
    /// In the stages of its workflow.
    Processing,
    /// Failed for a passing reason; due again.
    Retrying,
    /// Decided by the machine: a person must decide.
    Escalated,
    /// Approved, by the machine or by a person.
    Approved,
    /// Rejected, by the machine or by a person.
    Rejected,
    /// Dead-lettered with its reason.
    Failed,
}

/// A step that the life cycle does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("illegal transition from {from} to {to}")]
pub struct IllegalTransition {
    /// Where the event stands.
    pub from: Status,
    /// Where it was to go.
    pub to: Status,
}

impl Status {
    /// Every status, in the order of the life cycle.
    pub const ALL: [Self; 8] = [
        Self::Received,
        Self::Validated,
        Self::Processing,
        Self::Retrying,
        Self::Escalated,
        Self::Approved,
        Self::Rejected,
        Self::Failed,
    ];

    /// The statuses that may follow this one.
    pub fn next(self) -> &'static [Self] {
        match self {
            Self::Received => &[Self::Validated, Self::Failed],
            Self::Validated => &[Self::Processing, Self::Failed],
            Self::Processing => &[Self::Approved, Self::Rejected, Self::Escalated, Self::Retrying, Self::Failed],
            Self::Retrying => &[Self::Processing, Self::Failed],
            Self::Escalated => &[Self::Approved, Self::Rejected],
            // A dead letter that is replayed is due again.
            Self::Failed => &[Self::Retrying],
            Self::Approved | Self::Rejected => &[],
        }
    }

    /// Goes on to `to`.
    ///
    /// # Errors
    /// [`IllegalTransition`] when the life cycle has no such step.
    pub fn to(self, to: Self) -> Result<Self, IllegalTransition> {
        if self.next().contains(&to) { Ok(to) } else { Err(IllegalTransition { from: self, to }) }
    }

    /// The lower-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Validated => "validated",
            Self::Processing => "processing",
            Self::Retrying => "retrying",
            Self::Escalated => "escalated",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Status {
    type Err = String;

    fn from_str(raw: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|s| s.as_str() == raw).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|s| s.as_str()).collect();
            format!("must be one of {}, not {raw:?}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Status::{Approved, Escalated, Failed, Processing, Received, Rejected, Retrying, Validated};
    use super::*;

    #[test]
    fn all_pairs_are_legal_exactly_where_the_life_cycle_says() {
        let legal = [
            (Received, Validated),
            (Received, Failed),
            (Validated, Processing),
            (Validated, Failed),
            (Processing, Approved),
            (Processing, Rejected),
            (Processing, Escalated),
            (Processing, Retrying),
            (Processing, Failed),
            (Retrying, Processing),
            (Retrying, Failed),
            (Escalated, Approved),
            (Escalated, Rejected),
            (Failed, Retrying),
        ];
        for from in Status::ALL {
            for to in Status::ALL {
                let want = if legal.contains(&(from, to)) { Ok(to) } else { Err(IllegalTransition { from, to }) };
                assert_eq!(from.to(to), want);
            }
        }
    }

    #[test]
    fn names_read_back() {
        for status in Status::ALL {
            assert_eq!(status.as_str().parse(), Ok(status));
        }
        assert!("done".parse::<Status>().is_err());
    }
}
