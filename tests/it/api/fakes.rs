//! What stands behind the API in its tests: an intake with the real one's rule of idempotency, a
//! store that gives back what a test puts in, a clock that stands still.

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use riskfleet::domain::{Epoch, EventId, PartitionId, Status, TenantId, WorkerId, time};
use riskfleet::ports::intake::{Candidate, Intake, IntakeError, Receipt, Taken};
use riskfleet::ports::store::{
    Accepted, AuditCursor, AuditLine, EventFilter, EventRecord, EventStore, EventSummary, FleetConstants, FleetStatus,
    Lane, Ledger, NewEvent, OutboxKind, OutboxRow, StoreError, StoredEvent, WorkerRow,
};
use riskfleet::ports::{Clock, Entropy};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use uuid::Uuid;

/// The moment at which every test happens.
pub(crate) const NOW_MS: u64 = 1_795_255_200_000;

pub(crate) struct FakeClock;

impl Clock for FakeClock {
    fn now(&self) -> DateTime<Utc> {
        time::from_millis(NOW_MS)
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}

#[derive(Default)]
pub(crate) struct FakeEntropy(AtomicU64);

impl Entropy for FakeEntropy {
    fn bits(&self) -> u128 {
        u128::from(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

type First = (Vec<u8>, Receipt);

/// Takes events as the real intake does.
#[derive(Default)]
pub(crate) struct FakeIntake {
    first: Mutex<HashMap<(String, String), First>>,
    /// Every candidate that was handed in.
    pub(crate) seen: Mutex<Vec<Candidate>>,
    /// Refuses everything with this.
    pub(crate) refusal: Mutex<Option<IntakeError>>,
    /// The decision on whatever is waited for.
    pub(crate) decision: Mutex<Option<Value>>,
    /// How long each submit takes.
    pub(crate) delay: Mutex<Duration>,
    /// Panics instead of taking.
    pub(crate) broken: Mutex<bool>,
}

impl FakeIntake {
    fn take(&self, candidate: Candidate) -> Taken {
        let mut first = self.first.lock().expect("no panic inside");
        let nth = u8::try_from(first.len() % 256).expect("below 256");
        let payload = candidate.body.canonical();
        let key = (candidate.body.tenant_id.to_string(), candidate.key.to_string());
        if let Some((stored, receipt)) = first.get(&key) {
            let same = *stored == payload;
            return if same { Taken::Replayed(receipt.clone()) } else { Taken::Conflict(receipt.event_id) };
        }
        let event_id = EventId::mint(NOW_MS, [nth; 10]);
        let receipt = Receipt {
            event_id,
            tenant_id: candidate.body.tenant_id.clone(),
            status: Status::Received,
            created_at: event_id.created_at(),
            correlation_id: candidate.correlation_id.clone(),
        };
        first.insert(key, (payload, receipt.clone()));
        self.seen.lock().expect("no panic inside").push(candidate);
        Taken::Accepted(receipt)
    }
}

#[async_trait]
impl Intake for FakeIntake {
    async fn submit(&self, candidates: Vec<Candidate>) -> Result<Vec<Taken>, IntakeError> {
        assert!(!*self.broken.lock().expect("no panic inside"), "broken on purpose");
        let delay = *self.delay.lock().expect("no panic inside");
        tokio::time::sleep(delay).await;
        if let Some(refusal) = self.refusal.lock().expect("no panic inside").clone() {
            return Err(refusal);
        }
        Ok(candidates.into_iter().map(|candidate| self.take(candidate)).collect())
    }

    async fn decision(&self, _: EventId, patience: Duration) -> Option<Value> {
        let decision = self.decision.lock().expect("no panic inside").clone();
        if decision.is_none() {
            tokio::time::sleep(patience).await;
        }
        decision
    }
}

/// Gives back what a test puts in.
#[derive(Default)]
pub(crate) struct FakeStore {
    pub(crate) records: Mutex<HashMap<EventId, EventRecord>>,
    /// Answers every reading with this.
    pub(crate) failure: Mutex<Option<StoreError>>,
}

impl FakeStore {
    pub(crate) fn put(&self, record: EventRecord) -> EventId {
        let id = record.event.id;
        self.records.lock().expect("no panic inside").insert(id, record);
        id
    }
}

fn not_here<T>() -> Result<T, StoreError> {
    Err(StoreError::Fault("the producer API does not use this".into()))
}

#[async_trait]
impl EventStore for FakeStore {
    async fn event(&self, id: EventId) -> Result<Option<EventRecord>, StoreError> {
        match self.failure.lock().expect("no panic inside").clone() {
            Some(failure) => Err(failure),
            None => Ok(self.records.lock().expect("no panic inside").get(&id).cloned()),
        }
    }

    async fn constants(&self) -> Result<FleetConstants, StoreError> {
        not_here()
    }

    async fn now(&self) -> Result<DateTime<Utc>, StoreError> {
        not_here()
    }

    async fn accept_batch(&self, _: Uuid, _: &[NewEvent]) -> Result<Vec<Accepted>, StoreError> {
        not_here()
    }

    async fn settle_outbox(&self, _: &[Uuid]) -> Result<(), StoreError> {
        not_here()
    }

    async fn take_outbox(&self, _: OutboxKind, _: Duration, _: u32) -> Result<Vec<OutboxRow>, StoreError> {
        not_here()
    }

    async fn unpublished(&self) -> Result<u64, StoreError> {
        not_here()
    }

    async fn claim_partition(&self, _: PartitionId, _: WorkerId) -> Result<Epoch, StoreError> {
        not_here()
    }

    async fn release_partition(&self, _: PartitionId, _: Epoch) -> Result<(), StoreError> {
        not_here()
    }

    async fn open_lane(&self) -> Result<Box<dyn Lane>, StoreError> {
        not_here()
    }

    async fn events(&self, _: &[EventId]) -> Result<Vec<StoredEvent>, StoreError> {
        not_here()
    }

    async fn pending_of(&self, _: &[EventId]) -> Result<Vec<StoredEvent>, StoreError> {
        not_here()
    }

    async fn decisions(&self, _: &[EventId]) -> Result<Vec<(EventId, TenantId, Bytes)>, StoreError> {
        not_here()
    }

    async fn pending_page(
        &self,
        _: PartitionId,
        _: Option<EventId>,
        _: EventId,
        _: u32,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        not_here()
    }

    async fn mark(&self) -> Result<EventId, StoreError> {
        not_here()
    }

    async fn advance_mark(&self) -> Result<EventId, StoreError> {
        not_here()
    }

    async fn report_worker(&self, _: &WorkerRow) -> Result<(), StoreError> {
        not_here()
    }

    async fn keep_rejected(&self, _: Uuid, _: &str, _: &[u8]) -> Result<(), StoreError> {
        not_here()
    }

    async fn list_events(&self, _: &EventFilter) -> Result<Vec<EventSummary>, StoreError> {
        not_here()
    }

    async fn events_since(&self, _: EventId, _: u32) -> Result<Vec<StoredEvent>, StoreError> {
        not_here()
    }

    async fn audit_page(&self, _: Option<&AuditCursor>, _: u32) -> Result<Vec<AuditLine>, StoreError> {
        not_here()
    }

    async fn ledger(&self) -> Result<Ledger, StoreError> {
        not_here()
    }

    async fn fleet_status(&self) -> Result<FleetStatus, StoreError> {
        not_here()
    }
}
