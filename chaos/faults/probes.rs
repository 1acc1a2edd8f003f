//! Faults that hold the fleet still between two steps, and look at what stands there: the load is a
//! few batches of the probe's own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use sqlx::Connection;

use super::scene::Scene;
use crate::harness::process::Program;
use crate::load::{Load, Plan, send_each};
use crate::proxy::Mode;
use crate::stage::Server;

/// The default of the setting `prefetch`.
const PREFETCH: u64 = 24;

/// Packs that the first probe sends to one partition: more than one prefetch.
const PACKS: usize = 60;

/// How often a quorum queue tells its counts (`quorum_tick_interval`, 5 s), and a little.
const TICK: Duration = Duration::from_millis(5_500);

async fn send(scene: &Scene<'_>, events: usize, batch_max: usize, rate: u32) -> anyhow::Result<()> {
    let plan = Plan { rate, events, batch_max, seed: 7 };
    Load::start(Arc::clone(&scene.history), Arc::clone(&scene.stage.targets), plan)?.end().await
}

/// While commits hang, the broker still holds every pack, and has handed out no more than it may.
pub(super) async fn commits_hang(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    // First the fleet settles: a queue that was just made is refilled, and its doubles would be counted.
    send(scene, 200, 20, 500).await?;
    scene.until_quiet(Duration::from_secs(30)).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = scene.published_packs().await;
    let mut side = sqlx::PgConnection::connect(&scene.servers.postgres.url()).await?;
    let mut transaction = side.begin().await?;
    let lock = format!("LOCK TABLE {}.audit IN SHARE MODE", scene.stage.rows.ns);
    sqlx::query(sqlx::AssertSqlSafe(lock)).execute(&mut *transaction).await?;
    send_each(&scene.history, &scene.stage.targets, 0, PACKS, None).await?;
    let looked = look_at_queues(scene, before).await;
    transaction.rollback().await?;
    looked
}

async fn look_at_queues(scene: &mut Scene<'_>, before: u64) -> anyhow::Result<()> {
    let published = "SELECT (count(*) = 0)::int::bigint FROM {ns}.outbox WHERE kind = 0";
    scene.until("accepts published", published, 1, Duration::from_secs(15)).await?;
    tokio::time::sleep(TICK).await;
    let prefix = format!("{}.events.p", scene.stage.rows.ns);
    let queues = scene.servers.rabbit.queues(&prefix).await?;
    let held: u64 = queues.iter().map(|queue| queue.ready + queue.unacknowledged).sum();
    let packs = scene.published_packs().await - before;
    ensure!(held >= packs, "packs were acknowledged before their commit: {held} of {packs} are left in the queues");
    for queue in &queues {
        let out = queue.unacknowledged;
        ensure!(out <= PREFETCH, "{} has handed out {out} packs to a worker that may hold {PREFETCH}", queue.name);
    }
    let fullest = queues.iter().map(|queue| queue.ready + queue.unacknowledged).max().unwrap_or(0);
    ensure!(fullest > PREFETCH, "no queue was long enough to try the prefetch: {fullest}");
    scene.note = format!("{held} packs held back, at most {PREFETCH} of a queue handed out");
    Ok(())
}

impl Scene<'_> {
    /// Packs that the running ingests have published by their own metrics.
    async fn published_packs(&mut self) -> u64 {
        let mut packs = 0.0;
        for at in self.stage.ingests() {
            packs += self.stage.members[at].process.metrics().await.sum("riskfleet_packs_published_total");
        }
        // A count of packs is small and whole: the conversion is exact.
        packs as u64
    }
}

/// While the broker confirms nothing, every accepted event stands in the outbox.
pub(super) async fn confirms_stay_out(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    // The ingest learns its queues first: what it can't declare it does not even publish.
    send(scene, 600, 20, 1_000).await?;
    scene.until_quiet(Duration::from_secs(30)).await?;
    let before = scene.stage.rows.number("SELECT count(*) FROM {ns}.events").await?;
    scene
        .stage
        .members
        .iter()
        .filter(|m| m.program == Program::Ingest)
        .for_each(|m| m.way_to(Server::Rabbit).set(Mode::Swallow));
    send(scene, 200, 20, 1_000).await?;
    // Past the 10 s that a publication may wait for its confirm.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(13) {
        let accepted = scene.stage.rows.number("SELECT count(*) FROM {ns}.events").await? - before;
        let kept =
            scene.stage.rows.number("SELECT coalesce(sum(n), 0)::bigint FROM {ns}.outbox WHERE kind = 0").await?;
        ensure!(kept == accepted, "{kept} of {accepted} accepted and unconfirmed events stand in the outbox");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    Ok(())
}

/// An event that kills every worker that decides it ends as a dead letter, and its neighbours are
/// decided; what dies is started again, as a supervisor does.
pub(super) async fn poisoned(scene: &mut Scene<'_>, poison: &str) -> anyhow::Result<()> {
    send(scene, 200, 20, 1_000).await?;
    send_each(&scene.history, &scene.stage.targets, 0, 1, Some(poison)).await?;
    send(scene, 200, 20, 1_000).await?;
    let (began, mut deaths) = (Instant::now(), 0);
    while scene.stage.rows.pending().await? > 0 {
        let pending = scene.stage.rows.pending().await?;
        let waited = began.elapsed();
        ensure!(
            waited < Duration::from_secs(180),
            "{pending} events pending after {waited:?} and {deaths} dead workers"
        );
        let missing = 2_usize.saturating_sub(scene.stage.workers().len());
        deaths += missing;
        scene.stage.add(Program::Worker, missing).await?;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let dead = scene.stage.rows.number("SELECT count(*) FROM {ns}.decisions WHERE outcome = 3").await?;
    ensure!(dead == 1, "{dead} dead letters of one poisoned event");
    scene.note = format!("{deaths} workers died of it, settled after {:.1} s", began.elapsed().as_secs_f64());
    Ok(())
}

/// The worker commits, its outcomes get nowhere, and it dies: another one publishes them.
pub(super) async fn killed_before_outcomes(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let (at, id) = scene.busy_worker().await?;
    scene.stage.members[at].way_to(Server::Rabbit).set(Mode::Swallow);
    send(scene, 300, 20, 1_000).await?;
    scene.until("decided", "SELECT count(*) FROM {ns}.decisions", 1, Duration::from_secs(20)).await?;
    let unpublished = scene.stage.rows.number("SELECT count(*) FROM {ns}.outbox WHERE kind = 1").await?;
    scene.stage.members[at].process.kill();
    ensure!(unpublished > 0, "a commit leaves its outcomes in the outbox");
    let began = Instant::now();
    scene.stage.add(Program::Worker, 1).await?;
    while scene.owned_by(id).await? > 0 {
        ensure!(began.elapsed() < Duration::from_secs(30), "the partitions were not taken over");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}
