//! Puts a circuit breaker and a bulkhead before each server of a program, and shows them.
//!
//! # Decisions
//! Not in `riskfleet up`: its store, broker, leases and context live and die with the process.
//! None of them can be away alone, and leaving a store of the same process alone for half a minute
//! helps nobody.

use metrics::{counter, gauge};
use std::sync::Arc;
use std::time::Duration;

use crate::api::Probe;
use crate::config::Settings;
use crate::ports::{ActiveVersions, Broker, Clock, ContextSource, EventStore, LeaseTtls, Leases, Stops};
use crate::resilience::{
    Breaker, BreakerMeters, BreakerRules, Bulkhead, BulkheadMeters, BulkheadRules, Circuit, Guard, GuardedBroker,
    GuardedContext, GuardedLeases, GuardedStops, GuardedStore, GuardedVersions,
};
use crate::telemetry::names::{self, circuit, dependency};

/// Messages under way for each call that other dependencies may have: with the default of 10 calls
/// about the broker's own window of unconfirmed messages, which is never to be the narrower one.
const MESSAGES_UNDER_WAY: usize = 100;

/// Messages that wait, likewise: with the default of 100 calls what ingest lets be on its way, so
/// that many small accepts are not left to the sweep.
const MESSAGES_WAITING: usize = 200;

/// The state of a circuit takes no time to read.
const PROBE_DEADLINE: Duration = Duration::from_secs(1);

/// The guards of a program.
pub(super) struct Guards {
    breaker: BreakerRules,
    bulkhead: BulkheadRules,
    clock: Arc<dyn Clock>,
    circuits: Vec<(&'static str, Arc<Breaker>)>,
}

impl Guards {
    pub(super) fn new(settings: &Settings, clock: &Arc<dyn Clock>) -> Self {
        Self {
            breaker: BreakerRules { failures: settings.breaker_failures, recovery: settings.breaker_recovery() },
            bulkhead: BulkheadRules { concurrent: settings.bulkhead_concurrent, queued: settings.bulkhead_queued },
            clock: Arc::clone(clock),
            circuits: Vec::new(),
        }
    }

    pub(super) fn store(&mut self, store: Arc<dyn EventStore>) -> Arc<dyn EventStore> {
        let guard = self.guard("database circuit", dependency::DATABASE, self.breaker, self.bulkhead);
        Arc::new(GuardedStore::new(store, guard))
    }

    /// A worker's: what it reads of versions and budgets is behind the same guard, since it is the same server.
    pub(super) fn worker_store<S: EventStore + ActiveVersions + Stops + 'static>(
        &mut self,
        store: Arc<S>,
    ) -> (Arc<dyn EventStore>, Arc<dyn ActiveVersions>, Arc<dyn Stops>) {
        let guard = self.guard("database circuit", dependency::DATABASE, self.breaker, self.bulkhead);
        let versions = GuardedVersions::new(store.clone(), Arc::clone(&guard));
        let stops = GuardedStops::new(store.clone(), Arc::clone(&guard));
        (Arc::new(GuardedStore::new(store, guard)), Arc::new(versions), Arc::new(stops))
    }

    pub(super) fn broker(&mut self, broker: Arc<dyn Broker>) -> Arc<dyn Broker> {
        let messages = BulkheadRules {
            concurrent: self.bulkhead.concurrent * MESSAGES_UNDER_WAY,
            queued: self.bulkhead.queued * MESSAGES_WAITING,
        };
        let guard = self.guard("broker circuit", dependency::BROKER, self.breaker, messages);
        Arc::new(GuardedBroker::new(broker, guard))
    }

    /// A worker whose circuit were still open when the server is back would be no member to a
    /// worker that is quicker, which after one membership TTL would claim its partitions: so it
    /// tries twice in that time.
    pub(super) fn leases(&mut self, leases: Arc<dyn Leases>, ttls: LeaseTtls) -> Arc<dyn Leases> {
        let rules = BreakerRules { recovery: self.breaker.recovery.min(ttls.member / 2), ..self.breaker };
        let guard = self.guard("leases circuit", dependency::LEASES, rules, self.bulkhead);
        Arc::new(GuardedLeases::new(leases, guard))
    }

    pub(super) fn context(&mut self, context: Arc<dyn ContextSource>) -> Arc<dyn ContextSource> {
        let guard = self.guard("context circuit", dependency::CONTEXT, self.breaker, self.bulkhead);
        Arc::new(GuardedContext::new(context, guard))
    }

    fn guard(
        &mut self,
        probe: &'static str,
        dependency: &'static str,
        breaker: BreakerRules,
        bulkhead: BulkheadRules,
    ) -> Arc<Guard> {
        let breaker = Breaker::new(dependency, breaker, Arc::clone(&self.clock), breaker_meters(dependency));
        let breaker = Arc::new(breaker);
        self.circuits.push((probe, Arc::clone(&breaker)));
        Arc::new(Guard::new(breaker, Bulkhead::new(bulkhead, bulkhead_meters(dependency))))
    }

    /// What `/health` shows of the circuits: one that is not closed degrades the process. Whether
    /// the process can work is for the dependency's own probe to say, which no circuit stops.
    pub(super) fn probes(&self) -> Vec<Probe> {
        let probe = |(name, breaker): &(&'static str, Arc<Breaker>)| {
            let breaker = Arc::clone(breaker);
            Probe::new(name, false, PROBE_DEADLINE, move || std::future::ready(closed(&breaker)))
        };
        self.circuits.iter().map(probe).collect()
    }
}

fn closed(breaker: &Breaker) -> Result<(), String> {
    match breaker.circuit() {
        Circuit::Closed => Ok(()),
        Circuit::HalfOpen => Err(format!("the circuit of {} is half-open: one call tries", breaker.dependency())),
        Circuit::Open(retry_in) => Err(format!(
            "the circuit of {} is open, the next try is in {:.1} s",
            breaker.dependency(),
            retry_in.as_secs_f64()
        )),
    }
}

fn breaker_meters(dependency: &'static str) -> BreakerMeters {
    let transitions = |to: &'static str| counter!(names::BREAKER_TRANSITIONS, "dependency" => dependency, "to" => to);
    BreakerMeters {
        state: gauge!(names::BREAKER_STATE, "dependency" => dependency),
        closed: transitions(circuit::CLOSED),
        half_open: transitions(circuit::HALF_OPEN),
        opened: transitions(circuit::OPEN),
    }
}

fn bulkhead_meters(dependency: &'static str) -> BulkheadMeters {
    BulkheadMeters {
        in_use: gauge!(names::BULKHEAD_IN_USE, "dependency" => dependency),
        queued: gauge!(names::BULKHEAD_QUEUED, "dependency" => dependency),
        refused: counter!(names::BULKHEAD_REFUSED, "dependency" => dependency),
    }
}
