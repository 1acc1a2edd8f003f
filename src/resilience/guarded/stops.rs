//! Owns the guard of what a worker reads of budgets. Each worker has one task that looks, one call each:
//! breaker only.

use async_trait::async_trait;
use std::sync::Arc;

use super::Guard;
use crate::domain::{Month, TenantId};
use crate::ports::StoreError;
use crate::ports::costs::{Stop, Stops};

/// Budgets that stop, behind their store's guard.
pub struct GuardedStops {
    inner: Arc<dyn Stops>,
    guard: Arc<Guard>,
}

impl GuardedStops {
    /// Puts the guard before the budgets.
    pub fn new(inner: Arc<dyn Stops>, guard: Arc<Guard>) -> Self {
        Self { inner, guard }
    }
}

#[async_trait]
impl Stops for GuardedStops {
    async fn stops(&self, month: Month, after: Option<&TenantId>, limit: u32) -> Result<Vec<Stop>, StoreError> {
        self.guard.own(self.inner.stops(month, after, limit)).await
    }
}
