//! Owns the decision: its canonical text (what is stored, hashed and replayed) and its view
//! (what people and programs read, with timings and the person's verdict beside it).

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::context::Snapshot;
use super::event::Kind;
use super::ids::{CorrelationId, EventId, TenantId};
use super::status::Status;
use super::time::rfc3339;

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Outcome {
    /// Go on.
    Approved,
    /// A person decides.
    RequireApproval,
    /// Refused.
    Rejected,
}

impl Outcome {
    /// Every outcome, in the order of their numbers in the store.
    pub const ALL: [Self; 3] = [Self::Approved, Self::RequireApproval, Self::Rejected];

    /// The upper-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approved => "APPROVED",
            Self::RequireApproval => "REQUIRE_APPROVAL",
            Self::Rejected => "REJECTED",
        }
    }

    /// Reads the upper-case name.
    pub fn parse(raw: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|o| o.as_str() == raw)
    }

    /// The status of an event with this outcome, before any person's verdict.
    pub fn status(self) -> Status {
        match self {
            Self::Approved => Status::Approved,
            Self::RequireApproval => Status::Escalated,
            Self::Rejected => Status::Rejected,
        }
    }
}

/// Whether the policy was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum PolicyResult {
    /// Met.
    Pass,
    /// Not met.
    Fail,
}

/// Whether a guardrail was touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum GuardrailResult {
    /// None.
    Ok,
    /// At least one.
    Violation,
}

/// Why: one rule that spoke, with the values it read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// Stable code for programs.
    pub code: String,
    /// One sentence for people.
    pub message: String,
    /// The rule, `policy/name`.
    pub rule: String,
    /// What the rule read.
    pub values: Map<String, Value>,
}

/// Which policy decided; the hash is the SHA-256 of its text, in hex.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyRef {
    /// Its name.
    pub name: String,
    /// Its version, from 1.
    pub version: u32,
    /// SHA-256 of its text, hex.
    pub hash: String,
}

/// How good the decision is held to be; each 0–1, rounded to 4 decimals.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// (policy alignment + guardrail + 1 − score/100) / 3.
    pub confidence_score: f64,
    /// 1 when the policy was met.
    pub policy_alignment_score: f64,
    /// 1 when no guardrail was touched.
    pub guardrail_score: f64,
    /// (confidence + policy alignment + guardrail) / 3.
    pub overall_quality_score: f64,
}

/// One stage that was run. Timings stand beside the decision, never in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrailEntry {
    /// The stage.
    pub stage: String,
    /// What it did.
    pub action: String,
    /// What came of it.
    pub result: String,
    /// The model in force.
    pub model_version: String,
    /// The prompt version in force.
    pub prompt_version: u32,
}

/// Microseconds that each stage took, by position in the trail.
pub type StageTiming = Vec<u32>;

/// The machine's decision on one event. Immutable; field order is its canonical text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// The event.
    pub event_id: EventId,
    /// Whose.
    pub tenant_id: TenantId,
    /// Which workflow.
    pub kind: Kind,
    /// What was decided.
    pub outcome: Outcome,
    /// 0–100.
    pub risk_score: f64,
    /// The policy stage.
    pub policy_result: PolicyResult,
    /// The guardrail stage.
    pub guardrail_result: GuardrailResult,
    /// Why, in the order of the stages.
    pub reasons: Vec<Reason>,
    /// Which policy.
    pub policy: PolicyRef,
    /// `name@version`.
    pub model_version: String,
    /// From 1.
    pub prompt_version: u32,
    /// Whether a person must decide.
    pub approval_required: bool,
    /// The event's regulatory flags.
    pub regulatory_flags: Vec<String>,
    /// What retrieval found.
    pub context: Snapshot,
    /// Joins everything of one request.
    pub correlation_id: CorrelationId,
    /// The `now` that the workflow was given.
    #[serde(with = "rfc3339")]
    pub decided_at: DateTime<Utc>,
    /// How good it is held to be.
    pub evaluation: Evaluation,
    /// Every stage.
    pub trail: Vec<TrailEntry>,
}

impl Decision {
    /// The one text of this decision: stored, hashed, and equal on every replay.
    pub fn canonical(&self) -> Vec<u8> {
        // Text keys and finite numbers only: the serializer has nothing to refuse.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads back what [`Decision::canonical`] wrote.
    ///
    /// # Errors
    /// When the bytes are not such a text.
    pub fn from_canonical(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// The text that is published once a person has decided: the fields of [`Decision::canonical`] and
    /// `final_outcome`.
    pub fn with_verdict(&self, verdict: Outcome) -> Vec<u8> {
        #[derive(Serialize)]
        struct Final<'a> {
            #[serde(flatten)]
            decision: &'a Decision,
            final_outcome: Outcome,
        }
        // As for the canonical text.
        serde_json::to_vec(&Final { decision: self, final_outcome: verdict }).unwrap_or_default()
    }

    /// The JSON that is shown: `final_outcome` after `outcome`, `micros` in each trail entry.
    pub fn view(&self, final_outcome: Option<Outcome>, micros: &[u32]) -> Value {
        let Ok(Value::Object(mut shown)) = serde_json::to_value(self) else { return Value::Null };
        shown.insert("final_outcome".into(), final_outcome.map_or(Value::Null, |o| o.as_str().into()));
        if let Some(Value::Array(trail)) = shown.get_mut("trail") {
            for (entry, micros) in trail.iter_mut().zip(micros) {
                if let Value::Object(entry) = entry {
                    entry.insert("micros".into(), (*micros).into());
                }
            }
        }
        Value::Object(shown)
    }
}
