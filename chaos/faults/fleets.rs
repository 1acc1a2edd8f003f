//! Faults of the fleet's own programs: killed, paused, restarted, more and fewer, and a tenant that
//! floods.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use sqlx::Connection;

use super::scene::{Scene, TAKEOVER_WITHIN};
use crate::harness::process::Program;
use crate::stage::Server;

/// The load alone.
pub(super) async fn none(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    tokio::time::sleep(scene.seconds(1, 5)).await;
    Ok(())
}

pub(super) async fn kill_worker(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let (at, id) = scene.busy_worker().await?;
    scene.stage.sample();
    scene.stage.members[at].process.kill();
    scene.until_taken_over(id, Instant::now()).await?;
    scene.stage.add(Program::Worker, 1).await?;
    Ok(())
}

/// A pause longer than the lease moves the partitions; a shorter one moves nothing.
pub(super) async fn pause_worker(scene: &mut Scene<'_>, seconds: u64) -> anyhow::Result<()> {
    let (at, id) = scene.busy_worker().await?;
    let began = Instant::now();
    let pause = Duration::from_secs(seconds);
    scene.stage.members[at].process.signal("STOP");
    let taken = if pause >= TAKEOVER_WITHIN { scene.until_taken_over(id, began).await } else { Ok(()) };
    tokio::time::sleep(pause.saturating_sub(began.elapsed())).await;
    scene.stage.members[at].process.signal("CONT");
    taken
}

/// The worker sleeps between its INSERT and its COMMIT, wakes when all of its partitions are
/// another's, and must not write: the server has ended its transaction, and the epochs have moved.
pub(super) async fn pause_in_transaction(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let (at, id) = scene.busy_worker().await?;
    let mut side = sqlx::PgConnection::connect(&scene.servers.postgres.url()).await?;
    let mut transaction = side.begin().await?;
    // Heads can be read, records can't be written.
    let lock = format!("LOCK TABLE {}.audit IN SHARE MODE", scene.stage.rows.ns);
    sqlx::query(sqlx::AssertSqlSafe(lock)).execute(&mut *transaction).await?;
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let ports = scene.stage.members[at].way_to(Server::Postgres).ports();
        let hanging = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND client_port = ANY('{{{}}}') \
             AND query LIKE '%INSERT INTO audit%' AND clock_timestamp() < query_start + interval '1 second'",
            ports.iter().map(u16::to_string).collect::<Vec<_>>().join(",")
        );
        // Its INSERT waits, and has two of its three seconds left.
        if scene.stage.rows.number(&hanging).await? > 0 {
            break;
        }
        ensure!(Instant::now() < until, "no commit of the worker hangs in its INSERT after 20 s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    scene.stage.members[at].process.signal("STOP");
    let began = Instant::now();
    transaction.rollback().await?;
    let taken = scene.until_taken_over(id, began).await;
    let epochs_now = scene.stage.rows.number("SELECT sum(epoch)::bigint FROM {ns}.partitions").await;
    scene.stage.members[at].process.signal("CONT");
    taken?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    scene.note = format!("epochs sum to {} when it wakes", epochs_now?);
    Ok(())
}

pub(super) async fn kill_ingest(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let at = *scene.stage.ingests().first().context("an ingest runs")?;
    scene.stage.sample();
    scene.stage.members[at].process.kill();
    // The load goes on to it for a moment, as behind a proxy that has not noticed.
    tokio::time::sleep(Duration::from_secs(1)).await;
    scene.stage.aim();
    scene.stage.add(Program::Ingest, 1).await?;
    Ok(())
}

pub(super) async fn pause_ingest(scene: &mut Scene<'_>, seconds: u64) -> anyhow::Result<()> {
    let at = *scene.stage.ingests().first().context("an ingest runs")?;
    scene.stage.members[at].process.signal("STOP");
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    scene.stage.members[at].process.signal("CONT");
    Ok(())
}

/// Every member is replaced, one after the other; each ends well within its time.
pub(super) async fn rolling_restart(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let mut longest = Duration::ZERO;
    for program in [Program::Worker, Program::Ingest] {
        let old = if program == Program::Worker { scene.stage.workers() } else { scene.stage.ingests() };
        for at in old {
            scene.stage.add(program, 1).await?;
            scene.stage.sample();
            let began = Instant::now();
            scene.stage.stop(at).await?;
            longest = longest.max(began.elapsed());
        }
    }
    scene.note = format!("the longest stop took {:.1} s", longest.as_secs_f64());
    scene.stage.until_owned(Duration::from_secs(40)).await
}

/// From two workers to eight and back to three; nobody's partition is left alone.
pub(super) async fn scale(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    scene.stage.add(Program::Worker, 6).await?;
    tokio::time::sleep(scene.seconds(8, 15)).await;
    scene.stage.until_owned(Duration::from_secs(40)).await?;
    let sharing = "SELECT count(DISTINCT owner) FROM {ns}.partitions";
    scene.until("workers that own a partition", sharing, 6, Duration::from_secs(30)).await?;
    scene.stage.sample();
    let began = Instant::now();
    for at in scene.stage.workers().into_iter().take(5) {
        scene.stage.stop(at).await?;
    }
    scene.stage.until_owned(Duration::from_secs(40)).await?;
    scene.takeover = Some(began.elapsed());
    Ok(())
}

/// Tenant 0 sends a hundred times its share; the others must hardly notice.
pub(super) async fn flood(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let span = scene.seconds(5, 15);
    let flooder = scene.history.tenants[0].name.clone();
    let start = scene.stage.rows.now_ms().await?;
    tokio::time::sleep(span).await;
    let flooded = scene.stage.rows.now_ms().await?;
    scene.load.flood(100);
    tokio::time::sleep(span).await;
    let end = scene.stage.rows.now_ms().await?;
    scene.load.flood(0);
    // What was sent during the flood is decided some time after it.
    tokio::time::sleep(scene.seconds(5, 20)).await;
    let quiet = scene.stage.rows.p99_ms(&flooder, start..flooded).await?;
    let loud = scene.stage.rows.p99_ms(&flooder, flooded..end).await?;
    ensure!(quiet >= 0 && loud >= 0, "nothing of the others was decided");
    scene.note = format!("the others' p99 {quiet} ms before, {loud} ms during");
    ensure!(loud <= 2 * quiet.max(50), "the flood is felt: {}", scene.note);
    Ok(())
}
