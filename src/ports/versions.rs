//! Versions of models and prompts: registering, four eyes, what is active, and what workers and
//! replays read of it.
//!
//! One verb is one transaction; each that changes something completes the audit record that it is
//! given (resource, previous and new state) and hangs it on the tenant's control chain.
//!
//! # Decisions
//! What is active is one row a tenant and kind with a generation that rises with every change, given
//! out under a lock that is held to the end of the transaction: whoever has seen generation *n* has
//! seen everything up to it, and a worker asks for what came since.

use async_trait::async_trait;

use super::store::StoreError;
use crate::domain::audit::Hash;
use crate::domain::version::{
    Artifact, NewVersion, Refused, Review, Ruling, Version, VersionKey, VersionName, VersionRef,
};
use crate::domain::{AuditBody, TenantId};

/// What was done, or why it was not.
pub type Act<T> = Result<T, Refused>;

/// Which versions; one tenant's, one kind's, by name and then by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionFilter {
    /// Whose.
    pub tenant: TenantId,
    /// Of what.
    pub artifact: Artifact,
    /// Only of this name.
    pub name: Option<VersionName>,
    /// Only those that stand so.
    pub review: Option<Review>,
    /// Only those behind this one.
    pub after: Option<VersionRef>,
    /// At most so many, 1 or more.
    pub limit: u32,
}

/// A version with what it holds, as it stands in the store: nobody has compared them yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredVersion {
    /// The version.
    pub version: Version,
    /// Its content.
    pub content: Vec<u8>,
}

/// What is active for a tenant since a generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activation {
    /// Unique in the fleet, rising.
    pub generation: i64,
    /// Whose.
    pub tenant: TenantId,
    /// Of what.
    pub artifact: Artifact,
    /// The version with the SHA-256 that it had when it was made active; none: nothing is active.
    pub active: Option<(VersionRef, Hash)>,
}

/// What workers and replays read. A store without a registry has no versions, and everything in it is
/// decided by the baseline.
#[async_trait]
pub trait ActiveVersions: Send + Sync {
    /// What was made active or inactive since `generation` (0: ever), oldest first, at most `limit`.
    ///
    /// # Errors
    /// When the store is away.
    async fn activations_since(&self, generation: i64, limit: u32) -> Result<Vec<Activation>, StoreError>;

    /// A version with its content.
    ///
    /// # Errors
    /// When the store is away.
    async fn version_content(&self, key: &VersionKey) -> Result<Option<StoredVersion>, StoreError>;
}

/// What people do with versions.
#[async_trait]
pub trait Versions: ActiveVersions {
    /// Registers a version, pending, under the next number of its name.
    ///
    /// # Errors
    /// When the store is away. Refused: [`Refused::Full`].
    async fn register_version(&self, new: &NewVersion, audit: &AuditBody) -> Result<Act<Version>, StoreError>;

    /// Approves or rejects a version. Who (`audit.actor`), when and why stand in the record.
    ///
    /// # Errors
    /// When the store is away. Refused: [`Refused::Unknown`], [`Refused::FourEyes`],
    /// [`Refused::Decided`].
    async fn decide_version(
        &self,
        key: &VersionKey,
        ruling: Ruling,
        audit: &AuditBody,
    ) -> Result<Act<Version>, StoreError>;

    /// One version.
    ///
    /// # Errors
    /// When the store is away.
    async fn version(&self, key: &VersionKey) -> Result<Option<Version>, StoreError>;

    /// A page of versions.
    ///
    /// # Errors
    /// When the store is away.
    async fn versions(&self, filter: &VersionFilter) -> Result<Vec<Version>, StoreError>;

    /// Makes an approved version the active one of its tenant and kind. Doing it again changes
    /// nothing but the generation.
    ///
    /// # Errors
    /// When the store is away. Refused: [`Refused::Unknown`], [`Refused::NotApproved`],
    /// [`Refused::Full`].
    async fn activate_version(&self, key: &VersionKey, audit: &AuditBody) -> Result<Act<Activation>, StoreError>;

    /// Leaves nothing active of a kind, so that the baseline decides. Gives what was active; when
    /// nothing was, nothing is done and nothing is audited.
    ///
    /// # Errors
    /// When the store is away.
    async fn deactivate_version(
        &self,
        tenant: &TenantId,
        artifact: Artifact,
        audit: &AuditBody,
    ) -> Result<Option<VersionRef>, StoreError>;

    /// What is active.
    ///
    /// # Errors
    /// When the store is away.
    async fn active_version(&self, tenant: &TenantId, artifact: Artifact) -> Result<Option<VersionRef>, StoreError>;
}
