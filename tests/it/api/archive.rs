//! A store on SQLite with events of days that are over, for tests of what operators keep and drop.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use riskfleet::adapters::sqlite::SqliteStore;
use riskfleet::api::{ApiState, Authenticator};
use riskfleet::domain::audit::sha256;
use riskfleet::domain::cost::Charge;
use riskfleet::domain::partition::partition_of;
use riskfleet::domain::{
    AuditBody, CorrelationId, Epoch, EventId, IdempotencyKey, Outcome, PartitionId, Stream, TenantId, WorkerId, time,
};
use riskfleet::ports::store::{CommitBatch, Committed, Disposition, NewDisposition, NewEvent, OutboxKind};
use riskfleet::ports::{Clock, EventStore, Lane};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use uuid::Uuid;

use super::fakes::NOW_MS;
use super::{LIMITS, state};

const PARTITIONS: u16 = 4;
const WORKER: WorkerId = WorkerId(Uuid::from_u128(0x00aa));
const DAY_MS: u64 = 86_400_000;

/// A clock that the archive sets.
struct SetClock(AtomicU64);

impl Clock for SetClock {
    fn now(&self) -> DateTime<Utc> {
        time::from_millis(self.0.load(Ordering::SeqCst))
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}

/// The store, and the worker that decides. Its folder goes away with it.
pub(crate) struct Archive {
    pub(crate) store: Arc<SqliteStore>,
    lane: Mutex<Box<dyn Lane>>,
    epochs: Vec<(PartitionId, Epoch)>,
    clock: Arc<SetClock>,
    count: AtomicU64,
    folder: PathBuf,
}

impl Drop for Archive {
    fn drop(&mut self) {
        // Only a leftover in the temporary folder, should it fail.
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

impl Archive {
    pub(crate) async fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("riskfleet-archive-{}", Uuid::new_v4().simple()));
        std::fs::create_dir_all(&folder).expect("a folder for the test");
        let clock = Arc::new(SetClock(AtomicU64::new(NOW_MS)));
        let store = SqliteStore::open(&folder.join("store.db"), PARTITIONS, [7; 32], clock.clone()).await;
        let store = Arc::new(store.expect("a new file opens"));
        let mut epochs = Vec::new();
        for p in (0..PARTITIONS).map(PartitionId) {
            epochs.push((p, store.claim_partition(p, WORKER).await.expect("claimed")));
        }
        let lane = Mutex::new(store.open_lane().await.expect("opened"));
        Self { store, lane, epochs, clock, count: AtomicU64::new(0), folder }
    }

    /// The clock that it sets.
    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        self.clock.clone()
    }

    /// What an API stands on that is governed by this store.
    pub(crate) fn state(&self, auth: Authenticator) -> ApiState {
        let registry = self.store.clone();
        ApiState { registry, ..state(self.store.clone(), auth, LIMITS, Vec::new()) }
    }

    /// An event of a tenant, accepted and approved so many days ago, and published.
    pub(crate) async fn decided(&self, tenant: &str, days_ago: u64) -> EventId {
        let n = self.count.fetch_add(1, Ordering::SeqCst);
        let millis = NOW_MS - days_ago * DAY_MS;
        self.clock.0.store(millis, Ordering::SeqCst);
        let tenant = TenantId::parse(tenant).expect("legal");
        let body = format!(
            r#"{{"kind":"risk","event_type":"standard","version":"1","tenant_id":"{tenant}","metadata":{{}}}}"#
        );
        let mut random = [0; 10];
        random[2..].copy_from_slice(&n.to_be_bytes());
        let new = NewEvent {
            id: EventId::mint(millis, random),
            key: IdempotencyKey::parse(&format!("key-{n}")).expect("legal"),
            correlation_id: CorrelationId::parse(&format!("request-{n}")).expect("legal"),
            partition: partition_of(&tenant, PARTITIONS),
            payload_hash: sha256(body.as_bytes()),
            body: Bytes::from(body),
            tenant,
        };
        self.store.accept_batch(Uuid::new_v4(), std::slice::from_ref(&new)).await.expect("accepted");
        self.commit(&new).await;
        self.clock.0.store(NOW_MS, Ordering::SeqCst);
        for kind in [OutboxKind::Accept, OutboxKind::Outcome] {
            let rows = self.store.take_outbox(kind, Duration::ZERO, 100).await.expect("taken");
            self.store.settle_outbox(&rows.iter().map(|row| row.id).collect::<Vec<_>>()).await.expect("settled");
        }
        new.id
    }

    async fn commit(&self, event: &NewEvent) {
        let text = format!(r#"{{"event":"{}"}}"#, event.id);
        let audit = AuditBody {
            event_id: Some(event.id),
            event_sha256: Some(hex::encode(event.payload_hash)),
            decision_sha256: Some(hex::encode(sha256(text.as_bytes()))),
            ..AuditBody::new(
                (event.tenant.clone(), Stream::Workflow),
                event.id.created_at(),
                format!("worker:{WORKER}"),
                "decision_made",
                ("event", event.id.to_string()),
            )
        };
        let disposition = Disposition::Decided {
            outcome: Outcome::Approved,
            decision: text.into(),
            timings: vec![1],
            charge: Charge::default(),
        };
        let (tenant, partition) = (event.tenant.clone(), event.partition);
        let items = vec![NewDisposition { event: event.id, tenant, partition, disposition, audit }];
        let epochs = self.epochs.iter().copied().filter(|(p, _)| *p == partition).collect();
        let at = event.id.created_at();
        let batch = CommitBatch { id: Uuid::new_v4(), worker: WORKER, at, epochs, items };
        let committed = self.lane.lock().await.commit_batch(&batch).await;
        assert_eq!(committed.expect("committed"), [Committed::Written]);
    }

    /// Moves the mark over everything that is decided.
    pub(crate) async fn advance(&self) {
        self.store.advance_mark().await.expect("advanced");
    }
}
