//! `riskfleet up`: the whole fleet in one process, on SQLite, with nothing installed.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::identity::{authenticator, refusals, secured};
use super::program::Telemetry;
use super::proof::{self, Signing};
use super::servers::{approval_rules, ingest_limits, local_rate, sweeper, worker_limits};
use super::{WiringError, contexts, demo, probes, summary, vault};
use crate::adapters::memory::broker::{MemoryBroker, MemoryLimits};
use crate::adapters::memory::context::{ContextLimits, MemoryContext};
use crate::adapters::memory::leases::MemoryLeases;
use crate::adapters::sqlite::SqliteStore;
use crate::api::{self, ApiState, Limits};
use crate::cli::args::Up;
use crate::config::Settings;
use crate::crypto::Keyring;
use crate::governance::{budgets, overdue};
use crate::ingest::{self, Door};
use crate::lifecycle::{SystemClock, SystemEntropy, serve};
use crate::ports::leases::LeaseTtls;
use crate::ports::{Broker, Clock, ContextSource, Entropy, EventStore, Leases, Registry};
use crate::telemetry::Traces;
use crate::worker::{self, Worker, WorkerError};

/// Where an `up` fleet lives when nothing is said.
const DEFAULT_DATA: &str = "riskfleet-data";

/// How often worker tasks look at the fleet: there are no others to wait for.
const TURN: Duration = Duration::from_millis(200);

/// How long the end waits for the decisions of what was accepted.
const LAST_DECISIONS: Duration = Duration::from_secs(10);

/// The database in a data folder.
pub(super) fn database(data: &Path) -> PathBuf {
    data.join("riskfleet.db")
}

/// Everything of the fleet that outlives a request.
pub(super) struct Fleet {
    pub(super) store: Arc<dyn EventStore>,
    /// What is signed over the audit, and the key that verifies it.
    pub(super) proof: (Arc<dyn Registry>, [u8; 32]),
    pub(super) broker: Arc<MemoryBroker>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) door: Arc<Door>,
    pub(super) address: SocketAddr,
    /// Whether it is listened on with TLS.
    pub(super) tls: bool,
    pub(super) data: PathBuf,
    pub(super) workers: u16,
}

/// Runs the fleet until stopped; ends with everything decided and, for a demo, the audit verified.
///
/// # Errors
/// When the folder is in use, the address can't be listened on, or a worker has failed.
pub(super) async fn up(
    mut settings: Settings,
    data: Option<PathBuf>,
    args: Up,
    telemetry: Telemetry,
    stop: CancellationToken,
) -> Result<(), WiringError> {
    let data = data.unwrap_or_else(|| DEFAULT_DATA.into());
    settings.http_addr = args.http;
    let _held = hold(&data)?;
    let listener = TcpListener::bind(args.http).await.map_err(WiringError::io(format!("listen on {}", args.http)))?;
    let address = listener.local_addr().map_err(WiringError::io("listen"))?;
    let listener = secured(listener, &settings, &stop)?;
    let (entropy, clock): (Arc<dyn Entropy>, Arc<dyn Clock>) = (Arc::new(SystemEntropy), Arc::new(SystemClock::new()));
    let file = database(&data);
    let sqlite = SqliteStore::open(&file, settings.partitions, entropy.secret(), Arc::clone(&clock)).await?;
    let sqlite = Arc::new(sqlite);
    let (keyring, _watched) = vault::of_folder(&settings, (&data, &*entropy), sqlite.clone(), &clock).await?;
    let (store, registry): (Arc<dyn EventStore>, Arc<dyn Registry>) = (sqlite.clone(), sqlite.clone());
    let sweeper = sweeper(&settings, &registry, &clock);
    let auth = authenticator(&settings, &registry, &clock, &stop)?;
    let broker = Arc::new(MemoryBroker::new(MemoryLimits::default()));
    let tasks = TaskTracker::new();
    let signing = Signing::in_folder(&settings, (&data, &*entropy), (&store, &registry), &clock).await?;
    let stop_ingest = CancellationToken::new();
    let with = (&clock, &entropy, &telemetry.traces);
    let parts = ingest_parts(&settings, (&store, &keyring, &broker), with);
    let door = ingest::start(parts, &stop_ingest, &tasks).await?;
    let stop_workers = CancellationToken::new();
    tasks.spawn(sweeper.run(stop_ingest.clone()));
    let workers = start_workers(&settings, &args, (&sqlite, &keyring, &broker), with, &stop_workers).await?;
    let state = ApiState {
        store: Arc::clone(&store),
        keyring,
        registry: Arc::clone(&registry),
        approvals: approval_rules(&settings),
        audit_key: Some(signing.public_key),
        auth,
        clock: Arc::clone(&clock),
        entropy,
        retention_days: settings.retention_days,
        limits: Limits::from(&settings),
        probes: probes::of_one_process(&store, &(broker.clone() as Arc<dyn Broker>)),
        prometheus: telemetry.prometheus,
        refusals: refusals(&registry, &clock, &stop),
        traces: telemetry.traces,
    };
    let router = api::whole_router(state, door.clone());
    let server = tokio::spawn(serve(listener, router, stop.clone(), settings.drain_timeout()));
    let tls = settings.tls_cert_file.is_some();
    govern(&settings, (&store, &registry), (&clock, signing.public_key), (&tasks, &stop));
    let proof = (registry, signing.public_key);
    let fleet = Fleet { store, proof, broker, clock, door, address, tls, data, workers: args.workers };
    summary::greet(&fleet);
    let ended = run(&fleet, &args, workers, &stop).await;
    stop.cancel();
    // Requests first, then what they left, then the workers: nothing accepted stays undecided.
    _ = server.await;
    stop_ingest.cancel();
    summary::last_decisions(&fleet, LAST_DECISIONS).await;
    stop_workers.cancel();
    let worked = ended.last().await;
    // Behind the last decision: it signs that too.
    signing.end(settings.drain_timeout()).await;
    last_packs(&tasks, settings.drain_timeout()).await;
    worked?;
    summary::farewell(&fleet, args.demo).await
}

/// Waits for what is on its way to the broker.
async fn last_packs(tasks: &TaskTracker, within: Duration) {
    tasks.close();
    if tokio::time::timeout(within, tasks.wait()).await.is_err() {
        tracing::warn!("ended with packs on their way; the outbox keeps them");
    }
}

/// Starts what a console does by itself, save for the notary and the sweep.
fn govern(
    settings: &Settings,
    (store, registry): (&Arc<dyn EventStore>, &Arc<dyn Registry>),
    (clock, public_key): (&Arc<dyn Clock>, [u8; 32]),
    (tasks, stop): (&TaskTracker, &CancellationToken),
) {
    tasks.spawn(overdue::watch(registry.clone(), Arc::clone(clock), approval_rules(settings), stop.clone()));
    tasks.spawn(budgets::watch(registry.clone(), Arc::clone(clock), stop.clone()));
    if let Some(verifier) = proof::verifier(settings, (store, registry), clock, Some(public_key)) {
        tasks.spawn(verifier.run(stop.clone()));
    }
}

fn ingest_parts(
    settings: &Settings,
    (store, keyring, broker): (&Arc<dyn EventStore>, &Arc<Keyring>, &Arc<MemoryBroker>),
    (clock, entropy, traces): (&Arc<dyn Clock>, &Arc<dyn Entropy>, &Traces),
) -> ingest::Parts {
    ingest::Parts {
        store: Arc::clone(store),
        keyring: Arc::clone(keyring),
        broker: broker.clone(),
        meter: Arc::new(local_rate(settings, clock)),
        clock: Arc::clone(clock),
        entropy: Arc::clone(entropy),
        traces: traces.clone(),
        limits: ingest_limits(settings),
    }
}

enum Ended {
    Asked(JoinSet<Result<(), WorkerError>>),
    Failed(WorkerError),
}

impl Ended {
    /// Waits for the workers that still run.
    async fn last(self) -> Result<(), WorkerError> {
        match self {
            Self::Asked(mut workers) => all_ended(&mut workers).await,
            Self::Failed(e) => Err(e),
        }
    }
}

/// Until stopped, until the demo has what it wanted, or until a worker fails.
async fn run(
    fleet: &Fleet,
    args: &Up,
    mut workers: JoinSet<Result<(), WorkerError>>,
    stop: &CancellationToken,
) -> Ended {
    let show = async {
        if args.demo {
            demo::run(fleet, args, stop).await;
        } else {
            stop.cancelled().await;
        }
    };
    tokio::select! {
        () = show => Ended::Asked(workers),
        Some(ended) = workers.join_next() => Ended::Failed(failure(ended)),
    }
}

fn failure(ended: Result<Result<(), WorkerError>, tokio::task::JoinError>) -> WorkerError {
    match ended {
        Ok(Err(e)) => e,
        Ok(Ok(())) => WorkerError::Lane("a worker has ended by itself".into()),
        Err(e) => WorkerError::Lane(e.to_string()),
    }
}

async fn all_ended(workers: &mut JoinSet<Result<(), WorkerError>>) -> Result<(), WorkerError> {
    while let Some(ended) = workers.join_next().await {
        match ended {
            Ok(Ok(())) => {}
            other => return Err(failure(other)),
        }
    }
    Ok(())
}

async fn start_workers(
    settings: &Settings,
    args: &Up,
    (store, keyring, broker): (&Arc<SqliteStore>, &Arc<Keyring>, &Arc<MemoryBroker>),
    (clock, entropy, traces): (&Arc<dyn Clock>, &Arc<dyn Entropy>, &Traces),
    stop: &CancellationToken,
) -> Result<JoinSet<Result<(), WorkerError>>, WiringError> {
    let leases: Arc<dyn Leases> = Arc::new(MemoryLeases::new(LeaseTtls::default(), Arc::clone(clock)));
    let context: Arc<dyn ContextSource> = Arc::new(MemoryContext::new(ContextLimits::default()));
    let known = contexts::fill((&**store, keyring), &*context).await?;
    tracing::debug!(events = known, "the context is filled");
    let mut workers = JoinSet::new();
    for _ in 0..args.workers {
        let parts = worker::Parts {
            store: store.clone(),
            keyring: Arc::clone(keyring),
            versions: store.clone(),
            stops: store.clone(),
            prices: settings.prices(),
            broker: broker.clone(),
            leases: Arc::clone(&leases),
            context: Arc::clone(&context),
            clock: Arc::clone(clock),
            entropy: Arc::clone(entropy),
            traces: traces.clone(),
        };
        let mut limits = worker_limits(settings, Duration::ZERO);
        limits.turn = TURN;
        let (worker, stop) = (Worker::new(parts, limits).await?, stop.clone());
        workers.spawn(async move { worker.run(stop).await });
    }
    Ok(workers)
}

/// Makes the folder and holds it: two processes on one folder would be two fleets with one store.
fn hold(data: &Path) -> Result<File, WiringError> {
    let shown = data.display();
    fs::create_dir_all(data).map_err(WiringError::io(format!("make the folder {shown}")))?;
    let path = data.join("lock");
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(WiringError::io(format!("open {}", path.display())))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(fs::TryLockError::WouldBlock) => Err(WiringError::Address(format!(
            "use the folder {shown}: another `riskfleet up` runs on it; stop it, or choose another with --data"
        ))),
        Err(fs::TryLockError::Error(e)) => Err(WiringError::io(format!("lock {}", path.display()))(e)),
    }
}

/// Whether a process holds the folder. Looking takes it for an instant: an `up` that starts just then
/// is refused once, and starts when it is started again.
pub(super) fn is_held(data: &Path) -> bool {
    let Ok(lock) = File::open(data.join("lock")) else { return false };
    matches!(lock.try_lock_shared(), Err(fs::TryLockError::WouldBlock))
}
