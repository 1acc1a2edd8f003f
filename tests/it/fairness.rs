//! The real door over the in-process adapters: who is served when, who is refused, and by which
//! queue events go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use riskfleet::adapters::memory::broker::{InboxMessage, MemoryBroker, MemoryLimits};
use riskfleet::adapters::memory::store::MemoryStore;
use riskfleet::domain::parse::{self, Given};
use riskfleet::domain::partition::partition_of;
use riskfleet::domain::{CorrelationId, EventId, IdempotencyKey, TenantId};
use riskfleet::ingest::{self, Door, Inbox, IngestLimits, consume_inbox};
use riskfleet::lifecycle::SystemEntropy;
use riskfleet::ports::intake::{Candidate, Intake, IntakeError, Taken};
use riskfleet::ports::rate::WINDOW;
use riskfleet::ports::{Clock, EventStore, RateLimits, Route};
use riskfleet::resilience::LocalRate;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const PARTITIONS: u16 = 4;
const BATCH: usize = 100;
const SHARE: usize = 5_000;

/// A clock that goes on by a millisecond whenever it is read, so that every batch has its own, and
/// that measures nothing: a window of rates never ends.
struct Ticking(AtomicU64);

impl Clock for Ticking {
    fn now(&self) -> chrono::DateTime<chrono::Utc> {
        let ms = self.0.fetch_add(1, Ordering::SeqCst);
        chrono::DateTime::from_timestamp_millis(1_790_000_000_000 + ms as i64).expect("in range")
    }

    fn elapsed(&self) -> Duration {
        Duration::from_secs(1_000)
    }
}

struct Bench {
    store: Arc<MemoryStore>,
    broker: Arc<MemoryBroker>,
    door: Arc<Door>,
    stop: CancellationToken,
}

impl Bench {
    async fn start(rates: RateLimits) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(Ticking(AtomicU64::new(0)));
        let store = Arc::new(MemoryStore::new(PARTITIONS, [5; 32], clock.clone()));
        let broker = Arc::new(MemoryBroker::new(MemoryLimits::default()));
        let parts = ingest::Parts {
            store: store.clone(),
            keyring: crate::vaults::keyring(store.clone()),
            broker: broker.clone(),
            meter: Arc::new(LocalRate::new(rates, 100, clock.clone())),
            clock,
            entropy: Arc::new(SystemEntropy),
            traces: riskfleet::telemetry::Traces::off(),
            limits: IngestLimits {
                queue_events: 20_000,
                tenant_events: SHARE,
                batch_max: BATCH,
                unpublished_max: 1_000_000,
                pack_bytes_max: 16_384,
                ..IngestLimits::default()
            },
        };
        let stop = CancellationToken::new();
        let door = ingest::start(parts, &stop, &TaskTracker::new()).await.expect("the store is there");
        Self { store, broker, door, stop }
    }

    async fn accepted(&self) -> i64 {
        self.store.ledger().await.expect("in memory").accepted
    }

    /// Packs that wait in a tenant's queues, once everything accepted is published: normal, bulk.
    async fn packs(&self, who: &str) -> (usize, usize) {
        for _ in 0..200 {
            if self.store.unpublished().await.expect("in memory") == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let partition = partition_of(&tenant(who), PARTITIONS);
        (self.broker.waiting(Route::normal(partition)), self.broker.waiting(Route::bulk(partition)))
    }
}

fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).expect("legal")
}

fn event(who: &str) -> String {
    format!(r#"{{"kind":"risk","version":"1","tenant_id":"{who}"}}"#)
}

/// An event of a tenant, with a key of its own.
fn candidate(who: &str) -> Candidate {
    static KEYS: AtomicU64 = AtomicU64::new(0);
    Candidate {
        key: IdempotencyKey::parse(&format!("k{}", KEYS.fetch_add(1, Ordering::SeqCst))).expect("legal"),
        correlation_id: CorrelationId::parse("c").expect("legal"),
        traceparent: None,
        body: parse::event(event(who).as_bytes(), Given::default()).expect("valid").body,
        wait: false,
    }
}

fn call(who: &str, events: usize) -> Vec<Candidate> {
    (0..events).map(|_| candidate(who)).collect()
}

fn ids(taken: &[Taken]) -> Vec<EventId> {
    let accepted = |taken: &Taken| match taken {
        Taken::Accepted(receipt) => receipt.event_id,
        other => panic!("{other:?}"),
    };
    taken.iter().map(accepted).collect()
}

fn plenty() -> RateLimits {
    RateLimits::a_second(1_000_000, 0)
}

#[tokio::test]
async fn a_flood_waits_behind_itself() {
    let bench = Bench::start(plenty()).await;
    // A hundred times as many events, all of them in the queue before the calm one's.
    let mut calls: Vec<_> = (0..20).map(|_| bench.door.submit(call("flood", 250))).collect();
    calls.push(bench.door.submit(call("calm", 50)));
    let mut answers = join_all(calls).await;
    let calm = ids(&answers.pop().expect("the calm one's").expect("taken"));
    let flood: Vec<EventId> = answers.into_iter().flat_map(|taken| ids(&taken.expect("taken"))).collect();
    assert_eq!((flood.len(), calm.len()), (SHARE, 50));
    let batches: BTreeSet<u64> = flood.iter().chain(&calm).map(|id| id.millis()).collect();
    assert!(batches.len() >= 40, "{} batches", batches.len());
    let last = calm.iter().map(|id| id.millis()).max().expect("some");
    let before = batches.range(..last).count();
    assert!(before <= 3, "the calm one waited for {before} batches of {}", batches.len());
}

#[tokio::test]
async fn a_tenant_is_refused_beyond_its_share_and_the_others_are_not() {
    let bench = Bench::start(plenty()).await;
    let mut calls: Vec<_> = (0..8).map(|_| bench.door.submit(call("flood", 1_000))).collect();
    calls.push(bench.door.submit(call("calm", 1_000)));
    let mut answers = join_all(calls).await;
    assert_eq!(ids(&answers.pop().expect("the calm one's").expect("taken")).len(), 1_000);
    let refused: Vec<&IntakeError> = answers.iter().filter_map(|a| a.as_ref().err()).collect();
    let want = IntakeError::TenantFull { tenant: tenant("flood"), retry_after: Duration::from_secs(1) };
    assert_eq!(refused, [&want; 3]);
    assert_eq!(bench.accepted().await, 6_000);
    // What it held it has given back.
    assert_eq!(ids(&bench.door.submit(call("flood", SHARE)).await.expect("taken")).len(), SHARE);
}

#[tokio::test]
async fn a_rate_refuses_whole_calls_before_anything_is_stored() {
    // 100 normal and 300 at most, in the window.
    let bench = Bench::start(RateLimits { bulk_above: 100, refuse_above: Some(300) }).await;
    assert_eq!(bench.door.submit(call("fast", 250)).await.expect("taken").len(), 250);
    let mut mixed = call("calm", 3);
    mixed.extend(call("fast", 51));
    for refused in [bench.door.submit(call("fast", 51)).await, bench.door.submit(mixed).await] {
        let Err(IntakeError::RateLimited { tenant: who, retry_after }) = refused else { panic!("{refused:?}") };
        assert_eq!(who, tenant("fast"));
        assert!(retry_after > WINDOW / 2 && retry_after <= WINDOW + Duration::from_secs(1), "{retry_after:?}");
    }
    assert_eq!(bench.accepted().await, 250);
    assert_eq!(bench.door.submit(call("calm", 90)).await.expect("taken").len(), 90);
    assert_eq!(bench.door.submit(call("fast", 50)).await.expect("what is refused is not counted").len(), 50);
    assert_eq!(bench.door.submit(call("fast", 1)).await.err().map(|e| e.retry_after().as_secs()), Some(3));
}

#[tokio::test]
async fn a_tenant_above_its_rate_goes_by_the_other_queue() {
    let bench = Bench::start(RateLimits { bulk_above: 100, refuse_above: None }).await;
    bench.door.submit(call("acme", 100)).await.expect("taken");
    let (normal, bulk) = bench.packs("acme").await;
    assert!(normal > 0 && bulk == 0, "{normal} {bulk}");
    bench.door.submit(call("acme", 1)).await.expect("taken");
    assert_eq!(bench.packs("acme").await, (normal, 1));
}

#[tokio::test]
async fn answers_to_a_mixed_call_come_in_its_order() {
    let bench = Bench::start(plenty()).await;
    let names = ["a", "b", "c", "d", "e"];
    let sent: Vec<Candidate> = (0..777).map(|n| candidate(names[n * n % 5])).collect();
    let want: Vec<TenantId> = sent.iter().map(|c| c.body.tenant_id.clone()).collect();
    let copies = sent.clone();
    let taken = bench.door.submit(sent).await.expect("taken");
    let tenants: Vec<TenantId> = taken
        .iter()
        .map(|taken| match taken {
            Taken::Accepted(receipt) => receipt.tenant_id.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(tenants, want);
    // Each candidate got its own answer: a replay of it names the same event.
    let again = bench.door.submit(copies).await.expect("taken");
    let first = ids(&taken);
    for (n, replayed) in again.iter().enumerate() {
        assert!(matches!(replayed, Taken::Replayed(receipt) if receipt.event_id == first[n]), "{n}: {replayed:?}");
    }
}

#[tokio::test]
async fn what_was_admitted_before_the_stop_is_stored_and_nothing_after_it() {
    let bench = Bench::start(plenty()).await;
    let submit = tokio::spawn({
        let door = bench.door.clone();
        async move { door.submit(call("acme", 2_000)).await }
    });
    while bench.accepted().await == 0 {
        tokio::task::yield_now().await;
    }
    bench.stop.cancel();
    assert_eq!(submit.await.expect("no panic").expect("all of it").len(), 2_000);
    assert_eq!(bench.door.submit(call("acme", 1)).await, Err(IntakeError::Stopping));
    assert_eq!(bench.accepted().await, 2_000);
}

fn inbox(bench: &Bench, intake: Arc<dyn Intake>) -> Inbox {
    Inbox {
        intake,
        broker: bench.broker.clone(),
        store: bench.store.clone(),
        keyring: crate::vaults::lone_keyring(),
        entropy: Arc::new(SystemEntropy),
        auth: riskfleet::ingest::anybody(),
        traces: riskfleet::telemetry::Traces::off(),
        event_bytes_max: 10_000,
        prefetch: 100,
    }
}

async fn send(bench: &Bench, who: &str, key: usize) {
    let message_id = Some(format!("{who}-{key}"));
    let body = event(who).into();
    bench.broker.send_inbox(InboxMessage { message_id, body, ..InboxMessage::default() }).await.expect("room");
}

#[tokio::test]
async fn the_inbox_takes_a_flood_as_bulk_and_refuses_nobody() {
    let bench = Bench::start(RateLimits::a_second(10, 20)).await;
    let consumer = tokio::spawn(consume_inbox(inbox(&bench, bench.door.side()), bench.stop.clone()));
    for n in 0..400 {
        send(&bench, "flood", n).await;
        if n % 100 == 0 {
            send(&bench, "calm", n).await;
        }
    }
    for _ in 0..500 {
        if bench.accepted().await == 404 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(bench.accepted().await, 404);
    assert!(bench.packs("flood").await.1 > 0);
    assert!(bench.broker.parked().is_empty());
    let http = bench.door.submit(call("flood", 200)).await;
    assert!(matches!(http, Err(IntakeError::RateLimited { .. })), "{http:?}");
    bench.stop.cancel();
    consumer.await.expect("no panic");
}

/// An intake with no room for one tenant; remembers what it took of the others.
struct Choosy {
    shut_for: TenantId,
    taken: Mutex<BTreeMap<TenantId, usize>>,
    door: Arc<Door>,
}

#[async_trait]
impl Intake for Choosy {
    async fn submit(&self, candidates: Vec<Candidate>) -> Result<Vec<Taken>, IntakeError> {
        if candidates.iter().any(|c| c.body.tenant_id == self.shut_for) {
            return Err(IntakeError::Full(Duration::from_secs(1)));
        }
        for candidate in &candidates {
            *self.taken.lock().expect("held").entry(candidate.body.tenant_id.clone()).or_default() += 1;
        }
        self.door.submit(candidates).await
    }

    async fn decision(&self, _: EventId, _: Duration) -> Option<serde_json::Value> {
        None
    }
}

#[tokio::test]
async fn in_the_inbox_one_tenant_waits_and_the_others_go_on() {
    let bench = Bench::start(plenty()).await;
    let choosy = Arc::new(Choosy { shut_for: tenant("stuck"), taken: Mutex::default(), door: Arc::clone(&bench.door) });
    for n in 0..50 {
        send(&bench, "stuck", n).await;
    }
    // Three times the prefetch: they pass only because their acknowledgements do not wait.
    for n in 0..300 {
        send(&bench, "calm", n).await;
    }
    let consumer = tokio::spawn(consume_inbox(inbox(&bench, choosy.clone()), bench.stop.clone()));
    for _ in 0..500 {
        if bench.accepted().await == 300 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(bench.accepted().await, 300);
    assert_eq!(*choosy.taken.lock().expect("held"), BTreeMap::from([(tenant("calm"), 300)]));
    bench.stop.cancel();
    consumer.await.expect("no panic");
    // The stuck ones were never acknowledged: another consumer gets all of them.
    let again = Bench { stop: CancellationToken::new(), ..Bench::start(plenty()).await };
    let successor = Inbox { broker: bench.broker.clone(), ..inbox(&again, again.door.side()) };
    let consumer = tokio::spawn(consume_inbox(successor, again.stop.clone()));
    for _ in 0..500 {
        if again.accepted().await == 50 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(again.accepted().await, 50);
    again.stop.cancel();
    consumer.await.expect("no panic");
}
