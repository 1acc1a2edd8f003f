//! Owns what a person does with an approval request: who may, its audit record, and what the store's
//! answer means. Never changes anything but through the store's verb, which chains the record with it.

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::super::auth::Caller;
use super::super::event_get::find;
use super::super::observe::RequestContext;
use super::super::problem::Problem;
use super::super::schemas::OutcomeName;
use super::super::{ApiState, json as answer_json};
use super::{reason, record};
use crate::domain::approval::{CLAIM_FOR, Refusal, Verdict};
use crate::domain::audit::sha256;
use crate::domain::{AuditBody, EventId, Outcome, Permission, TenantId, time};
use crate::ports::approvals::ApprovalAct;
use crate::ports::store::{Disposition, EventRecord};
use crate::telemetry::names;

/// What is done with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// It is claimed.
    Claim,
    /// The claim is given back.
    Release,
    /// Something is said.
    Comment,
    /// The verdict is given.
    Decide(Verdict),
}

impl Act {
    /// The action in the audit.
    fn action(self) -> &'static str {
        match self {
            Self::Claim => "approval_claimed",
            Self::Release => "approval_released",
            Self::Comment => "approval_commented",
            Self::Decide(Verdict::Approved) => "approval_approved",
            Self::Decide(Verdict::Rejected) => "approval_rejected",
        }
    }

    fn allowed(self, caller: &Caller) -> Result<(), Problem> {
        match self {
            Self::Claim | Self::Release | Self::Decide(_) => caller.require(Permission::Approve),
            Self::Comment => caller.require(Permission::Comment),
        }
    }
}

/// What was done.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Acted {
    #[schema(value_type = String, format = "uuid")]
    event_id: EventId,
    #[schema(value_type = String)]
    tenant_id: TenantId,
    /// As in the audit: `approval_claimed`, `approval_released`, `approval_commented`,
    /// `approval_approved`, `approval_rejected`.
    #[schema(example = "approval_approved")]
    action: &'static str,
    /// Of a claim: when it ends.
    #[schema(format = "date-time")]
    claimed_until: Option<String>,
    /// The verdict that was given.
    #[schema(value_type = Option<OutcomeName>)]
    verdict: Option<Outcome>,
}

/// Answers a request that does something with an approval request.
pub(super) async fn answer(
    api: &ApiState,
    (caller, context): (Caller, RequestContext),
    id: &str,
    act: Act,
    request: Request,
) -> Result<Response, Problem> {
    act.allowed(&caller)?;
    let (parts, body) = request.into_parts();
    let said = match act {
        Act::Claim | Act::Release => reason::read(api, &parts.headers, body).await?,
        Act::Comment => Some(reason::text(api, &parts.headers, body).await?),
        Act::Decide(_) => Some(reason::required(api, &parts.headers, body).await?),
    };
    let found = find(api, &caller, &context, id).await?;
    let (event, tenant) = (found.event.id, found.event.tenant.clone());
    if found.approval.is_none() {
        return Err(Problem::refused(event, &Refusal::NotEscalated));
    }
    let audit = audit_body(api, (&caller, &context), &found, act, said.as_deref());
    let until = (act == Act::Claim).then(|| time::whole_millis(audit.at + CLAIM_FOR));
    let powers = api.approvals.powers(&caller.roles);
    let by = ApprovalAct { tenant: tenant.clone(), event, powers, audit };
    perform(api, &by, act, until, said.as_deref().unwrap_or_default()).await?;
    let verdict = match act {
        Act::Decide(verdict) => Some(verdict.outcome()),
        Act::Claim | Act::Release | Act::Comment => None,
    };
    if let Some(verdict) = verdict {
        metrics::counter!(names::APPROVALS_DECIDED, "verdict" => verdict.as_str()).increment(1);
    }
    tracing::info!(event.id = %event, tenant.id = %tenant, actor = %caller.subject, action = act.action(),
        "somebody acted on an approval request");
    let claimed_until = until.map(time::text);
    let acted = Acted { event_id: event, tenant_id: tenant, action: act.action(), claimed_until, verdict };
    Ok(answer_json(StatusCode::OK, &acted))
}

async fn perform(
    api: &ApiState,
    by: &ApprovalAct,
    act: Act,
    until: Option<DateTime<Utc>>,
    said: &str,
) -> Result<(), Problem> {
    let acted = match act {
        Act::Claim => api.registry.claim_approval(by, until.unwrap_or(by.audit.at)).await?,
        Act::Release => api.registry.release_approval(by).await?,
        Act::Comment => api.registry.comment_approval(by, said).await?,
        Act::Decide(verdict) => api.registry.decide_approval(by, verdict, api.entropy.uuid()).await?,
    };
    acted.map_err(|refusal| Problem::refused(by.event, &refusal))
}

/// A comment may hold personal data: of it the audit gets its hash and length alone.
fn audit_body(
    api: &ApiState,
    by: (&Caller, &RequestContext),
    found: &EventRecord,
    act: Act,
    said: Option<&str>,
) -> AuditBody {
    let event = found.event.id;
    let (reason, previous, new): (_, Option<Value>, Option<Value>) = match (act, said) {
        (Act::Comment, said) => {
            let text = said.unwrap_or_default();
            let new = json!({"sha256": hex::encode(sha256(text.as_bytes())), "characters": text.chars().count()});
            (None, None, Some(new))
        }
        (Act::Decide(verdict), said) => {
            (said, Some("escalated".into()), Some(verdict.outcome().status().as_str().into()))
        }
        (Act::Claim, said) => (said, None, Some("claimed".into())),
        (Act::Release, said) => (said, Some("claimed".into()), Some("open".into())),
    };
    let decision_sha256 = match found.end.as_ref().map(|end| &end.disposition) {
        Some(Disposition::Decided { decision, .. }) => Some(hex::encode(sha256(decision))),
        Some(Disposition::Dead { .. }) | None => None,
    };
    AuditBody {
        event_id: Some(event),
        outcome: match act {
            Act::Decide(verdict) => Some(verdict.outcome().as_str().to_owned()),
            Act::Claim | Act::Release | Act::Comment => None,
        },
        reason: reason.map(str::to_owned),
        previous,
        new,
        event_sha256: Some(hex::encode(sha256(&found.event.body))),
        decision_sha256,
        ..record::act(api, by, &found.event.tenant, act.action(), ("approval", event.to_string()))
    }
}
