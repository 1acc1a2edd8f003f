//! Owns a lane: takes what is there, decides it, commits it. One connection, one writer of the
//! chains of its tenants. Never waits by a timer, never acknowledges before the commit.
//!
//! What is delivered for the first time is decided together. What ended a worker before, or failed
//! and is due again, is `suspects`' business.

use metrics::histogram;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::Shared;
use super::buffer::{Buffer, Item, Start};
use super::desk::{Desk, Failed, Texts};
use super::finish::{Finished, Finisher};
use super::{tally, traced};
use crate::domain::{Epoch, EventId, Failure, PartitionId};
use crate::mutants::{self, Mutant};
use crate::ports::StoreError;
use crate::ports::store::{CommitBatch, Committed, Lane, NewDisposition, NewRetry, RetryBatch};
use crate::resilience::{Backoff, backoff};
use crate::telemetry::names;

/// A lane of a worker.
pub(super) struct LaneTask {
    pub(super) shared: Arc<Shared>,
    pub(super) buffer: Arc<Buffer>,
    pub(super) lane: Box<dyn Lane>,
    pub(super) finisher: Finisher,
    pub(super) desk: Desk,
}

/// The items of each event: a broker may deliver one twice.
pub(super) type ById = BTreeMap<EventId, Vec<Item>>;

pub(super) fn by_id(items: Vec<Item>) -> ById {
    let mut all = ById::new();
    for item in items {
        all.entry(item.id()).or_default().push(item);
    }
    all
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
        let items = self.shared.ownership.still_owned(items);
        let (first, suspects): (Vec<Item>, Vec<Item>) = items.into_iter().partition(|i| i.start == Start::First);
        // Nobody waits behind a suspect.
        self.decide(first, 1).await;
        self.examine(suspects).await;
    }

    /// Decides events together. `attempts`: how often they have been begun, this time included.
    pub(super) async fn decide(&mut self, mut items: Vec<Item>, attempts: u32) {
        if items.is_empty() {
            return;
        }
        traced::handed_over(&self.shared.parts.traces, &items);
        let mut backoff = store_backoff(&self.shared);
        let prepared = loop {
            match self.desk.prepare(&mut items).await {
                Ok(done) => break done,
                Err(e) => wait_out("read events", &e, &mut backoff).await,
            }
        };
        let mut items = by_id(items);
        self.finisher.nothing_to_do(prepared.settled, &mut items).await;
        let mut texts = prepared.texts;
        let refused = self.commit(prepared.dispositions, &mut items, &mut texts).await;
        let mut failed = prepared.failed;
        for (NewDisposition { event, .. }, error) in refused {
            // A text that the store refuses: what came of the event can't be written.
            match self.desk.stored(event).await {
                Some(stored) => failed.push(Failed { stored, class: Failure::Store.class(), error }),
                // A late copy of what was buried before: its pack is done, or it would stay in hand
                // for as long as the subscription lives.
                None => self.finisher.nothing_to_do(vec![event], &mut items).await,
            }
        }
        self.fail(failed, attempts, &mut items).await;
    }

    /// Commits, and gives what the store refuses for what it says, found by halves.
    async fn commit(
        &mut self,
        dispositions: Vec<NewDisposition>,
        items: &mut ById,
        texts: &mut Texts,
    ) -> Vec<(NewDisposition, String)> {
        let (mut parts, mut refused) = (vec![dispositions], Vec::new());
        while let Some(part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            let batch = self.batch(part);
            if mutants::active(Mutant::AckBeforeCommit) {
                for item in items.values().flatten() {
                    item.pack.one_done().await;
                }
            }
            let began = self.shared.parts.traces.moment();
            match self.try_commit(&batch).await {
                Ok(verdicts) => {
                    tally::committed(&self.shared, (&batch, &verdicts), texts);
                    let told = traced::committed(&self.shared.parts.traces, began, (&batch, &verdicts), items);
                    let own = batch.items.iter().filter_map(|i| Some((i.event, items.remove(&i.event)?))).collect();
                    self.finisher.finish(Finished::new(batch, verdicts, own, texts).traced(told)).await;
                }
                Err(why) => {
                    let mut part = batch.items;
                    tracing::error!(
                        error = why,
                        events = part.len(),
                        "the store refuses a commit; looking for the event"
                    );
                    if part.len() == 1 {
                        refused.extend(part.pop().map(|one| (one, why)));
                    } else {
                        let later = part.split_off(part.len() / 2);
                        parts.extend([later, part]);
                    }
                }
            }
        }
        refused
    }

    /// Tries until the store has answered. Committing the same batch again is safe: what the first
    /// try wrote is a duplicate for the second.
    ///
    /// # Errors
    /// With the reason, when the store refuses the content twice: the second time with chain heads
    /// that were read anew.
    async fn try_commit(&mut self, batch: &CommitBatch) -> Result<Vec<Committed>, String> {
        let (mut backoff, mut refused) = (store_backoff(&self.shared), false);
        loop {
            let started = self.shared.parts.clock.elapsed();
            match self.lane.commit_batch(batch).await {
                Ok(verdicts) => {
                    histogram!(names::COMMIT_SECONDS).record(self.shared.parts.clock.elapsed().saturating_sub(started));
                    return Ok(verdicts);
                }
                Err(StoreError::Refused(why)) if refused => return Err(why),
                Err(StoreError::Refused(_)) => refused = true,
                Err(e) => wait_out("commit", &e, &mut backoff).await,
            }
        }
    }

    /// Puts failed events off, or buries those that were begun often enough.
    pub(super) async fn fail(&mut self, failed: Vec<Failed>, attempts: u32, items: &mut ById) {
        if failed.is_empty() {
            return;
        }
        let mut later = failed;
        if attempts >= self.shared.limits.attempts_max {
            later = self.bury(later, attempts, items).await;
        }
        if !later.is_empty() {
            self.postpone(later, attempts, items).await;
        }
    }

    /// Gives what the store takes not even as a dead letter: it waits in `retries`, for a worker that
    /// knows better, and its pack is done.
    async fn bury(&mut self, failed: Vec<Failed>, attempts: u32, items: &mut ById) -> Vec<Failed> {
        let graves = failed.iter().map(|f| self.desk.bury(&f.stored, f.class, f.error.clone(), attempts)).collect();
        let mut refused: BTreeMap<EventId, String> = BTreeMap::new();
        for (grave, why) in self.commit(graves, items, &mut Texts::new()).await {
            tracing::error!(event.id = %grave.event, error = why, "failed to bury an event; it stays pending");
            refused.insert(grave.event, why);
        }
        let kept = |f: Failed| Some(Failed { error: refused.remove(&f.stored.id)?, ..f });
        failed.into_iter().filter_map(kept).collect()
    }

    async fn postpone(&mut self, failed: Vec<Failed>, attempts: u32, items: &mut ById) {
        let batch = RetryBatch {
            worker: self.shared.member.id,
            epochs: self.epochs(failed.iter().map(|f| f.stored.partition)),
            items: failed.into_iter().map(|f| self.retry(f, attempts)).collect(),
        };
        let began = self.shared.parts.traces.moment();
        let mut backoff = store_backoff(&self.shared);
        let verdicts = loop {
            match self.lane.postpone(&batch).await {
                Ok(verdicts) => break verdicts,
                Err(e) => wait_out("put events off", &e, &mut backoff).await,
            }
        };
        traced::postponed(&self.shared.parts.traces, began, &batch, items);
        let mut postponed = Vec::with_capacity(batch.items.len());
        for (retry, verdict) in batch.items.iter().zip(verdicts) {
            if verdict == Committed::Fenced {
                self.shared.ownership.fenced(retry.partition);
                continue;
            }
            postponed.push(retry);
            for item in items.remove(&retry.event).unwrap_or_default() {
                item.pack.one_done().await;
            }
        }
        tally::postponed(&self.shared, &postponed);
    }

    fn retry(&self, failed: Failed, attempts: u32) -> NewRetry {
        let limits = &self.shared.limits;
        let entropy = &*self.shared.parts.entropy;
        let wait = backoff::wait_after(attempts, limits.retry_first, limits.retry_longest, entropy);
        tracing::warn!(event.id = %failed.stored.id, error = failed.error, attempts, wait_s = wait.as_secs(), "an event failed");
        let (event, partition) = (failed.stored.id, failed.stored.partition);
        NewRetry { event, partition, class: failed.class, error: failed.error, attempts, wait }
    }

    /// The epochs under which this worker holds partitions. One that was let go meanwhile has none,
    /// and −1 was never one: what is written under it is fenced.
    pub(super) fn epochs(&self, partitions: impl Iterator<Item = PartitionId>) -> Vec<(PartitionId, Epoch)> {
        let distinct: BTreeSet<PartitionId> = partitions.collect();
        distinct.into_iter().map(|p| (p, self.shared.ownership.epoch(p))).collect()
    }

    fn batch(&self, items: Vec<NewDisposition>) -> CommitBatch {
        CommitBatch {
            id: self.shared.parts.entropy.uuid(),
            worker: self.shared.member.id,
            at: self.shared.parts.clock.now(),
            epochs: self.epochs(items.iter().map(|i| i.partition)),
            items,
        }
    }
}

pub(super) fn store_backoff(shared: &Shared) -> Backoff {
    Backoff::new(Duration::from_millis(50), Duration::from_secs(2), &*shared.parts.entropy)
}

/// Waits for a store that is away or broken: no attempt of an event is counted for that.
pub(super) async fn wait_out(what: &str, e: &StoreError, backoff: &mut Backoff) {
    tracing::warn!(error = %e, "failed to {what}; waiting for the store");
    tokio::time::sleep(backoff.next_wait()).await;
}
