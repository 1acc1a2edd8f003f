//! Owns a bounded queue with acknowledgements: what is taken and not settled comes back, at the
//! front and marked. Never drops an item, never grows past its bounds.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout_at};

use crate::ports::{Ack, BrokerError};

/// What a queue may hold, unsettled items included.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) items: usize,
    pub(super) bytes: usize,
}

/// An item on its way to a consumer.
pub(super) struct Taken<T> {
    pub(super) tag: u64,
    pub(super) redelivered: bool,
    pub(super) item: T,
}

struct Entry<T> {
    item: T,
    bytes: usize,
    redelivered: bool,
}

struct State<T> {
    ready: VecDeque<Entry<T>>,
    /// By delivery tag; a redelivery gets a new tag, so that a late acknowledgement of the first
    /// delivery does not settle the second.
    unsettled: BTreeMap<u64, (u64, Entry<T>)>,
    bytes: usize,
    last_tag: u64,
    last_consumer: u64,
}

/// The queue.
pub(super) struct Queue<T> {
    bounds: Bounds,
    state: Mutex<State<T>>,
    changed: Notify,
}

impl<T: Clone + Send + 'static> Queue<T> {
    pub(super) fn new(bounds: Bounds) -> Arc<Self> {
        let state =
            State { ready: VecDeque::new(), unsettled: BTreeMap::new(), bytes: 0, last_tag: 0, last_consumer: 0 };
        Arc::new(Self { bounds, state: Mutex::new(state), changed: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        // Every change below is whole before anything can panic: a poisoned lock guards good data.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an item at the end; waits for room until the deadline. False when there was none.
    pub(super) async fn put(&self, item: T, bytes: usize, deadline: Instant) -> bool {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Listening before looking: a change between the two is not missed.
            changed.as_mut().enable();
            if self.offer(&item, bytes) {
                return true;
            }
            if timeout_at(deadline, changed).await.is_err() {
                return false;
            }
        }
    }

    /// Puts an item at the end if there is room.
    pub(super) fn offer(&self, item: &T, bytes: usize) -> bool {
        let mut state = self.state();
        let held = state.ready.len() + state.unsettled.len();
        // An item larger than the whole bound passes through an empty queue, or it never would.
        if held >= self.bounds.items || (held > 0 && state.bytes.saturating_add(bytes) > self.bounds.bytes) {
            return false;
        }
        state.bytes += bytes;
        state.ready.push_back(Entry { item: item.clone(), bytes, redelivered: false });
        drop(state);
        self.changed.notify_waiters();
        true
    }

    fn take(&self, consumer: u64, prefetch: usize) -> Option<Taken<T>> {
        let mut state = self.state();
        if state.unsettled.values().filter(|(owner, _)| *owner == consumer).count() >= prefetch {
            return None;
        }
        let entry = state.ready.pop_front()?;
        state.last_tag += 1;
        let tag = state.last_tag;
        let taken = Taken { tag, redelivered: entry.redelivered, item: entry.item.clone() };
        state.unsettled.insert(tag, (consumer, entry));
        Some(taken)
    }

    fn settle(&self, tag: u64) -> bool {
        let mut state = self.state();
        let Some((_, entry)) = state.unsettled.remove(&tag) else { return false };
        state.bytes -= entry.bytes;
        drop(state);
        self.changed.notify_waiters();
        true
    }

    /// Everything the consumer has not settled goes back to the front, in its old order.
    fn give_back(&self, consumer: u64) {
        let mut state = self.state();
        let tags: Vec<u64> =
            state.unsettled.iter().filter(|(_, (owner, _))| *owner == consumer).map(|(tag, _)| *tag).collect();
        for tag in tags.into_iter().rev() {
            if let Some((_, mut entry)) = state.unsettled.remove(&tag) {
                entry.redelivered = true;
                state.ready.push_front(entry);
            }
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// How many items wait for a consumer.
    pub(super) fn waiting(&self) -> usize {
        self.state().ready.len()
    }

    /// Starts a consumer with at most `prefetch` unsettled items; it ends, and gives back what it
    /// holds, when the receiver is dropped.
    pub(super) fn consume<D: Send + 'static>(
        self: &Arc<Self>,
        prefetch: u16,
        deliver: impl Fn(Taken<T>, Box<dyn Ack>) -> D + Send + 'static,
    ) -> mpsc::Receiver<D> {
        let prefetch = usize::from(prefetch.max(1));
        let (sender, receiver) = mpsc::channel(prefetch);
        let consumer = {
            let mut state = self.state();
            state.last_consumer += 1;
            state.last_consumer
        };
        tokio::spawn(Arc::clone(self).run(consumer, prefetch, sender, deliver));
        receiver
    }

    async fn run<D: Send + 'static>(
        self: Arc<Self>,
        consumer: u64,
        prefetch: usize,
        sender: mpsc::Sender<D>,
        deliver: impl Fn(Taken<T>, Box<dyn Ack>) -> D + Send + 'static,
    ) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if sender.is_closed() {
                break;
            }
            if let Some(taken) = self.take(consumer, prefetch) {
                let ack = Box::new(QueueAck { queue: Arc::clone(&self), tag: taken.tag });
                if sender.send(deliver(taken, ack)).await.is_err() {
                    break;
                }
            } else {
                tokio::select! {
                    biased;
                    () = &mut changed => {}
                    () = sender.closed() => break,
                }
            }
        }
        self.give_back(consumer);
    }
}

struct QueueAck<T> {
    queue: Arc<Queue<T>>,
    tag: u64,
}

#[async_trait]
impl<T: Clone + Send + 'static> Ack for QueueAck<T> {
    async fn ack(&self) -> Result<bool, BrokerError> {
        Ok(self.queue.settle(self.tag))
    }
}
