//! The contract of `ports::Vault`, through the keyrings that stand on it: every clause runs on every
//! adapter. Each keyring is a process of its own.

mod erasures;
mod masters;
mod proof;

use riskfleet::adapters::memory::store::MemoryStore;
use riskfleet::adapters::postgres::{PostgresStore, migrate};
use riskfleet::adapters::sqlite::SqliteStore;
use riskfleet::crypto::{DataKey, Key, Keyring, Place, Revealed};
use riskfleet::domain::{AuditBody, EventId, Stream, TenantId, time};
use riskfleet::lifecycle::SystemClock;
use riskfleet::ports::vault::Tag;
use riskfleet::ports::{EventStore, Registry, Vault};
use sqlx::{AssertSqlSafe, Connection};
use std::path::PathBuf;
use std::sync::Arc;

use crate::vaults::keyring;

macro_rules! contract {
    ($($adapter:ident),+ => $clauses:tt) => { $( contract!(@ $adapter $clauses); )+ };
    (@ $adapter:ident { $($file:ident: $($clause:ident),+;)+ }) => {
        mod $adapter {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $clause() {
                    let safe = super::Safe::$adapter().await;
                    super::$file::$clause(&safe).await;
                    safe.clear().await;
                }
            )+)+
        }
    };
}

contract!(memory, sqlite, postgres => {
    erasures:
        keys_are_made_once_whoever_asks,
        an_erased_subject_is_erased_for_everybody_and_for_good,
        an_erased_tenant_takes_its_subjects_along,
        an_erasure_beside_new_keys_leaves_none,
        what_was_read_before_an_erasure_is_not_kept_behind_it;
    masters:
        a_wrong_master_key_is_told_in_one_sentence,
        the_master_key_changes_while_keys_are_made,
        a_key_that_was_destroyed_is_not_wrapped_anew;
});

mod governed {
    use super::*;

    contract!(sqlite, postgres => {
        erasures:
            a_hold_keeps_every_key_and_an_erasure_is_in_the_chain;
    });
}

/// A store of one adapter.
struct Safe {
    vault: Arc<dyn Vault>,
    store: Arc<dyn EventStore>,
    registry: Option<Arc<dyn Registry>>,
    folder: Option<PathBuf>,
    namespace: Option<String>,
}

impl Safe {
    #[expect(clippy::unused_async, reason = "the adapters are made alike")]
    async fn memory() -> Self {
        let store = Arc::new(MemoryStore::new(4, [7; 32], Arc::new(SystemClock::new())));
        Self { vault: store.clone(), store, registry: None, folder: None, namespace: None }
    }

    async fn sqlite() -> Self {
        let folder = std::env::temp_dir().join(format!("riskfleet-vault-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir_all(&folder).expect("a folder for the test");
        let store = SqliteStore::open(&folder.join("store.db"), 4, [7; 32], Arc::new(SystemClock::new())).await;
        let store = Arc::new(store.expect("opens"));
        let registry: Option<Arc<dyn Registry>> = Some(store.clone());
        Self { vault: store.clone(), store, registry, folder: Some(folder), namespace: None }
    }

    async fn postgres() -> Self {
        let (url, namespace) = (crate::harness::postgres_url(), crate::harness::namespace());
        migrate(&url, &namespace, 4, [7; 32]).await.expect("migrates");
        let store = Arc::new(PostgresStore::connect(&url, &namespace).await.expect("connects"));
        let registry: Option<Arc<dyn Registry>> = Some(store.clone());
        Self { vault: store.clone(), store, registry, folder: None, namespace: Some(namespace) }
    }

    /// Another process.
    fn process(&self) -> Arc<Keyring> {
        keyring(self.vault.clone())
    }

    async fn clear(self) {
        if let Some(folder) = &self.folder {
            // Only a leftover in the temporary folder, should it fail.
            std::fs::remove_dir_all(folder).ok();
        }
        if let Some(ns) = &self.namespace {
            let mut conn = sqlx::PgConnection::connect(&crate::harness::postgres_url()).await.expect("connects");
            let drop = format!("DROP SCHEMA {ns} CASCADE; DROP ROLE {ns}_api, {ns}_worker, {ns}_retention");
            sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut conn).await.expect("drops");
        }
    }
}

fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).expect("legal")
}

fn event(n: u64) -> EventId {
    EventId::mint(1_700_000_000_000 + n, [0; 10])
}

/// The record of an erasure.
fn erased(of: &TenantId) -> AuditBody {
    let at = time::from_millis(1_700_000_000_000);
    let chain = (of.clone(), Stream::Control);
    AuditBody::new(chain, at, "ann", "subject_erased", ("subject", "t"))
}

async fn key_of(keys: &Keyring, of: &TenantId, subject: Option<&str>) -> Option<Arc<DataKey>> {
    match keys.keys_for(&[(of, subject)]).await.expect("the vault is there").pop() {
        Some(Key::Live(key)) => Some(key),
        Some(Key::Erased) => None,
        None => panic!("one answer each"),
    }
}

async fn tag_of(keys: &Keyring, of: &TenantId, subject: &str) -> Tag {
    keys.tag(of, subject).await.expect("the vault is there").expect("the tenant is not erased")
}

/// What became of a sealed event.
async fn opened(keys: &Keyring, of: &TenantId, id: EventId, sealed: &bytes::Bytes) -> Revealed {
    let stored = [(Place::event(of, id), sealed)];
    keys.open(&stored).await.expect("the vault is there").pop().expect("one answer each")
}

fn is_text(revealed: &Revealed, text: &[u8]) -> bool {
    matches!(revealed, Revealed::Text(opened, Some(_)) if opened[..] == *text)
}
