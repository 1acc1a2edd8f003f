//! The programs of a fleet on Postgres, RabbitMQ and Redis.

use secrecy::ExposeSecret;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::WiringError;
use crate::adapters::postgres::{self, PostgresStore};
use crate::adapters::rabbitmq::{QueueKind, RabbitBroker, RabbitConfig};
use crate::adapters::redis::{RedisConfig, RedisContext, RedisLeases};
use crate::api::{self, ApiState, Authenticator, Limits, Probe};
use crate::config::{Auth, QueueType, Settings};
use crate::ingest::file::{ImportOptions, Summary};
use crate::ingest::{self, Door, Inbox, InboxAuth, IngestLimits};
use crate::lifecycle::{SystemClock, SystemEntropy, serve};
use crate::ports::leases::LeaseTtls;
use crate::ports::{Broker, Clock, Entropy, EventStore, Leases, StoreError};
use crate::resilience::Backoff;
use crate::telemetry::Prometheus;
use crate::worker::{self, Worker, WorkerLimits};

/// After which a dependency counts as away for `/health`.
const PROBE_DEADLINE: Duration = Duration::from_secs(2);

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

/// The store for commands that only read.
///
/// # Errors
/// When no database is named.
pub(super) async fn open_for_reading(settings: &Settings) -> Result<Arc<dyn EventStore>, WiringError> {
    Ok(Arc::new(open_store(settings).await?))
}

async fn open_store(settings: &Settings) -> Result<PostgresStore, WiringError> {
    let url = settings.database_url()?.expose_secret();
    Ok(PostgresStore::connect(url, settings.namespace.as_str()).await?)
}

fn open_broker(settings: &Settings, entropy: &Arc<dyn Entropy>) -> Result<Arc<dyn Broker>, WiringError> {
    let mut config = RabbitConfig::new(settings.amqp_url()?.clone(), settings.namespace.as_str());
    config.queues = match settings.queue_type {
        QueueType::Quorum => QueueKind::Quorum,
        QueueType::Classic => QueueKind::Classic,
    };
    let broker = RabbitBroker::connect(&config, Arc::clone(entropy));
    Ok(Arc::new(broker.map_err(|e| WiringError::Address(e.to_string()))?))
}

/// Waits until the store can be used: servers of a deployment come up in any order.
async fn wait_for_store(store: &dyn EventStore, stop: &CancellationToken) -> Result<(), WiringError> {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
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
    broker: Arc<dyn Broker>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    tasks: TaskTracker,
}

async fn start_ingest(settings: &Settings, stop: &CancellationToken) -> Result<IngestParts, WiringError> {
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let store: Arc<dyn EventStore> = Arc::new(open_store(settings).await?);
    let broker = open_broker(settings, &entropy)?;
    wait_for_store(&*store, stop).await?;
    let tasks = TaskTracker::new();
    let parts = ingest::Parts {
        store: Arc::clone(&store),
        broker: Arc::clone(&broker),
        clock: Arc::clone(&clock),
        entropy: Arc::clone(&entropy),
        limits: ingest_limits(settings),
    };
    let door = ingest::start(parts, stop, &tasks).await?;
    Ok(IngestParts { door, store, broker, clock, entropy, tasks })
}

pub(super) fn ingest_limits(settings: &Settings) -> IngestLimits {
    IngestLimits {
        queue_events: settings.accept_queue_events,
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
    prometheus: Prometheus,
    stop: CancellationToken,
) -> Result<(), WiringError> {
    let auth = authenticator(&settings)?;
    let listener = listen(&settings).await?;
    let parts = start_ingest(&settings, &stop).await?;
    let inbox = Inbox {
        intake: parts.door.clone(),
        broker: Arc::clone(&parts.broker),
        store: Arc::clone(&parts.store),
        entropy: Arc::clone(&parts.entropy),
        auth: inbox_auth(auth.clone(), Arc::clone(&parts.clock)),
        event_bytes_max: settings.event_bytes_max,
        prefetch: INBOX_PREFETCH,
    };
    parts.tasks.spawn(ingest::consume_inbox(inbox, stop.clone()));
    let router = api::router(ApiState {
        intake: parts.door.clone(),
        store: Arc::clone(&parts.store),
        auth,
        clock: Arc::clone(&parts.clock),
        entropy: Arc::clone(&parts.entropy),
        limits: Limits::from(&settings),
        // A broker that is away does not make ingest unready: events are accepted up to a bound.
        probes: vec![store_probe(&parts.store), broker_probe(&parts.broker, false)],
        prometheus,
    });
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
    let parts = start_ingest(&settings, &stop).await?;
    let imported = stop.run_until_cancelled(ingest::file::import(&*parts.door, options)).await;
    stop.cancel();
    parts.drain(settings.drain_timeout()).await;
    let stopped = || WiringError::Address("import to the end: stopped; run it again and it goes on".into());
    Ok(imported.ok_or_else(stopped)??)
}

/// `riskfleet-worker`.
///
/// # Errors
/// When a setting is wrong, the store can't be used, or the worker has failed.
pub(super) async fn worker(
    settings: Settings,
    prometheus: Prometheus,
    stop: CancellationToken,
) -> Result<(), WiringError> {
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let store: Arc<dyn EventStore> = Arc::new(open_store(&settings).await?);
    let broker = open_broker(&settings, &entropy)?;
    let redis = RedisConfig { url: settings.redis_url()?.clone(), namespace: settings.namespace.as_str().to_owned() };
    let address = |e: crate::adapters::redis::BadAddress| WiringError::Address(e.to_string());
    let ttls = LeaseTtls::default();
    let leases: Arc<dyn Leases> = Arc::new(RedisLeases::new(&redis, ttls).map_err(address)?);
    let listener = listen(&settings).await?;
    wait_for_store(&*store, &stop).await?;
    let parts = worker::Parts {
        store: Arc::clone(&store),
        broker: Arc::clone(&broker),
        leases: Arc::clone(&leases),
        context: Arc::new(RedisContext::new(&redis).map_err(address)?),
        clock: Arc::new(SystemClock::new()),
        entropy,
    };
    let worker = Worker::new(parts, worker_limits(&settings, ttls.member)).await?;
    let probes = vec![store_probe(&store), broker_probe(&broker, true), leases_probe(&leases)];
    let serving = CancellationToken::new();
    let router = api::ops_router(probes, prometheus);
    let server = tokio::spawn(serve(listener, router, serving.clone(), Duration::from_secs(1)));
    tracing::info!(worker.id = %worker.id(), http.addr = %settings.http_addr, "the worker has started");
    let result = worker.run(stop).await;
    serving.cancel();
    // Health answers to the last; how its listener ended no longer matters.
    _ = server.await;
    tracing::info!("the worker has ended");
    Ok(result?)
}

pub(super) fn worker_limits(settings: &Settings, settle: Duration) -> WorkerLimits {
    WorkerLimits {
        lanes: settings.lanes,
        weight: settings.weight,
        prefetch: settings.prefetch,
        commit_batch_max: settings.commit_batch_max,
        pack_bytes_max: settings.pack_bytes_max,
        drain_timeout: settings.drain_timeout(),
        settle,
        turn: Duration::from_secs(1),
    }
}

async fn listen(settings: &Settings) -> Result<TcpListener, WiringError> {
    let address = settings.http_addr;
    TcpListener::bind(address).await.map_err(WiringError::io(format!("listen on {address}")))
}

pub(super) fn authenticator(settings: &Settings) -> Result<Authenticator, WiringError> {
    match settings.auth {
        Auth::On => Ok(Authenticator::tokens(settings.jwt_secret()?)),
        Auth::Off => Authenticator::open(settings.http_addr).map_err(|e| WiringError::Address(format!("start: {e}"))),
    }
}

/// Whose an inbox message is: with authentication its bearer header says it, without it the event.
fn inbox_auth(auth: Authenticator, clock: Arc<dyn Clock>) -> InboxAuth {
    Arc::new(move |delivery| {
        if auth.is_open() {
            return Ok(None);
        }
        let header = delivery.authorization.as_deref().ok_or("the header `authorization` is missing")?;
        Ok(auth.producer(header, clock.now())?)
    })
}

pub(super) fn store_probe(store: &Arc<dyn EventStore>) -> Probe {
    let store = Arc::clone(store);
    Probe::new("database", true, PROBE_DEADLINE, move || {
        let store = Arc::clone(&store);
        async move { store.now().await.map(|_| ()).map_err(|e| e.to_string()) }
    })
}

pub(super) fn broker_probe(broker: &Arc<dyn Broker>, required: bool) -> Probe {
    let broker = Arc::clone(broker);
    Probe::new("broker", required, PROBE_DEADLINE, move || {
        let broker = Arc::clone(&broker);
        async move { broker.ping().await.map_err(|e| e.to_string()) }
    })
}

fn leases_probe(leases: &Arc<dyn Leases>) -> Probe {
    let leases = Arc::clone(leases);
    Probe::new("leases", false, PROBE_DEADLINE, move || {
        let leases = Arc::clone(&leases);
        async move { leases.members().await.map(|_| ()).map_err(|e| e.to_string()) }
    })
}
