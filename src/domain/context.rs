//! Owns the context snapshot: what retrieval found, stored with the decision so that replay
//! needs nothing else.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::ids::{EventId, TenantId};

/// What a decision was made in the light of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// The subject's history; null for an event without a subject, or when it was out of reach.
    pub subject_24h: Option<Subject24h>,
    /// True when the context store did not answer: the decision was made without it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unavailable: bool,
    /// True when the tenant's budget was used up and stops: no scorer was asked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub budget_exhausted: bool,
}

impl Snapshot {
    /// The snapshot of an event whose context was out of reach.
    pub fn unavailable() -> Self {
        Self { unavailable: true, ..Self::default() }
    }
}

/// A subject's accepted events in the 24 h up to and including the event's time, this event
/// included; of events with the same or a later id, only this one counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject24h {
    /// How many.
    pub count: u64,
    /// Sum of their amounts, in minor units; events without an amount add nothing.
    pub amount_sum: i64,
    /// True when the subject had more events than are kept, so that the figures are lower bounds.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

/// One event, as the context store counts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// The event; counted once, however often it is observed.
    pub event: EventId,
    /// Whose.
    pub tenant: TenantId,
    /// About whom.
    pub subject: String,
    /// Minor units; 0 where the event has none.
    pub amount: i64,
    /// The event's time.
    pub at: DateTime<Utc>,
}

/// The window of [`Subject24h`], in milliseconds: `(at − 24 h, at]`.
pub const WINDOW_MS: u64 = 24 * 60 * 60 * 1000;

/// How far behind the window's start, counted from the newest event's time, events are still kept
/// in milliseconds: an event that comes late by no more than this is counted exactly.
pub const SLACK_MS: u64 = 60 * 60 * 1000;

/// How many events of one subject are kept at most; older ones are dropped and the figures are
/// marked as truncated.
pub const SUBJECT_EVENTS_MAX: usize = 50_000;
