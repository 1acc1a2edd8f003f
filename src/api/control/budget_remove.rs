//! `POST /v1/costs/budgets/{id}/remove`: a tenant's month may cost whatever it does.

use axum::extract::{Path, Request, State};
use axum::response::Response;

use super::super::Shared;
use super::super::auth::Caller;
use super::super::docs::TenantChangeProblems;
use super::super::observe::RequestContext;
use super::super::problem::Problem;
use super::budget::{BudgetChanged, answer};
use super::reason::Reason;
use super::tenant::reached;
use super::{reason, record};
use crate::domain::{AuditBody, Permission};

const ACTION: &str = "budget_removed";

/// Take a tenant's budget away
///
/// Where there is none, nothing is written.
#[utoipa::path(
    post,
    path = "/v1/costs/budgets/{id}/remove",
    tag = "costs",
    params(("id" = String, Path, description = "The tenant")),
    request_body(content = Reason),
    responses((status = 200, body = BudgetChanged, description = "There is none"), TenantChangeProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("manage_tenants"))),
)]
pub(super) async fn remove_budget(
    State(api): State<Shared>,
    caller: Caller,
    context: RequestContext,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let id = reached(&caller, Permission::ManageTenants, &id)?;
    let (parts, body) = request.into_parts();
    let reason = reason::required(&api, &parts.headers, body).await?;
    let resource = ("budget", id.to_string());
    let audit = AuditBody { reason: Some(reason), ..record::act(&api, (&caller, &context), &id, ACTION, resource) };
    let act = api.registry.set_budget(&id, None, &audit).await?;
    answer(&api, (&caller, &id), ACTION, act).await
}
