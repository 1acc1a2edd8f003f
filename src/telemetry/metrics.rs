//! Owns the metric families: their texts, their buckets, their first zeros, and their rendering.
//!
//! A family that has never counted is shown as 0, so that a query over it finds it and an alert
//! on it can be tested. Never adds a label whose values a caller chooses.

use ::metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use super::tenants::tenants;
use super::{models, names, process};
use crate::domain::event::Kind;
use crate::domain::{BudgetState, FailureClass, Outcome, Verdict};

/// Which families a process shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Takes events.
    Ingest,
    /// Decides them.
    Worker,
    /// Answers operators.
    Console,
    /// Everything in one process.
    All,
}

/// The metrics of this process, as Prometheus reads them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Prometheus(PrometheusHandle);

/// Seconds: 1 ms to 60 s.
const SECONDS: [f64; 15] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Seconds of a stage, which are pure functions or calls of a model: 1 µs to 60 s.
const STAGE_SECONDS: [f64; 12] = [0.000_001, 0.000_01, 0.000_1, 0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0];

/// Scores from 0 to 1.
const SCORES: [f64; 10] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];

/// Events in a batch: powers of two up to the largest that can be set.
const EVENTS: [f64; 15] =
    [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0];

/// How often samples are folded into their buckets when nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// Upkeeps after which tenants may take each other's places: a minute.
const BEATS_A_TURN: u32 = 12;

/// Names of the stages, in their order.
pub const STAGES: [&str; 6] =
    ["retrieval", "policy_validation", "risk_scoring", "guardrails", "decision", "evaluation"];

static INSTALLED: Mutex<()> = Mutex::new(());
static PROMETHEUS: OnceLock<Prometheus> = OnceLock::new();

impl Prometheus {
    /// Makes Prometheus the recorder of this process, and describes the families of `role`. A
    /// second call gives the same recorder again.
    ///
    /// # Errors
    /// When another recorder is installed.
    pub fn install(role: Role) -> Result<Self, BuildError> {
        let held = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
        let prometheus = match PROMETHEUS.get() {
            Some(there) => there.clone(),
            None => {
                let recorder = builder()?.build_recorder();
                let handle = Self(recorder.handle());
                ::metrics::set_global_recorder(recorder)?;
                PROMETHEUS.get_or_init(|| handle).clone()
            }
        };
        drop(held);
        describe(role);
        Ok(prometheus)
    }

    /// The text that Prometheus scrapes (exposition format 0.0.4), with the families that name tenants
    /// or without them.
    pub fn render(&self, names_tenants: bool) -> String {
        let of_tenants = if names_tenants { tenants().render() } else { String::new() };
        [self.0.render(), of_tenants, process::render()].concat()
    }

    /// Folds samples until `stop`, so that they do not pile up while nobody scrapes.
    pub async fn upkeep(self, stop: CancellationToken) {
        let mut beat = tokio::time::interval(UPKEEP);
        let mut beats = 0_u32;
        while stop.run_until_cancelled(beat.tick()).await.is_some() {
            self.0.run_upkeep();
            beats = (beats + 1) % BEATS_A_TURN;
            if beats == 0 {
                tenants().turn();
            }
        }
    }
}

fn builder() -> Result<PrometheusBuilder, BuildError> {
    PrometheusBuilder::new()
        .set_buckets(&SECONDS)?
        .set_buckets_for_metric(Matcher::Full(names::STAGE_SECONDS.into()), &STAGE_SECONDS)?
        .set_buckets_for_metric(Matcher::Full(names::EVALUATION_SCORE.into()), &SCORES)?
        .set_buckets_for_metric(Matcher::Suffix("_batch_events".into()), &EVENTS)
}

/// Describes every family that `role` shows, and registers it at zero.
pub fn describe(role: Role) {
    match role {
        Role::Ingest => {
            ingest();
            broker();
        }
        Role::Worker => {
            worker();
            broker();
        }
        Role::Console => console(),
        Role::All => {
            ingest();
            worker();
            broker();
            console();
        }
    }
    common();
}

fn console() {
    guards(&names::dependency::CONSOLE);
    approvals();
    notary();
    retention();
    budgets();
}

fn broker() {
    describe_gauge!(names::BROKER_UNCONFIRMED, "Messages sent to the broker and not yet confirmed.");
    gauge!(names::BROKER_UNCONFIRMED).increment(0.0);
    describe_counter!(names::BROKER_RECONNECTS, "Connections to the broker that were made again, by what they serve.");
    for link in names::link::ALL {
        counter!(names::BROKER_RECONNECTS, "link" => link).absolute(0);
    }
    plain_counters(&[(
        names::CLASSIC_FALLBACKS,
        "Classic queues asked for because the broker fails at making the quorum queue.",
    )]);
}

fn common() {
    describe_counter!(names::HTTP_REQUESTS, "Answers given, by method, route and status.");
    describe_histogram!(names::HTTP_REQUEST_SECONDS, Unit::Seconds, "From a request's head to its answer.");
    counter!(names::HTTP_REQUESTS, "method" => "GET", "route" => "/metrics", "status" => "200").absolute(0);
    let _ = histogram!(names::HTTP_REQUEST_SECONDS, "route" => "/metrics");
    describe_counter!(names::HTTP_FAILURES, "Refusals of requests, and of events in them, by class.");
    for class in FailureClass::ALL {
        counter!(names::HTTP_FAILURES, "class" => class.as_str()).absolute(0);
    }
    describe_counter!(names::HTTP_LIMITED, "Requests answered with 429 before anything was looked up, by bound.");
    for by in names::limited::ALL {
        counter!(names::HTTP_LIMITED, "by" => by).absolute(0);
    }
    describe_counter!(names::OUTBOX_REPUBLISHED, "Outbox rows published again, by kind.");
    for kind in names::outbox::ALL {
        counter!(names::OUTBOX_REPUBLISHED, "kind" => kind).absolute(0);
    }
    let counters = [
        (names::PACKS_PUBLISHED, "Packs that the broker has confirmed."),
        (names::EVENTS_PUBLISHED, "Events in packs that the broker has confirmed."),
        (names::PUBLISH_FAILURES, "Publishes that failed or were not confirmed."),
        (names::REFILL_EVENTS, "Events that refill has put back on their way."),
    ];
    plain_counters(&counters);
    identity();
    traces();
    describe_gauge!(names::BACKLOG_EVENTS, "Events without a disposition.");
    describe_gauge!(names::POSTPONED_EVENTS, "Events without a disposition that wait for a next try.");
    describe_gauge!(
        names::BACKLOG_AGE_SECONDS,
        Unit::Seconds,
        "How long the oldest event has waited that does not wait for a next try."
    );
    for name in [names::POSTPONED_EVENTS, names::BACKLOG_AGE_SECONDS] {
        gauge!(name).increment(0.0);
    }
    pools();
    describe_gauge!(names::UNPUBLISHED_EVENTS, "Events stored and not known to be published.");
    describe_gauge!(names::LEDGER_DIFFERENCE, "accepted - decided - dead - pending: anything but 0 is a loss.");
    for name in [names::BACKLOG_EVENTS, names::UNPUBLISHED_EVENTS, names::LEDGER_DIFFERENCE] {
        gauge!(name).increment(0.0);
    }
    describe_gauge!(names::BUILD_INFO, "Always 1; the program's version is its label.");
    gauge!(names::BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}

fn pools() {
    describe_gauge!(names::POOL_CONNECTIONS, "Connections to the store, by pool and state.");
    describe_histogram!(
        names::POOL_WAIT_SECONDS,
        Unit::Seconds,
        "How long a call waits for a connection to the store, sampled every few seconds."
    );
    for pool in names::pool::ALL {
        let _ = histogram!(names::POOL_WAIT_SECONDS, "pool" => pool);
        for state in names::pool::STATES {
            gauge!(names::POOL_CONNECTIONS, "pool" => pool, "state" => state).increment(0.0);
        }
    }
}

fn identity() {
    plain_counters(&[
        (names::KEY_READS, "Reads of API keys."),
        (names::KEY_READS_REFUSED, "API keys not looked up: too many unknown ones were shown in a second."),
        (names::ACCESS_REFUSED, "Requests of authenticated callers that were refused (403)."),
        (names::ACCESS_REFUSED_UNRECORDED, "Those of them that left no record in the audit."),
    ]);
    plain_counters(&[
        (names::DATA_KEY_HITS, "Data keys that were found in memory."),
        (names::DATA_KEY_MISSES, "Data keys that had to be read or made."),
        (names::VAULT_LOOKS_FAILED, "Looks for erased keys that failed: no key is used until one succeeds."),
    ]);
    describe_gauge!(names::DATA_KEYS_OPEN, "Opened data keys in memory.");
    gauge!(names::DATA_KEYS_OPEN).increment(0.0);
    describe_counter!(names::FILE_RELOADS, "Files read again because they changed, by file and result.");
    for file in names::reload::FILES {
        for result in names::reload::RESULTS {
            counter!(names::FILE_RELOADS, "file" => file, "result" => result).absolute(0);
        }
    }
}

fn traces() {
    describe_counter!(names::TRACE_SPANS_DROPPED, "Spans that no collector has, by reason.");
    for reason in names::trace_drop::ALL {
        counter!(names::TRACE_SPANS_DROPPED, "reason" => reason).absolute(0);
    }
    plain_counters(&[
        (names::TRACE_SPANS_EXPORTED, "Spans that the collector has taken."),
        (names::TRACE_EXPORT_FAILURES, "Requests to the collector that failed."),
        (names::TRACES_LIMITED, "Events that were to be traced, and were not, because too many are."),
    ]);
    describe_gauge!(names::TRACE_QUEUE_SPANS, "Spans that wait for the exporter.");
    gauge!(names::TRACE_QUEUE_SPANS).increment(0.0);
}

fn notary() {
    plain_counters(&[
        (names::CHECKPOINTS, "Checkpoints of the audit that this process has signed."),
        (names::CHECKPOINT_FAILURES, "Looks of the notary that failed, at the store or at the file outside."),
    ]);
    plain_counters(&[
        (names::AUDIT_VERIFY_FAILURES, "Faults that the console's own verification of the audit has found."),
        (names::AUDIT_VERIFY_BROKEN_OFF, "Verifications of the audit that could not be done to the end."),
    ]);
    describe_gauge!(
        names::AUDIT_VERIFIED_AGE_SECONDS,
        Unit::Seconds,
        "Age of the newest verification of the audit that was done to the end; since the start, when there is none."
    );
    gauge!(names::AUDIT_VERIFIED_AGE_SECONDS).increment(0.0);
    describe_gauge!(names::CHECKPOINT_AGE_SECONDS, Unit::Seconds, "Age of the newest checkpoint of the audit.");
    describe_gauge!(names::UNSIGNED_RECORDS, "Audit records that no checkpoint covers yet.");
    for name in [names::CHECKPOINT_AGE_SECONDS, names::UNSIGNED_RECORDS] {
        gauge!(name).increment(0.0);
    }
}

fn guards(dependencies: &[&'static str]) {
    describe_gauge!(names::BREAKER_STATE, "How a dependency's circuit stands: 0 closed, 1 half-open, 2 open.");
    describe_counter!(names::BREAKER_TRANSITIONS, "Changes of a dependency's circuit, by what it became.");
    describe_gauge!(names::BULKHEAD_IN_USE, "Calls of a dependency under way (of the broker: messages).");
    describe_gauge!(names::BULKHEAD_QUEUED, "Calls of a dependency that wait for a place (of the broker: messages).");
    describe_counter!(names::BULKHEAD_REFUSED, "Calls of a dependency refused because too much is asked of it.");
    for dependency in dependencies {
        for to in names::circuit::ALL {
            counter!(names::BREAKER_TRANSITIONS, "dependency" => *dependency, "to" => to).absolute(0);
        }
        gauge!(names::BREAKER_STATE, "dependency" => *dependency).increment(0.0);
        bulkhead(dependency);
    }
}

fn bulkhead(of: &'static str) {
    counter!(names::BULKHEAD_REFUSED, "dependency" => of).absolute(0);
    for name in [names::BULKHEAD_IN_USE, names::BULKHEAD_QUEUED] {
        gauge!(name, "dependency" => of).increment(0.0);
    }
}

fn ingest() {
    guards(&names::dependency::INGEST);
    bulkhead(names::dependency::TENANTS);
    describe_counter!(names::EVENTS_ACCEPTED, "Events stored for the first time, by kind.");
    for kind in [Kind::Risk, Kind::Compliance] {
        counter!(names::EVENTS_ACCEPTED, "kind" => kind.as_str()).absolute(0);
    }
    describe_counter!(names::EVENTS_REFUSED, "Events not taken, by reason.");
    for reason in names::reason::ALL {
        counter!(names::EVENTS_REFUSED, "reason" => reason).absolute(0);
    }
    plain_counters(&[
        (names::EVENTS_REPLAYED, "Requests answered with an event that was stored before."),
        (names::EVENTS_BULK, "Events in packs that the broker has confirmed for the bulk queues."),
        (names::INBOX_PARKED, "Inbox messages that could not be taken."),
    ]);
    describe_histogram!(names::ACCEPT_SECONDS, Unit::Seconds, "From the accept queue to the committed accept.");
    describe_histogram!(names::ACCEPT_BATCH_EVENTS, "Events in an accept transaction.");
    let _ = (histogram!(names::ACCEPT_SECONDS), histogram!(names::ACCEPT_BATCH_EVENTS));
    describe_gauge!(names::ACCEPT_QUEUE_EVENTS, "Events waiting in the accept queue.");
    gauge!(names::ACCEPT_QUEUE_EVENTS).increment(0.0);
    describe_gauge!(
        names::RATE_SHARED,
        "1 while rates are counted for all processes together, 0 while each counts alone."
    );
    gauge!(names::RATE_SHARED).increment(0.0);
}

fn worker() {
    guards(&names::dependency::WORKER);
    describe_counter!(names::EVENTS_DECIDED, "Decisions committed, by outcome.");
    for outcome in Outcome::ALL {
        counter!(names::EVENTS_DECIDED, "outcome" => outcome.as_str()).absolute(0);
    }
    describe_counter!(names::EVENTS_FAILED, "Failures of events, by class.");
    for class in FailureClass::ALL {
        counter!(names::EVENTS_FAILED, "class" => class.as_str()).absolute(0);
    }
    describe_counter!(names::EVENTS_RETRIED, "Failed events that were put off, by class.");
    for class in FailureClass::ALL {
        counter!(names::EVENTS_RETRIED, "class" => class.as_str()).absolute(0);
    }
    plain_counters(&[
        (names::EVENTS_QUARANTINED, "Events buried because no worker that began them has finished them."),
        (names::EVENTS_DUPLICATE, "Events that had a disposition already."),
        (names::EVENTS_FENCED, "Events of a partition that another worker has claimed."),
        (names::PACKS_REDELIVERED, "Packs that the broker sent again."),
        (names::PACKS_FORGED, "Packs whose HMAC does not agree: read from the store instead."),
    ]);
    describe_histogram!(names::STAGE_SECONDS, Unit::Seconds, "One stage on one event, by stage.");
    for stage in STAGES {
        let _ = histogram!(names::STAGE_SECONDS, "stage" => stage);
    }
    describe_histogram!(names::COMMIT_SECONDS, Unit::Seconds, "A commit transaction.");
    describe_histogram!(names::COMMIT_BATCH_EVENTS, "Events in a commit transaction.");
    describe_histogram!(
        names::ACCEPT_TO_DECISION_SECONDS,
        Unit::Seconds,
        "From an event's accept to its committed decision."
    );
    let _ = (histogram!(names::COMMIT_SECONDS), histogram!(names::COMMIT_BATCH_EVENTS));
    let _ = histogram!(names::ACCEPT_TO_DECISION_SECONDS);
    describe_counter!(names::LEASE_CHANGES, "Leases of partitions that this worker was given or has lost, by change.");
    for change in names::lease::ALL {
        counter!(names::LEASE_CHANGES, "change" => change).absolute(0);
    }
    plain_counters(&[(names::APPROVALS_OPENED, "Approval requests that decisions have opened.")]);
    describe_gauge!(names::OWNED_PARTITIONS, "Partitions that this worker owns.");
    gauge!(names::OWNED_PARTITIONS).increment(0.0);
    models();
    costs();
}

fn costs() {
    describe_histogram!(names::EVALUATION_SCORE, "How good committed decisions are held to be, 0 to 1, by score.");
    for score in names::score::ALL {
        let _ = histogram!(names::EVALUATION_SCORE, "score" => score);
    }
    let of_models = [
        (names::MODEL_DECISIONS, "Decisions committed, by model: the first 20, and all others."),
        (names::TOKENS, "Tokens of language models that committed decisions have used, by model."),
        (names::COST_MICROS, "What committed decisions cost, in millionths of the currency unit, by model."),
    ];
    for (name, text) in of_models {
        describe_counter!(name, text);
        counter!(name, "model" => models::OTHER).absolute(0);
    }
    plain_counters(&[
        (names::BUDGET_ESCALATIONS, "Decisions that a used up budget has handed to people."),
        (names::BUDGET_LOOKS_FAILED, "Looks at budgets that failed."),
    ]);
    describe_gauge!(names::BUDGETS_STOPPED, "Tenants whose used up budget stops their spending.");
    gauge!(names::BUDGETS_STOPPED).increment(0.0);
}

fn budgets() {
    describe_gauge!(names::BUDGETS, "Budgets, by how much of the month's is spent.");
    for state in BudgetState::ALL {
        gauge!(names::BUDGETS, "state" => state.as_str()).increment(0.0);
    }
    plain_counters(&[(names::BUDGET_LOOKS_FAILED, "Looks at budgets that failed.")]);
}

fn models() {
    describe_gauge!(names::MODELS_ACTIVE, "Tenants whose active model this worker decides by.");
    describe_gauge!(
        names::MODELS_UNAVAILABLE,
        "Tenants whose active model can't be used: people decide all of theirs."
    );
    for name in [names::MODELS_ACTIVE, names::MODELS_UNAVAILABLE] {
        gauge!(name).increment(0.0);
    }
    plain_counters(&[(names::MODEL_LOOKS_FAILED, "Looks for active models that failed.")]);
}

fn retention() {
    plain_counters(&[
        (names::RETENTION_DAYS_DROPPED, "Days that retention has dropped."),
        (names::RETENTION_FAILURES, "Sweeps of retention that failed."),
        (names::AUDIT_SHORTENED, "Audit records that have gone below a signed anchor."),
        (names::AUDIT_SHORTENING_FAILURES, "Looks at old audit records that failed."),
    ]);
    describe_gauge!(
        names::RETENTION_OLDEST_DAY,
        Unit::Seconds,
        "The beginning of the oldest day that is over and kept, in seconds since 1970; 0: none is."
    );
    gauge!(names::RETENTION_OLDEST_DAY).increment(0.0);
}

fn approvals() {
    describe_gauge!(names::APPROVALS_OPEN, "Approval requests without a verdict.");
    describe_gauge!(names::APPROVALS_OVERDUE, "Approval requests without a verdict that are overdue.");
    for name in [names::APPROVALS_OPEN, names::APPROVALS_OVERDUE] {
        gauge!(name).increment(0.0);
    }
    plain_counters(&[(names::APPROVALS_ESCALATED, "Approval requests that went to the second role.")]);
    describe_counter!(names::APPROVALS_DECIDED, "Approval requests that people have decided, by verdict.");
    for verdict in Verdict::ALL {
        counter!(names::APPROVALS_DECIDED, "verdict" => verdict.outcome().as_str()).absolute(0);
    }
}

fn plain_counters(families: &[(&'static str, &'static str)]) {
    for (name, text) in families {
        describe_counter!(*name, *text);
        counter!(*name).absolute(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_shows_a_zero_from_the_start() {
        let recorder = builder().expect("buckets").build_recorder();
        let handle = recorder.handle();
        ::metrics::with_local_recorder(&recorder, || describe(Role::All));
        let text = Prometheus(handle).render(true);
        let names = include_str!("names.rs");
        let families = names.split('"').filter(|part| ["riskfleet_", "process_"].iter().any(|p| part.starts_with(p)));
        let families: Vec<&str> = families.collect();
        assert!(families.len() > 30, "{families:?}");
        for family in families {
            assert!(text.contains(&format!("# HELP {family} ")), "{family} is not described:\n{text}");
            assert!(text.contains(&format!("# TYPE {family} ")), "{family} has no sample:\n{text}");
        }
        for pair in [
            "outcome=\"REQUIRE_APPROVAL\"} 0",
            "class=\"INFRA_ERROR\"} 0",
            "reason=\"conflict\"} 0",
            "dependency=\"leases\"} 0",
        ] {
            assert!(text.contains(pair), "{pair}");
        }
        assert!(text.contains("riskfleet_stage_seconds_bucket{stage=\"decision\",le=\"0.000001\"} 0"), "{text}");
        assert!(text.contains("riskfleet_commit_batch_events_bucket{le=\"1024\"} 0"));
        assert!(text.contains("riskfleet_commit_seconds_bucket{le=\"60\"} 0"));
    }

    #[test]
    fn describing_again_counts_on() {
        let recorder = builder().expect("buckets").build_recorder();
        let handle = recorder.handle();
        ::metrics::with_local_recorder(&recorder, || {
            describe(Role::Ingest);
            counter!(names::INBOX_PARKED).increment(3);
            describe(Role::All);
        });
        assert!(handle.render().contains("riskfleet_inbox_parked_total 3"));
    }
}
