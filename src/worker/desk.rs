//! Owns the way from a batch of deliveries to their dispositions: reads what has to be read, fetches
//! the context of the whole batch in one round trip, runs the workflow. Never commits.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::Shared;
use super::buffer::{Content, Item};
use super::decide::{Bench, Ready, ready};
use crate::domain::context::Observation;
use crate::domain::{EventId, Snapshot};
use crate::pipeline::Policy;
use crate::ports::StoreError;
use crate::ports::store::NewDisposition;

/// Decides batches.
pub(super) struct Desk {
    pub(super) shared: Arc<Shared>,
    pub(super) policy: Policy,
}

impl Desk {
    /// Gives the dispositions to be committed, and the events on which nothing is to be done. Takes
    /// the contents out of the items: after an error they are read from the store.
    ///
    /// # Errors
    /// When the store is away.
    pub(super) async fn prepare(&self, items: &mut [Item]) -> Result<(Vec<NewDisposition>, Vec<EventId>), StoreError> {
        let (mut given, mut asked) = (Vec::new(), Vec::new());
        let mut seen = HashSet::with_capacity(items.len());
        let mark = self.shared.mark();
        for item in items {
            let (id, partition) = (item.id(), item.partition);
            if !seen.insert(id) {
                continue;
            }
            match item.take_content() {
                // Below W the key that would meet a duplicate may be gone with its time partition.
                Content::Given(event, text) if id >= mark => given.push(Ready { event: *event, text, partition }),
                Content::Given(..) | Content::Stored(_) => asked.push(id),
            }
        }
        let stored = if asked.is_empty() { Vec::new() } else { self.shared.parts.store.pending_of(&asked).await? };
        let found: HashSet<EventId> = stored.iter().map(|e| e.id).collect();
        let settled = asked.into_iter().filter(|id| !found.contains(id)).collect();
        let mut dispositions = Vec::with_capacity(given.len() + stored.len());
        for event in &stored {
            match ready(event) {
                Ok(event) => given.push(event),
                Err(why) => dispositions.push(self.bench(&|| Duration::ZERO).bury(event, why)),
            }
        }
        let contexts = self.contexts(&given).await;
        let clock = &self.shared.parts.clock;
        let stopwatch = || clock.elapsed();
        let bench = self.bench(&stopwatch);
        dispositions.extend(given.iter().zip(&contexts).map(|(event, context)| bench.decide(event, context)));
        Ok((dispositions, settled))
    }

    fn bench<'a>(&'a self, stopwatch: &'a dyn Fn() -> Duration) -> Bench<'a> {
        Bench {
            worker: self.shared.member.id,
            policy: &self.policy,
            now: crate::domain::time::whole_millis(self.shared.parts.clock.now()),
            stopwatch,
        }
    }

    /// One round trip for the whole batch. A context store that is away costs no decision.
    async fn contexts(&self, events: &[Ready]) -> Vec<Snapshot> {
        let observations: Vec<Observation> = events.iter().filter_map(|ready| ready.event.observation()).collect();
        if observations.is_empty() {
            return vec![Snapshot::default(); events.len()];
        }
        match self.shared.parts.context.observe(&observations).await {
            Ok(figures) => {
                let mut figures = figures.into_iter();
                let snapshot = |e: &Ready| match e.event.body.subject {
                    Some(_) => Snapshot { subject_24h: figures.next(), unavailable: false },
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
