//! Owns the queues of a fleet that lives in one process. Never loses a message while the process
//! lives, never holds one longer.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use tokio::sync::{broadcast, mpsc};
use tokio::time::Instant;

use super::queue::{Bounds, Queue, Taken};
use crate::ports::broker::{InboxDelivery, Replies, ReplyMessage};
use crate::ports::{Ack, Broker, BrokerError, Delivery, OutcomeMessage, PackMessage, Route, Subscription};

/// Bounds of the in-process broker.
#[derive(Debug, Clone, Copy)]
pub struct MemoryLimits {
    /// Messages of one queue, unacknowledged ones included.
    pub queue_messages: usize,
    /// Bytes of one queue, unacknowledged ones included.
    pub queue_bytes: usize,
    /// Outcomes that a slow listener may be behind before it misses some.
    pub outcomes: usize,
    /// Bodies that a slow reply queue may be behind before it misses some.
    pub replies: usize,
    /// Parked inbox messages that are kept, the newest ones.
    pub parked: usize,
    /// How long a publication waits for room.
    pub deadline: Duration,
}

impl Default for MemoryLimits {
    fn default() -> Self {
        Self {
            queue_messages: 10_000,
            queue_bytes: 64 * 1024 * 1024,
            outcomes: 1024,
            replies: 1024,
            parked: 1000,
            deadline: Duration::from_secs(10),
        }
    }
}

/// A message as a producer would put it into the inbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InboxMessage {
    /// The idempotency key.
    pub message_id: Option<String>,
    /// The `correlation_id` property.
    pub correlation_id: Option<String>,
    /// The validated user.
    pub user_id: Option<String>,
    /// The header `authorization`.
    pub authorization: Option<String>,
    /// The `content_type` property.
    pub content_type: Option<String>,
    /// The header `traceparent`.
    pub traceparent: Option<String>,
    /// The text.
    pub body: Bytes,
}

/// An inbox message that could not be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// As its producer gave it.
    pub message_id: Option<String>,
    /// Why.
    pub reason: String,
    /// The text.
    pub body: Bytes,
}

struct PackQueue {
    queue: Arc<Queue<PackMessage>>,
    /// Whether anybody has consumed it yet; the first consumer is told that the queue is new.
    consumed: bool,
}

#[derive(Default)]
struct State {
    packs: HashMap<Route, PackQueue>,
    replies: HashMap<String, mpsc::Sender<Bytes>>,
    reply_queues: u64,
    parked: VecDeque<Parked>,
}

/// The broker of one process.
pub struct MemoryBroker {
    limits: MemoryLimits,
    state: Mutex<State>,
    inbox: Arc<Queue<InboxMessage>>,
    outcomes: broadcast::Sender<OutcomeMessage>,
}

impl MemoryBroker {
    /// An empty broker.
    pub fn new(limits: MemoryLimits) -> Self {
        let bounds = Bounds { items: limits.queue_messages, bytes: limits.queue_bytes };
        let (outcomes, _) = broadcast::channel(limits.outcomes.max(1));
        Self { limits, state: Mutex::default(), inbox: Queue::new(bounds), outcomes }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is a single call on a collection: a poisoned lock guards good data.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens to all outcomes published from now on.
    pub fn outcomes(&self) -> broadcast::Receiver<OutcomeMessage> {
        self.outcomes.subscribe()
    }

    /// Puts a message into the inbox, as a producer would.
    ///
    /// # Errors
    /// [`BrokerError::Blocked`] when there is no room within the deadline.
    pub async fn send_inbox(&self, message: InboxMessage) -> Result<(), BrokerError> {
        let bytes = message.body.len();
        let room = self.inbox.put(message, bytes, Instant::now() + self.limits.deadline).await;
        if room { Ok(()) } else { Err(BrokerError::Blocked(self.limits.deadline)) }
    }

    /// The newest parked inbox messages, oldest first.
    pub fn parked(&self) -> Vec<Parked> {
        self.state().parked.iter().cloned().collect()
    }

    /// How many packs of a queue wait for a consumer.
    pub fn waiting(&self, route: Route) -> usize {
        self.packs(route).waiting()
    }

    fn packs(&self, route: Route) -> Arc<Queue<PackMessage>> {
        Arc::clone(&entry(&mut self.state(), route, self.limits).queue)
    }

    async fn publish(&self, pack: PackMessage, deadline: Instant) -> Result<(), BrokerError> {
        let bytes = pack.body.len();
        let room = self.packs(pack.route).put(pack, bytes, deadline).await;
        if room { Ok(()) } else { Err(BrokerError::Blocked(self.limits.deadline)) }
    }
}

/// A queue of packs, made when it is first named; there are two for each of the fleet's partitions.
fn entry(state: &mut State, route: Route, limits: MemoryLimits) -> &mut PackQueue {
    let bounds = Bounds { items: limits.queue_messages, bytes: limits.queue_bytes };
    state.packs.entry(route).or_insert_with(|| PackQueue { queue: Queue::new(bounds), consumed: false })
}

fn delivery(taken: Taken<PackMessage>, ack: Box<dyn Ack>) -> Delivery {
    let pack = taken.item;
    Delivery {
        message_id: pack.message_id,
        route: pack.route,
        redelivered: taken.redelivered,
        body: pack.body,
        mac: Some(pack.mac),
        ack,
    }
}

fn inbox_delivery(taken: Taken<InboxMessage>, ack: Box<dyn Ack>) -> InboxDelivery {
    let message = taken.item;
    InboxDelivery {
        message_id: message.message_id,
        correlation_id: message.correlation_id,
        user_id: message.user_id,
        authorization: message.authorization,
        content_type: message.content_type,
        traceparent: message.traceparent,
        body: message.body,
        ack,
    }
}

#[async_trait]
impl Broker for MemoryBroker {
    async fn publish_packs(&self, packs: Vec<PackMessage>) -> Vec<Result<(), BrokerError>> {
        let deadline = Instant::now() + self.limits.deadline;
        // All at once: a full queue does not hold up the packs of the others.
        join_all(packs.into_iter().map(|pack| self.publish(pack, deadline))).await
    }

    async fn publish_outcomes(&self, outcomes: Vec<OutcomeMessage>) -> Vec<Result<(), BrokerError>> {
        // `send` fails when nobody listens, which is well.
        outcomes.into_iter().map(|outcome| self.outcomes.send(outcome).map_or(Ok(()), |_| Ok(()))).collect()
    }

    async fn reply(&self, replies: Vec<ReplyMessage>) {
        let state = self.state();
        for reply in replies {
            if let Some(queue) = state.replies.get(&reply.queue) {
                // Full or gone: the waiter reads the store.
                let _ = queue.try_send(reply.body);
            }
        }
    }

    async fn subscribe(&self, route: Route, prefetch: u16) -> Result<Subscription, BrokerError> {
        let (queue, created) = {
            let mut state = self.state();
            let entry = entry(&mut state, route, self.limits);
            (Arc::clone(&entry.queue), !std::mem::replace(&mut entry.consumed, true))
        };
        let waiting = u32::try_from(queue.waiting()).unwrap_or(u32::MAX);
        Ok(Subscription { deliveries: queue.consume(prefetch, delivery), created, waiting })
    }

    async fn inbox(&self, prefetch: u16) -> Result<mpsc::Receiver<InboxDelivery>, BrokerError> {
        Ok(self.inbox.consume(prefetch, inbox_delivery))
    }

    async fn park(&self, message: &InboxDelivery, reason: &str) -> Result<(), BrokerError> {
        let parked =
            Parked { message_id: message.message_id.clone(), reason: reason.to_owned(), body: message.body.clone() };
        let mut state = self.state();
        // What is pushed out here stands in the store, which keeps every rejected message.
        while state.parked.len() >= self.limits.parked.max(1) {
            state.parked.pop_front();
        }
        state.parked.push_back(parked);
        Ok(())
    }

    async fn replies(&self) -> Result<Replies, BrokerError> {
        let (sender, messages) = mpsc::channel(self.limits.replies.max(1));
        let mut state = self.state();
        state.replies.retain(|_, open| !open.is_closed());
        state.reply_queues += 1;
        let queue = format!("reply.{}", state.reply_queues);
        state.replies.insert(queue.clone(), sender);
        Ok(Replies { queue, messages })
    }

    async fn ping(&self) -> Result<(), BrokerError> {
        Ok(())
    }
}
