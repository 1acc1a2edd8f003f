//! Stores with escalated events in them, for tests of what people do with these.

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use riskfleet::adapters::postgres::{self, PostgresStore};
use riskfleet::adapters::sqlite::SqliteStore;
use riskfleet::domain::approval::{Powers, Verdict};
use riskfleet::domain::audit::{Versions, check, check_stored, sha256};
use riskfleet::domain::cost::Charge;
use riskfleet::domain::partition::partition_of;
use riskfleet::domain::{
    AuditBody, ChainHead, CorrelationId, Epoch, Event, EventId, IdempotencyKey, PartitionId, Snapshot, Stream,
    TenantId, WorkerId, parse, time,
};
use riskfleet::pipeline::{Policy, run};
use riskfleet::ports::approvals::{Acted, ApprovalAct};
use riskfleet::ports::store::{
    Accepted, Approval, AuditCursor, CommitBatch, Committed, Disposition, EventRecord, NewDisposition, NewEvent,
};
use riskfleet::ports::{Clock, EventStore, Lane, Registry};
use sqlx::{AssertSqlSafe, Connection};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::api::fakes::{FakeClock, NOW_MS};

const PARTITIONS: u16 = 4;
const WORKER: WorkerId = WorkerId(Uuid::from_u128(0x00aa));

/// What the workflow escalates, and what it approves.
pub(crate) const HIGH: &str = "high_risk";
pub(crate) const PLAIN: &str = "payment";

/// A moment of the test: milliseconds after the decisions were committed.
pub(crate) fn after(millis: u64) -> DateTime<Utc> {
    time::from_millis(NOW_MS + millis)
}

/// A clock that stands where it was put.
pub(crate) struct At(pub(crate) DateTime<Utc>);

impl Clock for At {
    fn now(&self) -> DateTime<Utc> {
        self.0
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}

pub(crate) fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).expect("legal")
}

enum Place {
    Folder(PathBuf),
    Schema {
        url: String,
        namespace: String,
    },
    /// Whoever made the store removes it.
    Others,
}

/// A store, the worker that escalates, and the people around it.
pub(crate) struct Office {
    pub(crate) store: Arc<dyn EventStore>,
    pub(crate) registry: Arc<dyn Registry>,
    lane: Mutex<Box<dyn Lane>>,
    epochs: Vec<(PartitionId, Epoch)>,
    place: Place,
    serial: AtomicU64,
}

impl Office {
    pub(crate) async fn sqlite() -> Self {
        let folder = std::env::temp_dir().join(format!("riskfleet-office-{}", Uuid::new_v4().simple()));
        std::fs::create_dir_all(&folder).expect("a folder for the test");
        let file = folder.join("riskfleet.db");
        let store = SqliteStore::open(&file, PARTITIONS, [7; 32], Arc::new(FakeClock)).await.expect("opens");
        let store = Arc::new(store);
        Self::new(store.clone(), store, Place::Folder(folder)).await
    }

    pub(crate) async fn postgres() -> Self {
        let (url, namespace) = (crate::harness::postgres_url(), crate::harness::namespace());
        postgres::migrate(&url, &namespace, PARTITIONS, [7; 32]).await.expect("migrates");
        let store = Arc::new(PostgresStore::connect(&url, &namespace).await.expect("connects"));
        Self::new(store.clone(), store, Place::Schema { url, namespace }).await
    }

    /// In a store of [`PARTITIONS`] partitions.
    pub(crate) async fn over(store: Arc<dyn EventStore>, registry: Arc<dyn Registry>) -> Self {
        Self::new(store, registry, Place::Others).await
    }

    async fn new(store: Arc<dyn EventStore>, registry: Arc<dyn Registry>, place: Place) -> Self {
        let mut epochs = Vec::new();
        for p in (0..PARTITIONS).map(PartitionId) {
            epochs.push((p, store.claim_partition(p, WORKER).await.expect("claimed")));
        }
        let lane = Mutex::new(store.open_lane().await.expect("opened"));
        Self { store, registry, lane, epochs, place, serial: AtomicU64::new(1) }
    }

    /// An escalated event of a tenant.
    pub(crate) async fn escalated(&self, tenant: &str) -> EventId {
        self.decided(tenant, HIGH, after(0)).await
    }

    /// An event of a type, decided by the machine at a moment.
    pub(crate) async fn decided(&self, tenant: &str, event_type: &str, at: DateTime<Utc>) -> EventId {
        let event = self.accept(tenant, event_type).await;
        let item = disposition(&event, at, None, Charge::default());
        assert_eq!(self.commit(vec![item], at, 0).await, [Committed::Written]);
        event.id
    }

    /// An event decided by a model at a moment, and what that cost.
    pub(crate) async fn charged(&self, tenant: &str, at: DateTime<Utc>, model: &str, charge: Charge) -> EventId {
        let event = self.accept(tenant, PLAIN).await;
        let item = disposition(&event, at, Some(model), charge);
        assert_eq!(self.commit(vec![item], at, 0).await, [Committed::Written]);
        event.id
    }

    /// Commits under the epochs that are held, or `late` claims before them.
    pub(crate) async fn commit(&self, items: Vec<NewDisposition>, at: DateTime<Utc>, late: i64) -> Vec<Committed> {
        let named = |p: PartitionId| items.iter().any(|item| item.partition == p);
        let held = self.epochs.iter().filter(|(p, _)| named(*p));
        let epochs = held.map(|(p, epoch)| (*p, Epoch(epoch.0 - late))).collect();
        let id = Uuid::new_v4();
        let batch = CommitBatch { id, worker: WORKER, at, epochs, items };
        let committed = self.lane.lock().await.commit_batch(&batch).await.expect("commits");
        self.store.settle_outbox(&[id]).await.expect("settles");
        committed
    }

    /// An event that is accepted and not decided.
    pub(crate) async fn accept(&self, tenant: &str, event_type: &str) -> Event {
        let n = self.serial.fetch_add(1, Ordering::SeqCst);
        let text = format!(r#"{{"kind":"risk","version":"1","tenant_id":"{tenant}","event_type":"{event_type}"}}"#);
        let body = parse::event(text.as_bytes(), parse::Given::default()).expect("valid").body;
        let (now, mut random) = (time::to_millis(self.store.now().await.expect("a clock")), [0; 10]);
        // Bytes that order events of one millisecond.
        random[2..].copy_from_slice(&n.to_be_bytes());
        let new = NewEvent {
            id: EventId::mint(now, random),
            tenant: body.tenant_id.clone(),
            key: IdempotencyKey::parse(&format!("key-{n}")).expect("legal"),
            correlation_id: CorrelationId::parse(&format!("request-{n}")).expect("legal"),
            partition: partition_of(&body.tenant_id, PARTITIONS),
            payload_hash: sha256(&body.canonical()),
            body: body.canonical().into(),
        };
        let batch = Uuid::new_v4();
        let accepted = self.store.accept_batch(batch, std::slice::from_ref(&new)).await.expect("accepts");
        assert_eq!(accepted, [Accepted::Fresh]);
        self.store.settle_outbox(&[batch]).await.expect("settles");
        Event { id: new.id, correlation_id: new.correlation_id, body }
    }

    pub(crate) async fn record(&self, event: EventId) -> EventRecord {
        self.store.event(&riskfleet::domain::Scope::Fleet, event).await.expect("reads").expect("is stored")
    }

    pub(crate) async fn approval(&self, event: EventId) -> Approval {
        self.record(event).await.approval.expect("is escalated")
    }

    pub(crate) async fn decide(&self, act: &ApprovalAct, verdict: Verdict) -> Acted {
        self.registry.decide_approval(act, verdict, Uuid::new_v4()).await.expect("acts")
    }

    /// Every record of a tenant's control chain; all chains must be whole.
    pub(crate) async fn control(&self, of: &str) -> Vec<AuditBody> {
        let (mut after, mut head, mut found): (Option<AuditCursor>, _, _) = (None, ChainHead::EMPTY, Vec::new());
        loop {
            let page = self.store.audit_page(after.as_ref(), 100).await.expect("reads");
            let Some(last) = page.last() else { return found };
            let next =
                AuditCursor { tenant: last.record.tenant.clone(), stream: last.record.stream, seq: last.record.seq };
            for line in page {
                if line.record.seq == 1 {
                    head = ChainHead::EMPTY;
                }
                let body = check(&mut head, &line.record).expect("hangs on its chain");
                check_stored(&body, line.event.as_deref(), line.decision.as_deref()).expect("as stored");
                if body.stream == Stream::Control && body.tenant_id.as_str() == of {
                    found.push(body);
                }
            }
            after = Some(next);
        }
    }

    /// Runs a statement behind the store's back; in `{events}` and `{event}` the dialect's column and
    /// the id are put.
    pub(crate) async fn sql(&self, statement: &str, event: EventId) -> Result<(), sqlx::Error> {
        match &self.place {
            Place::Folder(folder) => {
                let id = format!("x'{}'", event.0.simple());
                let text = statement.replace("{events}", "event").replace("{event}", &id);
                let file = format!("sqlite://{}", folder.join("riskfleet.db").display());
                let mut conn = sqlx::SqliteConnection::connect(&file).await?;
                sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut conn).await?;
            }
            Place::Schema { url, namespace } => {
                let id = format!("'{event}'");
                let text = statement.replace("{events}", "event_id").replace("{event}", &id);
                let mut conn = sqlx::PgConnection::connect(url).await?;
                let text = format!("SET search_path TO {namespace}; {text}");
                sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut conn).await?;
            }
            Place::Others => panic!("this office does not know where its store is"),
        }
        Ok(())
    }

    /// Whether columns that name a tenant have to be given in [`Office::sql`].
    pub(crate) fn names_tenants(&self) -> bool {
        matches!(self.place, Place::Schema { .. })
    }
}

/// The machine's decision on an event, by a model where one is named in its record.
pub(crate) fn disposition(event: &Event, at: DateTime<Utc>, model: Option<&str>, charge: Charge) -> NewDisposition {
    let decision = run(event, &Snapshot::default(), &Policy::baseline(), at, &|| Duration::ZERO).decision;
    let (text, partition) = (decision.canonical(), partition_of(&event.body.tenant_id, PARTITIONS));
    let chain = (event.body.tenant_id.clone(), Stream::Workflow);
    let resource = ("event", event.id.to_string());
    let versions = |model: &str| Versions { policy: "baseline@1".into(), model: model.into(), prompt: 1 };
    let audit = AuditBody {
        event_id: Some(event.id),
        versions: model.map(versions),
        event_sha256: Some(hex::encode(sha256(&event.body.canonical()))),
        decision_sha256: Some(hex::encode(sha256(&text))),
        ..AuditBody::new(chain, at, format!("worker:{WORKER}"), "decision_made", resource)
    };
    let (outcome, decision, timings) = (decision.outcome, Bytes::from(text), vec![1; 6]);
    let disposition = Disposition::Decided { outcome, decision, timings, charge };
    NewDisposition { event: event.id, tenant: event.body.tenant_id.clone(), partition, disposition, audit }
}

impl Drop for Office {
    fn drop(&mut self) {
        match &self.place {
            Place::Folder(folder) => _ = std::fs::remove_dir_all(folder),
            Place::Schema { url, namespace } => {
                let (url, drop) = (url.clone(), format!("DROP SCHEMA IF EXISTS {namespace} CASCADE"));
                // Drop cannot wait on the test's runtime: a thread with one of its own can.
                let sweeper = std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                    runtime.expect("a runtime").block_on(async {
                        let mut conn = sqlx::PgConnection::connect(&url).await.expect("connects");
                        let _ = sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut conn).await;
                    });
                });
                let _ = sweeper.join();
            }
            Place::Others => {}
        }
    }
}

/// Nothing beyond what everybody may who approves; and everything.
pub(crate) const PLAIN_POWERS: Powers = Powers { over_claims: false, second: false };
pub(crate) const ADMIN_POWERS: Powers = Powers { over_claims: true, second: true };

/// What somebody does at a moment.
pub(crate) fn act(of: &str, event: EventId, who: &str, powers: Powers, at: DateTime<Utc>) -> ApprovalAct {
    let chain = (tenant(of), Stream::Control);
    let audit = AuditBody {
        event_id: Some(event),
        reason: Some("seen the papers".into()),
        ..AuditBody::new(chain, at, who, "acted", ("approval", event.to_string()))
    };
    ApprovalAct { tenant: tenant(of), event, powers, audit }
}

/// Fifteen minutes behind a moment.
pub(crate) fn quarter(at: DateTime<Utc>) -> DateTime<Utc> {
    at + TimeDelta::minutes(15)
}
