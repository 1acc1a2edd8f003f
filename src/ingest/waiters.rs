//! Owns the requests that wait for a decision, and the queue on which decisions are heard of.

use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::Parts;
use crate::domain::EventId;
use crate::resilience::Backoff;

/// Waiting requests at most; one more is answered without its decision.
const WAITERS_MAX: usize = 10_000;

/// How long a waiter that nobody asks after is kept; longer than any request may wait.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(120);

struct Waiter {
    since: Duration,
    tell: oneshot::Sender<Value>,
    hear: Option<oneshot::Receiver<Value>>,
}

/// What came of waiting.
pub(super) enum Heard {
    /// The decision.
    Decision(Value),
    /// It did not come in time.
    Nothing,
    /// Nobody will tell this process: the event was accepted before, or elsewhere.
    Unexpected,
}

/// The waiting requests of this process.
#[derive(Default)]
pub(super) struct Waiters {
    waiting: Mutex<HashMap<EventId, Waiter>>,
    queue: RwLock<Option<Arc<str>>>,
}

impl Waiters {
    // A panic while the lock is held leaves the map whole: every change is one insert or remove.
    fn waiting(&self) -> MutexGuard<'_, HashMap<EventId, Waiter>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The reply queue to be named in packs; none while the broker is away.
    pub(super) fn queue(&self) -> Option<Arc<str>> {
        self.queue.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_queue(&self, queue: Option<Arc<str>>) {
        *self.queue.write().unwrap_or_else(PoisonError::into_inner) = queue;
    }

    /// Expects the decision of an event that is about to be stored.
    pub(super) fn expect(&self, event: EventId, now: Duration) {
        let mut waiting = self.waiting();
        if waiting.len() < WAITERS_MAX {
            let (tell, hear) = oneshot::channel();
            waiting.insert(event, Waiter { since: now, tell, hear: Some(hear) });
        }
    }

    /// Expects it no longer.
    pub(super) fn forget(&self, event: EventId) {
        self.waiting().remove(&event);
    }

    /// Waits for an expected decision; gives nothing at once for one that is not expected here.
    pub(super) async fn hear(&self, event: EventId, patience: Duration) -> Heard {
        let Some(hear) = self.waiting().get_mut(&event).and_then(|w| w.hear.take()) else { return Heard::Unexpected };
        let heard = tokio::time::timeout(patience, hear).await.ok().and_then(Result::ok);
        self.forget(event);
        heard.map_or(Heard::Nothing, Heard::Decision)
    }

    fn tell(&self, decision: Value) {
        let id = decision.get("event_id").and_then(Value::as_str).and_then(|id| EventId::parse(id).ok());
        let Some(waiter) = id.and_then(|id| self.waiting().remove(&id)) else { return };
        // The request may have stopped waiting just now.
        _ = waiter.tell.send(decision);
    }

    fn sweep(&self, now: Duration) {
        self.waiting().retain(|_, w| now.saturating_sub(w.since) < FORGOTTEN_AFTER);
    }
}

/// Listens for decisions until stopped; opens a new queue whenever the old one is lost.
pub(super) async fn listen(waiters: Arc<Waiters>, parts: Parts, stop: CancellationToken) {
    let Parts { broker, clock, entropy, .. } = parts;
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5), &*entropy);
    while !stop.is_cancelled() {
        if let Some(Ok(mut replies)) = stop.run_until_cancelled(broker.replies()).await {
            backoff.reset();
            waiters.set_queue(Some(replies.queue.as_str().into()));
            while let Some(Some(body)) = stop.run_until_cancelled(replies.messages.recv()).await {
                let decisions: Vec<Value> = serde_json::from_slice(&body).unwrap_or_default();
                decisions.into_iter().for_each(|d| waiters.tell(d));
                waiters.sweep(clock.elapsed());
            }
            waiters.set_queue(None);
        }
        waiters.sweep(clock.elapsed());
        stop.run_until_cancelled(tokio::time::sleep(backoff.next_wait())).await;
    }
}
