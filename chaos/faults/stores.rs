//! Faults of Postgres and Redis, and of the lines between one program and one server.

use std::time::Duration;

use anyhow::ensure;
use sqlx::Connection;

use super::scene::Scene;
use crate::proxy::Mode;
use crate::stage::Server;

pub(super) async fn redis_restart(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    scene.servers.redis.kill9();
    tokio::time::sleep(scene.seconds(3, 10)).await;
    scene.servers.redis.restart().await?;
    tokio::time::sleep(scene.seconds(1, 10)).await;
    Ok(())
}

/// Every lease and membership is gone: nobody claims for one membership's time.
pub(super) async fn redis_flush(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    for _ in 0..2 {
        scene.servers.redis.flush().await?;
        tokio::time::sleep(scene.seconds(1, 9)).await;
    }
    Ok(())
}

pub(super) async fn redis_latency(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let late = Mode::Latency(Duration::from_secs(10));
    scene.stage.members.iter().for_each(|member| member.way_to(Server::Redis).set(late));
    tokio::time::sleep(scene.seconds(10, 25)).await;
    scene.stage.members.iter().for_each(crate::stage::Member::heal);
    Ok(())
}

pub(super) async fn postgres_restart(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    scene.servers.postgres.kill9();
    tokio::time::sleep(scene.seconds(1, 5)).await;
    scene.servers.postgres.restart().await?;
    tokio::time::sleep(scene.seconds(2, 5)).await;
    Ok(())
}

pub(super) async fn postgres_pause(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    scene.servers.postgres.stop();
    tokio::time::sleep(scene.seconds(5, 15)).await;
    scene.servers.postgres.cont();
    Ok(())
}

pub(super) async fn table_locked(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let mut side = sqlx::PgConnection::connect(&scene.servers.postgres.url()).await?;
    let mut transaction = side.begin().await?;
    let lock = format!("LOCK TABLE {}.decisions IN ACCESS EXCLUSIVE MODE", scene.stage.rows.ns);
    sqlx::query(sqlx::AssertSqlSafe(lock)).execute(&mut *transaction).await?;
    tokio::time::sleep(scene.seconds(6, 30)).await;
    Ok(transaction.rollback().await?)
}

/// One worker's line goes dead and comes back, one ingest's answers nothing and is reset in the end.
pub(super) async fn half_open(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let (workers, ingests) = (scene.stage.workers(), scene.stage.ingests());
    if let Some(at) = workers.first() {
        scene.stage.members[*at].way_to(Server::Postgres).set(Mode::HalfOpen(None));
    }
    if let Some(at) = ingests.first() {
        scene.stage.members[*at].way_to(Server::Postgres).set(Mode::BlackHole);
    }
    tokio::time::sleep(scene.seconds(8, 30)).await;
    scene.stage.members.iter().for_each(crate::stage::Member::heal);
    tokio::time::sleep(scene.seconds(1, 5)).await;
    Ok(())
}

pub(super) async fn slow_line(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    for at in scene.stage.workers().into_iter().take(1) {
        scene.stage.members[at].way_to(Server::Postgres).set(Mode::Throttle(50_000));
    }
    tokio::time::sleep(scene.seconds(5, 20)).await;
    Ok(())
}

/// One after the other is cut off from a server, each for some seconds.
async fn cut_off_each(scene: &mut Scene<'_>, members: Vec<usize>, server: Server) -> anyhow::Result<()> {
    for at in members {
        scene.stage.members[at].way_to(server).set(Mode::Reset);
        tokio::time::sleep(scene.seconds(3, 12)).await;
        scene.stage.members[at].heal();
    }
    Ok(())
}

pub(super) async fn cut_off_postgres(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let workers = scene.stage.workers();
    cut_off_each(scene, workers, Server::Postgres).await
}

pub(super) async fn cut_off_rabbit(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let workers = scene.stage.workers();
    cut_off_each(scene, workers, Server::Rabbit).await
}

pub(super) async fn cut_off_redis(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let workers = scene.stage.workers();
    cut_off_each(scene, workers, Server::Redis).await
}

pub(super) async fn ingests_cut_off_postgres(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let ingests = scene.stage.ingests();
    cut_off_each(scene, ingests, Server::Postgres).await
}

pub(super) async fn ingests_cut_off_rabbit(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let ingests = scene.stage.ingests();
    cut_off_each(scene, ingests, Server::Rabbit).await
}

/// The worker keeps what it has while its leases run out and others claim: two believe to own the
/// same partitions, and only the epoch stands between them. It never notices by itself.
pub(super) async fn long_without_redis(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let (at, id) = scene.busy_worker().await?;
    let began = std::time::Instant::now();
    scene.stage.members[at].way_to(Server::Redis).set(Mode::Reset);
    scene.until_taken_over(id, began).await?;
    tokio::time::sleep(scene.seconds(4, 15)).await;
    Ok(())
}

/// Every so often a commit gets through and its answer does not, for accepts and for decisions.
pub(super) async fn commit_unknown(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    scene.stage.members.iter().for_each(|member| member.way_to(Server::Postgres).set(Mode::CutAfterCommit(5)));
    tokio::time::sleep(scene.seconds(5, 20)).await;
    scene.stage.members.iter().for_each(crate::stage::Member::heal);
    let cut: u32 = scene.stage.members.iter().map(|member| member.way_to(Server::Postgres).cut_commits()).sum();
    ensure!(cut > 0, "no commit was cut off from its answer");
    scene.note = format!("{cut} commits cut off from their answers");
    Ok(())
}
