//! The role that takes events: stores them, then publishes them. Every queue in it is bounded.
//!
//! `door` admits candidates and answers: `room` bounds what waits, `pace` asks how fast tenants may
//! go, `queue` serves them in turn; `accept` gathers what is waiting into one commit;
//! `publish` sends packs and settles the outbox; `traced` tells of both; `sweep` republishes what a crash or an absent
//! broker left behind; `inbox` and `file` are the doors of queue and file producers.
//!
//! Never decides, and never acknowledges anything before its commit.

mod accept;
mod call;
mod clock;
mod compartments;
mod door;
pub mod file;
mod inbox;
mod pace;
mod publish;
mod queue;
mod room;
mod sweep;
mod traced;
mod waiters;

pub use clock::StoreClock;
pub use door::{Door, IngestLimits, SideDoor};
pub use inbox::{Inbox, InboxAuth, InboxRefusal, InboxSender, anybody, consume_inbox};

use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::crypto::{Keyring, PackSeal, Packer};
use crate::ports::{Broker, Clock, Entropy, EventStore, RateMeter, StoreError};
use crate::telemetry::Traces;

/// What ingest stands on.
#[derive(Clone)]
pub struct Parts {
    /// The truth.
    pub store: Arc<dyn EventStore>,
    /// What events are sealed under.
    pub keyring: Arc<Keyring>,
    /// The queues.
    pub broker: Arc<dyn Broker>,
    /// The rates of tenants.
    pub meter: Arc<dyn RateMeter>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// What is told of traced events.
    pub traces: Traces,
    /// Its bounds.
    pub limits: IngestLimits,
}

/// Starts ingest: the door, and its tasks on `tasks`. They end when `stop` is cancelled and what
/// was admitted is stored and handed to the broker.
///
/// # Errors
/// When the fleet's constants can't be read.
pub async fn start(parts: Parts, stop: &CancellationToken, tasks: &TaskTracker) -> Result<Arc<Door>, StoreError> {
    let constants = parts.store.constants().await?;
    let packer = Packer::new(PackSeal::new(&constants.pack_secret), parts.limits.pack_bytes_max);
    let clock = Arc::new(StoreClock::measure(&*parts.store, Arc::clone(&parts.clock)).await?);
    let waiters = Arc::new(waiters::Waiters::default());
    let (publisher, settling) = publish::Publisher::new(&parts, packer, tasks.clone());
    let publisher = Arc::new(publisher);
    let queue = Arc::new(queue::AcceptQueue::new());
    let (pacer, asked) = pace::Pacer::new();
    let door = Door::new(&parts, Arc::clone(&queue), pacer, Arc::clone(&waiters), stop.clone());
    tasks.spawn(pace::run(Arc::clone(&parts.meter), asked, stop.clone()));
    for _ in 0..accept::LANES {
        let accept = accept::Accept {
            parts: parts.clone(),
            partitions: constants.partitions,
            clock: Arc::clone(&clock),
            queue: Arc::clone(&queue),
            publisher: Arc::clone(&publisher),
            waiters: Arc::clone(&waiters),
        };
        tasks.spawn(accept.run(stop.clone()));
    }
    tasks.spawn(publish::settle(Arc::clone(&parts.store), settling));
    tasks.spawn(sweep::run(Arc::clone(&parts.store), publisher, stop.clone()));
    tasks.spawn(door.unpublished().watch(Arc::clone(&parts.store), stop.clone()));
    tasks.spawn(waiters::listen(waiters, parts.clone(), stop.clone()));
    tasks.spawn(clock::keep(clock, Arc::clone(&parts.store), stop.clone()));
    Ok(door)
}
