//! Proof of the audit: the ends of the chains, the signed checkpoints over them, and the anchors of
//! chains that were shortened. Never signs: what is written here was signed before.

use async_trait::async_trait;

use super::store::{AuditCursor, StoreError};
use crate::domain::checkpoint::{Anchor, Checkpoint, NotedHead, Signed};
use crate::domain::{AuditBody, AuditRecord, Stream, TenantId};

/// Records that one [`Checkpoints::prune_chain`] takes away at most.
pub const PRUNE_MAX: i64 = 10_000;

/// A checkpoint as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptCheckpoint {
    /// Its number, from 1.
    pub number: i64,
    /// The text with its signature.
    pub signed: Signed,
}

/// What became of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It is the last one now.
    Done,
    /// Another process was first: this one does not follow the last one.
    Behind,
}

/// What became of a shortening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pruned {
    /// So many records were taken away.
    Done(u64),
    /// There is no such record, or it has another hash.
    NoSuchRecord,
    /// It is the chain's last record, which must stay: the next one hangs on it.
    Head,
    /// More than [`PRUNE_MAX`] records stand up to it: name an earlier one.
    TooMany,
    /// The tenant is under legal hold.
    Held,
}

/// Proof of the audit.
#[async_trait]
pub trait Checkpoints: Send + Sync {
    /// The ends of all chains behind `after`, in the order of tenant and stream; at most `limit`.
    /// Costs by chains, not by records.
    async fn chain_heads(&self, after: Option<&(TenantId, Stream)>, limit: u32) -> Result<Vec<NotedHead>, StoreError>;

    /// The newest checkpoint.
    async fn last_checkpoint(&self) -> Result<Option<KeptCheckpoint>, StoreError>;

    /// Appends a checkpoint, whose text is `checkpoint`'s, if it follows the last one: of two
    /// processes that write the same number, one is first.
    async fn append_checkpoint(&self, checkpoint: &Checkpoint, signed: &Signed) -> Result<Appended, StoreError>;

    /// The checkpoints with numbers above `after`, in their order; at most `limit`.
    async fn checkpoints_page(&self, after: i64, limit: u32) -> Result<Vec<KeptCheckpoint>, StoreError>;

    /// One page of all audit records, ordered by tenant, stream, seq, without what they speak of.
    async fn records_page(&self, after: Option<&AuditCursor>, limit: u32) -> Result<Vec<AuditRecord>, StoreError>;

    /// The newest anchor of each shortened chain behind `after`, in the order of tenant and stream;
    /// at most `limit`.
    async fn anchors_page(&self, after: Option<&(TenantId, Stream)>, limit: u32) -> Result<Vec<Signed>, StoreError>;

    /// Shortens a chain: keeps the anchor, whose text is `anchor`'s, takes away the records up to
    /// its seq, and writes `audit` to the control chain of the record's tenant, all at once.
    ///
    /// # Errors
    /// [`StoreError::Fault`] when `audit` is of no control chain.
    async fn prune_chain(&self, anchor: &Anchor, signed: &Signed, audit: &AuditBody) -> Result<Pruned, StoreError>;
}
