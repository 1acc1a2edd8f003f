//! Owns membership and leases of a fleet that lives in one process. Never blocks, never fails.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::domain::{PartitionId, WorkerId};
use crate::ports::leases::{Beat, Renewal};
use crate::ports::{Clock, LeaseError, LeaseTtls, Leases, Member};

#[derive(Default)]
struct State {
    members: BTreeMap<WorkerId, (Member, Duration)>,
    leases: BTreeMap<PartitionId, (WorkerId, Duration)>,
}

/// The lease server of one process; times are the clock's `elapsed`.
pub struct MemoryLeases {
    ttls: LeaseTtls,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

impl MemoryLeases {
    /// A server that has seen nobody.
    pub fn new(ttls: LeaseTtls, clock: Arc<dyn Clock>) -> Self {
        Self { ttls, clock, state: Mutex::default() }
    }

    /// Forgets everything, as a server does that was flushed or restarted empty.
    pub fn forget(&self) {
        *self.state() = State::default();
    }

    /// The state, without what has run out: it holds no more than the living fleet.
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is a single call on a map: a poisoned lock guards good data.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.elapsed();
        state.members.retain(|_, (_, until)| *until > now);
        state.leases.retain(|_, (_, until)| *until > now);
        state
    }

    /// Holds a partition for `id` unless another does.
    fn hold(&self, partition: PartitionId, id: WorkerId) -> bool {
        let until = self.clock.elapsed() + self.ttls.lease;
        let mut state = self.state();
        let lease = state.leases.entry(partition).or_insert((id, until));
        if lease.0 == id {
            lease.1 = until;
        }
        lease.0 == id
    }
}

#[async_trait]
impl Leases for MemoryLeases {
    async fn beat(&self, member: &Member) -> Result<Beat, LeaseError> {
        let until = self.clock.elapsed() + self.ttls.member;
        let before = self.state().members.insert(member.id, (member.clone(), until));
        Ok(if before.is_some() { Beat::Kept } else { Beat::Missing })
    }

    async fn members(&self) -> Result<Vec<Member>, LeaseError> {
        Ok(self.state().members.values().map(|(member, _)| member.clone()).collect())
    }

    async fn leave(&self, id: WorkerId) -> Result<(), LeaseError> {
        self.state().members.remove(&id);
        Ok(())
    }

    async fn acquire(&self, partition: PartitionId, id: WorkerId) -> Result<bool, LeaseError> {
        Ok(self.hold(partition, id))
    }

    async fn renew(&self, partition: PartitionId, id: WorkerId) -> Result<Renewal, LeaseError> {
        Ok(if self.hold(partition, id) { Renewal::Kept } else { Renewal::Lost })
    }

    async fn release(&self, partition: PartitionId, id: WorkerId) -> Result<(), LeaseError> {
        let mut state = self.state();
        if state.leases.get(&partition).is_some_and(|(holder, _)| *holder == id) {
            state.leases.remove(&partition);
        }
        Ok(())
    }

    async fn holders(&self, partitions: u16) -> Result<Vec<Option<WorkerId>>, LeaseError> {
        let state = self.state();
        Ok((0..partitions).map(|p| state.leases.get(&PartitionId(p)).map(|(holder, _)| *holder)).collect())
    }
}
