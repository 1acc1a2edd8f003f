//! What stands behind the API in its tests: an intake with the real one's rule of idempotency, a
//! store that gives back what a test puts in, a clock that stands still.

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use riskfleet::domain::approval::Verdict;
use riskfleet::domain::audit::Hash;
use riskfleet::domain::checkpoint::{Anchor, Checkpoint, NotedHead, Signed};
use riskfleet::domain::retention::{Day, DayFacts};
use riskfleet::domain::version::{Artifact, NewVersion, Ruling, Version, VersionKey, VersionRef};
use riskfleet::domain::{
    ApiKey, AuditBody, AuditRecord, BudgetState, BudgetTerms, Epoch, EventId, KeyId, Month, Outcome, PartitionId,
    Scope, Status, Stream, TenantId, WorkerId, time,
};
use riskfleet::ports::approvals::{Acted, ApprovalAct, ApprovalCounts, ApprovalFilter, ApprovalLine};
use riskfleet::ports::checkpoints::{Appended, KeptCheckpoint, Pruned};
use riskfleet::ports::costs::{BudgetAct, BudgetUse, CostFilter, CostReport, Stop};
use riskfleet::ports::intake::{Candidate, Intake, IntakeError, Receipt, Taken};
use riskfleet::ports::keys::{KeyAct, KeyFilter};
use riskfleet::ports::retention::DropAct;
use riskfleet::ports::store::{
    Accepted, AuditCursor, AuditLine, Backlog, DeadAct, DeadFilter, DeadLetter, DueRetry, EventFilter, EventRecord,
    EventStore, EventSummary, FleetConstants, FleetStatus, Lane, Ledger, NewEvent, OutboxKind, OutboxRow, StoreError,
    StoredEvent, WorkerRow,
};
use riskfleet::ports::tenants::{Tenant, TenantAct};
use riskfleet::ports::versions::{Act, Activation, StoredVersion, VersionFilter};
use riskfleet::ports::{ActiveVersions, Approvals, Clock, Entropy, Retention, Tenants, Versions};
use riskfleet::ports::{Checkpoints, Costs, Keys, Stops};
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

/// Nothing to govern by.
pub(crate) struct FakeRegistry;

fn not_governed<T>() -> Result<T, StoreError> {
    Err(StoreError::Fault("not here".into()))
}

#[async_trait]
impl ActiveVersions for FakeRegistry {
    async fn activations_since(&self, _: i64, _: u32) -> Result<Vec<Activation>, StoreError> {
        not_governed()
    }

    async fn version_content(&self, _: &VersionKey) -> Result<Option<StoredVersion>, StoreError> {
        not_governed()
    }
}

#[async_trait]
impl Approvals for FakeRegistry {
    async fn list_approvals(&self, _: &ApprovalFilter) -> Result<Vec<ApprovalLine>, StoreError> {
        not_governed()
    }

    async fn claim_approval(&self, _: &ApprovalAct, _: DateTime<Utc>) -> Result<Acted, StoreError> {
        not_governed()
    }

    async fn release_approval(&self, _: &ApprovalAct) -> Result<Acted, StoreError> {
        not_governed()
    }

    async fn comment_approval(&self, _: &ApprovalAct, _: &str) -> Result<Acted, StoreError> {
        not_governed()
    }

    async fn decide_approval(&self, _: &ApprovalAct, _: Verdict, _: Uuid) -> Result<Acted, StoreError> {
        not_governed()
    }

    async fn count_approvals(&self, _: Option<DateTime<Utc>>) -> Result<ApprovalCounts, StoreError> {
        not_governed()
    }

    async fn approvals_to_escalate(&self, _: DateTime<Utc>, _: u32) -> Result<Vec<(TenantId, EventId)>, StoreError> {
        not_governed()
    }

    async fn escalate_approval(
        &self,
        _: &TenantId,
        _: EventId,
        _: DateTime<Utc>,
        _: &AuditBody,
    ) -> Result<bool, StoreError> {
        not_governed()
    }
}

#[async_trait]
impl Checkpoints for FakeRegistry {
    async fn chain_heads(&self, _: Option<&(TenantId, Stream)>, _: u32) -> Result<Vec<NotedHead>, StoreError> {
        not_governed()
    }

    async fn last_checkpoint(&self) -> Result<Option<KeptCheckpoint>, StoreError> {
        not_governed()
    }

    async fn append_checkpoint(&self, _: &Checkpoint, _: &Signed) -> Result<Appended, StoreError> {
        not_governed()
    }

    async fn checkpoints_page(&self, _: i64, _: u32) -> Result<Vec<KeptCheckpoint>, StoreError> {
        not_governed()
    }

    async fn records_page(&self, _: Option<&AuditCursor>, _: u32) -> Result<Vec<AuditRecord>, StoreError> {
        not_governed()
    }

    async fn anchors_page(&self, _: Option<&(TenantId, Stream)>, _: u32) -> Result<Vec<Signed>, StoreError> {
        not_governed()
    }

    async fn prune_chain(&self, _: &Anchor, _: &Signed, _: &AuditBody) -> Result<Pruned, StoreError> {
        not_governed()
    }
}

#[async_trait]
impl Keys for FakeRegistry {
    async fn create_key(&self, _: &ApiKey, _: &AuditBody) -> Result<(), StoreError> {
        not_governed()
    }

    async fn create_first_key(&self, _: &ApiKey, _: &AuditBody) -> Result<bool, StoreError> {
        not_governed()
    }

    async fn revoke_key(&self, _: KeyId, _: &AuditBody) -> Result<KeyAct, StoreError> {
        not_governed()
    }

    async fn key(&self, _: KeyId) -> Result<Option<ApiKey>, StoreError> {
        not_governed()
    }

    async fn key_by_hash(&self, _: &Hash) -> Result<Option<ApiKey>, StoreError> {
        not_governed()
    }

    async fn list_keys(&self, _: &KeyFilter) -> Result<Vec<ApiKey>, StoreError> {
        not_governed()
    }

    async fn touch_keys(&self, _: &[(KeyId, DateTime<Utc>)]) -> Result<(), StoreError> {
        not_governed()
    }

    async fn append_control(&self, _: &AuditBody) -> Result<(), StoreError> {
        not_governed()
    }
}

#[async_trait]
impl Retention for FakeRegistry {
    async fn days(&self, _: u32, _: u32) -> Result<Vec<DayFacts>, StoreError> {
        not_governed()
    }

    async fn drop_day(&self, _: Day, _: u32, _: &AuditBody) -> Result<DropAct, StoreError> {
        not_governed()
    }

    async fn finish_drops(&self) -> Result<u64, StoreError> {
        not_governed()
    }
}

#[async_trait]
impl Stops for FakeRegistry {
    async fn stops(&self, _: Month, _: Option<&TenantId>, _: u32) -> Result<Vec<Stop>, StoreError> {
        not_governed()
    }
}

#[async_trait]
impl Costs for FakeRegistry {
    async fn costs(&self, _: &Scope, _: &CostFilter) -> Result<CostReport, StoreError> {
        not_governed()
    }

    async fn budgets(&self, _: &Scope, _: Month, _: Option<&TenantId>, _: u32) -> Result<Vec<BudgetUse>, StoreError> {
        not_governed()
    }

    async fn set_budget(&self, _: &TenantId, _: Option<&BudgetTerms>, _: &AuditBody) -> Result<BudgetAct, StoreError> {
        not_governed()
    }

    async fn note_budget(&self, _: &TenantId, _: Month, _: BudgetState, _: &AuditBody) -> Result<bool, StoreError> {
        not_governed()
    }
}

#[async_trait]
impl Tenants for FakeRegistry {
    async fn list_tenants(&self, _: Option<&TenantId>, _: u32) -> Result<Vec<Tenant>, StoreError> {
        not_governed()
    }

    async fn tenant(&self, _: &TenantId) -> Result<Option<Tenant>, StoreError> {
        not_governed()
    }

    async fn set_retention(&self, _: &TenantId, _: Option<u32>, _: &AuditBody) -> Result<TenantAct, StoreError> {
        not_governed()
    }

    async fn hold(&self, _: &TenantId, _: &AuditBody) -> Result<TenantAct, StoreError> {
        not_governed()
    }

    async fn release(&self, _: &TenantId, _: &AuditBody) -> Result<TenantAct, StoreError> {
        not_governed()
    }
}

#[async_trait]
impl Versions for FakeRegistry {
    async fn register_version(&self, _: &NewVersion, _: &AuditBody) -> Result<Act<Version>, StoreError> {
        not_governed()
    }

    async fn decide_version(&self, _: &VersionKey, _: Ruling, _: &AuditBody) -> Result<Act<Version>, StoreError> {
        not_governed()
    }

    async fn version(&self, _: &VersionKey) -> Result<Option<Version>, StoreError> {
        not_governed()
    }

    async fn versions(&self, _: &VersionFilter) -> Result<Vec<Version>, StoreError> {
        not_governed()
    }

    async fn activate_version(&self, _: &VersionKey, _: &AuditBody) -> Result<Act<Activation>, StoreError> {
        not_governed()
    }

    async fn deactivate_version(
        &self,
        _: &TenantId,
        _: Artifact,
        _: &AuditBody,
    ) -> Result<Option<VersionRef>, StoreError> {
        not_governed()
    }

    async fn active_version(&self, _: &TenantId, _: Artifact) -> Result<Option<VersionRef>, StoreError> {
        not_governed()
    }
}

/// Gives back what a test puts in.
#[derive(Default)]
pub(crate) struct FakeStore {
    pub(crate) records: Mutex<HashMap<EventId, EventRecord>>,
    /// Answers everything with this.
    pub(crate) failure: Mutex<Option<StoreError>>,
    /// How often it was asked for anything that it can do.
    pub(crate) asked: AtomicU64,
}

impl FakeStore {
    fn answer<T>(&self, well: T) -> Result<T, StoreError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.failure.lock().expect("no panic inside").clone().map_or(Ok(well), Err)
    }

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
    async fn event(&self, scope: &Scope, id: EventId) -> Result<Option<EventRecord>, StoreError> {
        let record = self.records.lock().expect("no panic inside").get(&id).cloned();
        self.answer(record.filter(|record| scope.covers(&record.event.tenant)))
    }

    async fn constants(&self) -> Result<FleetConstants, StoreError> {
        self.answer(FleetConstants { partitions: 4, pack_secret: [7; 32] })
    }

    async fn now(&self) -> Result<DateTime<Utc>, StoreError> {
        self.answer(time::from_millis(NOW_MS))
    }

    async fn accept_batch(&self, _: Uuid, events: &[NewEvent]) -> Result<Vec<Accepted>, StoreError> {
        self.answer(vec![Accepted::Fresh; events.len()])
    }

    async fn settle_outbox(&self, _: &[Uuid]) -> Result<(), StoreError> {
        self.answer(())
    }

    async fn take_outbox(&self, _: OutboxKind, _: Duration, _: u32) -> Result<Vec<OutboxRow>, StoreError> {
        self.answer(Vec::new())
    }

    async fn unpublished(&self) -> Result<u64, StoreError> {
        self.answer(0)
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

    async fn verdicts(&self, _: &[EventId]) -> Result<Vec<(EventId, Outcome)>, StoreError> {
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

    async fn due_retries(&self, _: PartitionId, _: u32) -> Result<Vec<DueRetry>, StoreError> {
        not_here()
    }

    async fn dead_letters(&self, _: &DeadFilter) -> Result<Vec<DeadLetter>, StoreError> {
        not_here()
    }

    async fn replay_dead(&self, _: EventId, _: &AuditBody) -> Result<DeadAct, StoreError> {
        not_here()
    }

    async fn discard_dead(&self, _: EventId, _: &AuditBody) -> Result<DeadAct, StoreError> {
        not_here()
    }

    async fn ask_repair(&self) -> Result<u64, StoreError> {
        not_here()
    }

    async fn repairs(&self) -> Result<u64, StoreError> {
        not_here()
    }

    async fn backlog(&self) -> Result<Backlog, StoreError> {
        not_here()
    }

    async fn ledger(&self) -> Result<Ledger, StoreError> {
        not_here()
    }

    async fn fleet_status(&self) -> Result<FleetStatus, StoreError> {
        not_here()
    }
}
