//! What only a real broker can do to its clients: queues that vanish, connections that break or
//! freeze, and nobody there at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use lapin::options::{
    BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ExchangeDeclareOptions, ExchangeDeleteOptions,
    QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::AMQPUri;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use riskfleet::adapters::memory::broker::InboxMessage;
use riskfleet::adapters::rabbitmq::{Names, QueueKind, RabbitBroker, RabbitConfig};
use riskfleet::domain::{PartitionId, TenantId};
use riskfleet::ports::{Broker, BrokerError, Entropy, Route};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc};

use super::{Bench, Heard, P, SOON, acknowledge, next, pack, publish, subscribe};
use crate::harness::{amqp_url, namespace};

struct Random;

impl Entropy for Random {
    fn bits(&self) -> u128 {
        uuid::Uuid::new_v4().as_u128()
    }
}

/// A fleet's corner of the server, as the adapter and as anybody else sees it.
pub(super) struct Server {
    pub(super) names: Names,
    broker: RabbitBroker,
}

impl Server {
    pub(super) fn new() -> Self {
        Self::at(&amqp_url(), &namespace(), QueueKind::default())
    }

    fn at(url: &str, namespace: &str, queues: QueueKind) -> Self {
        let config = RabbitConfig { queues, ..RabbitConfig::new(url.into(), namespace) };
        let broker = RabbitBroker::connect(&config, Arc::new(Random)).expect("an address");
        Self { names: Names::new(namespace), broker }
    }

    /// Deletes everything of the namespace.
    pub(super) async fn clean(self) {
        let (_connection, channel) = raw().await;
        let mut queues = vec![self.names.inbox(), self.names.rejected()];
        let mut exchanges = vec![self.names.events(), self.names.decisions(), self.names.inbox()];
        for p in (0..4).map(PartitionId) {
            for route in [Route::normal(p), Route::bulk(p)] {
                queues.push(self.names.packs(route));
                exchanges.push(self.names.consumed(route));
            }
        }
        for queue in queues {
            channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.expect("deleted");
        }
        for exchange in exchanges {
            channel.exchange_delete(exchange.into(), ExchangeDeleteOptions::default()).await.expect("deleted");
        }
    }

    async fn delete_queue(&self, route: Route) {
        let (_connection, channel) = raw().await;
        let queue = self.names.packs(route);
        channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.expect("deleted");
    }

    /// Waits until the broker answers, at most `SOON`.
    async fn recovers(&self) {
        let start = Instant::now();
        while self.broker.ping().await.is_err() {
            assert!(start.elapsed() < SOON, "the broker does not come back");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn raw() -> (Connection, Channel) {
    let connection = Connection::connect(&amqp_url(), ConnectionProperties::default()).await.expect("RabbitMQ");
    let channel = connection.create_channel().await.expect("a channel");
    (connection, channel)
}

#[async_trait]
impl Bench for Server {
    fn broker(&self) -> &dyn Broker {
        &self.broker
    }

    async fn listen(&self, tenant: &TenantId) -> mpsc::Receiver<Heard> {
        let (connection, channel) = raw().await;
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let exchange = self.names.decisions();
        let none = FieldTable::default;
        channel
            .exchange_declare(exchange.as_str().into(), ExchangeKind::Topic, durable, none())
            .await
            .expect("a topic");
        let queue = channel.queue_declare("".into(), QueueDeclareOptions::exclusive(), none()).await.expect("a queue");
        // Everything of this tenant, as its operators would bind it; not that of `tenant.other`.
        let key = format!("{}.#", tenant.as_str().replace('.', "%2E"));
        let (name, options) = (queue.name().clone(), QueueBindOptions::default());
        channel.queue_bind(name.clone(), exchange.into(), key.into(), options, none()).await.expect("bound");
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let mut consumer = channel.basic_consume(name, "".into(), options, none()).await.expect("a consumer");
        let (sender, receiver) = mpsc::channel(100);
        tokio::spawn(async move {
            let _open = connection;
            while let Some(Ok(message)) = consumer.next().await {
                assert_eq!(
                    message.properties.content_type().as_ref().map(ToString::to_string).as_deref(),
                    Some("application/json")
                );
                assert_eq!(*message.properties.delivery_mode(), Some(2));
                let message_id = message.properties.message_id().as_ref().expect("an id").to_string();
                if sender.send(Heard { message_id, body: Bytes::from(message.data) }).await.is_err() {
                    break;
                }
            }
        });
        receiver
    }

    async fn send_inbox(&self, message: InboxMessage) {
        let (_connection, channel) = raw().await;
        let mut properties = BasicProperties::default();
        if let Some(id) = message.message_id {
            properties = properties.with_message_id(id.into());
        }
        if let Some(id) = message.correlation_id {
            properties = properties.with_correlation_id(id.into());
        }
        if let Some(kind) = message.content_type {
            properties = properties.with_content_type(kind.into());
        }
        let mut headers = FieldTable::default();
        for (name, value) in [("authorization", message.authorization), ("traceparent", message.traceparent)] {
            if let Some(value) = value {
                headers.insert(name.into(), AMQPValue::LongString(value.into()));
            }
        }
        properties = properties.with_headers(headers);
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let exchange = self.names.inbox().into();
        channel.basic_publish(exchange, "any".into(), options, &message.body, properties).await.expect("sent");
        // Closing is answered after everything before it was handled.
        channel.close(200, "".into()).await.expect("closed");
    }

    async fn parked(&self) -> (Option<String>, String, Bytes) {
        let (_connection, channel) = raw().await;
        let queue = self.names.rejected();
        let got = channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await.expect("an answer");
        let message = got.expect("a parked message").delivery;
        let headers = message.properties.headers().as_ref().expect("headers").inner();
        let Some(AMQPValue::LongString(reason)) = headers.get("x-reason") else { panic!("no reason") };
        assert!(!headers.contains_key("authorization"));
        (message.properties.message_id().as_ref().map(ToString::to_string), reason.to_string(), message.data.into())
    }
}

/// A way to the server that can be cut and frozen.
struct Wire {
    url: String,
    cut: broadcast::Sender<()>,
    frozen: Arc<AtomicBool>,
}

impl Wire {
    async fn new() -> Self {
        let mut uri: AMQPUri = amqp_url().parse().expect("an address");
        let server = (uri.authority.host.clone(), uri.authority.port);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        uri.authority.host = "127.0.0.1".to_owned();
        uri.authority.port = listener.local_addr().expect("an address").port();
        let who = &uri.authority.userinfo;
        let vhost = uri.vhost.replace('/', "%2f");
        let url = format!("amqp://{}:{}@127.0.0.1:{}/{vhost}", who.username, who.password, uri.authority.port);
        let (cut, _) = broadcast::channel(1);
        let (wire, frozen) = (cut.clone(), Arc::new(AtomicBool::new(false)));
        let stop = Arc::clone(&frozen);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(server.clone()).await.expect("RabbitMQ");
                tokio::spawn(carry(client, server, wire.subscribe(), Arc::clone(&stop)));
            }
        });
        Self { url, cut, frozen }
    }

    fn cut(&self) {
        self.cut.send(()).expect("somebody to cut off");
    }
}

async fn carry(client: TcpStream, server: TcpStream, mut cut: broadcast::Receiver<()>, frozen: Arc<AtomicBool>) {
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let ahead = pump(from_client, to_server, Arc::clone(&frozen));
    let back = pump(from_server, to_client, frozen);
    tokio::select! {
        _ = cut.recv() => {}
        () = ahead => {}
        () = back => {}
    }
}

async fn pump(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    frozen: Arc<AtomicBool>,
) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        while frozen.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_queue_ends_its_subscription_and_is_made_again() {
    let server = Server::new();
    let broker = server.broker();
    publish(broker, vec![pack(P, 0)]).await;
    let mut subscription = subscribe(broker, 5).await;
    let lost = next(&mut subscription.deliveries).await;
    server.delete_queue(P).await;
    let ended = tokio::time::timeout(SOON, subscription.deliveries.recv()).await.expect("in time");
    assert!(ended.is_none(), "the stream goes on");
    // The old delivery may no longer count as acknowledged.
    drop(lost);
    // Packs for the vanished queue and for another one, mixed: each gets where it belongs, once.
    let packs = (0..400).map(|n| pack(if n % 2 == 0 { P } else { Route::bulk(P.partition) }, n)).collect();
    publish(broker, packs).await;
    assert_eq!(
        (server.broker.waiting(P).await, server.broker.waiting(Route::bulk(P.partition)).await),
        (Ok(200), Ok(200))
    );
    let again = subscribe(broker, 5).await;
    assert!(again.created, "the publisher made it, but no worker has consumed it yet");
    server.clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_exchanges_are_made_again() {
    let server = Server::new();
    publish(server.broker(), vec![pack(P, 0)]).await;
    assert_eq!(server.broker().publish_outcomes(vec![super::outcome("acme", 1)]).await, [Ok(())]);
    let (_connection, channel) = raw().await;
    for exchange in [server.names.events(), server.names.decisions()] {
        channel.exchange_delete(exchange.into(), ExchangeDeleteOptions::default()).await.expect("deleted");
    }
    // The first call may report the failure; what it must not do is go on failing.
    let first = server.broker().publish_packs(vec![pack(P, 1)]).await;
    assert!(matches!(first[0], Ok(()) | Err(BrokerError::Away(_))), "{first:?}");
    publish(server.broker(), vec![pack(P, 2)]).await;
    let first = server.broker().publish_outcomes(vec![super::outcome("acme", 2)]).await;
    assert!(matches!(first[0], Ok(()) | Err(BrokerError::Away(_))), "{first:?}");
    assert_eq!(server.broker().publish_outcomes(vec![super::outcome("acme", 3)]).await, [Ok(())]);
    server.clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_connection_comes_back_and_its_deliveries_too() {
    let wire = Wire::new().await;
    let server = Server::at(&wire.url, &namespace(), QueueKind::Classic);
    let broker = server.broker();
    publish(broker, vec![pack(P, 0), pack(P, 1)]).await;
    let mut replies = broker.replies().await.expect("a queue");
    let mut subscription = subscribe(broker, 5).await;
    let held = next(&mut subscription.deliveries).await;
    wire.cut();
    // The one that was delivered already may still come out; then the stream ends.
    let ended = tokio::time::timeout(SOON, async { while subscription.deliveries.recv().await.is_some() {} }).await;
    assert!(ended.is_ok(), "the stream goes on");
    assert!(tokio::time::timeout(SOON, replies.messages.recv()).await.expect("in time").is_none());
    assert_ne!(held.ack.ack().await, Ok(true), "acknowledged on a connection that is gone");
    server.recovers().await;
    publish(broker, vec![pack(P, 2)]).await;
    let mut again = subscribe(broker, 5).await;
    assert!(!again.created);
    let mut ids = Vec::new();
    for _ in 0..3 {
        let got = next(&mut again.deliveries).await;
        assert_eq!(got.redelivered, got.message_id != "pack-2");
        acknowledge(&got).await;
        ids.push(got.message_id);
    }
    ids.sort();
    assert_eq!(ids, ["pack-0", "pack-1", "pack-2"]);
    server.clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_broker_is_an_error_in_time_and_comes_back() {
    let wire = Wire::new().await;
    let server = Server::at(&wire.url, &namespace(), QueueKind::Quorum);
    publish(server.broker(), vec![pack(P, 0)]).await;
    wire.frozen.store(true, Ordering::Relaxed);
    let start = Instant::now();
    let results = server.broker().publish_packs(vec![pack(P, 1), pack(P, 2)]).await;
    assert!(results.iter().all(|r| matches!(r, Err(BrokerError::Blocked(_) | BrokerError::Away(_)))), "{results:?}");
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    assert!(server.broker().ping().await.is_err());
    wire.frozen.store(false, Ordering::Relaxed);
    server.recovers().await;
    publish(server.broker(), vec![pack(P, 1), pack(P, 2)]).await;
    server.clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_of_another_kind_is_used_as_it_is() {
    let (namespace, url) = (namespace(), amqp_url());
    let classic = Server::at(&url, &namespace, QueueKind::Classic);
    publish(classic.broker(), vec![pack(P, 0)]).await;
    let quorum = Server::at(&url, &namespace, QueueKind::Quorum);
    publish(quorum.broker(), vec![pack(P, 1)]).await;
    assert_eq!(subscribe(quorum.broker(), 5).await.waiting, 2);
    quorum.clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_an_error_in_time_and_not_at_the_start() {
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let server = Server::at(&format!("amqp://guest:guest@{free}"), &namespace(), QueueKind::Quorum);
    let broker = server.broker();
    let start = Instant::now();
    let results = broker.publish_packs(vec![pack(P, 0), pack(P, 1)]).await;
    assert!(results.len() == 2 && results.iter().all(|r| matches!(r, Err(BrokerError::Away(_)))), "{results:?}");
    assert!(matches!(broker.publish_outcomes(vec![super::outcome("acme", 1)]).await[..], [Err(BrokerError::Away(_))]));
    assert!(broker.subscribe(P, 1).await.is_err());
    assert!(broker.inbox(1).await.is_err());
    assert!(broker.replies().await.is_err());
    assert!(broker.ping().await.is_err());
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_address_is_told_without_its_password() {
    for bad in ["amqp:secret", "http://u:secret@h", "amqp://u:secret@h:port"] {
        let config = RabbitConfig::new(bad.into(), "riskfleet");
        let error = RabbitBroker::connect(&config, Arc::new(Random)).err().expect("no address").to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
