//! Owns the text of a pack: the message that carries whole events from ingest to a worker.
//!
//! The broker's cost is per message, not per byte, so all events of one accept that go to one
//! partition travel together. Never trusted by itself: its HMAC goes with it (see `crypto`), and
//! an event without content, or with content nobody vouches for, is read from the store.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;

use super::ids::{CorrelationId, EventId, PartitionId, TenantId};

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
    /// W3C trace context of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
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
