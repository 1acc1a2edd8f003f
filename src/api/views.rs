//! Owns the JSON that the API answers with, and the schemas of what it takes. Never decides who
//! may see it.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::problem::ProblemBody;
use super::schemas::{DecisionView, StatusName};
use crate::domain::{CorrelationId, EventId, Outcome, Status, TenantId, time};
use crate::ports::intake::Receipt;
use crate::ports::store::{Disposition, EventRecord};

/// An accepted event.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AcceptedEvent {
    /// UUIDv7; never reused.
    #[schema(value_type = String, format = "uuid")]
    pub(super) event_id: EventId,
    #[schema(value_type = String)]
    tenant_id: TenantId,
    /// Where it stands now.
    #[schema(value_type = StatusName)]
    pub(super) status: Status,
    /// The moment of the (first) accept.
    #[schema(format = "date-time")]
    created_at: String,
    /// As it was sent.
    #[schema(value_type = Object)]
    metadata: Box<RawValue>,
    /// As it was sent.
    version: String,
    /// Of the (first) request.
    #[schema(value_type = String)]
    correlation_id: CorrelationId,
    /// True for an item of a batch that was stored before; a single event says it in the header
    /// `Idempotency-Replayed`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    idempotency_replayed: bool,
    /// With `Prefer: wait`, when it came in time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<DecisionView>)]
    pub(super) decision: Option<Value>,
}

impl AcceptedEvent {
    pub(super) fn new(receipt: Receipt, metadata: Box<RawValue>, version: String, replayed: bool) -> Self {
        Self {
            event_id: receipt.event_id,
            tenant_id: receipt.tenant_id,
            status: receipt.status,
            created_at: time::text(receipt.created_at),
            metadata,
            version,
            correlation_id: receipt.correlation_id,
            idempotency_replayed: replayed,
            decision: None,
        }
    }
}

/// The answer to a batch: one item an event, in the order sent.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BatchAnswer {
    pub(super) items: Vec<BatchItem>,
}

/// An accepted event, or why it was not taken.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum BatchItem {
    Accepted(AcceptedEvent),
    Refused(ProblemBody),
}

/// The status that a shown decision gives its event: a person's verdict counts before the machine's.
pub(super) fn shown_status(decision: &Value) -> Option<Status> {
    let outcome = |name: &str| decision.get(name).and_then(Value::as_str).and_then(Outcome::parse);
    outcome("final_outcome").or_else(|| outcome("outcome")).map(Outcome::status)
}

/// The event as shown: what was sent, with what became of it.
pub(super) fn event_view(record: &EventRecord) -> Result<Value, serde_json::Error> {
    let event = &record.event;
    let mut shown: Map<String, Value> = serde_json::from_slice(&event.body)?;
    shown.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    let ours = [
        ("event_id", event.id.to_string()),
        ("tenant_id", event.tenant.to_string()),
        ("status", record.status().to_string()),
        ("created_at", time::text(event.id.created_at())),
        ("correlation_id", event.correlation_id.to_string()),
    ];
    shown.extend(ours.map(|(name, text)| (name.to_owned(), Value::String(text))));
    let charge = record.charge().view();
    if !charge.is_null() {
        shown.insert("cost".into(), charge);
    }
    if let Some(Disposition::Dead { class, error, attempts }) = record.end.as_ref().map(|end| &end.disposition) {
        shown.insert("failure".into(), serde_json::json!({"class": class, "error": error, "attempts": attempts}));
    }
    Ok(Value::Object(shown))
}
