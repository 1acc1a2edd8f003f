//! Owns the list of faults and of the mutants that each of them catches.

use futures::future::LocalBoxFuture;
use riskfleet::mutants::Mutant;

use super::scene::Scene;
use super::{brokers, fleets, probes, stores, supervisor};

/// A fault: what is done to a fleet under load, up to its end.
pub(super) struct Fault {
    pub(super) name: &'static str,
    /// Part of every test run.
    pub(super) short: bool,
    pub(super) workers: usize,
    pub(super) ingests: usize,
    /// Under the suite's load; without it the fault sends what it needs.
    pub(super) loaded: bool,
    /// Events a second of that load, where it is not the run's.
    pub(super) rate: Option<u32>,
    /// May be drawn in the long run.
    pub(super) drawn: bool,
    pub(super) inject: Inject,
}

type Inject = for<'a, 's> fn(&'a mut Scene<'s>) -> LocalBoxFuture<'a, anyhow::Result<()>>;

const fn fault(name: &'static str, inject: Inject) -> Fault {
    Fault { name, short: false, workers: 3, ingests: 2, loaded: true, rate: None, drawn: false, inject }
}

impl Fault {
    const fn short(self) -> Self {
        Self { short: true, ..self }
    }

    const fn drawn(self) -> Self {
        Self { drawn: true, ..self }
    }

    const fn rate(self, rate: u32) -> Self {
        Self { rate: Some(rate), ..self }
    }

    const fn members(self, ingests: usize, workers: usize) -> Self {
        Self { ingests, workers, ..self }
    }

    const fn unloaded(self) -> Self {
        Self { loaded: false, ..self }
    }
}

/// Every fault.
pub(super) static FAULTS: [Fault; 42] = [
    fault("none", |s| Box::pin(fleets::none(s))).members(2, 2),
    fault("worker: SIGKILL", |s| Box::pin(fleets::kill_worker(s))).short().drawn(),
    fault("worker: SIGSTOP 5 s", |s| Box::pin(fleets::pause_worker(s, 5))).drawn(),
    fault("worker: SIGSTOP 15 s", |s| Box::pin(fleets::pause_worker(s, 15))),
    fault("worker: SIGSTOP 60 s", |s| Box::pin(fleets::pause_worker(s, 60))),
    fault("worker: SIGSTOP in a transaction", |s| Box::pin(fleets::pause_in_transaction(s))).short(),
    fault("ingest: SIGKILL", |s| Box::pin(fleets::kill_ingest(s))).drawn(),
    fault("ingest: SIGSTOP 5 s", |s| Box::pin(fleets::pause_ingest(s, 5))).drawn(),
    fault("ingest: SIGSTOP 15 s", |s| Box::pin(fleets::pause_ingest(s, 15))),
    fault("ingest: SIGSTOP 60 s", |s| Box::pin(fleets::pause_ingest(s, 60))),
    fault("Redis: kill -9, back", |s| Box::pin(stores::redis_restart(s))).drawn(),
    fault("Redis: FLUSHALL", |s| Box::pin(stores::redis_flush(s))).drawn(),
    fault("Redis: 10 s latency", |s| Box::pin(stores::redis_latency(s))),
    fault("RabbitMQ: kill -9, back", |s| Box::pin(brokers::restart(s))).drawn(),
    fault("RabbitMQ: all connections closed", |s| Box::pin(brokers::close_connections(s))).drawn(),
    fault("RabbitMQ: queues deleted", |s| Box::pin(brokers::delete_queues(s))).drawn(),
    fault("RabbitMQ: a queue that can't be made again", |s| Box::pin(brokers::strand_queue(s))).short(),
    fault("RabbitMQ: all data wiped", |s| Box::pin(brokers::wipe(s))),
    fault("RabbitMQ: full queues wiped", |s| Box::pin(brokers::wipe_full(s))).short(),
    fault("RabbitMQ: memory alarm 15 s", |s| Box::pin(brokers::alarm(s))).drawn(),
    fault("RabbitMQ: paused 15 s", |s| Box::pin(brokers::pause(s))),
    fault("Postgres: kill -9, back", |s| Box::pin(stores::postgres_restart(s))).short().drawn(),
    fault("Postgres: paused 15 s", |s| Box::pin(stores::postgres_pause(s))),
    fault("Postgres: table locked 30 s", |s| Box::pin(stores::table_locked(s))),
    fault("Postgres: half-open socket", |s| Box::pin(stores::half_open(s))),
    fault("Postgres: slow line", |s| Box::pin(stores::slow_line(s))),
    fault("each worker cut off from Postgres", |s| Box::pin(stores::cut_off_postgres(s))).drawn(),
    fault("each worker cut off from RabbitMQ", |s| Box::pin(stores::cut_off_rabbit(s))).drawn(),
    fault("each worker cut off from Redis", |s| Box::pin(stores::cut_off_redis(s))).drawn(),
    fault("a worker long without Redis", |s| Box::pin(stores::long_without_redis(s))).members(1, 2),
    fault("each ingest cut off from Postgres", |s| Box::pin(stores::ingests_cut_off_postgres(s))).drawn(),
    fault("each ingest cut off from RabbitMQ", |s| Box::pin(stores::ingests_cut_off_rabbit(s))).drawn(),
    fault("commit outcome unknown", |s| Box::pin(stores::commit_unknown(s))).short().drawn(),
    // The flood is the fleet's to bear, and its making the machine's: a calmer load leaves room for it.
    fault("a tenant floods at 100 times", |s| Box::pin(fleets::flood(s))).rate(300),
    fault("rolling restart", |s| Box::pin(fleets::rolling_restart(s))),
    fault("a supervisor: 1 to 4 to 1 workers", |s| Box::pin(supervisor::follow(s))).short().members(2, 0),
    fault("2 to 8 to 3 workers", |s| Box::pin(fleets::scale(s))).members(2, 2),
    fault("commits that hang", |s| Box::pin(probes::commits_hang(s))).members(1, 1).unloaded(),
    fault("confirms that stay out", |s| Box::pin(probes::confirms_stay_out(s))).members(1, 1).unloaded(),
    fault("an event that aborts its worker", |s| Box::pin(probes::poisoned(s, "abort"))).members(1, 2).unloaded(),
    fault("an event that panics in its worker", |s| Box::pin(probes::poisoned(s, "panic"))).members(1, 2).unloaded(),
    fault("worker killed before its outcomes", |s| Box::pin(probes::killed_before_outcomes(s)))
        .members(1, 1)
        .unloaded(),
];

/// How a mutant is caught.
pub(super) struct Hunt {
    pub(super) mutant: Mutant,
    /// The fault that catches it.
    pub(super) by: &'static str,
    /// What the fault's own check or the checker says of it, among other things. A run that fails
    /// for another reason has caught nothing.
    pub(super) said: &'static str,
    /// Hunted in every test run.
    pub(super) short: bool,
}

const fn hunt(mutant: Mutant, by: &'static str, said: &'static str) -> Hunt {
    Hunt { mutant, by, said, short: false }
}

impl Hunt {
    const fn short(self) -> Self {
        Self { short: true, ..self }
    }
}

/// Every mutant.
pub(super) static MUTANTS: [Hunt; 8] = [
    hunt(Mutant::FenceRemoved, "a worker long without Redis", "epochs that go back").short(),
    hunt(Mutant::AckBeforeCommit, "commits that hang", "acknowledged before their commit"),
    hunt(Mutant::QosForgotten, "commits that hang", "has handed out"),
    hunt(Mutant::ConfirmIgnored, "confirms that stay out", "stand in the outbox"),
    hunt(Mutant::SettleBeforeConfirm, "confirms that stay out", "stand in the outbox"),
    hunt(Mutant::DedupeRemoved, "none", "duplicated").short(),
    hunt(Mutant::RefillSkipped, "RabbitMQ: full queues wiped", "decided of what was accepted before"),
    hunt(Mutant::OutcomeNotRepublished, "worker killed before its outcomes", "0 pending"),
];

#[test]
fn every_mutant_has_a_fault_that_stands() {
    for mutant in Mutant::ALL {
        let hunt = MUTANTS.iter().find(|hunt| hunt.mutant == mutant).expect("every mutant is hunted");
        assert!(FAULTS.iter().any(|fault| fault.name == hunt.by), "{}", hunt.by);
    }
    let names: std::collections::BTreeSet<&str> = FAULTS.iter().map(|fault| fault.name).collect();
    assert_eq!(names.len(), FAULTS.len(), "names are unique: they are chosen by");
}
