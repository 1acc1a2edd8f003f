//! Where retrieval gets a subject's history from.

use async_trait::async_trait;

use crate::domain::context::{Observation, Subject24h};

/// The context store did not answer; completes "failed to …". The decision goes on without it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("reach the context store: {0}")]
pub struct ContextError(pub String);

/// Counts accepted events by subject.
#[async_trait]
pub trait ContextSource: Send + Sync {
    /// Counts every event of the batch (once, however often it is observed), then gives for each,
    /// in the order of the batch, its subject's figures: the events of the same tenant and subject
    /// with an id up to its own and a time in `(at − 24 h, at]`, itself included, batch-mates
    /// included. One round trip.
    ///
    /// # Errors
    /// When the store is away; whether the batch was counted is then unknown, and does not matter.
    async fn observe(&self, batch: &[Observation]) -> Result<Vec<Subject24h>, ContextError>;
}
