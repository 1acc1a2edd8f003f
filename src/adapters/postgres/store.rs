//! The port, verb by verb; each verb is a function of the file that owns its tables.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use metrics::{gauge, histogram};
use sqlx::postgres::{PgConnectOptions, PgPool};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::connect::{self, Purpose, failed, lock_class};
use super::{accept, approvals, commit, dead, fleet, mark, outbox, read, retention, retries};
use crate::domain::retention::{Day, Expired, ExpiredDay};
use crate::domain::{AuditBody, Epoch, EventId, Outcome, PartitionId, Scope, TenantId, WorkerId};
use crate::ports::store::{
    Accepted, AuditCursor, AuditLine, Backlog, DeadAct, DeadFilter, DeadLetter, DueRetry, EventFilter, EventRecord,
    EventStore, EventSummary, FleetConstants, FleetStatus, Lane, Ledger, NewEvent, OutboxKind, OutboxRow, PastAct,
    StoreError, StoredEvent, WorkerRow,
};
use crate::telemetry::names::{self, pool};

/// Connections that accept: while one waits for its commit to reach the disk, the other gathers.
pub(super) const ACCEPT_CONNECTIONS: u32 = 2;

/// Connections for the fleet's own work but accepts and lanes.
pub(super) const READ_CONNECTIONS: u32 = 6;

/// Connections for what tenants' callers ask; made only where they ask.
pub(super) const TENANT_CONNECTIONS: u32 = 4;

/// How often pools are looked at.
const WATCH_POOLS: Duration = Duration::from_secs(5);

/// A fleet's schema on a Postgres server.
pub struct PostgresStore {
    pub(super) hot: PgPool,
    pub(super) reading: PgPool,
    pub(super) tenants: PgPool,
    pub(super) namespace: String,
    lane_options: PgConnectOptions,
    /// For what reads or deletes a whole day.
    pub(super) sweeping: PgConnectOptions,
    pub(super) locks: i32,
}

impl PostgresStore {
    /// Opens the store. Connections are made when first needed, so that a process can start while
    /// the server is away.
    ///
    /// # Errors
    /// [`StoreError::Misfit`] when the URL can't be read.
    #[expect(clippy::unused_async, reason = "pools are bound to the runtime that they are made on")]
    pub async fn connect(url: &str, namespace: &str) -> Result<Self, StoreError> {
        let hot = connect::options(url, namespace, Purpose::Hot)?;
        let reading = connect::options(url, namespace, Purpose::Reading)?;
        let tenants = connect::options(url, namespace, Purpose::Tenant)?;
        Ok(Self {
            hot: connect::pool(hot.clone(), ACCEPT_CONNECTIONS),
            reading: connect::pool(reading, READ_CONNECTIONS),
            tenants: connect::pool(tenants, TENANT_CONNECTIONS),
            namespace: namespace.to_owned(),
            lane_options: hot,
            sweeping: connect::options(url, namespace, Purpose::Retaining)?,
            locks: lock_class(namespace),
        })
    }

    /// Shows the pools as they are every few seconds, and how long a call then waits for a connection,
    /// until stopped. A pool that nobody has used yet is left alone.
    pub async fn watch_pools(self: Arc<Self>, stop: CancellationToken) {
        let pools = [(pool::ACCEPT, &self.hot), (pool::READING, &self.reading), (pool::TENANTS, &self.tenants)];
        while stop.run_until_cancelled(tokio::time::sleep(WATCH_POOLS)).await.is_some() {
            for (name, watched) in pools.iter().filter(|(_, pool)| pool.size() > 0) {
                let idle = watched.num_idle() as f64;
                gauge!(names::POOL_CONNECTIONS, "pool" => *name, "state" => pool::IDLE).set(idle);
                let used = f64::from(watched.size()) - idle;
                gauge!(names::POOL_CONNECTIONS, "pool" => *name, "state" => pool::USED).set(used.max(0.0));
                let asked = Instant::now();
                // One that can't be had at all has waited the longest.
                _ = watched.acquire().await;
                histogram!(names::POOL_WAIT_SECONDS, "pool" => *name).record(asked.elapsed());
            }
        }
    }

    /// Closes every connection; what runs is finished first.
    pub async fn close(&self) {
        self.hot.close().await;
        self.reading.close().await;
        self.tenants.close().await;
    }
}

#[async_trait]
impl EventStore for PostgresStore {
    async fn constants(&self) -> Result<FleetConstants, StoreError> {
        fleet::constants(self).await
    }

    async fn now(&self) -> Result<DateTime<Utc>, StoreError> {
        sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(&self.reading).await.map_err(failed)
    }

    async fn accept_batch(&self, batch: Uuid, events: &[NewEvent]) -> Result<Vec<Accepted>, StoreError> {
        accept::accept_batch(self, batch, events).await
    }

    async fn settle_outbox(&self, rows: &[Uuid]) -> Result<(), StoreError> {
        outbox::settle(&self.reading, rows).await
    }

    async fn take_outbox(&self, kind: OutboxKind, hold: Duration, limit: u32) -> Result<Vec<OutboxRow>, StoreError> {
        outbox::take(&self.reading, kind, hold, limit).await
    }

    async fn unpublished(&self) -> Result<u64, StoreError> {
        outbox::unpublished(&self.reading).await
    }

    async fn claim_partition(&self, partition: PartitionId, worker: WorkerId) -> Result<Epoch, StoreError> {
        fleet::claim(self, partition, worker).await
    }

    async fn release_partition(&self, partition: PartitionId, epoch: Epoch) -> Result<(), StoreError> {
        fleet::release(&self.reading, partition, epoch).await
    }

    async fn open_lane(&self) -> Result<Box<dyn Lane>, StoreError> {
        Ok(Box::new(commit::PostgresLane::new(self.lane_options.clone(), self.locks)))
    }

    async fn events(&self, ids: &[EventId]) -> Result<Vec<StoredEvent>, StoreError> {
        read::events(&self.reading, ids).await
    }

    async fn pending_of(&self, ids: &[EventId]) -> Result<Vec<StoredEvent>, StoreError> {
        read::pending_of(&self.reading, ids).await
    }

    async fn decisions(&self, ids: &[EventId]) -> Result<Vec<(EventId, TenantId, bytes::Bytes)>, StoreError> {
        read::decisions(&self.reading, ids).await
    }

    async fn verdicts(&self, ids: &[EventId]) -> Result<Vec<(EventId, Outcome)>, StoreError> {
        approvals::verdicts(&self.reading, ids).await
    }

    async fn pending_page(
        &self,
        partition: PartitionId,
        after: Option<EventId>,
        before: EventId,
        limit: u32,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        mark::pending_page(&self.reading, partition, after, before, limit).await
    }

    async fn mark(&self) -> Result<EventId, StoreError> {
        mark::mark(&self.reading).await
    }

    async fn advance_mark(&self) -> Result<EventId, StoreError> {
        mark::advance(self).await
    }

    async fn report_worker(&self, worker: &WorkerRow) -> Result<(), StoreError> {
        fleet::report(&self.reading, worker).await
    }

    async fn keep_rejected(&self, id: Uuid, reason: &str, body: &[u8]) -> Result<(), StoreError> {
        outbox::keep_rejected(&self.reading, id, reason, body).await
    }

    async fn due_retries(&self, partition: PartitionId, limit: u32) -> Result<Vec<DueRetry>, StoreError> {
        retries::due(&self.reading, partition, limit).await
    }

    async fn dead_letters(&self, filter: &DeadFilter) -> Result<Vec<DeadLetter>, StoreError> {
        dead::list(self, filter).await
    }

    async fn replay_dead(&self, id: EventId, audit: &AuditBody) -> Result<DeadAct, StoreError> {
        dead::act(self, id, PastAct::Replayed, audit).await
    }

    async fn discard_dead(&self, id: EventId, audit: &AuditBody) -> Result<DeadAct, StoreError> {
        dead::act(self, id, PastAct::Discarded, audit).await
    }

    async fn ask_repair(&self) -> Result<u64, StoreError> {
        fleet::ask_repair(&self.reading).await
    }

    async fn repairs(&self) -> Result<u64, StoreError> {
        fleet::repairs(&self.reading).await
    }

    async fn event(&self, scope: &Scope, id: EventId) -> Result<Option<EventRecord>, StoreError> {
        read::event(self, scope, id).await
    }

    async fn expired_day(&self, day: Day) -> Result<Option<ExpiredDay>, StoreError> {
        retention::expired_day(&self.reading, day).await
    }

    async fn expired_ranges(&self) -> Result<Expired, StoreError> {
        retention::expired_days(&self.reading).await
    }

    async fn list_events(&self, filter: &EventFilter) -> Result<Vec<EventSummary>, StoreError> {
        read::list(self, filter).await
    }

    async fn events_since(&self, since: EventId, limit: u32) -> Result<Vec<StoredEvent>, StoreError> {
        read::events_since(&self.reading, since, limit).await
    }

    async fn audit_page(&self, after: Option<&AuditCursor>, limit: u32) -> Result<Vec<AuditLine>, StoreError> {
        read::audit_page(&self.reading, after, limit).await
    }

    async fn backlog(&self) -> Result<Backlog, StoreError> {
        mark::waiting(&self.reading).await
    }

    async fn ledger(&self) -> Result<Ledger, StoreError> {
        mark::ledger(&self.reading).await
    }

    async fn fleet_status(&self) -> Result<FleetStatus, StoreError> {
        fleet::status(&self.reading).await
    }
}
