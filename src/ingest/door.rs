//! Owns admission: what is let in, what is refused and why, and the answer to each.
//!
//! # Decisions
//! A call is refused before anything of it is stored, and as a whole: room first, which costs
//! nothing, then the pace. A call of several tenants that one tenant's rate refuses has counted for
//! the others; only a door without authentication takes such calls from who can be refused.
//!
//! Queue and file producers can't be told to come again later, and messages that wait without an
//! acknowledgement hold up those behind them. So what they send above the limit is not refused but
//! goes by the bulk queues, and no share of the accept queue is held against it: the prefetch bounds
//! it, and it is served in turn with everything else.

use async_trait::async_trait;
use metrics::gauge;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::Parts;
use super::call::{Call, Share};
use super::compartments::Compartments;
use super::pace::Pacer;
use super::queue::{AcceptQueue, Submission};
use super::room::{RETRY_AFTER, Room, Rooms};
use super::waiters::{Heard, Waiters};
use crate::crypto::Keyring;
use crate::domain::{EventId, Scope};
use crate::ports::intake::{Candidate, Intake, IntakeError, Taken};
use crate::ports::{EventStore, Pace, Traffic};
use crate::resilience::BulkheadRules;
use crate::telemetry::{Traces, names};

/// The bounds of ingest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestLimits {
    /// Events waiting for a commit, at most.
    pub queue_events: usize,
    /// Events of one tenant waiting for a commit, at most.
    pub tenant_events: usize,
    /// Calls of one tenant under way, and waiting for that, at most.
    pub tenant_calls: BulkheadRules,
    /// Events in one commit, about.
    pub batch_max: usize,
    /// Events stored and not yet published, at most; above it nothing is taken.
    pub unpublished_max: u64,
    /// Bytes of a pack, about.
    pub pack_bytes_max: usize,
}

impl Default for IngestLimits {
    fn default() -> Self {
        Self {
            queue_events: 20_000,
            tenant_events: 5_000,
            tenant_calls: BulkheadRules::default(),
            batch_max: 1_000,
            unpublished_max: 1_000_000,
            pack_bytes_max: 131_072,
        }
    }
}

/// How often the store is asked for a decision of which nobody will tell this process.
const LOOK_EVERY: Duration = Duration::from_millis(200);

type Answered = oneshot::Receiver<Result<Vec<Taken>, IntakeError>>;

/// The door: an [`Intake`] over a bounded queue, for callers that can be told to come again.
pub struct Door {
    store: Arc<dyn EventStore>,
    keyring: Arc<Keyring>,
    limits: IngestLimits,
    compartments: Compartments,
    rooms: Arc<Rooms>,
    pacer: Pacer,
    queue: Arc<AcceptQueue>,
    waiters: Arc<Waiters>,
    unpublished: Arc<Unpublished>,
    traces: Traces,
    stop: CancellationToken,
}

/// The door of queue and file producers, who can't be told: never refuses for a tenant's rate.
pub struct SideDoor(Arc<Door>);

impl Door {
    pub(super) fn new(
        parts: &Parts,
        queue: Arc<AcceptQueue>,
        pacer: Pacer,
        waiters: Arc<Waiters>,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let limits = parts.limits.clone();
        let rooms = Rooms::new(limits.queue_events, limits.tenant_events);
        let compartments = Compartments::new(limits.tenant_calls);
        let (store, keyring) = (Arc::clone(&parts.store), Arc::clone(&parts.keyring));
        let (unpublished, traces) = (Arc::default(), parts.traces.clone());
        Arc::new(Self { store, keyring, limits, compartments, rooms, pacer, queue, waiters, unpublished, traces, stop })
    }

    /// The same door for who can't be told to come again.
    pub fn side(self: &Arc<Self>) -> Arc<SideDoor> {
        Arc::new(SideDoor(Arc::clone(self)))
    }

    pub(super) fn unpublished(&self) -> Arc<Unpublished> {
        Arc::clone(&self.unpublished)
    }

    fn open(&self) -> Result<(), IntakeError> {
        if self.stop.is_cancelled() {
            return Err(IntakeError::Stopping);
        }
        let unpublished = self.unpublished.0.load(Ordering::Relaxed);
        if unpublished >= self.limits.unpublished_max {
            return Err(IntakeError::Backlog { unpublished, retry_after: RETRY_AFTER });
        }
        Ok(())
    }

    async fn take(&self, candidates: Vec<Candidate>, refusable: bool) -> Result<Vec<Taken>, IntakeError> {
        if candidates.is_empty() {
            return Ok(Vec::new());
        }
        self.open()?;
        let call = Call::split(candidates);
        let wanted = call.wanted();
        // Who can't be refused does not come in more calls than it has queues or files.
        let _places = if refusable { self.compartments.enter(&wanted).await? } else { Vec::new() };
        let rooms = self.rooms.take(&wanted, refusable)?;
        let paces = self.pacer.paces(wanted).await?;
        let (shares, order) = call.apart();
        let traffic = traffic(&shares, &paces, refusable)?;
        let (mut parts, mut waiting) = (Vec::new(), Vec::new());
        for ((share, room), traffic) in shares.into_iter().zip(rooms).zip(traffic) {
            self.cut(share, room, traffic, &mut parts, &mut waiting);
        }
        self.queue.put(parts)?;
        let mut taken = Vec::new();
        for answered in waiting {
            // An answer that never comes: the process is going down and the lane is gone.
            taken.extend(answered.await.unwrap_or(Err(IntakeError::Stopping))?);
        }
        Ok(order.restore(taken))
    }

    /// Parts of a commit's size, so that a large call is gathered with others and both lanes work.
    fn cut(
        &self,
        share: Share,
        mut room: Room,
        traffic: Traffic,
        parts: &mut Vec<Submission>,
        waiting: &mut Vec<Answered>,
    ) {
        let mut rest = share.candidates;
        while !rest.is_empty() {
            let later = rest.split_off(rest.len().min(self.limits.batch_max));
            let (answer, answered) = oneshot::channel();
            let (tenant, room) = (share.tenant.clone(), room.split(rest.len()));
            parts.push(Submission { tenant, candidates: rest, traffic, answer, room, admitted: self.traces.moment() });
            waiting.push(answered);
            rest = later;
        }
    }

    async fn stored(&self, event: EventId) -> Option<serde_json::Value> {
        let record = self.store.event(&Scope::Fleet, event).await.ok().flatten()?;
        self.keyring.reveal(record).await.ok().flatten()?.decision_view().ok()?
    }
}

/// By which queues the shares go, or whose rate refuses the call.
fn traffic(shares: &[Share], paces: &[Pace], refusable: bool) -> Result<Vec<Traffic>, IntakeError> {
    let each = shares.iter().zip(paces).map(|(share, pace)| match pace {
        Pace::Normal => Ok(Traffic::Normal),
        Pace::Refused { retry_after } if refusable => {
            Err(IntakeError::RateLimited { tenant: share.tenant.clone(), retry_after: *retry_after })
        }
        Pace::Bulk | Pace::Refused { .. } => Ok(Traffic::Bulk),
    });
    each.collect()
}

#[async_trait]
impl Intake for Door {
    async fn submit(&self, candidates: Vec<Candidate>) -> Result<Vec<Taken>, IntakeError> {
        self.take(candidates, true).await
    }

    async fn decision(&self, event: EventId, patience: Duration) -> Option<serde_json::Value> {
        let until = tokio::time::Instant::now() + patience;
        match self.waiters.hear(event, patience).await {
            Heard::Decision(decision) => return Some(decision),
            // The reply may be lost; the decision is not.
            Heard::Nothing => return self.stored(event).await,
            Heard::Unexpected => {}
        }
        loop {
            let stored = self.stored(event).await;
            if stored.is_some() || tokio::time::Instant::now() + LOOK_EVERY > until {
                return stored;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

#[async_trait]
impl Intake for SideDoor {
    async fn submit(&self, candidates: Vec<Candidate>) -> Result<Vec<Taken>, IntakeError> {
        self.0.take(candidates, false).await
    }

    async fn decision(&self, event: EventId, patience: Duration) -> Option<serde_json::Value> {
        self.0.decision(event, patience).await
    }
}

/// How many events are stored and not yet published: read every second, so the bound may be passed
/// by one second's accepts.
#[derive(Default)]
pub(super) struct Unpublished(AtomicU64);

impl Unpublished {
    /// Keeps reading until stopped.
    pub(super) async fn watch(self: Arc<Self>, store: Arc<dyn EventStore>, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(Duration::from_secs(1))).await.is_some() {
            match store.unpublished().await {
                Ok(n) => {
                    self.0.store(n, Ordering::Relaxed);
                    gauge!(names::UNPUBLISHED_EVENTS).set(n as f64);
                }
                Err(e) => tracing::debug!(error = %e, "failed to count unpublished events"),
            }
        }
    }
}
