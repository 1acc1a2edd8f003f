//! Owns a lane: takes what is there, decides it, commits it. One connection, one writer of the
//! chains of its tenants. Never waits by a timer, never acknowledges before the commit.

use metrics::{counter, histogram};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::Shared;
use super::buffer::{Buffer, Item};
use super::desk::Desk;
use super::finish::{Finished, Finisher};
use crate::domain::EventId;
use crate::pipeline::state::Stage;
use crate::ports::StoreError;
use crate::ports::store::{CommitBatch, Committed, Disposition, Lane, NewDisposition};
use crate::resilience::Backoff;
use crate::telemetry::names;

/// A lane of a worker.
pub(super) struct LaneTask {
    pub(super) shared: Arc<Shared>,
    pub(super) buffer: Arc<Buffer>,
    pub(super) lane: Box<dyn Lane>,
    pub(super) finisher: Finisher,
    pub(super) desk: Desk,
}

/// What a batch came to before its commit.
struct Prepared {
    dispositions: Vec<NewDisposition>,
    items: HashMap<EventId, Vec<Item>>,
}

impl LaneTask {
    /// Runs until it is aborted: a drain stops the deliveries and waits until the lane is idle.
    pub(super) async fn run(mut self) {
        loop {
            let items = self.buffer.take(self.shared.limits.commit_batch_max).await;
            self.process(items).await;
        }
    }

    async fn process(&mut self, items: Vec<Item>) {
        let mut items = self.shared.ownership.still_owned(items);
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        let (prepared, settled) = loop {
            match self.desk.prepare(&mut items).await {
                Ok(done) => break done,
                Err(e) => wait_out("read events", &e, &mut backoff).await,
            }
        };
        let mut by_id: HashMap<EventId, Vec<Item>> = HashMap::with_capacity(items.len());
        for item in items {
            by_id.entry(item.id()).or_default().push(item);
        }
        self.finisher.nothing_to_do(settled, &mut by_id).await;
        if !prepared.is_empty() {
            self.commit(Prepared { dispositions: prepared, items: by_id }).await;
        }
    }

    /// Commits until the store has answered. Committing the same batch again is safe: what the
    /// first try wrote is a duplicate for the second.
    async fn commit(&mut self, prepared: Prepared) {
        let batch = self.batch(prepared.dispositions);
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        let verdicts = loop {
            let started = self.shared.parts.clock.elapsed();
            match self.lane.commit_batch(&batch).await {
                Ok(verdicts) => {
                    histogram!(names::COMMIT_SECONDS).record(self.shared.parts.clock.elapsed().saturating_sub(started));
                    break verdicts;
                }
                Err(e) => wait_out("commit", &e, &mut backoff).await,
            }
        };
        self.count(&batch, &verdicts);
        self.finisher.finish(Finished::new(batch, verdicts, prepared.items)).await;
    }

    fn batch(&self, items: Vec<NewDisposition>) -> CommitBatch {
        let partitions: HashSet<_> = items.iter().map(|i| i.partition).collect();
        // A partition that was let go meanwhile has no epoch here, and -1 was never one.
        let epochs = partitions.into_iter().map(|p| (p, self.shared.ownership.epoch(p))).collect();
        CommitBatch {
            id: self.shared.parts.entropy.uuid(),
            worker: self.shared.member.id,
            at: self.shared.parts.clock.now(),
            epochs,
            items,
        }
    }

    fn count(&self, batch: &CommitBatch, verdicts: &[Committed]) {
        let now = crate::domain::time::to_millis(self.shared.parts.clock.now());
        let mut written = 0_u32;
        for (item, verdict) in batch.items.iter().zip(verdicts) {
            match verdict {
                Committed::Written => {
                    written += 1;
                    histogram!(names::ACCEPT_TO_DECISION_SECONDS)
                        .record(now.saturating_sub(item.event.millis()) as f64 / 1_000.0);
                    count_written(&item.disposition);
                }
                Committed::Duplicate => counter!(names::EVENTS_DUPLICATE).increment(1),
                Committed::Fenced => counter!(names::EVENTS_FENCED).increment(1),
            }
        }
        histogram!(names::COMMIT_BATCH_EVENTS).record(f64::from(written));
    }
}

async fn wait_out(what: &str, e: &StoreError, backoff: &mut Backoff) {
    tracing::warn!(error = %e, "failed to {what}; waiting for the store");
    tokio::time::sleep(backoff.next_wait()).await;
}

fn count_written(disposition: &Disposition) {
    match disposition {
        Disposition::Decided { outcome, timings, .. } => {
            counter!(names::EVENTS_DECIDED, "outcome" => outcome.as_str()).increment(1);
            for (stage, micros) in Stage::ALL.iter().zip(timings) {
                histogram!(names::STAGE_SECONDS, "stage" => stage.as_str()).record(f64::from(*micros) / 1e6);
            }
        }
        Disposition::Dead { class, .. } => counter!(names::EVENTS_FAILED, "class" => class.as_str()).increment(1),
    }
}
