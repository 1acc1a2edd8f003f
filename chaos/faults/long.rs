//! Owns the long run: one fleet under a steady load, and a random fault every few seconds.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::catalogue::{FAULTS, Fault};
use super::fleets;
use super::scene::{Scene, Size};
use crate::harness::process::Program;
use crate::servers::Servers;
use crate::table::Row;

/// Events a second: ten minutes are more than a million.
const RATE: u32 = 2_000;

static MEMBERS: Fault = Fault {
    name: "long run",
    short: false,
    workers: 3,
    ingests: 2,
    rate: None,
    loaded: true,
    drawn: false,
    inject: |scene| Box::pin(fleets::none(scene)),
};

/// Runs for so long, and judges once at the end.
pub(super) async fn run(servers: &mut Servers, length: Duration, seed: u64) -> anyhow::Result<Row> {
    let events = usize::try_from(length.as_secs())? * RATE as usize;
    let size = Size { events, rate: RATE, full: false, patience: Duration::from_secs(300) };
    let mut scene = Scene::set(servers, &MEMBERS, size, seed, None).await?;
    let began = Instant::now();
    let result = faults(&mut scene, began + length, seed).await;
    let row = match result {
        Ok(drawn) => scene.play(&MEMBERS).await.map(|row| Row { note: format!("{drawn} faults, seed {seed}"), ..row }),
        Err(e) => Err(e),
    };
    scene.strike(!matches!(&row, Ok(row) if row.verdict.wrong.is_empty())).await;
    row.map(|row| Row { took: began.elapsed(), ..row })
}

async fn faults(scene: &mut Scene<'_>, until: Instant, seed: u64) -> anyhow::Result<usize> {
    let mut random = StdRng::seed_from_u64(seed);
    let drawn: Vec<&Fault> = FAULTS.iter().filter(|fault| fault.drawn).collect();
    let mut count = 0;
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(random.random_range(2_000..6_000))).await;
        let fault = drawn[random.random_range(0..drawn.len())];
        let (attempted, acknowledged) = scene.history.counts();
        eprintln!("{count}: {} ({acknowledged} of {attempted} acknowledged)", fault.name);
        (fault.inject)(scene).await?;
        scene.stage.members.iter().for_each(crate::stage::Member::heal);
        scene.stage.sample();
        restore(scene).await?;
        count += 1;
    }
    Ok(count)
}

/// What died is replaced, as a deployment would.
async fn restore(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let (workers, ingests) = (scene.stage.workers().len(), scene.stage.ingests().len());
    scene.stage.add(Program::Worker, MEMBERS.workers.saturating_sub(workers)).await?;
    scene.stage.add(Program::Ingest, MEMBERS.ingests.saturating_sub(ingests)).await?;
    scene.stage.until_owned(Duration::from_secs(60)).await
}
