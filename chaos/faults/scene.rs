//! Owns one scene: a fleet under load on the suite's servers, and the steps that every fault shares.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::json;
use uuid::Uuid;

use super::catalogue::Fault;
use crate::checker::Verdict;
use crate::downstream::Downstream;
use crate::harness::process::Program;
use crate::history::{CANARY, History};
use crate::load::{Load, Plan};
use crate::servers::Servers;
use crate::stage::{PARTITIONS, Stage};
use crate::table::Row;
use crate::vaults::{Stored, stored_at};

/// How long others may take until they own what a dead worker owned: membership and lease run out
/// after 10 s, the next look comes within a second.
pub(crate) const TAKEOVER_WITHIN: Duration = Duration::from_secs(15);

/// Tenants of a run.
const TENANTS: usize = 12;

/// How large a run is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) events: usize,
    pub(crate) rate: u32,
    /// The length of faults that have one, as a divisor: short runs pause for less.
    pub(crate) full: bool,
    /// How long the backlog may take after the load.
    pub(crate) patience: Duration,
}

impl Size {
    /// In every test run, in a debug build, on two cores.
    pub(crate) const SHORT: Self = Self { events: 1_500, rate: 300, full: false, patience: Duration::from_secs(90) };
    /// Everything.
    pub(crate) const FULL: Self = Self { events: 20_000, rate: 1_500, full: true, patience: Duration::from_secs(120) };
    /// Enough for a defect to show; what is not decided soon counts as never.
    pub(crate) const MUTANT: Self = Self { events: 600, rate: 300, full: false, patience: Duration::from_secs(25) };
}

/// A fleet under load, and the servers under it.
pub(crate) struct Scene<'s> {
    pub(crate) servers: &'s mut Servers,
    pub(crate) stage: Stage,
    pub(crate) load: Load,
    pub(crate) history: Arc<History>,
    pub(crate) size: Size,
    pub(crate) takeover: Option<Duration>,
    pub(crate) note: String,
    /// A wiped broker takes outcomes along that it had confirmed: nobody downstream can have them.
    pub(crate) outcomes_are_kept: bool,
    downstream: Option<Downstream>,
}

impl<'s> Scene<'s> {
    /// Sets the stage for a fault: its members, the listener downstream, the load.
    pub(crate) async fn set(
        servers: &'s mut Servers,
        fault: &Fault,
        size: Size,
        seed: u64,
        mutant: Option<&'static str>,
    ) -> anyhow::Result<Self> {
        let mut stage = Stage::new(servers, mutant)?;
        let history = Arc::new(History::new(TENANTS));
        let downstream = Downstream::start(servers.rabbit.url(), &stage.rows.ns, Arc::clone(&history)).await?;
        // Workers first: they wait for a membership to run out before they claim.
        stage.add(Program::Worker, fault.workers).await?;
        stage.add(Program::Ingest, fault.ingests).await?;
        if fault.workers > 0 {
            stage.until_owned(Duration::from_secs(60)).await?;
        }
        let rate = fault.rate.unwrap_or(size.rate);
        let events = if fault.loaded { size.events * rate as usize / size.rate as usize } else { 0 };
        let plan = Plan { rate, events, batch_max: 50, seed };
        let load = Load::start(Arc::clone(&history), Arc::clone(&stage.targets), plan)?;
        let mut scene = Self {
            servers,
            stage,
            load,
            history,
            size,
            takeover: None,
            note: String::new(),
            outcomes_are_kept: true,
            downstream: Some(downstream),
        };
        if !fault.loaded {
            scene.load.end().await?;
        }
        Ok(scene)
    }

    /// Load, fault, end of the fault, quiet, verdict.
    pub(crate) async fn play(&mut self, fault: &Fault) -> anyhow::Result<Row> {
        if fault.loaded {
            self.until_under_way().await?;
        }
        let injected = (fault.inject)(self).await;
        self.stage.members.iter().for_each(crate::stage::Member::heal);
        injected?;
        self.stage.sample();
        self.load.end().await?;
        let quiet = self.until_quiet(self.size.patience).await?;
        let verdict = self.judge().await?;
        self.stage.sample();
        Ok(Row {
            fault: fault.name,
            verdict,
            takeover: self.takeover,
            quiet,
            peak_ingest: self.stage.peak("ingest"),
            peak_worker: self.stage.peak("worker"),
            note: std::mem::take(&mut self.note),
            took: Duration::ZERO,
        })
    }

    /// Waits until a quarter of the events is acknowledged: the fault falls into a steady load.
    async fn until_under_way(&self) -> anyhow::Result<()> {
        let until = Instant::now() + Duration::from_secs(60);
        let wanted = self.size.events / 4;
        loop {
            let (attempted, acknowledged) = self.history.counts();
            if acknowledged >= wanted {
                return Ok(());
            }
            ensure!(Instant::now() < until, "only {acknowledged} of {attempted} events acknowledged after 60 s");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A second, or as many as a full run takes.
    pub(crate) fn seconds(&self, short: u64, full: u64) -> Duration {
        Duration::from_secs(if self.size.full { full } else { short })
    }

    /// Waits until everything stored is decided and every outcome is published and heard; gives what
    /// each took.
    pub(crate) async fn until_quiet(&mut self, patience: Duration) -> anyhow::Result<[Duration; 3]> {
        let began = Instant::now();
        let mut decided_after = None;
        let settled_after = loop {
            let pending = self.stage.rows.pending().await?;
            let outbox = self.stage.rows.number("SELECT count(*) FROM {ns}.outbox").await?;
            if pending == 0 {
                decided_after.get_or_insert(began.elapsed());
            }
            if pending == 0 && outbox == 0 {
                break began.elapsed();
            }
            if began.elapsed() > patience {
                let ledger = self.stage.ledger()?;
                bail!("not quiet after {patience:?}: {pending} pending, {outbox} outbox rows, ledger {ledger}");
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        // What is confirmed is in the listener's queue, or on its way from there.
        let decided = self.stage.rows.number("SELECT count(*) FROM {ns}.decisions WHERE outcome <> 3").await?;
        let until = Instant::now() + Duration::from_secs(5);
        while (self.history.heard().len() as i64) < decided && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok([decided_after.unwrap_or_default(), settled_after, began.elapsed()])
    }

    /// Holds the store, the logs, the metrics and the ledger against the history.
    async fn judge(&mut self) -> anyhow::Result<Verdict> {
        let rows = &self.stage.rows;
        let (events, audit) = (rows.events().await?, rows.audit().await?);
        let mut verdict = Verdict::default();
        verdict.events(&self.history, &events);
        if self.outcomes_are_kept {
            verdict.outcomes(&events, &self.history.heard(), &self.history.strays());
        }
        verdict.chains(&events, &audit);
        verdict.costs(&rows.costs_that_differ().await?);
        verdict.leak(&rows.unsealed_canaries().await?);
        verdict.leak(&strayed(&self.history, &stored_at(&self.servers.postgres.url(), &rows.ns).await));
        verdict.leak(&self.stage.spoken(CANARY).await);
        let decided = events.iter().filter(|e| e.decision.as_ref().is_some_and(|d| d.outcome != 3)).count();
        let counted = json!({"accepted": events.len(), "decided": decided, "dead": verdict.dead, "pending": 0});
        let ledger = self.stage.ledger()?;
        if ledger != counted {
            verdict.fault(format!("the ledger shows {ledger}, the rows are {counted}"));
        }
        Ok(verdict)
    }

    /// Takes everything away; the servers stay.
    pub(crate) async fn strike(mut self, keep_logs: bool) {
        self.downstream.take();
        let ns = self.stage.rows.ns.clone();
        let url = self.servers.rabbit.url();
        drop(self.load);
        self.stage.strike(keep_logs).await;
        let _ = delete_queues(&url, &ns).await;
        let _ = self.servers.redis.flush().await;
    }

    /// The partitions that a worker owns by the store.
    pub(crate) async fn owned_by(&self, worker: Uuid) -> anyhow::Result<i64> {
        self.stage.rows.number(&format!("SELECT count(*) FROM {{ns}}.partitions WHERE owner = '{worker}'")).await
    }

    /// Waits until other workers own every partition that `dead` owned; asserts the bound.
    pub(crate) async fn until_taken_over(&mut self, dead: Uuid, since: Instant) -> anyhow::Result<()> {
        while self.owned_by(dead).await? > 0 {
            let waited = since.elapsed();
            ensure!(
                waited < TAKEOVER_WITHIN,
                "{} partitions not taken over after {waited:?}",
                self.owned_by(dead).await?
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.takeover = Some(since.elapsed());
        Ok(())
    }

    /// A running worker that owns something, with its id.
    pub(crate) async fn busy_worker(&mut self) -> anyhow::Result<(usize, Uuid)> {
        for at in self.stage.workers() {
            let id = self.stage.members[at].id.context("a worker names its id in its log")?;
            if self.owned_by(id).await? > 0 {
                return Ok((at, id));
            }
        }
        bail!("no worker owns a partition")
    }

    /// Waits until `statement` gives at least `least`.
    pub(crate) async fn until(
        &self,
        what: &str,
        statement: &str,
        least: i64,
        patience: Duration,
    ) -> anyhow::Result<()> {
        let until = Instant::now() + patience;
        loop {
            let now = self.stage.rows.number(statement).await?;
            if now >= least {
                return Ok(());
            }
            ensure!(Instant::now() < until, "{what}: {now} of {least} after {patience:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Deletes a fleet's queues and exchanges, so that the next fleet has the broker for itself.
async fn delete_queues(url: &str, ns: &str) -> anyhow::Result<()> {
    use lapin::options::{ExchangeDeleteOptions, QueueDeleteOptions};
    let connection = lapin::Connection::connect(url, lapin::ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let mut queues: Vec<String> = ["inbox", "inbox.rejected", "chaos"].iter().map(|q| format!("{ns}.{q}")).collect();
    for p in 0..PARTITIONS {
        queues.extend([format!("{ns}.events.p{p:03}"), format!("{ns}.events.p{p:03}.bulk")]);
    }
    for queue in queues {
        channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await?;
    }
    for exchange in ["events", "decisions", "inbox"] {
        let name = format!("{ns}.{exchange}");
        channel.exchange_delete(name.as_str().into(), ExchangeDeleteOptions::default()).await?;
    }
    connection.close(200, "done".into()).await?;
    Ok(())
}

/// Opened texts that hold another canary than their row's tenant's.
fn strayed(history: &History, stored: &[Stored]) -> Vec<String> {
    let foreign = |row: &&Stored| {
        let own = history.tenants.iter().find(|tenant| tenant.name == row.tenant.as_str());
        let (told, decision) = (row.event["metadata"]["canary"].as_str(), row.decision.as_ref());
        let named = decision.map_or(row.tenant.as_str(), |d| d["tenant_id"].as_str().unwrap_or_default());
        own.is_none_or(|own| told.is_none_or(|told| own.canary != told) || named != own.name)
    };
    let shown = |row: &Stored| format!("a row of {} holds {}", row.tenant, row.event["metadata"]["canary"]);
    stored.iter().filter(foreign).map(shown).collect()
}
