//! Owns what befalls whole processes and servers: pauses, deaths, restarts, forgotten leases,
//! deleted queues, cut connections, clocks that jump.

use std::sync::Arc;

use riskfleet::domain::PartitionId;
use riskfleet::ports::Route;
use tokio::time::Instant;

use crate::broker::{delete_queue, put_garbage};
use crate::dice::Rng;
use crate::fleet::{Fleet, Role};
use crate::world::{PARTITIONS, Port, World, pass_time};

/// One disaster after the other until the storm is over.
pub(crate) async fn storm(fleet: Arc<Fleet>) {
    let over = Instant::now() + fleet.plan.storm;
    let mut rng = Rng::new(fleet.world.seed, "disasters");
    let Some(mean) = fleet.world.rates.disaster_every else {
        pass_time(fleet.plan.storm).await;
        return;
    };
    loop {
        let wait = rng.millis(1, 2 * mean.as_millis() as u64);
        if Instant::now() + wait >= over {
            break;
        }
        pass_time(wait).await;
        strike(&fleet, &mut rng).await;
    }
    tokio::time::sleep_until(over).await;
}

async fn strike(fleet: &Arc<Fleet>, rng: &mut Rng) {
    let role = if rng.chance(0.65) { Role::Worker } else { Role::Ingest };
    let slots = fleet.of(role);
    let slot = slots[rng.index(slots.len())];
    let disaster = rng.between(0, 12);
    fleet.world.saw(match disaster {
        0..=2 => "a process was paused",
        3 | 4 => "a process was killed",
        5 => "a process was stopped",
        6 => "leases were forgotten",
        7 => "a queue was deleted",
        8 => "a connection was cut",
        9 | 10 => "a server was away",
        11 => "a stranger wrote to a queue",
        _ => "a clock jumped",
    });
    match disaster {
        0..=2 => {
            if let Some(crew) = fleet.crew(slot) {
                crew.process.pause_for(rng.millis(300, 30_000));
            }
        }
        3 | 4 => {
            if let Some(crew) = fleet.crew(slot) {
                crew.process.kill();
            }
        }
        5 => {
            if let Some(crew) = fleet.take(slot) {
                crew.process.note("is asked to stop");
                crew.stop.cancel();
                fleet.boot_after(slot, rng.millis(0, 5_000));
            }
        }
        6 => {
            fleet.world.note("world", "the leases are forgotten");
            fleet.world.leases.forget();
        }
        7 => delete_queues(&fleet.world, rng).await,
        8 => {
            if let Some(crew) = fleet.crew(slot) {
                crew.process.note("loses its connection to the broker");
                crew.process.cut();
            }
        }
        9 | 10 => cut_off(fleet, rng),
        11 => put_garbage(&fleet.world, Route::normal(PartitionId(rng.index(usize::from(PARTITIONS)) as u16))).await,
        _ => {
            if fleet.plan.bad_clocks
                && let Some(crew) = fleet.crew(slot)
            {
                let off = rng.between(0, 20_000) as i64 - 10_000;
                crew.process.note(&format!("its clock jumps to {off} ms off"));
                crew.process.clock.set_off(off);
            }
        }
    }
}

async fn delete_queues(world: &Arc<World>, rng: &mut Rng) {
    if rng.chance(0.3) {
        for p in 0..PARTITIONS {
            delete_queue(world, Route::normal(PartitionId(p))).await;
        }
    } else {
        let p = rng.between(0, u64::from(PARTITIONS) - 1);
        delete_queue(world, Route::normal(PartitionId(p as u16))).await;
    }
}

fn cut_off(fleet: &Fleet, rng: &mut Rng) {
    let port = Port::ALL[rng.index(Port::ALL.len())];
    fleet.world.cut_off(port, rng.millis(200, 25_000));
    if port == Port::Broker {
        for crew in fleet.up() {
            crew.process.cut();
        }
    }
}
