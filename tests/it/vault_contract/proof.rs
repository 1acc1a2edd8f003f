//! The proof: of ten thousand subjects one is erased, and nothing of it can be read any more by anybody,
//! while everything else is as it was.

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use bytes::Bytes;
use clap::Parser;
use riskfleet::adapters::memory::broker::{MemoryBroker, MemoryLimits};
use riskfleet::adapters::memory::context::{ContextLimits, MemoryContext};
use riskfleet::adapters::memory::leases::MemoryLeases;
use riskfleet::adapters::sqlite::SqliteStore;
use riskfleet::api::{ApiState, whole_router};
use riskfleet::cli::args::{AuditVerify, Cli, Command};
use riskfleet::cli::{AuditSources, Exit, Reading, Screen, audit_verify};
use riskfleet::crypto::{Keyring, Place};
use riskfleet::domain::partition::partition_of;
use riskfleet::domain::{CorrelationId, EventId, IdempotencyKey, TenantId, parse};
use riskfleet::ingest::{self, Door, IngestLimits};
use riskfleet::lifecycle::{SystemClock, SystemEntropy};
use riskfleet::ports::intake::{Candidate, Taken};
use riskfleet::ports::leases::LeaseTtls;
use riskfleet::ports::{Broker, EventStore, Intake, RateLimits, Route, Vault};
use riskfleet::resilience::LocalRate;
use riskfleet::worker::{self, Worker, WorkerLimits};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::tenant;
use crate::vaults::keyring;

const SUBJECT: &str = "canary-subject-7f3a91";
const PAYLOAD: &str = "canary-payload-5be20c";
const OTHERS: usize = 9_999;
const BATCH: usize = 1_000;

/// A fleet on one file, every part of it at hand.
struct Fleet {
    folder: PathBuf,
    store: Arc<SqliteStore>,
    keys: Arc<Keyring>,
    broker: Arc<MemoryBroker>,
    door: Arc<Door>,
    router: axum::Router,
    stop: CancellationToken,
}

impl Fleet {
    async fn start() -> Self {
        let folder = std::env::temp_dir().join(format!("riskfleet-proof-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir_all(&folder).expect("a folder for the test");
        let clock = Arc::new(SystemClock::new());
        let store = SqliteStore::open(&folder.join("riskfleet.db"), 4, [7; 32], clock.clone()).await.expect("opens");
        let (store, broker) = (Arc::new(store), Arc::new(MemoryBroker::new(MemoryLimits::default())));
        let (keys, stop) = (keyring(store.clone()), CancellationToken::new());
        let parts = ingest::Parts {
            store: store.clone(),
            keyring: Arc::clone(&keys),
            broker: broker.clone(),
            meter: Arc::new(LocalRate::new(RateLimits::a_second(1_000_000, 0), 100, clock.clone())),
            clock,
            entropy: Arc::new(SystemEntropy),
            traces: riskfleet::telemetry::Traces::off(),
            limits: IngestLimits { tenant_events: 20_000, ..IngestLimits::default() },
        };
        let door = ingest::start(parts, &stop, &TaskTracker::new()).await.expect("the store is there");
        let limits = crate::api::LIMITS;
        let base = crate::api::state(store.clone(), crate::api::open(), limits, Vec::new());
        let state = ApiState { keyring: Arc::clone(&keys), registry: store.clone(), ..base };
        let router = whole_router(state, door.clone());
        Self { folder, store, keys, broker, door, router, stop }
    }

    async fn send(&self, candidates: Vec<Candidate>) -> Vec<EventId> {
        let taken = self.door.submit(candidates).await.expect("taken");
        let id = |taken: Taken| match taken {
            Taken::Accepted(receipt) => receipt.event_id,
            other => panic!("{other:?}"),
        };
        taken.into_iter().map(id).collect()
    }

    /// Decides everything that is pending.
    async fn decide(&self) {
        let clock = Arc::new(SystemClock::new());
        let parts = worker::Parts {
            store: self.store.clone(),
            // A process of its own.
            keyring: keyring(self.store.clone()),
            versions: self.store.clone(),
            stops: self.store.clone(),
            prices: Arc::default(),
            broker: self.broker.clone(),
            leases: Arc::new(MemoryLeases::new(LeaseTtls::default(), clock.clone())),
            context: Arc::new(MemoryContext::new(ContextLimits::default())),
            clock,
            entropy: Arc::new(SystemEntropy),
            traces: riskfleet::telemetry::Traces::off(),
        };
        let turn = Duration::from_millis(50);
        let limits = WorkerLimits { settle: Duration::ZERO, turn, ..WorkerLimits::default() };
        let worker = Worker::new(parts, limits).await.expect("the store is there");
        let ended = CancellationToken::new();
        let stop = ended.clone();
        let running = tokio::spawn(async move { worker.run(stop).await.expect("a worker ends well") });
        let patience = tokio::time::Instant::now() + Duration::from_secs(120);
        while self.store.ledger().await.expect("reads").pending > 0 {
            assert!(tokio::time::Instant::now() < patience, "not everything is decided");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        ended.cancel();
        running.await.expect("no panic");
    }

    async fn call(&self, method: &str, path: &str, body: Value) -> (StatusCode, Value) {
        let request = Request::builder().method(method).uri(path).header("host", "localhost:8080");
        let request = request.header("content-type", "application/json").header("x-idempotency-key", "again");
        let body = if method == "GET" { Body::empty() } else { Body::from(body.to_string()) };
        let response = self.router.clone().oneshot(request.body(body).expect("a request")).await.expect("answers");
        let status = response.status();
        let bytes = to_bytes(response.into_body(), 1 << 20).await.expect("a body");
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    async fn cli(&self, line: &str) -> (Exit, String) {
        // A process of its own.
        let keys = keyring(self.store.clone());
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let Command::Read(read) = Cli::try_parse_from(line.split(' ')).expect("a command line").command else {
            panic!("a reading command: {line}")
        };
        let reading = Reading { store: &*self.store, keyring: &keys };
        let exit = riskfleet::cli::run(&read, (reading, &*self.store), &mut Screen::plain(&mut out, &mut err)).await;
        (exit, String::from_utf8([out, err].concat()).expect("text"))
    }

    async fn audit_is_whole(&self) {
        let sources = AuditSources { store: &*self.store, checkpoints: None, public_key: None };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let exit = audit_verify(&AuditVerify::default(), &sources, &mut Screen::plain(&mut out, &mut err)).await;
        assert_eq!(exit, Exit::Done, "{}", String::from_utf8_lossy(&out));
    }
}

fn candidate(key: &str, subject: &str, note: &str) -> Candidate {
    let text = json!({"kind":"risk","version":"1","tenant_id":"acme","subject":subject,"amount":1250,
        "metadata":{"note":note}});
    Candidate {
        key: IdempotencyKey::parse(key).expect("legal"),
        correlation_id: CorrelationId::parse(key).expect("legal"),
        traceparent: None,
        body: parse::event(text.to_string().as_bytes(), parse::Given::default()).expect("valid").body,
        wait: false,
    }
}

fn holds(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

/// No file of the store holds the bytes.
fn assert_not_in_files(folder: &Path, what: &[u8], which: &str) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let bytes = std::fs::read(&path).expect("a file");
        assert!(!holds(&bytes, what), "{} holds {which}", path.display());
    }
}

/// Nothing of the payload travels: its pack is read off the queue, and goes back.
async fn assert_not_in_packs(fleet: &Fleet, acme: &TenantId) {
    let route = Route::normal(partition_of(acme, 4));
    let mut subscription = fleet.broker.subscribe(route, 100).await.expect("subscribes");
    let delivery = tokio::time::timeout(Duration::from_secs(5), subscription.deliveries.recv()).await;
    let delivery = delivery.expect("it is published").expect("the queue is there");
    for canary in [SUBJECT, PAYLOAD] {
        assert!(!holds(&delivery.body, canary.as_bytes()), "{}", String::from_utf8_lossy(&delivery.body));
    }
}

/// How many events and decisions open.
async fn readable(fleet: &Fleet) -> (usize, usize) {
    let keys = keyring(fleet.store.clone());
    let (mut events, mut decisions, mut since) = (0, 0, EventId::floor(0));
    loop {
        let page = fleet.store.events_since(since, 1_000).await.expect("reads");
        let Some(last) = page.last() else { return (events, decisions) };
        since = EventId(uuid::Uuid::from_u128(last.id.0.as_u128() + 1));
        let ids: Vec<EventId> = page.iter().map(|event| event.id).collect();
        events += keys.reveal_events(page).await.expect("the vault is there").len();
        let stored = fleet.store.decisions(&ids).await.expect("reads");
        decisions += keys.reveal_decisions(stored).await.expect("the vault is there").len();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_ten_thousand_subjects_one_is_erased() {
    let (fleet, acme) = (Fleet::start().await, tenant("acme"));
    let canary = fleet.send(vec![candidate("canary", SUBJECT, PAYLOAD)]).await[0];
    assert_not_in_packs(&fleet, &acme).await;
    let others: Vec<usize> = (0..OTHERS).collect();
    for some in others.chunks(BATCH) {
        let batch = some.iter().map(|n| candidate(&format!("k{n}"), &format!("acct-{n}"), "plain")).collect();
        fleet.send(batch).await;
    }
    fleet.decide().await;
    assert_eq!(readable(&fleet).await, (OTHERS + 1, OTHERS + 1));
    let path = format!("/v1/events/{canary}");
    let (status, shown) = fleet.call("GET", &path, Value::Null).await;
    assert_eq!(
        (status, &shown["subject"], &shown["metadata"]["note"]),
        (StatusCode::OK, &json!(SUBJECT), &json!(PAYLOAD))
    );
    for text in [SUBJECT, PAYLOAD] {
        assert_not_in_files(&fleet.folder, text.as_bytes(), text);
    }

    let sealed = fleet.store.events(&[canary]).await.expect("reads").remove(0).body;
    let tag = fleet.keys.tag(&acme, SUBJECT).await.expect("answers").expect("not erased");
    let wrapped = fleet.store.keys_of(&[(acme.clone(), tag)]).await.expect("reads").remove(0).wrapped.expect("live");
    let erase = |dry_run: bool| json!({"subject": SUBJECT, "reason": "request 17", "dry_run": dry_run});
    let (status, foreseen) = fleet.call("POST", "/v1/tenants/acme/erase", erase(true)).await;
    assert_eq!(
        (status, &foreseen["keys"], &foreseen["events"], &foreseen["erased"]),
        (StatusCode::OK, &json!(1), &json!(1), &json!(false))
    );
    let (status, done) = fleet.call("POST", "/v1/tenants/acme/erase", erase(false)).await;
    assert_eq!((status, &done["changed"], &done["erased"]), (StatusCode::OK, &json!(true), &json!(true)), "{done}");

    // Whoever asks, it is erased, and no error of anything.
    for path in [path.clone(), format!("{path}/decision"), format!("{path}/timeline")] {
        let (status, problem) = fleet.call("GET", &path, Value::Null).await;
        assert_eq!((status, &problem["type"]), (StatusCode::GONE, &json!("urn:riskfleet:problem:erased")), "{path}");
    }
    let again = json!({"kind":"risk","version":"1","tenant_id":"acme","subject":SUBJECT});
    let (status, problem) = fleet.call("POST", "/v1/events", again).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{problem}");
    assert_eq!(problem["type"], "urn:riskfleet:problem:subject-erased");
    for (line, says) in [("events get", "erased"), ("explain", "erased"), ("replay", "erased: the key")] {
        let (exit, said) = fleet.cli(&format!("riskfleet {line} {canary}")).await;
        assert!(exit == Exit::Failed && said.contains(says) && !said.contains(PAYLOAD), "{line}: {said}");
    }
    let (exit, listed) = fleet.cli("riskfleet events list --limit 10000 --json").await;
    assert!(exit == Exit::Done && !listed.contains(SUBJECT) && !listed.contains(PAYLOAD));
    // Nor do the files: not the texts, and not the key either, wrapped as it was.
    for (what, which) in [(SUBJECT.as_bytes(), SUBJECT), (PAYLOAD.as_bytes(), PAYLOAD), (&wrapped[..], "the key")] {
        assert_not_in_files(&fleet.folder, what, which);
    }
    no_key_left_opens(&fleet, &acme, canary, &sealed).await;
    assert_eq!(readable(&fleet).await, (OTHERS, OTHERS), "nobody else lost anything");
    fleet.audit_is_whole().await;
    let ledger = fleet.store.ledger().await.expect("reads");
    assert_eq!((ledger.accepted, ledger.decided, ledger.pending), (OTHERS as i64 + 1, OTHERS as i64 + 1, 0));
    fleet.stop.cancel();
    std::fs::remove_dir_all(&fleet.folder).ok();
}

/// Every key that is left is tried on the envelope, under its own id and under the one that it names.
async fn no_key_left_opens(fleet: &Fleet, acme: &TenantId, id: EventId, sealed: &Bytes) {
    let names: Vec<String> = (0..OTHERS).map(|n| format!("acct-{n}")).collect();
    let wanted: Vec<_> = names.iter().map(|name| (acme, Some(name.as_str()))).chain([(acme, None)]).collect();
    let mut tried = 0;
    for key in fleet.keys.keys_for(&wanted).await.expect("the vault is there") {
        let riskfleet::crypto::Key::Live(key) = key else { panic!("nobody else is erased") };
        let mut renamed = sealed.to_vec();
        renamed[1..17].copy_from_slice(key.id.as_bytes());
        for envelope in [&sealed[..], &renamed] {
            assert!(key.open(Place::event(acme, id), envelope).is_err());
            tried += 1;
        }
    }
    assert_eq!(tried, 2 * (OTHERS + 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_when_its_subject_is_erased_ends_as_a_dead_letter() {
    let (fleet, acme) = (Fleet::start().await, tenant("acme"));
    let canary = fleet.send(vec![candidate("canary", SUBJECT, PAYLOAD)]).await[0];
    fleet.send(vec![candidate("other", "acct-1", "plain")]).await;
    let tag = fleet.keys.tag(&acme, SUBJECT).await.expect("answers").expect("not erased");
    fleet.keys.erase(&acme, tag, &super::erased(&acme)).await.expect("erased");
    fleet.decide().await;
    let ledger = fleet.store.ledger().await.expect("reads");
    assert_eq!((ledger.accepted, ledger.decided, ledger.dead, ledger.pending), (2, 1, 1, 0));
    let (status, shown) = fleet.call("GET", &format!("/v1/dead-letters/{canary}"), Value::Null).await;
    assert_eq!(
        (status, &shown["category"], &shown["erased"]),
        (StatusCode::OK, &json!("POLICY_VIOLATION"), &json!(true))
    );
    assert!(shown["error"].as_str().is_some_and(|error| error.starts_with("erased")), "{shown}");
    fleet.audit_is_whole().await;
    fleet.stop.cancel();
    std::fs::remove_dir_all(&fleet.folder).ok();
}
