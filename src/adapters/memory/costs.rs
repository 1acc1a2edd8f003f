//! A store in memory has no registry, and so no budgets: nothing in it is ever stopped.

use async_trait::async_trait;

use super::store::MemoryStore;
use crate::domain::{Month, TenantId};
use crate::ports::StoreError;
use crate::ports::costs::{Stop, Stops};

#[async_trait]
impl Stops for MemoryStore {
    async fn stops(&self, _: Month, _: Option<&TenantId>, _: u32) -> Result<Vec<Stop>, StoreError> {
        Ok(Vec::new())
    }
}
