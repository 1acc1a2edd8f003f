//! A store in memory with dead letters in it, for tests of what people do with them.

use bytes::Bytes;
use riskfleet::adapters::memory::store::MemoryStore;
use riskfleet::domain::audit::{check, check_stored, sha256};
use riskfleet::domain::partition::partition_of;
use riskfleet::domain::{
    AuditBody, ChainHead, CorrelationId, Epoch, EventId, FailureClass, IdempotencyKey, PartitionId, Scope, Stream,
    TenantId, WorkerId, time,
};
use riskfleet::ports::store::{Accepted, CommitBatch, Committed, Disposition, NewDisposition, NewEvent};
use riskfleet::ports::{EventStore, Lane};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use tokio::sync::Mutex;
use uuid::Uuid;

use super::fakes::{FakeClock, NOW_MS};

/// Of the store.
pub(crate) const PARTITIONS: u16 = 4;
const WORKER: WorkerId = WorkerId(Uuid::from_u128(0x00aa));

/// What an event is that no worker can read.
pub(crate) const UNREADABLE: &str = "no event at all";

/// The store, and the worker that buries.
pub(crate) struct Graveyard {
    pub(crate) store: Arc<dyn EventStore>,
    lane: Mutex<Box<dyn Lane>>,
    epochs: Vec<(PartitionId, Epoch)>,
    count: AtomicU8,
}

impl Graveyard {
    pub(crate) async fn new() -> Self {
        Self::over(Arc::new(MemoryStore::new(PARTITIONS, [7; 32], Arc::new(FakeClock)))).await
    }

    /// In a store of [`PARTITIONS`] partitions.
    pub(crate) async fn over(store: Arc<dyn EventStore>) -> Self {
        let mut epochs = Vec::new();
        for p in (0..PARTITIONS).map(PartitionId) {
            epochs.push((p, store.claim_partition(p, WORKER).await.expect("claimed")));
        }
        let lane = Mutex::new(store.open_lane().await.expect("opened"));
        Self { store, lane, epochs, count: AtomicU8::new(0) }
    }

    /// Accepts an event with this text.
    pub(crate) async fn accept(&self, tenant: &str, text: &str) -> EventId {
        let n = self.count.fetch_add(1, Ordering::SeqCst);
        let tenant = TenantId::parse(tenant).expect("legal");
        let new = NewEvent {
            id: EventId::mint(NOW_MS + u64::from(n), [n; 10]),
            key: IdempotencyKey::parse(&format!("key-{n}")).expect("legal"),
            correlation_id: CorrelationId::parse(&format!("request-{n}")).expect("legal"),
            partition: partition_of(&tenant, PARTITIONS),
            payload_hash: sha256(text.as_bytes()),
            body: Bytes::copy_from_slice(text.as_bytes()),
            tenant,
        };
        let accepted = self.store.accept_batch(Uuid::from_u128(u128::from(n) + 1), std::slice::from_ref(&new)).await;
        assert_eq!(accepted.expect("accepted"), [Accepted::Fresh]);
        new.id
    }

    /// Lets an accepted event die of `error`.
    pub(crate) async fn bury(&self, event: EventId, error: &str) {
        let stored = self.store.event(&Scope::Fleet, event).await.expect("read").expect("stored").event;
        let at = time::from_millis(NOW_MS + 500);
        let chain = (stored.tenant.clone(), Stream::Workflow);
        let resource = ("event", event.to_string());
        let audit = AuditBody {
            event_id: Some(event),
            event_sha256: Some(hex::encode(sha256(&stored.body))),
            ..AuditBody::new(chain, at, format!("worker:{WORKER}"), "dead_lettered", resource)
        };
        let disposition = Disposition::Dead { class: FailureClass::UnexpectedError, error: error.into(), attempts: 3 };
        let (tenant, partition) = (stored.tenant, stored.partition);
        let item = NewDisposition { event, tenant, partition, disposition, audit };
        let n = u128::from(self.count.fetch_add(1, Ordering::SeqCst));
        let epochs = self.epochs.iter().copied().filter(|(p, _)| *p == partition).collect();
        let batch = CommitBatch { id: Uuid::from_u128(n + 1_000), worker: WORKER, at, epochs, items: vec![item] };
        let committed = self.lane.lock().await.commit_batch(&batch).await;
        assert_eq!(committed.expect("committed"), [Committed::Written]);
    }

    /// A dead letter of a tenant.
    pub(crate) async fn dead(&self, tenant: &str) -> EventId {
        let text = format!(
            r#"{{"kind":"risk","event_type":"standard","version":"1","tenant_id":"{tenant}","metadata":{{}}}}"#
        );
        let event = self.accept(tenant, &text).await;
        self.bury(event, "no model").await;
        event
    }

    /// Every record of the tenant's control chain; all chains must be whole.
    pub(crate) async fn control_chain(&self, tenant: &str) -> Vec<AuditBody> {
        let (mut place, mut head, mut found) = (None, ChainHead::EMPTY, Vec::new());
        for line in self.store.audit_page(None, 10_000).await.expect("read") {
            let at = (line.record.tenant.clone(), line.record.stream);
            if place.replace(at.clone()) != Some(at) {
                head = ChainHead::EMPTY;
            }
            let body = check(&mut head, &line.record).expect("a whole chain");
            check_stored(&body, line.event.as_deref(), line.decision.as_deref()).expect("as stored");
            if body.stream == Stream::Control && body.tenant_id.as_str() == tenant {
                found.push(body);
            }
        }
        found
    }
}
