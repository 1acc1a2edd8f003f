//! Where the data keys are kept, and what they are wrapped by.
//!
//! A tenant has a key of its own, wrapped by the master key; every subject of it has one, wrapped by
//! the tenant's. Nothing here sees a key in the clear: rows hold wrapped keys, and a row without one
//! is a key that was destroyed, for good.

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::StoreError;
use crate::domain::{AuditBody, TenantId};

/// Which master key: a fingerprint that tells nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MasterId(pub [u8; 16]);

impl fmt::Display for MasterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Enough to tell two keys apart.
        f.write_str(&hex::encode(&self.0[..4]))
    }
}

/// Whose key within a tenant: a subject in 16 bytes that only who holds the tenant's key can make of
/// its name, or [`Tag::OWN`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(pub [u8; 16]);

impl Tag {
    /// The tenant's own key: of events without a subject, and over those of its subjects.
    pub const OWN: Self = Self([0; 16]);
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A data key as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// Its tenant.
    pub tenant: TenantId,
    /// Whose within the tenant.
    pub tag: Tag,
    /// Its id, which stands in every envelope that was sealed under it.
    pub id: Uuid,
    /// The wrapped key; none where it was destroyed.
    pub wrapped: Option<Bytes>,
    /// Under which master key, for a tenant's own one.
    pub master: Option<MasterId>,
}

/// What a process looks at again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VaultState {
    /// How many erasures there were.
    pub generation: i64,
    /// Under which master key new keys are wrapped; none before the first start.
    pub master: Option<MasterId>,
}

/// What became of keys that were to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Made {
    /// The key that stands for each, in order: the one that was offered, or the one that somebody
    /// else had made before, destroyed ones as they are.
    Keys(Vec<KeyRow>),
    /// Nothing was written: another master key wraps new keys by now.
    OtherMaster(MasterId),
}

/// An erasure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erased {
    /// Whose.
    pub tenant: TenantId,
    /// Which subject; [`Tag::OWN`]: the whole tenant.
    pub tag: Tag,
}

/// What an erasure would destroy, or has destroyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Survey {
    /// Keys that can still be used.
    pub keys: u64,
    /// Stored events that are sealed under them; none where counting them takes too long.
    pub events: Option<u64>,
    /// Whether it was erased before: a subject by itself, or with its whole tenant.
    pub erased: bool,
}

/// What became of an erasure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EraseAct {
    /// The keys are destroyed; so many of them.
    Done(u64),
    /// They were before: nothing was written.
    Already,
    /// The tenant is under legal hold: nothing was written.
    Held,
}

/// The keeping of data keys. Every verb may fail with [`StoreError::Away`] or [`StoreError::Fault`].
#[async_trait]
pub trait Vault: Send + Sync {
    /// How it stands. One small read.
    async fn state(&self) -> Result<VaultState, StoreError>;

    /// Names the master key of a vault that has none yet. Gives the one that holds.
    async fn adopt(&self, master: MasterId) -> Result<MasterId, StoreError>;

    /// Keeps new keys, each unless its owner has one; `master` is the one that the tenants' own are
    /// wrapped under. Of a tenant whose own key is destroyed nothing is written, and its destroyed
    /// own key is given. An erasure is seen by every later call: a destroyed key stays.
    async fn make_keys(&self, master: MasterId, new: &[KeyRow]) -> Result<Made, StoreError>;

    /// The keys of these owners that there are, destroyed ones too; any order.
    async fn keys_of(&self, owners: &[(TenantId, Tag)]) -> Result<Vec<KeyRow>, StoreError>;

    /// The keys of these ids that there are, and the own keys of their tenants; any order.
    async fn keys_named(&self, ids: &[Uuid]) -> Result<Vec<KeyRow>, StoreError>;

    /// The erasures behind a generation, at most `limit`, any order.
    async fn erased_since(&self, generation: i64, limit: u32) -> Result<Vec<Erased>, StoreError>;

    /// What an erasure of a subject, or with [`Tag::OWN`] of the whole tenant, would destroy.
    async fn survey(&self, tenant: &TenantId, tag: Tag) -> Result<Survey, StoreError>;

    /// Destroys the key of a subject, or the tenant's own and with it every one of its, and refuses
    /// new ones from then on, whether there was one or not; `audit` is written to the tenant's control
    /// chain in the same transaction.
    ///
    /// # Errors
    /// [`StoreError::Fault`] also when `audit` is of another chain.
    async fn erase(&self, tenant: &TenantId, tag: Tag, audit: &AuditBody) -> Result<EraseAct, StoreError>;

    /// From now on new keys are wrapped under this master key; `audit` is written to the platform's
    /// control chain. False, and nothing written, where it was so before.
    async fn change_master(&self, master: MasterId, audit: &AuditBody) -> Result<bool, StoreError>;

    /// Tenants' own keys that are wrapped under another master key than this, at most `limit`.
    async fn under_others(&self, master: MasterId, limit: u32) -> Result<Vec<KeyRow>, StoreError>;

    /// Puts keys in their place that are wrapped anew, each where it is still wrapped as in the first
    /// of the two: one that was destroyed meanwhile stays destroyed. Gives how many.
    async fn rewrap(&self, rows: &[(KeyRow, KeyRow)]) -> Result<u64, StoreError>;
}

/// Why a key could not be wrapped or unwrapped; completes "failed to …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WrapError {
    /// No such master key here.
    #[error("{0}")]
    Missing(String),
    /// What was kept is not what this master key has wrapped.
    #[error("unwrap a data key: it is not what the master key {0} has wrapped")]
    Broken(MasterId),
    /// What holds the master key does not answer.
    #[error("reach the master key: {0}")]
    Away(String),
}

/// The master key: in this process, or in a key management service.
#[async_trait]
pub trait KeyWrap: Send + Sync {
    /// The master key that new keys are to be wrapped under, in the end.
    ///
    /// # Errors
    /// [`WrapError::Missing`] when there is none.
    fn current(&self) -> Result<MasterId, WrapError>;

    /// Whether this master key can be used here.
    fn knows(&self, master: MasterId) -> bool;

    /// Wraps a key. `place` says whose it is: wrapped, it opens in no other place.
    ///
    /// # Errors
    /// [`WrapError`].
    async fn wrap_key(&self, master: MasterId, place: &[u8], key: &[u8; 32]) -> Result<Bytes, WrapError>;

    /// Unwraps a key.
    ///
    /// # Errors
    /// [`WrapError`].
    async fn unwrap_key(
        &self,
        master: MasterId,
        place: &[u8],
        wrapped: &[u8],
    ) -> Result<Zeroizing<[u8; 32]>, WrapError>;
}
