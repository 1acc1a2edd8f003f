//! The store in memory, for simulations and tests. Owns nothing that outlives it; never starts a
//! thread, waits, or reads any clock but the one it is given, so that a seeded run repeats itself:
//! every map is ordered.

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use uuid::Uuid;

use super::tables::{Outbox, Tables};
use crate::crypto::HeadCache;
use crate::domain::{AuditBody, Epoch, EventId, Outcome, PartitionId, Scope, TenantId, WorkerId, time};
use crate::ports::store::{
    Accepted, AuditCursor, AuditLine, Backlog, CommitBatch, Committed, DeadAct, DeadFilter, DeadLetter, DueRetry,
    EventFilter, EventRecord, EventSummary, FleetConstants, FleetStatus, Ledger, Mark, MarkBatch, NewEvent, OutboxKind,
    OutboxRow, PastAct, RetryBatch, StoredEvent, WorkerRow,
};
use crate::ports::{Clock, EventStore, Lane, StoreError};

/// The store in memory. Clones share it.
#[derive(Clone)]
pub struct MemoryStore(Arc<Inner>);

struct Inner {
    constants: FleetConstants,
    clock: Arc<dyn Clock>,
    // Never held over an await: every verb is one turn, and so one transaction.
    tables: Mutex<Tables>,
}

impl MemoryStore {
    /// An empty store of `partitions` (1 or more) partitions.
    pub fn new(partitions: u16, secret: [u8; 32], clock: Arc<dyn Clock>) -> Self {
        let constants = FleetConstants { partitions, pack_secret: secret };
        Self(Arc::new(Inner { constants, clock, tables: Mutex::new(Tables::new(partitions)) }))
    }

    pub(super) fn tables(&self) -> Result<MutexGuard<'_, Tables>, StoreError> {
        self.0.tables()
    }
}

impl Inner {
    fn tables(&self) -> Result<MutexGuard<'_, Tables>, StoreError> {
        self.tables.lock().map_err(|_| StoreError::Fault("a verb panicked half-way".into()))
    }

    fn now(&self) -> DateTime<Utc> {
        time::whole_millis(self.clock.now())
    }
}

/// A lane on memory.
struct MemoryLane {
    inner: Arc<Inner>,
    heads: HeadCache,
}

#[async_trait]
impl Lane for MemoryLane {
    async fn commit_batch(&mut self, batch: &CommitBatch) -> Result<Vec<Committed>, StoreError> {
        // Out of the lane while it runs: an error leaves an empty cache.
        let mut heads = std::mem::take(&mut self.heads);
        let now = self.inner.now();
        let committed = self.inner.tables()?.commit(&mut heads, now, batch)?;
        self.heads = heads;
        Ok(committed)
    }

    async fn mark_attempts(&mut self, batch: &MarkBatch) -> Result<Vec<Mark>, StoreError> {
        Ok(self.inner.tables()?.mark_attempts(batch))
    }

    async fn postpone(&mut self, batch: &RetryBatch) -> Result<Vec<Committed>, StoreError> {
        Ok(self.inner.tables()?.postpone(batch, self.inner.now()))
    }
}

#[async_trait]
impl EventStore for MemoryStore {
    async fn constants(&self) -> Result<FleetConstants, StoreError> {
        Ok(self.0.constants.clone())
    }

    async fn now(&self) -> Result<DateTime<Utc>, StoreError> {
        Ok(self.0.now())
    }

    async fn accept_batch(&self, batch: Uuid, events: &[NewEvent]) -> Result<Vec<Accepted>, StoreError> {
        self.0.tables()?.accept(batch, events, self.0.now())
    }

    async fn settle_outbox(&self, rows: &[Uuid]) -> Result<(), StoreError> {
        let mut tables = self.0.tables()?;
        for row in rows {
            tables.outbox.remove(row);
        }
        Ok(())
    }

    async fn take_outbox(&self, kind: OutboxKind, hold: Duration, limit: u32) -> Result<Vec<OutboxRow>, StoreError> {
        Ok(self.0.tables()?.take_outbox(kind, hold, limit, self.0.now()))
    }

    async fn unpublished(&self) -> Result<u64, StoreError> {
        let tables = self.0.tables()?;
        let waiting = tables.outbox.values().filter(|row| row.kind == OutboxKind::Accept);
        Ok(waiting.map(|row: &Outbox| row.events.len() as u64).sum())
    }

    async fn claim_partition(&self, partition: PartitionId, worker: WorkerId) -> Result<Epoch, StoreError> {
        self.0.tables()?.claim(partition, worker)
    }

    async fn release_partition(&self, partition: PartitionId, epoch: Epoch) -> Result<(), StoreError> {
        self.0.tables()?.release(partition, epoch);
        Ok(())
    }

    async fn open_lane(&self) -> Result<Box<dyn Lane>, StoreError> {
        Ok(Box::new(MemoryLane { inner: self.0.clone(), heads: HeadCache::default() }))
    }

    async fn events(&self, ids: &[EventId]) -> Result<Vec<StoredEvent>, StoreError> {
        let tables = self.0.tables()?;
        Ok(ids.iter().filter_map(|id| tables.events.get(id)).cloned().collect())
    }

    async fn pending_of(&self, ids: &[EventId]) -> Result<Vec<StoredEvent>, StoreError> {
        let tables = self.0.tables()?;
        Ok(ids.iter().filter(|id| tables.is_pending(id)).filter_map(|id| tables.events.get(id)).cloned().collect())
    }

    async fn decisions(&self, ids: &[EventId]) -> Result<Vec<(EventId, TenantId, Bytes)>, StoreError> {
        let tables = self.0.tables()?;
        let read = |id: &EventId| Some((*id, tables.events.get(id)?.tenant.clone(), tables.decision(*id)?));
        Ok(ids.iter().filter_map(read).collect())
    }

    async fn verdicts(&self, ids: &[EventId]) -> Result<Vec<(EventId, Outcome)>, StoreError> {
        let tables = self.0.tables()?;
        Ok(ids.iter().filter_map(|id| Some((*id, tables.approvals.get(id)?.verdict?))).collect())
    }

    async fn pending_page(
        &self,
        partition: PartitionId,
        after: Option<EventId>,
        before: EventId,
        limit: u32,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        Ok(self.0.tables()?.pending_page(partition, after, before, limit))
    }

    async fn mark(&self) -> Result<EventId, StoreError> {
        Ok(self.0.tables()?.mark)
    }

    async fn advance_mark(&self) -> Result<EventId, StoreError> {
        Ok(self.0.tables()?.advance_mark(self.0.now()))
    }

    async fn report_worker(&self, worker: &WorkerRow) -> Result<(), StoreError> {
        self.0.tables()?.report(worker, self.0.now());
        Ok(())
    }

    async fn keep_rejected(&self, id: Uuid, reason: &str, body: &[u8]) -> Result<(), StoreError> {
        self.0.tables()?.keep_rejected(id, reason, body);
        Ok(())
    }

    async fn due_retries(&self, partition: PartitionId, limit: u32) -> Result<Vec<DueRetry>, StoreError> {
        Ok(self.0.tables()?.due_retries(partition, limit, self.0.now()))
    }

    async fn dead_letters(&self, filter: &DeadFilter) -> Result<Vec<DeadLetter>, StoreError> {
        Ok(self.0.tables()?.dead_letters(filter))
    }

    async fn replay_dead(&self, id: EventId, audit: &AuditBody) -> Result<DeadAct, StoreError> {
        self.0.tables()?.act_on_dead(id, PastAct::Replayed, audit, self.0.now())
    }

    async fn discard_dead(&self, id: EventId, audit: &AuditBody) -> Result<DeadAct, StoreError> {
        self.0.tables()?.act_on_dead(id, PastAct::Discarded, audit, self.0.now())
    }

    async fn ask_repair(&self) -> Result<u64, StoreError> {
        let mut tables = self.0.tables()?;
        tables.repairs += 1;
        Ok(tables.repairs)
    }

    async fn repairs(&self) -> Result<u64, StoreError> {
        Ok(self.0.tables()?.repairs)
    }

    async fn event(&self, scope: &Scope, id: EventId) -> Result<Option<EventRecord>, StoreError> {
        Ok(self.0.tables()?.record(id).filter(|record| scope.covers(&record.event.tenant)))
    }

    async fn list_events(&self, filter: &EventFilter) -> Result<Vec<EventSummary>, StoreError> {
        Ok(self.0.tables()?.list(filter))
    }

    async fn events_since(&self, since: EventId, limit: u32) -> Result<Vec<StoredEvent>, StoreError> {
        let tables = self.0.tables()?;
        Ok(tables.events.range(since..).take(limit as usize).map(|(_, event)| event.clone()).collect())
    }

    async fn audit_page(&self, after: Option<&AuditCursor>, limit: u32) -> Result<Vec<AuditLine>, StoreError> {
        Ok(self.0.tables()?.audit_page(after, limit))
    }

    async fn backlog(&self) -> Result<Backlog, StoreError> {
        Ok(self.0.tables()?.backlog(self.0.now()))
    }

    async fn ledger(&self) -> Result<Ledger, StoreError> {
        Ok(self.0.tables()?.ledger())
    }

    async fn fleet_status(&self) -> Result<FleetStatus, StoreError> {
        Ok(self.0.tables()?.fleet_status(self.0.now()))
    }
}
