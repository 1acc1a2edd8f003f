//! Owns what comes after a commit, in this order: publish the outcomes, settle the outbox row,
//! acknowledge. Beside the lane, so that the next batch is decided meanwhile; bounded.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::Shared;
use super::desk::Texts;
use super::lane::ById;
use super::traced::{self, TracedCommit};
use crate::domain::{Decision, EventId, PartitionId, TenantId};
use crate::ports::broker::ReplyMessage;
use crate::ports::store::{CommitBatch, Committed, Disposition, NewDisposition};
use crate::ports::{Broker, OutcomeMessage};

/// Commits of a lane whose outcomes are on their way at once.
const IN_FLIGHT: usize = 2;

/// A batch after its commit: what is still needed of it.
pub(super) struct Finished {
    row: Uuid,
    done: Vec<Done>,
    items: ById,
    /// The commits of its traced events, on which their outcomes hang.
    traced: Vec<TracedCommit>,
}

struct Done {
    event: EventId,
    tenant: TenantId,
    partition: PartitionId,
    verdict: Committed,
    /// The decision in the clear, with its timings.
    told: Option<(Bytes, Vec<u32>)>,
}

impl Finished {
    /// Takes the texts of its decisions out of `texts`.
    pub(super) fn new(batch: CommitBatch, verdicts: Vec<Committed>, items: ById, texts: &mut Texts) -> Self {
        let done = |(item, verdict): (NewDisposition, Committed)| {
            let NewDisposition { event, tenant, partition, disposition, audit: _ } = item;
            let told = match disposition {
                Disposition::Decided { timings, .. } => texts.remove(&event).map(|told| (told.text, timings)),
                Disposition::Dead { .. } => None,
            };
            Done { event, tenant, partition, verdict, told }
        };
        let done = batch.items.into_iter().zip(verdicts).map(done).collect();
        Self { row: batch.id, done, items, traced: Vec::new() }
    }

    /// Tells of the outcomes of these, too.
    pub(super) fn traced(self, traced: Vec<TracedCommit>) -> Self {
        Self { traced, ..self }
    }

    /// The decisions that were written.
    fn decided(&self) -> impl Iterator<Item = (&Done, &Bytes, &[u32])> {
        let written = self.done.iter().filter(|d| d.verdict == Committed::Written);
        written.filter_map(|d| d.told.as_ref().map(|(text, timings)| (d, text, timings.as_slice())))
    }
}

/// Finishes batches.
#[derive(Clone)]
pub(super) struct Finisher {
    shared: Arc<Shared>,
    in_flight: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl Finisher {
    pub(super) fn new(shared: Arc<Shared>, tasks: TaskTracker) -> Self {
        Self { shared, in_flight: Arc::new(Semaphore::new(IN_FLIGHT)), tasks }
    }

    /// Acknowledges events that have their disposition already, or that nobody ever stored.
    pub(super) async fn nothing_to_do(&self, settled: Vec<EventId>, items: &mut ById) {
        metrics::counter!(crate::telemetry::names::EVENTS_DUPLICATE).increment(settled.len() as u64);
        for id in settled {
            for item in items.remove(&id).unwrap_or_default() {
                item.pack.one_done().await;
            }
        }
    }

    /// Publishes, settles, acknowledges; waits only while too many batches are on their way.
    pub(super) async fn finish(&self, finished: Finished) {
        // The semaphore is never closed.
        let Ok(permit) = Arc::clone(&self.in_flight).acquire_owned().await else { return };
        let own = self.clone();
        self.tasks.spawn(async move {
            own.publish(&finished).await;
            own.acknowledge(finished).await;
            drop(permit);
        });
    }

    async fn publish(&self, finished: &Finished) {
        self.reply(finished).await;
        let decided = finished.decided().map(|(done, decision, _)| (done.tenant.clone(), decision.clone()));
        let messages = outcome_messages(finished.row, decided);
        if messages.is_empty() {
            return;
        }
        let began = self.shared.parts.traces.moment();
        let confirmed = publish_all(&*self.shared.parts.broker, messages).await;
        traced::published(&self.shared.parts.traces, began, &finished.traced, confirmed);
        if !confirmed {
            return;
        }
        if let Err(e) = self.shared.parts.store.settle_outbox(&[finished.row]).await {
            // The row stands and its outcomes are published once more, with the same message ids.
            tracing::warn!(error = %e, "failed to settle an outbox row");
        }
    }

    /// Tells the requests that wait.
    async fn reply(&self, finished: &Finished) {
        let mut replies: BTreeMap<&str, Vec<serde_json::Value>> = BTreeMap::new();
        for (done, decision, timings) in finished.decided() {
            for waiting in finished.items.get(&done.event).into_iter().flatten() {
                let (Some(queue), Ok(decision)) = (&waiting.reply_to, Decision::from_canonical(decision)) else {
                    continue;
                };
                replies.entry(queue).or_default().push(decision.view(None, timings));
            }
        }
        if replies.is_empty() {
            return;
        }
        let message = |(queue, decisions): (&str, Vec<serde_json::Value>)| ReplyMessage {
            queue: queue.to_owned(),
            body: serde_json::Value::Array(decisions).to_string().into(),
        };
        self.shared.parts.broker.reply(replies.into_iter().map(message).collect()).await;
    }

    /// Acknowledges what has its disposition. What was fenced is left to the partition's new owner:
    /// its packs go back when the subscription is closed.
    async fn acknowledge(&self, mut finished: Finished) {
        for done in &finished.done {
            match done.verdict {
                Committed::Written | Committed::Duplicate => {
                    for item in finished.items.remove(&done.event).unwrap_or_default() {
                        item.pack.one_done().await;
                    }
                }
                Committed::Fenced => self.shared.ownership.fenced(done.partition),
            }
        }
    }
}

/// One message a tenant and commit, a JSON array of decisions; the message id depends on nothing
/// but the row and the tenant, so that every publication of it is the same.
pub(super) fn outcome_messages(row: Uuid, decided: impl Iterator<Item = (TenantId, Bytes)>) -> Vec<OutcomeMessage> {
    let mut by_tenant: BTreeMap<TenantId, Vec<u8>> = BTreeMap::new();
    for (tenant, decision) in decided {
        let body = by_tenant.entry(tenant).or_insert_with(|| vec![b'[']);
        if body.len() > 1 {
            body.push(b',');
        }
        body.extend_from_slice(&decision);
    }
    let message = |(tenant, mut body): (TenantId, Vec<u8>)| {
        body.push(b']');
        OutcomeMessage { message_id: format!("{row}.{tenant}"), tenant, body: body.into() }
    };
    by_tenant.into_iter().map(message).collect()
}

/// True when every message is confirmed.
pub(super) async fn publish_all(broker: &dyn Broker, messages: Vec<OutcomeMessage>) -> bool {
    let results = broker.publish_outcomes(messages).await;
    let failed = results.iter().filter(|r| r.is_err()).count();
    if let Some(Err(first)) = results.iter().find(|r| r.is_err()) {
        metrics::counter!(crate::telemetry::names::PUBLISH_FAILURES).increment(failed as u64);
        tracing::warn!(error = %first, failed, "failed to publish outcomes; the outbox keeps them");
    }
    failed == 0
}
