//! Faults of RabbitMQ: gone, forgetful, full.

use std::time::{Duration, Instant};

use anyhow::ensure;
use lapin::options::QueueDeleteOptions;
use riskfleet::domain::TenantId;
use riskfleet::domain::partition::partition_of;

use super::scene::Scene;
use crate::harness::process::Program;
use crate::stage::PARTITIONS;

/// How long the events of a wiped broker may take to be decided, from its return.
const REFILLED_WITHIN: Duration = Duration::from_secs(60);

/// How long the fleet may take to give up on a quorum queue and make a classic one.
const MADE_AGAIN_WITHIN: Duration = Duration::from_secs(60);

pub(super) async fn restart(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    scene.servers.rabbit.kill9();
    tokio::time::sleep(scene.seconds(1, 5)).await;
    scene.servers.rabbit.restart().await?;
    tokio::time::sleep(scene.seconds(1, 5)).await;
    Ok(())
}

pub(super) async fn close_connections(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    for _ in 0..3 {
        scene.servers.rabbit.control(&["close_all_connections", "chaos"]).await?;
        tokio::time::sleep(scene.seconds(1, 3)).await;
    }
    Ok(())
}

pub(super) async fn delete_queues(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let url = scene.servers.rabbit.url();
    let connection = lapin::Connection::connect(&url, lapin::ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    for _ in 0..2 {
        for p in 0..PARTITIONS {
            let queue = format!("{}.events.p{p:03}", scene.stage.rows.ns);
            channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await?;
        }
        tokio::time::sleep(scene.seconds(1, 4)).await;
    }
    Ok(connection.close(200, "done".into()).await?)
}

/// The broker forgets a queue and keeps its member (rabbitmq-server#17457): it fails at making the
/// queue again, ends the connection that asks for it, and is sound otherwise.
pub(super) async fn strand_queue(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    // One that has traffic.
    let partition = partition_of(&TenantId::parse(&scene.history.tenants[0].name)?, u16::try_from(PARTITIONS)?);
    let queue = format!("{}.events.{partition}", scene.stage.rows.ns);
    let forget =
        format!(r#"rabbit_amqqueue:internal_delete(rabbit_misc:r(<<"/">>, queue, <<"{queue}">>), <<"chaos">>)."#);
    scene.servers.rabbit.control(&["eval", &forget]).await?;
    let until = Instant::now() + MADE_AGAIN_WITHIN;
    loop {
        let listed = scene.servers.rabbit.control(&["list_queues", "-q", "--no-table-headers", "name", "type"]).await?;
        let made = listed.lines().filter_map(|line| line.split_once('\t')).find(|(name, _)| *name == queue);
        if made.is_some_and(|(_, kind)| kind == "classic") {
            return Ok(());
        }
        ensure!(Instant::now() < until, "{queue} was not made again: {made:?}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// The broker comes back with nothing: every event that was accepted before is decided all the same.
pub(super) async fn wipe(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    scene.servers.rabbit.kill9();
    scene.servers.rabbit.wipe()?;
    tokio::time::sleep(scene.seconds(1, 5)).await;
    scene.servers.rabbit.restart().await?;
    until_refilled(scene).await
}

/// The same while no worker lives: what the queues held is in nobody's hands and on no disk but the
/// store's.
pub(super) async fn wipe_full(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let workers = scene.stage.workers();
    scene.stage.sample();
    workers.iter().for_each(|at| scene.stage.members[*at].process.kill());
    tokio::time::sleep(scene.seconds(2, 5)).await;
    scene.servers.rabbit.kill9();
    scene.servers.rabbit.wipe()?;
    scene.servers.rabbit.restart().await?;
    scene.stage.add(Program::Worker, workers.len()).await?;
    until_refilled(scene).await
}

async fn until_refilled(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    scene.outcomes_are_kept = false;
    let back = Instant::now();
    let accepted = scene.stage.rows.number("SELECT count(*) FROM {ns}.events").await?;
    let patience = REFILLED_WITHIN.min(scene.size.patience);
    let before = "SELECT count(*) FROM {ns}.events e JOIN {ns}.decisions d ON d.event_id = e.event_id \
                  WHERE e.event_id <= (SELECT event_id FROM {ns}.events ORDER BY event_id OFFSET {n} LIMIT 1)";
    let before = before.replace("{n}", &(accepted - 1).max(0).to_string());
    scene.until("decided of what was accepted before", &before, accepted, patience).await?;
    scene.takeover = Some(back.elapsed());
    Ok(())
}

pub(super) async fn alarm(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    scene.servers.rabbit.control(&["set_vm_memory_high_watermark", "0.0001"]).await?;
    tokio::time::sleep(scene.seconds(5, 15)).await;
    let cleared = scene.servers.rabbit.control(&["set_vm_memory_high_watermark", "0.4"]).await;
    ensure!(cleared.is_ok(), "the alarm could not be cleared: {cleared:?}");
    Ok(())
}

pub(super) async fn pause(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    scene.servers.rabbit.stop();
    tokio::time::sleep(scene.seconds(5, 15)).await;
    scene.servers.rabbit.cont();
    Ok(())
}
