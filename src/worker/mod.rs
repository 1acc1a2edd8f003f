//! The role that decides: owns partitions, takes their deliveries, decides, commits, publishes the
//! outcome, acknowledges, in that order.
//!
//! `fleet` claims and lets go of partitions; `feed` watches over one of them, `queue` turns its
//! deliveries into events, `due` takes up what failed before; `buffer` holds them, fair between
//! tenants; `open` opens them, `lane` decides and commits, `suspects` finds what ends workers; `finish`
//! publishes and acknowledges; `refill` and `upkeep` bring back what was lost on the way; `models` knows
//! by which model each tenant is decided, `budgets` who is stopped; `tally` counts what was written, and
//! `traced` tells of traced events.
//!
//! # Decisions
//! A lane takes what is there and never waits by a timer: with little traffic a batch is one event
//! and latency pays nothing, under load batches grow by themselves while a commit is in flight.

pub mod assign;
mod budgets;
mod buffer;
mod decide;
mod desk;
mod due;
mod feed;
mod finish;
mod fleet;
mod lane;
mod load;
mod meters;
mod models;
mod open;
mod ownership;
mod progress;
mod queue;
mod refill;
mod suspects;
mod tally;
mod traced;
mod upkeep;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use load::LoadMeter;

use crate::crypto::{Keyring, PackSeal, Packer};
use crate::domain::{EventId, PartitionId, PriceList, WorkerId};
use crate::ports::store::FleetConstants;
use crate::ports::{
    ActiveVersions, Broker, Clock, ContextSource, Entropy, EventStore, Leases, Member, Stops, StoreError,
};
use crate::telemetry::Traces;

/// What a worker stands on.
#[derive(Clone)]
pub struct Parts {
    /// The truth.
    pub store: Arc<dyn EventStore>,
    /// What events and decisions are sealed under.
    pub keyring: Arc<Keyring>,
    /// Which models are active, and what they are.
    pub versions: Arc<dyn ActiveVersions>,
    /// Whose budget is used up.
    pub stops: Arc<dyn Stops>,
    /// What a decision costs.
    pub prices: Arc<PriceList>,
    /// The queues.
    pub broker: Arc<dyn Broker>,
    /// Who owns what.
    pub leases: Arc<dyn Leases>,
    /// Where retrieval looks.
    pub context: Arc<dyn ContextSource>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// What is told of traced events.
    pub traces: Traces,
}

/// The bounds of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerLimits {
    /// Lanes, each with a store connection of its own, 1 or more.
    pub lanes: u16,
    /// Share of the partitions, relative to other workers'.
    pub weight: u32,
    /// Unacknowledged packs a partition, at most.
    pub prefetch: u16,
    /// Events in one commit, at most.
    pub commit_batch_max: usize,
    /// Bytes of a pack that a refill publishes, about.
    pub pack_bytes_max: usize,
    /// How often an event is begun before it is buried, 1 or more.
    pub attempts_max: u32,
    /// How long a failed event waits for its second try, about; doubles with each further one.
    pub retry_first: Duration,
    /// The longest such wait, about.
    pub retry_longest: Duration,
    /// How long a drain may take.
    pub drain_timeout: Duration,
    /// How long a worker claims nothing after its start: one membership TTL where there are others.
    pub settle: Duration,
    /// How often the worker looks at the fleet.
    pub turn: Duration,
}

impl Default for WorkerLimits {
    /// Those of a fleet with other members.
    fn default() -> Self {
        Self {
            lanes: 2,
            weight: 1,
            prefetch: 24,
            commit_batch_max: 500,
            pack_bytes_max: 131_072,
            attempts_max: 5,
            retry_first: Duration::from_secs(1),
            retry_longest: Duration::from_secs(300),
            drain_timeout: Duration::from_secs(30),
            settle: Duration::from_secs(6),
            turn: Duration::from_secs(1),
        }
    }
}

/// What the parts of a worker share.
struct Shared {
    parts: Parts,
    limits: WorkerLimits,
    constants: FleetConstants,
    seal: PackSeal,
    packer: Packer,
    member: Member,
    draining: AtomicBool,
    settling: AtomicBool,
    ownership: ownership::Ownership,
    buffers: Vec<Arc<buffer::Buffer>>,
    mark: RwLock<EventId>,
    models: models::Models,
    stopped: budgets::Stopped,
    meters: meters::Meters,
    load: Arc<load::LoadMeter>,
}

impl Shared {
    fn member(&self) -> Member {
        let (draining, settling) = (self.draining.load(Ordering::Acquire), self.settling.load(Ordering::Acquire));
        Member { draining, settling, ..self.member.clone() }
    }

    fn mark(&self) -> EventId {
        *self.mark.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_mark(&self, mark: EventId) {
        *self.mark.write().unwrap_or_else(PoisonError::into_inner) = mark;
    }
}

/// Why a worker ended by itself; completes "failed to …".
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The fleet's constants or the lanes could not be had.
    #[error("start the worker: {0}")]
    Store(#[from] StoreError),
    /// A lane has panicked: what it owned would stand still.
    #[error("keep a lane running: {0}")]
    Lane(String),
}

/// A worker, ready to run.
pub struct Worker {
    shared: Arc<Shared>,
}

impl Worker {
    /// Reads the fleet's constants and makes a worker with a boot id of its own.
    ///
    /// # Errors
    /// When the store is away or not migrated.
    pub async fn new(parts: Parts, limits: WorkerLimits) -> Result<Self, WorkerError> {
        let constants = parts.store.constants().await?;
        let mark = parts.store.mark().await?;
        let seal = PackSeal::new(&constants.pack_secret);
        let member = Member {
            id: WorkerId(parts.entropy.uuid()),
            version: env!("CARGO_PKG_VERSION").into(),
            weight: limits.weight.max(1),
            draining: false,
            settling: true,
        };
        let buffer = || Arc::new(buffer::Buffer::new(2 * limits.commit_batch_max));
        let shared = Shared {
            packer: Packer::new(seal.clone(), limits.pack_bytes_max),
            seal,
            member,
            draining: AtomicBool::new(false),
            settling: AtomicBool::new(true),
            ownership: ownership::Ownership::default(),
            buffers: (0..limits.lanes.max(1)).map(|_| buffer()).collect(),
            mark: RwLock::new(mark),
            models: models::Models::new(),
            stopped: budgets::Stopped::default(),
            meters: meters::Meters::new(),
            load: Arc::default(),
            constants,
            parts,
            limits,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Its boot id.
    pub fn id(&self) -> WorkerId {
        self.shared.member.id
    }

    /// What it has done of late.
    pub fn load(&self) -> Arc<LoadMeter> {
        Arc::clone(&self.shared.load)
    }

    /// The partitions that it owns now.
    pub fn partitions(&self) -> Vec<PartitionId> {
        self.shared.ownership.partitions()
    }

    /// Runs until stopped; then takes nothing more, finishes, commits, acknowledges, hands over.
    ///
    /// # Errors
    /// When a lane can't be opened or has failed: the process must end, its partitions move on.
    pub async fn run(&self, stop: CancellationToken) -> Result<(), WorkerError> {
        let Some(watch) = models::first_look(Arc::clone(&self.shared), &stop).await else { return Ok(()) };
        let Some(spending) = budgets::first_look(Arc::clone(&self.shared), &stop).await else { return Ok(()) };
        let tasks = TaskTracker::new();
        let mut lanes = self.start_lanes(&tasks).await?;
        let upkeep = CancellationToken::new();
        let shared = || Arc::clone(&self.shared);
        tasks.spawn(upkeep::outcomes(shared(), upkeep.clone()));
        tasks.spawn(upkeep::mark(shared(), upkeep.clone()));
        tasks.spawn(upkeep::repairs(shared(), upkeep.clone()));
        tasks.spawn(upkeep::report(shared(), upkeep.clone()));
        tasks.spawn(upkeep::ledger(shared(), upkeep.clone()));
        tasks.spawn(watch.run(upkeep.clone()));
        tasks.spawn(spending.run(upkeep.clone()));
        let mut fleet = tokio::spawn(fleet::FleetTask::new(shared(), tasks.clone()).run(stop));
        let result = tokio::select! {
            biased;
            ended = &mut fleet => ended.map_err(|e| WorkerError::Lane(e.to_string())),
            // Lanes never end by themselves.
            Some(ended) = lanes.join_next() => {
                fleet.abort();
                Err(WorkerError::Lane(ended.err().map_or_else(|| "it has ended".into(), |e| e.to_string())))
            }
        };
        upkeep.cancel();
        tasks.close();
        // What is committed is also published: a few seconds for outcomes on their way. Their
        // outbox rows stand in any case.
        if tokio::time::timeout(self.shared.limits.drain_timeout, tasks.wait()).await.is_err() {
            tracing::warn!("ended with work on its way; the outbox keeps it");
        }
        lanes.shutdown().await;
        result
    }

    async fn start_lanes(&self, tasks: &TaskTracker) -> Result<JoinSet<()>, WorkerError> {
        let mut lanes = JoinSet::new();
        for buffer in &self.shared.buffers {
            let lane = lane::LaneTask {
                shared: Arc::clone(&self.shared),
                buffer: Arc::clone(buffer),
                lane: self.shared.parts.store.open_lane().await?,
                finisher: finish::Finisher::new(Arc::clone(&self.shared), tasks.clone()),
                desk: desk::Desk { shared: Arc::clone(&self.shared) },
            };
            lanes.spawn(lane.run());
        }
        Ok(lanes)
    }
}
