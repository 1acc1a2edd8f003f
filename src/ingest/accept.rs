//! Owns the group commit: takes what is waiting, tenant by tenant in turn, without a timer; while one
//! commit is in flight the arrivals gather for the next.

use metrics::{counter, histogram};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Parts;
use super::clock::StoreClock;
use super::publish::{Fresh, Publisher};
use super::queue::{AcceptQueue, Submission};
use super::traced::{self, Accepting};
use super::waiters::Waiters;
use crate::crypto::{DataKey, Key, Place};
use crate::domain::audit::sha256;
use crate::domain::partition::partition_of;
use crate::domain::{EventId, Status};
use crate::ports::StoreError;
use crate::ports::intake::{Candidate, IntakeError, Receipt, Taken};
use crate::ports::store::{Accepted, NewEvent};
use crate::telemetry::names::{self, reason};
use crate::telemetry::{Happened, tenants};

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
                    traced::not_accepted(&self.parts.traces, &submission);
                    // A caller that has gone away needs no answer.
                    _ = submission.answer.send(Err(away.clone()));
                }
            }
        }
    }

    /// Stores the candidates under ids minted now, sealed, those of erased subjects apart. When the ids
    /// are off, the clock is measured and new ids are minted, once: nothing was written.
    async fn store(&self, candidates: &[&Candidate]) -> Result<Stored, StoreError> {
        let owners: Vec<_> = candidates.iter().map(|c| (&c.body.tenant_id, c.body.subject.as_deref())).collect();
        let keys = self.parts.keyring.keys_for(&owners).await?;
        let sealable = candidates.iter().zip(&keys).filter_map(|(candidate, key)| match key {
            Key::Live(key) => Some(Work { candidate, text: candidate.body.canonical(), key }),
            Key::Erased => None,
        });
        let works: Vec<Work<'_>> = sealable.collect();
        let batch = self.parts.entropy.uuid();
        let mut events = self.mint(&works);
        let verdicts = match self.parts.store.accept_batch(batch, &events).await {
            Err(StoreError::ClockSkew(ms)) => {
                tracing::warn!(skew_ms = ms, "ids were off the store's clock; measuring again");
                self.clock.adjust(&*self.parts.store).await?;
                self.forget(&works, &events);
                events = self.mint(&works);
                self.parts.store.accept_batch(batch, &events).await?
            }
            other => other?,
        };
        if verdicts.len() != events.len() {
            return Err(StoreError::Fault("accept: not every event was answered".into()));
        }
        let mut stored = events.into_iter().zip(verdicts);
        let row = |key: &Key| match key {
            Key::Live(_) => stored.next(),
            Key::Erased => None,
        };
        Ok(Stored { batch, rows: keys.iter().map(row).collect() })
    }

    fn mint(&self, works: &[Work<'_>]) -> Vec<NewEvent> {
        let millis = self.clock.millis();
        works
            .iter()
            .map(|Work { candidate, text, key }| {
                let id = EventId::mint(millis, self.parts.entropy.ten_bytes());
                if candidate.wait {
                    // Before the commit: the decision may come before the answer.
                    self.waiters.expect(id, self.parts.clock.elapsed());
                }
                let tenant = &candidate.body.tenant_id;
                NewEvent {
                    id,
                    tenant: tenant.clone(),
                    key: candidate.key.clone(),
                    correlation_id: candidate.correlation_id.clone(),
                    partition: partition_of(tenant, self.partitions),
                    body: self.parts.keyring.seal(key, Place::event(tenant, id), text),
                    payload_hash: sha256(text),
                }
            })
            .collect()
    }

    fn forget(&self, works: &[Work<'_>], events: &[NewEvent]) {
        for (_, event) in works.iter().zip(events).filter(|(work, _)| work.candidate.wait) {
            self.waiters.forget(event.id);
        }
    }

    /// Answers first, publishes behind: what is stored is accepted.
    fn answer(&self, gathered: Vec<Submission>, stored: Stored) {
        let mut fresh = Vec::with_capacity(stored.rows.len());
        let mut accepting = Accepting::of(&self.parts.traces, stored.rows.len());
        let mut rows = stored.rows.into_iter();
        for submission in gathered {
            let Submission { tenant: _, candidates, traffic, answer, room, admitted } = submission;
            accepting.admitted = admitted;
            let mut taken = Vec::with_capacity(candidates.len());
            for (candidate, row) in candidates.into_iter().zip(rows.by_ref()) {
                let Some((event, verdict)) = row else {
                    counter!(names::EVENTS_REFUSED, "reason" => reason::ERASED).increment(1);
                    tenants().count(&candidate.body.tenant_id, Happened::Refused);
                    taken.push(Taken::Erased);
                    continue;
                };
                taken.push(taken_as(&event, &verdict));
                let trace = accepting.accepted(candidate.traceparent, &event, &verdict);
                match verdict {
                    Accepted::Fresh => {
                        counter!(names::EVENTS_ACCEPTED, "kind" => candidate.body.kind.as_str()).increment(1);
                        tenants().count(&event.tenant, Happened::Accepted);
                        let reply_to = if candidate.wait { self.waiters.queue() } else { None };
                        fresh.push(Fresh { event, traffic, reply_to, trace });
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
    /// One a candidate, in order; none for one of an erased subject.
    rows: Vec<Option<(NewEvent, Accepted)>>,
}

/// A candidate that can be sealed.
struct Work<'a> {
    candidate: &'a Candidate,
    text: Vec<u8>,
    key: &'a DataKey,
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
