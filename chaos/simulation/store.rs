//! The store through a process's eyes. A new verb is one line; one that writes is held against the
//! model at the moment it is done.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use riskfleet::domain::version::VersionKey;
use riskfleet::domain::{AuditBody, Month};
use riskfleet::domain::{Epoch, EventId, IdempotencyKey, Outcome, PartitionId, Scope, TenantId, WorkerId};
use riskfleet::ports::costs::Stop;
use riskfleet::ports::store::{
    Accepted, AuditCursor, AuditLine, Backlog, CommitBatch, Committed, DeadAct, DeadFilter, DeadLetter, Disposition,
    DueRetry, EventFilter, EventRecord, EventSummary, FleetConstants, FleetStatus, Ledger, Mark, MarkBatch, NewEvent,
    OutboxKind, OutboxRow, RetryBatch, StoredEvent, WorkerRow,
};
use riskfleet::ports::versions::{Activation, StoredVersion};
use riskfleet::ports::{ActiveVersions, EventStore, Lane, Stops, StoreError};
use uuid::Uuid;

use crate::bugs::Bug;
use crate::plan::Poison;
use crate::process::Process;
use crate::world::{Port, World, shown};

/// The store of one process.
pub(crate) struct SimStore(pub(crate) Arc<Process>);

impl SimStore {
    async fn ask<T: std::fmt::Debug + Send>(
        &self,
        asked: String,
        does: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.0.ask(Port::Store, asked, does, StoreError::Away).await
    }

    fn inner(&self) -> &dyn EventStore {
        &self.0.world.store
    }

    /// The keys of an accept as they arrive at the store.
    fn as_planted(&self, events: &[NewEvent]) -> Vec<NewEvent> {
        let mut events = events.to_vec();
        if self.0.world.has(Bug::DedupeForgotten) {
            for event in &mut events {
                let salted = format!("{}/{}", event.key, event.id);
                event.key = IdempotencyKey::parse(&salted).expect("printable");
            }
        }
        events
    }
}

/// There are no versions, and looking for some is not what is tried here: it always goes well.
#[async_trait]
impl ActiveVersions for SimStore {
    async fn activations_since(&self, generation: i64, limit: u32) -> Result<Vec<Activation>, StoreError> {
        self.0.world.store.activations_since(generation, limit).await
    }

    async fn version_content(&self, key: &VersionKey) -> Result<Option<StoredVersion>, StoreError> {
        self.0.world.store.version_content(key).await
    }
}

/// There are no budgets either.
#[async_trait]
impl Stops for SimStore {
    async fn stops(&self, month: Month, after: Option<&TenantId>, limit: u32) -> Result<Vec<Stop>, StoreError> {
        self.0.world.store.stops(month, after, limit).await
    }
}

#[async_trait]
impl EventStore for SimStore {
    async fn constants(&self) -> Result<FleetConstants, StoreError> {
        self.0.call(Port::Store, "constants".into(), self.inner().constants(), StoreError::Away, |_| "ok".into()).await
    }

    async fn now(&self) -> Result<DateTime<Utc>, StoreError> {
        self.ask("now".into(), self.inner().now()).await
    }

    async fn accept_batch(&self, batch: Uuid, events: &[NewEvent]) -> Result<Vec<Accepted>, StoreError> {
        let arriving = self.as_planted(events);
        let asked = format!("accept {batch} {}", shown(&events.iter().map(|e| (e.id, &e.key)).collect::<Vec<_>>()));
        let does = async {
            let verdicts = self.inner().accept_batch(batch, &arriving).await;
            match &verdicts {
                Err(StoreError::ClockSkew(_)) => self.0.world.saw("ids were off the store's clock"),
                Ok(all) if all.iter().any(|v| matches!(v, Accepted::Replayed { .. })) => {
                    self.0.world.saw("a request was replayed");
                }
                Ok(_) | Err(_) => {}
            }
            verdicts
        };
        self.ask(asked, does).await
    }

    async fn settle_outbox(&self, rows: &[Uuid]) -> Result<(), StoreError> {
        self.ask(format!("settle {rows:?}"), self.inner().settle_outbox(rows)).await
    }

    async fn take_outbox(&self, kind: OutboxKind, hold: Duration, limit: u32) -> Result<Vec<OutboxRow>, StoreError> {
        let limit = if self.0.world.has(Bug::OutcomesNotRepeated) && kind == OutboxKind::Outcome { 0 } else { limit };
        let does = async {
            let rows = self.inner().take_outbox(kind, hold, limit).await?;
            match (kind, rows.is_empty()) {
                (OutboxKind::Accept, false) => self.0.world.saw("packs were published from the outbox"),
                (OutboxKind::Outcome, false) => self.0.world.saw("outcomes were published from the outbox"),
                (_, true) => {}
            }
            Ok(rows)
        };
        self.ask(format!("take outbox {kind:?}"), does).await
    }

    async fn unpublished(&self) -> Result<u64, StoreError> {
        self.ask("unpublished".into(), self.inner().unpublished()).await
    }

    async fn claim_partition(&self, partition: PartitionId, worker: WorkerId) -> Result<Epoch, StoreError> {
        let does = async {
            let epoch = self.inner().claim_partition(partition, worker).await?;
            self.0.world.model().claimed(partition, epoch);
            Ok(epoch)
        };
        self.ask(format!("claim {partition}"), does).await
    }

    async fn release_partition(&self, partition: PartitionId, epoch: Epoch) -> Result<(), StoreError> {
        self.ask(format!("release {partition} {epoch:?}"), self.inner().release_partition(partition, epoch)).await
    }

    async fn open_lane(&self) -> Result<Box<dyn Lane>, StoreError> {
        let opened = self
            .0
            .call(Port::Store, "open lane".into(), self.inner().open_lane(), StoreError::Away, |_| "opened".into());
        let lane = opened.await?;
        Ok(Box::new(SimLane { process: Arc::clone(&self.0), lane }))
    }

    async fn events(&self, ids: &[EventId]) -> Result<Vec<StoredEvent>, StoreError> {
        self.ask(format!("events {ids:?}"), self.inner().events(ids)).await
    }

    async fn pending_of(&self, ids: &[EventId]) -> Result<Vec<StoredEvent>, StoreError> {
        let does = async {
            let mark = self.inner().mark().await?;
            if ids.iter().any(|id| *id < mark) {
                self.0.world.saw("an event below the mark was looked up");
            }
            self.inner().pending_of(ids).await
        };
        self.ask(format!("pending of {ids:?}"), does).await
    }

    async fn decisions(&self, ids: &[EventId]) -> Result<Vec<(EventId, TenantId, Bytes)>, StoreError> {
        self.ask(format!("decisions {ids:?}"), self.inner().decisions(ids)).await
    }

    async fn verdicts(&self, ids: &[EventId]) -> Result<Vec<(EventId, Outcome)>, StoreError> {
        self.ask(format!("verdicts {ids:?}"), self.inner().verdicts(ids)).await
    }

    async fn pending_page(
        &self,
        partition: PartitionId,
        after: Option<EventId>,
        before: EventId,
        limit: u32,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let limit = if self.0.world.has(Bug::NoRefill) { 0 } else { limit };
        let asked = format!("pending page {partition} {after:?}..{before}");
        self.ask(asked, self.inner().pending_page(partition, after, before, limit)).await
    }

    async fn due_retries(&self, partition: PartitionId, limit: u32) -> Result<Vec<DueRetry>, StoreError> {
        self.ask(format!("due retries {partition}"), self.inner().due_retries(partition, limit)).await
    }

    async fn dead_letters(&self, filter: &DeadFilter) -> Result<Vec<DeadLetter>, StoreError> {
        self.ask("dead letters".into(), self.inner().dead_letters(filter)).await
    }

    async fn replay_dead(&self, id: EventId, audit: &AuditBody) -> Result<DeadAct, StoreError> {
        self.ask(format!("replay {id}"), self.inner().replay_dead(id, audit)).await
    }

    async fn discard_dead(&self, id: EventId, audit: &AuditBody) -> Result<DeadAct, StoreError> {
        self.ask(format!("discard {id}"), self.inner().discard_dead(id, audit)).await
    }

    async fn ask_repair(&self) -> Result<u64, StoreError> {
        self.ask("ask repair".into(), self.inner().ask_repair()).await
    }

    async fn repairs(&self) -> Result<u64, StoreError> {
        self.ask("repairs".into(), self.inner().repairs()).await
    }

    async fn mark(&self) -> Result<EventId, StoreError> {
        self.ask("mark".into(), self.inner().mark()).await
    }

    async fn advance_mark(&self) -> Result<EventId, StoreError> {
        self.ask("advance mark".into(), self.inner().advance_mark()).await
    }

    async fn report_worker(&self, worker: &WorkerRow) -> Result<(), StoreError> {
        self.ask(format!("report {:?}", worker.partitions), self.inner().report_worker(worker)).await
    }

    async fn keep_rejected(&self, id: Uuid, reason: &str, body: &[u8]) -> Result<(), StoreError> {
        self.ask(format!("keep rejected {reason}"), self.inner().keep_rejected(id, reason, body)).await
    }

    async fn event(&self, scope: &Scope, id: EventId) -> Result<Option<EventRecord>, StoreError> {
        self.ask(format!("event {id}"), self.inner().event(scope, id)).await
    }

    async fn list_events(&self, filter: &EventFilter) -> Result<Vec<EventSummary>, StoreError> {
        self.ask("list events".into(), self.inner().list_events(filter)).await
    }

    async fn events_since(&self, since: EventId, limit: u32) -> Result<Vec<StoredEvent>, StoreError> {
        self.ask(format!("events since {since}"), self.inner().events_since(since, limit)).await
    }

    async fn audit_page(&self, after: Option<&AuditCursor>, limit: u32) -> Result<Vec<AuditLine>, StoreError> {
        self.ask("audit page".into(), self.inner().audit_page(after, limit)).await
    }

    async fn backlog(&self) -> Result<Backlog, StoreError> {
        self.ask("backlog".into(), self.inner().backlog()).await
    }

    async fn ledger(&self) -> Result<Ledger, StoreError> {
        self.ask("ledger".into(), self.inner().ledger()).await
    }

    async fn fleet_status(&self) -> Result<FleetStatus, StoreError> {
        self.ask("fleet status".into(), self.inner().fleet_status()).await
    }
}

struct SimLane {
    process: Arc<Process>,
    lane: Box<dyn Lane>,
}

#[async_trait]
impl Lane for SimLane {
    async fn commit_batch(&mut self, batch: &CommitBatch) -> Result<Vec<Committed>, StoreError> {
        let world = &self.process.world;
        let ids: Vec<EventId> = batch.items.iter().map(|i| i.event).collect();
        let asked = format!("commit {} under {:?} {ids:?}", batch.id, batch.epochs);
        let lane = &mut self.lane;
        let does = async {
            if let Some(poison) = refused(world, batch).await {
                world.saw("the store refused a decision");
                return Err(StoreError::Refused(format!("it can't hold {poison}")));
            }
            if world.has(Bug::CommitForgotten) && world.dice().chance(0.02) {
                return Ok(vec![Committed::Written; batch.items.len()]);
            }
            // What is written is what was asked for, whatever the store was told.
            let verdicts = if world.has(Bug::NoFence) {
                let newest = |(p, e): &(PartitionId, Epoch)| (*p, world.model().epoch(*p).unwrap_or(*e));
                let epochs = batch.epochs.iter().map(newest).collect();
                lane.commit_batch(&CommitBatch { epochs, ..batch.clone() }).await?
            } else {
                lane.commit_batch(batch).await?
            };
            world.model().committed(batch, &verdicts);
            Ok(verdicts)
        };
        self.process.ask(Port::Store, asked, does, StoreError::Away).await
    }

    async fn mark_attempts(&mut self, batch: &MarkBatch) -> Result<Vec<Mark>, StoreError> {
        let asked = format!("mark {:?} under {:?} {:?}", batch.marking, batch.epochs, batch.events);
        self.process.ask(Port::Store, asked, self.lane.mark_attempts(batch), StoreError::Away).await
    }

    async fn postpone(&mut self, batch: &RetryBatch) -> Result<Vec<Committed>, StoreError> {
        let world = &self.process.world;
        let asked = format!("postpone under {:?} {:?}", batch.epochs, batch.items);
        let lane = &mut self.lane;
        let does = async {
            let verdicts = lane.postpone(batch).await?;
            world.saw("an event was postponed");
            world.model().postponed(batch, &verdicts);
            Ok(verdicts)
        };
        self.process.ask(Port::Store, asked, does, StoreError::Away).await
    }
}

/// The event whose decision the store can't hold, if one is in the batch.
async fn refused(world: &World, batch: &CommitBatch) -> Option<EventId> {
    for item in &batch.items {
        let decided = matches!(item.disposition, Disposition::Decided { .. });
        let poison = world.poison(item.event).await;
        if decided && (poison == Some(Poison::Refused) || poison == Some(Poison::Passing) && !world.is_quiet()) {
            return Some(item.event);
        }
    }
    None
}
