//! Tests of one situation each, without chance: what a fleet does when nothing fails but what the
//! test makes fail.

use std::sync::Arc;
use std::time::Duration;

use riskfleet::domain::{EventId, Scope};
use riskfleet::ports::EventStore;

use crate::dice::{Rates, Rng};
use crate::fleet::Fleet;
use crate::plan::Plan;
use crate::run::{live, paused_runtime};
use crate::world::World;

/// Runs a fleet through a plan without faults, and gives the longest wait for a decision of an event
/// that was accepted `after` the start or later.
fn longest_wait(plan: impl FnOnce(&mut Plan), after: Duration) -> Duration {
    paused_runtime().block_on(async {
        let world = World::new(1, Rates::none(), None, false);
        let mut steady = Plan::steady(&mut Rng::new(1, "plan"), Duration::from_secs(60));
        plan(&mut steady);
        live(&Fleet::start(&world, steady)).await;
        assert_eq!(world.model().violations, Vec::<String>::new());
        waits(&world).await.into_iter().filter(|(at, _)| *at >= after).map(|(_, wait)| wait).max().unwrap_or_default()
    })
}

/// When each event was accepted, since the start, and how long it waited.
async fn waits(world: &Arc<World>) -> Vec<(Duration, Duration)> {
    let events = world.store.events_since(EventId::floor(0), u32::MAX).await.expect("in memory");
    let start = events.first().map_or(0, |e| e.id.millis());
    let mut waits = Vec::new();
    for event in events {
        let end =
            world.store.event(&Scope::Fleet, event.id).await.expect("in memory").and_then(|r| r.end).expect("decided");
        let wait = (end.at - event.id.created_at()).to_std().unwrap_or_default();
        waits.push((Duration::from_millis(event.id.millis() - start), wait));
    }
    waits
}

#[test]
fn a_fleet_that_nothing_happens_to_decides_at_once() {
    let wait = longest_wait(|_| {}, Duration::from_secs(10));
    assert!(wait < Duration::from_millis(100), "an event waited {wait:?}");
}

#[test]
fn a_worker_that_joins_holds_nobody_up() {
    let wait = longest_wait(|plan| plan.joins = vec![Duration::from_secs(20)], Duration::from_secs(10));
    assert!(wait < Duration::from_secs(2), "an event waited {wait:?}");
}
