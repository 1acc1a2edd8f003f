//! `GET /v1/approvals`: what waits for a person, newest event first.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::super::auth::Caller;
use super::super::docs::ListProblems;
use super::super::problem::{Problem, ProblemType};
use super::super::schemas::OutcomeName;
use super::super::{Shared, json as answer};
use crate::domain::{EventId, Permission, TenantId};
use crate::ports::approvals::{ApprovalFilter, ApprovalState};

/// Which requests.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// `open` (without a verdict; when nothing is said), `claimed`, `overdue` or `decided`.
    #[param(value_type = Option<String>, example = "open")]
    state: Option<StateName>,
    /// Only this tenant's; must agree with the credential's.
    #[param(value_type = Option<String>)]
    tenant: Option<TenantId>,
    /// Only of events older than this one: `next` of the page before.
    #[param(value_type = Option<String>)]
    before: Option<EventId>,
    /// At most so many.
    #[param(minimum = 1, maximum = 1000, default = 50)]
    limit: Option<u32>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StateName {
    #[default]
    Open,
    Claimed,
    Overdue,
    Decided,
}

/// A page of requests, newest event first.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the schema of what `list_approvals` answers")]
pub(super) struct ApprovalsView {
    items: Vec<ApprovalView>,
    /// `before` of the next page; null on the last one.
    #[schema(format = "uuid")]
    next: Option<String>,
}

/// A request.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the schema of ports::store::Approval::view")]
pub(super) struct ApprovalView {
    #[schema(format = "uuid")]
    event_id: String,
    tenant_id: String,
    /// `open`, `claimed` or `decided`.
    #[schema(example = "open")]
    state: String,
    /// 1, or 2 once it was overdue: then only the second role decides it.
    level: u8,
    #[schema(format = "date-time")]
    opened_at: String,
    /// Null where requests are never due.
    #[schema(format = "date-time")]
    due_at: Option<String>,
    overdue: bool,
    /// While the claim holds.
    claimed_by: Option<String>,
    #[schema(format = "date-time")]
    claimed_until: Option<String>,
    /// The verdict.
    verdict: Option<OutcomeName>,
    decided_by: Option<String>,
    #[schema(format = "date-time")]
    decided_at: Option<String>,
    /// Of the verdict.
    reason: Option<String>,
}

/// List approval requests
#[utoipa::path(
    get,
    path = "/v1/approvals",
    tag = "approvals",
    params(Wanted),
    responses((status = 200, body = ApprovalsView, description = "Newest event first"), ListProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("view"))),
)]
pub(super) async fn list_approvals(
    State(api): State<Shared>,
    caller: Caller,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Problem> {
    caller.require(Permission::View)?;
    let Query(wanted) = wanted.map_err(|e| Problem::new(ProblemType::BadQuery, e.body_text()))?;
    let limit = super::lines(wanted.limit)?;
    let now = api.clock.now();
    let state = match wanted.state.unwrap_or_default() {
        StateName::Open => ApprovalState::Open,
        StateName::Claimed => ApprovalState::Claimed(now),
        StateName::Overdue => ApprovalState::Overdue(api.approvals.overdue_by(now)),
        StateName::Decided => ApprovalState::Decided,
    };
    let tenant = super::listed_tenant(caller, wanted.tenant)?;
    let page = api.registry.list_approvals(&ApprovalFilter { tenant, state, before: wanted.before, limit }).await?;
    let next = page.last().filter(|_| page.len() == limit as usize).map(|line| line.event);
    let items: Vec<Value> = page.iter().map(|line| line.view(&api.approvals, now)).collect();
    Ok(answer(StatusCode::OK, &json!({"items": items, "next": next})))
}
