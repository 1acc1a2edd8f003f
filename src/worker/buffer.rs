//! Owns what lies between the deliveries and a lane: bounded, fair between tenants, the bulk behind
//! the normal. And the count of a pack's undecided events, after which the pack is acknowledged.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::traced::Traced;
use crate::domain::{EventId, PartitionId, TenantId};
use crate::ports::Ack;
use crate::ports::broker::{Route, Traffic};
use crate::ports::store::StoredEvent;
use crate::resilience::RankedQueue;

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

    /// Counts one until it is dropped.
    pub(super) fn hold(self: Arc<Self>) -> Hold {
        self.packs.fetch_add(1, Ordering::AcqRel);
        Hold(self)
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

/// One that is counted as outstanding.
pub(super) struct Hold(Arc<Outstanding>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.packs.fetch_sub(1, Ordering::AcqRel);
        self.0.changed.notify_waiters();
    }
}

/// A pack in the worker's hands. When it is dropped unacknowledged, the broker keeps it.
pub(super) struct PackInHand {
    ack: Box<dyn Ack>,
    undecided: AtomicUsize,
    _hold: Hold,
}

impl PackInHand {
    pub(super) fn new(ack: Box<dyn Ack>, events: usize, outstanding: Arc<Outstanding>) -> Arc<Self> {
        Arc::new(Self { ack, undecided: AtomicUsize::new(events), _hold: outstanding.hold() })
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

/// Where an event's content comes from.
pub(super) enum Content {
    /// From a genuine pack: the event as it is stored.
    Given(Box<StoredEvent>),
    /// To be read from the store, if it is there and undecided.
    Stored(EventId),
}

/// How an event comes to be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// Delivered for the first time.
    First,
    /// Delivered before, to a worker that did not acknowledge it: it may be what ended that worker.
    Redelivered,
    /// Failed before, and due again.
    Due {
        /// How often it was begun before.
        attempts: u32,
    },
}

/// An event on its way to a lane.
pub(super) struct Item {
    pub(super) content: Content,
    pub(super) route: Route,
    pub(super) start: Start,
    pub(super) reply_to: Option<String>,
    pub(super) pack: Arc<PackInHand>,
    // Its trace, where it has one.
    pub(super) trace: Option<Box<Traced>>,
    // Room in the buffer, given back when the item leaves the lane.
    pub(super) room: Option<OwnedSemaphorePermit>,
}

impl Item {
    pub(super) fn partition(&self) -> PartitionId {
        self.route.partition
    }

    pub(super) fn id(&self) -> EventId {
        match &self.content {
            Content::Given(event) => event.id,
            Content::Stored(id) => *id,
        }
    }

    /// Takes the content out; what is left says where to read it again.
    pub(super) fn take_content(&mut self) -> Content {
        let id = self.id();
        std::mem::replace(&mut self.content, Content::Stored(id))
    }

    /// The key of fairness; events whose tenant is not known yet share one.
    fn tenant(&self) -> Option<TenantId> {
        match &self.content {
            Content::Given(event) => Some(event.tenant.clone()),
            Content::Stored(_) => None,
        }
    }
}

/// The buffer of a lane. Bulk has room of its own: it never takes that of the others.
pub(super) struct Buffer {
    queue: Mutex<RankedQueue<Option<TenantId>, Item>>,
    normal: Arc<Semaphore>,
    bulk: Arc<Semaphore>,
    filled: Notify,
}

impl Buffer {
    /// A buffer for at most `events` events of either kind.
    pub(super) fn new(events: usize) -> Self {
        let room = || Arc::new(Semaphore::new(events.max(PUT_MAX)));
        Self { queue: Mutex::new(RankedQueue::new(QUANTUM)), normal: room(), bulk: room(), filled: Notify::new() }
    }

    // A panic while the lock is held can only come from an allocation that failed.
    fn queue(&self) -> MutexGuard<'_, RankedQueue<Option<TenantId>, Item>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn room(&self, traffic: Traffic) -> Arc<Semaphore> {
        match traffic {
            Traffic::Normal => Arc::clone(&self.normal),
            Traffic::Bulk => Arc::clone(&self.bulk),
        }
    }

    /// Puts the events of a pack in, as many at once as one commit may hold; waits for room.
    pub(super) async fn put(&self, traffic: Traffic, mut items: Vec<Item>) {
        while !items.is_empty() {
            let later = items.split_off(items.len().min(PUT_MAX));
            // The semaphore is never closed.
            let Ok(mut room) = self.room(traffic).acquire_many_owned(items.len() as u32).await else { return };
            {
                let mut queue = self.queue();
                for mut item in items {
                    item.room = room.split(1);
                    queue.push_costing(traffic, item.tenant(), 1, item);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::BrokerError;

    struct Unheard;

    #[async_trait::async_trait]
    impl Ack for Unheard {
        async fn ack(&self) -> Result<bool, BrokerError> {
            Ok(true)
        }
    }

    fn items(traffic: Traffic, count: usize) -> Vec<Item> {
        let route = Route { partition: PartitionId(0), traffic };
        let pack = PackInHand::new(Box::new(Unheard), count, Arc::default());
        let item = |n: usize| Item {
            content: Content::Stored(EventId::mint(n as u64, [0; 10])),
            route,
            start: Start::First,
            reply_to: None,
            pack: Arc::clone(&pack),
            trace: None,
            room: None,
        };
        (0..count).map(item).collect()
    }

    fn of(taken: &[Item], traffic: Traffic) -> usize {
        taken.iter().filter(|i| i.route.traffic == traffic).count()
    }

    #[tokio::test]
    async fn a_full_bulk_takes_no_room_of_the_others() {
        let buffer = Buffer::new(PUT_MAX);
        buffer.put(Traffic::Bulk, items(Traffic::Bulk, PUT_MAX)).await;
        let full = tokio::time::timeout(
            std::time::Duration::from_millis(20),
            buffer.put(Traffic::Bulk, items(Traffic::Bulk, 1)),
        );
        assert!(full.await.is_err(), "the bulk is full");
        buffer.put(Traffic::Normal, items(Traffic::Normal, PUT_MAX)).await;
        assert_eq!(of(&buffer.take(10).await, Traffic::Normal), 9);
    }
}
