//! Tenants as operators see them: how long theirs is kept, and what must not go.
//!
//! A tenant has a row only once somebody has set something of it; events need none.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::StoreError;
use crate::domain::{AuditBody, TenantId};

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its name.
    pub id: TenantId,
    /// When something was first set of it; none where nothing ever was.
    pub created_at: Option<DateTime<Utc>>,
    /// How long its events are kept, in days; none: as long as the fleet's; 0: for ever.
    pub retention_days: Option<u32>,
    /// The legal hold that it is under.
    pub hold: Option<Hold>,
}

impl Tenant {
    /// A tenant of whom nothing is set.
    pub fn plain(id: TenantId) -> Self {
        Self { id, created_at: None, retention_days: None, hold: None }
    }
}

/// A legal hold: nothing of the tenant goes while it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Why.
    pub reason: String,
    /// Who set it.
    pub by: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// What became of a change of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TenantAct {
    /// It was done; the tenant as it is now.
    Done(Tenant),
    /// It was so before: nothing was written. The tenant as it is.
    Already(Tenant),
}

/// Tenants and what is set of them. Every change writes `audit` (all but the place in the chain) to
/// the tenant's control chain in its own transaction; the store fills in its previous and new state.
///
/// Every verb may fail with [`StoreError::Away`] or [`StoreError::Fault`]; the changes with the
/// latter also when `audit` is of another chain.
#[async_trait]
pub trait Tenants: Send + Sync {
    /// One page of the tenants of whom something is set or who have an audit chain, ordered by name
    /// (bytewise), behind `after`; at most `limit`. The platform's own chain is none of them.
    async fn list_tenants(&self, after: Option<&TenantId>, limit: u32) -> Result<Vec<Tenant>, StoreError>;

    /// A tenant; none where nothing is set of it and it has no audit chain.
    async fn tenant(&self, id: &TenantId) -> Result<Option<Tenant>, StoreError>;

    /// Sets how long a tenant's events are kept: days, up to
    /// [`crate::domain::retention::RETENTION_DAYS_MAX`]; 0: for ever; none: as long as the fleet's.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for more days.
    async fn set_retention(&self, id: &TenantId, days: Option<u32>, audit: &AuditBody)
    -> Result<TenantAct, StoreError>;

    /// Puts a tenant under legal hold, for `audit`'s reason, by its actor, at its time. Once this has
    /// answered, no day with events of the tenant goes until the hold is released.
    async fn hold(&self, id: &TenantId, audit: &AuditBody) -> Result<TenantAct, StoreError>;

    /// Releases a tenant's legal hold.
    async fn release(&self, id: &TenantId, audit: &AuditBody) -> Result<TenantAct, StoreError>;
}

/// The states before and after, as an audit record tells them: what is set, without free text.
pub fn shown(tenant: &Tenant) -> serde_json::Value {
    serde_json::json!({ "retention_days": tenant.retention_days, "legal_hold": tenant.hold.is_some() })
}
