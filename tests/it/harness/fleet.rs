//! Owns a fleet of real programs on the given servers, in a namespace of its own: starting its
//! members, looking into its store, and taking everything away at the end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use lapin::options::{ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use serde_json::{Value, json};
use sqlx::Row;
use sqlx::postgres::{PgPool, PgPoolOptions};

use super::process::{Process, Program};

/// One HTTP client for all tests of this process.
pub(crate) fn http() -> &'static reqwest::Client {
    static CLIENT: OnceLock<reqwest::Client> = OnceLock::new();
    CLIENT.get_or_init(|| {
        // The first one installed stays; another test may have been faster.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // Connections are not kept: a runtime of a test that is over takes its connections along.
        reqwest::Client::builder()
            .pool_max_idle_per_host(0)
            .timeout(Duration::from_secs(30))
            .build()
            .expect("build an HTTP client")
    })
}

/// Fleets take the whole machine: one at a time.
pub(crate) async fn alone() -> tokio::sync::MutexGuard<'static, ()> {
    static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    ALONE.lock().await
}

/// A fleet. Declare it before its processes: what is declared later is dropped, and so killed,
/// first. Dropping it deletes its schema, queues, keys and, unless the test failed, its logs.
pub(crate) struct Fleet {
    /// Its namespace: the schema, and the prefix of queues and keys.
    pub(crate) ns: String,
    /// Logs and files of the test.
    pub(crate) dir: PathBuf,
    /// A connection to its store, for looking only.
    pub(crate) pool: PgPool,
}

impl Fleet {
    /// A fresh, migrated fleet without members.
    pub(crate) async fn new() -> Self {
        let ns = super::namespace();
        let dir = std::env::temp_dir().join(format!("riskfleet-it-{ns}"));
        std::fs::create_dir_all(&dir).expect("make a temporary folder");
        let pool = PgPoolOptions::new().max_connections(4).connect(&super::postgres_url()).await;
        let fleet = Self { ns, dir, pool: pool.expect("connect to the Postgres of the tests") };
        fleet.operate(&["migrate"]);
        fleet
    }

    /// The settings of its members.
    pub(crate) fn settings(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("RISKFLEET_DATABASE_URL".into(), super::postgres_url()),
            ("RISKFLEET_AMQP_URL".into(), super::amqp_url()),
            ("RISKFLEET_REDIS_URL".into(), super::redis_url()),
            ("RISKFLEET_NAMESPACE".into(), self.ns.clone()),
            ("RISKFLEET_AUTH".into(), "off".into()),
            ("RISKFLEET_MASTER_KEY".into(), "4d".repeat(32)),
        ])
    }

    /// Starts an ingest, which reaches the broker at `amqp`, and waits until it is ready.
    pub(crate) async fn ingest_at(&self, name: &str, amqp: &str) -> Process {
        let mut settings = self.settings();
        settings.insert("RISKFLEET_AMQP_URL".into(), amqp.into());
        let mut process = Process::start(name, Program::Ingest, &["serve"], &settings, &self.dir);
        process.ready().await;
        process
    }

    /// Starts an ingest and waits until it is ready.
    pub(crate) async fn ingest(&self, name: &str) -> Process {
        self.ingest_at(name, &super::amqp_url()).await
    }

    /// Starts a worker, which reaches the broker at `amqp`, and waits until it is ready.
    pub(crate) async fn worker_at(&self, name: &str, amqp: &str) -> Process {
        let mut settings = self.settings();
        settings.insert("RISKFLEET_AMQP_URL".into(), amqp.into());
        let mut process = Process::start(name, Program::Worker, &[], &settings, &self.dir);
        process.ready().await;
        process
    }

    /// Starts a worker with some settings of its own and waits until it is ready.
    pub(crate) async fn worker_with(&self, name: &str, own: &[(&str, &str)]) -> Process {
        let mut settings = self.settings();
        settings.extend(own.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        let mut process = Process::start(name, Program::Worker, &[], &settings, &self.dir);
        process.ready().await;
        process
    }

    /// Starts a worker and waits until it is ready.
    pub(crate) async fn worker(&self, name: &str) -> Process {
        self.worker_at(name, &super::amqp_url()).await
    }

    /// Runs a command of `program` to its end.
    pub(crate) fn run(&self, program: Program, args: &[&str]) -> Output {
        program.command(&self.settings()).args(args).output().expect("run a program")
    }

    /// Runs `riskfleet ARGS` and gives what it printed.
    pub(crate) fn operate(&self, args: &[&str]) -> String {
        let output = self.run(Program::Operator, args);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "riskfleet {args:?} ended with {}:\n{out}\n{err}", output.status);
        out.into_owned()
    }

    /// Runs `riskfleet ARGS --json` and reads the document.
    pub(crate) fn operate_json(&self, args: &[&str]) -> Value {
        let args: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
        let text = self.operate(&args);
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("riskfleet {args:?} printed no JSON ({e}):\n{text}"))
    }

    /// One number out of its store. `{ns}` in the statement is the schema.
    pub(crate) async fn number(&self, statement: &str) -> i64 {
        let text = statement.replace("{ns}", &self.ns);
        let row = sqlx::query(sqlx::AssertSqlSafe(text)).fetch_one(&self.pool).await.expect("ask the store");
        row.try_get(0).expect("a number")
    }

    /// Rows in `events`.
    pub(crate) async fn accepted(&self) -> i64 {
        self.number("SELECT count(*) FROM {ns}.events").await
    }

    /// Rows in `decisions`.
    pub(crate) async fn decided(&self) -> i64 {
        self.number("SELECT count(*) FROM {ns}.decisions").await
    }

    /// Waits until `statement` gives at least `least`.
    pub(crate) async fn until(&self, what: &str, statement: &str, least: i64, patience: Duration) {
        let until = Instant::now() + patience;
        loop {
            let now = self.number(statement).await;
            if now >= least {
                return;
            }
            assert!(Instant::now() < until, "{what}: {now} of {least} after {patience:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until `accepted` events stand in the store and each has its one decision; then holds
    /// the ledger and the audit chains against it.
    pub(crate) async fn settled(&self, accepted: i64, patience: Duration) {
        let began = Instant::now();
        self.until("accepted", "SELECT count(*) FROM {ns}.events", accepted, patience).await;
        let rest = patience.saturating_sub(began.elapsed());
        self.until("decided", "SELECT count(*) FROM {ns}.decisions", accepted, rest).await;
        assert_eq!((self.accepted().await, self.decided().await), (accepted, accepted), "events, decisions");
        let distinct = "SELECT count(DISTINCT d.event_id) FROM {ns}.decisions d JOIN {ns}.events e \
                        ON e.event_id = d.event_id AND e.tenant_id = d.tenant_id";
        assert_eq!(self.number(distinct).await, accepted, "one decision an event, under the event's tenant");
        let status = self.operate_json(&["fleet", "status"]);
        let ledger = json!({"accepted": accepted, "decided": accepted, "dead": 0, "pending": 0});
        assert_eq!(status["ledger"], ledger, "the ledger");
        let audit = self.operate_json(&["audit", "verify"]);
        assert_eq!((&audit["ok"], &audit["bad"]), (&json!(true), &json!([])), "the audit: {audit}");
        assert!(audit["records"].as_i64() >= Some(accepted), "an audit record an event: {audit}");
    }

    /// Waits until a worker owns every partition and listens to each of its queues.
    pub(crate) async fn until_owned(&self, worker: &Process) {
        let queues = self.partition_queues();
        let connection = self.broker().await;
        let until = Instant::now() + Duration::from_secs(40);
        loop {
            let owned = worker.metrics().await.sum("riskfleet_owned_partitions");
            // A count of partitions is small: the conversion is exact.
            let mut ready = owned >= queues.len() as f64;
            for queue in &queues {
                ready = ready && listened(&connection, queue).await;
                ready = ready && listened(&connection, &format!("{queue}.bulk")).await;
            }
            if ready {
                return;
            }
            let tail = worker.log_tail();
            assert!(Instant::now() < until, "{owned} of {} partitions owned:\n{tail}", queues.len());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// A connection to the broker.
    pub(crate) async fn broker(&self) -> lapin::Connection {
        connect(&super::amqp_url()).await
    }

    /// The names of its partitions' queues.
    pub(crate) fn partition_queues(&self) -> Vec<String> {
        let status = self.operate_json(&["fleet", "status"]);
        let partitions = status["partitions"].as_array().expect("partitions").len();
        (0..partitions).map(|p| format!("{}.events.p{p:03}", self.ns)).collect()
    }
}

/// Connects to a broker.
pub(crate) async fn connect(amqp: &str) -> lapin::Connection {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let options = lapin::ConnectionProperties::default();
    lapin::Connection::connect(amqp, options).await.expect("connect to the RabbitMQ of the tests")
}

/// Whether a queue stands and somebody consumes it. On a channel of its own: a "no" closes it.
async fn listened(connection: &lapin::Connection, queue: &str) -> bool {
    let channel = connection.create_channel().await.expect("open a channel");
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let found = channel.queue_declare(queue.into(), options, FieldTable::default()).await;
    let found = found.is_ok_and(|queue| queue.consumer_count() > 0);
    let _ = channel.close(200, "looked".into()).await;
    found
}

/// Deletes everything under a namespace; what is not there is no failure.
async fn sweep(ns: &str, dir: &Path, keep_logs: bool) {
    if let Ok(pool) = PgPoolOptions::new().max_connections(1).connect(&super::postgres_url()).await {
        let drop = sqlx::AssertSqlSafe(format!("DROP SCHEMA IF EXISTS {ns} CASCADE"));
        let _ = sqlx::query(drop).execute(&pool).await;
        let roles = sqlx::AssertSqlSafe(format!("DROP ROLE IF EXISTS {ns}_api, {ns}_worker, {ns}_retention"));
        let _ = sqlx::query(roles).execute(&pool).await;
    }
    let connection = connect(&super::amqp_url()).await;
    if let Ok(channel) = connection.create_channel().await {
        let mut queues = vec![format!("{ns}.inbox"), format!("{ns}.inbox.rejected")];
        for p in 0..64 {
            queues.push(format!("{ns}.events.p{p:03}"));
            queues.push(format!("{ns}.events.p{p:03}.bulk"));
        }
        for queue in queues {
            let _ = channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await;
        }
        let mut exchanges = ["events", "decisions", "inbox"].map(|name| format!("{ns}.{name}")).to_vec();
        exchanges.extend((0..64).map(|p| format!("{ns}.events.p{p:03}.consumed")));
        for name in exchanges {
            let _ = channel.exchange_delete(name.as_str().into(), ExchangeDeleteOptions::default()).await;
        }
    }
    if let Ok(client) = redis::Client::open(super::redis_url())
        && let Ok(mut redis) = client.get_multiplexed_async_connection().await
    {
        let keys: Vec<String> =
            redis::cmd("KEYS").arg(format!("{ns}:*")).query_async(&mut redis).await.unwrap_or_default();
        for chunk in keys.chunks(1_000) {
            let _: Result<i64, _> = redis::cmd("DEL").arg(chunk).query_async(&mut redis).await;
        }
    }
    if !keep_logs {
        let _ = std::fs::remove_dir_all(dir);
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let (ns, dir, failed) = (self.ns.clone(), self.dir.clone(), std::thread::panicking());
        if failed {
            eprintln!("the logs of this fleet are in {}", dir.display());
        }
        // Drop cannot wait on the test's runtime: a thread with one of its own can.
        let sweeper = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("build a runtime").block_on(sweep(&ns, &dir, failed));
        });
        let _ = sweeper.join();
    }
}
