//! Tests: what counts as a failure, what is refused, and what is never refused, port by port.

use async_trait::async_trait;
use bytes::Bytes;
use futures::poll;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use uuid::Uuid;

use super::*;
use crate::domain::context::{Observation, Subject24h};
use crate::domain::{PartitionId, TenantId, WorkerId};
use crate::ports::broker::{InboxDelivery, Replies, ReplyMessage};
use crate::ports::leases::{Beat, Renewal};
use crate::ports::{
    Broker, BrokerError, ContextError, ContextSource, LeaseError, Leases, Member, OutcomeMessage, PackMessage, Route,
    Subscription, Traffic,
};
use crate::resilience::hand_clock::HandClock;
use crate::resilience::{BreakerMeters, BreakerRules, BulkheadMeters, BulkheadRules, Circuit};

const NORMAL: Route = Route { partition: PartitionId(0), traffic: Traffic::Normal };

const RECOVERY: Duration = Duration::from_secs(30);

/// A dependency that answers as it is told, and counts how often it is asked.
#[derive(Default)]
struct Dependency {
    away: Mutex<Option<BrokerError>>,
    asked: AtomicUsize,
    /// What can be slow takes as long as it takes to get one of these, where there are any.
    slow: Option<Semaphore>,
}

impl Dependency {
    fn is(&self, answer: Option<BrokerError>) {
        *self.away.lock().expect("no panic inside") = answer;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn answer(&self) -> Result<(), BrokerError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.away.lock().expect("no panic inside").clone().map_or(Ok(()), Err)
    }

    async fn take_its_time(&self) {
        if let Some(slow) = &self.slow {
            slow.acquire().await.expect("never closed").forget();
        }
    }

    async fn publish(&self, messages: usize) -> Vec<Result<(), BrokerError>> {
        let answer = self.answer();
        self.take_its_time().await;
        // The last message tells; the others went well.
        (1..=messages).map(|n| if n == messages { answer.clone() } else { Ok(()) }).collect()
    }
}

#[async_trait]
impl Broker for Dependency {
    async fn publish_packs(&self, packs: Vec<PackMessage>) -> Vec<Result<(), BrokerError>> {
        self.publish(packs.len()).await
    }
    async fn publish_outcomes(&self, outcomes: Vec<OutcomeMessage>) -> Vec<Result<(), BrokerError>> {
        self.publish(outcomes.len()).await
    }
    async fn reply(&self, _: Vec<ReplyMessage>) {
        _ = self.answer();
    }
    async fn subscribe(&self, _: Route, _: u16) -> Result<Subscription, BrokerError> {
        self.answer()?;
        Ok(Subscription { deliveries: mpsc::channel(1).1, created: false, waiting: 0 })
    }
    async fn inbox(&self, _: u16) -> Result<mpsc::Receiver<InboxDelivery>, BrokerError> {
        self.answer()?;
        Ok(mpsc::channel(1).1)
    }
    async fn park(&self, _: &InboxDelivery, _: &str) -> Result<(), BrokerError> {
        self.answer()
    }
    async fn replies(&self) -> Result<Replies, BrokerError> {
        self.answer()?;
        Ok(Replies { queue: "replies".into(), messages: mpsc::channel(1).1 })
    }
    async fn ping(&self) -> Result<(), BrokerError> {
        self.answer()
    }
}

#[async_trait]
impl Leases for Dependency {
    async fn beat(&self, _: &Member) -> Result<Beat, LeaseError> {
        self.answer().map(|()| Beat::Kept).map_err(|e| LeaseError(e.to_string()))
    }
    async fn members(&self) -> Result<Vec<Member>, LeaseError> {
        self.answer().map(|()| Vec::new()).map_err(|e| LeaseError(e.to_string()))
    }
    async fn leave(&self, _: WorkerId) -> Result<(), LeaseError> {
        self.answer().map_err(|e| LeaseError(e.to_string()))
    }
    async fn acquire(&self, _: PartitionId, _: WorkerId) -> Result<bool, LeaseError> {
        let answer = self.answer();
        self.take_its_time().await;
        answer.map(|()| true).map_err(|e| LeaseError(e.to_string()))
    }
    async fn renew(&self, _: PartitionId, _: WorkerId) -> Result<Renewal, LeaseError> {
        self.answer().map(|()| Renewal::Kept).map_err(|e| LeaseError(e.to_string()))
    }
    async fn release(&self, _: PartitionId, _: WorkerId) -> Result<(), LeaseError> {
        self.answer().map_err(|e| LeaseError(e.to_string()))
    }
    async fn holders(&self, _: u16) -> Result<Vec<Option<WorkerId>>, LeaseError> {
        self.answer().map(|()| Vec::new()).map_err(|e| LeaseError(e.to_string()))
    }
}

#[async_trait]
impl ContextSource for Dependency {
    async fn observe(&self, _: &[Observation]) -> Result<Vec<Subject24h>, ContextError> {
        self.answer().map(|()| Vec::new()).map_err(|e| ContextError(e.to_string()))
    }
}

fn guard(bulkhead: BulkheadRules) -> (Arc<HandClock>, Arc<Breaker>, Arc<Guard>) {
    let clock = Arc::new(HandClock::default());
    let breaker = Arc::new(Breaker::new("thing", BreakerRules::default(), clock.clone(), BreakerMeters::none()));
    let guard = Guard::new(Arc::clone(&breaker), Bulkhead::new(bulkhead, BulkheadMeters::none()));
    (clock, breaker, Arc::new(guard))
}

fn away() -> Option<BrokerError> {
    Some(BrokerError::Away("connection refused".into()))
}

fn packs(n: u8) -> Vec<PackMessage> {
    let pack = |n| PackMessage { message_id: format!("m{n}"), route: NORMAL, body: Bytes::new(), mac: [n; 32] };
    (0..n).map(pack).collect()
}

#[tokio::test]
async fn an_absent_broker_is_left_alone_and_found_again() {
    let (clock, breaker, guard) = guard(BulkheadRules::default());
    let dependency = Arc::new(Dependency::default());
    let broker = GuardedBroker::new(dependency.clone(), guard);
    dependency.is(away());
    for _ in 0..5 {
        assert_eq!(broker.publish_packs(packs(2)).await, [Ok(()), Err(BrokerError::Away("connection refused".into()))]);
    }
    let refused = BrokerError::Away("the circuit is open, the next try is in 30.0 s".into());
    assert_eq!(broker.publish_packs(packs(3)).await, vec![Err(refused.clone()); 3], "a result a message");
    assert_eq!(refused.to_string(), "reach the broker: the circuit is open, the next try is in 30.0 s");
    let outcome =
        OutcomeMessage { message_id: "o".into(), tenant: TenantId::parse("acme").expect("legal"), body: Bytes::new() };
    assert_eq!(broker.publish_outcomes(vec![outcome]).await, [Err(refused)]);
    assert_eq!(dependency.asked(), 5, "nothing refused was asked");

    dependency.is(None);
    clock.pass(RECOVERY);
    assert_eq!(broker.publish_packs(packs(1)).await, [Ok(())]);
    assert_eq!(breaker.circuit(), Circuit::Closed);
}

#[tokio::test]
async fn answers_are_no_failures_and_nothing_asked_is_nothing_learned() {
    let (clock, breaker, guard) = guard(BulkheadRules::default());
    let dependency = Arc::new(Dependency::default());
    let broker = GuardedBroker::new(dependency.clone(), guard);
    for answer in [BrokerError::Refused, BrokerError::Unroutable("p001".into())] {
        dependency.is(Some(answer));
        for _ in 0..10 {
            broker.publish_packs(packs(1)).await;
        }
        assert_eq!(breaker.circuit(), Circuit::Closed);
    }
    dependency.is(Some(BrokerError::Blocked(Duration::from_secs(10))));
    for _ in 0..5 {
        broker.publish_packs(packs(1)).await;
    }
    assert_eq!(breaker.circuit(), Circuit::Open(RECOVERY), "a broker that takes nothing is as good as away");
    clock.pass(RECOVERY);
    assert!(broker.publish_packs(Vec::new()).await.is_empty());
    assert_eq!(breaker.circuit(), Circuit::Open(Duration::ZERO), "no message, no verdict");
}

#[tokio::test]
async fn streams_and_probes_are_never_refused_and_bring_the_good_news() {
    let (clock, breaker, guard) = guard(BulkheadRules::default());
    let dependency = Arc::new(Dependency::default());
    let broker = GuardedBroker::new(dependency.clone(), guard);
    dependency.is(away());
    for _ in 0..5 {
        assert!(broker.subscribe(NORMAL, 1).await.is_err());
    }
    assert_eq!(breaker.circuit(), Circuit::Open(RECOVERY), "an opening that fails counts");
    dependency.is(None);
    assert!(broker.subscribe(NORMAL, 1).await.is_ok());
    assert!(broker.inbox(1).await.is_ok() && broker.replies().await.is_ok() && broker.ping().await.is_ok());
    assert_eq!(breaker.circuit(), Circuit::Open(RECOVERY), "not before its time");
    clock.pass(RECOVERY);
    assert!(broker.ping().await.is_ok());
    assert_eq!(breaker.circuit(), Circuit::Closed, "the first success after it");
}

#[tokio::test]
async fn the_bulkhead_of_the_broker_counts_messages_and_its_overflow_is_no_failure() {
    let (_, breaker, guard) = guard(BulkheadRules { concurrent: 10, queued: 5 });
    let dependency = Arc::new(Dependency { slow: Some(Semaphore::new(0)), ..Dependency::default() });
    let broker = GuardedBroker::new(dependency.clone(), guard);
    let mut under_way = broker.publish_packs(packs(8));
    assert!(poll!(under_way.as_mut()).is_pending());
    let mut waits = broker.publish_packs(packs(5));
    assert!(poll!(waits.as_mut()).is_pending());
    assert_eq!(dependency.asked(), 1, "five more than eight are too many at once");
    let text = "too much is asked of it at once: 10 under way, 5 waiting (messages)";
    for _ in 0..10 {
        assert_eq!(broker.publish_packs(packs(3)).await, vec![Err(BrokerError::Away(text.into())); 3]);
    }
    assert_eq!(breaker.circuit(), Circuit::Closed, "the broker was not asked, so it did not fail");
    dependency.slow.as_ref().expect("slow").add_permits(2);
    assert_eq!((under_way.await.len(), waits.await.len(), dependency.asked()), (8, 5, 2));
}

#[tokio::test]
async fn who_waited_for_its_place_is_refused_when_the_circuit_opened_meanwhile() {
    let (_, breaker, guard) = guard(BulkheadRules { concurrent: 1, queued: 1 });
    let dependency = Arc::new(Dependency { slow: Some(Semaphore::new(0)), ..Dependency::default() });
    let broker = GuardedBroker::new(dependency.clone(), guard);
    let mut under_way = broker.publish_packs(packs(1));
    assert!(poll!(under_way.as_mut()).is_pending());
    let mut waits = broker.publish_packs(packs(1));
    assert!(poll!(waits.as_mut()).is_pending());
    dependency.is(away());
    for _ in 0..5 {
        assert!(broker.ping().await.is_err());
    }
    assert!(matches!(breaker.circuit(), Circuit::Open(_)));
    let at_once = broker.publish_packs(packs(1)).await;
    assert!(at_once[0].as_ref().is_err_and(|e| e.to_string().contains("the circuit is open")), "{at_once:?}");
    let asked = dependency.asked();
    dependency.slow.as_ref().expect("slow").add_permits(1);
    assert_eq!(under_way.await, [Ok(())]);
    assert!(waits.await[0].is_err());
    assert_eq!(dependency.asked(), asked, "the one that waited asked nobody");
    assert!(matches!(breaker.circuit(), Circuit::Open(_)), "and the late success closed nothing");
}

#[tokio::test]
async fn leases_are_left_alone_but_for_the_look_at_the_members() {
    let (clock, breaker, guard) = guard(BulkheadRules::default());
    let dependency = Arc::new(Dependency::default());
    let leases = GuardedLeases::new(dependency.clone(), guard);
    let (partition, me) = (PartitionId(0), WorkerId(Uuid::from_u128(1)));
    dependency.is(away());
    for _ in 0..5 {
        assert!(leases.renew(partition, me).await.is_err());
    }
    let refused = leases.acquire(partition, me).await.expect_err("open");
    assert_eq!(refused.to_string(), "reach the lease server: the circuit is open, the next try is in 30.0 s");
    assert!(leases.release(partition, me).await.is_err() && leases.holders(1).await.is_err());
    assert_eq!(dependency.asked(), 5);
    assert!(leases.members().await.is_err());
    assert_eq!(dependency.asked(), 6);
    clock.pass(RECOVERY);
    dependency.is(None);
    assert!(leases.members().await.is_ok());
    assert_eq!(breaker.circuit(), Circuit::Closed);
    assert!(leases.acquire(partition, me).await.expect("closed"));
}

#[tokio::test]
async fn an_absent_context_costs_no_time_while_its_circuit_is_open() {
    let (clock, breaker, guard) = guard(BulkheadRules::default());
    let dependency = Arc::new(Dependency::default());
    let context = GuardedContext::new(dependency.clone(), guard);
    dependency.is(away());
    for _ in 0..10 {
        assert!(context.observe(&[]).await.is_err());
    }
    assert_eq!(dependency.asked(), 5);
    clock.pass(RECOVERY);
    assert!(context.observe(&[]).await.is_err());
    assert_eq!((dependency.asked(), breaker.circuit()), (6, Circuit::Open(RECOVERY)));
    clock.pass(RECOVERY);
    dependency.is(None);
    assert!(context.observe(&[]).await.is_ok() && context.observe(&[]).await.is_ok());
}

#[tokio::test]
async fn what_a_fixed_few_ask_goes_around_the_crowd() {
    let (_, breaker, guard) = guard(BulkheadRules { concurrent: 2, queued: 1 });
    let dependency = Arc::new(Dependency { slow: Some(Semaphore::new(0)), ..Dependency::default() });
    let leases = GuardedLeases::new(dependency.clone(), guard);
    let (partition, me) = (PartitionId(0), WorkerId(Uuid::from_u128(1)));
    let mut crowd: Vec<_> = (0..3).map(|_| leases.acquire(partition, me)).collect();
    for one in &mut crowd {
        assert!(poll!(one.as_mut()).is_pending());
    }
    assert_eq!(dependency.asked(), 2, "two under way, one waits");
    let refused = leases.acquire(partition, me).await.expect_err("no room");
    assert_eq!(refused.to_string(), "reach the lease server: too much is asked of it at once: 2 under way, 1 waiting");
    assert!(leases.release(partition, me).await.is_ok() && leases.members().await.is_ok());
    for _ in 0..10 {
        assert!(leases.acquire(partition, me).await.is_err());
    }
    assert_eq!((breaker.circuit(), dependency.asked()), (Circuit::Closed, 4));
    dependency.slow.as_ref().expect("slow").add_permits(3);
    for one in crowd {
        assert!(one.await.expect("each in its turn"));
    }
    assert_eq!(dependency.asked(), 5);
}
