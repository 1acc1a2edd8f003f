//! Owns the reading of the store in memory. Never changes a table.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use std::ops::Bound;
use std::time::Duration;

use super::tables::Tables;
use crate::domain::time::from_millis;
use crate::domain::{EventId, PartitionId, Stream};
use crate::ports::store::{
    AuditCursor, AuditLine, Backlog, Disposition, EventFilter, EventRecord, EventSummary, FleetStatus, Ledger,
    PartitionRow, StoredEvent,
};

/// Workers that reported within this time are shown.
const SHOWN: Duration = Duration::from_secs(60);

impl Tables {
    /// The events that no disposition has ended, by id: below the mark only those that wait for a
    /// next try, and those are few.
    fn pending(&self) -> impl Iterator<Item = &StoredEvent> {
        let below = self.retries.range(..self.mark).filter_map(|(id, _)| self.events.get(id));
        let above = self.events.range(self.mark..).map(|(_, event)| event);
        below.chain(above).filter(|event| self.is_pending(&event.id))
    }

    pub(super) fn pending_page(
        &self,
        partition: PartitionId,
        after: Option<EventId>,
        before: EventId,
        limit: u32,
    ) -> Vec<StoredEvent> {
        let fits = |e: &&StoredEvent| e.partition == partition && Some(e.id) > after && !self.waits(&e.id);
        self.pending().take_while(|e| e.id < before).filter(fits).take(limit as usize).cloned().collect()
    }

    pub(super) fn decision(&self, id: EventId) -> Option<Bytes> {
        match &self.ends.get(&id)?.disposition {
            Disposition::Decided { decision, .. } => Some(decision.clone()),
            Disposition::Dead { .. } => None,
        }
    }

    pub(super) fn record(&self, id: EventId) -> Option<EventRecord> {
        let mut unpublished: Vec<_> =
            self.outbox.values().filter(|row| row.events.contains(&id)).map(|row| row.kind).collect();
        unpublished.sort_by_key(|kind| *kind as u8);
        Some(EventRecord {
            event: self.events.get(&id)?.clone(),
            end: self.ends.get(&id).cloned(),
            approval: self.approvals.get(&id).cloned(),
            unpublished,
            retry: self.retries.get(&id).cloned(),
            past: self.history.get(&id).cloned().unwrap_or_default(),
        })
    }

    pub(super) fn list(&self, filter: &EventFilter) -> Vec<EventSummary> {
        let below = filter.before.map_or(Bound::Unbounded, Bound::Excluded);
        let newest_first = self.events.range((Bound::Unbounded, below)).rev();
        let fits = |event: &EventSummary| {
            filter.tenant.as_ref().is_none_or(|tenant| *tenant == event.tenant)
                && filter.status.is_none_or(|status| status == event.status)
        };
        let summary = |(id, event): (&EventId, &StoredEvent)| EventSummary {
            id: *id,
            tenant: event.tenant.clone(),
            status: self.status(*id),
            correlation_id: event.correlation_id.clone(),
            body: event.body.clone(),
        };
        newest_first.map(summary).filter(fits).take(filter.limit as usize).collect()
    }

    pub(super) fn audit_page(&self, after: Option<&AuditCursor>, limit: u32) -> Vec<AuditLine> {
        let from = after.map_or(Bound::Unbounded, |c| Bound::Excluded((c.tenant.clone(), c.stream, c.seq)));
        let records = self.audit.range::<(_, Stream, i64), _>((from, Bound::Unbounded)).take(limit as usize);
        let line = |record: &crate::domain::AuditRecord| {
            let named = named_event(&record.body);
            AuditLine {
                record: record.clone(),
                event: named.and_then(|id| self.events.get(&id)).map(|event| event.body.clone()),
                decision: named.and_then(|id| self.decision(id)),
            }
        };
        records.map(|(_, record)| line(record)).collect()
    }

    pub(super) fn backlog(&self, now: DateTime<Utc>) -> Backlog {
        let postponed = |id| self.retries.get(id).and_then(|retry| retry.due_at).is_some_and(|due| due > now);
        let (later, ready): (Vec<_>, Vec<_>) = self.pending().partition(|event| postponed(&event.id));
        let oldest = ready.iter().map(|event| event.id).min();
        Backlog {
            events: (later.len() + ready.len()) as u64,
            postponed: later.len() as u64,
            oldest: oldest.map(|id| from_millis(id.millis())),
        }
    }

    pub(super) fn ledger(&self) -> Ledger {
        let mut ledger = self.totals;
        ledger.accepted += count(self.events.range(self.mark..));
        ledger.pending = count(self.pending());
        for end in self.ends.range(self.mark..).map(|(_, end)| end) {
            match end.disposition {
                Disposition::Decided { .. } => ledger.decided += 1,
                Disposition::Dead { .. } => ledger.dead += 1,
            }
        }
        ledger
    }

    pub(super) fn fleet_status(&self, now: DateTime<Utc>) -> FleetStatus {
        let mut backlogs = vec![0; self.partitions.len()];
        for event in self.pending() {
            if let Some(backlog) = backlogs.get_mut(usize::from(event.partition.0)) {
                *backlog += 1;
            }
        }
        let row = |(n, ((epoch, owner), backlog)): (u16, (&(_, _), i64))| PartitionRow {
            partition: PartitionId(n),
            owner: *owner,
            epoch: *epoch,
            backlog,
        };
        FleetStatus {
            workers: self.workers.values().filter(|w| w.seen_at >= now - SHOWN).cloned().collect(),
            partitions: (0..).zip(self.partitions.iter().zip(backlogs)).map(row).collect(),
            ledger: self.ledger(),
        }
    }
}

fn count<T>(items: impl Iterator<Item = T>) -> i64 {
    i64::try_from(items.count()).unwrap_or(i64::MAX)
}

/// The event that a body names; none where the body can't be read, which the chain check says.
fn named_event(body: &str) -> Option<EventId> {
    #[derive(Deserialize)]
    struct Named {
        event_id: Option<EventId>,
    }
    serde_json::from_str::<Named>(body).ok()?.event_id
}
