//! The contract of `ports::Keys`: every clause runs on Postgres and on SQLite.

use chrono::{DateTime, Utc};
use futures::FutureExt;
use riskfleet::adapters::{postgres, sqlite};
use riskfleet::domain::audit::{check, sha256};
use riskfleet::domain::keys::{Revocation, key_text};
use riskfleet::domain::{ApiKey, AuditBody, ChainHead, KeyId, Role, Stream, TenantId, time};
use riskfleet::lifecycle::SystemClock;
use riskfleet::ports::keys::{KeyAct, KeyFilter, chain_of};
use riskfleet::ports::{EventStore, Registry, StoreError};
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;

const AT_MS: u64 = 1_795_255_200_000;

/// A store of one adapter, as both of its ports.
struct Fixture {
    keys: Arc<dyn Registry>,
    store: Arc<dyn EventStore>,
}

impl Fixture {
    fn of<S: EventStore + Registry + 'static>(store: S) -> Self {
        let store = Arc::new(store);
        Self { keys: store.clone(), store }
    }

    /// Every record of a control chain, which must be whole.
    async fn control_chain(&self, tenant: &TenantId) -> Vec<AuditBody> {
        let (mut head, mut found) = (ChainHead::EMPTY, Vec::new());
        for line in self.store.audit_page(None, 10_000).await.expect("read") {
            if (&line.record.tenant, line.record.stream) == (tenant, Stream::Control) {
                found.push(check(&mut head, &line.record).expect("a whole chain"));
            }
        }
        found
    }
}

async fn on_sqlite(clause: impl AsyncFnOnce(&Fixture)) {
    let folder = std::env::temp_dir().join(format!("riskfleet-keys-{}", uuid::Uuid::new_v4().simple()));
    std::fs::create_dir_all(&folder).expect("a folder for the test");
    let store = sqlite::SqliteStore::open(&folder.join("store.db"), 4, [7; 32], Arc::new(SystemClock::new())).await;
    let fixture = Fixture::of(store.expect("a new file opens"));
    let result = AssertUnwindSafe(clause(&fixture)).catch_unwind().await;
    std::fs::remove_dir_all(&folder).expect("the folder can be removed");
    result.unwrap_or_else(|panic| resume_unwind(panic));
}

async fn on_postgres(clause: impl AsyncFnOnce(&Fixture)) {
    let (url, namespace) = (crate::harness::postgres_url(), crate::harness::namespace());
    postgres::migrate(&url, &namespace, 4, [7; 32]).await.expect("a new namespace migrates");
    let store = postgres::PostgresStore::connect(&url, &namespace).await.expect("it connects");
    let fixture = Fixture::of(store);
    let result = AssertUnwindSafe(clause(&fixture)).catch_unwind().await;
    let pool = sqlx::PgPool::connect(&url).await.expect("connects");
    let roles = format!("{namespace}_api, {namespace}_worker, {namespace}_retention");
    let drop = sqlx::AssertSqlSafe(format!("DROP SCHEMA {namespace} CASCADE; DROP ROLE {roles}"));
    sqlx::raw_sql(drop).execute(&pool).await.expect("drops");
    result.unwrap_or_else(|panic| resume_unwind(panic));
}

/// One module an adapter, one test a clause.
macro_rules! contract {
    ($($clause:ident),+ $(,)?) => {
        mod sqlite_store {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $clause() { super::on_sqlite(super::$clause).await; })+
        }
        mod postgres_store {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $clause() { super::on_postgres(super::$clause).await; })+
        }
    };
}

contract!(
    a_key_reads_back_as_it_was_made_by_id_and_by_hash,
    a_hash_or_an_id_is_kept_once_and_what_does_not_fit_is_refused,
    making_and_revoking_stand_in_the_chain_of_the_keys_tenant,
    a_key_is_revoked_once,
    a_record_of_another_chain_changes_nothing,
    keys_are_listed_newest_first_by_tenant_and_in_pages,
    a_use_is_noted_at_most_once_a_minute,
    of_many_first_keys_at_once_one_is_kept_and_none_beside_an_active_one,
    a_refusal_is_chained_by_itself,
);

fn at(seconds: u64) -> DateTime<Utc> {
    time::from_millis(AT_MS + seconds * 1_000)
}

fn acme() -> TenantId {
    TenantId::parse("acme").expect("legal")
}

/// Key number `n`; without a tenant an operator's.
fn key(n: u8, tenant: Option<&TenantId>) -> ApiKey {
    ApiKey {
        id: KeyId::mint(AT_MS + u64::from(n), [n; 10]),
        hash: sha256(key_text([n; 32]).as_bytes()),
        tenant: tenant.cloned(),
        roles: if tenant.is_some() { vec![Role::Viewer, Role::Producer] } else { vec![Role::Operator] },
        name: format!("Schlüssel {n}"),
        created_at: at(u64::from(n)),
        created_by: "ann".into(),
        expires_at: (n % 2 == 1).then(|| at(3_600)),
        revoked: None,
        last_used_at: None,
    }
}

fn record(action: &str, key: &ApiKey, when: DateTime<Utc>) -> AuditBody {
    let chain = (chain_of(key.tenant.as_ref()), Stream::Control);
    AuditBody { reason: Some("why".into()), ..AuditBody::new(chain, when, "ben", action, ("key", key.id.to_string())) }
}

async fn made(f: &Fixture, key: &ApiKey) {
    f.keys.create_key(key, &record("key_created", key, key.created_at)).await.expect("made");
}

async fn a_key_reads_back_as_it_was_made_by_id_and_by_hash(f: &Fixture) {
    for key in [key(1, Some(&acme())), key(2, None)] {
        assert_eq!(f.keys.key_by_hash(&key.hash).await.expect("answered"), None);
        made(f, &key).await;
        assert_eq!(f.keys.key_by_hash(&key.hash).await.expect("answered"), Some(key.clone()));
        assert_eq!(f.keys.key(key.id).await.expect("answered"), Some(key));
    }
}

async fn a_hash_or_an_id_is_kept_once_and_what_does_not_fit_is_refused(f: &Fixture) {
    let first = key(1, Some(&acme()));
    made(f, &first).await;
    let same_hash = ApiKey { hash: first.hash, ..key(2, Some(&acme())) };
    let same_id = ApiKey { id: first.id, ..key(3, Some(&acme())) };
    let operator_of_a_tenant = ApiKey { roles: vec![Role::Operator], ..key(4, Some(&acme())) };
    let both = ApiKey { roles: vec![Role::Admin, Role::Operator], ..key(5, Some(&acme())) };
    let nobodys_admin = ApiKey { roles: vec![Role::Admin], ..key(6, None) };
    for wrong in [same_hash, same_id, operator_of_a_tenant, both, nobodys_admin] {
        let refused = f.keys.create_key(&wrong, &record("key_created", &wrong, at(9))).await;
        assert!(matches!(refused, Err(StoreError::Refused(_))), "{wrong:?}: {refused:?}");
    }
    assert_eq!(f.control_chain(&acme()).await.len(), 1, "what was refused left no record");
    assert!(f.control_chain(&TenantId::platform()).await.is_empty());
}

async fn making_and_revoking_stand_in_the_chain_of_the_keys_tenant(f: &Fixture) {
    for (key, tenant) in [(key(1, Some(&acme())), acme()), (key(2, None), TenantId::platform())] {
        made(f, &key).await;
        assert_eq!(
            f.keys.revoke_key(key.id, &record("key_revoked", &key, at(60))).await.expect("answered"),
            KeyAct::Done
        );
        let chain = f.control_chain(&tenant).await;
        let said: Vec<(&str, &str)> = chain.iter().map(|b| (b.action.as_str(), b.resource_id.as_str())).collect();
        let id = key.id.to_string();
        assert_eq!(said, [("key_created", id.as_str()), ("key_revoked", id.as_str())]);
        let revoked = f.keys.key_by_hash(&key.hash).await.expect("read").expect("there").revoked;
        assert_eq!(revoked, Some(Revocation { at: at(60), by: "ben".into(), reason: Some("why".into()) }));
    }
}

async fn a_key_is_revoked_once(f: &Fixture) {
    let key = key(1, Some(&acme()));
    let revoke = record("key_revoked", &key, at(60));
    assert_eq!(f.keys.revoke_key(key.id, &revoke).await.expect("answered"), KeyAct::Unknown);
    made(f, &key).await;
    let acts = futures::future::join_all((0..8).map(|_| f.keys.revoke_key(key.id, &revoke))).await;
    let acts: Vec<KeyAct> = acts.into_iter().map(|act| act.expect("answered")).collect();
    assert_eq!(acts.iter().filter(|act| **act == KeyAct::Done).count(), 1, "{acts:?}");
    assert_eq!(acts.iter().filter(|act| **act == KeyAct::Revoked).count(), 7, "{acts:?}");
    assert_eq!(f.control_chain(&acme()).await.len(), 2);
}

async fn a_record_of_another_chain_changes_nothing(f: &Fixture) {
    let (mine, foreign) = (key(1, Some(&acme())), key(2, None));
    let refused = f.keys.create_key(&mine, &record("key_created", &foreign, at(1))).await;
    assert!(matches!(refused, Err(StoreError::Fault(_))), "{refused:?}");
    assert_eq!(f.keys.key(mine.id).await.expect("answered"), None);
    made(f, &mine).await;
    let refused = f.keys.revoke_key(mine.id, &record("key_revoked", &foreign, at(60))).await;
    assert!(matches!(refused, Err(StoreError::Fault(_))), "{refused:?}");
    assert_eq!(f.keys.key(mine.id).await.expect("read").expect("there").revoked, None);
}

async fn keys_are_listed_newest_first_by_tenant_and_in_pages(f: &Fixture) {
    let (acme, globex) = (acme(), TenantId::parse("globex").expect("legal"));
    for n in 0..9 {
        made(f, &key(n, [Some(&acme), Some(&globex), None][usize::from(n) % 3])).await;
    }
    let list = async |tenant: Option<&TenantId>, before, limit| -> Vec<ApiKey> {
        f.keys.list_keys(&KeyFilter { tenant: tenant.cloned(), before, limit }).await.expect("listed")
    };
    let numbers = |keys: &[ApiKey]| keys.iter().map(|key| key.id.0.as_bytes()[15]).collect::<Vec<_>>();
    assert_eq!(numbers(&list(Some(&acme), None, 10).await), [6, 3, 0]);
    assert_eq!(numbers(&list(None, None, 100).await), [8, 7, 6, 5, 4, 3, 2, 1, 0]);
    let page = list(None, None, 4).await;
    assert_eq!(numbers(&list(None, Some(page[3].id), 4).await), [4, 3, 2, 1]);
}

async fn a_use_is_noted_at_most_once_a_minute(f: &Fixture) {
    let (one, two) = (key(1, Some(&acme())), key(2, None));
    made(f, &one).await;
    made(f, &two).await;
    let used = async |key: &ApiKey| f.keys.key(key.id).await.expect("read").expect("there").last_used_at;
    f.keys.touch_keys(&[]).await.expect("nothing");
    let unknown = key(9, None).id;
    f.keys.touch_keys(&[(two.id, at(100)), (unknown, at(100)), (one.id, at(101))]).await.expect("touched");
    assert_eq!((used(&one).await, used(&two).await), (Some(at(101)), Some(at(100))));
    f.keys.touch_keys(&[(one.id, at(130)), (two.id, at(160))]).await.expect("touched");
    assert_eq!((used(&one).await, used(&two).await), (Some(at(101)), Some(at(160))));
    f.keys.touch_keys(&[(two.id, at(50))]).await.expect("touched");
    assert_eq!(used(&two).await, Some(at(160)), "it never goes back");
}

async fn of_many_first_keys_at_once_one_is_kept_and_none_beside_an_active_one(f: &Fixture) {
    let keys: Vec<ApiKey> = (1..9).map(|n| ApiKey { created_at: at(10), ..key(n, None) }).collect();
    let records: Vec<AuditBody> = keys.iter().map(|key| record("key_created", key, at(10))).collect();
    let tries = keys.iter().zip(&records).map(|(key, audit)| f.keys.create_first_key(key, audit));
    let kept: Vec<bool> = futures::future::join_all(tries).await.into_iter().map(|r| r.expect("tried")).collect();
    assert_eq!(kept.iter().filter(|kept| **kept).count(), 1, "{kept:?}");
    let first = &keys[kept.iter().position(|kept| *kept).expect("one")];
    assert_eq!(f.control_chain(&TenantId::platform()).await.len(), 1);
    f.keys.revoke_key(first.id, &record("key_revoked", first, at(20))).await.expect("revoked");
    let again = ApiKey { created_at: at(30), expires_at: Some(at(40)), ..key(20, None) };
    assert!(f.keys.create_first_key(&again, &record("key_created", &again, at(30))).await.expect("answered"));
    let late = ApiKey { created_at: at(39), ..key(21, None) };
    assert!(!f.keys.create_first_key(&late, &record("key_created", &late, at(39))).await.expect("answered"));
    let later = ApiKey { created_at: at(40), ..key(22, None) };
    assert!(f.keys.create_first_key(&later, &record("key_created", &later, at(40))).await.expect("answered"));
}

async fn a_refusal_is_chained_by_itself(f: &Fixture) {
    let body = |stream| AuditBody::new((acme(), stream), at(1), "ann", "access_refused", ("route", "GET /v1/fleet"));
    f.keys.append_control(&body(Stream::Control)).await.expect("chained");
    f.keys.append_control(&body(Stream::Control)).await.expect("chained");
    let refused = f.keys.append_control(&body(Stream::Workflow)).await;
    assert!(matches!(refused, Err(StoreError::Fault(_))), "{refused:?}");
    let chain = f.control_chain(&acme()).await;
    assert_eq!((chain.len(), chain[1].action.as_str()), (2, "access_refused"));
}
