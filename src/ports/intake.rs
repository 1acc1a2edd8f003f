//! The door of ingest: what the HTTP API, the inbox consumer and the file import hand events to.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use std::time::Duration;

use crate::domain::{CorrelationId, EventBody, EventId, IdempotencyKey, Status, TenantId, TraceContext};

/// An event that was read and is not yet accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// What makes it the same request.
    pub key: IdempotencyKey,
    /// Taken or made.
    pub correlation_id: CorrelationId,
    /// The span of its request, where the event is traced.
    pub traceparent: Option<TraceContext>,
    /// The payload.
    pub body: EventBody,
    /// Whether somebody waits for the decision ([`Intake::decision`]).
    pub wait: bool,
}

/// What became of a candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// Stored; it will be decided.
    Accepted(Receipt),
    /// The same key and payload were stored before: the first answer again.
    Replayed(Receipt),
    /// The same key with another payload was stored before, as this event.
    Conflict(EventId),
    /// Its subject, or its whole tenant, is erased: nothing of it is stored any more.
    Erased,
}

/// The answer to an accepted event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Its id.
    pub event_id: EventId,
    /// Whose.
    pub tenant_id: TenantId,
    /// Where it stands now.
    pub status: Status,
    /// The moment of the (first) accept.
    pub created_at: DateTime<Utc>,
    /// Of the (first) request.
    pub correlation_id: CorrelationId,
}

/// Why nothing was taken; completes "failed to …". All or nothing for the candidates of one call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IntakeError {
    /// The accept queue is full.
    #[error("accept: the queue is full, try again in {0:?}")]
    Full(Duration),
    /// So much of the tenant waits in the accept queue that no more of it is let in.
    #[error("accept: tenant {tenant} has its share of the queue, try again in {retry_after:?}")]
    TenantFull {
        /// Whose events were too many.
        tenant: TenantId,
        /// When to try again.
        retry_after: Duration,
    },
    /// The tenant sends faster than it may.
    #[error("accept: tenant {tenant} is above its rate, try again in {retry_after:?}")]
    RateLimited {
        /// Whose events were too many.
        tenant: TenantId,
        /// When as many would be taken.
        retry_after: Duration,
    },
    /// So much is accepted and unpublished that no more is taken.
    #[error("accept: the broker is away and {unpublished} events wait for it, try again in {retry_after:?}")]
    Backlog {
        /// Events stored and not yet published.
        unpublished: u64,
        /// When to try again.
        retry_after: Duration,
    },
    /// The store is away: whether the events were stored is unknown, the same keys may be sent again.
    #[error("accept: the store is away, try again in {retry_after:?}")]
    StoreAway {
        /// When to try again.
        retry_after: Duration,
    },
    /// The process is going down.
    #[error("accept: this process is stopping")]
    Stopping,
}

impl IntakeError {
    /// When the same call may be tried again.
    pub fn retry_after(&self) -> Duration {
        match self {
            Self::Full(wait) => *wait,
            Self::TenantFull { retry_after, .. }
            | Self::RateLimited { retry_after, .. }
            | Self::Backlog { retry_after, .. }
            | Self::StoreAway { retry_after } => *retry_after,
            Self::Stopping => Duration::from_secs(1),
        }
    }
}

/// Takes events.
#[async_trait]
pub trait Intake: Send + Sync {
    /// Stores candidates, gathered with whatever else is waiting, and gives one result each, in
    /// order. Returns after the commit; publishing goes on behind.
    ///
    /// # Errors
    /// [`IntakeError`], for the call as a whole.
    async fn submit(&self, candidates: Vec<Candidate>) -> Result<Vec<Taken>, IntakeError>;

    /// Waits at most `patience` for the decision of an event submitted with `wait`; gives the
    /// decision as shown, or nothing when it did not come in time.
    async fn decision(&self, event: EventId, patience: Duration) -> Option<serde_json::Value>;
}
