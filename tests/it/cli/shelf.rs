//! A store that only shows what was put on it, so that a test can put anything on it; and a fleet
//! in memory that fills it.

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use clap::Parser;
use riskfleet::adapters::memory::store::MemoryStore;
use riskfleet::cli::args::{Audit, Cli, Command};
use riskfleet::cli::{AuditSources, Exit, Screen, audit_list, audit_verify, run};
use riskfleet::domain::audit::sha256;
use riskfleet::domain::cost::Charge;
use riskfleet::domain::partition::partition_of;
use riskfleet::domain::{
    AuditBody, CorrelationId, Epoch, Event, EventBody, EventId, IdempotencyKey, Outcome, PartitionId, Scope, Snapshot,
    Stream, TenantId, WorkerId, parse, time,
};
use riskfleet::pipeline::{self, Policy};
use riskfleet::ports::store::{
    Accepted, AuditCursor, AuditLine, Backlog, CommitBatch, Committed, DeadAct, DeadFilter, DeadLetter, Disposition,
    DueRetry, EventFilter, EventRecord, EventSummary, FleetConstants, FleetStatus, Ledger, NewDisposition, NewEvent,
    OutboxKind, OutboxRow, StoredEvent, WorkerRow,
};
use riskfleet::ports::{Clock, EventStore, Lane, StoreError};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use uuid::Uuid;

/// 2026-11-21T10:00:00Z.
pub(super) const T0: u64 = 1_795_255_200_000;
pub(super) const WORKER: WorkerId = WorkerId(Uuid::from_u128(0x00aa));
pub(super) const PARTITIONS: u16 = 4;

/// What replays look into where everything was decided by the baseline.
pub(super) fn no_versions() -> MemoryStore {
    MemoryStore::new(PARTITIONS, [0; 32], Arc::new(riskfleet::lifecycle::SystemClock::new()))
}

/// What a store holds for readers. Everything else is out of reach: a reading command that wrote
/// would panic here.
#[derive(Default)]
pub(super) struct Shelf {
    pub(super) events: BTreeMap<EventId, EventRecord>,
    pub(super) audit: Vec<AuditLine>,
    pub(super) fleet: Option<FleetStatus>,
    /// How many pending events are older than any that is asked for.
    pub(super) older: usize,
}

#[async_trait]
impl EventStore for Shelf {
    async fn constants(&self) -> Result<FleetConstants, StoreError> {
        unreachable!("a reading command")
    }
    async fn now(&self) -> Result<DateTime<Utc>, StoreError> {
        Ok(time::from_millis(T0 + 5_000))
    }
    async fn accept_batch(&self, _: Uuid, _: &[NewEvent]) -> Result<Vec<Accepted>, StoreError> {
        unreachable!("a reading command")
    }
    async fn settle_outbox(&self, _: &[Uuid]) -> Result<(), StoreError> {
        unreachable!("a reading command")
    }
    async fn take_outbox(&self, _: OutboxKind, _: Duration, _: u32) -> Result<Vec<OutboxRow>, StoreError> {
        unreachable!("a reading command")
    }
    async fn unpublished(&self) -> Result<u64, StoreError> {
        unreachable!("a reading command")
    }
    async fn claim_partition(&self, _: PartitionId, _: WorkerId) -> Result<Epoch, StoreError> {
        unreachable!("a reading command")
    }
    async fn release_partition(&self, _: PartitionId, _: Epoch) -> Result<(), StoreError> {
        unreachable!("a reading command")
    }
    async fn open_lane(&self) -> Result<Box<dyn Lane>, StoreError> {
        unreachable!("a reading command")
    }
    async fn events(&self, _: &[EventId]) -> Result<Vec<StoredEvent>, StoreError> {
        unreachable!("no command reads so")
    }
    async fn pending_of(&self, _: &[EventId]) -> Result<Vec<StoredEvent>, StoreError> {
        unreachable!("no command reads so")
    }
    async fn decisions(&self, _: &[EventId]) -> Result<Vec<(EventId, TenantId, Bytes)>, StoreError> {
        unreachable!("no command reads so")
    }
    async fn verdicts(&self, _: &[EventId]) -> Result<Vec<(EventId, Outcome)>, StoreError> {
        unreachable!("no command reads so")
    }
    async fn pending_page(
        &self,
        partition: PartitionId,
        _: Option<EventId>,
        before: EventId,
        limit: u32,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let Some(record) = self.events.get(&before).filter(|r| r.event.partition == partition) else {
            return Ok(Vec::new());
        };
        Ok(vec![record.event.clone(); self.older.min(limit as usize)])
    }
    async fn mark(&self) -> Result<EventId, StoreError> {
        unreachable!("no command reads so")
    }
    async fn advance_mark(&self) -> Result<EventId, StoreError> {
        unreachable!("a reading command")
    }
    async fn report_worker(&self, _: &WorkerRow) -> Result<(), StoreError> {
        unreachable!("a reading command")
    }
    async fn keep_rejected(&self, _: Uuid, _: &str, _: &[u8]) -> Result<(), StoreError> {
        unreachable!("a reading command")
    }
    async fn event(&self, _: &Scope, id: EventId) -> Result<Option<EventRecord>, StoreError> {
        Ok(self.events.get(&id).cloned())
    }
    async fn list_events(&self, _: &EventFilter) -> Result<Vec<EventSummary>, StoreError> {
        Err(StoreError::Away("connection refused".into()))
    }
    async fn events_since(&self, _: EventId, _: u32) -> Result<Vec<StoredEvent>, StoreError> {
        unreachable!("no command reads so")
    }
    async fn audit_page(&self, after: Option<&AuditCursor>, limit: u32) -> Result<Vec<AuditLine>, StoreError> {
        let key = |l: &AuditLine| (l.record.tenant.clone(), l.record.stream, l.record.seq);
        let start = after.map_or(0, |c| self.audit.partition_point(|l| key(l) <= (c.tenant.clone(), c.stream, c.seq)));
        Ok(self.audit.iter().skip(start).take(limit as usize).cloned().collect())
    }
    async fn due_retries(&self, _: PartitionId, _: u32) -> Result<Vec<DueRetry>, StoreError> {
        unreachable!("a reading command")
    }
    async fn dead_letters(&self, _: &DeadFilter) -> Result<Vec<DeadLetter>, StoreError> {
        unreachable!("no command reads so")
    }
    async fn replay_dead(&self, _: EventId, _: &AuditBody) -> Result<DeadAct, StoreError> {
        unreachable!("a reading command")
    }
    async fn discard_dead(&self, _: EventId, _: &AuditBody) -> Result<DeadAct, StoreError> {
        unreachable!("a reading command")
    }
    async fn ask_repair(&self) -> Result<u64, StoreError> {
        unreachable!("a reading command")
    }
    async fn repairs(&self) -> Result<u64, StoreError> {
        unreachable!("no command reads so")
    }
    async fn backlog(&self) -> Result<Backlog, StoreError> {
        unreachable!("nobody asks")
    }
    async fn ledger(&self) -> Result<Ledger, StoreError> {
        unreachable!("only for progress")
    }
    async fn fleet_status(&self) -> Result<FleetStatus, StoreError> {
        self.fleet.clone().ok_or_else(|| StoreError::Misfit("`migrate` has not run".into()))
    }
}

/// A clock that stands where it is put.
pub(super) struct StandingClock(AtomicU64);

impl StandingClock {
    pub(super) fn set(&self, millis: u64) {
        self.0.store(millis, Ordering::SeqCst);
    }
}

impl Clock for StandingClock {
    fn now(&self) -> DateTime<Utc> {
        time::from_millis(self.0.load(Ordering::SeqCst))
    }
    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}

/// A fleet in memory: accepts and decides when told to.
pub(super) struct Fleet {
    pub(super) store: MemoryStore,
    clock: Arc<StandingClock>,
    epochs: BTreeMap<PartitionId, Epoch>,
    lane: Box<dyn Lane>,
    count: u8,
}

impl Fleet {
    pub(super) async fn new() -> Self {
        let clock = Arc::new(StandingClock(AtomicU64::new(T0)));
        let store = MemoryStore::new(PARTITIONS, [7; 32], clock.clone());
        let mut epochs = BTreeMap::new();
        for p in (0..PARTITIONS).map(PartitionId) {
            epochs.insert(p, store.claim_partition(p, WORKER).await.expect("claimed"));
        }
        let lane = store.open_lane().await.expect("opened");
        Self { store, clock, epochs, lane, count: 0 }
    }

    /// Accepts an event, one second after the one before.
    pub(super) async fn accept(&mut self, text: &str) -> Event {
        self.count += 1;
        let at = T0 + u64::from(self.count) * 1_000;
        self.clock.set(at);
        let (new, body) = new_event(text, at, self.count);
        let (id, correlation_id) = (new.id, new.correlation_id.clone());
        let accepted = self.store.accept_batch(Uuid::from_u128(u128::from(self.count)), &[new]).await;
        assert_eq!(accepted.expect("accepted"), [Accepted::Fresh]);
        Event { id, correlation_id, body }
    }

    /// Decides an event 7 ms after its accept, and publishes everything of it when told so.
    pub(super) async fn decide(&mut self, event: &Event, published: bool) {
        let at = event.id.created_at() + TimeDelta::milliseconds(7);
        let decision = pipeline::run(event, &Snapshot::default(), &Policy::baseline(), at, &|| Duration::ZERO).decision;
        let text = decision.canonical();
        let partition = partition_of(&event.body.tenant_id, PARTITIONS);
        let item = NewDisposition {
            event: event.id,
            tenant: event.body.tenant_id.clone(),
            partition,
            audit: audit_body(&event.body, event.id, &text, at),
            disposition: Disposition::Decided {
                outcome: decision.outcome,
                decision: text.into(),
                timings: vec![1, 2, 3, 4, 5, 6],
                charge: Charge::default(),
            },
        };
        let id = Uuid::from_u128(event.id.0.as_u128() + 1);
        let epochs = vec![(partition, self.epochs[&partition])];
        let batch = CommitBatch { id, worker: WORKER, at, epochs, items: vec![item] };
        assert_eq!(self.lane.commit_batch(&batch).await.expect("committed"), [Committed::Written]);
        if published {
            let accept = Uuid::from_u128(u128::from(self.count));
            self.store.settle_outbox(&[id, accept]).await.expect("settled");
        }
    }

    /// A shelf with everything that the store shows.
    pub(super) async fn shelf(&self, ids: &[EventId]) -> Shelf {
        let mut shelf = Shelf { fleet: self.store.fleet_status().await.ok(), ..Shelf::default() };
        for id in ids {
            shelf.events.insert(*id, self.store.event(&Scope::Fleet, *id).await.expect("read").expect("stored"));
        }
        shelf.audit = self.store.audit_page(None, 1_000).await.expect("read");
        shelf
    }
}

/// An event as ingest would accept it, minted at `at`; `n` makes it another than the others.
fn new_event(text: &str, at: u64, n: u8) -> (NewEvent, EventBody) {
    let body = parse::event(text.as_bytes(), parse::Given::default()).expect("valid").body;
    let canonical = body.canonical();
    let new = NewEvent {
        id: EventId::mint(at, [n; 10]),
        tenant: body.tenant_id.clone(),
        key: IdempotencyKey::parse(&format!("key-{n}")).expect("legal"),
        correlation_id: CorrelationId::parse(&format!("request-{n}")).expect("legal"),
        partition: partition_of(&body.tenant_id, PARTITIONS),
        payload_hash: sha256(&canonical),
        body: canonical.into(),
    };
    (new, body)
}

/// Accepts an event into any store of [`PARTITIONS`] partitions; one a hundredth of a second.
pub(super) async fn accept_into(store: &dyn EventStore, text: &str, at: u64) -> EventId {
    let n = u8::try_from(at / 10 % 251).expect("below 251");
    let (new, _) = new_event(text, at, n);
    let accepted = store.accept_batch(Uuid::from_u128(u128::from(at)), std::slice::from_ref(&new)).await;
    assert_eq!(accepted.expect("accepted"), [Accepted::Fresh]);
    new.id
}

/// The audit record of a decision, all but its place.
pub(super) fn audit_body(event: &EventBody, id: EventId, decision: &[u8], at: DateTime<Utc>) -> AuditBody {
    let chain = (event.tenant_id.clone(), Stream::Workflow);
    AuditBody {
        event_id: Some(id),
        outcome: Some("APPROVED".into()),
        reason_codes: vec!["WITHIN_LIMITS".into()],
        event_sha256: Some(hex::encode(sha256(&event.canonical()))),
        decision_sha256: Some(hex::encode(sha256(decision))),
        ..AuditBody::new(chain, at, format!("worker:{WORKER}"), "decision_made", ("event", id.to_string()))
    }
}

/// Runs a command line; gives the exit, standard output and standard error.
pub(super) async fn shell(store: &dyn EventStore, line: &str) -> (Exit, String, String) {
    let cli = Cli::try_parse_from(line.split(' ')).expect("a command line");
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut screen = Screen::plain(&mut out, &mut err);
    let sources = AuditSources { store, checkpoints: None, public_key: None };
    let exit = match cli.command {
        Command::Read(command) => {
            let keyring = crate::vaults::lone_keyring();
            let reading = riskfleet::cli::Reading { store, keyring: &keyring };
            run(&command, (reading, &no_versions()), &mut screen).await
        }
        Command::Audit(Audit::List(args)) => audit_list(&args, store, &mut screen).await,
        Command::Audit(Audit::Verify(args)) => audit_verify(&args, &sources, &mut screen).await,
        _ => panic!("a reading command: {line}"),
    };
    (exit, String::from_utf8(out).expect("text"), String::from_utf8(err).expect("text"))
}

/// The same, for `--json`: standard output is one document.
pub(super) async fn shell_json(store: &dyn EventStore, line: &str) -> (Exit, serde_json::Value) {
    let (exit, out, err) = shell(store, line).await;
    (exit, serde_json::from_str(&out).unwrap_or_else(|e| panic!("{line}: {e}: {out}{err}")))
}

pub(super) const PLAIN: &str = r#"{"kind":"risk","version":"1","tenant_id":"acme"}"#;
pub(super) const RISKY: &str = r#"{"kind":"risk","version":"1","tenant_id":"acme","event_type":"high_risk"}"#;
pub(super) const FLAGGED: &str =
    r#"{"kind":"compliance","version":"1","tenant_id":"globex","regulatory_flags":["AML"],"metadata":{"n":1.1}}"#;
