//! Owns the way from a batch of deliveries to their dispositions: reads what has to be read, fetches
//! the context of the whole batch in one round trip, runs the workflow. Never commits.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::Shared;
use super::buffer::{Content, Item};
use super::decide::{Bench, Decided, Ready, Told};
use super::lane::{store_backoff, wait_out};
use super::traced::Spans;
use crate::domain::context::Observation;
use crate::domain::{EventId, Failure, FailureClass, Snapshot};
use crate::ports::StoreError;
use crate::ports::store::{NewDisposition, StoredEvent};

/// Decides batches.
pub(super) struct Desk {
    pub(super) shared: Arc<Shared>,
}

/// Decisions in the clear, to be told.
pub(super) type Texts = HashMap<EventId, Told>;

/// What became of a batch before its commit.
#[derive(Default)]
pub(super) struct Prepared {
    /// To be committed.
    pub(super) dispositions: Vec<NewDisposition>,
    /// The decisions among them, in the clear.
    pub(super) texts: Texts,
    /// Events on which nothing is to be done.
    pub(super) settled: Vec<EventId>,
    /// Events on which the workflow has failed.
    pub(super) failed: Vec<Failed>,
    /// What the traced ones among them hang on.
    spans: Spans,
}

/// An event that could not be decided this time.
pub(super) struct Failed {
    pub(super) stored: StoredEvent,
    pub(super) class: FailureClass,
    pub(super) error: String,
}

impl Desk {
    /// Decides. Takes the contents out of the items: after an error they are read from the store.
    ///
    /// # Errors
    /// When the store is away.
    pub(super) async fn prepare(&self, items: &mut [Item]) -> Result<Prepared, StoreError> {
        let (mut given, mut asked) = (Vec::new(), Vec::new());
        let mut seen = HashSet::with_capacity(items.len());
        let mark = self.shared.mark();
        let mut prepared = Prepared { spans: Spans::of(items), ..Prepared::default() };
        for item in items {
            let id = item.id();
            if !seen.insert(id) {
                continue;
            }
            match item.take_content() {
                // Below W the key that would meet a duplicate may be gone with its time partition.
                Content::Given(event) if id >= mark => given.push(*event),
                Content::Given(_) | Content::Stored(_) => asked.push(id),
            }
        }
        let stored = if asked.is_empty() { Vec::new() } else { self.shared.parts.store.pending_of(&asked).await? };
        let found: HashSet<EventId> = stored.iter().map(|e| e.id).collect();
        prepared.settled = asked.into_iter().filter(|id| !found.contains(id)).collect();
        given.extend(stored);
        let ready = self.open(given, &mut prepared).await?;
        self.run(ready, &mut prepared).await;
        Ok(prepared)
    }

    async fn run(&self, given: Vec<Ready>, prepared: &mut Prepared) {
        let contexts = self.contexts(&given).await;
        let clock = &self.shared.parts.clock;
        let stopwatch = || clock.elapsed();
        let (bench, in_force) = (self.bench(&stopwatch), self.shared.models.current());
        let (stopped, traces) = (self.shared.stopped.current(), &self.shared.parts.traces);
        for (ready, mut context) in given.into_iter().zip(contexts) {
            context.budget_exhausted = stopped.contains(&ready.event.body.tenant_id);
            let began = traces.moment();
            match bench.decide(&ready, &context, in_force.of(&ready.event.body.tenant_id)) {
                Ok(Decided { disposition, told }) => {
                    prepared.spans.decided(traces, began, &disposition);
                    prepared.texts.insert(disposition.event, told);
                    prepared.dispositions.push(disposition);
                }
                Err(error) => {
                    prepared.failed.push(Failed { stored: ready.stored, class: Failure::Workflow.class(), error });
                }
            }
        }
    }

    /// Reads an event that is undecided; waits for the store.
    pub(super) async fn stored(&self, id: EventId) -> Option<StoredEvent> {
        let mut backoff = store_backoff(&self.shared);
        loop {
            match self.shared.parts.store.pending_of(&[id]).await {
                Ok(mut found) => return found.pop(),
                Err(e) => wait_out("read an event", &e, &mut backoff).await,
            }
        }
    }

    /// A dead letter.
    pub(super) fn bury(
        &self,
        stored: &StoredEvent,
        class: FailureClass,
        error: String,
        attempts: u32,
    ) -> NewDisposition {
        self.bench(&|| Duration::ZERO).bury(stored, class, error, attempts)
    }

    fn bench<'a>(&'a self, stopwatch: &'a dyn Fn() -> Duration) -> Bench<'a> {
        Bench {
            worker: self.shared.member.id,
            now: crate::domain::time::whole_millis(self.shared.parts.clock.now()),
            stopwatch,
            keyring: &self.shared.parts.keyring,
            prices: &self.shared.parts.prices,
        }
    }

    /// One round trip for the whole batch. A context store that is away costs no decision.
    async fn contexts(&self, events: &[Ready]) -> Vec<Snapshot> {
        let observations: Vec<Observation> = events.iter().filter_map(Ready::observation).collect();
        if observations.is_empty() {
            return vec![Snapshot::default(); events.len()];
        }
        match self.shared.parts.context.observe(&observations).await {
            Ok(figures) => {
                let mut figures = figures.into_iter();
                let snapshot = |e: &Ready| match e.event.body.subject {
                    Some(_) => Snapshot { subject_24h: figures.next(), ..Snapshot::default() },
                    None => Snapshot::default(),
                };
                events.iter().map(snapshot).collect()
            }
            Err(e) => {
                tracing::warn!(error = %e, events = events.len(), "deciding without context");
                let snapshot = |e: &Ready| match e.event.body.subject {
                    Some(_) => Snapshot::unavailable(),
                    None => Snapshot::default(),
                };
                events.iter().map(snapshot).collect()
            }
        }
    }
}
