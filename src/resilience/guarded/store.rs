//! Owns the guard of the store, and of its lanes.
//!
//! # Decisions
//! Accepts and lanes go around the bulkhead: an accept lane and a commit lane have one call under
//! way each, on connections of their own, and what callers read must never hold them up. The
//! bulkhead bounds what requests and partitions multiply.

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

use super::{Full, Guard, Open, PortError};
use crate::domain::retention::{Day, Expired, ExpiredDay};
use crate::domain::{AuditBody, Epoch, EventId, Outcome, PartitionId, Scope, TenantId, WorkerId};
use crate::ports::StoreError;
use crate::ports::store::{
    Accepted, AuditCursor, AuditLine, Backlog, CommitBatch, Committed, DeadAct, DeadFilter, DeadLetter, DueRetry,
    EventFilter, EventRecord, EventStore, EventSummary, FleetConstants, FleetStatus, Lane, Ledger, Mark, MarkBatch,
    NewEvent, OutboxKind, OutboxRow, RetryBatch, StoredEvent, WorkerRow,
};

/// A store behind its guard.
pub struct GuardedStore {
    inner: Arc<dyn EventStore>,
    guard: Arc<Guard>,
}

impl GuardedStore {
    /// Puts the guard before the store.
    pub fn new(inner: Arc<dyn EventStore>, guard: Arc<Guard>) -> Self {
        Self { inner, guard }
    }
}

/// A lane behind its store's breaker.
struct GuardedLane {
    inner: Box<dyn Lane>,
    guard: Arc<Guard>,
}

impl PortError for StoreError {
    fn says_away(&self) -> bool {
        match self {
            Self::Away(_) | Self::Open { .. } => true,
            Self::ClockSkew(_) | Self::Misfit(_) | Self::Refused(_) | Self::Fault(_) => false,
        }
    }

    fn open(open: Open) -> Self {
        Self::Open { retry_in: open.retry_in }
    }

    fn full(full: Full) -> Self {
        Self::Away(full.to_string())
    }
}

#[async_trait]
impl Lane for GuardedLane {
    async fn commit_batch(&mut self, batch: &CommitBatch) -> Result<Vec<Committed>, StoreError> {
        self.guard.own(self.inner.commit_batch(batch)).await
    }

    async fn mark_attempts(&mut self, batch: &MarkBatch) -> Result<Vec<Mark>, StoreError> {
        self.guard.own(self.inner.mark_attempts(batch)).await
    }

    async fn postpone(&mut self, batch: &RetryBatch) -> Result<Vec<Committed>, StoreError> {
        self.guard.own(self.inner.postpone(batch)).await
    }
}

#[async_trait]
impl EventStore for GuardedStore {
    // What a program asks before anything else.
    async fn constants(&self) -> Result<FleetConstants, StoreError> {
        self.guard.look(self.inner.constants()).await
    }

    // What `/health` asks.
    async fn now(&self) -> Result<DateTime<Utc>, StoreError> {
        self.guard.look(self.inner.now()).await
    }

    async fn accept_batch(&self, batch: Uuid, events: &[NewEvent]) -> Result<Vec<Accepted>, StoreError> {
        self.guard.own(self.inner.accept_batch(batch, events)).await
    }

    async fn settle_outbox(&self, rows: &[Uuid]) -> Result<(), StoreError> {
        self.guard.own(self.inner.settle_outbox(rows)).await
    }

    async fn take_outbox(&self, kind: OutboxKind, hold: Duration, limit: u32) -> Result<Vec<OutboxRow>, StoreError> {
        self.guard.own(self.inner.take_outbox(kind, hold, limit)).await
    }

    async fn unpublished(&self) -> Result<u64, StoreError> {
        self.guard.own(self.inner.unpublished()).await
    }

    async fn claim_partition(&self, partition: PartitionId, worker: WorkerId) -> Result<Epoch, StoreError> {
        self.guard.own(self.inner.claim_partition(partition, worker)).await
    }

    // As many as there are partitions, when a worker leaves.
    async fn release_partition(&self, partition: PartitionId, epoch: Epoch) -> Result<(), StoreError> {
        self.guard.shared(self.inner.release_partition(partition, epoch)).await
    }

    async fn open_lane(&self) -> Result<Box<dyn Lane>, StoreError> {
        let inner = self.guard.own(self.inner.open_lane()).await?;
        Ok(Box::new(GuardedLane { inner, guard: Arc::clone(&self.guard) }))
    }

    async fn events(&self, ids: &[EventId]) -> Result<Vec<StoredEvent>, StoreError> {
        self.guard.own(self.inner.events(ids)).await
    }

    async fn pending_of(&self, ids: &[EventId]) -> Result<Vec<StoredEvent>, StoreError> {
        self.guard.own(self.inner.pending_of(ids)).await
    }

    async fn decisions(&self, ids: &[EventId]) -> Result<Vec<(EventId, TenantId, Bytes)>, StoreError> {
        self.guard.own(self.inner.decisions(ids)).await
    }

    async fn verdicts(&self, ids: &[EventId]) -> Result<Vec<(EventId, Outcome)>, StoreError> {
        self.guard.own(self.inner.verdicts(ids)).await
    }

    async fn pending_page(
        &self,
        partition: PartitionId,
        after: Option<EventId>,
        before: EventId,
        limit: u32,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.guard.shared(self.inner.pending_page(partition, after, before, limit)).await
    }

    // One a partition and second.
    async fn due_retries(&self, partition: PartitionId, limit: u32) -> Result<Vec<DueRetry>, StoreError> {
        self.guard.shared(self.inner.due_retries(partition, limit)).await
    }

    async fn dead_letters(&self, filter: &DeadFilter) -> Result<Vec<DeadLetter>, StoreError> {
        self.guard.shared(self.inner.dead_letters(filter)).await
    }

    async fn replay_dead(&self, id: EventId, audit: &AuditBody) -> Result<DeadAct, StoreError> {
        self.guard.shared(self.inner.replay_dead(id, audit)).await
    }

    async fn discard_dead(&self, id: EventId, audit: &AuditBody) -> Result<DeadAct, StoreError> {
        self.guard.shared(self.inner.discard_dead(id, audit)).await
    }

    async fn ask_repair(&self) -> Result<u64, StoreError> {
        self.guard.shared(self.inner.ask_repair()).await
    }

    async fn repairs(&self) -> Result<u64, StoreError> {
        self.guard.own(self.inner.repairs()).await
    }

    async fn mark(&self) -> Result<EventId, StoreError> {
        self.guard.own(self.inner.mark()).await
    }

    async fn advance_mark(&self) -> Result<EventId, StoreError> {
        self.guard.own(self.inner.advance_mark()).await
    }

    async fn report_worker(&self, worker: &WorkerRow) -> Result<(), StoreError> {
        self.guard.own(self.inner.report_worker(worker)).await
    }

    async fn keep_rejected(&self, id: Uuid, reason: &str, body: &[u8]) -> Result<(), StoreError> {
        self.guard.own(self.inner.keep_rejected(id, reason, body)).await
    }

    async fn event(&self, scope: &Scope, id: EventId) -> Result<Option<EventRecord>, StoreError> {
        self.guard.shared(self.inner.event(scope, id)).await
    }

    async fn expired_day(&self, day: Day) -> Result<Option<ExpiredDay>, StoreError> {
        self.guard.shared(self.inner.expired_day(day)).await
    }

    async fn expired_ranges(&self) -> Result<Expired, StoreError> {
        self.guard.shared(self.inner.expired_ranges()).await
    }

    async fn list_events(&self, filter: &EventFilter) -> Result<Vec<EventSummary>, StoreError> {
        self.guard.shared(self.inner.list_events(filter)).await
    }

    async fn events_since(&self, since: EventId, limit: u32) -> Result<Vec<StoredEvent>, StoreError> {
        self.guard.shared(self.inner.events_since(since, limit)).await
    }

    async fn audit_page(&self, after: Option<&AuditCursor>, limit: u32) -> Result<Vec<AuditLine>, StoreError> {
        self.guard.shared(self.inner.audit_page(after, limit)).await
    }

    async fn backlog(&self) -> Result<Backlog, StoreError> {
        self.guard.shared(self.inner.backlog()).await
    }

    async fn ledger(&self) -> Result<Ledger, StoreError> {
        self.guard.shared(self.inner.ledger()).await
    }

    async fn fleet_status(&self) -> Result<FleetStatus, StoreError> {
        self.guard.shared(self.inner.fleet_status()).await
    }
}
