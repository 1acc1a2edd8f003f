//! A store in memory has no registry, and so no versions: every tenant in it is decided by the
//! baseline.

use async_trait::async_trait;

use super::store::MemoryStore;
use crate::domain::version::VersionKey;
use crate::ports::StoreError;
use crate::ports::versions::{Activation, ActiveVersions, StoredVersion};

#[async_trait]
impl ActiveVersions for MemoryStore {
    async fn activations_since(&self, _: i64, _: u32) -> Result<Vec<Activation>, StoreError> {
        Ok(Vec::new())
    }

    async fn version_content(&self, _: &VersionKey) -> Result<Option<StoredVersion>, StoreError> {
        Ok(None)
    }
}
