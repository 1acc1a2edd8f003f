//! Ingest and worker together over the in-process adapters: the way of an event, without servers.

mod costs;
mod models;

use async_trait::async_trait;
use bytes::Bytes;
use riskfleet::adapters::memory::broker::{MemoryBroker, MemoryLimits};
use riskfleet::adapters::memory::context::{ContextLimits, MemoryContext};
use riskfleet::adapters::memory::leases::MemoryLeases;
use riskfleet::adapters::memory::store::MemoryStore;
use riskfleet::crypto::Keyring;
use riskfleet::domain::audit::{ChainHead, check, check_stored};
use riskfleet::domain::parse::{self, Given};
use riskfleet::domain::partition::partition_of;
use riskfleet::domain::{CorrelationId, Decision, EventId, IdempotencyKey, Outcome, PriceList, Scope, TenantId};
use riskfleet::ingest::{self, Door, IngestLimits};
use riskfleet::lifecycle::{SystemClock, SystemEntropy};
use riskfleet::ports::broker::{InboxDelivery, Replies, ReplyMessage};
use riskfleet::ports::intake::{Candidate, Intake, Taken};
use riskfleet::ports::leases::LeaseTtls;
use riskfleet::ports::store::{AuditCursor, EventStore};
use riskfleet::ports::{
    ActiveVersions, Broker, BrokerError, Clock, OutcomeMessage, PackMessage, RateLimits, Route, Stops, Subscription,
};
use riskfleet::resilience::LocalRate;
use riskfleet::worker::{self, Worker, WorkerLimits};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The in-process broker, which can be told to lose what it has confirmed.
struct Lossy {
    inner: Arc<MemoryBroker>,
    loses: AtomicBool,
}

#[async_trait]
impl Broker for Lossy {
    async fn publish_packs(&self, packs: Vec<PackMessage>) -> Vec<Result<(), BrokerError>> {
        if self.loses.load(Ordering::SeqCst) {
            vec![Ok(()); packs.len()]
        } else {
            self.inner.publish_packs(packs).await
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
        self.inner.ping().await
    }
}

use crate::vaults::keyring;

const PARTITIONS: u16 = 4;

struct Fleet {
    store: Arc<dyn EventStore>,
    keyring: Arc<Keyring>,
    versions: Arc<dyn ActiveVersions>,
    stops: Arc<dyn Stops>,
    prices: Arc<PriceList>,
    broker: Arc<Lossy>,
    leases: Arc<MemoryLeases>,
    context: Arc<MemoryContext>,
    door: Arc<Door>,
    stop: CancellationToken,
}

impl Fleet {
    async fn start() -> Self {
        let clock = Arc::new(SystemClock::new());
        let memory = Arc::new(MemoryStore::new(PARTITIONS, [5; 32], clock.clone()));
        let keyring = keyring(memory.clone());
        let (store, versions): (Arc<dyn EventStore>, Arc<dyn ActiveVersions>) = (memory.clone(), memory.clone());
        let inner = Arc::new(MemoryBroker::new(MemoryLimits::default()));
        let broker = Arc::new(Lossy { inner, loses: AtomicBool::new(false) });
        let stop = CancellationToken::new();
        let limits = IngestLimits {
            queue_events: 10_000,
            tenant_events: 10_000,
            batch_max: 200,
            unpublished_max: 100_000,
            pack_bytes_max: 16_384,
            ..IngestLimits::default()
        };
        let rates = RateLimits::a_second(10_000, 0);
        let parts = ingest::Parts {
            store: Arc::clone(&store),
            keyring: Arc::clone(&keyring),
            broker: broker.clone(),
            meter: Arc::new(LocalRate::new(rates, 100, clock.clone())),
            clock: clock.clone(),
            entropy: Arc::new(SystemEntropy),
            traces: riskfleet::telemetry::Traces::off(),
            limits,
        };
        let door = ingest::start(parts, &stop, &TaskTracker::new()).await.expect("the store is there");
        let leases = Arc::new(MemoryLeases::new(LeaseTtls::default(), clock));
        let context = Arc::new(MemoryContext::new(ContextLimits::default()));
        Self { store, keyring, versions, stops: memory, prices: Arc::default(), broker, leases, context, door, stop }
    }

    async fn worker(&self, stop: &CancellationToken) -> tokio::task::JoinHandle<()> {
        self.worker_with(Arc::new(SystemClock::new()), stop).await
    }

    async fn worker_with(&self, clock: Arc<dyn Clock>, stop: &CancellationToken) -> tokio::task::JoinHandle<()> {
        let parts = worker::Parts {
            store: Arc::clone(&self.store),
            keyring: Arc::clone(&self.keyring),
            versions: Arc::clone(&self.versions),
            stops: Arc::clone(&self.stops),
            prices: Arc::clone(&self.prices),
            broker: self.broker.clone(),
            leases: self.leases.clone(),
            context: self.context.clone(),
            clock,
            entropy: Arc::new(SystemEntropy),
            traces: riskfleet::telemetry::Traces::off(),
        };
        let limits = WorkerLimits {
            prefetch: 16,
            commit_batch_max: 100,
            pack_bytes_max: 16_384,
            drain_timeout: Duration::from_secs(5),
            settle: Duration::ZERO,
            turn: Duration::from_millis(50),
            ..WorkerLimits::default()
        };
        let worker = Worker::new(parts, limits).await.expect("the store is there");
        let stop = stop.clone();
        tokio::spawn(async move { worker.run(stop).await.expect("a worker ends well") })
    }

    async fn all_decided(&self, events: i64) {
        for _ in 0..600 {
            let l = self.store.ledger().await.expect("in memory");
            if l.accepted == events && l.pending == 0 {
                assert_eq!(l.accepted, l.decided + l.dead);
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("still pending: {:?}", self.store.ledger().await);
    }

    /// One record a decision, every chain whole, every tenant's events only with that tenant.
    async fn audit_is_whole(&self, events: usize) {
        let (mut heads, mut seen) = (HashMap::new(), 0);
        let mut after: Option<AuditCursor> = None;
        loop {
            let page = self.store.audit_page(after.as_ref(), 100).await.expect("in memory");
            let Some(last) = page.last() else { break };
            let AuditLineKey(tenant, stream, seq) = AuditLineKey::of(last);
            after = Some(AuditCursor { tenant, stream, seq });
            for line in &page {
                let head = heads.entry(line.record.tenant.clone()).or_insert(ChainHead::EMPTY);
                let body = check(head, &line.record).expect("a whole chain");
                check_stored(&body, line.event.as_deref(), line.decision.as_deref()).expect("what was hashed");
                let (id, tenant) = (body.event_id.expect("of an event"), line.record.tenant.clone());
                let sealed = vec![(id, tenant, line.decision.clone().expect("a decision"))];
                let open = self.keyring.reveal_decisions(sealed).await.expect("in memory").remove(0).2;
                let decision = Decision::from_canonical(&open).expect("reads");
                assert_eq!(decision.tenant_id, line.record.tenant);
                seen += 1;
            }
        }
        assert_eq!(seen, events);
    }
}

struct AuditLineKey(TenantId, riskfleet::domain::Stream, i64);

impl AuditLineKey {
    fn of(line: &riskfleet::ports::store::AuditLine) -> Self {
        Self(line.record.tenant.clone(), line.record.stream, line.record.seq)
    }
}

fn candidate(n: usize, wait: bool) -> Candidate {
    let text = format!(
        r#"{{"kind":"risk","version":"1","tenant_id":"tenant-{}","subject":"s{}","amount":{n},"event_type":"{}"}}"#,
        n % 7,
        n % 3,
        if n.is_multiple_of(5) { "high_risk" } else { "payment" },
    );
    Candidate {
        key: IdempotencyKey::parse(&format!("k{n}")).expect("legal"),
        correlation_id: CorrelationId::parse(&format!("c{n}")).expect("legal"),
        traceparent: None,
        body: parse::event(text.as_bytes(), Given::default()).expect("valid").body,
        wait,
    }
}

async fn submit(fleet: &Fleet, from: usize, to: usize) -> Vec<Taken> {
    fleet.door.submit((from..to).map(|n| candidate(n, false)).collect()).await.expect("taken")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_is_decided_once_while_workers_come_and_go() {
    let fleet = Fleet::start().await;
    let (first, second) = (CancellationToken::new(), CancellationToken::new());
    let one = fleet.worker(&first).await;
    submit(&fleet, 0, 500).await;
    let two = fleet.worker(&second).await;
    submit(&fleet, 500, 1_000).await;
    first.cancel();
    submit(&fleet, 1_000, 1_500).await;
    one.await.expect("drained");
    fleet.all_decided(1_500).await;
    fleet.audit_is_whole(1_500).await;
    second.cancel();
    two.await.expect("drained");
    fleet.stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_request_hears_its_decision_and_a_replay_reads_it() {
    let fleet = Fleet::start().await;
    let stop = CancellationToken::new();
    let worker = fleet.worker(&stop).await;
    for _ in 0..2 {
        let taken = fleet.door.submit(vec![candidate(5, true)]).await.expect("taken");
        let (Taken::Accepted(receipt) | Taken::Replayed(receipt)) = &taken[0] else { panic!("{taken:?}") };
        let decision = fleet.door.decision(receipt.event_id, Duration::from_secs(10)).await.expect("in time");
        assert_eq!(decision["outcome"], Outcome::RequireApproval.as_str());
        assert_eq!(decision["event_id"], receipt.event_id.to_string());
        assert_eq!(decision["context"]["subject_24h"]["count"], 1);
        assert!(decision["trail"][0]["micros"].is_u64());
    }
    stop.cancel();
    worker.await.expect("drained");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_pack_decides_nothing_and_holds_nobody_up() {
    let fleet = Fleet::start().await;
    let stop = CancellationToken::new();
    let worker = fleet.worker(&stop).await;
    let tenant = TenantId::parse("tenant-1").expect("legal");
    let partition = partition_of(&tenant, PARTITIONS);
    let stranger = EventId::mint(1_900_000_000_000, [9; 10]);
    let text = format!(
        r#"{{"v":1,"partition":{},"events":[{{"id":"{stranger}","correlation_id":"c","event":{{"kind":"risk","event_type":"x","version":"1","tenant_id":"tenant-1"}}}}]}}"#,
        partition.0
    );
    let pack = |body: &str, mac| PackMessage {
        message_id: "forged".into(),
        route: Route::normal(partition),
        body: Bytes::from(body.to_owned()),
        mac,
    };
    for message in [pack(&text, [0; 32]), pack("garbage", [1; 32])] {
        let published = fleet.broker.publish_packs(vec![message]).await;
        assert_eq!(published, [Ok(())]);
    }
    submit(&fleet, 0, 70).await;
    fleet.all_decided(70).await;
    assert!(fleet.store.event(&Scope::Fleet, stranger).await.expect("in memory").is_none());
    assert!(fleet.store.decisions(&[stranger]).await.expect("in memory").is_empty());
    fleet.audit_is_whole(70).await;
    stop.cancel();
    worker.await.expect("drained");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_broker_confirmed_and_lost_is_refilled_without_an_operator() {
    let fleet = Fleet::start().await;
    fleet.broker.loses.store(true, Ordering::SeqCst);
    submit(&fleet, 0, 300).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(fleet.store.unpublished().await.expect("in memory"), 0, "confirmed, so nobody will publish it again");
    fleet.broker.loses.store(false, Ordering::SeqCst);
    let stop = CancellationToken::new();
    let worker = fleet.worker(&stop).await;
    fleet.all_decided(300).await;
    fleet.audit_is_whole(300).await;
    stop.cancel();
    worker.await.expect("drained");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_copies_of_one_request_are_one_event() {
    let fleet = Fleet::start().await;
    let copies = (0..100).map(|_| fleet.door.submit(vec![candidate(1, false)]));
    let answers = futures::future::join_all(copies).await;
    let mut ids = Vec::new();
    let mut fresh = 0;
    for answer in answers {
        match &answer.expect("taken")[0] {
            Taken::Accepted(receipt) => {
                fresh += 1;
                ids.push(receipt.event_id);
            }
            Taken::Replayed(receipt) => ids.push(receipt.event_id),
            Taken::Conflict(id) => panic!("a conflict with {id}"),
            Taken::Erased => panic!("nobody was erased"),
        }
    }
    ids.dedup();
    assert_eq!((fresh, ids.len()), (1, 1));
    assert_eq!(fleet.store.ledger().await.expect("in memory").accepted, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_request_waits_for_the_decision_of_the_first() {
    let fleet = Fleet::start().await;
    let first = fleet.door.submit(vec![candidate(3, true)]).await.expect("taken");
    let again = fleet.door.submit(vec![candidate(3, true)]).await.expect("taken");
    let (Taken::Accepted(first), Taken::Replayed(again)) = (&first[0], &again[0]) else {
        panic!("{first:?} {again:?}")
    };
    assert_eq!(first, again);
    let (stop, patience) = (CancellationToken::new(), Duration::from_secs(10));
    let (worker, one, two) = tokio::join!(
        fleet.worker(&stop),
        fleet.door.decision(first.event_id, patience),
        fleet.door.decision(again.event_id, patience),
    );
    let (one, two) = (one.expect("in time"), two.expect("in time"));
    assert_eq!((&one["event_id"], &one["outcome"]), (&two["event_id"], &two["outcome"]));
    stop.cancel();
    worker.await.expect("drained");
}
