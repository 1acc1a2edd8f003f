//! What `/health` looks at: each dependency, what waits, and how long the stages take. Whether a circuit
//! is closed is shown by `guards`.

use chrono::TimeDelta;
use std::sync::Arc;
use std::time::Duration;

use crate::api::Probe;
use crate::pipeline::state::Stage;
use crate::ports::{Broker, Clock, EventStore, Leases, RateMeter};
use crate::worker::LoadMeter;

/// After which a dependency counts as away for `/health`.
const DEADLINE: Duration = Duration::from_secs(2);

/// An event that has waited so long for a worker waits too long.
const WAITS_MAX: TimeDelta = TimeDelta::seconds(60);

/// Stages that take so long together, on the average, are slow: as long as a fleet's p99 may be before
/// it wants more workers.
const STAGES_MAX_MS: f64 = 500.0;

pub(super) fn store(store: &Arc<dyn EventStore>) -> Probe {
    let store = Arc::clone(store);
    Probe::new("database", true, DEADLINE, move || {
        let store = Arc::clone(&store);
        async move { store.now().await.map(|_| ()).map_err(|e| e.to_string()) }
    })
}

pub(super) fn broker(broker: &Arc<dyn Broker>, required: bool) -> Probe {
    let broker = Arc::clone(broker);
    Probe::new("broker", required, DEADLINE, move || {
        let broker = Arc::clone(&broker);
        async move { broker.ping().await.map_err(|e| e.to_string()) }
    })
}

/// Those of a whole fleet in one process: nothing in it can be away alone.
pub(super) fn of_one_process(events: &Arc<dyn EventStore>, queues: &Arc<dyn Broker>) -> Vec<Probe> {
    vec![store(events), broker(queues, true), backlog(events)]
}

pub(super) fn leases(leases: &Arc<dyn Leases>) -> Probe {
    let leases = Arc::clone(leases);
    Probe::new("leases", false, DEADLINE, move || {
        let leases = Arc::clone(&leases);
        async move { leases.members().await.map(|_| ()).map_err(|e| e.to_string()) }
    })
}

/// The server that counts tenants' rates for all processes together.
pub(super) fn rates(meter: &Arc<dyn RateMeter>) -> Probe {
    let meter = Arc::clone(meter);
    Probe::new("rates", false, DEADLINE, move || {
        let meter = Arc::clone(&meter);
        async move { meter.ping().await.map_err(|e| e.to_string()) }
    })
}

/// What waits, and for how long.
pub(super) fn backlog(store: &Arc<dyn EventStore>) -> Probe {
    let store = Arc::clone(store);
    Probe::measuring("backlog", DEADLINE, move || {
        let store = Arc::clone(&store);
        async move {
            let waits = store.backlog().await.map_err(|e| e.to_string())?;
            let now = store.now().await.map_err(|e| e.to_string())?;
            let (events, age) = (waits.events, waits.oldest.map_or(TimeDelta::zero(), |oldest| now - oldest));
            if age > WAITS_MAX {
                return Err(format!("{events} events wait, the oldest for {} s", age.num_seconds()));
            }
            let age_s = age.num_milliseconds().max(0) as f64 / 1_000.0;
            Ok(vec![("events", events as f64), ("postponed", waits.postponed as f64), ("oldest_s", age_s)])
        }
    })
}

/// How long the stages take, on the average of the last 30 seconds.
pub(super) fn stages(load: &Arc<LoadMeter>, clock: &Arc<dyn Clock>) -> Probe {
    let (load, clock) = (Arc::clone(load), Arc::clone(clock));
    Probe::measuring("stage latency", DEADLINE, move || {
        let micros = load.stage_micros(clock.elapsed());
        std::future::ready(micros.map_or(Ok(Vec::new()), judged))
    })
}

fn judged(micros: [f64; Stage::ALL.len()]) -> Result<Vec<(&'static str, f64)>, String> {
    let millis = micros.map(|micros| (micros).round() / 1_000.0);
    let together: f64 = millis.iter().sum();
    if together > STAGES_MAX_MS {
        return Err(format!("the stages of a decision take {together:.0} ms on the average"));
    }
    Ok(Stage::ALL.iter().map(|stage| stage.as_str()).zip(millis).collect())
}
