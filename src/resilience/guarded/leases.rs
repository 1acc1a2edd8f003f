//! Owns the guard of membership and leases.
//!
//! # Decisions
//! Leases and context may live on one server and have a circuit each: a script that fails for one
//! of them must not stop the other.

use async_trait::async_trait;
use std::sync::Arc;

use super::{Full, Guard, Open, PortError};
use crate::domain::{PartitionId, WorkerId};
use crate::ports::leases::{Beat, Renewal};
use crate::ports::{LeaseError, Leases, Member};

/// Leases behind their guard.
pub struct GuardedLeases {
    inner: Arc<dyn Leases>,
    guard: Arc<Guard>,
}

impl GuardedLeases {
    /// Puts the guard before the leases.
    pub fn new(inner: Arc<dyn Leases>, guard: Arc<Guard>) -> Self {
        Self { inner, guard }
    }
}

impl PortError for LeaseError {
    fn says_away(&self) -> bool {
        true
    }

    fn open(open: Open) -> Self {
        Self(open.to_string())
    }

    fn full(full: Full) -> Self {
        Self(full.to_string())
    }
}

#[async_trait]
impl Leases for GuardedLeases {
    async fn beat(&self, member: &Member) -> Result<Beat, LeaseError> {
        self.guard.own(self.inner.beat(member)).await
    }

    // What `/health` asks.
    async fn members(&self) -> Result<Vec<Member>, LeaseError> {
        self.guard.look(self.inner.members()).await
    }

    async fn leave(&self, id: WorkerId) -> Result<(), LeaseError> {
        self.guard.own(self.inner.leave(id)).await
    }

    async fn acquire(&self, partition: PartitionId, id: WorkerId) -> Result<bool, LeaseError> {
        self.guard.shared(self.inner.acquire(partition, id)).await
    }

    async fn renew(&self, partition: PartitionId, id: WorkerId) -> Result<Renewal, LeaseError> {
        self.guard.shared(self.inner.renew(partition, id)).await
    }

    // A worker that leaves gives all its partitions back at once: a release that is refused for
    // want of room would cost its partition a lease TTL.
    async fn release(&self, partition: PartitionId, id: WorkerId) -> Result<(), LeaseError> {
        self.guard.own(self.inner.release(partition, id)).await
    }

    async fn holders(&self, partitions: u16) -> Result<Vec<Option<WorkerId>>, LeaseError> {
        self.guard.shared(self.inner.holders(partitions)).await
    }
}
