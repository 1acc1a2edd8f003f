//! Owns the order in which what was admitted is stored: the tenants in turn, and those above their
//! rate behind the others, so that a flood waits behind itself. Its bound is the room that every submission in it holds.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use super::room::Room;
use crate::domain::TenantId;
use crate::ports::Traffic;
use crate::ports::intake::{Candidate, IntakeError, Taken};
use crate::resilience::RankedQueue;

/// Events of a tenant in its turn.
const QUANTUM: usize = 100;

/// A part of a call, of one tenant, waiting for its commit.
pub(super) struct Submission {
    pub(super) tenant: TenantId,
    pub(super) candidates: Vec<Candidate>,
    /// By which of the partition's queues its events go.
    pub(super) traffic: Traffic,
    pub(super) answer: oneshot::Sender<Result<Vec<Taken>, IntakeError>>,
    pub(super) room: Room,
    /// When it was let in, for its spans.
    pub(super) admitted: Duration,
}

struct Waiting {
    queue: RankedQueue<TenantId, Submission>,
    closed: bool,
}

/// The accept queue, shared by the accept lanes: one gathers while another commits.
pub(super) struct AcceptQueue {
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

impl AcceptQueue {
    pub(super) fn new() -> Self {
        let waiting = Waiting { queue: RankedQueue::new(QUANTUM), closed: false };
        Self { waiting: Mutex::new(waiting), arrived: Notify::new() }
    }

    // A panic while it is held can only come from an allocation that failed.
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts all parts of a call in, or none once the queue is closed.
    pub(super) fn put(&self, parts: Vec<Submission>) -> Result<(), IntakeError> {
        let mut waiting = self.waiting();
        if waiting.closed {
            return Err(IntakeError::Stopping);
        }
        for part in parts {
            waiting.queue.push_costing(part.traffic, part.tenant.clone(), part.candidates.len(), part);
        }
        drop(waiting);
        self.arrived.notify_one();
        Ok(())
    }

    /// Waits for one submission, then takes what else is there, in turn, up to about so many
    /// events. None when stopped and everything is taken: nothing is put in from then on.
    pub(super) async fn take(&self, events: usize, stop: &CancellationToken) -> Option<Vec<Submission>> {
        loop {
            {
                let mut waiting = self.waiting();
                let taken = waiting.queue.take(events);
                if !taken.is_empty() {
                    if !waiting.queue.is_empty() {
                        self.arrived.notify_one();
                    }
                    return Some(taken);
                }
                if stop.is_cancelled() {
                    waiting.closed = true;
                    return None;
                }
            }
            // A notice that comes between the look and the wait is kept for the wait.
            stop.run_until_cancelled(self.arrived.notified()).await;
        }
    }
}
