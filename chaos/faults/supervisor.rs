//! A supervisor on one machine: load comes, and one worker becomes four; it goes, and one is left.
//! Nothing is lost on the way, and no partition moves that need not.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use riskfleet::domain::assign::{Candidate, desired};
use riskfleet::domain::{PartitionId, WorkerId};
use serde_json::Value;
use uuid::Uuid;

use super::scene::Scene;
use crate::stage::PARTITIONS;

/// Every event that waits is a reason for more workers; what they use of the machine is none against
/// fewer, since four of them share two cores with everything else.
const POLICY: [&str; 20] = [
    "fleet",
    "autoscale",
    "--apply",
    "--json",
    "--min",
    "1",
    "--max",
    "4",
    "--every",
    "1",
    "--queue-high",
    "2",
    "--cpu-high",
    "100",
    "--cpu-low",
    "100",
    "--p99-high",
    "10000000",
    "--up-after",
    "5",
];

/// Starts without a worker, so that what is accepted waits; ends with one.
pub(super) async fn follow(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let mut args = POLICY.to_vec();
    args.extend(["--down-after", "6"]);
    scene.stage.supervise(&args)?;
    until_working(scene, 4, Duration::from_secs(90)).await?;
    let owners = "SELECT count(DISTINCT owner) FROM {ns}.partitions WHERE owner IS NOT NULL";
    scene.until("workers that own a partition", owners, 4, Duration::from_secs(60)).await?;
    scene.load.end().await?;
    until_working(scene, 1, Duration::from_secs(180)).await?;
    let owned = "SELECT count(*) FROM {ns}.partitions WHERE owner IS NOT NULL";
    scene.until("owned partitions", owned, PARTITIONS as i64, Duration::from_secs(40)).await?;
    let deeds = deeds(&scene.stage.supervisor_log().context("a supervisor runs")?)?;
    ensure!(!deeds.iter().any(|deed| deed["event"] == "died" || deed["event"] == "killed"), "{deeds:?}");
    let sizes: Vec<u64> = deeds.iter().filter(|d| d["event"] == "scaled").filter_map(|d| d["to"].as_u64()).collect();
    ensure!(sizes.iter().max() == Some(&4) && sizes.last() == Some(&1), "the sizes were {sizes:?}");
    let claims = scene.stage.rows.number("SELECT sum(epoch)::bigint FROM {ns}.partitions").await?;
    let ids = worker_ids(&scene.stage.supervisor_log().context("a supervisor runs")?)?;
    let planned = planned(&ids);
    ensure!(claims <= planned, "{claims} claims, at most {planned} were needed");
    scene.note = format!("1 → {} workers; {claims} claims, {planned} planned", join(&sizes));
    Ok(())
}

fn join(sizes: &[u64]) -> String {
    sizes.iter().map(u64::to_string).collect::<Vec<_>>().join(" → ")
}

async fn until_working(scene: &Scene<'_>, wanted: i64, patience: Duration) -> anyhow::Result<()> {
    let until = Instant::now() + patience;
    let working = "SELECT count(*) FROM {ns}.workers \
                   WHERE NOT draining AND seen_at > clock_timestamp() - interval '5 s'";
    loop {
        let now = scene.stage.rows.number(working).await?;
        if now == wanted {
            return Ok(());
        }
        let log = scene.stage.supervisor_log().map(|log| std::fs::read_to_string(log).unwrap_or_default());
        ensure!(
            Instant::now() < until,
            "{now} workers, not {wanted}, after {patience:?}:\n{}",
            log.unwrap_or_default()
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// What the supervisor says it has done.
fn deeds(log: &Path) -> anyhow::Result<Vec<Value>> {
    let text = std::fs::read_to_string(log)?;
    Ok(text
        .lines()
        .filter(|line| line.starts_with("{\"event\":"))
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect())
}

/// The workers in the order in which they started; each tells its boot id in the log that they share.
fn worker_ids(log: &Path) -> anyhow::Result<Vec<WorkerId>> {
    let text = std::fs::read_to_string(log)?;
    let told = text.lines().filter(|line| line.contains("the worker has started"));
    let id = |line: &str| {
        let at = line.find("worker.id=")? + "worker.id=".len();
        line.get(at..at + 36)?.parse::<Uuid>().ok().map(WorkerId)
    };
    let ids: Vec<WorkerId> = told.filter_map(id).collect();
    ensure!(ids.len() == 4, "{} workers have started: {text}", ids.len());
    Ok(ids)
}

/// The claims of a fleet that goes from nothing to all of these workers and back to the first, one at
/// a time, in the order that moves the most.
fn planned(ids: &[WorkerId]) -> i64 {
    let way_up = |order: &[WorkerId]| -> i64 { (0..order.len()).map(|n| moves(&order[..n], &order[..=n])).sum() };
    let way_down = |order: &[WorkerId]| -> i64 { (1..order.len()).map(|n| moves(&order[..=n], &order[..n])).sum() };
    let orders = orders(ids);
    let most = |way: &dyn Fn(&[WorkerId]) -> i64| orders.iter().map(|order| way(order)).max().unwrap_or(0);
    most(&way_up) + most(&way_down)
}

/// Partitions whose owner is another one afterwards.
fn moves(before: &[WorkerId], after: &[WorkerId]) -> i64 {
    let owners = |ids: &[WorkerId]| {
        let candidates: Vec<Candidate> = ids.iter().map(|id| Candidate { id: *id, weight: 1 }).collect();
        desired(&candidates, PARTITIONS as u16)
    };
    let (before, after) = (owners(before), owners(after));
    let moved = |p: &PartitionId| before[usize::from(p.0)] != after[usize::from(p.0)];
    (0..PARTITIONS as u16).map(PartitionId).filter(moved).count() as i64
}

fn orders(ids: &[WorkerId]) -> Vec<Vec<WorkerId>> {
    if ids.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (n, first) in ids.iter().enumerate() {
        let rest: Vec<WorkerId> = ids.iter().enumerate().filter(|(m, _)| *m != n).map(|(_, id)| *id).collect();
        all.extend(orders(&rest).into_iter().map(|order| [vec![*first], order].concat()));
    }
    all
}
