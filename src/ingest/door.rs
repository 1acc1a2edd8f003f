//! Owns admission: what is let in, what is refused for want of room, and the answer to each.

use async_trait::async_trait;
use metrics::gauge;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::Parts;
use super::waiters::{Heard, Waiters};
use crate::domain::EventId;
use crate::ports::EventStore;
use crate::ports::intake::{Candidate, Intake, IntakeError, Taken};
use crate::telemetry::names;

/// The bounds of ingest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestLimits {
    /// Events waiting for a commit, at most.
    pub queue_events: usize,
    /// Events in one commit, about.
    pub batch_max: usize,
    /// Events stored and not yet published, at most; above it nothing is taken.
    pub unpublished_max: u64,
    /// Bytes of a pack, about.
    pub pack_bytes_max: usize,
}

/// What a refused caller is told to wait.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How often the store is asked for a decision of which nobody will tell this process.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A part of a call, waiting for its commit. The permit is its room in the queue.
pub(super) struct Submission {
    pub(super) candidates: Vec<Candidate>,
    pub(super) answer: oneshot::Sender<Result<Vec<Taken>, IntakeError>>,
    pub(super) room: OwnedSemaphorePermit,
}

/// The queue, shared by the accept lanes: one gathers while another commits.
pub(super) type Queue = Arc<Mutex<mpsc::UnboundedReceiver<Submission>>>;

/// The door: an [`Intake`] over a bounded queue.
pub struct Door {
    store: Arc<dyn EventStore>,
    limits: IngestLimits,
    // Bounded by `room`: every submission in it holds at least one permit.
    queue: mpsc::UnboundedSender<Submission>,
    room: Arc<Semaphore>,
    waiters: Arc<Waiters>,
    unpublished: Arc<Unpublished>,
    stop: CancellationToken,
}

impl Door {
    pub(super) fn new(parts: &Parts, waiters: Arc<Waiters>, stop: CancellationToken) -> (Arc<Self>, Queue) {
        let (queue, receiver) = mpsc::unbounded_channel();
        let door = Self {
            store: Arc::clone(&parts.store),
            room: Arc::new(Semaphore::new(parts.limits.queue_events.clamp(1, Semaphore::MAX_PERMITS))),
            limits: parts.limits.clone(),
            queue,
            waiters,
            unpublished: Arc::new(Unpublished::default()),
            stop,
        };
        (Arc::new(door), Arc::new(Mutex::new(receiver)))
    }

    pub(super) fn unpublished(&self) -> Arc<Unpublished> {
        Arc::clone(&self.unpublished)
    }

    /// Room for all candidates of a call, or none. A call larger than the queue takes all of it.
    fn admit(&self, events: usize) -> Result<OwnedSemaphorePermit, IntakeError> {
        if self.stop.is_cancelled() {
            return Err(IntakeError::Stopping);
        }
        let unpublished = self.unpublished.0.load(Ordering::Relaxed);
        if unpublished >= self.limits.unpublished_max {
            return Err(IntakeError::Backlog { unpublished, retry_after: RETRY_AFTER });
        }
        let wanted = u32::try_from(events.min(self.limits.queue_events)).unwrap_or(u32::MAX);
        Arc::clone(&self.room).try_acquire_many_owned(wanted).map_err(|_| IntakeError::Full(RETRY_AFTER))
    }

    fn enqueue(
        &self,
        candidates: Vec<Candidate>,
        room: OwnedSemaphorePermit,
    ) -> Result<oneshot::Receiver<Result<Vec<Taken>, IntakeError>>, IntakeError> {
        let (answer, answered) = oneshot::channel();
        let submission = Submission { candidates, answer, room };
        self.queue.send(submission).map_err(|_| IntakeError::Stopping)?;
        let used = self.limits.queue_events.saturating_sub(self.room.available_permits());
        gauge!(names::ACCEPT_QUEUE_EVENTS).set(used as f64);
        Ok(answered)
    }
}

#[async_trait]
impl Intake for Door {
    async fn submit(&self, candidates: Vec<Candidate>) -> Result<Vec<Taken>, IntakeError> {
        if candidates.is_empty() {
            return Ok(Vec::new());
        }
        let mut room = self.admit(candidates.len())?;
        let mut waiting = Vec::new();
        let mut rest = candidates;
        // Parts of a commit's size, so that a large call is gathered with others and both lanes work.
        while !rest.is_empty() {
            let later = rest.split_off(rest.len().min(self.limits.batch_max));
            let share = if later.is_empty() { room.num_permits() } else { rest.len().min(room.num_permits()) };
            let part = room.split(share).ok_or(IntakeError::Full(RETRY_AFTER))?;
            waiting.push(self.enqueue(rest, part)?);
            rest = later;
        }
        let mut taken = Vec::new();
        for answered in waiting {
            // An answer that never comes: the process is going down and the lane is gone.
            taken.extend(answered.await.unwrap_or(Err(IntakeError::Stopping))?);
        }
        Ok(taken)
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

impl Door {
    async fn stored(&self, event: EventId) -> Option<serde_json::Value> {
        self.store.event(event).await.ok().flatten()?.decision_view().ok()?
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
