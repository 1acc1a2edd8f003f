//! Owns the names of all metric families and of their labels' values. Never records anything.
//!
//! Roles use these constants, so that a name stands in one place; `metrics::describe` registers
//! every family at zero.

/// Counter, `kind`: events stored for the first time.
pub const EVENTS_ACCEPTED: &str = "riskfleet_events_accepted_total";
/// Counter: requests answered with an event that was stored before.
pub const EVENTS_REPLAYED: &str = "riskfleet_events_replayed_total";
/// Counter, `reason` (see [`reason`]): events not taken.
pub const EVENTS_REFUSED: &str = "riskfleet_events_refused_total";
/// Counter: packs that the broker has confirmed.
pub const PACKS_PUBLISHED: &str = "riskfleet_packs_published_total";
/// Counter: events in packs that the broker has confirmed.
pub const EVENTS_PUBLISHED: &str = "riskfleet_events_published_total";
/// Counter: those of them that went by the bulk queues.
pub const EVENTS_BULK: &str = "riskfleet_events_bulk_total";
/// Counter: publishes that failed or were not confirmed.
pub const PUBLISH_FAILURES: &str = "riskfleet_publish_failures_total";
/// Counter, `outcome`: decisions committed.
pub const EVENTS_DECIDED: &str = "riskfleet_events_decided_total";
/// Counter, `class`: failures of events.
pub const EVENTS_FAILED: &str = "riskfleet_events_failed_total";
/// Counter, `class`: failed events that were put off, to be tried again.
pub const EVENTS_RETRIED: &str = "riskfleet_events_retried_total";
/// Counter: events buried because no worker that began them has finished them.
pub const EVENTS_QUARANTINED: &str = "riskfleet_events_quarantined_total";
/// Counter: events that had a disposition already.
pub const EVENTS_DUPLICATE: &str = "riskfleet_events_duplicate_total";
/// Counter: events of a partition that another worker has claimed.
pub const EVENTS_FENCED: &str = "riskfleet_events_fenced_total";
/// Gauge: messages sent to the broker and not yet confirmed.
pub const BROKER_UNCONFIRMED: &str = "riskfleet_broker_unconfirmed_messages";
/// Counter, `link` (see [`link`]): connections to the broker that were made again.
pub const BROKER_RECONNECTS: &str = "riskfleet_broker_reconnects_total";
/// Counter: classic queues asked for because the broker fails at making the quorum queue.
pub const CLASSIC_FALLBACKS: &str = "riskfleet_broker_classic_fallbacks_total";
/// Counter: packs that the broker sent again.
pub const PACKS_REDELIVERED: &str = "riskfleet_packs_redelivered_total";
/// Counter: packs whose HMAC does not agree.
pub const PACKS_FORGED: &str = "riskfleet_packs_forged_total";
/// Counter, `kind` (see [`outbox`]): outbox rows published again.
pub const OUTBOX_REPUBLISHED: &str = "riskfleet_outbox_republished_total";
/// Counter: events published or run again by refill.
pub const REFILL_EVENTS: &str = "riskfleet_refill_events_total";
/// Counter: inbox messages that could not be taken.
pub const INBOX_PARKED: &str = "riskfleet_inbox_parked_total";
/// Counter, `method`, `route`, `status`: answers given.
pub const HTTP_REQUESTS: &str = "riskfleet_http_requests_total";
/// Counter, `tenant`, `state`: events of the busiest tenants (see [`super::tenants()`]).
pub const TENANT_EVENTS: &str = "riskfleet_tenant_events_total";
/// Counter, `tenant`: requests of the busiest tenants.
pub const TENANT_REQUESTS: &str = "riskfleet_tenant_requests_total";
/// Counter: data keys that were found in memory.
pub const DATA_KEY_HITS: &str = "riskfleet_data_key_hits_total";
/// Counter: data keys that had to be read or made.
pub const DATA_KEY_MISSES: &str = "riskfleet_data_key_misses_total";
/// Gauge: opened data keys in memory.
pub const DATA_KEYS_OPEN: &str = "riskfleet_data_keys_open";
/// Counter: looks for erased keys that failed.
pub const VAULT_LOOKS_FAILED: &str = "riskfleet_vault_looks_failed_total";
/// Counter: reads of API keys.
pub const KEY_READS: &str = "riskfleet_key_reads_total";
/// Counter: API keys not looked up, because too many unknown ones were shown in a second.
pub const KEY_READS_REFUSED: &str = "riskfleet_key_reads_refused_total";
/// Counter, `file`, `result` (see [`reload`]): files that were read again because they changed.
pub const FILE_RELOADS: &str = "riskfleet_file_reloads_total";
/// Counter: requests of authenticated callers that were refused (403).
pub const ACCESS_REFUSED: &str = "riskfleet_access_refused_total";
/// Counter: those of them that left no record in the audit.
pub const ACCESS_REFUSED_UNRECORDED: &str = "riskfleet_access_refused_unrecorded_total";

/// Counter, `class`: refusals of requests, and of events in them, by what they are failures of.
pub const HTTP_FAILURES: &str = "riskfleet_http_failures_total";
/// Counter, `by` (see [`limited`]): requests answered with 429 before anything was looked up.
pub const HTTP_LIMITED: &str = "riskfleet_http_limited_total";

/// Histogram, seconds: a submit, from the queue to the committed accept.
pub const ACCEPT_SECONDS: &str = "riskfleet_accept_seconds";
/// Histogram: events in an accept transaction.
pub const ACCEPT_BATCH_EVENTS: &str = "riskfleet_accept_batch_events";
/// Histogram, `stage`, seconds: one stage on one event.
pub const STAGE_SECONDS: &str = "riskfleet_stage_seconds";
/// Histogram, seconds: a commit transaction.
pub const COMMIT_SECONDS: &str = "riskfleet_commit_seconds";
/// Histogram: events in a commit transaction.
pub const COMMIT_BATCH_EVENTS: &str = "riskfleet_commit_batch_events";
/// Histogram, seconds: from an event's accept to its committed decision.
pub const ACCEPT_TO_DECISION_SECONDS: &str = "riskfleet_accept_to_decision_seconds";
/// Histogram, `route`, seconds: a request, from its head to its answer.
pub const HTTP_REQUEST_SECONDS: &str = "riskfleet_http_request_seconds";

/// Gauge: events without a disposition.
pub const BACKLOG_EVENTS: &str = "riskfleet_backlog_events";
/// Gauge, seconds: how long the oldest event has waited that does not wait for a next try.
pub const BACKLOG_AGE_SECONDS: &str = "riskfleet_backlog_age_seconds";
/// Gauge: events without a disposition that wait for a next try.
pub const POSTPONED_EVENTS: &str = "riskfleet_postponed_events";
/// Counter, `change` (see [`lease`]): leases of partitions that this worker was given or has lost.
pub const LEASE_CHANGES: &str = "riskfleet_lease_changes_total";
/// Gauge: partitions that this worker owns.
pub const OWNED_PARTITIONS: &str = "riskfleet_owned_partitions";
/// Gauge: events waiting in the accept queue.
pub const ACCEPT_QUEUE_EVENTS: &str = "riskfleet_accept_queue_events";
/// Gauge: 1 while tenants' rates are counted for all processes together, 0 while each counts alone.
pub const RATE_SHARED: &str = "riskfleet_rate_shared";
/// Gauge: events stored and not known to be published.
pub const UNPUBLISHED_EVENTS: &str = "riskfleet_unpublished_events";
/// Gauge: accepted − decided − dead − pending; anything but 0 is a loss.
pub const LEDGER_DIFFERENCE: &str = "riskfleet_ledger_difference";
/// Gauge, `dependency` (see [`dependency`]): how its circuit stands: 0 closed, 1 half-open, 2 open.
pub const BREAKER_STATE: &str = "riskfleet_breaker_state";
/// Counter, `dependency`, `to` (see [`circuit`]): changes of a circuit.
pub const BREAKER_TRANSITIONS: &str = "riskfleet_breaker_transitions_total";
/// Gauge, `dependency`: calls (of the broker: messages) under way in its bulkhead.
pub const BULKHEAD_IN_USE: &str = "riskfleet_bulkhead_in_use";
/// Gauge, `dependency`: calls (of the broker: messages) that wait for a place in it.
pub const BULKHEAD_QUEUED: &str = "riskfleet_bulkhead_queued";
/// Counter, `dependency`: calls refused because it is full.
pub const BULKHEAD_REFUSED: &str = "riskfleet_bulkhead_refused_total";
/// Counter: days that retention has dropped.
pub const RETENTION_DAYS_DROPPED: &str = "riskfleet_retention_dropped_total";
/// Counter: sweeps of retention that failed.
pub const RETENTION_FAILURES: &str = "riskfleet_retention_failures_total";
/// Gauge, seconds since 1970: the beginning of the oldest day that is over and kept; 0: none is.
pub const RETENTION_OLDEST_DAY: &str = "riskfleet_retention_oldest_day_seconds";
/// Gauge: tenants whose active model this worker decides by.
pub const MODELS_ACTIVE: &str = "riskfleet_models_active";
/// Gauge: tenants whose active model can't be used, so that people decide all of theirs.
pub const MODELS_UNAVAILABLE: &str = "riskfleet_models_unavailable";
/// Counter: looks for active models that failed.
pub const MODEL_LOOKS_FAILED: &str = "riskfleet_model_looks_failed_total";
/// Counter, `model` (see [`super::models`]): decisions committed.
pub const MODEL_DECISIONS: &str = "riskfleet_model_decisions_total";
/// Counter, `model`: tokens of language models that they used.
pub const TOKENS: &str = "riskfleet_tokens_total";
/// Counter, `model`: what they cost, in millionths of the currency unit.
pub const COST_MICROS: &str = "riskfleet_cost_micros_total";
/// Histogram, `score` (see [`score`]): how good committed decisions are held to be, 0 to 1.
pub const EVALUATION_SCORE: &str = "riskfleet_evaluation_score";
/// Counter: decisions that a used up budget has handed to people.
pub const BUDGET_ESCALATIONS: &str = "riskfleet_budget_escalations_total";
/// Gauge: tenants whose used up budget stops their spending, as this worker knows it.
pub const BUDGETS_STOPPED: &str = "riskfleet_budgets_stopped";
/// Gauge, `state`: budgets, by how much of the month's is spent.
pub const BUDGETS: &str = "riskfleet_budgets";
/// Counter: looks at budgets that failed.
pub const BUDGET_LOOKS_FAILED: &str = "riskfleet_budget_looks_failed_total";
/// Counter: audit records that have gone below an anchor.
pub const AUDIT_SHORTENED: &str = "riskfleet_audit_records_shortened_total";
/// Counter: looks at old audit records that failed.
pub const AUDIT_SHORTENING_FAILURES: &str = "riskfleet_audit_shortening_failures_total";
/// Counter: approval requests that decisions have opened.
pub const APPROVALS_OPENED: &str = "riskfleet_approvals_opened_total";
/// Gauge: approval requests without a verdict.
pub const APPROVALS_OPEN: &str = "riskfleet_approvals_open";
/// Gauge: those of them that are overdue.
pub const APPROVALS_OVERDUE: &str = "riskfleet_approvals_overdue";
/// Counter: requests that were overdue and went to the second role.
pub const APPROVALS_ESCALATED: &str = "riskfleet_approvals_escalated_total";
/// Counter, `verdict`: requests that people have decided.
pub const APPROVALS_DECIDED: &str = "riskfleet_approvals_decided_total";
/// Counter: checkpoints of the audit that this process has signed.
pub const CHECKPOINTS: &str = "riskfleet_checkpoints_total";
/// Counter: looks of the notary that failed, at the store or at the file outside.
pub const CHECKPOINT_FAILURES: &str = "riskfleet_checkpoint_failures_total";
/// Gauge, seconds: the age of the newest checkpoint.
pub const CHECKPOINT_AGE_SECONDS: &str = "riskfleet_checkpoint_age_seconds";
/// Gauge: audit records that no checkpoint covers yet.
pub const UNSIGNED_RECORDS: &str = "riskfleet_unsigned_records";
/// Counter: spans that the collector has taken.
pub const TRACE_SPANS_EXPORTED: &str = "riskfleet_trace_spans_exported_total";
/// Counter, `reason` (see [`trace_drop`]): spans that it has not.
pub const TRACE_SPANS_DROPPED: &str = "riskfleet_trace_spans_dropped_total";
/// Counter: requests to the collector that failed.
pub const TRACE_EXPORT_FAILURES: &str = "riskfleet_trace_export_failures_total";
/// Counter: events that were to be traced, and were not, because too many are.
pub const TRACES_LIMITED: &str = "riskfleet_traces_limited_total";
/// Gauge: spans that wait for the exporter.
pub const TRACE_QUEUE_SPANS: &str = "riskfleet_trace_queue_spans";
/// Counter: records that the console's own verification found broken.
pub const AUDIT_VERIFY_FAILURES: &str = "riskfleet_audit_verify_failures_total";
/// Counter: verifications that could not be done to the end.
pub const AUDIT_VERIFY_BROKEN_OFF: &str = "riskfleet_audit_verify_broken_off_total";
/// Gauge, seconds: the age of the newest verification that was done to the end.
pub const AUDIT_VERIFIED_AGE_SECONDS: &str = "riskfleet_audit_verified_age_seconds";
/// Gauge, `pool`, `state` (see [`pool`]): connections to the store.
pub const POOL_CONNECTIONS: &str = "riskfleet_store_pool_connections";
/// Histogram, `pool`, seconds: how long a call waits for a connection to the store, by samples.
pub const POOL_WAIT_SECONDS: &str = "riskfleet_store_pool_wait_seconds";
/// Counter, seconds: use of the processor by this process. As Prometheus' client libraries name it.
pub const PROCESS_CPU_SECONDS: &str = "process_cpu_seconds_total";
/// Gauge, bytes: resident memory of this process.
pub const PROCESS_RESIDENT_BYTES: &str = "process_resident_memory_bytes";
/// Gauge: files, sockets and pipes that this process holds open.
pub const PROCESS_OPEN_FDS: &str = "process_open_fds";
/// Gauge, seconds since 1970: when this process began.
pub const PROCESS_START_SECONDS: &str = "process_start_time_seconds";
/// Gauge, `version`: always 1.
pub const BUILD_INFO: &str = "riskfleet_build_info";

/// Values of the label `reason` of [`EVENTS_REFUSED`].
pub mod reason {
    /// No JSON, or nested too deeply.
    pub const BROKEN: &str = "broken";
    /// JSON, but no valid event.
    pub const INVALID: &str = "invalid";
    /// The tenant is missing, or another than the caller's.
    pub const TENANT: &str = "tenant";
    /// No idempotency key.
    pub const KEY: &str = "key";
    /// The same key with another payload.
    pub const CONFLICT: &str = "conflict";
    /// The subject, or the whole tenant, is erased.
    pub const ERASED: &str = "erased";
    /// Body or event over its bound.
    pub const TOO_LARGE: &str = "too_large";
    /// The accept queue, or what waits for the broker, is at its bound.
    pub const FULL: &str = "full";
    /// The tenant's share of the accept queue is used up.
    pub const TENANT_FULL: &str = "tenant_full";
    /// The tenant sends faster than it may.
    pub const RATE_LIMITED: &str = "rate_limited";
    /// The store is away, or the process is stopping.
    pub const UNAVAILABLE: &str = "unavailable";
    /// Every value.
    pub const ALL: [&str; 11] =
        [BROKEN, INVALID, TENANT, KEY, CONFLICT, ERASED, TOO_LARGE, FULL, TENANT_FULL, RATE_LIMITED, UNAVAILABLE];
}

/// Values of the label `score` of [`EVALUATION_SCORE`].
pub mod score {
    /// How sure the decision is.
    pub const CONFIDENCE: &str = "confidence";
    /// Whether the policy was met.
    pub const POLICY_ALIGNMENT: &str = "policy_alignment";
    /// Whether no guardrail was touched.
    pub const GUARDRAIL: &str = "guardrail";
    /// All of them together.
    pub const OVERALL_QUALITY: &str = "overall_quality";
    /// Every value.
    pub const ALL: [&str; 4] = [CONFIDENCE, POLICY_ALIGNMENT, GUARDRAIL, OVERALL_QUALITY];
}

/// Values of the label `by` of [`HTTP_LIMITED`].
pub mod limited {
    /// The credential asks more often than it may.
    pub const CALLER: &str = "caller";
    /// The address was refused too often.
    pub const ADDRESS: &str = "address";
    /// Every value.
    pub const ALL: [&str; 2] = [CALLER, ADDRESS];
}

/// Values of the labels `file` and `result` of [`FILE_RELOADS`].
pub mod reload {
    /// The keys that sign tokens.
    pub const KEY_SET: &str = "key_set";
    /// The certificate of the listener.
    pub const CERTIFICATE: &str = "certificate";
    /// Every file.
    pub const FILES: [&str; 2] = [KEY_SET, CERTIFICATE];
    /// It is in use.
    pub const OK: &str = "ok";
    /// It can't be used: the one before stays.
    pub const FAILED: &str = "failed";
    /// Every result.
    pub const RESULTS: [&str; 2] = [OK, FAILED];
}

/// Values of the label `kind` of [`OUTBOX_REPUBLISHED`].
pub mod outbox {
    /// Rows of an accept.
    pub const ACCEPT: &str = "accept";
    /// Rows of a commit.
    pub const OUTCOME: &str = "outcome";
    /// Rows of a person's verdict, or of a commit that a person has decided on since: nothing was left
    /// behind.
    pub const VERDICT: &str = "verdict";
    /// Every value.
    pub const ALL: [&str; 3] = [ACCEPT, OUTCOME, VERDICT];
}

/// Values of the label `reason` of [`TRACE_SPANS_DROPPED`].
pub mod trace_drop {
    /// The queue in front of the exporter is full.
    pub const FULL: &str = "queue_full";
    /// The collector did not take them, however often they were sent.
    pub const FAILED: &str = "failed";
    /// The collector has taken the others.
    pub const REJECTED: &str = "rejected";
    /// Every value.
    pub const ALL: [&str; 3] = [FULL, FAILED, REJECTED];
}

/// Values of the label `dependency`.
pub mod dependency {
    /// The store.
    pub const DATABASE: &str = "database";
    /// The queues.
    pub const BROKER: &str = "broker";
    /// Membership and partition leases.
    pub const LEASES: &str = "leases";
    /// The history of subjects.
    pub const CONTEXT: &str = "context";
    /// No dependency but the tenants themselves: the sum of their compartments at the door.
    pub const TENANTS: &str = "tenants";
    /// What ingest stands on.
    pub const INGEST: [&str; 2] = [DATABASE, BROKER];
    /// What the console stands on.
    pub const CONSOLE: [&str; 1] = [DATABASE];
    /// What a worker stands on.
    pub const WORKER: [&str; 4] = [DATABASE, BROKER, LEASES, CONTEXT];
}

/// Values of the label `change` of [`LEASE_CHANGES`].
pub mod lease {
    /// The partition was claimed, and its epoch moved.
    pub const CLAIMED: &str = "claimed";
    /// It was let go of: drained, and released.
    pub const RELEASED: &str = "released";
    /// Another worker has its lease.
    pub const LOST: &str = "lost";
    /// Another worker has claimed it in the store: a commit was fenced.
    pub const FENCED: &str = "fenced";
    /// Every value.
    pub const ALL: [&str; 4] = [CLAIMED, RELEASED, LOST, FENCED];
}

/// Values of the labels `pool` and `state` of [`POOL_CONNECTIONS`].
pub mod pool {
    /// What accepts.
    pub const ACCEPT: &str = "accept";
    /// Everything else of the fleet's own work but commits, whose lanes have a connection each.
    pub const READING: &str = "reading";
    /// What tenants' callers ask.
    pub const TENANTS: &str = "tenants";
    /// Every pool.
    pub const ALL: [&str; 3] = [ACCEPT, READING, TENANTS];
    /// Open, and nobody's at the moment.
    pub const IDLE: &str = "idle";
    /// At work.
    pub const USED: &str = "used";
    /// Every state.
    pub const STATES: [&str; 2] = [IDLE, USED];
}

/// Values of the label `link` of [`BROKER_RECONNECTS`].
pub mod link {
    /// What publishes.
    pub const PUBLISHING: &str = "publishing";
    /// What consumes, declares and asks.
    pub const CONSUMING: &str = "consuming";
    /// Every value.
    pub const ALL: [&str; 2] = [PUBLISHING, CONSUMING];
}

/// Values of the label `to` of [`BREAKER_TRANSITIONS`].
pub mod circuit {
    /// Calls go through.
    pub const CLOSED: &str = "closed";
    /// One call tries.
    pub const HALF_OPEN: &str = "half_open";
    /// Calls are refused.
    pub const OPEN: &str = "open";
    /// Every value.
    pub const ALL: [&str; 3] = [CLOSED, HALF_OPEN, OPEN];
}
