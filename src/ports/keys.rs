//! API keys: making, finding, listing and revoking them, and the noting of their use. Who may do so is
//! not asked here; each change brings the audit record that is written with it.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::store::StoreError;
use crate::domain::audit::Hash;
use crate::domain::{ApiKey, AuditBody, KeyId, TenantId};

/// Which keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFilter {
    /// Only this tenant's; none: everybody's, those of operators among them.
    pub tenant: Option<TenantId>,
    /// Only keys older than this one.
    pub before: Option<KeyId>,
    /// At most so many.
    pub limit: u32,
}

/// What became of a revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyAct {
    /// The key is revoked.
    Done,
    /// It was revoked before; nothing was written.
    Revoked,
    /// There is no such key.
    Unknown,
}

/// The keys of a fleet. One verb is one transaction, its audit record in it. The record belongs to the
/// control chain of the key's tenant, of a key without one to that of `TenantId::platform()`.
#[async_trait]
pub trait Keys: Send + Sync {
    /// Keeps a new key.
    ///
    /// # Errors
    /// [`StoreError::Refused`] where the id or the hash is there already, or tenant and roles do not
    /// fit each other.
    async fn create_key(&self, key: &ApiKey, audit: &AuditBody) -> Result<(), StoreError>;

    /// Keeps a key of an operator, unless there is one that is neither revoked nor expired at
    /// `key.created_at`: then it gives false, and nothing was written. Of two at once one is kept.
    ///
    /// # Errors
    /// As [`Keys::create_key`].
    async fn create_first_key(&self, key: &ApiKey, audit: &AuditBody) -> Result<bool, StoreError>;

    /// Takes a key back, at `audit.at`, by `audit.actor`, because of `audit.reason`.
    ///
    /// # Errors
    /// [`StoreError::Fault`] where the record is of another chain than the key's.
    async fn revoke_key(&self, id: KeyId, audit: &AuditBody) -> Result<KeyAct, StoreError>;

    /// One key.
    async fn key(&self, id: KeyId) -> Result<Option<ApiKey>, StoreError>;

    /// The key whose text has this SHA-256, revoked and expired ones too.
    async fn key_by_hash(&self, hash: &Hash) -> Result<Option<ApiKey>, StoreError>;

    /// Keys, the newest first.
    async fn list_keys(&self, filter: &KeyFilter) -> Result<Vec<ApiKey>, StoreError>;

    /// Notes when keys were last used; a use within a minute of the noted one is passed over, and so
    /// is a key that is not there.
    async fn touch_keys(&self, used: &[(KeyId, DateTime<Utc>)]) -> Result<(), StoreError>;

    /// Hangs a record on its control chain, with nothing besides: what was refused.
    ///
    /// # Errors
    /// [`StoreError::Fault`] where the record is of no control chain.
    async fn append_control(&self, audit: &AuditBody) -> Result<(), StoreError>;
}

/// The control chain of what is done to a key.
pub fn chain_of(tenant: Option<&TenantId>) -> TenantId {
    tenant.cloned().unwrap_or_else(TenantId::platform)
}
