//! The truth: events, dispositions, audit, outbox. The hot path and reading back.
//!
//! Every verb is one transaction. Adapters: Postgres, SQLite, memory; one contract suite
//! (`tests/it/store_contract.rs`) says what each verb must do and runs on all three.

mod approval;
mod charge;
mod death;
mod retries;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use uuid::Uuid;

use crate::domain::audit::Hash;
use crate::domain::cost::Charge;
use crate::domain::load;
use crate::domain::retention::{Day, Expired, ExpiredDay};
use crate::domain::scaling::Signals;
use crate::domain::{
    AuditBody, AuditRecord, CorrelationId, Decision, Epoch, EventId, FailureClass, IdempotencyKey, Outcome,
    PartitionId, Scope, Status, Stream, TenantId, WorkerId, WorkerLoad,
};

pub use approval::Approval;
pub use retries::{
    Begun, BegunRow, DeadAct, DeadFilter, DeadLetter, DueRetry, ERROR_MAX, Mark, MarkBatch, Marking, NewRetry, PastAct,
    PastDeath, RetryBatch, RetryState, WAIT_MAX, kept_error, standing,
};

/// Why the store did not do it; completes "failed to …". Split by what the caller does next.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Not reachable, timed out, or the connection broke: the outcome is unknown. Wait, then ask
    /// again; no attempt is counted.
    #[error("reach the store: {0}")]
    Away(String),
    /// Not asked: it was away again and again, and is left alone for a while. Nothing was done.
    #[error("reach the store: the circuit is open, the next try is in {:.1} s", .retry_in.as_secs_f64())]
    Open {
        /// After which it is asked again.
        retry_in: Duration,
    },
    /// An id in an accept is more than 2 s from the store's clock: measure the clock again and
    /// mint new ids. Nothing was written.
    #[error("accept: the ids are {0} ms from the store's clock")]
    ClockSkew(i64),
    /// The store was made for another fleet or version; only an operator can help.
    #[error("use the store: {0}")]
    Misfit(String),
    /// A text or a number that the store can not hold: the same would be refused again.
    #[error("write to the store: {0}")]
    Refused(String),
    /// What is stored can't be read, or a statement was refused: a defect, never retried blindly.
    #[error("use the store: {0}")]
    Fault(String),
}

/// How far an event id may be from the store's clock at its accept, in milliseconds.
pub const SKEW_MAX_MS: i64 = 2_000;

/// What is fixed for a fleet by `migrate`.
#[derive(Clone, PartialEq, Eq)]
pub struct FleetConstants {
    /// Number of partitions.
    pub partitions: u16,
    /// The secret under which packs carry their HMAC.
    pub pack_secret: [u8; 32],
}

/// An event on its way into the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// Minted for this attempt.
    pub id: EventId,
    /// Whose.
    pub tenant: TenantId,
    /// What makes it the same request.
    pub key: IdempotencyKey,
    /// Taken or made.
    pub correlation_id: CorrelationId,
    /// Where its tenant lives.
    pub partition: PartitionId,
    /// What is stored: the canonical text, sealed.
    pub body: Bytes,
    /// SHA-256 of the canonical text.
    pub payload_hash: Hash,
}

/// What became of a [`NewEvent`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepted {
    /// Stored under its own id.
    Fresh,
    /// The key was there with the same payload.
    Replayed {
        /// The event of the first request.
        id: EventId,
        /// The correlation id of the first request.
        correlation_id: CorrelationId,
        /// Where it stands.
        status: Status,
    },
    /// The key was there with another payload.
    Conflict {
        /// The event of the first request.
        id: EventId,
    },
}

/// What an outbox row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutboxKind {
    /// Events of one accept, to be published as packs.
    Accept,
    /// Decisions of one commit, to be published as outcomes.
    Outcome,
}

/// A row that stands until everything it names is confirmed by the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// The id of the accept or commit; message ids derive from it.
    pub id: Uuid,
    /// What it names.
    pub kind: OutboxKind,
    /// The events, in the order in which they were written.
    pub events: Vec<EventId>,
}

/// A stored event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its id.
    pub id: EventId,
    /// Whose.
    pub tenant: TenantId,
    /// Where its tenant lives.
    pub partition: PartitionId,
    /// Of its request.
    pub correlation_id: CorrelationId,
    /// As it is stored: the canonical text, sealed, unless it was revealed.
    pub body: Bytes,
}

/// How an event ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Disposition {
    /// By a decision.
    Decided {
        /// What was decided.
        outcome: Outcome,
        /// The decision's canonical text, sealed, unless it was revealed.
        decision: Bytes,
        /// Microseconds by stage.
        timings: Vec<u32>,
        /// What it used and costs.
        charge: Charge,
    },
    /// As a dead letter.
    Dead {
        /// Its class.
        class: FailureClass,
        /// What went wrong.
        error: String,
        /// How often it was tried.
        attempts: u32,
    },
}

impl Disposition {
    /// The status that it gives an event on which no person has spoken.
    pub fn status(&self) -> Status {
        match self {
            Self::Decided { outcome, .. } => outcome.status(),
            Self::Dead { .. } => Status::Failed,
        }
    }
}

/// One event's end, on its way into the store.
#[derive(Debug, Clone, PartialEq)]
pub struct NewDisposition {
    /// The event.
    pub event: EventId,
    /// Whose.
    pub tenant: TenantId,
    /// Where its tenant lives.
    pub partition: PartitionId,
    /// How it ends.
    pub disposition: Disposition,
    /// Its audit record, all but the place in the chain.
    pub audit: AuditBody,
}

/// Dispositions that are committed together. `REQUIRE_APPROVAL` opens an approval request in the
/// same transaction.
#[derive(Debug, Clone, PartialEq)]
pub struct CommitBatch {
    /// Id of the outbox row for its outcomes.
    pub id: Uuid,
    /// Who commits.
    pub worker: WorkerId,
    /// When.
    pub at: DateTime<Utc>,
    /// Under which epochs: one entry for every partition in `items`.
    pub epochs: Vec<(PartitionId, Epoch)>,
    /// What; every event at most once.
    pub items: Vec<NewDisposition>,
}

/// What became of one item of a [`CommitBatch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Committed {
    /// Written.
    Written,
    /// The event had a disposition before; nothing was written.
    Duplicate,
    /// The partition's epoch has moved: another worker owns it; nothing was written.
    Fenced,
}

/// Everything stored of one event.
#[derive(Debug, Clone, PartialEq)]
pub struct EventRecord {
    /// The event.
    pub event: StoredEvent,
    /// How it ended, by whom, when, under which epoch.
    pub end: Option<End>,
    /// Its approval request.
    pub approval: Option<Approval>,
    /// Whether an outbox row still names it.
    pub unpublished: Vec<OutboxKind>,
    /// Its tries, while it was begun and has no end.
    pub retry: Option<RetryState>,
    /// Its deaths that somebody has dealt with, oldest first.
    pub past: Vec<PastDeath>,
}

/// A disposition with its circumstances.
#[derive(Debug, Clone, PartialEq)]
pub struct End {
    /// What.
    pub disposition: Disposition,
    /// When.
    pub at: DateTime<Utc>,
    /// By whom.
    pub worker: WorkerId,
    /// Under which epoch.
    pub epoch: Epoch,
}

impl EventRecord {
    /// Where the event stands: the person's verdict, else the disposition, else retrying when a
    /// try is due some time, else received.
    pub fn status(&self) -> Status {
        let verdict = self.approval.as_ref().and_then(|a| a.verdict);
        let waits = self.retry.as_ref().is_some_and(|retry| retry.due_at.is_some());
        let machine = || standing(self.end.as_ref().map(|end| &end.disposition), waits);
        verdict.map_or_else(machine, Outcome::status)
    }

    /// The decision as shown, with timings and the person's verdict; none while there is none.
    ///
    /// # Errors
    /// When the stored text is unreadable.
    pub fn decision_view(&self) -> Result<Option<serde_json::Value>, serde_json::Error> {
        let Some(end) = &self.end else { return Ok(None) };
        let Disposition::Decided { decision, timings, .. } = &end.disposition else { return Ok(None) };
        let verdict = self.approval.as_ref().and_then(|approval| approval.verdict);
        Ok(Some(Decision::from_canonical(decision)?.view(verdict, timings)))
    }
}

/// Which events to list, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Only this tenant's.
    pub tenant: Option<TenantId>,
    /// Only those that stand there.
    pub status: Option<Status>,
    /// Only those older than this one (keyset paging).
    pub before: Option<EventId>,
    /// At most so many; 1 or more.
    pub limit: u32,
}

/// A line of an event list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventSummary {
    /// Its id.
    pub id: EventId,
    /// Whose.
    pub tenant: TenantId,
    /// Where it stands.
    pub status: Status,
    /// Of its request.
    pub correlation_id: CorrelationId,
    /// As it is stored: the canonical text, sealed, unless it was revealed.
    pub body: Bytes,
}

/// Where the reading of all chains stands: ordered by tenant (bytewise), stream, seq.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditCursor {
    /// Last tenant read.
    pub tenant: TenantId,
    /// Last stream read.
    pub stream: Stream,
    /// Last seq read.
    pub seq: i64,
}

/// An audit record with what it speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditLine {
    /// The record.
    pub record: AuditRecord,
    /// The stored event that its `event_id` names.
    pub event: Option<Bytes>,
    /// The stored decision on it.
    pub decision: Option<Bytes>,
}

/// The conservation ledger. `accepted` = `decided` + `dead` + `pending`, or something is lost;
/// `pending` is counted on its own, never as the remainder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Events stored.
    pub accepted: i64,
    /// Decisions stored, escalated ones included.
    pub decided: i64,
    /// Dead letters stored.
    pub dead: i64,
    /// Events without either.
    pub pending: i64,
}

/// A worker as the store last heard of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerRow {
    /// Its boot id.
    pub id: WorkerId,
    /// Its program version.
    pub version: String,
    /// What it owns.
    pub partitions: Vec<PartitionId>,
    /// Whether it is leaving.
    pub draining: bool,
    /// When it last reported, by the store's clock.
    pub seen_at: DateTime<Utc>,
    /// What it has done of late; absent of a version that does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<WorkerLoad>,
}

/// What waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Events without a disposition: the ledger's `pending`.
    pub events: u64,
    /// Those of them that wait for a next try which is not due yet: nobody could do anything for them.
    pub postponed: u64,
    /// When the oldest of the others was accepted.
    pub oldest: Option<DateTime<Utc>>,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionRow {
    /// Which.
    pub partition: PartitionId,
    /// The worker that claimed it last; null when released or never claimed.
    pub owner: Option<WorkerId>,
    /// How often it was claimed.
    pub epoch: Epoch,
    /// Its events without a disposition.
    pub backlog: i64,
}

/// The fleet at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetStatus {
    /// Workers that reported within the last minute, ordered by id.
    pub workers: Vec<WorkerRow>,
    /// Every partition, in order.
    pub partitions: Vec<PartitionRow>,
    /// The ledger of the whole fleet.
    pub ledger: Ledger,
}

/// How long a worker that says nothing counts as one that works: some of its reports.
const REPORTS_FOR: chrono::TimeDelta = chrono::TimeDelta::seconds(10);

impl FleetStatus {
    /// The workers that work at a moment of the store's clock: those that are leaving, or have not
    /// reported for some seconds, do not.
    pub fn working(&self, now: DateTime<Utc>) -> impl Iterator<Item = &WorkerRow> {
        self.workers.iter().filter(move |worker| !worker.draining && now - worker.seen_at <= REPORTS_FOR)
    }

    /// What the fleet is judged by when it is asked how many workers it should have.
    pub fn signals(&self, waits: &Backlog, now: DateTime<Utc>) -> Signals {
        let loads = self.working(now).filter_map(|worker| worker.load.as_ref());
        // What waits for its next try can't be decided sooner by more workers.
        load::signals(loads, Some(waits.events.saturating_sub(waits.postponed)))
    }
}

/// What the store keeps for a fleet. Every verb may fail with [`StoreError::Away`],
/// [`StoreError::Open`] or [`StoreError::Fault`]; what else it may fail with is said at the verb.
#[async_trait]
pub trait EventStore: Send + Sync {
    /// The fleet's constants.
    ///
    /// # Errors
    /// [`StoreError::Misfit`] when `migrate` has not run, or a newer version has.
    async fn constants(&self) -> Result<FleetConstants, StoreError>;

    /// The store's clock. Ids are minted by it (with the offset measured), never by a host's.
    async fn now(&self) -> Result<DateTime<Utc>, StoreError>;

    /// Stores a batch: per event its key and its row; ONE outbox row, with the id `batch`, that
    /// names the fresh ones in the order given (none when none is fresh). Gives one result an
    /// event, in order. The same key twice in one batch: the first is fresh, the other replayed
    /// or a conflict.
    ///
    /// # Errors
    /// [`StoreError::ClockSkew`] when an id is over [`SKEW_MAX_MS`] from the store's clock.
    async fn accept_batch(&self, batch: Uuid, events: &[NewEvent]) -> Result<Vec<Accepted>, StoreError>;

    /// Deletes outbox rows whose messages are all confirmed. Rows that are gone are no error.
    async fn settle_outbox(&self, rows: &[Uuid]) -> Result<(), StoreError>;

    /// Takes up to `limit` outbox rows that are due (not settled `hold` after they were written or
    /// last taken) and makes them due again `hold` from now, so that two finders never hold the
    /// same row at once.
    async fn take_outbox(&self, kind: OutboxKind, hold: Duration, limit: u32) -> Result<Vec<OutboxRow>, StoreError>;

    /// How many events stand in accept rows of the outbox: stored and not known to be published.
    async fn unpublished(&self) -> Result<u64, StoreError>;

    /// Claims a partition for a worker: bumps its epoch under the partition's exclusive lock, so
    /// that no commit under an older epoch can follow.
    async fn claim_partition(&self, partition: PartitionId, worker: WorkerId) -> Result<Epoch, StoreError>;

    /// Notes that a worker has let go of a partition, if it still is the one that claimed it last
    /// under `epoch`. For people to see; safety does not depend on it.
    async fn release_partition(&self, partition: PartitionId, epoch: Epoch) -> Result<(), StoreError>;

    /// Opens a lane: one connection, one writer of the chains of its partitions.
    async fn open_lane(&self) -> Result<Box<dyn Lane>, StoreError>;

    /// Reads events; ids that are not stored are left out; any order.
    async fn events(&self, ids: &[EventId]) -> Result<Vec<StoredEvent>, StoreError>;

    /// Reads those of the events that have no disposition; any order.
    async fn pending_of(&self, ids: &[EventId]) -> Result<Vec<StoredEvent>, StoreError>;

    /// Reads decisions' canonical texts; events without a decision are left out; any order.
    async fn decisions(&self, ids: &[EventId]) -> Result<Vec<(EventId, TenantId, Bytes)>, StoreError>;

    /// Reads people's verdicts; events without one are left out; any order.
    async fn verdicts(&self, ids: &[EventId]) -> Result<Vec<(EventId, Outcome)>, StoreError>;

    /// One page, by id, of the partition's events above the mark and `after`, minted before
    /// `before`, that have no disposition and do not wait for a next try: those whose message
    /// should be in the broker's hands.
    async fn pending_page(
        &self,
        partition: PartitionId,
        after: Option<EventId>,
        before: EventId,
        limit: u32,
    ) -> Result<Vec<StoredEvent>, StoreError>;

    /// The mark W: every event below it has a disposition or waits for a next try (it is durable
    /// and belongs to its retry), and none can appear below it.
    async fn mark(&self) -> Result<EventId, StoreError>;

    /// Moves W on, by one bounded step, up to the oldest event that has no disposition and does
    /// not wait for a next try, or [`MARK_LAG`] behind the store's clock, and folds the events
    /// passed into the ledger's totals; one that waits is accepted, neither decided nor dead, and
    /// its disposition adds to the totals when it comes. Also makes time partitions ahead. Gives the new W. At most one caller does it at a
    /// time; for the others it is a read.
    async fn advance_mark(&self) -> Result<EventId, StoreError>;

    /// Reports a worker: `seen_at` is set by the store's clock. Reports older than an hour are
    /// deleted on the way.
    async fn report_worker(&self, worker: &WorkerRow) -> Result<(), StoreError>;

    /// Keeps what an inbox message said that could not be taken. `body` is cut to 64 KiB.
    async fn keep_rejected(&self, id: Uuid, reason: &str, body: &[u8]) -> Result<(), StoreError>;

    /// The partition's events whose next try is due by the store's clock, the oldest due first.
    /// They stay due until they are disposed of or postponed: one that runs is given again.
    async fn due_retries(&self, partition: PartitionId, limit: u32) -> Result<Vec<DueRetry>, StoreError>;

    /// Lists dead letters, newest event first, without discarded ones. A filter by tenant is the
    /// question's scope: nothing of another tenant is looked at.
    async fn dead_letters(&self, filter: &DeadFilter) -> Result<Vec<DeadLetter>, StoreError>;

    /// Makes a dead letter pending again: its death goes into the event's history, its next try is
    /// due now with no attempt counted, and `audit` (all but the place in the chain) is written to
    /// the tenant's control chain. The scope is the tenant of `audit`: [`DeadAct::Unknown`] for
    /// another tenant's event.
    ///
    /// # Errors
    /// [`StoreError::Fault`] when `audit` is of another stream's chain.
    async fn replay_dead(&self, id: EventId, audit: &AuditBody) -> Result<DeadAct, StoreError>;

    /// Takes a dead letter off the list for good: the event stays dead, its history says who did
    /// it, and `audit` is written to the tenant's control chain. The scope is the tenant of
    /// `audit`, as for [`EventStore::replay_dead`].
    ///
    /// # Errors
    /// [`StoreError::Fault`] when `audit` is of another stream's chain.
    async fn discard_dead(&self, id: EventId, audit: &AuditBody) -> Result<DeadAct, StoreError>;

    /// Asks every worker to refill what it owns, once. Gives how often that was asked for.
    async fn ask_repair(&self) -> Result<u64, StoreError>;

    /// How often a repair was asked for: a worker that sees the count move refills.
    async fn repairs(&self) -> Result<u64, StoreError>;

    /// Everything of one event; none when it is not stored, or lies outside `scope`.
    async fn event(&self, scope: &Scope, id: EventId) -> Result<Option<EventRecord>, StoreError>;

    /// Lists events, newest first. A filter by tenant is the question's scope: nothing of another
    /// tenant is looked at.
    /// The day, if retention has dropped it: what is not stored of it is gone, not lost. Stores that
    /// drop nothing need not say anything.
    async fn expired_day(&self, _: Day) -> Result<Option<ExpiredDay>, StoreError> {
        Ok(None)
    }

    /// Every day that retention has dropped, for whoever meets many events that are not stored.
    async fn expired_ranges(&self) -> Result<Expired, StoreError> {
        Ok(Expired::default())
    }

    /// Lists events, newest first.
    async fn list_events(&self, filter: &EventFilter) -> Result<Vec<EventSummary>, StoreError>;

    /// Events about the subjects of [`crate::domain::Snapshot`]: one page, by id, of all events
    /// minted at or after `since`. Fills an in-process context store at start.
    async fn events_since(&self, since: EventId, limit: u32) -> Result<Vec<StoredEvent>, StoreError>;

    /// One page of all audit records, ordered by tenant, stream, seq.
    async fn audit_page(&self, after: Option<&AuditCursor>, limit: u32) -> Result<Vec<AuditLine>, StoreError>;

    /// What waits, by the store's clock.
    async fn backlog(&self) -> Result<Backlog, StoreError>;

    /// The ledger.
    async fn ledger(&self) -> Result<Ledger, StoreError>;

    /// Workers, partitions, ledger.
    async fn fleet_status(&self) -> Result<FleetStatus, StoreError>;
}

/// How far W stays behind the store's clock at least.
pub const MARK_LAG: Duration = Duration::from_secs(60);

/// A lane's hold on the store. A tenant is always in one lane, so each chain has one writer.
#[async_trait]
pub trait Lane: Send {
    /// Writes dispositions, audit records, approval requests and ONE outbox row (naming the
    /// decided events that were written, in order; none when there is none), and deletes the marks
    /// and retries of what it writes, all in one transaction: fence, dedupe, write. Gives one
    /// result an item, in order.
    ///
    /// # Errors
    /// When it failed, the lane has thrown away what it knew of the chains; whether the batch was
    /// committed may be unknown, and committing it again is safe.
    async fn commit_batch(&mut self, batch: &CommitBatch) -> Result<Vec<Committed>, StoreError>;
    /// Counts starts, so that what brings its workers down is found. Gives one result an event, in
    /// order.
    ///
    /// # Errors
    /// As [`Lane::commit_batch`]; marking again may count one start twice.
    async fn mark_attempts(&mut self, batch: &MarkBatch) -> Result<Vec<Mark>, StoreError>;

    /// Lets events wait for a next try, due by the store's clock: from then on the store owns
    /// them, and their messages can be acknowledged. Attempts only grow: a late copy that knows of
    /// fewer does not begin the count anew. Gives one result an item, in order;
    /// [`Committed::Duplicate`] also for an event that was never stored.
    ///
    /// # Errors
    /// As [`Lane::commit_batch`]; postponing again is safe and begins the wait anew.
    async fn postpone(&mut self, batch: &RetryBatch) -> Result<Vec<Committed>, StoreError>;
}
