//! The lease server and the context store through a process's eyes.

use std::sync::Arc;

use async_trait::async_trait;
use riskfleet::domain::context::{Observation, Subject24h};
use riskfleet::domain::{PartitionId, WorkerId};
use riskfleet::ports::leases::{Beat, Renewal};
use riskfleet::ports::{ContextError, ContextSource, LeaseError, Leases, Member};

use crate::plan::Poison;
use crate::process::Process;
use crate::world::Port;

/// The lease server of one process.
pub(crate) struct SimLeases(pub(crate) Arc<Process>);

impl SimLeases {
    async fn ask<T: std::fmt::Debug + Send>(
        &self,
        asked: String,
        does: impl Future<Output = Result<T, LeaseError>> + Send,
    ) -> Result<T, LeaseError> {
        self.0.ask(Port::Leases, asked, does, LeaseError).await
    }

    fn inner(&self) -> &dyn Leases {
        &self.0.world.leases
    }
}

#[async_trait]
impl Leases for SimLeases {
    async fn beat(&self, member: &Member) -> Result<Beat, LeaseError> {
        self.ask(format!("beat draining={}", member.draining), self.inner().beat(member)).await
    }

    async fn members(&self) -> Result<Vec<Member>, LeaseError> {
        self.ask("members".into(), self.inner().members()).await
    }

    async fn leave(&self, id: WorkerId) -> Result<(), LeaseError> {
        self.ask("leave".into(), self.inner().leave(id)).await
    }

    async fn acquire(&self, partition: PartitionId, id: WorkerId) -> Result<bool, LeaseError> {
        self.ask(format!("acquire {partition}"), self.inner().acquire(partition, id)).await
    }

    async fn renew(&self, partition: PartitionId, id: WorkerId) -> Result<Renewal, LeaseError> {
        self.ask(format!("renew {partition}"), self.inner().renew(partition, id)).await
    }

    async fn release(&self, partition: PartitionId, id: WorkerId) -> Result<(), LeaseError> {
        self.ask(format!("release lease {partition}"), self.inner().release(partition, id)).await
    }

    async fn holders(&self, partitions: u16) -> Result<Vec<Option<WorkerId>>, LeaseError> {
        self.ask("holders".into(), self.inner().holders(partitions)).await
    }
}

/// The context store of one process.
pub(crate) struct SimContext(pub(crate) Arc<Process>);

#[async_trait]
impl ContextSource for SimContext {
    async fn observe(&self, batch: &[Observation]) -> Result<Vec<Subject24h>, ContextError> {
        for observation in batch {
            if self.0.world.poison(observation.event).await == Some(Poison::Looper) {
                self.0.note(&format!("is brought down by {}", observation.event));
                self.0.world.saw("an event brought its worker down");
                self.0.kill();
            }
        }
        let does = self.0.world.context.observe(batch);
        self.0.ask(Port::Context, format!("observe {}", batch.len()), does, ContextError).await
    }
}
