//! Owns a person's change of a dead letter: who may, its audit record, and what the store's answer
//! means. Never changes anything but through the store's verb, which chains the record with it.

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::super::auth::Caller;
use super::super::event_get::find;
use super::super::observe::RequestContext;
use super::super::problem::Problem;
use super::super::{ApiState, json};
use super::{reason, record};
use crate::domain::audit::sha256;
use crate::domain::{AuditBody, EventId, Permission, TenantId};
use crate::ports::store::{DeadAct, EventRecord};

/// What is done with a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It becomes pending again.
    Replay,
    /// Nobody will decide it.
    Discard,
}

impl Change {
    /// The action in the audit.
    fn action(self) -> &'static str {
        match self {
            Self::Replay => "dead_letter_replayed",
            Self::Discard => "dead_letter_discarded",
        }
    }

    /// Where the dead letter stands afterwards.
    fn new_state(self) -> &'static str {
        match self {
            Self::Replay => "received",
            Self::Discard => "discarded",
        }
    }
}

/// A dead letter that was changed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Changed {
    #[schema(value_type = String, format = "uuid")]
    event_id: EventId,
    #[schema(value_type = String)]
    tenant_id: TenantId,
    /// `dead_letter_replayed` or `dead_letter_discarded`, as in the audit.
    #[schema(example = "dead_letter_replayed")]
    action: &'static str,
    /// Where it stands now: `received` or `discarded`.
    #[schema(example = "received")]
    state: &'static str,
}

/// Answers a request that changes a dead letter.
pub(super) async fn answer(
    api: &ApiState,
    (caller, context): (Caller, RequestContext),
    id: &str,
    change: Change,
    request: Request,
) -> Result<Response, Problem> {
    caller.require(Permission::ManageDeadLetters)?;
    let (parts, body) = request.into_parts();
    let reason = match change {
        Change::Replay => reason::read(api, &parts.headers, body).await?,
        Change::Discard => Some(reason::required(api, &parts.headers, body).await?),
    };
    let record = find(api, &caller, &context, id).await?;
    let audit = audit_body(api, &caller, &context, &record, change, reason);
    let event = record.event.id;
    let act = match change {
        Change::Replay => api.store.replay_dead(event, &audit).await?,
        Change::Discard => api.store.discard_dead(event, &audit).await?,
    };
    match act {
        DeadAct::Done => {
            tracing::info!(event.id = %event, tenant.id = %record.event.tenant, actor = %caller.subject,
                action = change.action(), "a dead letter was changed");
            let tenant_id = record.event.tenant;
            let changed = Changed { event_id: event, tenant_id, action: change.action(), state: change.new_state() };
            Ok(json(StatusCode::OK, &changed))
        }
        DeadAct::NotDead(status) => Err(Problem::not_dead(event, status)),
        DeadAct::Discarded => Err(Problem::discarded(event)),
        DeadAct::Unknown => Err(Problem::no_event()),
    }
}

fn audit_body(
    api: &ApiState,
    caller: &Caller,
    context: &RequestContext,
    found: &EventRecord,
    change: Change,
    reason: Option<String>,
) -> AuditBody {
    AuditBody {
        event_id: Some(found.event.id),
        reason,
        previous: Some(Value::from("failed")),
        new: Some(Value::from(change.new_state())),
        event_sha256: Some(hex::encode(sha256(&found.event.body))),
        ..record::act(
            api,
            (caller, context),
            &found.event.tenant,
            change.action(),
            ("event", found.event.id.to_string()),
        )
    }
}
