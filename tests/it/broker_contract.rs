//! The contract of `Broker`, on RabbitMQ and in process.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use riskfleet::adapters::memory::broker::{InboxMessage, MemoryBroker, MemoryLimits};
use riskfleet::domain::{PartitionId, TenantId};
use riskfleet::ports::broker::ReplyMessage;
use riskfleet::ports::{Broker, BrokerError, Delivery, OutcomeMessage, PackMessage, Route, Subscription};
use tokio::sync::mpsc;
use tokio::time::timeout;

mod rabbit;

const P: Route = Route::normal(PartitionId(0));
const BULK: Route = Route::bulk(PartitionId(0));
const OTHER: Route = Route::normal(PartitionId(1));
/// For what must come; long, because machines are busy.
const SOON: Duration = Duration::from_secs(10);
/// For what must not come.
const NEVER: Duration = Duration::from_millis(400);

/// An outcome as a downstream consumer gets it.
#[derive(Debug, PartialEq, Eq)]
struct Heard {
    message_id: String,
    body: Bytes,
}

/// What the tests need beside the port: the other ends of the queues.
#[async_trait]
trait Bench: Send + Sync {
    fn broker(&self) -> &dyn Broker;
    /// Outcomes of one tenant, from now on.
    async fn listen(&self, tenant: &TenantId) -> mpsc::Receiver<Heard>;
    async fn send_inbox(&self, message: InboxMessage);
    /// The next parked message: id, reason, body.
    async fn parked(&self) -> (Option<String>, String, Bytes);
}

/// Runs a test of the contract on both adapters.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod in_process {
            $(#[tokio::test]
            async fn $name() {
                super::$name(&super::InProcess::new()).await;
            })*
        }
        mod on_rabbitmq {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let server = super::rabbit::Server::new();
                super::$name(&server).await;
                server.clean().await;
            })*
        }
    };
}

on_both!(
    packs_arrive_whole_and_are_acknowledged_once,
    what_is_not_acknowledged_comes_back,
    prefetch_holds,
    created_is_said_once,
    a_great_many_packs_are_confirmed,
    partitions_are_apart,
    a_partitions_two_queues_are_apart,
    each_queue_is_new_by_itself,
    outcomes_reach_their_tenants_listeners,
    outcomes_without_listeners_are_well,
    replies_reach_the_process_that_waits,
    the_inbox_gives_what_producers_sent,
    parked_messages_keep_their_reason,
    a_broker_that_is_there_answers,
);

struct InProcess(Arc<MemoryBroker>);

impl InProcess {
    fn new() -> Self {
        Self(Arc::new(MemoryBroker::new(MemoryLimits::default())))
    }
}

#[async_trait]
impl Bench for InProcess {
    fn broker(&self) -> &dyn Broker {
        &*self.0
    }

    async fn listen(&self, tenant: &TenantId) -> mpsc::Receiver<Heard> {
        let (sender, receiver) = mpsc::channel(100);
        let (tenant, mut outcomes) = (tenant.clone(), self.0.outcomes());
        tokio::spawn(async move {
            while let Ok(outcome) = outcomes.recv().await {
                let heard = Heard { message_id: outcome.message_id, body: outcome.body };
                if outcome.tenant == tenant && sender.send(heard).await.is_err() {
                    break;
                }
            }
        });
        receiver
    }

    async fn send_inbox(&self, message: InboxMessage) {
        self.0.send_inbox(message).await.expect("room");
    }

    async fn parked(&self) -> (Option<String>, String, Bytes) {
        let parked = self.0.parked().pop().expect("a parked message");
        (parked.message_id, parked.reason, parked.body)
    }
}

fn pack(route: Route, n: usize) -> PackMessage {
    PackMessage {
        message_id: format!("pack-{n}"),
        route,
        body: Bytes::from(format!("{{\"n\":{n}}}")),
        mac: [n as u8; 32],
    }
}

async fn publish(broker: &dyn Broker, packs: Vec<PackMessage>) {
    let sent = packs.len();
    let results = broker.publish_packs(packs).await;
    assert_eq!(results, vec![Ok(()); sent]);
}

async fn subscribe(broker: &dyn Broker, prefetch: u16) -> Subscription {
    broker.subscribe(P, prefetch).await.expect("a subscription")
}

async fn next<T>(receiver: &mut mpsc::Receiver<T>) -> T {
    timeout(SOON, receiver.recv()).await.expect("in time").expect("an open stream")
}

async fn nothing_comes<T>(receiver: &mut mpsc::Receiver<T>) {
    assert!(timeout(NEVER, receiver.recv()).await.is_err(), "something came, or the stream ended");
}

async fn acknowledge(delivery: &Delivery) {
    assert_eq!(delivery.ack.ack().await, Ok(true));
}

async fn packs_arrive_whole_and_are_acknowledged_once(bench: &dyn Bench) {
    let broker = bench.broker();
    publish(broker, (0..3).map(|n| pack(P, n)).collect()).await;
    let mut subscription = subscribe(broker, 10).await;
    for n in 0..3 {
        let got = next(&mut subscription.deliveries).await;
        let sent = pack(P, n);
        assert_eq!((&got.message_id, &got.body, got.mac), (&sent.message_id, &sent.body, Some(sent.mac)));
        assert_eq!((got.route, got.redelivered), (P, false));
        acknowledge(&got).await;
        assert_eq!(got.ack.ack().await, Ok(false), "acknowledged twice");
    }
    drop(subscription);
    nothing_comes(&mut subscribe(broker, 10).await.deliveries).await;
}

async fn what_is_not_acknowledged_comes_back(bench: &dyn Bench) {
    let broker = bench.broker();
    publish(broker, (0..4).map(|n| pack(P, n)).collect()).await;
    let mut first = subscribe(broker, 3).await;
    acknowledge(&next(&mut first.deliveries).await).await;
    let held = next(&mut first.deliveries).await;
    drop(first);
    let mut second = subscribe(broker, 10).await;
    let mut again = BTreeSet::new();
    for _ in 0..3 {
        let got = next(&mut second.deliveries).await;
        assert!(got.redelivered || got.message_id == "pack-3", "{} is not marked", got.message_id);
        acknowledge(&got).await;
        again.insert(got.message_id);
    }
    assert_eq!(again.into_iter().collect::<Vec<_>>(), ["pack-1", "pack-2", "pack-3"]);
    assert_eq!(held.ack.ack().await, Ok(false), "the broker gave this one to somebody else");
    nothing_comes(&mut second.deliveries).await;
}

async fn prefetch_holds(bench: &dyn Bench) {
    let broker = bench.broker();
    let mut subscription = subscribe(broker, 2).await;
    publish(broker, (0..5).map(|n| pack(P, n)).collect()).await;
    let first = next(&mut subscription.deliveries).await;
    let _second = next(&mut subscription.deliveries).await;
    nothing_comes(&mut subscription.deliveries).await;
    acknowledge(&first).await;
    let _third = next(&mut subscription.deliveries).await;
    nothing_comes(&mut subscription.deliveries).await;
}

async fn created_is_said_once(bench: &dyn Bench) {
    let broker = bench.broker();
    // The publisher makes the queue, and the first consumer is told of it all the same.
    publish(broker, vec![pack(P, 0), pack(P, 1)]).await;
    let first = subscribe(broker, 1).await;
    assert!(first.created);
    assert_eq!(first.waiting, 2);
    drop(first);
    assert!(!subscribe(broker, 1).await.created);
    publish(broker, vec![pack(P, 2)]).await;
    assert!(!subscribe(broker, 1).await.created);
    assert!(broker.subscribe(OTHER, 1).await.expect("a subscription").created);
}

async fn a_great_many_packs_are_confirmed(bench: &dyn Bench) {
    let broker = bench.broker();
    // More than one call may have unconfirmed, in two calls at once.
    let (left, right) = tokio::join!(
        broker.publish_packs((0..1500).map(|n| pack(P, n)).collect()),
        broker.publish_packs((1500..3000).map(|n| pack(P, n)).collect()),
    );
    assert!(left.iter().chain(&right).all(Result::is_ok));
    let mut subscription = subscribe(broker, 500).await;
    let mut ids = BTreeSet::new();
    for _ in 0..3000 {
        let got = next(&mut subscription.deliveries).await;
        acknowledge(&got).await;
        ids.insert(got.message_id);
    }
    assert_eq!(ids.len(), 3000);
}

async fn partitions_are_apart(bench: &dyn Bench) {
    let broker = bench.broker();
    publish(broker, vec![pack(P, 0), pack(OTHER, 1)]).await;
    let mut one = broker.subscribe(OTHER, 5).await.expect("a subscription");
    assert_eq!(next(&mut one.deliveries).await.message_id, "pack-1");
    nothing_comes(&mut one.deliveries).await;
}

async fn a_partitions_two_queues_are_apart(bench: &dyn Bench) {
    let broker = bench.broker();
    publish(broker, vec![pack(P, 0), pack(BULK, 1), pack(BULK, 2)]).await;
    let mut bulk = broker.subscribe(BULK, 5).await.expect("a subscription");
    assert_eq!(bulk.waiting, 2);
    for n in [1, 2] {
        let got = next(&mut bulk.deliveries).await;
        assert_eq!((got.route, got.message_id.clone()), (BULK, format!("pack-{n}")));
        acknowledge(&got).await;
    }
    nothing_comes(&mut bulk.deliveries).await;
    let mut normal = subscribe(broker, 5).await;
    let got = next(&mut normal.deliveries).await;
    assert_eq!((got.route, got.message_id.as_str()), (P, "pack-0"));
    acknowledge(&got).await;
    nothing_comes(&mut normal.deliveries).await;
}

async fn each_queue_is_new_by_itself(bench: &dyn Bench) {
    let broker = bench.broker();
    assert!(subscribe(broker, 1).await.created);
    publish(broker, vec![pack(BULK, 0)]).await;
    assert!(broker.subscribe(BULK, 1).await.expect("a subscription").created, "its own mark, not its sister's");
    assert!(!broker.subscribe(BULK, 1).await.expect("a subscription").created);
    assert!(!subscribe(broker, 1).await.created);
}

fn tenant(raw: &str) -> TenantId {
    TenantId::parse(raw).expect("legal")
}

fn outcome(of: &str, n: usize) -> OutcomeMessage {
    OutcomeMessage { message_id: format!("outcome-{n}"), tenant: tenant(of), body: Bytes::from(format!("[{n}]")) }
}

async fn outcomes_reach_their_tenants_listeners(bench: &dyn Bench) {
    let mut dotted = bench.listen(&tenant("acme.x")).await;
    let mut plain = bench.listen(&tenant("acme")).await;
    let results = bench.broker().publish_outcomes(vec![outcome("acme.x", 1), outcome("acme", 2)]).await;
    assert_eq!(results, [Ok(()), Ok(())]);
    let heard = |n| Heard { message_id: format!("outcome-{n}"), body: Bytes::from(format!("[{n}]")) };
    assert_eq!(next(&mut dotted).await, heard(1));
    assert_eq!(next(&mut plain).await, heard(2));
    nothing_comes(&mut dotted).await;
    nothing_comes(&mut plain).await;
}

async fn outcomes_without_listeners_are_well(bench: &dyn Bench) {
    let longest = ".".repeat(128);
    let results = bench.broker().publish_outcomes(vec![outcome("nobody", 1), outcome(&longest, 2)]).await;
    assert_eq!(results, [Ok(()), Ok(())]);
}

async fn replies_reach_the_process_that_waits(bench: &dyn Bench) {
    let broker = bench.broker();
    let (mut one, mut other) = (broker.replies().await.expect("a queue"), broker.replies().await.expect("a queue"));
    assert_ne!(one.queue, other.queue);
    let to = |queue: &str, body: &'static str| ReplyMessage { queue: queue.to_owned(), body: body.into() };
    let endless = "x".repeat(300);
    broker.reply(vec![to("no.such.queue", "?"), to(&endless, "?"), to(&one.queue, "a"), to(&other.queue, "b")]).await;
    assert_eq!(next(&mut one.messages).await, "a");
    assert_eq!(next(&mut other.messages).await, "b");
    drop(one.messages);
    broker.reply(vec![to(&one.queue, "gone"), to(&other.queue, "c")]).await;
    assert_eq!(next(&mut other.messages).await, "c");
}

async fn the_inbox_gives_what_producers_sent(bench: &dyn Bench) {
    let mut inbox = bench.broker().inbox(5).await.expect("an inbox");
    let full = InboxMessage {
        message_id: Some("key-1".to_owned()),
        correlation_id: Some("c-1".to_owned()),
        user_id: None,
        authorization: Some("Bearer token".to_owned()),
        content_type: Some("application/json".to_owned()),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        body: Bytes::from_static(b"{}"),
    };
    let bare = InboxMessage { body: Bytes::from_static(b"?"), ..InboxMessage::default() };
    bench.send_inbox(full.clone()).await;
    bench.send_inbox(bare.clone()).await;
    for sent in [full, bare] {
        let got = next(&mut inbox).await;
        let read = InboxMessage {
            message_id: got.message_id,
            correlation_id: got.correlation_id,
            user_id: got.user_id,
            authorization: got.authorization,
            content_type: got.content_type,
            traceparent: got.traceparent,
            body: got.body,
        };
        assert_eq!(read, sent);
        assert_eq!(got.ack.ack().await, Ok(true));
    }
}

async fn parked_messages_keep_their_reason(bench: &dyn Bench) {
    let broker = bench.broker();
    let mut inbox = broker.inbox(5).await.expect("an inbox");
    for id in [Some("key-1".to_owned()), None] {
        let body = Bytes::from_static(b"not json");
        bench.send_inbox(InboxMessage { message_id: id.clone(), body: body.clone(), ..InboxMessage::default() }).await;
        let got = next(&mut inbox).await;
        broker.park(&got, "failed to read: ä").await.expect("parked");
        assert_eq!(got.ack.ack().await, Ok(true));
        assert_eq!(bench.parked().await, (id, "failed to read: ä".to_owned(), body));
    }
}

async fn a_broker_that_is_there_answers(bench: &dyn Bench) {
    assert_eq!(bench.broker().ping().await, Ok(()));
}

#[tokio::test]
async fn a_full_queue_in_process_blocks_until_there_is_room() {
    let limits = MemoryLimits { queue_messages: 2, deadline: NEVER, ..MemoryLimits::default() };
    let broker = Arc::new(MemoryBroker::new(limits));
    let results = broker.publish_packs((0..3).map(|n| pack(P, n)).collect()).await;
    assert_eq!(results, [Ok(()), Ok(()), Err(BrokerError::Blocked(limits.deadline))]);
    // The full partition holds up nobody else.
    publish(&*broker, vec![pack(OTHER, 0)]).await;
    let waiting = tokio::spawn({
        let broker = Arc::clone(&broker);
        async move { broker.publish_packs(vec![pack(P, 9)]).await }
    });
    let mut subscription = subscribe(&*broker, 1).await;
    acknowledge(&next(&mut subscription.deliveries).await).await;
    assert_eq!(waiting.await.expect("no panic"), [Ok(())]);
    assert_eq!(broker.waiting(P), 1);
}
