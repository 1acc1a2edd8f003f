//! Owns the fleet of a scenario: real programs on the suite's servers, each behind a proxy of its own
//! before every server, so that one of them can be cut off from one of the servers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;
use sqlx::postgres::PgPoolOptions;
use uuid::Uuid;

use crate::harness::fleet::http;
use crate::harness::process::{Process, Program};
use crate::load::Targets;
use crate::proxy::{Mode, Proxy};
use crate::rows::Rows;
use crate::servers::{Servers, Started};

/// The partitions of every fleet here.
pub(crate) const PARTITIONS: usize = 16;

/// Which server a proxy stands before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    Postgres,
    Redis,
    Rabbit,
}

/// A program of the fleet, with its ways to the servers.
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) program: Program,
    pub(crate) process: Process,
    postgres: Proxy,
    redis: Proxy,
    rabbit: Proxy,
    /// Of a worker, once it has reported itself.
    pub(crate) id: Option<Uuid>,
}

impl Member {
    /// The proxy between it and a server.
    pub(crate) fn way_to(&self, server: Server) -> &Proxy {
        match server {
            Server::Postgres => &self.postgres,
            Server::Redis => &self.redis,
            Server::Rabbit => &self.rabbit,
        }
    }

    /// Lets everything pass again.
    pub(crate) fn heal(&self) {
        for server in [Server::Postgres, Server::Redis, Server::Rabbit] {
            self.way_to(server).set(Mode::Pass);
        }
    }
}

/// The peaks of resident memory, by kind of program, in bytes.
pub(crate) type Peaks = Arc<Mutex<BTreeMap<&'static str, u64>>>;

/// A fleet under test. Dropping it kills its members.
pub(crate) struct Stage {
    pub(crate) rows: Rows,
    pub(crate) members: Vec<Member>,
    pub(crate) targets: Arc<Targets>,
    pub(crate) peaks: Peaks,
    dir: PathBuf,
    mutant: Option<&'static str>,
    started: usize,
    servers: Addresses,
    /// Keeps workers of its own, which end with it.
    supervisor: Option<Process>,
}

/// Where the servers are.
#[derive(Clone)]
struct Addresses {
    postgres: String,
    redis: String,
    rabbit: String,
    database_url: String,
    started: Started,
}

impl Stage {
    /// A migrated fleet without members.
    pub(crate) fn new(servers: &Servers, mutant: Option<&'static str>) -> anyhow::Result<Self> {
        let ns = crate::harness::namespace();
        let dir = std::env::temp_dir().join(format!("riskfleet-chaos-{ns}"));
        std::fs::create_dir_all(&dir)?;
        let database_url = servers.postgres.url();
        let pool = PgPoolOptions::new().max_connections(4).acquire_timeout(Duration::from_secs(20));
        let servers = Addresses {
            postgres: servers.postgres.address(),
            redis: servers.redis.address(),
            rabbit: servers.rabbit.address(),
            database_url,
            started: servers.started.clone(),
        };
        let rows = Rows { pool: pool.connect_lazy(&servers.database_url)?, ns };
        let stage = Self {
            rows,
            members: Vec::new(),
            targets: Arc::default(),
            peaks: Arc::default(),
            dir,
            mutant,
            started: 0,
            servers,
            supervisor: None,
        };
        stage.operate(&["migrate"])?;
        Ok(stage)
    }

    /// The settings of a program that reaches the servers at these addresses.
    fn settings(&self, postgres: &str, redis: &str, rabbit: &str) -> BTreeMap<String, String> {
        let mut settings = BTreeMap::from([
            ("RISKFLEET_DATABASE_URL".into(), format!("postgres://postgres@{postgres}/postgres")),
            ("RISKFLEET_REDIS_URL".into(), format!("redis://{redis}/0")),
            ("RISKFLEET_AMQP_URL".into(), format!("amqp://guest:guest@{rabbit}/%2f")),
            ("RISKFLEET_NAMESPACE".into(), self.rows.ns.clone()),
            ("RISKFLEET_PARTITIONS".into(), PARTITIONS.to_string()),
            ("RISKFLEET_AUTH".into(), "off".into()),
            ("RISKFLEET_PRICE_PER_DECISION".into(), "0.000003".into()),
            ("RISKFLEET_MASTER_KEY".into(), "4d".repeat(32)),
            // Several times what a tenant sends when all is well, and what two cores can bear.
            ("RISKFLEET_TENANT_RATE_MAX".into(), "1000".into()),
            // Debug lines of the system's own are searched for payloads too.
            ("RISKFLEET_LOG".into(), "info,riskfleet=debug".into()),
        ]);
        if let Some(mutant) = self.mutant {
            settings.insert("RISKFLEET_TEST_MUTANT".into(), mutant.into());
        }
        settings
    }

    /// Runs `riskfleet ARGS` beside the fleet, not through a proxy, and gives what it printed.
    pub(crate) fn operate(&self, args: &[&str]) -> anyhow::Result<String> {
        let mut settings = self.settings(&self.servers.postgres, &self.servers.redis, &self.servers.rabbit);
        settings.remove("RISKFLEET_TEST_MUTANT");
        let output = Program::Operator.command(&settings).args(args).output()?;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "riskfleet {args:?} ended with {}:\n{out}\n{err}", output.status);
        Ok(out.into_owned())
    }

    /// The ledger as `fleet status --json` shows it.
    pub(crate) fn ledger(&self) -> anyhow::Result<Value> {
        let text = self.operate(&["fleet", "status", "--json"])?;
        Ok(serde_json::from_str::<Value>(&text).context("fleet status printed no JSON")?["ledger"].take())
    }

    /// Starts members, some at once, and waits until all are ready; gives where the first one stands.
    pub(crate) async fn add(&mut self, program: Program, count: usize) -> anyhow::Result<usize> {
        let first = self.members.len();
        for _ in 0..count {
            let member = self.spawn(program).await;
            self.servers.started.note(member.process.pid(), &self.rows.ns)?;
            self.members.push(member);
        }
        for member in &mut self.members[first..] {
            ready(member).await?;
        }
        self.aim();
        if program == Program::Worker {
            self.learn_ids().await?;
        }
        Ok(first)
    }

    /// Starts a supervisor of workers, `riskfleet ARGS`.
    pub(crate) fn supervise(&mut self, args: &[&str]) -> anyhow::Result<()> {
        let settings = self.settings(&self.servers.postgres, &self.servers.redis, &self.servers.rabbit);
        let process = Process::start("supervisor", Program::Operator, args, &settings, &self.dir);
        self.servers.started.note(process.pid(), &self.rows.ns)?;
        self.supervisor = Some(process);
        Ok(())
    }

    /// What the supervisor and its workers have written.
    pub(crate) fn supervisor_log(&self) -> Option<PathBuf> {
        self.supervisor.is_some().then(|| self.dir.join("supervisor.log"))
    }

    async fn spawn(&mut self, program: Program) -> Member {
        self.started += 1;
        let kind = if program == Program::Ingest { "ingest" } else { "worker" };
        let name = format!("{kind}-{}", self.started);
        let postgres = Proxy::start(self.servers.postgres.clone()).await;
        let redis = Proxy::start(self.servers.redis.clone()).await;
        let rabbit = Proxy::start(self.servers.rabbit.clone()).await;
        let settings = self.settings(&postgres.addr.to_string(), &redis.addr.to_string(), &rabbit.addr.to_string());
        let args: &[&str] = if program == Program::Ingest { &["serve"] } else { &[] };
        let process = Process::start(&name, program, args, &settings, &self.dir);
        Member { name, program, process, postgres, redis, rabbit, id: None }
    }

    /// Points the load at the ingests that run.
    pub(crate) fn aim(&mut self) {
        let mut urls = Vec::new();
        for member in &mut self.members {
            if member.program == Program::Ingest && member.process.runs() {
                urls.push(format!("http://{}", member.process.addr));
            }
        }
        self.targets.set(urls);
    }

    /// Which worker is which: each tells its boot id in its log when it starts.
    async fn learn_ids(&mut self) -> anyhow::Result<()> {
        let until = Instant::now() + Duration::from_secs(10);
        for at in 0..self.members.len() {
            if self.members[at].program != Program::Worker || self.members[at].id.is_some() {
                continue;
            }
            loop {
                let text = std::fs::read_to_string(self.log_path(at)).unwrap_or_default();
                if let Some(id) = worker_id(&text) {
                    self.members[at].id = Some(id);
                    break;
                }
                if Instant::now() > until {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    fn log_path(&self, at: usize) -> PathBuf {
        self.dir.join(format!("{}.log", self.members[at].name))
    }

    /// Where the running workers stand.
    pub(crate) fn workers(&mut self) -> Vec<usize> {
        self.running(Program::Worker)
    }

    /// Where the running ingests stand.
    pub(crate) fn ingests(&mut self) -> Vec<usize> {
        self.running(Program::Ingest)
    }

    fn running(&mut self, program: Program) -> Vec<usize> {
        let mut running = Vec::new();
        for (at, member) in self.members.iter_mut().enumerate() {
            if member.program == program && member.process.runs() {
                running.push(at);
            }
        }
        running
    }

    /// Waits until every partition has an owner among the running workers.
    pub(crate) async fn until_owned(&mut self, patience: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + patience;
        loop {
            let mut owned = 0.0;
            for at in self.workers() {
                owned += self.members[at].process.metrics().await.sum("riskfleet_owned_partitions");
            }
            // A count of partitions is small: the conversion is exact.
            if owned >= PARTITIONS as f64 {
                return Ok(());
            }
            ensure!(Instant::now() < until, "{owned} of {PARTITIONS} partitions owned after {patience:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Asks a member to stop and waits for its end; a stopped program ends well, within its time.
    pub(crate) async fn stop(&mut self, at: usize) -> anyhow::Result<ExitStatus> {
        let member = &mut self.members[at];
        member.process.signal("TERM");
        let until = Instant::now() + Duration::from_secs(40);
        while member.process.runs() {
            ensure!(Instant::now() < until, "{} did not stop within 40 s:\n{}", member.name, member.process.log_tail());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let status = member.process.exit(Duration::ZERO).await;
        ensure!(status.success(), "{} ended with {status} when it was stopped", member.name);
        self.aim();
        Ok(status)
    }

    /// Notes every running member's peak of resident memory so far.
    pub(crate) fn sample(&self) {
        let mut peaks = self.peaks.lock().unwrap_or_else(PoisonError::into_inner);
        for member in &self.members {
            let kind = if member.program == Program::Ingest { "ingest" } else { "worker" };
            let peak = peak_bytes(member.process.pid()).unwrap_or(0);
            let known = peaks.entry(kind).or_default();
            *known = peak.max(*known);
        }
    }

    /// The pids of the running members with their kinds, for a sampler beside the scenario.
    pub(crate) fn peak(&self, kind: &str) -> u64 {
        self.peaks.lock().unwrap_or_else(PoisonError::into_inner).get(kind).copied().unwrap_or(0)
    }

    /// Where logs or metrics of any member hold a text.
    pub(crate) async fn spoken(&mut self, text: &str) -> Vec<String> {
        let mut found = Vec::new();
        let supervised = self.supervisor_log().and_then(|log| std::fs::read_to_string(log).ok());
        if let Some(line) = supervised.iter().flat_map(|log| log.lines()).find(|line| line.contains(text)) {
            found.push(format!("the log of the supervisor: {line}"));
        }
        for at in 0..self.members.len() {
            let log = std::fs::read(self.log_path(at)).unwrap_or_default();
            if let Some(line) = String::from_utf8_lossy(&log).lines().find(|line| line.contains(text)) {
                let line: String = line.chars().take(300).collect();
                found.push(format!("the log of {}: {line}", self.members[at].name));
            }
            if self.members[at].process.runs() && self.members[at].process.metrics().await.0.contains(text) {
                found.push(format!("the metrics of {}", self.members[at].name));
            }
        }
        found
    }

    /// Its workers drain, and it ends behind the last.
    async fn end_supervisor(&mut self) {
        let Some(mut supervisor) = self.supervisor.take() else { return };
        supervisor.signal("TERM");
        let until = Instant::now() + Duration::from_secs(40);
        while supervisor.runs() && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Takes the members, the schema and the logs away. The broker's queues are the caller's.
    pub(crate) async fn strike(mut self, keep_logs: bool) {
        self.members.clear();
        self.end_supervisor().await;
        let drop = AssertSql(format!("DROP SCHEMA IF EXISTS {} CASCADE", self.rows.ns));
        let _ = sqlx::query(drop.sql()).execute(&self.rows.pool).await;
        let roles = AssertSql(format!("DROP ROLE IF EXISTS {0}_api, {0}_worker, {0}_retention", self.rows.ns));
        let _ = sqlx::query(roles.sql()).execute(&self.rows.pool).await;
        self.rows.pool.close().await;
        if keep_logs {
            eprintln!("the logs of this fleet are in {}", self.dir.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// Waits until a program says that it is ready.
async fn ready(member: &mut Member) -> anyhow::Result<()> {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let (runs, url) = (member.process.runs(), member.process.url("/health/ready"));
        ensure!(runs, "{} ended before it was ready:\n{}", member.name, member.process.log_tail());
        let answer = http().get(url).timeout(Duration::from_secs(2)).send().await;
        if answer.is_ok_and(|answer| answer.status().is_success()) {
            return Ok(());
        }
        ensure!(Instant::now() < until, "{} is not ready after 60 s:\n{}", member.name, member.process.log_tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A statement made of a namespace, which is letters and digits.
struct AssertSql(String);

impl AssertSql {
    fn sql(self) -> sqlx::AssertSqlSafe<String> {
        sqlx::AssertSqlSafe(self.0)
    }
}

fn worker_id(log: &str) -> Option<Uuid> {
    let at = log.find("worker.id=")? + "worker.id=".len();
    log.get(at..at + 36)?.parse().ok()
}

/// The most memory that a process has held (VmHWM).
fn peak_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}
