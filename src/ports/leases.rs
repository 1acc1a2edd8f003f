//! Who is in the fleet, and who holds which partition. Leases are a courtesy that keeps workers
//! out of each other's way; what makes a commit safe is the store's epoch, never a lease.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use std::time::Duration;

use crate::domain::{PartitionId, WorkerId};

/// How long a sign of life counts. Every member of a fleet uses the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTtls {
    /// From a heart beat.
    pub member: Duration,
    /// From an acquisition or renewal.
    pub lease: Duration,
}

impl Default for LeaseTtls {
    /// 6 s for members (beat every 2 s), 10 s for leases (renewed every 3 s).
    fn default() -> Self {
        Self { member: Duration::from_secs(6), lease: Duration::from_secs(10) }
    }
}

/// A worker, as it shows itself to the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its boot id.
    pub id: WorkerId,
    /// Its program version.
    pub version: String,
    /// Its share of the partitions, relative to the others', from 1.
    pub weight: u32,
    /// True when it is leaving: it is given nothing new.
    pub draining: bool,
    /// True while it may not claim yet: nobody lets go of anything for it.
    #[serde(default)]
    pub settling: bool,
}

/// What came of a heart beat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// The membership key was there and lives on.
    Kept,
    /// It was missing (first beat, or the server forgot everything) and was set anew.
    Missing,
}

/// What came of a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// Held, and held on.
    Kept,
    /// Another worker holds it: let go.
    Lost,
}

/// The lease server did not answer; completes "failed to …". The outcome of what was asked is
/// unknown: keep what is held, read back later.
#[derive(Debug, Clone, thiserror::Error)]
#[error("reach the lease server: {0}")]
pub struct LeaseError(pub String);

/// Membership and partition leases.
#[async_trait]
pub trait Leases: Send + Sync {
    /// Shows this worker for one membership TTL.
    ///
    /// # Errors
    /// [`LeaseError`]; so for every verb here.
    async fn beat(&self, member: &Member) -> Result<Beat, LeaseError>;

    /// Every worker whose membership has not run out, ordered by id.
    async fn members(&self) -> Result<Vec<Member>, LeaseError>;

    /// Takes this worker out at once.
    async fn leave(&self, id: WorkerId) -> Result<(), LeaseError>;

    /// Takes a free partition for one lease TTL. True when held by `id` afterwards.
    async fn acquire(&self, partition: PartitionId, id: WorkerId) -> Result<bool, LeaseError>;

    /// Prolongs a lease by compare; a key that is missing is taken again when nobody has it.
    async fn renew(&self, partition: PartitionId, id: WorkerId) -> Result<Renewal, LeaseError>;

    /// Gives a lease back, if `id` holds it.
    async fn release(&self, partition: PartitionId, id: WorkerId) -> Result<(), LeaseError>;

    /// Who holds each of the partitions `0..partitions`, by position.
    async fn holders(&self, partitions: u16) -> Result<Vec<Option<WorkerId>>, LeaseError>;
}
