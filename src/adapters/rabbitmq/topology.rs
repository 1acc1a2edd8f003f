//! Owns the declaration of exchanges and queues. Never publishes or consumes.
//!
//! # Decisions
//! A queue is looked for before it is declared: one that stands with other arguments (another type,
//! an operator's policy) is used as it is instead of closing the channel at every start.
//!
//! Publishers make missing queues too, so a worker can't tell by the queue alone that it is new:
//! after a broker has lost its data, an ingest process is often back first. An exchange without
//! bindings is the mark that a worker has consumed this queue; who makes the queue as a publisher
//! deletes the mark.

use lapin::options::{ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ErrorKind, ExchangeKind, Queue};

use super::QueueKind;
use super::link::{Link, answer, close};
use super::names::Names;
use crate::domain::PartitionId;
use crate::ports::BrokerError;

/// AMQP reply code: no such queue or exchange.
const NOT_FOUND: u16 = 404;
/// Quorum queues of RabbitMQ 4 drop a message after 20 deliveries unless told otherwise. Attempts
/// are counted in the store, and giving up a subscription is no attempt: this is "never".
const DELIVERY_LIMIT: i32 = 1_000_000;
/// Parked messages stand in the store as well: nobody has to empty their queue.
const REJECTED_MAX: i32 = 100_000;

/// What declaring a partition's queue found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    /// No worker has consumed this queue before.
    pub(super) created: bool,
    /// Messages ready.
    pub(super) waiting: u32,
}

/// Who declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Publisher,
    Consumer,
}

/// The declarations of one fleet.
pub(super) struct Topology {
    pub(super) names: Names,
    pub(super) kind: QueueKind,
}

impl Topology {
    /// Makes sure that a partition's queue stands and is bound.
    pub(super) async fn partition(&self, link: &Link, id: PartitionId, role: Role) -> Result<Found, BrokerError> {
        let queue = self.names.partition(id);
        let existing = look(link, &queue).await?;
        let channel = link.channel().await?;
        if existing.is_none() && role == Role::Publisher {
            // Before the queue stands: whoever sees the queue must not see the mark of the old one.
            let mark = self.names.consumed(id).into();
            answer(channel.exchange_delete(mark, ExchangeDeleteOptions::default())).await?;
        }
        let waiting = match existing {
            Some(queue) => queue.message_count(),
            None => self.declare_queue(&channel, &queue, FieldTable::default()).await?,
        };
        let exchange = self.names.events();
        declare_exchange(&channel, &exchange, ExchangeKind::Direct).await?;
        bind(&channel, &queue, &exchange, &id.to_string()).await?;
        let created = role == Role::Consumer && self.mark(link, &channel, id).await?;
        close(channel).await;
        Ok(Found { created, waiting })
    }

    /// Marks the partition's queue as consumed; true when it was not.
    async fn mark(&self, link: &Link, channel: &Channel, id: PartitionId) -> Result<bool, BrokerError> {
        let mark = self.names.consumed(id);
        let probe = link.channel().await?;
        let passive = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        let asked = probe.exchange_declare(mark.as_str().into(), ExchangeKind::Direct, passive, FieldTable::default());
        let missing = missing(asked).await?.is_none();
        if missing {
            declare_exchange(channel, &mark, ExchangeKind::Direct).await?;
        } else {
            close(probe).await;
        }
        Ok(missing)
    }

    /// Makes sure that the exchange of outcomes stands.
    pub(super) async fn decisions(&self, link: &Link) -> Result<(), BrokerError> {
        let channel = link.channel().await?;
        declare_exchange(&channel, &self.names.decisions(), ExchangeKind::Topic).await?;
        close(channel).await;
        Ok(())
    }

    /// Makes sure that the inbox stands. Its exchange is a fanout: producers need no routing key.
    pub(super) async fn inbox(&self, link: &Link) -> Result<(), BrokerError> {
        let inbox = self.names.inbox();
        let found = look(link, &inbox).await?;
        let channel = link.channel().await?;
        if found.is_none() {
            self.declare_queue(&channel, &inbox, FieldTable::default()).await?;
        }
        declare_exchange(&channel, &inbox, ExchangeKind::Fanout).await?;
        bind(&channel, &inbox, &inbox, "").await?;
        close(channel).await;
        Ok(())
    }

    /// Makes sure that the queue of parked inbox messages stands.
    pub(super) async fn rejected(&self, link: &Link) -> Result<(), BrokerError> {
        let rejected = self.names.rejected();
        if look(link, &rejected).await?.is_some() {
            return Ok(());
        }
        let channel = link.channel().await?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-max-length".into(), AMQPValue::LongInt(REJECTED_MAX));
        self.declare_queue(&channel, &rejected, arguments).await?;
        close(channel).await;
        Ok(())
    }

    async fn declare_queue(&self, channel: &Channel, name: &str, mut more: FieldTable) -> Result<u32, BrokerError> {
        more.insert("x-queue-type".into(), AMQPValue::LongString(self.kind.as_str().into()));
        if self.kind == QueueKind::Quorum {
            more.insert("x-delivery-limit".into(), AMQPValue::LongInt(DELIVERY_LIMIT));
        }
        let queue = answer(channel.queue_declare(name.into(), QueueDeclareOptions::durable(), more)).await?;
        Ok(queue.message_count())
    }
}

/// A queue as it stands, or nothing. On a channel of its own: "no" closes it.
pub(super) async fn look(link: &Link, queue: &str) -> Result<Option<Queue>, BrokerError> {
    let probe = link.channel().await?;
    let passive = QueueDeclareOptions::default().passive();
    let found = missing(probe.queue_declare(queue.into(), passive, FieldTable::default())).await?;
    if found.is_some() {
        close(probe).await;
    }
    Ok(found)
}

/// The answer, or nothing when the broker says that there is no such thing.
async fn missing<T>(asked: impl Future<Output = lapin::Result<T>>) -> Result<Option<T>, BrokerError> {
    answer(async {
        match asked.await {
            Ok(found) => Ok(Some(found)),
            Err(error) => match error.kind() {
                ErrorKind::ProtocolError(told) if told.get_id() == NOT_FOUND => Ok(None),
                _ => Err(error),
            },
        }
    })
    .await
}

async fn declare_exchange(channel: &Channel, name: &str, kind: ExchangeKind) -> Result<(), BrokerError> {
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    answer(channel.exchange_declare(name.into(), kind, durable, FieldTable::default())).await
}

async fn bind(channel: &Channel, queue: &str, exchange: &str, key: &str) -> Result<(), BrokerError> {
    let options = QueueBindOptions::default();
    answer(channel.queue_bind(queue.into(), exchange.into(), key.into(), options, FieldTable::default())).await
}
