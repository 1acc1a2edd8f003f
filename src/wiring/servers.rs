//! The programs of a fleet on Postgres, RabbitMQ and Redis.

use metrics::gauge;
use secrecy::ExposeSecret;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::guards::Guards;
use super::identity::{authenticator, inbox_auth, refusals, secured};
use super::program::Telemetry;
use super::proof::{self, Signing};
use super::{WiringError, probes, vault};
use crate::adapters::postgres::{self, PostgresStore};
use crate::adapters::rabbitmq::{QueueKind, RabbitBroker, RabbitConfig};
use crate::adapters::redis::{RedisConfig, RedisContext, RedisLeases, RedisRate};
use crate::api::{self, ApiState, Limits, Probe};
use crate::config::{QueueType, SecondRole, Settings};
use crate::crypto::Keyring;
use crate::domain::{ApprovalRules, Role};
use crate::governance::retention::Sweeper;
use crate::governance::{budgets, overdue};
use crate::ingest::file::{ImportOptions, Summary};
use crate::ingest::{self, Door, Inbox, IngestLimits};
use crate::lifecycle::{Bounded, SystemClock, SystemEntropy, serve};
use crate::ports::leases::LeaseTtls;
use crate::ports::{Broker, Clock, Entropy, EventStore, RateLimits, RateMeter, Registry, StoreError};
use crate::resilience::{Backoff, BulkheadRules, LocalRate, SharedRate};
use crate::telemetry::{Traces, names};
use crate::worker::{self, Worker, WorkerLimits};

/// Unacknowledged inbox messages at most.
const INBOX_PREFETCH: u16 = 1_000;

/// `riskfleet migrate`: makes or updates the fleet's schema. The secret of the packs is made on the
/// first run and stays in the store.
///
/// # Errors
/// When the server is away, or the fleet stands with other constants.
pub(super) async fn migrate(settings: &Settings) -> Result<(), WiringError> {
    let url = settings.database_url()?.expose_secret();
    Ok(postgres::migrate(url, settings.namespace.as_str(), settings.partitions, SystemEntropy.secret()).await?)
}

/// The store for commands that only read, with what people govern by.
///
/// # Errors
/// When no database is named.
pub(super) async fn open_registry(
    settings: &Settings,
) -> Result<(Arc<dyn EventStore>, Arc<dyn Registry>), WiringError> {
    let store = Arc::new(open_store(settings).await?);
    Ok((store.clone(), store))
}

pub(super) async fn open_store(settings: &Settings) -> Result<PostgresStore, WiringError> {
    let url = settings.database_url()?.expose_secret();
    Ok(PostgresStore::connect(url, settings.namespace.as_str()).await?)
}

pub(super) fn rabbit_config(settings: &Settings) -> Result<RabbitConfig, WiringError> {
    let mut config = RabbitConfig::new(settings.amqp_url()?.clone(), settings.namespace.as_str());
    config.queues = match settings.queue_type {
        QueueType::Quorum => QueueKind::Quorum,
        QueueType::Classic => QueueKind::Classic,
    };
    Ok(config)
}

fn open_broker(settings: &Settings, entropy: &Arc<dyn Entropy>) -> Result<Arc<dyn Broker>, WiringError> {
    let broker = RabbitBroker::connect(&rabbit_config(settings)?, Arc::clone(entropy));
    Ok(Arc::new(broker.map_err(|e| WiringError::Address(e.to_string()))?))
}

pub(super) fn redis_config(settings: &Settings) -> Result<RedisConfig, WiringError> {
    Ok(RedisConfig { url: settings.redis_url()?.clone(), namespace: settings.namespace.as_str().to_owned() })
}

/// Waits until the store can be used: servers of a deployment come up in any order.
async fn wait_for_store(store: &dyn EventStore, stop: &CancellationToken) -> Result<(), WiringError> {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5), &SystemEntropy);
    loop {
        match store.constants().await {
            Ok(constants) => {
                tracing::info!(partitions = constants.partitions, "the store is there");
                return Ok(());
            }
            Err(e @ StoreError::Away(_)) => tracing::warn!(error = %e, "waiting for the store"),
            Err(e) => return Err(e.into()),
        }
        if stop.run_until_cancelled(tokio::time::sleep(backoff.next_wait())).await.is_none() {
            return Err(StoreError::Away("stopped while waiting for it".into()).into());
        }
    }
}

/// Ingest on its servers: the door, without an HTTP listener.
struct IngestParts {
    door: Arc<Door>,
    store: Arc<dyn EventStore>,
    keyring: Arc<Keyring>,
    registry: Arc<dyn Registry>,
    broker: Arc<dyn Broker>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    tasks: TaskTracker,
    meter: Arc<dyn RateMeter>,
    circuits: Vec<Probe>,
}

async fn start_ingest(
    settings: &Settings,
    traces: Traces,
    stop: &CancellationToken,
) -> Result<IngestParts, WiringError> {
    let master = vault::master(settings)?;
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let store = Arc::new(open_store(settings).await?);
    tokio::spawn(store.clone().watch_pools(stop.clone()));
    let broker = open_broker(settings, &entropy)?;
    // Without its guard: whoever waits for a store that comes up is not to be told to wait longer.
    wait_for_store(&*store, stop).await?;
    let keyring = vault::keyring(store.clone(), master, &clock);
    vault::start(&keyring, stop).await?;
    let registry: Arc<dyn Registry> = store.clone();
    let mut guards = Guards::new(settings, &clock);
    let (store, broker) = (guards.store(store), guards.broker(broker));
    let tasks = TaskTracker::new();
    let meter = shared_rate(settings, &clock)?;
    let parts = ingest::Parts {
        store: Arc::clone(&store),
        keyring: Arc::clone(&keyring),
        broker: Arc::clone(&broker),
        meter: Arc::clone(&meter),
        clock: Arc::clone(&clock),
        entropy: Arc::clone(&entropy),
        traces,
        limits: ingest_limits(settings),
    };
    let door = ingest::start(parts, stop, &tasks).await?;
    let circuits = guards.probes();
    Ok(IngestParts { door, store, keyring, registry, broker, clock, entropy, tasks, meter, circuits })
}

/// The rates of tenants for all processes together, where there is a Redis to count them in.
fn shared_rate(settings: &Settings, clock: &Arc<dyn Clock>) -> Result<Arc<dyn RateMeter>, WiringError> {
    let local = local_rate(settings, clock);
    let Some(url) = &settings.redis_url else {
        tracing::info!("redis_url is not set: tenants' rates are counted by this process alone");
        return Ok(Arc::new(local));
    };
    let config = RedisConfig { url: url.clone(), namespace: settings.namespace.as_str().to_owned() };
    let shared = RedisRate::new(&config, rate_limits(settings)).map_err(|e| WiringError::Address(e.to_string()))?;
    let tell = |shared| gauge!(names::RATE_SHARED).set(f64::from(u8::from(shared)));
    Ok(Arc::new(SharedRate::new(Arc::new(shared), local, Arc::clone(clock), Box::new(tell))))
}

/// The rates of tenants in this process.
pub(super) fn local_rate(settings: &Settings, clock: &Arc<dyn Clock>) -> LocalRate {
    LocalRate::new(rate_limits(settings), LocalRate::TENANTS_MAX, Arc::clone(clock))
}

fn rate_limits(settings: &Settings) -> RateLimits {
    RateLimits::a_second(settings.tenant_rate, settings.tenant_rate_max)
}

pub(super) fn ingest_limits(settings: &Settings) -> IngestLimits {
    IngestLimits {
        queue_events: settings.accept_queue_events,
        tenant_events: (settings.accept_queue_events * settings.tenant_queue_share / 100).max(1),
        tenant_calls: BulkheadRules { concurrent: settings.bulkhead_concurrent, queued: settings.bulkhead_queued },
        batch_max: settings.accept_batch_max,
        unpublished_max: settings.unpublished_max,
        pack_bytes_max: settings.pack_bytes_max,
    }
}

impl IngestParts {
    /// Waits until what was admitted is stored and handed to the broker; the rest is the outbox's.
    async fn drain(self, within: Duration) {
        drop(self.door);
        self.tasks.close();
        if tokio::time::timeout(within, self.tasks.wait()).await.is_err() {
            tracing::warn!("ended with packs on their way; the outbox keeps them");
        }
    }
}

/// `riskfleet-ingest serve`: the producer API and the inbox consumer.
///
/// # Errors
/// When a setting is wrong, the store can't be used, or the address can't be listened on.
pub(super) async fn ingest(
    settings: Settings,
    telemetry: Telemetry,
    stop: CancellationToken,
) -> Result<(), WiringError> {
    let listener = listen(&settings, &stop).await?;
    let parts = start_ingest(&settings, telemetry.traces.clone(), &stop).await?;
    let auth = authenticator(&settings, &parts.registry, &parts.clock, &stop)?;
    let inbox = Inbox {
        intake: parts.door.side(),
        broker: Arc::clone(&parts.broker),
        store: Arc::clone(&parts.store),
        keyring: Arc::clone(&parts.keyring),
        entropy: Arc::clone(&parts.entropy),
        auth: inbox_auth(&settings, &auth, &parts.clock),
        traces: telemetry.traces.clone(),
        event_bytes_max: settings.event_bytes_max,
        prefetch: INBOX_PREFETCH,
    };
    parts.tasks.spawn(ingest::consume_inbox(inbox, stop.clone()));
    // A broker that is away does not make ingest unready: events are accepted up to a bound.
    let mut probes = vec![probes::store(&parts.store), probes::broker(&parts.broker, false)];
    probes.extend([probes::rates(&parts.meter), probes::backlog(&parts.store)]);
    probes.extend_from_slice(&parts.circuits);
    let state = ApiState {
        store: Arc::clone(&parts.store),
        keyring: Arc::clone(&parts.keyring),
        registry: Arc::clone(&parts.registry),
        approvals: approval_rules(&settings),
        audit_key: None,
        auth,
        clock: Arc::clone(&parts.clock),
        entropy: Arc::clone(&parts.entropy),
        retention_days: settings.retention_days,
        limits: Limits::from(&settings),
        probes,
        prometheus: telemetry.prometheus,
        refusals: refusals(&parts.registry, &parts.clock, &stop),
        traces: telemetry.traces,
    };
    let router = api::router(state, parts.door.clone());
    tracing::info!(http.addr = %settings.http_addr, "ingest is listening");
    let served = serve(listener, router, stop.clone(), settings.drain_timeout()).await;
    stop.cancel();
    parts.drain(settings.drain_timeout()).await;
    served.map_err(WiringError::io("serve HTTP"))
}

/// `riskfleet-ingest file`: imports and ends when everything is stored and handed to the broker.
///
/// # Errors
/// When the file can't be imported to its end.
pub(super) async fn import(
    settings: Settings,
    mut options: ImportOptions,
    stop: CancellationToken,
) -> Result<Summary, WiringError> {
    options.line_max = settings.event_bytes_max;
    let parts = start_ingest(&settings, Traces::off(), &stop).await?;
    let imported = stop.run_until_cancelled(ingest::file::import(&*parts.door.side(), options)).await;
    stop.cancel();
    parts.drain(settings.drain_timeout()).await;
    let stopped = || WiringError::Address("import to the end: stopped; run it again and it goes on".into());
    Ok(imported.ok_or_else(stopped)??)
}

/// `riskfleet-console`: the control API. It needs the store alone: what it changes there, workers
/// find.
///
/// # Errors
/// When a setting is wrong, the store can't be used, or the address can't be listened on.
pub(super) async fn console(
    settings: Settings,
    telemetry: Telemetry,
    stop: CancellationToken,
) -> Result<(), WiringError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let master = vault::master(&settings)?;
    let store = Arc::new(open_store(&settings).await?);
    tokio::spawn(store.clone().watch_pools(stop.clone()));
    let registry: Arc<dyn Registry> = store.clone();
    let auth = authenticator(&settings, &registry, &clock, &stop)?;
    let listener = listen(&settings, &stop).await?;
    // As in ingest.
    wait_for_store(&*store, &stop).await?;
    let keyring = vault::keyring(store.clone(), master, &clock);
    vault::start(&keyring, &stop).await?;
    let sweeper = sweeper(&settings, &registry, &clock);
    let mut guards = Guards::new(&settings, &clock);
    let store = guards.store(store);
    let signing = Signing::in_console(&settings, (&store, &registry), &clock).await?;
    let mut probes = vec![probes::store(&store), probes::backlog(&store)];
    probes.extend(guards.probes());
    let refusals = refusals(&registry, &clock, &stop);
    let rules = approval_rules(&settings);
    let tasks = TaskTracker::new();
    tasks.spawn(sweeper.run(stop.clone()));
    tasks.spawn(overdue::watch(registry.clone(), Arc::clone(&clock), rules, stop.clone()));
    tasks.spawn(budgets::watch(registry.clone(), Arc::clone(&clock), stop.clone()));
    let public_key = signing.as_ref().map(|signing| signing.public_key);
    if let Some(verifier) = proof::verifier(&settings, (&store, &registry), &clock, public_key) {
        tasks.spawn(verifier.run(stop.clone()));
    }
    let router = api::control_router(ApiState {
        store,
        keyring,
        registry,
        approvals: rules,
        audit_key: public_key,
        auth,
        clock,
        entropy: Arc::new(SystemEntropy),
        retention_days: settings.retention_days,
        limits: Limits::from(&settings),
        probes,
        prometheus: telemetry.prometheus,
        refusals,
        traces: telemetry.traces,
    });
    tracing::info!(http.addr = %settings.http_addr, "the console is listening");
    let served = serve(listener, router, stop.clone(), settings.drain_timeout()).await;
    stop.cancel();
    finish(&tasks, settings.drain_timeout()).await;
    if let Some(signing) = signing {
        signing.end(settings.drain_timeout()).await;
    }
    served.map_err(WiringError::io("serve HTTP"))
}

/// What drops days by itself.
pub(super) fn sweeper(settings: &Settings, registry: &Arc<dyn Registry>, clock: &Arc<dyn Clock>) -> Sweeper {
    Sweeper { registry: Arc::clone(registry), clock: Arc::clone(clock), retention_days: settings.retention_days }
}

/// Waits for what governs by itself: each drop is one transaction, or goes on at the next start.
async fn finish(tasks: &TaskTracker, within: Duration) {
    tasks.close();
    if tokio::time::timeout(within, tasks.wait()).await.is_err() {
        tracing::warn!("ended in the middle of a sweep; the next one goes on");
    }
}

/// `riskfleet-worker`.
///
/// # Errors
/// When a setting is wrong, the store can't be used, or the worker has failed.
pub(super) async fn worker(
    settings: Settings,
    telemetry: Telemetry,
    stop: CancellationToken,
) -> Result<(), WiringError> {
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let master = vault::master(&settings)?;
    let store = Arc::new(open_store(&settings).await?);
    tokio::spawn(store.clone().watch_pools(stop.clone()));
    let broker = open_broker(&settings, &entropy)?;
    let redis = redis_config(&settings)?;
    let address = |e: crate::adapters::redis::BadAddress| WiringError::Address(e.to_string());
    let ttls = LeaseTtls::default();
    let leases = Arc::new(RedisLeases::new(&redis, ttls).map_err(address)?);
    let context = Arc::new(RedisContext::new(&redis).map_err(address)?);
    let listener = listen(&settings, &stop).await?;
    // As in ingest.
    wait_for_store(&*store, &stop).await?;
    let keyring = vault::keyring(store.clone(), master, &clock);
    // Not by `stop`: what was taken is decided after it.
    let ended = CancellationToken::new();
    vault::start(&keyring, &ended).await?;
    let mut guards = Guards::new(&settings, &clock);
    let ((store, versions, stops), broker) = (guards.worker_store(store), guards.broker(broker));
    let (leases, context) = (guards.leases(leases, ttls), guards.context(context));
    let parts = worker::Parts {
        store: Arc::clone(&store),
        keyring,
        versions,
        stops,
        prices: settings.prices(),
        broker: Arc::clone(&broker),
        leases: Arc::clone(&leases),
        context,
        clock: Arc::clone(&clock),
        entropy,
        traces: telemetry.traces,
    };
    let worker = Worker::new(parts, worker_limits(&settings, ttls.member)).await?;
    let mut probes = vec![probes::store(&store), probes::broker(&broker, true), probes::leases(&leases)];
    probes.extend([probes::backlog(&store), probes::stages(&worker.load(), &clock)]);
    probes.extend(guards.probes());
    let serving = CancellationToken::new();
    let router = api::ops_router(probes, telemetry.prometheus);
    let server = tokio::spawn(serve(listener, router, serving.clone(), Duration::from_secs(1)));
    tracing::info!(worker.id = %worker.id(), http.addr = %settings.http_addr, "the worker has started");
    let result = worker.run(stop).await;
    ended.cancel();
    serving.cancel();
    // Health answers to the last; how its listener ended no longer matters.
    _ = server.await;
    tracing::info!("the worker has ended");
    Ok(result?)
}

/// Which approval requests are overdue, and whose they then are.
pub(super) fn approval_rules(settings: &Settings) -> ApprovalRules {
    let due = Duration::from_secs(settings.approval_due_s);
    let second_role = match settings.approval_escalate_role {
        SecondRole::Admin => Role::Admin,
        SecondRole::Approver => Role::Approver,
    };
    ApprovalRules { due_after: Some(due).filter(|due| !due.is_zero()), second_role }
}

pub(super) fn worker_limits(settings: &Settings, settle: Duration) -> WorkerLimits {
    WorkerLimits {
        lanes: settings.lanes,
        weight: settings.weight,
        prefetch: settings.prefetch,
        commit_batch_max: settings.commit_batch_max,
        pack_bytes_max: settings.pack_bytes_max,
        attempts_max: settings.attempts_max,
        retry_first: Duration::from_millis(settings.retry_first_ms),
        retry_longest: Duration::from_secs(settings.retry_longest_s),
        drain_timeout: settings.drain_timeout(),
        settle,
        turn: Duration::from_secs(1),
    }
}

async fn listen(settings: &Settings, stop: &CancellationToken) -> Result<Bounded, WiringError> {
    let address = settings.http_addr;
    let listener = TcpListener::bind(address).await.map_err(WiringError::io(format!("listen on {address}")))?;
    secured(listener, settings, stop)
}
