//! Owns the events of one partition that failed before and are due again: takes them from the store
//! to the lane. Never runs one that is in hand already.

use async_trait::async_trait;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::buffer::{Buffer, Content, Item, Outstanding, PackInHand, Start};
use crate::domain::{EventId, PartitionId};
use crate::ports::broker::{Route, Traffic};
use crate::ports::store::DueRetry;
use crate::ports::{Ack, BrokerError};

/// How often the store is asked.
const EVERY: Duration = Duration::from_secs(1);

/// Events in hand at most.
const IN_HAND: usize = 100;

/// The due events of a partition.
pub(super) struct Due {
    pub(super) shared: Arc<Shared>,
    pub(super) partition: PartitionId,
    pub(super) buffer: Arc<Buffer>,
    pub(super) stop: CancellationToken,
}

impl Due {
    /// Runs until stopped, then until what was taken is done (bounded by the drain timeout).
    pub(super) async fn run(self) {
        let (hand, outstanding) = (Arc::new(Hand::default()), Arc::new(Outstanding::default()));
        while self.stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
            if hand.ids().len() >= IN_HAND {
                continue;
            }
            match self.shared.parts.store.due_retries(self.partition, IN_HAND as u32).await {
                Ok(due) => self.take(due, &hand, &outstanding).await,
                Err(e) => tracing::debug!(partition = %self.partition, error = %e, "failed to look for due events"),
            }
        }
        let drained = tokio::time::timeout(self.shared.limits.drain_timeout, outstanding.none());
        if drained.await.is_err() {
            tracing::warn!(partition = %self.partition, "let go with retries undone; they stay due");
        }
    }

    async fn take(&self, due: Vec<DueRetry>, hand: &Arc<Hand>, outstanding: &Arc<Outstanding>) {
        // Behind what has not failed yet.
        let route = Route { partition: self.partition, traffic: Traffic::Bulk };
        let mut items = Vec::new();
        for retry in due {
            let id = retry.event.id;
            if !hand.ids().insert(id) {
                continue;
            }
            let held = Box::new(Held { id, hand: Arc::clone(hand) });
            items.push(Item {
                // Read again when its turn comes: it may be settled by then.
                content: Content::Stored(id),
                route,
                start: Start::Due { attempts: retry.attempts },
                reply_to: None,
                pack: PackInHand::new(held, 1, Arc::clone(outstanding)),
                trace: None,
                room: None,
            });
        }
        self.stop.run_until_cancelled(self.buffer.put(Traffic::Bulk, items)).await;
    }
}

/// The due events in hand.
#[derive(Default)]
struct Hand(Mutex<BTreeSet<EventId>>);

impl Hand {
    // A panic while the lock is held can only come from an allocation that failed.
    fn ids(&self) -> MutexGuard<'_, BTreeSet<EventId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One event in hand. There is no message to acknowledge: its row in the store is gone when it is
/// done, and due again when it is not.
struct Held {
    id: EventId,
    hand: Arc<Hand>,
}

#[async_trait]
impl Ack for Held {
    async fn ack(&self) -> Result<bool, BrokerError> {
        Ok(true)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.hand.ids().remove(&self.id);
    }
}
