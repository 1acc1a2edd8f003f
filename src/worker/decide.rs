//! Owns the way from an event to its disposition: the workflow's decision, or a dead letter, each
//! with its audit record. Pure but for the stop watch.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::crypto::{DataKey, Keyring, Place};
use crate::domain::audit::{Versions, sha256};
use crate::domain::{
    AuditBody, Decision, Evaluation, Event, EventBody, FailureClass, PriceList, Snapshot, Stream, WorkerId,
};
use crate::mutants;
use crate::pipeline::{self, Policy, Run};
use crate::ports::store::{Disposition, NewDisposition, StoredEvent};

/// An event that is ready to be decided.
pub(super) struct Ready {
    pub(super) event: Event,
    /// As it is stored.
    pub(super) stored: StoredEvent,
    /// What its decision is sealed under.
    pub(super) key: Arc<DataKey>,
}

/// Who decides, and when.
pub(super) struct Bench<'a> {
    pub(super) worker: WorkerId,
    pub(super) now: DateTime<Utc>,
    pub(super) stopwatch: &'a dyn Fn() -> Duration,
    pub(super) keyring: &'a Keyring,
    pub(super) prices: &'a PriceList,
}

/// A decision: sealed, to be committed, and in the clear, to be told.
pub(super) struct Decided {
    pub(super) disposition: NewDisposition,
    pub(super) told: Told,
}

/// What is told of a decision once it is committed.
pub(super) struct Told {
    /// Its canonical text.
    pub(super) text: Bytes,
    /// How good it is held to be: what stands in the text too, so that nobody reads it again.
    pub(super) evaluation: Evaluation,
}

impl Bench<'_> {
    /// Decides.
    ///
    /// # Errors
    /// With what went wrong, when the workflow panics: a defect that one event shows does not end
    /// the worker, or every event beside it would wait for the next one.
    pub(super) fn decide(&self, ready: &Ready, context: &Snapshot, policy: &Policy) -> Result<Decided, String> {
        // Nothing that is shared is changed inside: what a panic leaves half done is dropped with it.
        let run = || {
            mutants::poison(&ready.event);
            pipeline::run(&ready.event, context, policy, self.now, self.stopwatch)
        };
        let ran = catch_unwind(AssertUnwindSafe(run)).map_err(|panic| panicked(&*panic))?;
        let Run { decision, timings, usage } = ran;
        let charge = self.prices.of(&decision.model_version).charge(usage);
        let text = Bytes::from(decision.canonical());
        let place = Place::decision(&decision.tenant_id, decision.event_id);
        let sealed = self.keyring.seal(&ready.key, place, &text);
        let audit = self.audit(ready, &decision, &sealed);
        let disposition = NewDisposition {
            event: decision.event_id,
            tenant: decision.tenant_id,
            partition: ready.stored.partition,
            disposition: Disposition::Decided { outcome: decision.outcome, decision: sealed, timings, charge },
            audit,
        };
        Ok(Decided { disposition, told: Told { text, evaluation: decision.evaluation } })
    }

    fn audit(&self, ready: &Ready, decision: &Decision, sealed: &[u8]) -> AuditBody {
        AuditBody {
            outcome: Some(decision.outcome.as_str().into()),
            versions: Some(Versions {
                policy: format!("{}@{}", decision.policy.name, decision.policy.version),
                model: decision.model_version.clone(),
                prompt: decision.prompt_version,
            }),
            reason_codes: decision.reasons.iter().map(|r| r.code.clone()).collect(),
            correlation_id: Some(decision.correlation_id.clone()),
            event_sha256: Some(hex::encode(sha256(&ready.stored.body))),
            decision_sha256: Some(hex::encode(sha256(sealed))),
            ..self.record(decision.tenant_id.clone(), "decision_made", decision.event_id)
        }
    }

    /// A dead letter.
    pub(super) fn bury(
        &self,
        stored: &StoredEvent,
        class: FailureClass,
        error: String,
        attempts: u32,
    ) -> NewDisposition {
        let audit = AuditBody {
            outcome: Some(class.as_str().into()),
            correlation_id: Some(stored.correlation_id.clone()),
            event_sha256: Some(hex::encode(sha256(&stored.body))),
            ..self.record(stored.tenant.clone(), "dead_lettered", stored.id)
        };
        NewDisposition {
            event: stored.id,
            tenant: stored.tenant.clone(),
            partition: stored.partition,
            disposition: Disposition::Dead { class, error, attempts },
            audit,
        }
    }

    fn record(&self, tenant_id: crate::domain::TenantId, action: &str, event: crate::domain::EventId) -> AuditBody {
        let actor = format!("worker:{}", self.worker);
        let resource = ("event", event.to_string());
        let chain = (tenant_id, Stream::Workflow);
        AuditBody { event_id: Some(event), ..AuditBody::new(chain, self.now, actor, action, resource) }
    }
}

/// What a panic said, if that is a text of the program. What was put together may hold parts of the
/// event, and stands in the clear beside it: it is left out.
fn panicked(panic: &(dyn Any + Send)) -> String {
    let said = panic.downcast_ref::<&str>().copied();
    format!("the workflow panicked: {}", said.unwrap_or("the words may hold parts of the event and are not kept"))
}

/// Reads an event's text, or says why it can't be read, without a word of it.
pub(super) fn read(stored: &StoredEvent, text: &[u8]) -> Result<Event, String> {
    let body = EventBody::from_canonical(text)
        .map_err(|e| format!("the stored event is unreadable at line {} column {}", e.line(), e.column()))?;
    if body.tenant_id != stored.tenant {
        return Err("the stored event names another tenant than its row".into());
    }
    Ok(Event { id: stored.id, correlation_id: stored.correlation_id.clone(), body })
}
