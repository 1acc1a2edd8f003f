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
/// Counter: publishes that failed or were not confirmed.
pub const PUBLISH_FAILURES: &str = "riskfleet_publish_failures_total";
/// Counter, `outcome`: decisions committed.
pub const EVENTS_DECIDED: &str = "riskfleet_events_decided_total";
/// Counter, `class`: failures of events.
pub const EVENTS_FAILED: &str = "riskfleet_events_failed_total";
/// Counter: events that had a disposition already.
pub const EVENTS_DUPLICATE: &str = "riskfleet_events_duplicate_total";
/// Counter: events of a partition that another worker has claimed.
pub const EVENTS_FENCED: &str = "riskfleet_events_fenced_total";
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
/// Gauge: partitions that this worker owns.
pub const OWNED_PARTITIONS: &str = "riskfleet_owned_partitions";
/// Gauge: events waiting in the accept queue.
pub const ACCEPT_QUEUE_EVENTS: &str = "riskfleet_accept_queue_events";
/// Gauge: events stored and not known to be published.
pub const UNPUBLISHED_EVENTS: &str = "riskfleet_unpublished_events";
/// Gauge: accepted − decided − dead − pending; anything but 0 is a loss.
pub const LEDGER_DIFFERENCE: &str = "riskfleet_ledger_difference";
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
    /// Body or event over its bound.
    pub const TOO_LARGE: &str = "too_large";
    /// The accept queue, or what waits for the broker, is at its bound.
    pub const FULL: &str = "full";
    /// The store is away, or the process is stopping.
    pub const UNAVAILABLE: &str = "unavailable";
    /// Every value.
    pub const ALL: [&str; 8] = [BROKEN, INVALID, TENANT, KEY, CONFLICT, TOO_LARGE, FULL, UNAVAILABLE];
}

/// Values of the label `kind` of [`OUTBOX_REPUBLISHED`].
pub mod outbox {
    /// Rows of an accept.
    pub const ACCEPT: &str = "accept";
    /// Rows of a commit.
    pub const OUTCOME: &str = "outcome";
    /// Every value.
    pub const ALL: [&str; 2] = [ACCEPT, OUTCOME];
}
