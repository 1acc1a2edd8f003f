//! Owns the schemas of JSON that is read or written by other types: events as taken, events and
//! decisions as shown. Never used to read or write anything; tests hold them against what is sent.
#![expect(dead_code, reason = "these types exist for their schemas")]

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::views::{AcceptedEvent, BatchAnswer};

/// An event as sent. Unknown fields are refused.
#[derive(ToSchema)]
#[schema(example = json!({"kind": "risk", "event_type": "payment", "version": "1.0", "subject": "acct-42",
    "amount": 1250, "currency": "EUR", "metadata": {"channel": "web"}}))]
pub(super) struct EventInput {
    /// Required, unless the route implies it.
    kind: Option<KindName>,
    /// 1 to 128 characters.
    #[schema(default = "standard", min_length = 1, max_length = 128)]
    event_type: Option<String>,
    /// The producer's schema version, 1 to 32 characters.
    #[schema(min_length = 1, max_length = 32)]
    version: String,
    /// May be left out where credential or header gives it, and must agree when given.
    #[schema(pattern = "^[A-Za-z0-9._-]{1,128}$")]
    tenant_id: Option<String>,
    /// Whom it is about, 1 to 256 characters.
    #[schema(min_length = 1, max_length = 256)]
    subject: Option<String>,
    /// Minor units.
    #[schema(minimum = -100_000_000_000_000_i64, maximum = 100_000_000_000_000_i64)]
    amount: Option<i64>,
    /// ISO 4217.
    #[schema(pattern = "^[A-Z]{3}$")]
    currency: Option<String>,
    /// RFC 3339.
    #[schema(format = "date-time")]
    occurred_at: Option<String>,
    /// The producer's own score. Risk only.
    #[schema(minimum = 0, maximum = 100)]
    risk_score: Option<f64>,
    /// Risk only.
    #[schema(min_length = 1, max_length = 128)]
    category: Option<String>,
    /// Compliance only.
    #[schema(min_length = 1, max_length = 256)]
    regulation_ref: Option<String>,
    /// Compliance only.
    #[schema(min_length = 1, max_length = 128)]
    compliance_type: Option<String>,
    /// Compliance only: any flag escalates.
    regulatory_flags: Option<Vec<String>>,
    /// Any object.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Value>,
}

/// An event of an array or of NDJSON, which carries its own key.
#[derive(ToSchema)]
pub(super) struct BatchEventInput {
    #[serde(flatten)]
    event: EventInput,
    /// Required in an array; a line of NDJSON without one gets the body's SHA-256 and its number.
    #[schema(pattern = "^[ -~]{1,255}$")]
    idempotency_key: Option<String>,
    /// The request's, when absent.
    #[schema(pattern = "^[ -~]{1,255}$")]
    correlation_id: Option<String>,
}

/// One event, or several.
#[derive(ToSchema)]
#[serde(untagged)]
pub(super) enum EventsInput {
    /// The key is in the header.
    One(Box<EventInput>),
    /// At most 10,000, each with its key.
    Several(Vec<BatchEventInput>),
}

/// One accepted event, or the items of a batch.
#[derive(ToSchema, Serialize)]
#[serde(untagged)]
pub(super) enum Accepted {
    One(AcceptedEvent),
    Several(BatchAnswer),
}

/// A CloudEvent 1.0 in structured JSON. `source` and `id` are the idempotency key.
#[derive(ToSchema)]
pub(super) struct CloudEventInput {
    #[schema(example = "1.0", pattern = "^1\\.0$")]
    specversion: String,
    #[schema(min_length = 1)]
    id: String,
    #[schema(min_length = 1)]
    source: String,
    /// `event_type`, where the data has none.
    #[serde(rename = "type")]
    #[schema(min_length = 1, max_length = 128)]
    kind: String,
    /// `occurred_at`, where the data has none.
    #[schema(format = "date-time")]
    time: Option<String>,
    /// `subject`, where the data has none.
    subject: Option<String>,
    data: EventInput,
}

/// Which workflow decides.
#[derive(ToSchema, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum KindName {
    Risk,
    Compliance,
}

/// Where an event stands.
#[derive(ToSchema, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum StatusName {
    Received,
    Retrying,
    Escalated,
    Approved,
    Rejected,
    Failed,
}

/// What was decided.
#[derive(ToSchema, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum OutcomeName {
    Approved,
    RequireApproval,
    Rejected,
}

/// An event with what became of it; the fields of its kind as they were sent.
#[derive(ToSchema)]
pub(super) struct EventView {
    #[schema(format = "uuid")]
    event_id: String,
    tenant_id: String,
    status: StatusName,
    #[schema(format = "date-time")]
    created_at: String,
    correlation_id: String,
    kind: KindName,
    event_type: String,
    version: String,
    #[schema(value_type = Object)]
    metadata: Value,
    subject: Option<String>,
    amount: Option<i64>,
    currency: Option<String>,
    occurred_at: Option<String>,
    risk_score: Option<f64>,
    category: Option<String>,
    regulation_ref: Option<String>,
    compliance_type: Option<String>,
    regulatory_flags: Option<Vec<String>>,
    /// Of an event that failed.
    failure: Option<FailureView>,
    /// Of a decision that used or cost something.
    cost: Option<ChargeView>,
}

/// What a decision used and cost.
#[derive(ToSchema)]
pub(super) struct ChargeView {
    tokens: u32,
    /// Millionths of the fleet's currency unit.
    cost_micros: i64,
    /// The same as a decimal, in units.
    #[schema(example = "0.0124")]
    cost: String,
}

/// Why an event is dead.
#[derive(ToSchema)]
pub(super) struct FailureView {
    class: String,
    error: String,
    attempts: u32,
}

/// A decision.
#[derive(ToSchema)]
pub(super) struct DecisionView {
    #[schema(format = "uuid")]
    event_id: String,
    tenant_id: String,
    kind: KindName,
    /// The machine's; never changed.
    outcome: OutcomeName,
    /// The person's verdict.
    final_outcome: Option<OutcomeName>,
    /// 0 to 100.
    risk_score: f64,
    /// `PASS` or `FAIL`.
    policy_result: String,
    /// `OK` or `VIOLATION`.
    guardrail_result: String,
    reasons: Vec<ReasonView>,
    policy: PolicyView,
    model_version: String,
    prompt_version: u32,
    approval_required: bool,
    regulatory_flags: Vec<String>,
    /// What retrieval found.
    #[schema(value_type = Object)]
    context: Value,
    correlation_id: String,
    #[schema(format = "date-time")]
    decided_at: String,
    evaluation: EvaluationView,
    trail: Vec<TrailView>,
}

/// One rule that spoke.
#[derive(ToSchema)]
pub(super) struct ReasonView {
    /// Stable.
    code: String,
    message: String,
    rule: String,
    /// What the rule read.
    #[schema(value_type = Object)]
    values: Value,
}

/// Which policy decided.
#[derive(ToSchema)]
pub(super) struct PolicyView {
    name: String,
    version: u32,
    /// SHA-256, hex.
    hash: String,
}

/// Each 0 to 1, rounded to 4 decimals.
#[derive(ToSchema)]
pub(super) struct EvaluationView {
    confidence_score: f64,
    policy_alignment_score: f64,
    guardrail_score: f64,
    overall_quality_score: f64,
}

/// One stage that was run.
#[derive(ToSchema)]
pub(super) struct TrailView {
    stage: String,
    action: String,
    result: String,
    model_version: String,
    prompt_version: u32,
    micros: Option<u32>,
}
