//! Tests: ingest on dependencies that fail and come back, behind their circuits, under a clock that
//! is turned by hand.

use async_trait::async_trait;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use chrono::{DateTime, Utc};
use riskfleet::adapters::memory::broker::{MemoryBroker, MemoryLimits};
use riskfleet::adapters::memory::store::MemoryStore;
use riskfleet::api::{ApiState, Authenticator, Limits, Refusals, router};
use riskfleet::domain::parse::{self, Given};
use riskfleet::domain::{CorrelationId, EventId, IdempotencyKey, time};
use riskfleet::ingest::{self, Door, IngestLimits};
use riskfleet::lifecycle::SystemEntropy;
use riskfleet::ports::broker::{InboxDelivery, Replies, ReplyMessage, Route};
use riskfleet::ports::intake::{Candidate, Intake, IntakeError};
use riskfleet::ports::store::EventStore;
use riskfleet::ports::{Broker, BrokerError, Clock, OutcomeMessage, PackMessage, RateLimits, StoreError, Subscription};
use riskfleet::resilience::{
    Breaker, BreakerMeters, BreakerRules, Bulkhead, BulkheadMeters, BulkheadRules, Circuit, Guard, GuardedBroker,
    GuardedStore, LocalRate,
};
use riskfleet::telemetry::{Prometheus, Role};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::api::fakes::{FakeEntropy, FakeRegistry, FakeStore, NOW_MS};

const RECOVERY: Duration = Duration::from_secs(30);

/// Stands at [`NOW_MS`] until it is turned.
#[derive(Default)]
struct HandClock(AtomicU64);

impl HandClock {
    fn pass(&self, time: Duration) {
        self.0.fetch_add(u64::try_from(time.as_millis()).expect("short"), Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now(&self) -> DateTime<Utc> {
        time::from_millis(NOW_MS + self.0.load(Ordering::SeqCst))
    }

    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }
}

/// The in-process broker, which can be told to be away.
struct Flaky {
    inner: MemoryBroker,
    away: AtomicBool,
    published: AtomicU64,
}

impl Flaky {
    fn answer(&self) -> Result<(), BrokerError> {
        if self.away.load(Ordering::SeqCst) { Err(BrokerError::Away("connection refused".into())) } else { Ok(()) }
    }
}

#[async_trait]
impl Broker for Flaky {
    async fn publish_packs(&self, packs: Vec<PackMessage>) -> Vec<Result<(), BrokerError>> {
        self.published.fetch_add(1, Ordering::SeqCst);
        match self.answer() {
            Ok(()) => self.inner.publish_packs(packs).await,
            Err(e) => vec![Err(e); packs.len()],
        }
    }
    async fn publish_outcomes(&self, outcomes: Vec<OutcomeMessage>) -> Vec<Result<(), BrokerError>> {
        self.inner.publish_outcomes(outcomes).await
    }
    async fn reply(&self, replies: Vec<ReplyMessage>) {
        self.inner.reply(replies).await;
    }
    async fn subscribe(&self, route: Route, prefetch: u16) -> Result<Subscription, BrokerError> {
        self.inner.subscribe(route, prefetch).await
    }
    async fn inbox(&self, prefetch: u16) -> Result<mpsc::Receiver<InboxDelivery>, BrokerError> {
        self.inner.inbox(prefetch).await
    }
    async fn park(&self, message: &InboxDelivery, reason: &str) -> Result<(), BrokerError> {
        self.inner.park(message, reason).await
    }
    async fn replies(&self) -> Result<Replies, BrokerError> {
        self.inner.replies().await
    }
    async fn ping(&self) -> Result<(), BrokerError> {
        self.answer()
    }
}

fn guard(clock: &Arc<HandClock>) -> (Arc<Breaker>, Arc<Guard>) {
    let clock: Arc<dyn Clock> = clock.clone();
    let breaker = Arc::new(Breaker::new("thing", BreakerRules::default(), clock, BreakerMeters::none()));
    let bulkhead = Bulkhead::new(BulkheadRules { concurrent: 1_000, queued: 1_000 }, BulkheadMeters::none());
    (Arc::clone(&breaker), Arc::new(Guard::new(breaker, bulkhead)))
}

async fn ingest(
    store: &Arc<dyn EventStore>,
    broker: Arc<dyn Broker>,
    clock: &Arc<HandClock>,
    stop: &CancellationToken,
) -> Arc<Door> {
    let parts = ingest::Parts {
        store: Arc::clone(store),
        keyring: crate::vaults::lone_keyring(),
        broker,
        clock: clock.clone(),
        entropy: Arc::new(SystemEntropy),
        limits: IngestLimits {
            queue_events: 1_000,
            tenant_events: 1_000,
            batch_max: 100,
            unpublished_max: 100_000,
            pack_bytes_max: 16_384,
            ..IngestLimits::default()
        },
        meter: Arc::new(LocalRate::new(RateLimits::a_second(10_000, 0), 100, clock.clone())),
        traces: riskfleet::telemetry::Traces::off(),
    };
    ingest::start(parts, stop, &TaskTracker::new()).await.expect("the store is there")
}

fn candidate(n: usize) -> Candidate {
    let text = br#"{"kind":"risk","version":"1","tenant_id":"acme"}"#;
    Candidate {
        key: IdempotencyKey::parse(&format!("k{n}")).expect("legal"),
        correlation_id: CorrelationId::parse(&format!("c{n}")).expect("legal"),
        traceparent: None,
        body: parse::event(text, Given::default()).expect("valid").body,
        wait: false,
    }
}

/// The status and the `Retry-After` of an answer of the producer API.
async fn call(router: &axum::Router, method: &str, path: &str) -> (StatusCode, Option<String>) {
    let request = Request::builder().method(method).uri(path).header("host", "localhost:8080");
    let request = request.header("content-type", "application/json").header("x-idempotency-key", "k");
    let request = request.header("x-tenant-id", "acme").body(Body::from(r#"{"version":"1"}"#)).expect("a request");
    let response = router.clone().oneshot(request).await.expect("routers do not fail");
    let wait = response.headers().get("retry-after").map(|v| v.to_str().expect("a number").to_owned());
    (response.status(), wait)
}

#[tokio::test]
async fn a_store_that_is_away_is_left_alone_and_callers_are_told_when_to_come_again() {
    let (clock, stop) = (Arc::new(HandClock::default()), CancellationToken::new());
    let fake = Arc::new(FakeStore::default());
    let (breaker, guard) = guard(&clock);
    let store: Arc<dyn EventStore> = Arc::new(GuardedStore::new(fake.clone(), guard));
    let door = ingest(&store, Arc::new(MemoryBroker::new(MemoryLimits::default())), &clock, &stop).await;
    let state = ApiState {
        store,
        keyring: crate::vaults::lone_keyring(),
        registry: Arc::new(FakeRegistry),
        approvals: riskfleet::domain::ApprovalRules::default(),
        audit_key: None,
        auth: Authenticator::open(([127, 0, 0, 1], 8080).into()).expect("loopback"),
        clock: clock.clone(),
        entropy: Arc::new(FakeEntropy::default()),
        retention_days: 0,
        limits: Limits {
            body_bytes_max: 1 << 20,
            event_bytes_max: 1 << 18,
            requests_max: 64,
            request_timeout: Duration::from_secs(5),
            caller_requests_per_s: 0,
            refused_requests_per_s: 0,
            behind_proxy: false,
            https: false,
        },
        probes: Vec::new(),
        prometheus: Prometheus::install(Role::All).expect("the one recorder of this process"),
        refusals: Refusals::new(clock.clone()).0,
        traces: riskfleet::telemetry::Traces::off(),
    };
    let router = router(state, door.clone());
    let event = format!("/v1/events/{}", EventId::mint(1, [9; 10]));
    assert_eq!(call(&router, "POST", "/v1/risk").await, (StatusCode::ACCEPTED, None));
    assert_eq!(call(&router, "GET", &event).await.0, StatusCode::NOT_FOUND);

    *fake.failure.lock().expect("held") = Some(StoreError::Away("connection refused".into()));
    for _ in 0..5 {
        let (status, wait) = call(&router, "POST", "/v1/risk").await;
        assert_eq!((status, wait.as_deref()), (StatusCode::SERVICE_UNAVAILABLE, Some("1")));
    }
    assert_eq!(breaker.circuit(), Circuit::Open(RECOVERY));
    let asked = fake.asked.load(Ordering::Relaxed);
    clock.pass(Duration::from_millis(10_500));
    for (method, path) in [("POST", "/v1/risk"), ("GET", event.as_str())] {
        let answer = call(&router, method, path).await;
        assert_eq!(answer, (StatusCode::SERVICE_UNAVAILABLE, Some("20".into())), "19.5 s, in whole seconds");
    }
    clock.pass(Duration::from_millis(19_499));
    let last = door.submit(vec![candidate(1)]).await;
    let wait = Duration::from_secs(1);
    assert_eq!(last, Err(IntakeError::StoreAway { retry_after: wait }), "a millisecond is told as a second");
    assert_eq!(fake.asked.load(Ordering::Relaxed), asked, "nobody asked it meanwhile");

    // Still away: the one try fails, and it is left alone again.
    clock.pass(Duration::from_millis(1));
    assert_eq!(call(&router, "POST", "/v1/risk").await.1.as_deref(), Some("1"));
    assert_eq!(breaker.circuit(), Circuit::Open(RECOVERY));
    assert_eq!(call(&router, "POST", "/v1/risk").await.1.as_deref(), Some("30"));
    // Back: the first that may ask finds it so, and everybody is served.
    *fake.failure.lock().expect("held") = None;
    clock.pass(RECOVERY);
    assert_eq!(call(&router, "GET", &event).await.0, StatusCode::NOT_FOUND);
    assert_eq!(call(&router, "POST", "/v1/risk").await, (StatusCode::ACCEPTED, None));
    assert_eq!(breaker.circuit(), Circuit::Closed);
    stop.cancel();
}

#[tokio::test]
async fn a_broker_that_is_away_costs_no_accept_and_what_stood_is_published_when_it_is_back() {
    let (clock, stop) = (Arc::new(HandClock::default()), CancellationToken::new());
    let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new(4, [5; 32], clock.clone()));
    let inner = MemoryBroker::new(MemoryLimits::default());
    let flaky = Arc::new(Flaky { inner, away: AtomicBool::new(true), published: AtomicU64::new(0) });
    let (breaker, guard) = guard(&clock);
    let door = ingest(&store, Arc::new(GuardedBroker::new(flaky.clone(), guard)), &clock, &stop).await;
    for n in 0..20 {
        door.submit(vec![candidate(n)]).await.expect("a broker that is away costs no accept");
        tokio::task::yield_now().await;
    }
    // The pings of the sweep count too: at most five publications were tried.
    let tried = flaky.published.load(Ordering::SeqCst);
    assert!((1..=5).contains(&tried) && breaker.circuit() == Circuit::Open(RECOVERY), "{tried}");
    assert_eq!(store.unpublished().await.expect("in memory"), 20);

    flaky.away.store(false, Ordering::SeqCst);
    clock.pass(RECOVERY);
    // The sweep looks once a second; nobody else asks.
    let until = tokio::time::Instant::now() + Duration::from_secs(20);
    while store.unpublished().await.expect("in memory") > 0 {
        assert!(tokio::time::Instant::now() < until, "still unpublished");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(breaker.circuit(), Circuit::Closed);
    stop.cancel();
}
