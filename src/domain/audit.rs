//! Owns the audit chain: the text of a record, its hash, and what makes a chain whole.
//!
//! `hash = SHA-256(prev_hash ‖ body)`; the first `prev_hash` is 32 zero bytes. `body` is the exact
//! JSON text that was hashed and begins with tenant, stream and seq, so that a record cannot be
//! moved to another place. Bodies hold no personal data: hashes of what is stored, not copies.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fmt;

use super::ids::{CorrelationId, EventId, TenantId};
use super::time::rfc3339;

/// 32 bytes of SHA-256.
pub type Hash = [u8; 32];

/// SHA-256 of some bytes.
pub fn sha256(bytes: &[u8]) -> Hash {
    Sha256::digest(bytes).into()
}

/// Which of a tenant's chains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Written by the partition's owner, one record a decision.
    Workflow,
    /// Written for people's actions.
    Control,
}

impl Stream {
    /// `workflow` or `control`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Workflow => "workflow",
            Self::Control => "control",
        }
    }

    /// Reads the name.
    pub fn parse(raw: &str) -> Option<Self> {
        [Self::Workflow, Self::Control].into_iter().find(|s| s.as_str() == raw)
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The end of a chain: what the next record hangs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainHead {
    /// Sequence number of the last record; 0 for an empty chain.
    pub seq: i64,
    /// Its hash; zeros for an empty chain.
    pub hash: Hash,
}

impl AuditBody {
    /// A record with nothing but its circumstances; what it says more is set by `..`. Its seq is set
    /// when it is hung on its chain.
    pub fn new(
        (tenant_id, stream): (TenantId, Stream),
        at: DateTime<Utc>,
        actor: impl Into<String>,
        action: impl Into<String>,
        (resource_type, resource_id): (&str, impl Into<String>),
    ) -> Self {
        Self {
            tenant_id,
            stream,
            seq: 0,
            at,
            actor: actor.into(),
            action: action.into(),
            resource_type: resource_type.into(),
            resource_id: resource_id.into(),
            event_id: None,
            outcome: None,
            versions: None,
            reason_codes: Vec::new(),
            reason: None,
            correlation_id: None,
            address: None,
            previous: None,
            new: None,
            event_sha256: None,
            decision_sha256: None,
        }
    }
}

impl ChainHead {
    /// The head of a chain without records.
    pub const EMPTY: Self = Self { seq: 0, hash: [0; 32] };
}

/// What a record says. Field order is the order in the hashed text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditBody {
    /// Whose chain.
    pub tenant_id: TenantId,
    /// Which of its chains.
    pub stream: Stream,
    /// From 1, without a gap. Set by [`ChainHead::append`].
    pub seq: i64,
    /// When.
    #[serde(with = "rfc3339")]
    pub at: DateTime<Utc>,
    /// Who: `worker:ID`, or a person.
    pub actor: String,
    /// What was done.
    pub action: String,
    /// To what kind of thing.
    pub resource_type: String,
    /// To which.
    pub resource_id: String,
    /// The event, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_id: Option<EventId>,
    /// What came of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// `policy@version`, model and prompt in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub versions: Option<Versions>,
    /// Codes of the reasons.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reason_codes: Vec<String>,
    /// Why, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Joins everything of one request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<CorrelationId>,
    /// Where the actor's request came from: an IP address; of people's actions only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// State before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<Value>,
    /// State after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<Value>,
    /// SHA-256 (hex) of the stored event text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_sha256: Option<String>,
    /// SHA-256 (hex) of the stored decision text, the snapshot inside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision_sha256: Option<String>,
}

/// What was in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// `name@version`.
    pub policy: String,
    /// `name@version`.
    pub model: String,
    /// From 1.
    pub prompt: u32,
}

/// One link of a chain, as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// Whose chain.
    pub tenant: TenantId,
    /// Which.
    pub stream: Stream,
    /// Its place.
    pub seq: i64,
    /// Hash of the record before.
    pub prev_hash: Hash,
    /// SHA-256(prev_hash ‖ body).
    pub hash: Hash,
    /// The exact text that was hashed.
    pub body: String,
}

impl ChainHead {
    /// Hangs a record on the chain, and moves the head onto it. `body.seq` is set here.
    pub fn append(&mut self, mut body: AuditBody) -> AuditRecord {
        body.seq = self.seq + 1;
        // Text keys and finite numbers only: the serializer has nothing to refuse.
        let text = serde_json::to_string(&body).unwrap_or_default();
        let hash = link(&self.hash, &text);
        let record = AuditRecord {
            tenant: body.tenant_id,
            stream: body.stream,
            seq: body.seq,
            prev_hash: self.hash,
            hash,
            body: text,
        };
        *self = Self { seq: record.seq, hash };
        record
    }
}

/// SHA-256(prev_hash ‖ body).
pub fn link(prev_hash: &Hash, body: &str) -> Hash {
    Sha256::new().chain_update(prev_hash).chain_update(body.as_bytes()).finalize().into()
}

/// What is wrong with a record in its chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Records are missing before this one.
    #[error("removed: expected seq {expected} here")]
    Gap {
        /// The sequence number that should stand here.
        expected: i64,
    },
    /// The record does not hang on the one before.
    #[error("broken link: prev_hash is not the hash of the record before")]
    Link,
    /// The text is not what was hashed.
    #[error("changed: the body does not give the stored hash")]
    Changed,
    /// The text belongs to another place.
    #[error("relabelled: the body says {tenant}/{stream}/{seq}")]
    Relabelled {
        /// Tenant in the body.
        tenant: String,
        /// Stream in the body.
        stream: String,
        /// Seq in the body.
        seq: i64,
    },
    /// The text is no audit body.
    #[error("unreadable body: {0}")]
    Unreadable(String),
    /// What is stored is not what was decided on.
    #[error("the stored {what} does not match its hash in the audit")]
    Stored {
        /// `event` or `decision`.
        what: &'static str,
    },
    /// What the audit speaks of is not there.
    #[error("the {what} that the audit speaks of is not stored")]
    Missing {
        /// `event` or `decision`.
        what: &'static str,
    },
}

/// Checks one record against the head before it, moves the head onto it, and gives its body.
///
/// The head moves on even when the record is bad, so that one fault is named once.
///
/// # Errors
/// The first [`Fault`] of the record.
pub fn check(head: &mut ChainHead, record: &AuditRecord) -> Result<AuditBody, Fault> {
    let before = std::mem::replace(head, ChainHead { seq: record.seq, hash: record.hash });
    if record.seq != before.seq + 1 {
        return Err(Fault::Gap { expected: before.seq + 1 });
    }
    if record.prev_hash != before.hash {
        return Err(Fault::Link);
    }
    if link(&record.prev_hash, &record.body) != record.hash {
        return Err(Fault::Changed);
    }
    let body: AuditBody = serde_json::from_str(&record.body).map_err(|e| Fault::Unreadable(e.to_string()))?;
    if (&body.tenant_id, body.stream, body.seq) != (&record.tenant, record.stream, record.seq) {
        let (tenant, stream) = (body.tenant_id.to_string(), body.stream.to_string());
        return Err(Fault::Relabelled { tenant, stream, seq: body.seq });
    }
    Ok(body)
}

/// Compares the stored event and decision with the hashes in the audit.
///
/// # Errors
/// [`Fault::Stored`] or [`Fault::Missing`].
pub fn check_stored(body: &AuditBody, event: Option<&[u8]>, decision: Option<&[u8]>) -> Result<(), Fault> {
    for (what, said, stored) in [("event", &body.event_sha256, event), ("decision", &body.decision_sha256, decision)] {
        let Some(said) = said else { continue };
        let stored = stored.ok_or(Fault::Missing { what })?;
        if hex::encode(sha256(stored)) != *said {
            return Err(Fault::Stored { what });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(n: u8) -> AuditBody {
        let chain = (TenantId::parse("acme").expect("legal"), Stream::Workflow);
        let at = super::super::time::from_millis(1_700_000_000_000);
        let decision_sha256 = Some(hex::encode(sha256(&[n])));
        AuditBody {
            decision_sha256,
            ..AuditBody::new(chain, at, "worker:1", "decision_made", ("event", n.to_string()))
        }
    }

    fn chain() -> Vec<AuditRecord> {
        let mut head = ChainHead::EMPTY;
        (0..5).map(|n| head.append(body(n))).collect()
    }

    fn faults(records: &[AuditRecord]) -> Vec<(i64, Fault)> {
        let mut head = ChainHead::EMPTY;
        records.iter().filter_map(|r| check(&mut head, r).err().map(|f| (r.seq, f))).collect()
    }

    #[test]
    fn a_whole_chain_is_whole_and_its_text_begins_with_its_place() {
        let records = chain();
        assert_eq!(faults(&records), []);
        assert!(records[4].body.starts_with(r#"{"tenant_id":"acme","stream":"workflow","seq":5,"#));
    }

    #[test]
    fn one_changed_byte_one_removed_and_one_reordered_record_are_found() {
        for byte in 0..chain()[2].body.len() {
            let mut records = chain();
            let mut text = records[2].body.clone().into_bytes();
            text[byte] ^= 1;
            records[2].body = String::from_utf8_lossy(&text).into_owned();
            assert_eq!(faults(&records), [(3, Fault::Changed)], "byte {byte}");
        }
        let mut removed = chain();
        removed.remove(1);
        assert_eq!(faults(&removed), [(3, Fault::Gap { expected: 2 })]);
        let mut swapped = chain();
        swapped.swap(1, 2);
        assert!(!faults(&swapped).is_empty());
        let mut relabelled = chain();
        relabelled[0].tenant = TenantId::parse("other").expect("legal");
        assert!(matches!(faults(&relabelled)[..], [(1, Fault::Relabelled { .. })]));
    }

    #[test]
    fn stored_texts_are_held_against_their_hashes() {
        assert_eq!(check_stored(&body(1), None, Some(&[1])), Ok(()));
        assert_eq!(check_stored(&body(1), None, Some(&[2])), Err(Fault::Stored { what: "decision" }));
        assert_eq!(check_stored(&body(1), None, None), Err(Fault::Missing { what: "decision" }));
    }
}
