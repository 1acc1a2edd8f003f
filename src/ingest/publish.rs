//! Owns the way from the store to the broker: packs, confirms, and the settling of outbox rows.

use metrics::counter;
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::Parts;
use super::traced::{self, Publishing};
use crate::crypto::packer::unpaced;
use crate::crypto::{Packable, Packer};
use crate::mutants::{self, Mutant};
use crate::ports::store::{NewEvent, OutboxRow, StoredEvent};
use crate::ports::{Broker, BrokerError, EventStore, PackMessage, Traffic};
use crate::telemetry::{Traces, names};

/// Events whose packs are on their way at once. What is beyond is left to the sweep: its row stands,
/// at the price of the seconds until somebody looks. Counted in events, since that is what takes
/// memory: many small accepts must not wait for a broker that is slow for a moment.
const IN_FLIGHT: usize = 20_000;

/// The same of the bulk, on its own: a flood never leaves the events of others to the sweep.
const BULK_IN_FLIGHT: usize = 10_000;

/// Rows deleted by one statement at most.
const SETTLE_MAX: usize = 256;

/// An event that was stored just now.
pub(super) struct Fresh {
    pub(super) event: NewEvent,
    pub(super) traffic: Traffic,
    pub(super) reply_to: Option<Arc<str>>,
    pub(super) trace: Option<Publishing>,
}

/// Publishes packs.
pub(super) struct Publisher {
    broker: Arc<dyn Broker>,
    packer: Packer,
    normal: Arc<Semaphore>,
    bulk: Arc<Semaphore>,
    settled: mpsc::Sender<Uuid>,
    tasks: TaskTracker,
    traces: Traces,
}

impl Publisher {
    pub(super) fn new(parts: &Parts, packer: Packer, tasks: TaskTracker) -> (Self, mpsc::Receiver<Uuid>) {
        let (settled, settling) = mpsc::channel(4 * SETTLE_MAX);
        let (normal, bulk) = (Arc::new(Semaphore::new(IN_FLIGHT)), Arc::new(Semaphore::new(BULK_IN_FLIGHT)));
        let (broker, traces) = (Arc::clone(&parts.broker), parts.traces.clone());
        (Self { broker, packer, normal, bulk, settled, tasks, traces }, settling)
    }

    /// Publishes the fresh events of an accept, behind the caller's back.
    pub(super) fn publish(self: &Arc<Self>, batch: Uuid, fresh: Vec<Fresh>) {
        let (bulk, normal): (Vec<Fresh>, Vec<Fresh>) = fresh.into_iter().partition(|f| f.traffic == Traffic::Bulk);
        let (mut now, mut permits, mut left) = (Vec::new(), Vec::new(), 0);
        for (events, bound, room) in [(normal, IN_FLIGHT, &self.normal), (bulk, BULK_IN_FLIGHT, &self.bulk)] {
            match Arc::clone(room).try_acquire_many_owned(events.len().min(bound) as u32) {
                Ok(permit) => {
                    now.extend(events);
                    permits.push(permit);
                }
                Err(_) => left += events.len(),
            }
        }
        if left > 0 {
            tracing::debug!(events = left, "too much is on its way to the broker; the outbox keeps a batch");
        }
        if now.is_empty() {
            return;
        }
        let own = Arc::clone(self);
        self.tasks.spawn(async move {
            let began = own.traces.moment();
            let events: Vec<Packable<'_>> = now.iter().map(packable).collect();
            let packs = own.packer.pack(&batch.to_string(), &events);
            let confirmed = own.send(batch, packs, &events, left == 0).await;
            traced::published(&own.traces, &now, began, confirmed);
            drop(permits);
        });
    }

    /// Publishes what an outbox row names, again. True when everything is confirmed.
    pub(super) async fn republish(&self, row: &OutboxRow, stored: &[StoredEvent]) -> bool {
        let events = unpaced(stored);
        let packs = self.packer.pack(&row.id.to_string(), &events);
        counter!(names::OUTBOX_REPUBLISHED, "kind" => names::outbox::ACCEPT).increment(1);
        self.send(row.id, packs, &events, true).await
    }

    /// The row is settled only when every pack of it is confirmed; never when these are not `all`.
    async fn send(&self, row: Uuid, packs: Vec<PackMessage>, events: &[Packable<'_>], all: bool) -> bool {
        let count = packs.len();
        if mutants::active(Mutant::SettleBeforeConfirm) {
            _ = self.settled.send(row).await;
        }
        let results = self.broker.publish_packs(packs).await;
        let failures: Vec<&BrokerError> = results.iter().filter_map(|r| r.as_ref().err()).collect();
        counter!(names::PACKS_PUBLISHED).increment((count - failures.len()) as u64);
        if let Some(first) = failures.first() {
            counter!(names::PUBLISH_FAILURES).increment(failures.len() as u64);
            tracing::warn!(error = %first, failed = failures.len(), packs = count, "failed to publish; the outbox keeps it");
            return false;
        }
        let bulk = events.iter().filter(|e| e.traffic == Traffic::Bulk).count();
        counter!(names::EVENTS_PUBLISHED).increment(events.len() as u64);
        counter!(names::EVENTS_BULK).increment(bulk as u64);
        if all {
            // When the process is going down the row stands, and is published once more by another.
            _ = self.settled.send(row).await;
        }
        true
    }

    pub(super) async fn broker_answers(&self) -> bool {
        self.broker.ping().await.is_ok()
    }
}

fn packable(fresh: &Fresh) -> Packable<'_> {
    Packable {
        id: fresh.event.id,
        tenant: &fresh.event.tenant,
        partition: fresh.event.partition,
        traffic: fresh.traffic,
        correlation_id: &fresh.event.correlation_id,
        reply_to: fresh.reply_to.as_deref(),
        traceparent: fresh.trace.map(|trace| trace.context),
        body: &fresh.event.body,
    }
}

/// Deletes settled rows, as many at once as are there, until every publisher is gone.
pub(super) async fn settle(store: Arc<dyn EventStore>, mut settling: mpsc::Receiver<Uuid>) {
    let mut rows = Vec::with_capacity(SETTLE_MAX);
    while settling.recv_many(&mut rows, SETTLE_MAX).await > 0 {
        if let Err(e) = store.settle_outbox(&rows).await {
            // The rows stand and are published once more: duplicates meet the disposition's key.
            tracing::warn!(error = %e, rows = rows.len(), "failed to settle outbox rows");
        }
        rows.clear();
    }
}
