//! The `baseline` policy: what decides for a tenant that has no policy of its own.
//!
//! Owns its constants and rules. A change of any of them is a new version with a new text.

use serde_json::{Map, Value, json};

use super::scorer::Scorer;
use super::truthy::truthy;
use crate::domain::audit::sha256;
use crate::domain::decision::{PolicyRef, PolicyResult, Reason};
use crate::domain::version::VersionRef;
use crate::domain::{EventBody, Kind, Outcome};

/// The text of the policy. Its SHA-256 stands in every decision made by it.
const TEXT: &str = "\
baseline@1
policy FAIL if truthy(metadata.policy_override) or metadata.category == \"sensitive\", else PASS
score 85 if event_type == \"high_risk\"
score 70 if metadata.category == \"sensitive\"
score 15 if event_type == \"low_risk\"
score 30 otherwise
guardrail VIOLATION if truthy(metadata.blocked_pattern) or score >= 75, else OK
outcome REQUIRE_APPROVAL if policy FAIL, score >= 75, guardrail VIOLATION, or compliance with any regulatory flag
outcome APPROVED otherwise
";

/// The score from which a guardrail is touched and a person must decide.
pub const ESCALATION_SCORE: f64 = 75.0;

/// What decides.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Name, version and hash of the policy's text.
    pub reference: PolicyRef,
    /// The model in force.
    pub model_version: String,
    /// The prompt version in force.
    pub prompt_version: u32,
    /// What that model is.
    pub scorer: Scorer,
}

/// The model that the baseline scores by, as decisions name it.
pub const BASELINE_MODEL: &str = "baseline@1";

impl Policy {
    /// The baseline.
    pub fn baseline() -> Self {
        let hash = hex::encode(sha256(TEXT.as_bytes()));
        Self {
            reference: PolicyRef { name: "baseline".into(), version: 1, hash },
            model_version: BASELINE_MODEL.into(),
            prompt_version: 1,
            scorer: Scorer::Baseline,
        }
    }

    /// The baseline's rules with the score of a registered model.
    pub fn with_model(model: &VersionRef, scorer: Scorer) -> Self {
        Self { model_version: model.to_string(), scorer, ..Self::baseline() }
    }
}

fn sensitive(event: &EventBody) -> bool {
    event.metadata.get("category").and_then(Value::as_str) == Some("sensitive")
}

fn meta(event: &EventBody, name: &str) -> Value {
    event.metadata.get(name).cloned().unwrap_or(Value::Null)
}

fn is_set(event: &EventBody, name: &str) -> bool {
    event.metadata.get(name).is_some_and(truthy)
}

/// Metadata may hold personal data, and reasons are shown and logged: of a value that a rule only
/// tests for truth, a reason tells its type, of a short text the rule compares, the text.
fn tested(value: &Value) -> Value {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        Value::String(_) => json!("(text)"),
        Value::Array(_) => json!("(array)"),
        Value::Object(_) => json!("(object)"),
    }
}

fn reason(code: &str, rule: &str, message: &str, values: Value) -> Reason {
    let values = match values {
        Value::Object(map) => map,
        other => Map::from_iter([("value".to_owned(), other)]),
    };
    Reason { code: code.into(), message: message.into(), rule: format!("baseline/{rule}"), values }
}

/// The policy stage.
pub fn validate(event: &EventBody) -> (PolicyResult, Vec<Reason>) {
    let mut reasons = Vec::new();
    if is_set(event, "policy_override") {
        let read = tested(&meta(event, "policy_override"));
        reasons.push(reason(
            "POLICY_OVERRIDE",
            "policy_override",
            "the producer asked to override the policy",
            json!({ "metadata.policy_override": read }),
        ));
    }
    if sensitive(event) {
        reasons.push(reason(
            "SENSITIVE_CATEGORY",
            "sensitive_category",
            "the event is of the category \"sensitive\"",
            json!({ "metadata.category": "sensitive" }),
        ));
    }
    let result = if reasons.is_empty() { PolicyResult::Pass } else { PolicyResult::Fail };
    (result, reasons)
}

/// The scoring stage: 0–100.
pub fn score(event: &EventBody) -> f64 {
    if event.event_type == "high_risk" {
        85.0
    } else if sensitive(event) {
        70.0
    } else if event.event_type == "low_risk" {
        15.0
    } else {
        30.0
    }
}

/// The guardrail stage: one reason a guardrail that was touched.
pub fn guard(event: &EventBody, score: f64) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if is_set(event, "blocked_pattern") {
        let read = tested(&meta(event, "blocked_pattern"));
        reasons.push(reason(
            "BLOCKED_PATTERN",
            "blocked_pattern",
            "a blocked pattern was found in the event",
            json!({ "metadata.blocked_pattern": read }),
        ));
    }
    if score >= ESCALATION_SCORE {
        reasons.push(reason(
            "SCORE_THRESHOLD",
            "score_threshold",
            "the risk score has reached the threshold at which a person decides",
            json!({ "risk_score": score, "threshold": ESCALATION_SCORE, "event_type": event.event_type }),
        ));
    }
    reasons
}

/// The decision stage, from what the stages before it found.
pub fn decide(event: &EventBody, policy: PolicyResult, score: f64, guarded: bool) -> (Outcome, Vec<Reason>) {
    let mut reasons = Vec::new();
    if event.kind == Kind::Compliance && !event.regulatory_flags.is_empty() {
        reasons.push(reason(
            "REGULATORY_FLAG",
            "regulatory_flags",
            "a compliance event with a regulatory flag is decided by a person",
            json!({ "regulatory_flags": event.regulatory_flags }),
        ));
    }
    let escalate = policy == PolicyResult::Fail || score >= ESCALATION_SCORE || guarded || !reasons.is_empty();
    if escalate {
        return (Outcome::RequireApproval, reasons);
    }
    reasons.push(reason(
        "WITHIN_LIMITS",
        "within_limits",
        "the policy is met, the score is below the threshold, and no guardrail was touched",
        json!({ "risk_score": score, "threshold": ESCALATION_SCORE }),
    ));
    (Outcome::Approved, reasons)
}
