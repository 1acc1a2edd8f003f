//! Owns the fleet under load: starts the programs that stand beside this one, waits until they are
//! ready, and until everything is decided. Never leaves a process behind.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use sqlx::Row;
use sqlx::postgres::{PgPool, PgPoolOptions};

use crate::Options;
use crate::machine::Tree;
use crate::scrape::{Quantiles, Scrape};
use crate::servers::Servers;

/// A program of the fleet; killed when dropped.
struct Member {
    name: String,
    child: Child,
    addr: SocketAddr,
    log: PathBuf,
}

/// The fleet under load.
pub(crate) struct Fleet {
    namespace: String,
    dir: PathBuf,
    pool: PgPool,
    http: reqwest::Client,
    own: Vec<(&'static str, String)>,
    ingests: Vec<Member>,
    workers: Vec<Member>,
}

/// What came of the events after they were accepted.
#[derive(Debug, Clone)]
pub(crate) struct Drained {
    /// Events in the store.
    pub(crate) stored: u64,
    /// Decisions in the store.
    pub(crate) decided: u64,
    /// From the first accept to the last decision.
    pub(crate) seconds: f64,
    /// From each event's accept to its committed decision, by the workers' own metrics.
    pub(crate) accept_to_decision: Quantiles,
    /// Events in an accept and in a commit, on average.
    pub(crate) accept_batch: f64,
    /// Events in a commit, on average.
    pub(crate) commit_batch: f64,
}

impl Fleet {
    /// Migrates a namespace of its own and starts the members, with these settings of their own; returns
    /// when all partitions have an owner.
    pub(crate) async fn start(
        servers: &Servers,
        options: &Options,
        own: &[(&'static str, String)],
    ) -> anyhow::Result<Self> {
        let namespace = format!("load_{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
        let dir = std::env::temp_dir().join(format!("riskfleet-{namespace}"));
        std::fs::create_dir_all(&dir)?;
        let pool = PgPoolOptions::new().max_connections(1).connect(&servers.database).await?;
        let http = reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?;
        let mut fleet =
            Self { namespace, dir, pool, http, own: own.to_vec(), ingests: Vec::new(), workers: Vec::new() };
        let migrated = fleet.command("riskfleet", servers)?.arg("migrate").output()?;
        ensure!(migrated.status.success(), "failed to migrate: {}", String::from_utf8_lossy(&migrated.stderr));
        for n in 1..=options.ingests {
            let member = fleet.spawn(format!("ingest-{n}"), "riskfleet-ingest", &["serve"], servers)?;
            fleet.ingests.push(member);
        }
        for n in 1..=options.workers {
            let member = fleet.spawn(format!("worker-{n}"), "riskfleet-worker", &[], servers)?;
            fleet.workers.push(member);
        }
        fleet.ready().await?;
        Ok(fleet)
    }

    fn command(&self, program: &str, servers: &Servers) -> anyhow::Result<Command> {
        let beside = std::env::current_exe()?.with_file_name(program);
        ensure!(beside.exists(), "{} is not there: build all programs (cargo build --release)", beside.display());
        let mut command = Command::new(beside);
        // Other settings of the caller stay: they may be what is measured.
        command
            .env("RISKFLEET_DATABASE_URL", &servers.database)
            .env("RISKFLEET_AMQP_URL", &servers.amqp)
            .env("RISKFLEET_REDIS_URL", &servers.redis)
            .env("RISKFLEET_NAMESPACE", &self.namespace)
            .env("RISKFLEET_AUTH", "off")
            .env("RISKFLEET_MASTER_KEY", "4d".repeat(32))
            .envs(self.own.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        if std::env::var_os("RISKFLEET_LOG").is_none() {
            command.env("RISKFLEET_LOG", "warn");
        }
        Ok(command)
    }

    fn spawn(&self, name: String, program: &str, args: &[&str], servers: &Servers) -> anyhow::Result<Member> {
        let addr = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let log = self.dir.join(format!("{name}.log"));
        let file = std::fs::File::create(&log)?;
        let mut command = self.command(program, servers)?;
        command.args(args).env("RISKFLEET_HTTP_ADDR", addr.to_string()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("failed to start {program}"))?;
        Ok(Member { name, child, addr, log })
    }

    async fn ready(&mut self) -> anyhow::Result<()> {
        let until = Instant::now() + Duration::from_secs(60);
        let partitions = self.number("SELECT partitions::bigint FROM {ns}.fleet").await?;
        loop {
            let mut ready = true;
            for member in self.ingests.iter_mut().chain(&mut self.workers) {
                if let Some(status) = member.child.try_wait()? {
                    bail!("{} ended with {status}:\n{}", member.name, tail(&member.log));
                }
                let url = format!("http://{}/health/ready", member.addr);
                ready &= self.http.get(url).send().await.is_ok_and(|r| r.status().is_success());
            }
            if ready && self.scrape().await.sum("riskfleet_owned_partitions") >= partitions as f64 {
                return Ok(());
            }
            ensure!(
                Instant::now() < until,
                "the fleet is not ready after 60 s; its logs are in {}",
                self.dir.display()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The metrics of all members, one text after the other. A member that does not answer is left
    /// out: its end is told elsewhere.
    pub(crate) async fn scrape(&self) -> Scrape {
        let mut scrape = Scrape::default();
        for member in self.ingests.iter().chain(&self.workers) {
            if let Ok(answer) = self.http.get(format!("http://{}/metrics", member.addr)).send().await
                && let Ok(text) = answer.text().await
            {
                scrape.add(&text);
            }
        }
        scrape
    }

    async fn number(&self, statement: &str) -> anyhow::Result<i64> {
        let text = statement.replace("{ns}", &self.namespace);
        let row = sqlx::query(sqlx::AssertSqlSafe(text)).fetch_one(&self.pool).await?;
        Ok(row.try_get(0)?)
    }

    /// Waits until all of the accepted events are decided, then reads what the run was like.
    pub(crate) async fn drain(&self, accepted: u64, patience: Duration) -> anyhow::Result<Drained> {
        let until = Instant::now() + patience;
        // The workers' counters cost nothing to ask; the store is counted once, at the end.
        while (self.scrape().await.sum("riskfleet_events_decided_total") as u64) < accepted && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let scrape = self.scrape().await;
        let span = "SELECT coalesce((extract(epoch FROM max(at)) * 1000)::bigint, 0) FROM {ns}.decisions";
        // The first 48 bits of an event's id are its accept, in milliseconds.
        let first = "SELECT ('x' || left(replace(event_id::text, '-', ''), 12))::bit(48)::bigint \
                     FROM {ns}.events ORDER BY event_id LIMIT 1";
        let millis = self.number(span).await? - self.number(first).await.unwrap_or(0);
        Ok(Drained {
            stored: u64::try_from(self.number("SELECT count(*) FROM {ns}.events").await?)?,
            decided: u64::try_from(self.number("SELECT count(*) FROM {ns}.decisions").await?)?,
            seconds: millis as f64 / 1000.0,
            accept_to_decision: scrape.quantiles("riskfleet_accept_to_decision_seconds"),
            accept_batch: scrape.mean("riskfleet_accept_batch_events"),
            commit_batch: scrape.mean("riskfleet_commit_batch_events"),
        })
    }

    /// Where every member listens.
    pub(crate) fn addrs(&self) -> Vec<SocketAddr> {
        self.ingests.iter().chain(&self.workers).map(|member| member.addr).collect()
    }

    /// Where the ingests listen.
    pub(crate) fn ingest_urls(&self) -> Vec<String> {
        self.ingests.iter().map(|m| format!("http://{}/v1/events", m.addr)).collect()
    }

    /// What is to be measured of the members.
    pub(crate) fn trees(&self) -> Vec<Tree> {
        let members = self.ingests.iter().chain(&self.workers);
        members.map(|m| Tree { name: m.name.clone(), pid: m.child.id(), alone: false }).collect()
    }

    /// Asks the members to end, and sees that they do.
    pub(crate) async fn stop(&mut self) {
        let members = || self.ingests.iter().chain(&self.workers);
        for member in members() {
            let _ = Command::new("kill").args(["-TERM", &member.child.id().to_string()]).status();
        }
        let until = Instant::now() + Duration::from_secs(15);
        for member in self.ingests.iter_mut().chain(&mut self.workers) {
            while matches!(member.child.try_wait(), Ok(None)) && Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        self.ingests.clear();
        self.workers.clear();
    }

    /// Tells where the members' logs are, or deletes them when nobody needs them.
    pub(crate) fn logs(&self, needed: bool) {
        if needed {
            eprintln!("load: the members' logs are in {}", self.dir.display());
        } else {
            // Left behind, they do no harm.
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }

    /// Takes the namespace away from servers that stay. What is not there is no failure.
    pub(crate) async fn sweep(&self, servers: &Servers) {
        let partitions = self.number("SELECT partitions::bigint FROM {ns}.fleet").await.unwrap_or(0);
        let drop = format!("DROP SCHEMA IF EXISTS {} CASCADE", self.namespace);
        let _ = sqlx::query(sqlx::AssertSqlSafe(drop)).execute(&self.pool).await;
        let roles = format!("DROP ROLE IF EXISTS {0}_api, {0}_worker, {0}_retention", self.namespace);
        let _ = sqlx::query(sqlx::AssertSqlSafe(roles)).execute(&self.pool).await;
        let options = lapin::ConnectionProperties::default();
        let Ok(connection) = lapin::Connection::connect(&servers.amqp, options).await else { return };
        let Ok(channel) = connection.create_channel().await else { return };
        let ns = &self.namespace;
        let mut queues = vec![format!("{ns}.inbox"), format!("{ns}.inbox.rejected")];
        queues.extend((0..partitions).map(|p| format!("{ns}.events.p{p:03}")));
        for queue in &queues {
            let _ = channel.queue_delete(queue.as_str().into(), lapin::options::QueueDeleteOptions::default()).await;
        }
        let exchanges = ["events", "decisions", "inbox"].map(|name| format!("{ns}.{name}"));
        let marks = (0..partitions).map(|p| format!("{ns}.events.p{p:03}.consumed"));
        for exchange in exchanges.into_iter().chain(marks) {
            let options = lapin::options::ExchangeDeleteOptions::default();
            let _ = channel.exchange_delete(exchange.as_str().into(), options).await;
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
