//! Owns the guard of what a worker reads of versions. Each worker has one task that looks, one call
//! each: breaker only.

use async_trait::async_trait;
use std::sync::Arc;

use super::Guard;
use crate::domain::version::VersionKey;
use crate::ports::StoreError;
use crate::ports::versions::{Activation, ActiveVersions, StoredVersion};

/// Versions behind their store's guard.
pub struct GuardedVersions {
    inner: Arc<dyn ActiveVersions>,
    guard: Arc<Guard>,
}

impl GuardedVersions {
    /// Puts the guard before the versions.
    pub fn new(inner: Arc<dyn ActiveVersions>, guard: Arc<Guard>) -> Self {
        Self { inner, guard }
    }
}

#[async_trait]
impl ActiveVersions for GuardedVersions {
    async fn activations_since(&self, generation: i64, limit: u32) -> Result<Vec<Activation>, StoreError> {
        self.guard.own(self.inner.activations_since(generation, limit)).await
    }

    async fn version_content(&self, key: &VersionKey) -> Result<Option<StoredVersion>, StoreError> {
        self.guard.own(self.inner.version_content(key)).await
    }
}
