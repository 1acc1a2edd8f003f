//! The broker on RabbitMQ (3.10 and later): packs, outcomes, replies and the inbox.
//!
//! Owns the server's exchanges and queues under the fleet's namespace. Never keeps an attempt
//! count, never acknowledges: both are the caller's.
//!
//! # Decisions
//! Two connections: a broker under memory or disk alarm stops reading from connections that
//! publish, and acknowledgements and declarations must go on meanwhile.

mod checkup;
mod consume;
mod link;
mod names;
mod publish;
mod topology;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::uri::AMQPUri;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{Mutex, mpsc};

pub use self::checkup::checkup;
use self::link::{Link, close};
pub use self::names::Names;
use self::publish::{Outgoing, Publisher};
use self::topology::{Role, Topology, look};
use crate::ports::broker::{InboxDelivery, Replies, ReplyMessage};
use crate::ports::{Broker, BrokerError, Entropy, OutcomeMessage, PackMessage, Route, Subscription};
use crate::telemetry::names::link::{CONSUMING, PUBLISHING};

/// Delivery mode 2: written to disk.
const PERSISTENT: u8 = 2;
/// Characters of a park reason that are sent.
const REASON_MAX: usize = 1000;

/// How queues are kept by the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum QueueKind {
    /// Replicated over the cluster's nodes; on one node as fast as classic ones.
    #[default]
    Quorum,
    /// On one node.
    Classic,
}

impl QueueKind {
    /// The value of the queue argument `x-queue-type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quorum => "quorum",
            Self::Classic => "classic",
        }
    }
}

/// Where the broker is and how it is used.
#[derive(Debug, Clone)]
pub struct RabbitConfig {
    /// `amqp://user:password@host:port/vhost`, or `amqps://`.
    pub url: SecretString,
    /// Prefix of every name on the server.
    pub namespace: String,
    /// For queues that do not stand yet.
    pub queues: QueueKind,
    /// How long a publication may wait for its confirm.
    pub confirm_within: Duration,
}

impl RabbitConfig {
    /// Quorum queues, confirms within 10 s.
    pub fn new(url: SecretString, namespace: &str) -> Self {
        let confirm_within = Duration::from_secs(10);
        Self { url, namespace: namespace.to_owned(), queues: QueueKind::default(), confirm_within }
    }
}

/// The address is no AMQP address; completes "failed to …". Does not show it: it holds a password.
#[derive(Debug, Clone, thiserror::Error)]
#[error("read the AMQP address: {0}")]
pub struct BadAddress(String);

fn address(raw: &str) -> Result<AMQPUri, BadAddress> {
    raw.parse().map_err(|why: String| {
        // Some of the parser's complaints quote the whole address.
        let why = if why.contains(raw) { "must be amqp://user:password@host:port/vhost".to_owned() } else { why };
        BadAddress(why)
    })
}

/// What is known to stand on the server, since the connection of that number.
#[derive(Default)]
struct Declared {
    generation: u64,
    packs: HashSet<Route>,
    decisions: bool,
}

/// The broker on RabbitMQ.
pub struct RabbitBroker {
    publishing: Link,
    /// Consumers, declarations and questions.
    consuming: Link,
    publisher: Publisher,
    topology: Topology,
    declared: Mutex<Declared>,
    entropy: Arc<dyn Entropy>,
}

impl RabbitBroker {
    /// Starts to connect in the background and keeps trying. To be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the address can't be read; a broker that is away is no error.
    pub fn connect(config: &RabbitConfig, entropy: Arc<dyn Entropy>) -> Result<Self, BadAddress> {
        let uri = address(config.url.expose_secret())?;
        Ok(Self {
            publishing: Link::start(uri.clone(), PUBLISHING, Arc::clone(&entropy)),
            consuming: Link::start(uri, CONSUMING, Arc::clone(&entropy)),
            publisher: Publisher::new(config.confirm_within),
            topology: Topology::new(&config.namespace, config.queues),
            declared: Mutex::default(),
            entropy,
        })
    }

    /// Messages of a queue that are ready; 0 when it does not stand yet.
    ///
    /// # Errors
    /// When the broker is away.
    pub async fn waiting(&self, route: Route) -> Result<u32, BrokerError> {
        let queue = look(&self.consuming, &self.topology.names.packs(route)).await?;
        Ok(queue.map_or(0, |queue| queue.message_count()))
    }

    /// Makes sure that these queues stand; once a connection.
    async fn declare(&self, routes: impl Iterator<Item = Route>) -> Result<(), BrokerError> {
        let live = self.publishing.live().await?;
        let mut declared = self.declared(live.generation).await;
        for route in routes {
            if !declared.packs.contains(&route) {
                self.topology.packs(&self.consuming, route, Role::Publisher).await?;
                declared.packs.insert(route);
            }
        }
        Ok(())
    }

    /// What stands, for the connection of that number. Held while declaring, so that many callers
    /// do not declare the same at once; every step of it has a deadline.
    async fn declared(&self, generation: u64) -> tokio::sync::MutexGuard<'_, Declared> {
        let mut declared = self.declared.lock().await;
        if declared.generation != generation {
            *declared = Declared { generation, ..Declared::default() };
        }
        declared
    }

    async fn declare_decisions(&self) -> Result<(), BrokerError> {
        let live = self.publishing.live().await?;
        let mut declared = self.declared(live.generation).await;
        if !declared.decisions {
            self.topology.decisions(&self.consuming).await?;
            declared.decisions = true;
        }
        Ok(())
    }

    /// Publishes again, once, what came back because its queue was deleted meanwhile.
    async fn republish(&self, packs: &[Outgoing], routes: &[Route], results: &mut [Result<(), BrokerError>]) {
        let back: Vec<usize> =
            (0..packs.len()).filter(|at| matches!(results[*at], Err(BrokerError::Unroutable(_)))).collect();
        if back.is_empty() {
            return;
        }
        let gone: BTreeSet<Route> = back.iter().map(|at| routes[*at]).collect();
        tracing::warn!(broker.queues = gone.len(), "queues of packs are gone, making them again");
        self.declared.lock().await.packs.retain(|route| !gone.contains(route));
        if self.declare(gone.into_iter()).await.is_err() {
            return;
        }
        let again: Vec<Outgoing> = back.iter().map(|at| packs[*at].clone()).collect();
        for (at, result) in back.into_iter().zip(self.publisher.publish(&self.publishing, &again).await) {
            results[at] = result;
        }
    }

    fn pack(&self, pack: PackMessage) -> Outgoing {
        let mut headers = FieldTable::default();
        headers.insert("x-mac".into(), AMQPValue::LongString(hex::encode(pack.mac).into()));
        Outgoing {
            exchange: self.topology.names.events(),
            key: pack.route.to_string(),
            mandatory: true,
            properties: properties(&pack.message_id).with_headers(headers),
            body: pack.body,
        }
    }

    fn outcome(&self, outcome: OutcomeMessage) -> Outgoing {
        Outgoing {
            exchange: self.topology.names.decisions(),
            key: names::outcome_key(&outcome.tenant),
            mandatory: false,
            properties: properties(&outcome.message_id),
            body: outcome.body,
        }
    }

    fn parked(&self, message: &InboxDelivery, reason: &str) -> Outgoing {
        let reason: String = reason.chars().take(REASON_MAX).collect();
        let mut headers = FieldTable::default();
        headers.insert("x-reason".into(), AMQPValue::LongString(reason.into()));
        // Without its `authorization`: a credential is not left lying in a queue.
        let mut properties = BasicProperties::default().with_delivery_mode(PERSISTENT).with_headers(headers);
        if let Some(id) = message.message_id.as_deref().and_then(short) {
            properties = properties.with_message_id(id);
        }
        if let Some(id) = message.correlation_id.as_deref().and_then(short) {
            properties = properties.with_correlation_id(id);
        }
        if let Some(kind) = message.content_type.as_deref().and_then(short) {
            properties = properties.with_content_type(kind);
        }
        Outgoing {
            exchange: String::new(),
            key: self.topology.names.rejected(),
            mandatory: true,
            properties,
            body: message.body.clone(),
        }
    }
}

/// The properties of the fleet's own messages.
fn properties(message_id: &str) -> BasicProperties {
    let properties =
        BasicProperties::default().with_delivery_mode(PERSISTENT).with_content_type("application/json".into());
    match short(message_id) {
        Some(id) => properties.with_message_id(id),
        None => properties,
    }
}

/// A text as an AMQP short string, if it is short enough.
fn short(text: &str) -> Option<ShortString> {
    ShortString::try_new(text).ok()
}

#[async_trait]
impl Broker for RabbitBroker {
    async fn publish_packs(&self, packs: Vec<PackMessage>) -> Vec<Result<(), BrokerError>> {
        let routes: Vec<Route> = packs.iter().map(|pack| pack.route).collect();
        let distinct: BTreeSet<Route> = routes.iter().copied().collect();
        if let Err(error) = self.declare(distinct.into_iter()).await {
            return routes.iter().map(|_| Err(error.clone())).collect();
        }
        let packs: Vec<Outgoing> = packs.into_iter().map(|pack| self.pack(pack)).collect();
        let mut results = self.publisher.publish(&self.publishing, &packs).await;
        self.republish(&packs, &routes, &mut results).await;
        if results.iter().any(Result::is_err) {
            // Perhaps the exchange is gone, which closes the channel: look again next time.
            self.declared.lock().await.packs.clear();
        }
        results
    }

    async fn publish_outcomes(&self, outcomes: Vec<OutcomeMessage>) -> Vec<Result<(), BrokerError>> {
        if let Err(error) = self.declare_decisions().await {
            return outcomes.iter().map(|_| Err(error.clone())).collect();
        }
        let outcomes: Vec<Outgoing> = outcomes.into_iter().map(|outcome| self.outcome(outcome)).collect();
        let results = self.publisher.publish(&self.publishing, &outcomes).await;
        if results.iter().any(Result::is_err) {
            // As with packs.
            self.declared.lock().await.decisions = false;
        }
        results
    }

    async fn reply(&self, replies: Vec<ReplyMessage>) {
        let replies = replies.into_iter().map(|reply| (reply.queue, reply.body)).collect();
        self.publisher.reply(&self.publishing, replies).await;
    }

    async fn subscribe(&self, route: Route, prefetch: u16) -> Result<Subscription, BrokerError> {
        let found = self.topology.packs(&self.consuming, route, Role::Consumer).await?;
        let queue = self.topology.names.packs(route);
        let read = move |message| consume::delivery(route, message);
        let deliveries = consume::consume(&self.consuming, queue, prefetch, read).await?;
        Ok(Subscription { deliveries, created: found.created, waiting: found.waiting })
    }

    async fn inbox(&self, prefetch: u16) -> Result<mpsc::Receiver<InboxDelivery>, BrokerError> {
        self.topology.inbox(&self.consuming).await?;
        self.topology.rejected(&self.consuming).await?;
        consume::consume(&self.consuming, self.topology.names.inbox(), prefetch, consume::inbox_delivery).await
    }

    async fn park(&self, message: &InboxDelivery, reason: &str) -> Result<(), BrokerError> {
        let parked = [self.parked(message, reason)];
        let mut result = self.publisher.publish(&self.publishing, &parked).await.pop();
        if matches!(result, Some(Err(BrokerError::Unroutable(_)))) {
            self.topology.rejected(&self.consuming).await?;
            result = self.publisher.publish(&self.publishing, &parked).await.pop();
        }
        result.unwrap_or(Err(BrokerError::Refused))
    }

    async fn replies(&self) -> Result<Replies, BrokerError> {
        let queue = self.topology.names.reply(self.entropy.uuid());
        let messages: mpsc::Receiver<Bytes> = consume::replies(&self.consuming, &queue).await?;
        Ok(Replies { queue, messages })
    }

    async fn ping(&self) -> Result<(), BrokerError> {
        let channel = self.consuming.channel().await?;
        // Opening it was a round trip.
        close(channel).await;
        let publishing = self.publishing.live().await?;
        if publishing.connection.status().blocked() {
            return Err(BrokerError::Blocked(Duration::ZERO));
        }
        Ok(())
    }
}
