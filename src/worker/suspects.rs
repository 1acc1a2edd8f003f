//! Owns events that have been begun before: redelivered ones, which may have ended their worker, and
//! those that failed and are due again. A crash-looper is found by marks that are committed before
//! it runs; its neighbours go on.
//!
//! # Decisions
//! The first worker that sees a redelivered pack marks its events and runs them together: most
//! redeliveries are a broken connection. A mark that another worker made says that this other one
//! was lost with it: then every event runs on its own, marked anew each time, those with the fewest
//! marks first, so that the one that ends every worker comes last. A mark of this worker's own
//! proves its innocence: this worker is still here.

use metrics::counter;

use super::buffer::{Item, Start};
use super::desk::Failed;
use super::lane::{ById, LaneTask, by_id, store_backoff, wait_out};
use crate::domain::{EventId, Failure, PartitionId};
use crate::ports::store::{Mark, MarkBatch, Marking};
use crate::telemetry::names;

impl LaneTask {
    /// Runs events that were begun before.
    pub(super) async fn examine(&mut self, items: Vec<Item>) {
        if items.is_empty() {
            return;
        }
        let (due, redelivered): (Vec<Item>, Vec<Item>) =
            items.into_iter().partition(|i| matches!(i.start, Start::Due { .. }));
        let mut alone: Vec<(u32, EventId, Vec<Item>)> = Vec::new();
        for item in due {
            if let Start::Due { attempts } = item.start {
                alone.push((attempts, item.id(), vec![item]));
            }
        }
        let together = self.first_look(redelivered, &mut alone).await;
        self.decide(together, 1).await;
        alone.sort_by_key(|(attempts, id, _)| (*attempts, *id));
        for (_, id, items) in alone {
            self.run_alone(id, self.shared.ownership.still_owned(items)).await;
        }
    }

    /// Marks redelivered events. Gives those that may run together, and adds the others to `alone`.
    async fn first_look(&mut self, items: Vec<Item>, alone: &mut Vec<(u32, EventId, Vec<Item>)>) -> Vec<Item> {
        let (mut items, mut together) = (by_id(items), Vec::new());
        let events: Vec<(EventId, PartitionId)> =
            items.iter().filter_map(|(id, same)| Some((*id, same.first()?.partition()))).collect();
        let marks = self.mark(Marking::Together, events.clone()).await;
        for ((id, partition), mark) in events.into_iter().zip(marks) {
            match mark {
                Mark::Begun { by_other: false, .. } => together.extend(items.remove(&id).unwrap_or_default()),
                Mark::Begun { attempts, by_other: true } => {
                    alone.push((attempts, id, items.remove(&id).unwrap_or_default()));
                }
                Mark::Waiting | Mark::Settled => self.finisher.nothing_to_do(vec![id], &mut items).await,
                Mark::Fenced => self.shared.ownership.fenced(partition),
            }
        }
        together
    }

    /// Marks an event, and runs it when it has not been begun too often.
    async fn run_alone(&mut self, id: EventId, items: Vec<Item>) {
        let Some(partition) = items.first().map(Item::partition) else { return };
        match self.mark(Marking::Alone, vec![(id, partition)]).await.first() {
            Some(Mark::Begun { attempts, .. }) if *attempts > self.shared.limits.attempts_max => {
                self.quarantine(id, *attempts - 1, &mut by_id(items)).await;
            }
            Some(Mark::Begun { attempts, .. }) => self.decide(items, *attempts).await,
            Some(Mark::Waiting | Mark::Settled) => self.finisher.nothing_to_do(vec![id], &mut by_id(items)).await,
            Some(Mark::Fenced) => self.shared.ownership.fenced(partition),
            None => {}
        }
    }

    /// Buries an event that has ended every worker that ran it.
    async fn quarantine(&mut self, id: EventId, attempts: u32, items: &mut ById) {
        let Some(stored) = self.desk.stored(id).await else {
            return self.finisher.nothing_to_do(vec![id], items).await;
        };
        tracing::error!(event.id = %id, attempts, "quarantined: no worker that began it has finished it");
        counter!(names::EVENTS_QUARANTINED).increment(1);
        let error = format!("begun {attempts} times, and no worker has finished it");
        let failed = Failed { stored, class: Failure::Unexpected.class(), error };
        self.fail(vec![failed], attempts, items).await;
    }

    async fn mark(&mut self, marking: Marking, events: Vec<(EventId, PartitionId)>) -> Vec<Mark> {
        if events.is_empty() {
            return Vec::new();
        }
        let epochs = self.epochs(events.iter().map(|(_, p)| *p));
        let batch = MarkBatch { worker: self.shared.member.id, epochs, marking, events };
        let mut backoff = store_backoff(&self.shared);
        loop {
            match self.lane.mark_attempts(&batch).await {
                Ok(marks) => return marks,
                Err(e) => wait_out("mark events", &e, &mut backoff).await,
            }
        }
    }
}
