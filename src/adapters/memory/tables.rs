//! Owns the tables of the store in memory and the verbs that change them: each checks first and
//! then writes, so that a refused one has written nothing. Never waits.

use chrono::{DateTime, Utc};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use uuid::Uuid;

use super::vault::DataKeys;
use crate::crypto::HeadCache;
use crate::crypto::envelope::same_payload;
use crate::domain::{
    AuditRecord, ChainHead, Epoch, EventId, IdempotencyKey, Outcome, PartitionId, Status, Stream, TenantId, WorkerId,
    time,
};
use crate::ports::StoreError;
use crate::ports::store::{
    Accepted, Approval, CommitBatch, Committed, Disposition, End, Ledger, MARK_LAG, NewDisposition, NewEvent,
    OutboxKind, OutboxRow, PastDeath, RetryState, SKEW_MAX_MS, StoredEvent, WorkerRow, standing,
};

/// Events folded into the totals by one step of the mark at most.
const STEP_MAX: usize = 50_000;
/// How long the report of a worker is kept.
const REPORT_KEPT: Duration = Duration::from_secs(3_600);
/// How much of a rejected inbox message is kept, in bytes, and how many messages.
const REJECTED_MAX: usize = 64 * 1024;
const REJECTED_KEPT: usize = 1_000;

/// One row of the outbox.
pub(super) struct Outbox {
    pub(super) kind: OutboxKind,
    pub(super) events: Vec<EventId>,
    /// When it was written or last taken.
    touched_at: DateTime<Utc>,
    /// In which order rows of one moment were written.
    nth: u64,
}

/// Everything.
pub(super) struct Tables {
    pub(super) mark: EventId,
    /// Of the events below the mark.
    pub(super) totals: Ledger,
    pub(super) keys: BTreeMap<(TenantId, IdempotencyKey), EventId>,
    pub(super) events: BTreeMap<EventId, StoredEvent>,
    pub(super) ends: BTreeMap<EventId, End>,
    pub(super) approvals: BTreeMap<EventId, Approval>,
    pub(super) retries: BTreeMap<EventId, RetryState>,
    pub(super) history: BTreeMap<EventId, Vec<PastDeath>>,
    pub(super) repairs: u64,
    pub(super) audit: BTreeMap<(TenantId, Stream, i64), AuditRecord>,
    pub(super) outbox: BTreeMap<Uuid, Outbox>,
    pub(super) partitions: Vec<(Epoch, Option<WorkerId>)>,
    pub(super) workers: BTreeMap<WorkerId, WorkerRow>,
    pub(super) data_keys: DataKeys,
    rejected: BTreeMap<Uuid, (String, Vec<u8>)>,
    written: u64,
}

impl Tables {
    pub(super) fn new(partitions: u16) -> Self {
        Self {
            mark: EventId::floor(0),
            totals: Ledger::default(),
            keys: BTreeMap::new(),
            events: BTreeMap::new(),
            ends: BTreeMap::new(),
            approvals: BTreeMap::new(),
            retries: BTreeMap::new(),
            history: BTreeMap::new(),
            repairs: 0,
            audit: BTreeMap::new(),
            outbox: BTreeMap::new(),
            partitions: vec![(Epoch(0), None); usize::from(partitions)],
            workers: BTreeMap::new(),
            data_keys: DataKeys::default(),
            rejected: BTreeMap::new(),
            written: 0,
        }
    }

    pub(super) fn accept(
        &mut self,
        batch: Uuid,
        events: &[NewEvent],
        now: DateTime<Utc>,
    ) -> Result<Vec<Accepted>, StoreError> {
        for event in events {
            let off = (event.id.created_at() - now).num_milliseconds();
            // Below the mark nothing may appear, wherever the clock was set to.
            if off.abs() > SKEW_MAX_MS || event.id < self.mark {
                return Err(StoreError::ClockSkew(off));
            }
        }
        self.refuse_used_ids(batch, events)?;
        let mut fresh = Vec::new();
        let accepted = events.iter().map(|event| self.accept_one(event, &mut fresh)).collect();
        self.write_outbox(batch, OutboxKind::Accept, fresh, now);
        Ok(accepted)
    }

    /// What a primary key refuses in a database.
    fn refuse_used_ids(&self, batch: Uuid, events: &[NewEvent]) -> Result<(), StoreError> {
        let mut ids = BTreeSet::new();
        let mut keys = BTreeSet::new();
        for event in events {
            let key = (event.tenant.clone(), event.key.clone());
            if self.keys.contains_key(&key) || !keys.insert(key) {
                continue;
            }
            if self.events.contains_key(&event.id) || !ids.insert(event.id) || self.outbox.contains_key(&batch) {
                return Err(StoreError::Fault(format!("accept {}: its id, or the batch's, was used", event.id)));
            }
        }
        Ok(())
    }

    fn accept_one(&mut self, event: &NewEvent, fresh: &mut Vec<EventId>) -> Accepted {
        let key = (event.tenant.clone(), event.key.clone());
        if let Some(id) = self.keys.get(&key).copied() {
            let same = |first: &&StoredEvent| same_payload(&first.body, event);
            let first = self.events.get(&id).filter(same);
            return first.map_or(Accepted::Conflict { id }, |first| Accepted::Replayed {
                id,
                correlation_id: first.correlation_id.clone(),
                status: self.status(id),
            });
        }
        self.keys.insert(key, event.id);
        let stored = StoredEvent {
            id: event.id,
            tenant: event.tenant.clone(),
            partition: event.partition,
            correlation_id: event.correlation_id.clone(),
            body: event.body.clone(),
        };
        self.events.insert(event.id, stored);
        fresh.push(event.id);
        Accepted::Fresh
    }

    fn write_outbox(&mut self, id: Uuid, kind: OutboxKind, events: Vec<EventId>, now: DateTime<Utc>) {
        if !events.is_empty() {
            self.written += 1;
            self.outbox.insert(id, Outbox { kind, events, touched_at: now, nth: self.written });
        }
    }

    pub(super) fn take_outbox(
        &mut self,
        kind: OutboxKind,
        hold: Duration,
        limit: u32,
        now: DateTime<Utc>,
    ) -> Vec<OutboxRow> {
        let is_due = |row: &Outbox| (now - row.touched_at).to_std().is_ok_and(|stood| stood >= hold);
        let mut due: Vec<(&Uuid, &mut Outbox)> =
            self.outbox.iter_mut().filter(|(_, row)| row.kind == kind && is_due(row)).collect();
        due.sort_by_key(|(_, row)| (row.touched_at, row.nth));
        due.truncate(limit as usize);
        let take = |(id, row): (&Uuid, &mut Outbox)| {
            row.touched_at = now;
            OutboxRow { id: *id, kind, events: row.events.clone() }
        };
        due.into_iter().map(take).collect()
    }

    pub(super) fn claim(&mut self, partition: PartitionId, worker: WorkerId) -> Result<Epoch, StoreError> {
        let row = self.partitions.get_mut(usize::from(partition.0));
        let row = row.ok_or_else(|| StoreError::Fault(format!("claim {partition}: there is no such partition")))?;
        *row = (Epoch(row.0.0 + 1), Some(worker));
        Ok(row.0)
    }

    pub(super) fn release(&mut self, partition: PartitionId, epoch: Epoch) {
        if let Some(row) = self.partitions.get_mut(usize::from(partition.0))
            && row.0 == epoch
        {
            row.1 = None;
        }
    }

    /// Fence, dedupe, write. `heads` is worth nothing after an error.
    pub(super) fn commit(
        &mut self,
        heads: &mut HeadCache,
        now: DateTime<Utc>,
        batch: &CommitBatch,
    ) -> Result<Vec<Committed>, StoreError> {
        let committed = self.sort_out(batch);
        let written = || batch.items.iter().zip(&committed).filter(|(_, c)| **c == Committed::Written).map(|(i, _)| i);
        let mut lines = Vec::new();
        for item in written() {
            lines.push(self.append(heads, epoch_of(&batch.epochs, item.partition), item)?);
        }
        let is_decided = |item: &&NewDisposition| matches!(item.disposition, Disposition::Decided { .. });
        let decided: Vec<EventId> = written().filter(is_decided).map(|item| item.event).collect();
        if !decided.is_empty() && self.outbox.contains_key(&batch.id) {
            return Err(StoreError::Fault(format!("commit {}: its id was used", batch.id)));
        }
        for (item, line) in written().zip(lines) {
            self.write(batch, item, line);
        }
        self.write_outbox(batch.id, OutboxKind::Outcome, decided, now);
        Ok(committed)
    }

    fn sort_out(&self, batch: &CommitBatch) -> Vec<Committed> {
        let mut seen = BTreeSet::new();
        let fate = |item: &NewDisposition| match self.fate(&batch.epochs, item.partition, item.event) {
            Committed::Written if !seen.insert(item.event) => Committed::Duplicate,
            fate => fate,
        };
        batch.items.iter().map(fate).collect()
    }

    /// What a lane may do about an event under these epochs.
    pub(super) fn fate(&self, epochs: &[(PartitionId, Epoch)], partition: PartitionId, event: EventId) -> Committed {
        let stored = self.partitions.get(usize::from(partition.0)).map(|row| row.0);
        if stored.is_none() || stored != epoch_of(epochs, partition) {
            Committed::Fenced
        } else if self.ends.contains_key(&event) {
            Committed::Duplicate
        } else {
            Committed::Written
        }
    }

    fn append(
        &self,
        heads: &mut HeadCache,
        epoch: Option<Epoch>,
        item: &NewDisposition,
    ) -> Result<AuditRecord, StoreError> {
        let refused = |why: &str| StoreError::Fault(format!("commit {}: {why}", item.event));
        if (&item.audit.tenant_id, item.audit.stream) != (&item.tenant, Stream::Workflow) {
            return Err(refused("its audit record is of another chain"));
        }
        if !self.events.contains_key(&item.event) {
            return Err(refused("it is not stored"));
        }
        let epoch = epoch.ok_or_else(|| refused("its partition has no epoch"))?;
        let known = heads.get(&item.tenant, item.partition, epoch);
        let mut head = known.unwrap_or_else(|| self.head(&item.tenant, Stream::Workflow));
        let line = head.append(item.audit.clone());
        if self.audit.contains_key(&(item.tenant.clone(), Stream::Workflow, line.seq)) {
            return Err(refused("another writer has gone on with its chain"));
        }
        heads.put(item.tenant.clone(), item.partition, epoch, head);
        Ok(line)
    }

    pub(super) fn head(&self, tenant: &TenantId, stream: Stream) -> ChainHead {
        let place = |seq| (tenant.clone(), stream, seq);
        let last = self.audit.range(place(0)..=place(i64::MAX)).next_back();
        last.map_or(ChainHead::EMPTY, |(_, record)| ChainHead { seq: record.seq, hash: record.hash })
    }

    fn write(&mut self, batch: &CommitBatch, item: &NewDisposition, line: AuditRecord) {
        let at = time::whole_millis(batch.at);
        let epoch = epoch_of(&batch.epochs, item.partition).unwrap_or(Epoch(0));
        let end = End { disposition: item.disposition.clone(), at, worker: batch.worker, epoch };
        self.ends.insert(item.event, end);
        self.retries.remove(&item.event);
        // The mark passed it while it waited for a next try, and counted it in neither total.
        if item.event < self.mark {
            match item.disposition {
                Disposition::Decided { .. } => self.totals.decided += 1,
                Disposition::Dead { .. } => self.totals.dead += 1,
            }
        }
        self.audit.insert((line.tenant.clone(), line.stream, line.seq), line);
        if matches!(item.disposition, Disposition::Decided { outcome: Outcome::RequireApproval, .. }) {
            self.approvals.insert(item.event, Approval::opened(at));
        }
    }

    pub(super) fn advance_mark(&mut self, now: DateTime<Utc>) -> EventId {
        let ceiling = EventId::floor(time::to_millis(now - MARK_LAG));
        let (mut to, mut passed) = (ceiling, self.totals);
        for (nth, id) in self.events.range(self.mark..).map(|(id, _)| *id).enumerate() {
            if id >= ceiling || nth == STEP_MAX || (self.is_pending(&id) && !self.waits(&id)) {
                to = to.min(id);
                break;
            }
            passed.accepted += 1;
            match self.ends.get(&id).map(|end| &end.disposition) {
                Some(Disposition::Decided { .. }) => passed.decided += 1,
                Some(Disposition::Dead { .. }) => passed.dead += 1,
                None => {}
            }
        }
        if to > self.mark {
            (self.mark, self.totals) = (to, passed);
        }
        self.mark
    }

    pub(super) fn report(&mut self, worker: &WorkerRow, now: DateTime<Utc>) {
        self.workers.insert(worker.id, WorkerRow { seen_at: now, ..worker.clone() });
        self.workers.retain(|_, row| row.seen_at >= now - REPORT_KEPT);
    }

    pub(super) fn keep_rejected(&mut self, id: Uuid, reason: &str, body: &[u8]) {
        let kept = (reason.to_owned(), body[..body.len().min(REJECTED_MAX)].to_vec());
        self.rejected.entry(id).or_insert(kept);
        if self.rejected.len() > REJECTED_KEPT {
            self.rejected.pop_first();
        }
    }

    pub(super) fn is_pending(&self, id: &EventId) -> bool {
        !self.ends.contains_key(id)
    }

    pub(super) fn status(&self, id: EventId) -> Status {
        let verdict = self.approvals.get(&id).and_then(|approval| approval.verdict);
        let machine = || standing(self.ends.get(&id).map(|end| &end.disposition), self.waits(&id));
        verdict.map_or_else(machine, Outcome::status)
    }
}

fn epoch_of(epochs: &[(PartitionId, Epoch)], partition: PartitionId) -> Option<Epoch> {
    epochs.iter().find(|(p, _)| *p == partition).map(|(_, epoch)| *epoch)
}
