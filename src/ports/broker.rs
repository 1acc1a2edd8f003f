//! The queues: packs to workers, outcomes to downstream consumers, replies to waiting requests,
//! and the inbox of queue producers. Speed, not truth: everything sent here stands in the store.

use async_trait::async_trait;
use bytes::Bytes;
use std::fmt;
use tokio::sync::mpsc;

use crate::domain::{PartitionId, TenantId};

/// Why a message did not get through; completes "failed to …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// No connection, or it broke before the answer: the outcome is unknown.
    #[error("reach the broker: {0}")]
    Away(String),
    /// The broker has stopped taking messages (memory or disk alarm) for longer than the deadline.
    #[error("publish within {0:?}: the broker does not confirm")]
    Blocked(std::time::Duration),
    /// No queue is bound: the message came back.
    #[error("route the message: no queue for {0}")]
    Unroutable(String),
    /// The broker refused the message.
    #[error("publish: the broker refused the message")]
    Refused,
}

/// Which of a partition's two queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Traffic {
    /// Events of tenants within their rate.
    Normal,
    /// Events of tenants above it: drained behind the others.
    Bulk,
}

/// A queue of the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Route {
    /// Whose events.
    pub partition: PartitionId,
    /// Which of its queues.
    pub traffic: Traffic,
}

impl Route {
    /// The queue of a partition's tenants within their rate.
    pub const fn normal(partition: PartitionId) -> Self {
        Self { partition, traffic: Traffic::Normal }
    }

    /// The queue of a partition's tenants above their rate.
    pub const fn bulk(partition: PartitionId) -> Self {
        Self { partition, traffic: Traffic::Bulk }
    }
}

/// As in the names of queues: `p007`, `p007.bulk`.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.traffic {
            Traffic::Normal => write!(f, "{}", self.partition),
            Traffic::Bulk => write!(f, "{}.bulk", self.partition),
        }
    }
}

/// A pack on its way to a partition's queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackMessage {
    /// The same on every publication of the same content.
    pub message_id: String,
    /// Which queue.
    pub route: Route,
    /// The text of a `domain::pack::Pack`.
    pub body: Bytes,
    /// Its HMAC-SHA256 under the fleet's secret.
    pub mac: [u8; 32],
}

/// Outcomes of one tenant and commit: a JSON array of decisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutcomeMessage {
    /// The same on every publication of the same content.
    pub message_id: String,
    /// Whose; gives the routing key.
    pub tenant: TenantId,
    /// JSON array of decisions.
    pub body: Bytes,
}

/// Takes the responsibility for a message back from the broker.
#[async_trait]
pub trait Ack: Send + Sync {
    /// Acknowledges. `Ok(false)`: the broker no longer knows the delivery and will send it again.
    ///
    /// # Errors
    /// When the broker is away: it will send the message again.
    async fn ack(&self) -> Result<bool, BrokerError>;
}

/// A message of a partition queue.
pub struct Delivery {
    /// As published; empty when a foreign publisher gave none.
    pub message_id: String,
    /// From which queue.
    pub route: Route,
    /// Whether the broker sent it before.
    pub redelivered: bool,
    /// The text of a pack, to be believed only when [`Delivery::mac`] agrees.
    pub body: Bytes,
    /// What the message claims to be its HMAC.
    pub mac: Option<[u8; 32]>,
    /// Its acknowledgement.
    pub ack: Box<dyn Ack>,
}

/// A consumer on one partition queue. Dropping it closes the consumer, and everything that was
/// delivered and not acknowledged goes back to the queue.
pub struct Subscription {
    /// Deliveries; the end of the stream is a failure to be answered with a new subscription.
    pub deliveries: mpsc::Receiver<Delivery>,
    /// True when the queue did not exist and had to be made: what it held is lost, refill it.
    pub created: bool,
    /// Messages that were waiting at the time.
    pub waiting: u32,
}

/// A message of the inbox queue.
pub struct InboxDelivery {
    /// The producer's `message_id`: the idempotency key.
    pub message_id: Option<String>,
    /// The producer's `correlation_id` property.
    pub correlation_id: Option<String>,
    /// The user id that the broker has validated.
    pub user_id: Option<String>,
    /// The header `authorization`.
    pub authorization: Option<String>,
    /// The `content_type` property.
    pub content_type: Option<String>,
    /// The header `traceparent`.
    pub traceparent: Option<String>,
    /// The text.
    pub body: Bytes,
    /// Its acknowledgement.
    pub ack: Box<dyn Ack>,
}

/// A decision that a waiting request is told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyMessage {
    /// The queue named in the event's pack.
    pub queue: String,
    /// JSON array of decisions as shown.
    pub body: Bytes,
}

/// The queue on which this process hears of decisions that it waits for.
pub struct Replies {
    /// Its name, to be put into packs.
    pub queue: String,
    /// Bodies of [`ReplyMessage`]s; the end of the stream is a failure.
    pub messages: mpsc::Receiver<Bytes>,
}

/// The broker. Every wait in it has a deadline; it reconnects by itself and reports what failed
/// meanwhile.
#[async_trait]
pub trait Broker: Send + Sync {
    /// Publishes packs, all at once, and waits for every confirm. Gives one result a pack, in
    /// order.
    async fn publish_packs(&self, packs: Vec<PackMessage>) -> Vec<Result<(), BrokerError>>;

    /// Publishes outcomes, all at once, and waits for every confirm. An outcome that nobody
    /// listens to is published well.
    async fn publish_outcomes(&self, outcomes: Vec<OutcomeMessage>) -> Vec<Result<(), BrokerError>>;

    /// Tells waiting requests. Not confirmed, not repeated: a waiter that does not hear reads the
    /// store.
    async fn reply(&self, replies: Vec<ReplyMessage>);

    /// Consumes one queue of a partition with at most `prefetch` unacknowledged messages.
    ///
    /// # Errors
    /// When the broker is away.
    async fn subscribe(&self, route: Route, prefetch: u16) -> Result<Subscription, BrokerError>;

    /// Consumes the inbox with at most `prefetch` unacknowledged messages.
    ///
    /// # Errors
    /// When the broker is away.
    async fn inbox(&self, prefetch: u16) -> Result<mpsc::Receiver<InboxDelivery>, BrokerError>;

    /// Parks an inbox message that can't be taken, with its reason in the header `x-reason`, and
    /// waits for the confirm.
    ///
    /// # Errors
    /// When it did not get through: the inbox message must not be acknowledged.
    async fn park(&self, message: &InboxDelivery, reason: &str) -> Result<(), BrokerError>;

    /// Opens this process's reply queue.
    ///
    /// # Errors
    /// When the broker is away.
    async fn replies(&self) -> Result<Replies, BrokerError>;

    /// Whether the broker answers now.
    ///
    /// # Errors
    /// When it does not.
    async fn ping(&self) -> Result<(), BrokerError>;
}
