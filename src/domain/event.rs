//! Owns the event as producers mean it, and its one canonical text. Parsing is in `parse`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{fmt, str::FromStr};

use super::context::Observation;
use super::ids::{CorrelationId, EventId, TenantId};
use super::time::rfc3339_option;

/// The largest absolute amount, in minor units (10^14: a thousand billion units of two decimals).
/// Sums over 50,000 events of one subject then stay inside 64 bits.
pub const AMOUNT_MAX: i64 = 100_000_000_000_000;

/// What an event asks for: a risk decision or a compliance decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// `risk_score` and `category` apply.
    Risk,
    /// `regulation_ref`, `compliance_type` and `regulatory_flags` apply.
    Compliance,
}

impl Kind {
    /// `risk` or `compliance`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Risk => "risk",
            Self::Compliance => "compliance",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = &'static str;

    fn from_str(raw: &str) -> Result<Self, Self::Err> {
        match raw {
            "risk" => Ok(Self::Risk),
            "compliance" => Ok(Self::Compliance),
            _ => Err("must be \"risk\" or \"compliance\""),
        }
    }
}

/// What a producer said, with defaults filled and headers left out: "the payload".
///
/// Two requests have the same payload when [`EventBody::canonical`] gives the same bytes. The
/// parser holds that the other kind's fields are empty.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventBody {
    /// Which workflow decides.
    pub kind: Kind,
    /// 1–128 characters, `standard` when absent.
    pub event_type: String,
    /// The producer's schema version, 1–32 characters.
    pub version: String,
    /// Whose event it is.
    pub tenant_id: TenantId,
    /// Whom it is about (an account, a customer), 1–256 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Minor currency units, −[`AMOUNT_MAX`] to [`AMOUNT_MAX`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<i64>,
    /// ISO 4217 alphabetic code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// When it happened, to the millisecond.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "rfc3339_option")]
    pub occurred_at: Option<DateTime<Utc>>,
    /// The producer's own score, 0–100. Risk only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk_score: Option<f64>,
    /// Risk only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// Compliance only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regulation_ref: Option<String>,
    /// Compliance only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compliance_type: Option<String>,
    /// Compliance only: any flag escalates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regulatory_flags: Vec<String>,
    /// Any JSON object; keys are sorted, so that the text is canonical.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
}

impl EventBody {
    /// The one text of this payload: fields in the order of this type, absent ones left out,
    /// metadata keys sorted. Sealed, this is what is stored, sent and hashed.
    pub fn canonical(&self) -> Vec<u8> {
        // Text keys and finite numbers only: the serializer has nothing to refuse.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads back what [`EventBody::canonical`] wrote.
    ///
    /// # Errors
    /// When the bytes are not such a text.
    pub fn from_canonical(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}

/// An accepted event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Minted at the accept.
    pub id: EventId,
    /// Taken from the request, or made.
    pub correlation_id: CorrelationId,
    /// What the producer said.
    pub body: EventBody,
}

impl Event {
    /// The event's own time: `occurred_at`, else the moment of its accept.
    pub fn time(&self) -> DateTime<Utc> {
        self.body.occurred_at.unwrap_or_else(|| self.id.created_at())
    }

    /// The event as the context store counts it; none for an event without a subject.
    pub fn observation(&self) -> Option<Observation> {
        Some(Observation {
            event: self.id,
            tenant: self.body.tenant_id.clone(),
            subject: self.body.subject.clone()?,
            amount: self.body.amount.unwrap_or(0),
            at: self.time(),
        })
    }
}
