//! A store with audit chains for one clause, and a hand that reaches past its rules.

use futures::FutureExt;
use riskfleet::adapters::{postgres, sqlite};
use riskfleet::crypto::AuditKey;
use riskfleet::domain::audit::AuditRecord;
use riskfleet::domain::checkpoint::{Anchor, NotedHead, Signed};
use riskfleet::domain::{AuditBody, ChainHead, Stream, TenantId, time};
use riskfleet::ports::{Clock, EventStore, Registry};
use sqlx::{AssertSqlSafe, Connection};
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use uuid::Uuid;

/// 2026-11-21T10:00:00Z.
pub(crate) const T0: u64 = 1_795_255_200_000;

/// A clock that moves when it is told to.
pub(crate) struct HandClock(AtomicU64);

impl HandClock {
    pub(crate) fn pass(&self, seconds: u64) {
        self.0.fetch_add(seconds * 1_000, Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now(&self) -> chrono::DateTime<chrono::Utc> {
        time::from_millis(self.0.load(Ordering::SeqCst))
    }
    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst) - T0)
    }
}

enum Place {
    Sqlite,
    Postgres { url: String, namespace: String },
}

pub(crate) struct Fixture {
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) store: Arc<dyn EventStore>,
    pub(crate) clock: Arc<HandClock>,
    pub(crate) folder: PathBuf,
    place: Place,
}

fn folder() -> (PathBuf, Arc<HandClock>) {
    let folder = std::env::temp_dir().join(format!("riskfleet-proof-{}", Uuid::new_v4().simple()));
    std::fs::create_dir_all(&folder).expect("a folder for the test");
    (folder, Arc::new(HandClock(AtomicU64::new(T0))))
}

pub(crate) async fn sqlite() -> Fixture {
    let (folder, clock) = folder();
    let store = sqlite::SqliteStore::open(&folder.join("store.db"), 4, [7; 32], clock.clone()).await;
    let store = Arc::new(store.expect("a new file opens"));
    Fixture { registry: store.clone(), store, clock, folder, place: Place::Sqlite }
}

pub(crate) async fn postgres() -> Fixture {
    let (folder, clock) = folder();
    let (url, namespace) = (crate::harness::postgres_url(), crate::harness::namespace());
    postgres::migrate(&url, &namespace, 4, [7; 32]).await.expect("a new namespace migrates");
    let store = Arc::new(postgres::PostgresStore::connect(&url, &namespace).await.expect("it connects"));
    Fixture { registry: store.clone(), store, clock, folder, place: Place::Postgres { url, namespace } }
}

/// Runs a clause, and leaves nothing behind whether it holds or not.
pub(crate) async fn run(fixture: Fixture, clause: impl AsyncFnOnce(&Fixture)) {
    let result = AssertUnwindSafe(clause(&fixture)).catch_unwind().await;
    if let Place::Postgres { namespace, .. } = &fixture.place {
        fixture.sql(&format!("DROP SCHEMA {namespace} CASCADE")).await.expect("the schema goes");
    }
    _ = std::fs::remove_dir_all(&fixture.folder);
    if let Err(panic) = result {
        resume_unwind(panic);
    }
}

pub(crate) fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).expect("legal")
}

pub(crate) fn key(n: u8) -> AuditKey {
    AuditKey::from_seed(&[n; 32])
}

pub(crate) fn noted(r: &AuditRecord) -> NotedHead {
    NotedHead { tenant_id: r.tenant.clone(), stream: r.stream, seq: r.seq, hash: r.hash }
}

/// An anchor at a record, signed by key 1.
pub(crate) fn anchor(r: &AuditRecord) -> (Anchor, Signed) {
    let anchor = Anchor {
        anchor: 1,
        tenant_id: r.tenant.clone(),
        stream: r.stream,
        seq: r.seq,
        hash: r.hash,
        at: time::from_millis(T0),
        reason: "retention".into(),
        key_id: key(1).id(),
    };
    let signed = key(1).sign(anchor.text());
    (anchor, signed)
}

/// The record of an act on a tenant.
pub(crate) fn act(name: &str) -> AuditBody {
    AuditBody::new((tenant(name), Stream::Control), time::from_millis(T0), "ops", "audit_pruned", ("tenant", name))
}

impl Fixture {
    /// Whether the column of the tenant is called so on this adapter.
    pub(crate) fn tenant_column(&self) -> &'static str {
        match self.place {
            Place::Sqlite => "tenant",
            Place::Postgres { .. } => "tenant_id",
        }
    }

    /// Runs SQL as the one who owns the tables.
    pub(crate) async fn sql(&self, text: &str) -> Result<(), sqlx::Error> {
        let text = AssertSqlSafe(text.to_owned());
        match &self.place {
            Place::Sqlite => {
                let url = format!("sqlite://{}", self.folder.join("store.db").display());
                let mut connection = sqlx::SqliteConnection::connect(&url).await?;
                sqlx::raw_sql(text).execute(&mut connection).await?;
                connection.close().await
            }
            Place::Postgres { url, namespace } => {
                let mut connection = sqlx::PgConnection::connect(url).await?;
                let path = AssertSqlSafe(format!("SET search_path TO {namespace}"));
                sqlx::raw_sql(path).execute(&mut connection).await?;
                sqlx::raw_sql(text).execute(&mut connection).await?;
                connection.close().await
            }
        }
    }

    /// Runs SQL with the rules of the audit switched off.
    pub(crate) async fn superuser(&self, text: &str) {
        let whole = match self.place {
            Place::Sqlite => format!(
                "DROP TRIGGER IF EXISTS audit_is_never_changed; DROP TRIGGER IF EXISTS audit_is_never_deleted; {text};"
            ),
            Place::Postgres { .. } => {
                format!("ALTER TABLE audit DISABLE TRIGGER USER; {text}; ALTER TABLE audit ENABLE TRIGGER USER;")
            }
        };
        self.sql(&whole).await.expect("a superuser may");
    }

    /// Hangs `n` more records on a chain, as SQL; gives the chain's new records.
    pub(crate) async fn grow(&self, name: &str, stream: Stream, n: usize) -> Vec<AuditRecord> {
        let (chain, at) = ((tenant(name), stream), self.clock.now());
        let body = AuditBody::new(chain, at, "worker:1", "decision_made", ("event", "it's one"));
        self.hang(vec![body; n]).await
    }

    /// Hangs records on a chain, the same for all of them.
    pub(crate) async fn hang(&self, bodies: Vec<AuditBody>) -> Vec<AuditRecord> {
        let Some(chain) = bodies.first().map(|body| (body.tenant_id.clone(), body.stream)) else { return Vec::new() };
        let heads = self.registry.chain_heads(None, 1_000).await.expect("read");
        let head = heads.iter().find(|h| (&h.tenant_id, h.stream) == (&chain.0, chain.1));
        let mut head = head.map_or(ChainHead::EMPTY, |h| ChainHead { seq: h.seq, hash: h.hash });
        let records: Vec<AuditRecord> = bodies.into_iter().map(|body| head.append(body)).collect();
        let (open, close) = match self.place {
            Place::Sqlite => ("x'", "'"),
            Place::Postgres { .. } => ("'\\x", "'"),
        };
        for r in &records {
            let (name, number) = (&r.tenant, i32::from(r.stream == Stream::Control));
            let (prev, hash) = (hex::encode(r.prev_hash), hex::encode(r.hash));
            let body = r.body.replace('\'', "''");
            let insert = format!(
                "INSERT INTO audit ({}, stream, seq, prev_hash, hash, body)
                 VALUES ('{name}', {number}, {}, {open}{prev}{close}, {open}{hash}{close}, '{body}')",
                self.tenant_column(),
                r.seq
            );
            self.sql(&insert).await.expect("a record is taken");
        }
        records
    }
}
