//! Owns the names of attributes: OpenTelemetry's where it has one (semantic conventions 1.37), else ours.
//! There is none for a subject, a payload, metadata, an amount or a key: spans leave the fleet.

/// The event's id.
pub const EVENT: &str = "riskfleet.event.id";
/// Whose it is.
pub const TENANT: &str = "riskfleet.tenant.id";
/// The correlation id of its request.
pub const CORRELATION: &str = "riskfleet.correlation.id";
/// Where its tenant lives.
pub const PARTITION: &str = "riskfleet.partition";
/// What was decided.
pub const OUTCOME: &str = "riskfleet.outcome";
/// What the store has made of it: written, duplicate, replayed …
pub const VERDICT: &str = "riskfleet.verdict";
/// How often the event was begun.
pub const ATTEMPTS: &str = "riskfleet.attempts";
/// Whether the broker had sent it before.
pub const REDELIVERED: &str = "riskfleet.redelivered";
/// Events handled together with it.
pub const BATCH: &str = "riskfleet.batch.events";
/// The class of a failure.
pub const ERROR: &str = "error.type";
/// The method of a request.
pub const HTTP_METHOD: &str = "http.request.method";
/// Its route, without its parameters.
pub const HTTP_ROUTE: &str = "http.route";
/// The status of its answer.
pub const HTTP_STATUS: &str = "http.response.status_code";
/// The kind of broker.
pub const MESSAGING_SYSTEM: &str = "messaging.system";
/// `send`, `receive` or `settle`.
pub const MESSAGING_OPERATION: &str = "messaging.operation.type";
/// The queue, without the fleet's prefix.
pub const MESSAGING_DESTINATION: &str = "messaging.destination.name";
/// The kind of database.
pub const DB_SYSTEM: &str = "db.system.name";
/// What the database was asked for.
pub const DB_OPERATION: &str = "db.operation.name";
/// How many of that at once.
pub const DB_BATCH: &str = "db.operation.batch.size";
