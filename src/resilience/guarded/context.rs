//! Owns the guard of the context store. While its circuit is open decisions are made without
//! context at once, instead of after a timeout each.

use async_trait::async_trait;
use std::sync::Arc;

use super::{Full, Guard, Open, PortError};
use crate::domain::context::{Observation, Subject24h};
use crate::ports::{ContextError, ContextSource};

/// A context source behind its guard.
pub struct GuardedContext {
    inner: Arc<dyn ContextSource>,
    guard: Arc<Guard>,
}

impl GuardedContext {
    /// Puts the guard before the source.
    pub fn new(inner: Arc<dyn ContextSource>, guard: Arc<Guard>) -> Self {
        Self { inner, guard }
    }
}

impl PortError for ContextError {
    fn says_away(&self) -> bool {
        true
    }

    fn open(open: Open) -> Self {
        Self(open.to_string())
    }

    fn full(full: Full) -> Self {
        Self(full.to_string())
    }
}

#[async_trait]
impl ContextSource for GuardedContext {
    async fn observe(&self, batch: &[Observation]) -> Result<Vec<Subject24h>, ContextError> {
        self.guard.shared(self.inner.observe(batch)).await
    }
}
