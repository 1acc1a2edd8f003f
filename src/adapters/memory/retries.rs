//! Owns marks of attempts, retries and dead letters in memory, and the control chain that speaks
//! of them. Never waits.

use chrono::{DateTime, TimeDelta, Utc};
use std::ops::Bound;

use super::tables::Tables;
use crate::domain::{AuditBody, EventId, PartitionId, Stream, TenantId, WorkerId, time};
use crate::ports::StoreError;
use crate::ports::store::{
    Committed, DeadAct, DeadFilter, DeadLetter, Disposition, DueRetry, Mark, MarkBatch, Marking, PastAct, PastDeath,
    RetryBatch, RetryState, kept_error,
};

impl Tables {
    /// Whether the event waits for a next try.
    pub(super) fn waits(&self, id: &EventId) -> bool {
        self.retries.get(id).is_some_and(|retry| retry.due_at.is_some())
    }

    pub(super) fn mark_attempts(&mut self, batch: &MarkBatch) -> Vec<Mark> {
        let mark = |(event, partition): &(EventId, PartitionId)| match self.fate(&batch.epochs, *partition, *event) {
            Committed::Fenced => Mark::Fenced,
            Committed::Duplicate => Mark::Settled,
            Committed::Written if !self.events.contains_key(event) => Mark::Settled,
            Committed::Written => self.begin(*event, batch.worker, batch.marking),
        };
        batch.events.iter().map(mark).collect()
    }

    fn begin(&mut self, event: EventId, worker: WorkerId, marking: Marking) -> Mark {
        let fresh = RetryState { attempts: 0, due_at: None, class: None, error: None, worker: None };
        let known = self.retries.contains_key(&event);
        let retry = self.retries.entry(event).or_insert(fresh);
        if marking == Marking::Together && retry.due_at.is_some() {
            return Mark::Waiting;
        }
        let by_other = retry.worker.is_some_and(|before| before != worker);
        if marking == Marking::Alone || !known {
            retry.attempts = retry.attempts.saturating_add(1);
            retry.worker = Some(worker);
        }
        Mark::Begun { attempts: retry.attempts, by_other }
    }

    pub(super) fn postpone(&mut self, batch: &RetryBatch, now: DateTime<Utc>) -> Vec<Committed> {
        let mut fates = Vec::with_capacity(batch.items.len());
        for item in &batch.items {
            let mut fate = self.fate(&batch.epochs, item.partition, item.event);
            if fate == Committed::Written && !self.events.contains_key(&item.event) {
                fate = Committed::Duplicate;
            }
            if fate == Committed::Written {
                let counted = self.retries.get(&item.event).map_or(0, |retry| retry.attempts);
                let retry = RetryState {
                    attempts: item.attempts.max(counted),
                    due_at: Some(now + TimeDelta::milliseconds(item.wait_ms())),
                    class: Some(item.class),
                    error: Some(kept_error(&item.error)),
                    worker: None,
                };
                self.retries.insert(item.event, retry);
            }
            fates.push(fate);
        }
        fates
    }

    pub(super) fn due_retries(&self, partition: PartitionId, limit: u32, now: DateTime<Utc>) -> Vec<DueRetry> {
        let is_due = |(id, retry): (&EventId, &RetryState)| {
            let due_at = retry.due_at.filter(|due_at| *due_at <= now)?;
            let event = self.events.get(id).filter(|event| event.partition == partition)?;
            Some((due_at, DueRetry { event: event.clone(), attempts: retry.attempts }))
        };
        let mut due: Vec<(DateTime<Utc>, DueRetry)> = self.retries.iter().filter_map(is_due).collect();
        // Stable: of those due at one moment the smallest id comes first.
        due.sort_by_key(|(due_at, _)| *due_at);
        due.into_iter().map(|(_, retry)| retry).take(limit as usize).collect()
    }

    pub(super) fn dead_letters(&self, filter: &DeadFilter) -> Vec<DeadLetter> {
        let below = filter.before.map_or(Bound::Unbounded, Bound::Excluded);
        let letter = |id: &EventId| {
            let (end, event) = (self.ends.get(id)?, self.events.get(id)?);
            let Disposition::Dead { class, error, attempts } = &end.disposition else { return None };
            let is_wanted = filter.tenant.as_ref().is_none_or(|tenant| *tenant == event.tenant);
            (is_wanted && !self.is_discarded(*id)).then(|| DeadLetter {
                event: *id,
                tenant: event.tenant.clone(),
                class: *class,
                error: error.clone(),
                attempts: *attempts,
                at: end.at,
            })
        };
        let newest_first = self.ends.range((Bound::Unbounded, below)).rev();
        newest_first.filter_map(|(id, _)| letter(id)).take(filter.limit as usize).collect()
    }

    fn is_discarded(&self, id: EventId) -> bool {
        self.history.get(&id).is_some_and(|past| past.iter().any(|death| death.act == PastAct::Discarded))
    }

    pub(super) fn act_on_dead(
        &mut self,
        id: EventId,
        act: PastAct,
        audit: &AuditBody,
        now: DateTime<Utc>,
    ) -> Result<DeadAct, StoreError> {
        let event = self.events.get(&id).filter(|event| event.tenant == audit.tenant_id);
        let Some(event) = event else { return Ok(DeadAct::Unknown) };
        let tenant = event.tenant.clone();
        let dead = self.ends.get(&id).and_then(|end| match &end.disposition {
            Disposition::Dead { class, error, attempts } => Some((*class, error.clone(), *attempts, end.at)),
            Disposition::Decided { .. } => None,
        });
        let Some((class, error, attempts, died_at)) = dead else { return Ok(DeadAct::NotDead(self.status(id))) };
        if self.is_discarded(id) {
            return Ok(DeadAct::Discarded);
        }
        self.append_control(&tenant, audit)?;
        let death = PastDeath {
            class,
            error: kept_error(&error),
            attempts,
            died_at,
            act,
            acted_at: time::whole_millis(audit.at),
            by: audit.actor.clone(),
            reason: audit.reason.clone(),
        };
        self.history.entry(id).or_default().push(death);
        if act == PastAct::Replayed {
            self.ends.remove(&id);
            let retry = RetryState { attempts: 0, due_at: Some(now), class: None, error: None, worker: None };
            self.retries.insert(id, retry);
            if id < self.mark {
                self.totals.dead -= 1;
            }
        }
        Ok(DeadAct::Done)
    }

    /// Hangs a record on the tenant's control chain.
    pub(super) fn append_control(&mut self, tenant: &TenantId, audit: &AuditBody) -> Result<(), StoreError> {
        if (&audit.tenant_id, audit.stream) != (tenant, Stream::Control) {
            return Err(StoreError::Fault(format!("act for {tenant}: its audit record is of another chain")));
        }
        let line = self.head(tenant, Stream::Control).append(audit.clone());
        self.audit.insert((line.tenant.clone(), line.stream, line.seq), line);
        Ok(())
    }
}
