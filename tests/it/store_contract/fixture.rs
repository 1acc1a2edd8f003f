//! A store of one adapter for one clause, and the short words that clauses are written in.

use chrono::{DateTime, Utc};
use futures::FutureExt;
use riskfleet::adapters::{memory, postgres, sqlite};
use riskfleet::domain::audit::{check, sha256};
use riskfleet::domain::cost::{Charge, Micros};
use riskfleet::domain::partition::partition_of;
use riskfleet::domain::retention::Day;
use riskfleet::domain::{
    AuditBody, ChainHead, CorrelationId, Epoch, EventId, FailureClass, IdempotencyKey, Outcome, PartitionId, Stream,
    TenantId, WorkerId, time,
};
use riskfleet::ports::store::{
    Accepted, AuditCursor, AuditLine, CommitBatch, Committed, Disposition, Ledger, Mark, MarkBatch, Marking,
    NewDisposition, NewEvent, NewRetry, OutboxKind, RetryBatch,
};
use riskfleet::ports::{Clock, EventStore, Lane, Registry, StoreError};
use sqlx::{AssertSqlSafe, Connection};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use uuid::Uuid;

/// Few, so that tenants share partitions.
pub(super) const PARTITIONS: u16 = 4;
pub(super) const SECRET: [u8; 32] = [7; 32];

/// A clock that moves when it is told to.
pub(super) struct ManualClock(AtomicU64);

impl ManualClock {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(1_700_000_000_000)))
    }

    pub(super) fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
    }

    pub(super) fn set_back(&self, by: Duration) {
        self.0.fetch_sub(by.as_millis() as u64, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        time::from_millis(self.0.load(Ordering::SeqCst))
    }

    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }
}

/// Where a fixture's store is, and how its time passes.
enum Place {
    Memory(Arc<ManualClock>),
    Sqlite(Arc<ManualClock>, PathBuf),
    Postgres { url: String, namespace: String },
}

pub(super) struct Fixture {
    pub(super) store: Arc<dyn EventStore>,
    /// The same store, as what is governed by; none in memory.
    pub(super) registry: Option<Arc<dyn Registry>>,
    place: Place,
    serial: AtomicU64,
}

pub(super) async fn memory() -> Fixture {
    let clock = ManualClock::new();
    let store = Arc::new(memory::store::MemoryStore::new(PARTITIONS, SECRET, clock.clone()));
    Fixture { store, registry: None, place: Place::Memory(clock), serial: AtomicU64::new(0) }
}

/// A folder that no other test uses.
pub(super) fn folder() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("riskfleet-store-{}", Uuid::new_v4().simple()));
    std::fs::create_dir_all(&folder).expect("a folder for the test");
    folder
}

pub(super) async fn sqlite() -> Fixture {
    let (clock, folder) = (ManualClock::new(), folder());
    let store = sqlite::SqliteStore::open(&folder.join("store.db"), PARTITIONS, SECRET, clock.clone()).await;
    let store = Arc::new(store.expect("a new file opens"));
    let registry: Option<Arc<dyn Registry>> = Some(store.clone());
    Fixture { store, registry, place: Place::Sqlite(clock, folder), serial: AtomicU64::new(0) }
}

pub(super) async fn postgres() -> Fixture {
    postgres_at(crate::harness::postgres_url(), crate::harness::namespace()).await
}

/// A fleet in a new namespace, made and used by the user of the address.
pub(super) async fn postgres_at(url: String, namespace: String) -> Fixture {
    postgres::migrate(&url, &namespace, PARTITIONS, SECRET).await.expect("a new namespace migrates");
    let store = Arc::new(postgres::PostgresStore::connect(&url, &namespace).await.expect("it connects"));
    let registry: Option<Arc<dyn Registry>> = Some(store.clone());
    Fixture { store, registry, place: Place::Postgres { url, namespace }, serial: AtomicU64::new(0) }
}

/// Takes a namespace away, with the roles that it has on the server.
async fn drop_schema(namespace: &str) {
    let mut conn = sqlx::PgConnection::connect(&crate::harness::postgres_url()).await.expect("connects");
    let drop = format!(
        "DROP SCHEMA {namespace} CASCADE; DROP ROLE {namespace}_api, {namespace}_worker, {namespace}_retention"
    );
    sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut conn).await.expect("drops");
}

/// Runs a clause, and leaves nothing behind whether it holds or not.
pub(super) async fn run(fixture: Fixture, clause: impl AsyncFnOnce(&Fixture)) {
    let result = AssertUnwindSafe(clause(&fixture)).catch_unwind().await;
    match &fixture.place {
        Place::Memory(_) => {}
        Place::Sqlite(_, folder) => std::fs::remove_dir_all(folder).expect("the folder can be removed"),
        Place::Postgres { namespace, .. } => drop_schema(namespace).await,
    }
    if let Err(panic) = result {
        resume_unwind(panic);
    }
}

/// A tenant by its number.
pub(super) fn tenant(n: usize) -> TenantId {
    TenantId::parse(&format!("tenant-{n}.x")).expect("legal")
}

/// An outcome's decision on an event.
pub(super) fn decided(event: &NewEvent, outcome: Outcome) -> NewDisposition {
    let decision = format!(r#"{{"event":"{}","outcome":"{outcome:?}","note":"Größe ✓"}}"#, event.id);
    let audit = audit(event, Some(outcome.as_str()), Some(hex::encode(sha256(decision.as_bytes()))));
    let charge = charge(event);
    let timings = vec![1, 70_000, u32::MAX];
    let disposition = Disposition::Decided { outcome, decision: decision.into(), timings, charge };
    NewDisposition { event: event.id, tenant: event.tenant.clone(), partition: event.partition, disposition, audit }
}

/// What a decision costs in these tests: of every second one nothing.
pub(super) fn charge(event: &NewEvent) -> Charge {
    match event.id.0.as_bytes()[15] % 2 {
        0 => Charge::default(),
        _ => Charge { tokens: 1_200, cost: Micros::new(2_400) },
    }
}

pub(super) fn approved(event: &NewEvent) -> NewDisposition {
    decided(event, Outcome::Approved)
}

/// The end of an event as a dead letter.
pub(super) fn dead(event: &NewEvent) -> NewDisposition {
    let disposition =
        Disposition::Dead { class: FailureClass::WorkflowError, error: "rate of 5 % — “no”".into(), attempts: 3 };
    let audit = audit(event, None, None);
    NewDisposition { event: event.id, tenant: event.tenant.clone(), partition: event.partition, disposition, audit }
}

/// The next try of an event after its fourth has failed.
pub(super) fn retry(event: &NewEvent, wait: Duration) -> NewRetry {
    NewRetry {
        event: event.id,
        partition: event.partition,
        class: FailureClass::InfraError,
        error: "reach the scorer — “no”".into(),
        attempts: 4,
        wait,
    }
}

fn audit(event: &NewEvent, outcome: Option<&str>, decision_sha256: Option<String>) -> AuditBody {
    let chain = (event.tenant.clone(), Stream::Workflow);
    let action = if outcome.is_some() { "decision_made" } else { "dead_lettered" };
    AuditBody {
        event_id: Some(event.id),
        outcome: outcome.map(str::to_owned),
        reason_codes: vec!["größer".into()],
        correlation_id: Some(event.correlation_id.clone()),
        event_sha256: Some(hex::encode(event.payload_hash)),
        decision_sha256,
        ..AuditBody::new(chain, event.id.created_at(), "worker:test", action, ("event", event.id.to_string()))
    }
}

/// A worker with one lane and the epochs that it believes in.
pub(super) struct Owner {
    pub(super) worker: WorkerId,
    pub(super) epochs: BTreeMap<PartitionId, Epoch>,
    lane: Box<dyn Lane>,
}

impl Owner {
    pub(super) async fn claim(&mut self, f: &Fixture, partition: PartitionId) -> Epoch {
        let epoch = f.store.claim_partition(partition, self.worker).await.expect("claims");
        self.epochs.insert(partition, epoch);
        epoch
    }

    pub(super) fn batch(&self, f: &Fixture, items: Vec<NewDisposition>) -> CommitBatch {
        let epochs = self.believed(items.iter().map(|item| item.partition));
        // Any moment will do; whole milliseconds read back as they were.
        let at = time::from_millis(1_700_000_500_000 + f.serial());
        CommitBatch { id: Uuid::new_v4(), worker: self.worker, at, epochs, items }
    }

    pub(super) async fn try_commit(
        &mut self,
        f: &Fixture,
        items: Vec<NewDisposition>,
    ) -> Result<Vec<Committed>, StoreError> {
        let batch = self.batch(f, items);
        self.lane.commit_batch(&batch).await
    }

    pub(super) async fn commit(&mut self, f: &Fixture, items: Vec<NewDisposition>) -> Vec<Committed> {
        self.try_commit(f, items).await.expect("commits")
    }

    /// Marks events that are about to run.
    pub(super) async fn mark(&mut self, marking: Marking, events: &[NewEvent]) -> Vec<Mark> {
        let events: Vec<_> = events.iter().map(|event| (event.id, event.partition)).collect();
        let batch = MarkBatch {
            worker: self.worker,
            epochs: self.believed(events.iter().map(|(_, partition)| *partition)),
            marking,
            events,
        };
        self.lane.mark_attempts(&batch).await.expect("marks")
    }

    pub(super) async fn postpone(&mut self, items: Vec<NewRetry>) -> Vec<Committed> {
        let epochs = self.believed(items.iter().map(|item| item.partition));
        self.lane.postpone(&RetryBatch { worker: self.worker, epochs, items }).await.expect("postpones")
    }

    /// The epochs of these partitions, as far as it has claimed them.
    fn believed(&self, partitions: impl Iterator<Item = PartitionId>) -> Vec<(PartitionId, Epoch)> {
        let mut epochs: Vec<_> = partitions.filter_map(|p| self.epochs.get(&p).map(|epoch| (p, *epoch))).collect();
        epochs.sort_unstable();
        epochs.dedup();
        epochs
    }

    pub(super) async fn commit_batch(&mut self, batch: &CommitBatch) -> Vec<Committed> {
        self.lane.commit_batch(batch).await.expect("commits")
    }
}

impl Fixture {
    fn serial(&self) -> u64 {
        self.serial.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The clock, where the test moves it.
    pub(super) fn clock(&self) -> Option<&ManualClock> {
        match &self.place {
            Place::Memory(clock) | Place::Sqlite(clock, _) => Some(clock),
            Place::Postgres { .. } => None,
        }
    }

    /// Lets a short time pass.
    pub(super) async fn pass(&self, by: Duration) {
        match self.clock() {
            Some(clock) => clock.advance(by),
            None => tokio::time::sleep(by).await,
        }
    }

    /// An id of this moment by the store's clock; later ones are greater.
    pub(super) async fn mint(&self) -> EventId {
        let now = self.store.now().await.expect("the clock is read");
        self.mint_at(time::to_millis(now))
    }

    pub(super) fn mint_at(&self, millis: u64) -> EventId {
        let mut random = [0; 10];
        random[2..].copy_from_slice(&self.serial().to_be_bytes());
        EventId::mint(millis, random)
    }

    /// A new request of a tenant under a key.
    pub(super) async fn request(&self, tenant: &TenantId, key: &str, payload: &str) -> NewEvent {
        self.request_with_id(self.mint().await, tenant, key, payload)
    }

    pub(super) fn request_with_id(&self, id: EventId, tenant: &TenantId, key: &str, payload: &str) -> NewEvent {
        let body = format!(r#"{{"payload":"{payload}","city":"Zürich 東京 🏦","zero":"\u0000"}}"#);
        NewEvent {
            id,
            tenant: tenant.clone(),
            key: IdempotencyKey::parse(key).expect("legal"),
            correlation_id: CorrelationId::parse(&format!("corr-{}", self.serial())).expect("legal"),
            partition: partition_of(tenant, PARTITIONS),
            payload_hash: sha256(body.as_bytes()),
            body: body.into(),
        }
    }

    pub(super) async fn accept(&self, events: &[NewEvent]) -> Vec<Accepted> {
        self.store.accept_batch(Uuid::new_v4(), events).await.expect("accepts")
    }

    /// `n` new events of a tenant, accepted in one batch.
    pub(super) async fn accepted(&self, tenant: &TenantId, n: usize) -> Vec<NewEvent> {
        let mut events = Vec::new();
        for _ in 0..n {
            let id = self.mint().await;
            events.push(self.request_with_id(id, tenant, &id.to_string(), "p"));
        }
        assert_eq!(self.accept(&events).await, vec![Accepted::Fresh; n]);
        events
    }

    /// `n` events of a tenant, accepted at noon of a day that is over. Where the clock can't be moved,
    /// the store is told to believe every id, and has a time partition of that day.
    pub(super) async fn accepted_on(&self, day: Day, tenant: &TenantId, n: usize) -> Vec<NewEvent> {
        let noon = day.first_id().millis() + 12 * 3_600_000;
        let back = Duration::from_millis(time::to_millis(self.store.now().await.expect("reads")) - noon);
        match &self.place {
            Place::Postgres { namespace, .. } => {
                let (first, past) = (day.first_id().0, day.plus(1).first_id().0);
                let name = day.date().format("%Y%m%d");
                let mut sql = format!(
                    "CREATE OR REPLACE FUNCTION {namespace}.ids_are_fresh(first_ms bigint, last_ms bigint)
                         RETURNS boolean LANGUAGE sql AS 'SELECT true';"
                );
                for parent in ["events", "decisions"] {
                    sql += &format!(
                        "CREATE TABLE IF NOT EXISTS {namespace}.{parent}_{name} PARTITION OF {namespace}.{parent}
                             FOR VALUES FROM ('{first}') TO ('{past}');"
                    );
                }
                self.sql(&sql).await;
            }
            Place::Memory(clock) | Place::Sqlite(clock, _) => clock.set_back(back),
        }
        let request = |_| {
            let id = self.mint_at(noon);
            self.request_with_id(id, tenant, &id.to_string(), "p")
        };
        let events: Vec<NewEvent> = (0..n).map(request).collect();
        assert_eq!(self.accept(&events).await, vec![Accepted::Fresh; n]);
        if let Some(clock) = self.clock() {
            clock.advance(back);
        }
        events
    }

    /// The broker has everything.
    pub(super) async fn settle(&self) {
        for kind in [OutboxKind::Accept, OutboxKind::Outcome] {
            let rows = self.store.take_outbox(kind, Duration::ZERO, 10_000).await.expect("takes");
            let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
            self.store.settle_outbox(&ids).await.expect("settles");
        }
    }

    /// Moves the mark as far as it goes.
    pub(super) async fn advance(&self) {
        let mut before = None;
        loop {
            let mark = self.store.advance_mark().await.expect("advances");
            if before == Some(mark) || self.clock().is_none() && before.is_some() {
                return;
            }
            before = Some(mark);
        }
    }

    /// What is governed by.
    pub(super) fn governed(&self) -> &dyn Registry {
        self.registry.as_deref().expect("a store that is governed")
    }

    /// A worker that owns nothing yet.
    pub(super) async fn stranger(&self) -> Owner {
        let lane = self.store.open_lane().await.expect("a lane opens");
        Owner { worker: WorkerId(Uuid::new_v4()), epochs: BTreeMap::new(), lane }
    }

    /// A worker that has claimed every partition.
    pub(super) async fn owner(&self) -> Owner {
        let mut owner = self.stranger().await;
        for partition in 0..PARTITIONS {
            owner.claim(self, PartitionId(partition)).await;
        }
        owner
    }

    /// The ledger, which must balance.
    pub(super) async fn ledger(&self) -> Ledger {
        let ledger = self.store.ledger().await.expect("the ledger is read");
        assert_eq!(ledger.accepted, ledger.decided + ledger.dead + ledger.pending, "{ledger:?}");
        ledger
    }

    /// All audit lines, read `limit` at a time.
    pub(super) async fn audit(&self, limit: u32) -> Vec<AuditLine> {
        let mut lines: Vec<AuditLine> = Vec::new();
        loop {
            let after = lines.last().map(|line| AuditCursor {
                tenant: line.record.tenant.clone(),
                stream: line.record.stream,
                seq: line.record.seq,
            });
            let page = self.store.audit_page(after.as_ref(), limit).await.expect("the audit is read");
            assert!(page.len() <= limit as usize);
            if page.is_empty() {
                return lines;
            }
            lines.extend(page);
        }
    }

    /// Checks every chain and what it speaks of; gives their heads.
    async fn heads(&self) -> BTreeMap<(TenantId, Stream), ChainHead> {
        let mut heads = BTreeMap::new();
        let lines = self.audit(7).await;
        let expired = self.store.expired_ranges().await.expect("reads");
        for line in lines {
            let chain = (line.record.tenant.clone(), line.record.stream);
            let body = check(heads.entry(chain).or_insert(ChainHead::EMPTY), &line.record);
            let body = body.expect("the record hangs on its chain");
            let checked = expired.check_stored(&body, line.event.as_deref(), line.decision.as_deref());
            checked.expect("what is stored is meant");
        }
        heads
    }

    /// Checks every chain; gives the lengths of the workflow chains.
    pub(super) async fn chains(&self) -> BTreeMap<TenantId, i64> {
        let heads = self.heads().await.into_iter();
        heads.filter(|((_, stream), _)| *stream == Stream::Workflow).map(|((t, _), head)| (t, head.seq)).collect()
    }

    /// Checks every chain; gives the length of a tenant's control chain.
    pub(super) async fn control(&self, tenant: &TenantId) -> i64 {
        self.heads().await.get(&(tenant.clone(), Stream::Control)).map_or(0, |head| head.seq)
    }

    /// Makes every event `by` older than it is, and the given ones with them. Where the clock can't
    /// be moved, the ids are: whatever names an event by its id is rewritten, save audit texts.
    pub(super) async fn age(&self, by: Duration, events: &mut [NewEvent]) {
        let Place::Postgres { namespace, .. } = &self.place else {
            return self.pass(by).await;
        };
        let by = by.as_millis() as u64;
        let older = |id: &str| {
            format!(
                "(lpad(to_hex(('x' || left(replace({id}::text, '-', ''), 12))::bit(48)::bigint - {by}), 12, '0') \
                 || substr(replace({id}::text, '-', ''), 13))::uuid"
            )
        };
        for table in ["keys", "events", "decisions", "approvals", "retries", "dead_history"] {
            self.sql(&format!("UPDATE {namespace}.{table} SET event_id = {}", older("event_id"))).await;
        }
        let moved = "mark > '00000000-ffff-0000-0000-000000000000'";
        self.sql(&format!("UPDATE {namespace}.fleet SET mark = {} WHERE {moved}", older("mark"))).await;
        for event in events {
            event.id = EventId(Uuid::from_u128(event.id.0.as_u128() - (u128::from(by) << 80)));
        }
    }

    /// A person's verdict, written past the store. False where the adapter keeps none.
    pub(super) async fn give_verdict(&self, event: &NewEvent, verdict: Outcome) -> bool {
        let number = Outcome::ALL.iter().position(|o| *o == verdict).expect("an outcome");
        let (id, tenant) = (event.id.0, &event.tenant);
        match &self.place {
            Place::Memory(_) => return false,
            Place::Sqlite(..) => {
                let id = id.simple();
                self.sql(&format!("INSERT INTO verdicts VALUES (x'{id}', {number}, 1700000000000, 'ann', 'ok')")).await;
            }
            Place::Postgres { namespace, .. } => {
                let row = format!("('{id}', '{tenant}', {number}, '2023-11-14T22:13:20Z', 'ann', 'ok')");
                self.sql(&format!("INSERT INTO {namespace}.verdicts VALUES {row}")).await;
            }
        }
        true
    }

    /// The address and namespace of the store.
    pub(super) fn schema(&self) -> (&str, &str) {
        let Place::Postgres { url, namespace } = &self.place else { panic!("it has no schema") };
        (url, namespace)
    }

    /// The file of the store.
    pub(super) fn file(&self) -> PathBuf {
        let Place::Sqlite(_, folder) = &self.place else { panic!("it has no file") };
        folder.join("store.db")
    }

    async fn sql(&self, sql: &str) {
        self.try_sql(sql).await.expect("runs");
    }

    /// Runs a statement on the database behind the store's back.
    pub(super) async fn try_sql(&self, sql: &str) -> Result<(), sqlx::Error> {
        let sql = AssertSqlSafe(sql);
        match &self.place {
            Place::Memory(_) => {}
            Place::Sqlite(..) => {
                let mut conn = sqlx::SqliteConnection::connect(&format!("sqlite://{}", self.file().display())).await?;
                sqlx::raw_sql(sql).execute(&mut conn).await?;
            }
            Place::Postgres { url, .. } => {
                let mut conn = sqlx::PgConnection::connect(url).await?;
                sqlx::raw_sql(sql).execute(&mut conn).await?;
            }
        }
        Ok(())
    }
}
