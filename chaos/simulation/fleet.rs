//! Owns the processes of a run: starts them as a supervisor does, stops, pauses and kills them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use riskfleet::ingest::{self, Door, Inbox};
use riskfleet::ports::RateLimits;
use riskfleet::resilience::LocalRate;
use riskfleet::worker::{self, Worker, WorkerError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::broker::SimBroker;
use crate::leases::{SimContext, SimLeases};
use crate::plan::Plan;
use crate::process::Process;
use crate::store::SimStore;
use crate::world::{World, keyring, pass_time};

/// How long a supervisor waits before it starts again what has ended.
const RESTART: Duration = Duration::from_millis(500);

/// A process that was started.
#[derive(Clone)]
pub(crate) struct Crew {
    pub(crate) process: Arc<Process>,
    pub(crate) stop: CancellationToken,
    tasks: TaskTracker,
    door: Arc<Mutex<Option<Arc<Door>>>>,
}

impl Crew {
    /// The door of an ingest that is up.
    fn door(&self) -> Option<Arc<Door>> {
        self.door.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What a slot of the fleet is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Worker,
    Ingest,
}

/// All processes: each slot holds the newest of its kind.
pub(crate) struct Fleet {
    pub(crate) world: Arc<World>,
    pub(crate) plan: Plan,
    slots: Mutex<Vec<(Role, Option<Crew>)>>,
    boots: AtomicU64,
}

impl Fleet {
    /// Starts every process of the plan.
    pub(crate) fn start(world: &Arc<World>, plan: Plan) -> Arc<Self> {
        let mut slots = vec![(Role::Worker, None); plan.workers];
        slots.extend(vec![(Role::Ingest, None); plan.ingests]);
        let (count, joins) = (slots.len(), plan.joins.clone());
        slots.extend(vec![(Role::Worker, None); joins.len()]);
        let fleet =
            Arc::new(Self { world: Arc::clone(world), plan, slots: Mutex::new(slots), boots: AtomicU64::default() });
        (0..count).for_each(|slot| fleet.boot(slot));
        joins.into_iter().enumerate().for_each(|(n, after)| fleet.boot_after(count + n, after));
        fleet
    }

    fn slots(&self) -> MutexGuard<'_, Vec<(Role, Option<Crew>)>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The slots of a role.
    pub(crate) fn of(&self, role: Role) -> Vec<usize> {
        self.slots().iter().enumerate().filter(|(_, (r, _))| *r == role).map(|(n, _)| n).collect()
    }

    /// The process in a slot; none while it is down.
    pub(crate) fn crew(&self, slot: usize) -> Option<Crew> {
        self.slots()[slot].1.clone()
    }

    /// Takes the process out of its slot.
    pub(crate) fn take(&self, slot: usize) -> Option<Crew> {
        self.slots()[slot].1.take()
    }

    /// Every process that is up.
    pub(crate) fn up(&self) -> Vec<Crew> {
        self.slots().iter().filter_map(|(_, crew)| crew.clone()).collect()
    }

    /// The doors that are open.
    pub(crate) fn doors(&self) -> Vec<Arc<Door>> {
        self.up().iter().filter_map(Crew::door).collect()
    }

    /// Starts a process in a slot that is down.
    pub(crate) fn boot(self: &Arc<Self>, slot: usize) {
        let (role, down) = {
            let slots = self.slots();
            (slots[slot].0, slots[slot].1.is_none())
        };
        if !down {
            return;
        }
        let boot = self.boots.fetch_add(1, Ordering::Relaxed);
        let letter = if role == Role::Worker { 'w' } else { 'i' };
        let off = if self.plan.bad_clocks { self.world.dice().between(0, 10_000) as i64 - 5_000 } else { 0 };
        let process = Process::new(&self.world, &format!("{letter}{slot}.{boot}"), off);
        process.note("boots");
        let crew = Crew { process, stop: CancellationToken::new(), tasks: TaskTracker::new(), door: Arc::default() };
        match role {
            Role::Worker => drop(crew.tasks.spawn(run_worker(Arc::clone(self), crew.clone()))),
            Role::Ingest => drop(crew.tasks.spawn(run_ingest(Arc::clone(self), crew.clone()))),
        }
        let process = Arc::clone(&crew.process);
        self.slots()[slot].1 = Some(crew);
        tokio::spawn(undertaker(Arc::clone(self), slot, process));
    }

    /// Starts a process in a slot after a while.
    pub(crate) fn boot_after(self: &Arc<Self>, slot: usize, wait: Duration) {
        let fleet = Arc::clone(self);
        tokio::spawn(async move {
            pass_time(wait).await;
            fleet.boot(slot);
        });
    }

    /// Stops everything in good order: a process that does not end in time holds on to something.
    pub(crate) async fn stop(&self, within: Duration) {
        let up = self.up();
        for crew in &up {
            crew.stop.cancel();
        }
        for crew in up {
            crew.tasks.close();
            if tokio::time::timeout(within, crew.tasks.wait()).await.is_err() {
                self.world.violated(format!("{} has not ended within {within:?}", crew.process.name));
            }
        }
    }
}

/// Starts another process where one has died.
async fn undertaker(fleet: Arc<Fleet>, slot: usize, process: Arc<Process>) {
    process.death().await;
    if fleet.crew(slot).is_some_and(|crew| Arc::ptr_eq(&crew.process, &process)) {
        fleet.take(slot);
        let wait = fleet.world.dice().millis(0, 12_000);
        fleet.boot_after(slot, wait);
    }
}

async fn run_worker(fleet: Arc<Fleet>, crew: Crew) {
    let process = &crew.process;
    let parts = worker::Parts {
        store: Arc::new(SimStore(Arc::clone(process))),
        keyring: keyring(&fleet.world.store, (process.clock.clone(), process.entropy.clone())),
        versions: Arc::new(SimStore(Arc::clone(process))),
        stops: Arc::new(SimStore(Arc::clone(process))),
        prices: Arc::default(),
        broker: Arc::new(SimBroker(Arc::clone(process))),
        leases: Arc::new(SimLeases(Arc::clone(process))),
        context: Arc::new(SimContext(Arc::clone(process))),
        clock: process.clock.clone(),
        entropy: process.entropy.clone(),
        traces: riskfleet::telemetry::Traces::off(),
    };
    while !crew.stop.is_cancelled() {
        let ended = match Worker::new(parts.clone(), fleet.plan.worker_limits.clone()).await {
            Ok(worker) => worker.run(crew.stop.clone()).await,
            Err(e) => Err(e),
        };
        match ended {
            Ok(()) => process.note("has ended"),
            Err(WorkerError::Store(e)) => process.note(&format!("failed to start: {e}")),
            Err(WorkerError::Lane(e)) => fleet.world.violated(format!("{}: a lane has failed: {e}", process.name)),
        }
        _ = crew.stop.run_until_cancelled(pass_time(RESTART)).await;
    }
}

async fn run_ingest(fleet: Arc<Fleet>, crew: Crew) {
    let process = &crew.process;
    let parts = ingest::Parts {
        store: Arc::new(SimStore(Arc::clone(process))),
        keyring: keyring(&fleet.world.store, (process.clock.clone(), process.entropy.clone())),
        broker: Arc::new(SimBroker(Arc::clone(process))),
        meter: Arc::new(LocalRate::new(RateLimits::a_second(1, 0), 100, process.clock.clone())),
        clock: process.clock.clone(),
        entropy: process.entropy.clone(),
        traces: riskfleet::telemetry::Traces::off(),
        limits: fleet.plan.ingest_limits.clone(),
    };
    while !crew.stop.is_cancelled() {
        match ingest::start(parts.clone(), &crew.stop, &crew.tasks).await {
            Ok(door) => {
                let inbox = Inbox {
                    intake: door.clone(),
                    broker: Arc::clone(&parts.broker),
                    store: Arc::clone(&parts.store),
                    keyring: Arc::clone(&parts.keyring),
                    entropy: Arc::clone(&parts.entropy),
                    auth: riskfleet::ingest::anybody(),
                    traces: riskfleet::telemetry::Traces::off(),
                    event_bytes_max: 65_536,
                    prefetch: 20,
                };
                crew.tasks.spawn(ingest::consume_inbox(inbox, crew.stop.clone()));
                *crew.door.lock().unwrap_or_else(PoisonError::into_inner) = Some(door);
                return;
            }
            Err(e) => process.note(&format!("failed to start: {e}")),
        }
        _ = crew.stop.run_until_cancelled(pass_time(RESTART)).await;
    }
}
