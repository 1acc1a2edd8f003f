//! Owns the group commit: takes what is waiting, tenant by tenant in turn, without a timer; while one
//! commit is in flight the arrivals gather for the next.

use bytes::Bytes;
use metrics::{counter, histogram};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Parts;
use super::clock::StoreClock;
use super::publish::{Fresh, Publisher};
use super::queue::{AcceptQueue, Submission};
use super::waiters::Waiters;
use crate::domain::audit::sha256;
use crate::domain::partition::partition_of;
use crate::domain::{EventId, Status};
use crate::ports::StoreError;
use crate::ports::intake::{Candidate, IntakeError, Receipt, Taken};
use crate::ports::store::{Accepted, NewEvent};
use crate::telemetry::names;

/// Commits in flight: while one waits for the disk, the other is gathered and sent.
pub(super) const LANES: usize = 2;

/// What a caller is told to wait at least.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// One accept lane.
pub(super) struct Accept {
    pub(super) parts: Parts,
    pub(super) partitions: u16,
    pub(super) clock: Arc<StoreClock>,
    pub(super) queue: Arc<AcceptQueue>,
    pub(super) publisher: Arc<Publisher>,
    pub(super) waiters: Arc<Waiters>,
}

impl Accept {
    /// Runs until stopped and the queue is empty.
    pub(super) async fn run(self, stop: CancellationToken) {
        while let Some(gathered) = self.queue.take(self.parts.limits.batch_max, &stop).await {
            self.take(gathered).await;
        }
    }

    async fn take(&self, gathered: Vec<Submission>) {
        let started = self.parts.clock.elapsed();
        let candidates: Vec<&Candidate> = gathered.iter().flat_map(|s| &s.candidates).collect();
        let result = self.store(&candidates).await;
        histogram!(names::ACCEPT_SECONDS).record(self.parts.clock.elapsed().saturating_sub(started));
        histogram!(names::ACCEPT_BATCH_EVENTS).record(candidates.len() as f64);
        match result {
            Ok(stored) => self.answer(gathered, stored),
            Err(e) => {
                let away = IntakeError::StoreAway { retry_after: retry_after(&e, candidates.len()) };
                for submission in gathered {
                    // A caller that has gone away needs no answer.
                    _ = submission.answer.send(Err(away.clone()));
                }
            }
        }
    }

    /// Stores the candidates under ids minted now. When the ids are off, the clock is measured and
    /// new ids are minted, once: nothing was written.
    async fn store(&self, candidates: &[&Candidate]) -> Result<Stored, StoreError> {
        let bodies: Vec<Bytes> = candidates.iter().map(|c| Bytes::from(c.body.canonical())).collect();
        let batch = self.parts.entropy.uuid();
        let mut events = self.mint(candidates, &bodies);
        let verdicts = match self.parts.store.accept_batch(batch, &events).await {
            Err(StoreError::ClockSkew(ms)) => {
                tracing::warn!(skew_ms = ms, "ids were off the store's clock; measuring again");
                self.clock.adjust(&*self.parts.store).await?;
                self.forget(candidates, &events);
                events = self.mint(candidates, &bodies);
                self.parts.store.accept_batch(batch, &events).await?
            }
            other => other?,
        };
        Ok(Stored { batch, events, verdicts })
    }

    fn mint(&self, candidates: &[&Candidate], bodies: &[Bytes]) -> Vec<NewEvent> {
        let millis = self.clock.millis();
        candidates
            .iter()
            .zip(bodies)
            .map(|(candidate, body)| {
                let id = EventId::mint(millis, self.parts.entropy.ten_bytes());
                if candidate.wait {
                    // Before the commit: the decision may come before the answer.
                    self.waiters.expect(id, self.parts.clock.elapsed());
                }
                NewEvent {
                    id,
                    tenant: candidate.body.tenant_id.clone(),
                    key: candidate.key.clone(),
                    correlation_id: candidate.correlation_id.clone(),
                    partition: partition_of(&candidate.body.tenant_id, self.partitions),
                    body: body.clone(),
                    payload_hash: sha256(body),
                }
            })
            .collect()
    }

    fn forget(&self, candidates: &[&Candidate], events: &[NewEvent]) {
        for (_, event) in candidates.iter().zip(events).filter(|(c, _)| c.wait) {
            self.waiters.forget(event.id);
        }
    }

    /// Answers first, publishes behind: what is stored is accepted.
    fn answer(&self, gathered: Vec<Submission>, stored: Stored) {
        let mut fresh = Vec::with_capacity(stored.events.len());
        let mut rows = stored.events.into_iter().zip(stored.verdicts);
        for submission in gathered {
            let Submission { tenant: _, candidates, traffic, answer, room } = submission;
            let mut taken = Vec::with_capacity(candidates.len());
            for (candidate, (event, verdict)) in candidates.into_iter().zip(rows.by_ref()) {
                taken.push(taken_as(&event, &verdict));
                match verdict {
                    Accepted::Fresh => {
                        counter!(names::EVENTS_ACCEPTED, "kind" => candidate.body.kind.as_str()).increment(1);
                        let reply_to = if candidate.wait { self.waiters.queue() } else { None };
                        fresh.push(Fresh { event, traffic, reply_to, traceparent: candidate.traceparent });
                    }
                    Accepted::Replayed { .. } | Accepted::Conflict { .. } => {
                        counter!(names::EVENTS_REPLAYED)
                            .increment(u64::from(matches!(verdict, Accepted::Replayed { .. })));
                        self.waiters.forget(event.id);
                    }
                }
            }
            // A caller that has gone away needs no answer.
            _ = answer.send(Ok(taken));
            drop(room);
        }
        if !fresh.is_empty() {
            self.publisher.publish(stored.batch, fresh);
        }
    }
}

/// When a refused caller is to come again.
fn retry_after(e: &StoreError, events: usize) -> Duration {
    match e {
        // Told once, by the circuit; callers come by the thousand.
        StoreError::Open { retry_in } => {
            tracing::debug!(error = %e, events, "failed to accept a batch");
            (*retry_in).max(RETRY_AFTER)
        }
        StoreError::Away(_)
        | StoreError::ClockSkew(_)
        | StoreError::Misfit(_)
        | StoreError::Refused(_)
        | StoreError::Fault(_) => {
            tracing::warn!(error = %e, events, "failed to accept a batch");
            RETRY_AFTER
        }
    }
}

/// A batch as the store took it.
struct Stored {
    batch: Uuid,
    events: Vec<NewEvent>,
    verdicts: Vec<Accepted>,
}

fn taken_as(event: &NewEvent, verdict: &Accepted) -> Taken {
    let receipt = |event_id: EventId, correlation_id: &crate::domain::CorrelationId, status| Receipt {
        event_id,
        tenant_id: event.tenant.clone(),
        status,
        created_at: event_id.created_at(),
        correlation_id: correlation_id.clone(),
    };
    match verdict {
        Accepted::Fresh => Taken::Accepted(receipt(event.id, &event.correlation_id, Status::Received)),
        Accepted::Replayed { id, correlation_id, status } => Taken::Replayed(receipt(*id, correlation_id, *status)),
        Accepted::Conflict { id } => Taken::Conflict(*id),
    }
}
