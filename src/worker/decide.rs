//! Owns the way from an event to its disposition: the workflow's decision, or a dead letter for
//! what is stored and can't be read, each with its audit record. Pure but for the stop watch.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use std::time::Duration;

use crate::domain::audit::{Versions, sha256};
use crate::domain::{AuditBody, Decision, Event, EventBody, FailureClass, PartitionId, Snapshot, Stream, WorkerId};
use crate::pipeline::{self, Policy};
use crate::ports::store::{Disposition, NewDisposition, StoredEvent};

/// An event that is ready to be decided: its text is the stored one.
pub(super) struct Ready {
    pub(super) event: Event,
    pub(super) text: Bytes,
    pub(super) partition: PartitionId,
}

/// Who decides, when, by what.
pub(super) struct Bench<'a> {
    pub(super) worker: WorkerId,
    pub(super) policy: &'a Policy,
    pub(super) now: DateTime<Utc>,
    pub(super) stopwatch: &'a dyn Fn() -> Duration,
}

impl Bench<'_> {
    /// Decides.
    pub(super) fn decide(&self, ready: &Ready, context: &Snapshot) -> NewDisposition {
        let (decision, timings) = pipeline::run(&ready.event, context, self.policy, self.now, self.stopwatch);
        let text = Bytes::from(decision.canonical());
        let audit = self.audit(ready, &decision, &text);
        NewDisposition {
            event: decision.event_id,
            tenant: decision.tenant_id,
            partition: ready.partition,
            disposition: Disposition::Decided { outcome: decision.outcome, decision: text, timings },
            audit,
        }
    }

    fn audit(&self, ready: &Ready, decision: &Decision, text: &[u8]) -> AuditBody {
        AuditBody {
            outcome: Some(decision.outcome.as_str().into()),
            versions: Some(Versions {
                policy: format!("{}@{}", decision.policy.name, decision.policy.version),
                model: decision.model_version.clone(),
                prompt: decision.prompt_version,
            }),
            reason_codes: decision.reasons.iter().map(|r| r.code.clone()).collect(),
            correlation_id: Some(decision.correlation_id.clone()),
            event_sha256: Some(hex::encode(sha256(&ready.text))),
            decision_sha256: Some(hex::encode(sha256(text))),
            ..self.record(decision.tenant_id.clone(), "decision_made", decision.event_id)
        }
    }

    /// A dead letter for an event whose stored text is no event.
    pub(super) fn bury(&self, stored: &StoredEvent, error: String) -> NewDisposition {
        let audit = AuditBody {
            outcome: Some(FailureClass::UnexpectedError.as_str().into()),
            correlation_id: Some(stored.correlation_id.clone()),
            event_sha256: Some(hex::encode(sha256(&stored.body))),
            ..self.record(stored.tenant.clone(), "dead_lettered", stored.id)
        };
        NewDisposition {
            event: stored.id,
            tenant: stored.tenant.clone(),
            partition: stored.partition,
            disposition: Disposition::Dead { class: FailureClass::UnexpectedError, error, attempts: 1 },
            audit,
        }
    }

    fn record(&self, tenant_id: crate::domain::TenantId, action: &str, event: crate::domain::EventId) -> AuditBody {
        AuditBody {
            tenant_id,
            stream: Stream::Workflow,
            // Set when the record is hung on its chain.
            seq: 0,
            at: self.now,
            actor: format!("worker:{}", self.worker),
            action: action.into(),
            resource_type: "event".into(),
            resource_id: event.to_string(),
            event_id: Some(event),
            outcome: None,
            versions: None,
            reason_codes: Vec::new(),
            reason: None,
            correlation_id: None,
            previous: None,
            new: None,
            event_sha256: None,
            decision_sha256: None,
        }
    }
}

/// Reads a stored event, or says why it can't be read.
pub(super) fn ready(stored: &StoredEvent) -> Result<Ready, String> {
    let body = EventBody::from_canonical(&stored.body).map_err(|e| format!("the stored event is unreadable: {e}"))?;
    if body.tenant_id != stored.tenant {
        return Err("the stored event names another tenant than its row".into());
    }
    let event = Event { id: stored.id, correlation_id: stored.correlation_id.clone(), body };
    Ok(Ready { event, text: stored.body.clone(), partition: stored.partition })
}
