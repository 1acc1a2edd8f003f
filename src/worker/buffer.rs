//! Owns what lies between the deliveries and a lane: bounded, fair between tenants. And the count
//! of a pack's undecided events, after which the pack is acknowledged.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::fair::FairQueue;
use crate::domain::{CorrelationId, Event, EventId, PartitionId, TenantId};
use crate::ports::Ack;

/// Events of one tenant that are served in its turn.
const QUANTUM: usize = 64;

/// Events put in at once at most; every buffer holds at least as many.
const PUT_MAX: usize = 256;

/// How many packs of a partition are in the worker's hands.
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    packs: AtomicUsize,
    changed: Notify,
}

impl Outstanding {
    pub(super) fn count(&self) -> usize {
        self.packs.load(Ordering::Acquire)
    }

    /// Waits until nothing is outstanding.
    pub(super) async fn none(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before the count is read: a change in between is not missed.
            changed.as_mut().enable();
            if self.count() == 0 {
                return;
            }
            changed.await;
        }
    }
}

/// A pack in the worker's hands. When it is dropped unacknowledged, the broker keeps it.
pub(super) struct PackInHand {
    ack: Box<dyn Ack>,
    undecided: AtomicUsize,
    outstanding: Arc<Outstanding>,
}

impl PackInHand {
    pub(super) fn new(ack: Box<dyn Ack>, events: usize, outstanding: Arc<Outstanding>) -> Arc<Self> {
        outstanding.packs.fetch_add(1, Ordering::AcqRel);
        Arc::new(Self { ack, undecided: AtomicUsize::new(events), outstanding })
    }

    /// One event of the pack has its disposition; the last one acknowledges the pack.
    pub(super) async fn one_done(&self) {
        if self.undecided.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.acknowledge().await;
        }
    }

    /// Acknowledges a pack in which nothing is left to be decided.
    pub(super) async fn acknowledge(&self) {
        match self.ack.ack().await {
            Ok(true) => {}
            // Committed already: the copy that the broker will send is a duplicate.
            Ok(false) => tracing::debug!("the broker no longer knows a delivery"),
            Err(e) => tracing::debug!(error = %e, "failed to acknowledge a pack; it will come again"),
        }
    }
}

impl Drop for PackInHand {
    fn drop(&mut self) {
        self.outstanding.packs.fetch_sub(1, Ordering::AcqRel);
        self.outstanding.changed.notify_waiters();
    }
}

/// Where an event's content comes from.
pub(super) enum Content {
    /// From a genuine pack: the event, and its exact stored text.
    Given(Box<Event>, bytes::Bytes),
    /// To be read from the store, if it is there and undecided.
    Stored(EventId),
}

/// An event on its way to a lane.
pub(super) struct Item {
    pub(super) content: Content,
    pub(super) partition: PartitionId,
    pub(super) reply_to: Option<String>,
    pub(super) pack: Arc<PackInHand>,
    // Room in the buffer, given back when the item leaves the lane.
    pub(super) room: Option<OwnedSemaphorePermit>,
}

impl Item {
    pub(super) fn id(&self) -> EventId {
        match &self.content {
            Content::Given(event, _) => event.id,
            Content::Stored(id) => *id,
        }
    }

    /// Takes the content out; what is left says where to read it again.
    pub(super) fn take_content(&mut self) -> Content {
        let id = self.id();
        std::mem::replace(&mut self.content, Content::Stored(id))
    }

    pub(super) fn given(
        id: EventId,
        correlation_id: CorrelationId,
        body: crate::domain::EventBody,
        text: bytes::Bytes,
    ) -> Content {
        Content::Given(Box::new(Event { id, correlation_id, body }), text)
    }

    /// The key of fairness; events whose tenant is not known yet share one.
    fn tenant(&self) -> Option<TenantId> {
        match &self.content {
            Content::Given(event, _) => Some(event.body.tenant_id.clone()),
            Content::Stored(_) => None,
        }
    }
}

/// The buffer of a lane.
pub(super) struct Buffer {
    queue: Mutex<FairQueue<Option<TenantId>, Item>>,
    room: Arc<Semaphore>,
    filled: Notify,
}

impl Buffer {
    /// A buffer for at most `events` events.
    pub(super) fn new(events: usize) -> Self {
        Self {
            queue: Mutex::new(FairQueue::new(QUANTUM)),
            room: Arc::new(Semaphore::new(events.max(PUT_MAX))),
            filled: Notify::new(),
        }
    }

    // A panic while the lock is held can only come from an allocation that failed.
    fn queue(&self) -> MutexGuard<'_, FairQueue<Option<TenantId>, Item>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the events of a pack in, as many at once as one commit may hold; waits for room.
    pub(super) async fn put(&self, mut items: Vec<Item>) {
        while !items.is_empty() {
            let later = items.split_off(items.len().min(PUT_MAX));
            // The semaphore is never closed.
            let Ok(mut room) = Arc::clone(&self.room).acquire_many_owned(items.len() as u32).await else { return };
            {
                let mut queue = self.queue();
                for mut item in items {
                    item.room = room.split(1);
                    queue.push(item.tenant(), item);
                }
            }
            self.filled.notify_one();
            items = later;
        }
    }

    /// Takes what is there, up to `max` events; waits only while nothing is.
    pub(super) async fn take(&self, max: usize) -> Vec<Item> {
        loop {
            let taken = self.queue().take(max);
            if !taken.is_empty() {
                return taken;
            }
            self.filled.notified().await;
        }
    }
}
