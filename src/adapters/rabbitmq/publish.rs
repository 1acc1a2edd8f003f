//! Owns publishing with confirms: a bounded number of messages on their way, each with an answer.
//! Never confirms what was returned, never waits past the deadline.
//!
//! # Decisions
//! A call has its channel for itself, out of a pool. lapin hands a returned message to whichever
//! confirm comes next on the channel; with the channel to itself, a call finds every return of its
//! own messages among its own confirms once all of them are in, and matches them by message id.
//! A channel on which any confirm stayed out is not used again.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::link::{Link, answer, away};
use crate::mutants::{self, Mutant};
use crate::ports::BrokerError;
use crate::telemetry::names;

/// Messages that are sent and not yet confirmed, over all calls.
const UNCONFIRMED_MAX: u32 = 1024;
/// Messages that one call has on their way at once; below the whole window, so that two calls run.
const CHUNK: usize = 512;
/// Calls that publish at once, one channel each.
const CHANNELS_MAX: usize = 16;
/// Replies on their way.
const REPLIES_MAX: usize = 1024;
/// How often a blocked connection is looked at.
const BLOCKED_LOOK: Duration = Duration::from_millis(100);
/// How long a reply may take to leave.
const REPLY_WITHIN: Duration = Duration::from_secs(1);

/// A message ready to go.
#[derive(Clone)]
pub(super) struct Outgoing {
    pub(super) exchange: String,
    pub(super) key: String,
    pub(super) mandatory: bool,
    pub(super) body: Bytes,
    pub(super) properties: BasicProperties,
}

/// Publishes over one link.
pub(super) struct Publisher {
    deadline: Duration,
    window: Semaphore,
    channels: Semaphore,
    idle: Mutex<Vec<(u64, Channel)>>,
    replying: Mutex<Option<(u64, Channel)>>,
    replies: Semaphore,
}

impl Publisher {
    pub(super) fn new(deadline: Duration) -> Self {
        Self {
            deadline,
            window: Semaphore::new(UNCONFIRMED_MAX as usize),
            channels: Semaphore::new(CHANNELS_MAX),
            idle: Mutex::default(),
            replying: Mutex::default(),
            replies: Semaphore::new(REPLIES_MAX),
        }
    }

    /// Publishes all and waits for every confirm; one result a message, in order.
    pub(super) async fn publish(&self, link: &Link, messages: &[Outgoing]) -> Vec<Result<(), BrokerError>> {
        let mut results = Vec::with_capacity(messages.len());
        for chunk in messages.chunks(CHUNK) {
            match self.publish_chunk(link, chunk).await {
                Ok(confirmed) => results.extend(confirmed),
                Err(error) => {
                    // The broker is away or blocked: no use in trying the others one by one.
                    results.resize(messages.len(), Err(error));
                    break;
                }
            }
        }
        if mutants::active(Mutant::ConfirmIgnored) {
            results.fill(Ok(()));
        }
        results
    }

    async fn publish_chunk(
        &self,
        link: &Link,
        chunk: &[Outgoing],
    ) -> Result<Vec<Result<(), BrokerError>>, BrokerError> {
        let deadline = Instant::now() + self.deadline;
        // At most CHUNK.
        let permits = chunk.len() as u32;
        let room = async { (self.channels.acquire().await, self.window.acquire_many(permits).await) };
        let _room = timeout_at(deadline, room).await.map_err(|_| self.blocked())?;
        let (generation, channel) = self.checkout(link, deadline).await?;
        let _unconfirmed = Unconfirmed::count(permits);
        let (results, whole) = self.confirm_all(&channel, chunk, deadline).await;
        if whole && channel.status().connected() {
            self.idle().push((generation, channel));
        }
        Ok(results)
    }

    fn blocked(&self) -> BrokerError {
        BrokerError::Blocked(self.deadline)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(u64, Channel)>> {
        // Only pushed to and popped from: a poisoned lock guards good data.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn checkout(&self, link: &Link, deadline: Instant) -> Result<(u64, Channel), BrokerError> {
        let live = link.live().await?;
        // A blocked connection opens no channels, and lapin would queue its messages without bound.
        while live.connection.status().blocked() {
            if Instant::now() >= deadline {
                return Err(self.blocked());
            }
            sleep(BLOCKED_LOOK).await;
        }
        loop {
            let Some((generation, channel)) = self.idle().pop() else { break };
            if generation == live.generation && channel.status().connected() {
                return Ok((generation, channel));
            }
        }
        let channel = answer(live.connection.create_channel()).await?;
        answer(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok((live.generation, channel))
    }

    /// Sends every message and gathers the answers; false when some stayed out.
    async fn confirm_all(
        &self,
        channel: &Channel,
        messages: &[Outgoing],
        deadline: Instant,
    ) -> (Vec<Result<(), BrokerError>>, bool) {
        let mut pending: FuturesUnordered<_> =
            messages.iter().enumerate().map(|(at, message)| send(channel, at, message)).collect();
        let mut answers: Vec<Option<lapin::Result<Confirmation>>> = messages.iter().map(|_| None).collect();
        loop {
            match timeout_at(deadline, pending.next()).await {
                Ok(Some((at, confirmed))) => answers[at] = Some(confirmed),
                Ok(None) => return (results(messages, answers), true),
                // Which of the answers hides another message's return can't be known any more:
                // all of them are unconfirmed, and publishing them again is harmless.
                Err(_) => return (messages.iter().map(|_| Err(self.blocked())).collect(), false),
            }
        }
    }

    /// Sends without confirms, and drops what can't go now.
    pub(super) async fn reply(&self, link: &Link, replies: Vec<(String, Bytes)>) {
        let Some(live) = link.now().filter(|live| !live.connection.status().blocked()) else { return };
        let _ = timeout(REPLY_WITHIN, async {
            let channel = self.reply_channel(&live).await?;
            let sending: FuturesUnordered<_> =
                replies.iter().map(|(queue, body)| self.reply_one(&channel, queue, body)).collect();
            sending.collect::<()>().await;
            Ok::<(), BrokerError>(())
        })
        .await;
    }

    async fn reply_one(&self, channel: &Channel, queue: &str, body: &Bytes) {
        let Ok(_room) = self.replies.try_acquire() else { return };
        let Ok(key) = lapin::types::ShortString::try_new(queue) else { return };
        let properties = BasicProperties::default().with_content_type("application/json".into());
        let _ = channel.basic_publish("".into(), key, BasicPublishOptions::default(), body, properties).await;
    }

    async fn reply_channel(&self, live: &super::link::Live) -> Result<Channel, BrokerError> {
        let open = self.replying.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((generation, channel)) = open
            && generation == live.generation
            && channel.status().connected()
        {
            return Ok(channel);
        }
        let channel = answer(live.connection.create_channel()).await?;
        *self.replying.lock().unwrap_or_else(PoisonError::into_inner) = Some((live.generation, channel.clone()));
        Ok(channel)
    }
}

async fn send(channel: &Channel, at: usize, message: &Outgoing) -> (usize, lapin::Result<Confirmation>) {
    let options = BasicPublishOptions { mandatory: message.mandatory, immediate: false };
    let (exchange, key) = (message.exchange.as_str().into(), message.key.as_str().into());
    // The first poll takes the delivery tag and queues the frames in one go, so the whole chunk is
    // under way before the first confirm is awaited.
    let sent = channel.basic_publish(exchange, key, options, &message.body, message.properties.clone()).await;
    match sent {
        Ok(confirm) => (at, confirm.await),
        Err(error) => (at, Err(error)),
    }
}

/// One result a message, once every answer is in.
fn results(messages: &[Outgoing], answers: Vec<Option<lapin::Result<Confirmation>>>) -> Vec<Result<(), BrokerError>> {
    let mut outcomes = Vec::with_capacity(messages.len());
    let mut returned = HashSet::new();
    for answer in answers {
        outcomes.push(match answer {
            Some(Ok(Confirmation::Ack(back))) => {
                returned.extend(back.map(|back| message_id(&back.delivery.properties)));
                Ok(())
            }
            Some(Ok(Confirmation::Nack(back))) => {
                returned.extend(back.map(|back| message_id(&back.delivery.properties)));
                Err(BrokerError::Refused)
            }
            Some(Ok(Confirmation::NotRequested)) | None => {
                Err(BrokerError::Away("the channel gives no confirms".to_owned()))
            }
            Some(Err(error)) => Err(away(&error)),
        });
    }
    for (message, outcome) in messages.iter().zip(&mut outcomes) {
        if outcome.is_ok() && returned.contains(&message_id(&message.properties)) {
            *outcome = Err(BrokerError::Unroutable(message.key.clone()));
        }
    }
    outcomes
}

/// What a return is matched by. Only parked messages may have none, and they travel alone.
fn message_id(properties: &BasicProperties) -> String {
    properties.message_id().as_ref().map(ToString::to_string).unwrap_or_default()
}

/// Counts messages on their way in the gauge, until it is dropped.
struct Unconfirmed(f64);

impl Unconfirmed {
    fn count(messages: u32) -> Self {
        metrics::gauge!(names::BROKER_UNCONFIRMED).increment(f64::from(messages));
        Self(f64::from(messages))
    }
}

impl Drop for Unconfirmed {
    fn drop(&mut self) {
        metrics::gauge!(names::BROKER_UNCONFIRMED).decrement(self.0);
    }
}
