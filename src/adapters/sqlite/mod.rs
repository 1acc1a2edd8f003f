//! The store in one SQLite file: the truth of a fleet of one process. Owns the file; never talks
//! to a broker. Other processes may read the file meanwhile ([`SqliteStore::open_read`]).
//!
//! # Decisions
//! One writer connection takes the place of Postgres's partition locks: writes run one after the
//! other, so a commit can't be under way while a claim moves an epoch, nor an accept while the
//! mark moves.

mod accept;
mod approvals;
mod audit;
mod budgets;
mod checkpoints;
mod checkup;
mod commit;
mod costs;
mod db;
mod dead;
mod fleet;
mod keys;
mod ledger;
mod migrate;
mod outbox;
mod read;
mod retention;
mod retries;
mod rows;
mod tenants;
mod vault;
mod versions;

pub use checkup::checkup;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

use crate::crypto::HeadCache;
use crate::domain::retention::{Day, Expired, ExpiredDay};
use crate::domain::{AuditBody, Epoch, EventId, Outcome, PartitionId, Scope, TenantId, WorkerId, time};
use crate::ports::store::{
    Accepted, AuditCursor, AuditLine, Backlog, DeadAct, DeadFilter, DeadLetter, DueRetry, EventFilter, EventRecord,
    EventSummary, FleetConstants, FleetStatus, Ledger, NewEvent, OutboxKind, OutboxRow, PastAct, StoredEvent,
    WorkerRow,
};
use crate::ports::{Clock, EventStore, Lane, StoreError};

/// How much of a rejected inbox message is kept, in bytes.
const REJECTED_MAX: usize = 64 * 1024;

/// The store in a file. Cheap to clone.
#[derive(Clone)]
pub struct SqliteStore(Arc<Inner>);

struct Inner {
    db: db::Db,
    clock: Arc<dyn Clock>,
    constants: FleetConstants,
}

impl Inner {
    fn now_ms(&self) -> i64 {
        rows::millis(self.clock.now())
    }
}

impl SqliteStore {
    /// Opens the file for reading and writing; makes it (readable by its owner only) when it is
    /// not there, and brings its schema up to date. `partitions` (1 or more) and `secret` are
    /// kept at the first opening; later openings get what was kept.
    ///
    /// # Errors
    /// [`StoreError::Misfit`] when the file can't be made, is no store, or is of a newer program.
    pub async fn open(
        path: &Path,
        partitions: u16,
        secret: [u8; 32],
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        let wanted = FleetConstants { partitions, pack_secret: secret };
        let (conn, constants) = migrate::open(path, &wanted).await?;
        Ok(Self(Arc::new(Inner { db: db::Db::writable(path, conn), clock, constants })))
    }

    /// Opens a file that is there, for reading: every verb that writes fails with
    /// [`StoreError::Misfit`]. Another process may be writing meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Misfit`] when there is no such file, or it is not of this program's schema.
    pub async fn open_read(path: &Path, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let db = db::Db::read_only(path);
        let constants = migrate::check(path, db.readers()).await?;
        Ok(Self(Arc::new(Inner { db, clock, constants })))
    }

    /// Closes the file's connections, after the writes under way. Later verbs fail or open anew.
    pub async fn close(&self) {
        self.0.db.close().await;
    }
}

#[async_trait]
impl EventStore for SqliteStore {
    async fn constants(&self) -> Result<FleetConstants, StoreError> {
        Ok(self.0.constants.clone())
    }

    async fn now(&self) -> Result<DateTime<Utc>, StoreError> {
        Ok(time::whole_millis(self.0.clock.now()))
    }

    async fn accept_batch(&self, batch: Uuid, events: &[NewEvent]) -> Result<Vec<Accepted>, StoreError> {
        accept::accept_batch(&self.0.db, self.0.clock.as_ref(), batch, events).await
    }

    async fn settle_outbox(&self, rows: &[Uuid]) -> Result<(), StoreError> {
        outbox::settle(&self.0.db, rows).await
    }

    async fn take_outbox(&self, kind: OutboxKind, hold: Duration, limit: u32) -> Result<Vec<OutboxRow>, StoreError> {
        outbox::take(&self.0.db, self.0.clock.as_ref(), kind, hold, limit).await
    }

    async fn unpublished(&self) -> Result<u64, StoreError> {
        outbox::unpublished(&self.0.db).await
    }

    async fn claim_partition(&self, partition: PartitionId, worker: WorkerId) -> Result<Epoch, StoreError> {
        fleet::claim(&self.0.db, partition, worker).await
    }

    async fn release_partition(&self, partition: PartitionId, epoch: Epoch) -> Result<(), StoreError> {
        fleet::release(&self.0.db, partition, epoch).await
    }

    async fn open_lane(&self) -> Result<Box<dyn Lane>, StoreError> {
        Ok(Box::new(commit::SqliteLane { inner: self.0.clone(), heads: HeadCache::default() }))
    }

    async fn events(&self, ids: &[EventId]) -> Result<Vec<StoredEvent>, StoreError> {
        read::events(&self.0.db, ids, false).await
    }

    async fn pending_of(&self, ids: &[EventId]) -> Result<Vec<StoredEvent>, StoreError> {
        read::events(&self.0.db, ids, true).await
    }

    async fn decisions(&self, ids: &[EventId]) -> Result<Vec<(EventId, TenantId, Bytes)>, StoreError> {
        read::decisions(&self.0.db, ids).await
    }

    async fn verdicts(&self, ids: &[EventId]) -> Result<Vec<(EventId, Outcome)>, StoreError> {
        approvals::verdicts(&self.0.db, ids).await
    }

    async fn pending_page(
        &self,
        partition: PartitionId,
        after: Option<EventId>,
        before: EventId,
        limit: u32,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        read::pending_page(&self.0.db, partition, after, before, limit).await
    }

    async fn mark(&self) -> Result<EventId, StoreError> {
        ledger::mark(&self.0.db).await
    }

    async fn advance_mark(&self) -> Result<EventId, StoreError> {
        ledger::advance(&self.0.db, time::to_millis(self.0.clock.now())).await
    }

    async fn report_worker(&self, worker: &WorkerRow) -> Result<(), StoreError> {
        fleet::report(&self.0, worker).await
    }

    async fn keep_rejected(&self, id: Uuid, reason: &str, body: &[u8]) -> Result<(), StoreError> {
        let mut tx = self.0.db.begin(db::Sync::Full).await?;
        sqlx::query("INSERT INTO inbox_rejected (id, at, reason, body) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING")
            .bind(id)
            .bind(rows::millis(self.0.clock.now()))
            .bind(reason)
            .bind(&body[..body.len().min(REJECTED_MAX)])
            .execute(tx.conn()?)
            .await
            .map_err(db::failure)?;
        tx.commit().await
    }

    async fn due_retries(&self, partition: PartitionId, limit: u32) -> Result<Vec<DueRetry>, StoreError> {
        retries::due(&self.0.db, partition, limit, self.0.now_ms()).await
    }

    async fn dead_letters(&self, filter: &DeadFilter) -> Result<Vec<DeadLetter>, StoreError> {
        dead::list(&self.0.db, filter).await
    }

    async fn replay_dead(&self, id: EventId, audit: &AuditBody) -> Result<DeadAct, StoreError> {
        dead::act(&self.0.db, id, PastAct::Replayed, audit, self.0.now_ms()).await
    }

    async fn discard_dead(&self, id: EventId, audit: &AuditBody) -> Result<DeadAct, StoreError> {
        dead::act(&self.0.db, id, PastAct::Discarded, audit, self.0.now_ms()).await
    }

    async fn ask_repair(&self) -> Result<u64, StoreError> {
        fleet::ask_repair(&self.0.db).await
    }

    async fn repairs(&self) -> Result<u64, StoreError> {
        fleet::repairs(&self.0.db).await
    }

    async fn event(&self, scope: &Scope, id: EventId) -> Result<Option<EventRecord>, StoreError> {
        read::event(&self.0.db, scope, id).await
    }

    async fn expired_day(&self, day: Day) -> Result<Option<ExpiredDay>, StoreError> {
        retention::expired_day(&self.0.db, day).await
    }

    async fn expired_ranges(&self) -> Result<Expired, StoreError> {
        retention::expired_days(&self.0.db).await
    }

    async fn list_events(&self, filter: &EventFilter) -> Result<Vec<EventSummary>, StoreError> {
        read::list(&self.0.db, filter).await
    }

    async fn events_since(&self, since: EventId, limit: u32) -> Result<Vec<StoredEvent>, StoreError> {
        read::events_since(&self.0.db, since, limit).await
    }

    async fn audit_page(&self, after: Option<&AuditCursor>, limit: u32) -> Result<Vec<AuditLine>, StoreError> {
        audit::page(&self.0.db, after, limit).await
    }

    async fn backlog(&self) -> Result<Backlog, StoreError> {
        ledger::backlog(&self.0).await
    }

    async fn ledger(&self) -> Result<Ledger, StoreError> {
        ledger::ledger(&self.0.db).await
    }

    async fn fleet_status(&self) -> Result<FleetStatus, StoreError> {
        fleet::status(&self.0).await
    }
}
