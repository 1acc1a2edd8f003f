//! Owns the text of a pack: the message that carries whole events from ingest to a worker.
//!
//! The broker's cost is per message, not per byte, so all events of one accept that go to one
//! partition travel together. Never trusted by itself: its HMAC goes with it (see `crypto`), and
//! an event without content, or with content nobody vouches for, is read from the store.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;

use super::ids::{CorrelationId, EventId, PartitionId, TenantId};
use super::trace::{self, TraceContext};

/// The newest format of a pack that this version reads and writes.
pub const PACK_FORMAT: u16 = 1;

/// A pack as written: borrowed texts, nothing copied.
#[derive(Debug, Serialize, Deserialize)]
pub struct Pack<'a> {
    /// [`PACK_FORMAT`].
    pub v: u16,
    /// Where its tenants live.
    pub partition: PartitionId,
    /// Its events.
    #[serde(borrow)]
    pub events: Vec<PackedEvent<'a>>,
}

/// One event in a pack.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PackedEvent<'a> {
    /// The event.
    pub id: EventId,
    /// Its correlation id; absent where the event travels as its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<CorrelationId>,
    /// The queue of the process that waits for the decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// The span that published it, where the event is traced.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "trace::lenient")]
    pub traceparent: Option<TraceContext>,
    /// Whose; absent where the event travels as its id, or in the clear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    /// The sealed text, in base64; absent where the event is oversized and travels as its id.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<Cow<'a, str>>,
    /// The canonical text of an event that was stored before texts were sealed.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub event: Option<&'a RawValue>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_odd_trace_context_costs_the_trace_and_not_the_pack() {
        let id = "018bcfe5-6800-7000-8000-000000000000";
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let cases = [
            (format!(r#""{trace}""#), true),
            (r#""garbage""#.into(), false),
            ("7".into(), false),
            (r#"{"a":[1]}"#.into(), false),
            ("null".into(), false),
        ];
        for (said, read) in cases {
            let text = format!(r#"{{"v":1,"partition":0,"events":[{{"id":"{id}","traceparent":{said}}}]}}"#);
            let pack: Pack<'_> = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{said}: {e}"));
            assert_eq!(pack.events[0].traceparent.is_some(), read, "{said}");
            let written = serde_json::to_string(&pack).expect("texts only");
            assert_eq!(written.contains(trace), read, "{written}");
        }
    }
}
