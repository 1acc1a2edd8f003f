//! Owns the refill: events that are stored and pending, but that no queue holds any more, are
//! published again. What it doubles meets the disposition's key.

use metrics::counter;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Shared;
use crate::crypto::packer::unpaced;
use crate::domain::time::to_millis;
use crate::domain::{EventId, PartitionId};
use crate::mutants::{self, Mutant};
use crate::ports::StoreError;
use crate::ports::store::StoredEvent;
use crate::resilience::Backoff;
use crate::telemetry::names;

/// Events published by one step.
const PAGE: u32 = 1_000;

/// How far behind what is delivered now a pending event must be to count as lost: a queue keeps its
/// order, but for what two accepts publish side by side and what comes again.
const OVERTAKEN: Duration = Duration::from_secs(30);

/// How old a pending event must be to make an idle partition suspicious: younger ones are on their
/// way from an accept.
const SUSPICIOUS: Duration = Duration::from_secs(10);

/// The refill of one partition; one runs at a time.
#[derive(Clone)]
pub(super) struct Refill {
    pub(super) shared: Arc<Shared>,
    pub(super) partition: PartitionId,
    pub(super) running: Arc<AtomicBool>,
    /// The last look at an idle partition has found something to publish.
    pub(super) found: Arc<AtomicBool>,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

impl Refill {
    /// Refills in the background.
    pub(super) fn start(&self, why: &'static str) {
        self.spawn(Before::Age(Duration::ZERO), why);
    }

    /// Refills in the background, if anything has been pending for suspiciously long.
    pub(super) fn start_if_pending(&self) {
        self.spawn(Before::Age(SUSPICIOUS), "pending events, and nothing delivered");
    }

    /// Whether the last look at an idle partition has published something; told once.
    pub(super) fn has_found(&self) -> bool {
        self.found.swap(false, Ordering::AcqRel)
    }

    /// Refills in the background what was overtaken by an event that is delivered now: under a
    /// steady load no queue is ever idle, and what was lost would wait for the night.
    pub(super) fn start_overtaken_by(&self, delivered: EventId) {
        let millis = delivered.millis().saturating_sub(OVERTAKEN.as_millis() as u64);
        self.spawn(Before::Event(EventId::floor(millis)), "pending events, overtaken by later ones");
    }

    fn spawn(&self, before: Before, why: &'static str) {
        if mutants::active(Mutant::RefillSkipped) || self.running.swap(true, Ordering::AcqRel) {
            return;
        }
        let own = self.clone();
        self.tasks.spawn(async move {
            own.until_done(before, why).await;
            own.running.store(false, Ordering::Release);
        });
    }

    async fn until_done(&self, before: Before, why: &str) {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5), &*self.shared.parts.entropy);
        loop {
            match self.stop.run_until_cancelled(self.run(before)).await {
                Some(Ok(0)) | None => return,
                Some(Ok(events)) => {
                    self.found.store(true, Ordering::Release);
                    tracing::info!(partition = %self.partition, events, why, "refilled");
                    return;
                }
                Some(Err(e)) => {
                    tracing::warn!(partition = %self.partition, error = %e, "failed to refill; trying again");
                    self.stop.run_until_cancelled(tokio::time::sleep(backoff.next_wait())).await;
                }
            }
        }
    }

    /// Publishes everything pending before a bound. Gives how many events.
    async fn run(&self, before: Before) -> Result<usize, RefillError> {
        let before = match before {
            Before::Event(id) => id,
            Before::Age(age) => {
                let now = to_millis(self.shared.parts.store.now().await?);
                // One more than now: an event of this very millisecond counts.
                EventId::floor((now + 1).saturating_sub(age.as_millis() as u64))
            }
        };
        let (mut after, mut total) = (None, 0);
        loop {
            let page = self.shared.parts.store.pending_page(self.partition, after, before, PAGE).await?;
            if page.is_empty() {
                return Ok(total);
            }
            after = page.last().map(|e| e.id);
            total += page.len();
            self.publish(&page).await?;
            if page.len() < PAGE as usize {
                return Ok(total);
            }
        }
    }

    async fn publish(&self, page: &[StoredEvent]) -> Result<(), RefillError> {
        let events = unpaced(page);
        let origin = format!("refill.{}", self.shared.parts.entropy.uuid());
        let results = self.shared.parts.broker.publish_packs(self.shared.packer.pack(&origin, &events)).await;
        if let Some(e) = results.into_iter().find_map(Result::err) {
            return Err(RefillError::Broker(e));
        }
        counter!(names::REFILL_EVENTS).increment(page.len() as u64);
        Ok(())
    }
}

/// Up to where pending events are published.
#[derive(Debug, Clone, Copy)]
enum Before {
    /// At least so old, by the store's clock.
    Age(Duration),
    /// Smaller than this id.
    Event(EventId),
}

#[derive(Debug, thiserror::Error)]
enum RefillError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Broker(crate::ports::BrokerError),
}
