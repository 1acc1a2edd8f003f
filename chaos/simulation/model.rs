//! Owns what must be true while a run goes on: the model that every call is held against.

use std::collections::{BTreeMap, BTreeSet};

use riskfleet::domain::{Epoch, EventId, IdempotencyKey, PartitionId, TenantId};
use riskfleet::ports::store::{CommitBatch, Committed, RetryBatch};

/// What makes a request the same request.
pub(crate) type RequestKey = (TenantId, IdempotencyKey);

/// A run as it should be.
#[derive(Default)]
pub(crate) struct Model {
    /// The newest claim of each partition.
    newest: BTreeMap<PartitionId, Epoch>,
    /// Events with a disposition.
    ended: BTreeSet<EventId>,
    /// Every request that anybody ever sent.
    pub(crate) attempts: BTreeSet<RequestKey>,
    /// Every request that was answered: with this event.
    pub(crate) answers: BTreeMap<RequestKey, EventId>,
    /// Requests that the inbox has confirmed.
    pub(crate) promised: BTreeSet<RequestKey>,
    /// Every outcome that reached the broker.
    pub(crate) published: BTreeMap<EventId, String>,
    /// What went wrong.
    pub(crate) violations: Vec<String>,
    /// How often something worth happening has happened.
    pub(crate) seen: BTreeMap<&'static str, u64>,
}

impl Model {
    pub(crate) fn violated(&mut self, what: String) {
        // The first few say it; a thousand more of one kind say nothing.
        if self.violations.len() < 20 {
            self.violations.push(what);
        }
    }

    /// Something worth happening has happened.
    pub(crate) fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    /// A partition was claimed.
    pub(crate) fn claimed(&mut self, partition: PartitionId, epoch: Epoch) {
        let before = self.newest.insert(partition, epoch);
        if before.is_some_and(|b| b >= epoch) {
            self.violated(format!("{partition} was claimed under {epoch:?} after {before:?}"));
        }
    }

    /// The newest claim of a partition.
    pub(crate) fn epoch(&self, partition: PartitionId) -> Option<Epoch> {
        self.newest.get(&partition).copied()
    }

    /// A commit was answered by the store itself, whatever the worker hears.
    pub(crate) fn committed(&mut self, batch: &CommitBatch, verdicts: &[Committed]) {
        for (item, verdict) in batch.items.iter().zip(verdicts) {
            match verdict {
                Committed::Written => {}
                Committed::Duplicate => {
                    self.saw("a duplicate met the disposition's key");
                    continue;
                }
                Committed::Fenced => {
                    self.saw("a commit was fenced");
                    continue;
                }
            }
            let under = batch.epochs.iter().find(|(p, _)| *p == item.partition).map(|(_, e)| *e);
            if under != self.epoch(item.partition) {
                let newest = self.epoch(item.partition);
                self.violated(format!("{} was written under {under:?}, the newest claim is {newest:?}", item.event));
            }
            if !self.ended.insert(item.event) {
                self.violated(format!("{} was written twice", item.event));
            }
        }
    }

    /// Retries were written, by an owner only.
    pub(crate) fn postponed(&mut self, batch: &RetryBatch, verdicts: &[Committed]) {
        for (item, verdict) in batch.items.iter().zip(verdicts) {
            let under = batch.epochs.iter().find(|(p, _)| *p == item.partition).map(|(_, e)| *e);
            if *verdict == Committed::Written && under != self.epoch(item.partition) {
                self.violated(format!("{} was postponed under {under:?}", item.event));
            }
        }
    }

    /// A request was answered with an event.
    pub(crate) fn answered(&mut self, request: &RequestKey, event: EventId) {
        let first = *self.answers.entry(request.clone()).or_insert(event);
        if first != event {
            self.violated(format!("{}/{} is the event {first} and the event {event}", request.0, request.1));
        }
    }

    /// An outcome reached the broker.
    pub(crate) fn outcome(&mut self, event: EventId, decision: &str) {
        let first = self.published.entry(event).or_insert_with(|| decision.to_owned());
        if *first != decision {
            self.violated(format!("two different outcomes of {event} were published"));
        }
    }
}
