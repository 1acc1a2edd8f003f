//! Owns what this worker knows of its partitions: epoch, and whether it still may work on them.

use metrics::counter;
use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::buffer::Item;
use super::refill::Refill;
use crate::domain::{Epoch, PartitionId};
use crate::telemetry::names::{self, lease};

/// A partition in this worker's hands.
pub(super) struct Held {
    pub(super) epoch: Epoch,
    /// Cancelled when nothing new is to be taken; the feed then ends once all is acknowledged.
    pub(super) stop: CancellationToken,
    /// Set when a commit was fenced: another worker owns it, nothing is worth finishing.
    pub(super) fenced: bool,
    /// Brings back what its queues have lost.
    pub(super) refill: Refill,
    /// Ends when the partition is let go; taken by whoever waits for that.
    pub(super) feed: Option<JoinHandle<()>>,
}

/// The partitions in this worker's hands.
#[derive(Default)]
pub(super) struct Ownership(RwLock<BTreeMap<PartitionId, Held>>);

impl Ownership {
    // A panic while the lock is held leaves the map whole: every change is one field or one entry.
    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<PartitionId, Held>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<PartitionId, Held>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The partitions, in order.
    pub(super) fn partitions(&self) -> Vec<PartitionId> {
        self.read().keys().copied().collect()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.read().len()
    }

    pub(super) fn holds(&self, partition: PartitionId) -> bool {
        self.read().contains_key(&partition)
    }

    /// The epoch of a partition; −1, which no claim ever gives, when it is not held.
    pub(super) fn epoch(&self, partition: PartitionId) -> Epoch {
        self.read().get(&partition).map_or(Epoch(-1), |h| h.epoch)
    }

    /// Drops the events of partitions that were lost meanwhile: their packs go back.
    pub(super) fn still_owned(&self, items: Vec<Item>) -> Vec<Item> {
        let held = self.read();
        items.into_iter().filter(|i| held.get(&i.partition()).is_some_and(|h| !h.fenced)).collect()
    }

    pub(super) fn insert(&self, partition: PartitionId, held: Held) {
        self.write().insert(partition, held);
    }

    pub(super) fn set_feed(&self, partition: PartitionId, feed: JoinHandle<()>) {
        if let Some(held) = self.write().get_mut(&partition) {
            held.feed = Some(feed);
        }
    }

    /// A commit was fenced: stop at once.
    pub(super) fn fenced(&self, partition: PartitionId) {
        if let Some(held) = self.write().get_mut(&partition) {
            if !std::mem::replace(&mut held.fenced, true) {
                counter!(names::LEASE_CHANGES, "change" => lease::FENCED).increment(1);
            }
            held.stop.cancel();
        }
    }

    /// Begins to let go of a partition. Gives its feed to whoever asks first.
    pub(super) fn let_go(&self, partition: PartitionId) -> Option<JoinHandle<()>> {
        let mut held = self.write();
        let own = held.get_mut(&partition)?;
        own.stop.cancel();
        own.feed.take()
    }

    /// Forgets a partition whose feed has ended; gives the epoch that it was held under.
    pub(super) fn remove(&self, partition: PartitionId) -> Option<Epoch> {
        self.write().remove(&partition).map(|h| h.epoch)
    }

    /// The refills of all partitions.
    pub(super) fn refills(&self) -> Vec<Refill> {
        self.read().values().map(|h| h.refill.clone()).collect()
    }

    /// The partitions on which a commit was fenced.
    pub(super) fn lost(&self) -> Vec<PartitionId> {
        self.read().iter().filter(|(_, h)| h.fenced).map(|(p, _)| *p).collect()
    }
}
