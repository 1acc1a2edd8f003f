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
//!
//! A broker can fail at making one queue and be sound otherwise: RabbitMQ leaves the members of a
//! quorum queue behind when a deletion and a declaration cross (rabbitmq-server#17457), and from then
//! on answers every declaration of that name with INTERNAL_ERROR, which ends the connection. So a
//! missing queue is declared on a connection of its own, or one partition would cut off all others;
//! and when the broker has failed at a quorum queue [`STUCK_AFTER`] times, it is asked for a classic
//! one. The store is the truth: what a classic queue may lose is published again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lapin::options::{ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ErrorKind, ExchangeKind, Queue};
use metrics::counter;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::QueueKind;
use super::link::{ANSWER_WITHIN, Link, answer, away, close};
use super::names::Names;
use crate::ports::{BrokerError, Route};
use crate::telemetry::names::CLASSIC_FALLBACKS;

/// AMQP reply code: no such queue or exchange.
const NOT_FOUND: u16 = 404;
/// AMQP reply code: what stands is not what was asked for.
const PRECONDITION_FAILED: u16 = 406;
/// AMQP reply code: the broker has failed.
const INTERNAL_ERROR: u16 = 541;
/// How often a broker may fail at a quorum queue. More than once: a cluster that is just coming up
/// fails, too.
const STUCK_AFTER: u32 = 3;
/// Connections that declare at once: each holds some 8 MiB of buffers, and a fleet's first worker finds
/// every queue missing.
const DECLARING_MAX: usize = 4;
/// Quorum queues of RabbitMQ 4 drop a message after 20 deliveries unless told otherwise. Attempts
/// are counted in the store, and giving up a subscription is no attempt: this is "never".
const DELIVERY_LIMIT: i32 = 1_000_000;
/// Parked messages stand in the store as well: nobody has to empty their queue.
const REJECTED_MAX: i32 = 100_000;

/// What declaring a queue of packs found.
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
    kind: QueueKind,
    /// How often the broker has failed at a queue; at most one entry for each name of the fleet.
    failures: Mutex<HashMap<String, u32>>,
    /// Room for connections that declare.
    declaring: Semaphore,
}

impl Topology {
    pub(super) fn new(namespace: &str, kind: QueueKind) -> Self {
        let declaring = Semaphore::new(DECLARING_MAX);
        Self { names: Names::new(namespace), kind, failures: Mutex::default(), declaring }
    }

    /// Makes sure that a queue of packs stands and is bound.
    pub(super) async fn packs(&self, link: &Link, route: Route, role: Role) -> Result<Found, BrokerError> {
        let queue = self.names.packs(route);
        let existing = look(link, &queue).await?;
        let channel = link.channel().await?;
        if existing.is_none() && role == Role::Publisher {
            // Before the queue stands: whoever sees the queue must not see the mark of the old one.
            let mark = self.names.consumed(route).into();
            answer(channel.exchange_delete(mark, ExchangeDeleteOptions::default())).await?;
        }
        let waiting = match existing {
            Some(queue) => queue.message_count(),
            None => self.declare_queue(link, &queue, FieldTable::default()).await?,
        };
        let exchange = self.names.events();
        declare_exchange(&channel, &exchange, ExchangeKind::Direct).await?;
        bind(&channel, &queue, &exchange, &route.to_string()).await?;
        let created = role == Role::Consumer && self.mark(link, &channel, route).await?;
        close(channel).await;
        Ok(Found { created, waiting })
    }

    /// Marks a queue as consumed; true when it was not.
    async fn mark(&self, link: &Link, channel: &Channel, route: Route) -> Result<bool, BrokerError> {
        let mark = self.names.consumed(route);
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
        if look(link, &inbox).await?.is_none() {
            self.declare_queue(link, &inbox, FieldTable::default()).await?;
        }
        let channel = link.channel().await?;
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
        let mut arguments = FieldTable::default();
        arguments.insert("x-max-length".into(), AMQPValue::LongInt(REJECTED_MAX));
        self.declare_queue(link, &rejected, arguments).await?;
        Ok(())
    }

    /// Makes a queue that does not stand; gives its messages, since another may have been first.
    async fn declare_queue(&self, link: &Link, name: &str, more: FieldTable) -> Result<u32, BrokerError> {
        let kind = self.kind_for(name);
        // Never closed; what holds a place has a deadline for every step.
        let _place = self.declaring.acquire().await;
        let connection = link.aside().await?;
        let channel = answer(connection.create_channel()).await?;
        let asked = channel.queue_declare(name.into(), QueueDeclareOptions::durable(), arguments(kind, more));
        let made = timeout(ANSWER_WITHIN, asked).await;
        // One that the broker has ended is as good as closed.
        let _ = timeout(ANSWER_WITHIN, connection.close(200, "OK".into())).await;
        match made {
            Ok(Ok(queue)) => {
                self.failures().remove(name);
                Ok(queue.message_count())
            }
            Ok(Err(error)) => {
                if is_internal(&error) {
                    *self.failures().entry(name.to_owned()).or_default() += 1;
                }
                Err(away(&error))
            }
            Err(_) => Err(BrokerError::Away("no answer in time".to_owned())),
        }
    }

    fn kind_for(&self, name: &str) -> QueueKind {
        let failures = self.failures().get(name).copied().unwrap_or(0);
        if self.kind == QueueKind::Classic || failures < STUCK_AFTER {
            return self.kind;
        }
        counter!(CLASSIC_FALLBACKS).increment(1);
        tracing::error!(broker.queue = %name, failures, "the broker can't make this quorum queue; making a classic one");
        QueueKind::Classic
    }

    fn failures(&self) -> MutexGuard<'_, HashMap<String, u32>> {
        // Single counts: a poisoned lock guards good data.
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the broker says against declaring a queue that stands as this fleet would; nothing when
    /// it agrees.
    pub(super) async fn mismatch(&self, link: &Link, queue: &str) -> Result<Option<String>, BrokerError> {
        let probe = link.channel().await?;
        let arguments = arguments(self.kind, FieldTable::default());
        let asked = probe.queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments);
        let told = answer(async {
            match asked.await {
                Ok(_) => Ok(None),
                Err(error) => match error.kind() {
                    ErrorKind::ProtocolError(told) if told.get_id() == PRECONDITION_FAILED => {
                        Ok(Some(told.get_message().to_string()))
                    }
                    _ => Err(error),
                },
            }
        })
        .await?;
        if told.is_none() {
            close(probe).await;
        }
        Ok(told)
    }
}

fn arguments(kind: QueueKind, mut more: FieldTable) -> FieldTable {
    more.insert("x-queue-type".into(), AMQPValue::LongString(kind.as_str().into()));
    if kind == QueueKind::Quorum {
        more.insert("x-delivery-limit".into(), AMQPValue::LongInt(DELIVERY_LIMIT));
    }
    more
}

fn is_internal(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(told) if told.get_id() == INTERNAL_ERROR)
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
