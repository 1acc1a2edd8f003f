//! Owns the deliveries of one queue: subscribes, opens packs, hands their events to the lane, and
//! subscribes anew whenever the subscription ends. Never believes a pack without its seal.

use metrics::counter;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::buffer::{Buffer, Content, Item, Outstanding, PackInHand, Start};
use super::progress::Progress;
use super::traced::Traced;
use crate::crypto::{Opened, packer};
use crate::domain::pack::PackedEvent;
use crate::domain::partition::partition_of;
use crate::domain::{EventBody, EventId};
use crate::ports::broker::Route;
use crate::ports::store::StoredEvent;
use crate::ports::{Delivery, Subscription};
use crate::resilience::Backoff;
use crate::telemetry::names;

/// The deliveries of a queue.
pub(super) struct QueueFeed {
    pub(super) shared: Arc<Shared>,
    pub(super) route: Route,
    pub(super) prefetch: u16,
    pub(super) buffer: Arc<Buffer>,
    pub(super) progress: Arc<Progress>,
    pub(super) stop: CancellationToken,
}

impl QueueFeed {
    /// Runs until stopped, then until everything taken is acknowledged or dropped (bounded by the
    /// drain timeout), and closes the subscription last, so that acknowledgements still count.
    pub(super) async fn run(self) {
        let outstanding = self.progress.outstanding(self.route.traffic);
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5), &*self.shared.parts.entropy);
        while !self.stop.is_cancelled() {
            let asked = self.shared.parts.broker.subscribe(self.route, self.prefetch);
            match self.stop.run_until_cancelled(asked).await {
                Some(Ok(mut subscription)) => {
                    backoff.reset();
                    self.consume(&mut subscription, &outstanding).await;
                    if self.stop.is_cancelled() {
                        return self.drain(&outstanding).await;
                    }
                }
                Some(Err(e)) => tracing::debug!(queue = %self.route, error = %e, "failed to subscribe"),
                None => return,
            }
            self.stop.run_until_cancelled(tokio::time::sleep(backoff.next_wait())).await;
        }
    }

    async fn drain(&self, outstanding: &Outstanding) {
        if tokio::time::timeout(self.shared.limits.drain_timeout, outstanding.none()).await.is_err() {
            tracing::warn!(queue = %self.route, "let go with packs unacknowledged; they go back");
        }
    }

    /// Takes deliveries until the stream ends, is to be renewed, or the partition is to be let go.
    async fn consume(&self, subscription: &mut Subscription, outstanding: &Arc<Outstanding>) {
        let now = || self.shared.parts.clock.elapsed();
        let renewal = self.progress.subscribed(self.route.traffic, subscription.created, now());
        let ended = || renewal.run_until_cancelled(self.stop.cancelled());
        loop {
            let delivery = tokio::select! {
                biased;
                _ = ended() => break,
                delivery = subscription.deliveries.recv() => delivery,
            };
            let Some(delivery) = delivery else { break };
            let newest = self.take(delivery, outstanding).await;
            self.progress.delivered(self.route.traffic, newest, now());
        }
        self.progress.ended(self.route.traffic);
    }

    /// Gives the newest event of a genuine pack.
    async fn take(&self, delivery: Delivery, outstanding: &Arc<Outstanding>) -> Option<EventId> {
        let mut newest = None;
        let start = if delivery.redelivered { Start::Redelivered } else { Start::First };
        if delivery.redelivered {
            counter!(names::PACKS_REDELIVERED).increment(1);
        }
        let items = match packer::open(&self.shared.seal, self.route.partition, &delivery.body, delivery.mac.as_ref()) {
            Opened::Genuine(pack) => {
                let hand = PackInHand::new(delivery.ack, pack.events.len(), Arc::clone(outstanding));
                if pack.events.is_empty() {
                    hand.acknowledge().await;
                }
                newest = pack.events.iter().map(|e| e.id).max();
                let item = |e: &PackedEvent<'_>| Item {
                    trace: Traced::delivered(&self.shared.parts.traces, e.traceparent),
                    ..self.item(self.content(e, &delivery.body), e.reply_to.clone(), start, &hand)
                };
                pack.events.iter().map(item).collect()
            }
            Opened::Forged(ids) => {
                self.suspect(&delivery.message_id, "its seal does not agree");
                let hand = PackInHand::new(delivery.ack, ids.len(), Arc::clone(outstanding));
                if ids.is_empty() {
                    hand.acknowledge().await;
                }
                ids.into_iter().map(|id| self.item(Content::Stored(id), None, start, &hand)).collect()
            }
            Opened::Garbage => {
                self.suspect(&delivery.message_id, "it is no pack");
                PackInHand::new(delivery.ack, 0, Arc::clone(outstanding)).acknowledge().await;
                return None;
            }
        };
        self.stop.run_until_cancelled(self.buffer.put(self.route.traffic, items)).await;
        newest
    }

    fn suspect(&self, message_id: &str, why: &str) {
        counter!(names::PACKS_FORGED).increment(1);
        // The id is a stranger's text: cut short.
        let id: String = message_id.chars().take(64).collect();
        tracing::warn!(queue = %self.route, message.id = id, why, "a message is not believed");
    }

    fn item(&self, content: Content, reply_to: Option<String>, start: Start, hand: &Arc<PackInHand>) -> Item {
        Item { content, route: self.route, start, reply_to, pack: Arc::clone(hand), trace: None, room: None }
    }

    /// An event of a genuine pack is what is stored. One that travels as its id, or that this
    /// version can't read, or that lives elsewhere, is looked up.
    fn content(&self, packed: &PackedEvent<'_>, pack: &bytes::Bytes) -> Content {
        let id = packed.id;
        let (Some(body), Some(correlation_id)) = (packer::text_of(packed, pack), packed.correlation_id.clone()) else {
            return Content::Stored(id);
        };
        let in_the_clear = || EventBody::from_canonical(&body).ok().map(|event| event.tenant_id);
        let Some(tenant) = packed.tenant.clone().or_else(in_the_clear) else { return Content::Stored(id) };
        let partition = partition_of(&tenant, self.shared.constants.partitions);
        if partition != self.route.partition {
            return Content::Stored(id);
        }
        Content::Given(Box::new(StoredEvent { id, tenant, partition, correlation_id, body }))
    }
}
