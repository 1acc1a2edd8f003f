//! Owns the deliveries of one partition: subscribes, opens packs, hands their events to the lane,
//! and subscribes anew whenever the subscription ends. Never believes a pack without its seal.

use metrics::counter;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::buffer::{Buffer, Content, Item, Outstanding, PackInHand};
use super::refill::Refill;
use crate::crypto::{Opened, packer};
use crate::domain::pack::{Pack, PackedEvent};
use crate::domain::partition::partition_of;
use crate::domain::{EventBody, EventId, PartitionId};
use crate::ports::{Delivery, Subscription};
use crate::resilience::Backoff;
use crate::telemetry::names;

/// How long a partition without deliveries is taken for idle, at first; doubles while nothing is
/// found to be missing.
const IDLE_FIRST: Duration = Duration::from_secs(5);

/// The longest wait between two looks at an idle partition.
const IDLE_LONGEST: Duration = Duration::from_secs(30);

/// How often a busy partition is looked at for events that were overtaken.
const OVERTAKEN_EVERY: Duration = Duration::from_secs(30);

/// The deliveries of a partition.
pub(super) struct Feed {
    pub(super) shared: Arc<Shared>,
    pub(super) partition: PartitionId,
    pub(super) buffer: Arc<Buffer>,
    pub(super) refill: Refill,
    pub(super) stop: CancellationToken,
}

impl Feed {
    /// Runs until stopped, then until everything taken is acknowledged or dropped (bounded by the
    /// drain timeout), and closes the subscription last, so that acknowledgements still count.
    pub(super) async fn run(self) {
        let outstanding = Arc::new(Outstanding::default());
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        while !self.stop.is_cancelled() {
            let asked = self.shared.parts.broker.subscribe(self.partition, self.shared.limits.prefetch);
            match self.stop.run_until_cancelled(asked).await {
                Some(Ok(mut subscription)) => {
                    backoff.reset();
                    if subscription.created {
                        self.refill.start("the queue had to be made");
                    }
                    self.consume(&mut subscription, &outstanding).await;
                    if self.stop.is_cancelled() {
                        let drained = tokio::time::timeout(self.shared.limits.drain_timeout, outstanding.none());
                        if drained.await.is_err() {
                            tracing::warn!(partition = %self.partition, "let go with packs unacknowledged; they go back");
                        }
                        return;
                    }
                }
                Some(Err(e)) => tracing::debug!(partition = %self.partition, error = %e, "failed to subscribe"),
                None => return,
            }
            self.stop.run_until_cancelled(tokio::time::sleep(backoff.next_wait())).await;
        }
    }

    /// Takes deliveries until the stream ends or the partition is to be let go.
    async fn consume(&self, subscription: &mut Subscription, outstanding: &Arc<Outstanding>) {
        let mut idle = IDLE_FIRST;
        let mut newest = None;
        let mut overtaken = tokio::time::interval(OVERTAKEN_EVERY);
        overtaken.reset();
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                delivery = subscription.deliveries.recv() => match delivery {
                    Some(delivery) => {
                        idle = IDLE_FIRST;
                        newest = self.take(delivery, outstanding).await.or(newest);
                    }
                    None => return,
                },
                _ = overtaken.tick() => if let Some(newest) = newest.take() {
                    self.refill.start_overtaken_by(newest);
                },
                () = tokio::time::sleep(idle) => {
                    if outstanding.count() == 0 {
                        self.refill.start_if_pending();
                    }
                    idle = (idle * 2).min(IDLE_LONGEST);
                }
            }
        }
    }

    /// Gives the newest event of a genuine pack.
    async fn take(&self, delivery: Delivery, outstanding: &Arc<Outstanding>) -> Option<EventId> {
        let mut newest = None;
        if delivery.redelivered {
            counter!(names::PACKS_REDELIVERED).increment(1);
        }
        let items = match packer::open(&self.shared.seal, self.partition, &delivery.body, delivery.mac.as_ref()) {
            Opened::Genuine(pack) => {
                let hand = PackInHand::new(delivery.ack, pack.events.len(), Arc::clone(outstanding));
                if pack.events.is_empty() {
                    hand.acknowledge().await;
                }
                newest = pack.events.iter().map(|e| e.id).max();
                self.items(&pack, &delivery.body, &hand)
            }
            Opened::Forged(ids) => {
                self.suspect(&delivery.message_id, "its seal does not agree");
                let hand = PackInHand::new(delivery.ack, ids.len(), Arc::clone(outstanding));
                if ids.is_empty() {
                    hand.acknowledge().await;
                }
                ids.into_iter().map(|id| self.item(Content::Stored(id), None, &hand)).collect()
            }
            Opened::Garbage => {
                self.suspect(&delivery.message_id, "it is no pack");
                PackInHand::new(delivery.ack, 0, Arc::clone(outstanding)).acknowledge().await;
                return None;
            }
        };
        self.stop.run_until_cancelled(self.buffer.put(items)).await;
        newest
    }

    fn suspect(&self, message_id: &str, why: &str) {
        counter!(names::PACKS_FORGED).increment(1);
        // The id is a stranger's text: cut short.
        let id: String = message_id.chars().take(64).collect();
        tracing::warn!(partition = %self.partition, message.id = id, why, "a message is not believed");
    }

    fn items(&self, pack: &Pack<'_>, body: &bytes::Bytes, hand: &Arc<PackInHand>) -> Vec<Item> {
        pack.events.iter().map(|e| self.item(self.content(e, body), e.reply_to.clone(), hand)).collect()
    }

    fn item(&self, content: Content, reply_to: Option<String>, hand: &Arc<PackInHand>) -> Item {
        Item { content, partition: self.partition, reply_to, pack: Arc::clone(hand), room: None }
    }

    /// An event of a genuine pack is what is stored. One that travels as its id, or that this
    /// version can't read, or that lives elsewhere, is looked up.
    fn content(&self, packed: &PackedEvent<'_>, body: &bytes::Bytes) -> Content {
        let (Some(text), Some(correlation_id)) = (packed.event, packed.correlation_id.clone()) else {
            return Content::Stored(packed.id);
        };
        match EventBody::from_canonical(text.get().as_bytes()) {
            Ok(event) if partition_of(&event.tenant_id, self.shared.constants.partitions) == self.partition => {
                Item::given(packed.id, correlation_id, event, body.slice_ref(text.get().as_bytes()))
            }
            Ok(_) | Err(_) => Content::Stored(packed.id),
        }
    }
}
