//! Keyrings of the tests: the same master key everywhere, over whatever keeps the keys.

use std::collections::HashMap;
use std::sync::Arc;

use riskfleet::adapters::master::LocalMaster;
use riskfleet::adapters::memory::store::MemoryStore;
use riskfleet::adapters::postgres::PostgresStore;
use riskfleet::crypto::Keyring;
use riskfleet::domain::{EventId, TenantId};
use riskfleet::lifecycle::{SystemClock, SystemEntropy};
use riskfleet::ports::{Clock, EventStore, Vault};
use serde_json::Value;

use crate::harness::fleet::Fleet;

/// The master key of the tests.
pub(crate) const MASTER: [u8; 32] = [0x4d; 32];

/// A keyring over a vault, with a clock of its own.
pub(crate) fn keyring_at(vault: Arc<dyn Vault>, clock: Arc<dyn Clock>) -> Arc<Keyring> {
    let master = Arc::new(LocalMaster::new(&MASTER, None));
    Arc::new(Keyring::new(vault, master, (clock, Arc::new(SystemEntropy)), 10_000))
}

/// A keyring over a vault.
pub(crate) fn keyring(vault: Arc<dyn Vault>) -> Arc<Keyring> {
    keyring_at(vault, Arc::new(SystemClock::new()))
}

/// A keyring of its own, for what is not sealed or not read by anybody else.
pub(crate) fn lone_keyring() -> Arc<Keyring> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    keyring_at(Arc::new(MemoryStore::new(1, [5; 32], Arc::clone(&clock))), clock)
}

/// An event of a fleet of programs as it is stored: its tenant's row, and its texts in the clear.
pub(crate) struct Stored {
    pub(crate) tenant: TenantId,
    pub(crate) event: Value,
    pub(crate) decision: Option<Value>,
}

/// Everything that a fleet of programs has stored, opened.
pub(crate) async fn stored(fleet: &Fleet) -> Vec<Stored> {
    stored_at(&crate::harness::postgres_url(), &fleet.ns).await
}

/// Everything that is stored in a namespace, opened.
pub(crate) async fn stored_at(url: &str, namespace: &str) -> Vec<Stored> {
    let store = Arc::new(PostgresStore::connect(url, namespace).await.expect("connects"));
    let (keys, mut all, mut since) = (keyring(store.clone()), Vec::new(), EventId::floor(0));
    let read = |text: &[u8]| serde_json::from_slice::<Value>(text).expect("JSON");
    loop {
        let page = store.events_since(since, 1_000).await.expect("reads");
        let Some(last) = page.last().map(|event| event.id) else { return all };
        since = EventId(uuid::Uuid::from_u128(last.0.as_u128() + 1));
        let ids: Vec<EventId> = page.iter().map(|event| event.id).collect();
        let count = page.len();
        let events = keys.reveal_events(page).await.expect("opens");
        assert_eq!(events.len(), count, "every event opens");
        let decisions = store.decisions(&ids).await.expect("reads");
        let mut decisions: HashMap<EventId, Value> = keys
            .reveal_decisions(decisions)
            .await
            .expect("opens")
            .into_iter()
            .map(|(id, _, t)| (id, read(&t)))
            .collect();
        for event in events {
            let decision = decisions.remove(&event.id);
            all.push(Stored { tenant: event.tenant, event: read(&event.body), decision });
        }
    }
}
