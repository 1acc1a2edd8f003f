//! `POST /v1/tenants/{id}/hold`: nothing of the tenant goes any more.

use axum::extract::{Path, Request, State};
use axum::response::Response;

use super::super::Shared;
use super::super::auth::Caller;
use super::super::docs::TenantChangeProblems;
use super::super::observe::RequestContext;
use super::super::problem::Problem;
use super::reason::Reason;
use super::tenant::{TenantChanged, answer, reached};
use super::{reason, record};
use crate::domain::{AuditBody, Permission};

const ACTION: &str = "tenant_held";

/// Put a tenant under legal hold
///
/// Once this has answered, no day with events of the tenant goes, whatever its retention, until the
/// hold is released. One that stands already is left as it is. The reason stands in the audit.
#[utoipa::path(
    post,
    path = "/v1/tenants/{id}/hold",
    tag = "tenants",
    params(("id" = String, Path, description = "The tenant")),
    request_body(content = Reason),
    responses((status = 200, body = TenantChanged, description = "It is held"), TenantChangeProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("hold_tenant"))),
)]
pub(super) async fn hold_tenant(
    State(api): State<Shared>,
    caller: Caller,
    context: RequestContext,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let id = reached(&caller, Permission::HoldTenant, &id)?;
    let (parts, body) = request.into_parts();
    let reason = reason::required(&api, &parts.headers, body).await?;
    let resource = ("tenant", id.to_string());
    let audit = AuditBody { reason: Some(reason), ..record::act(&api, (&caller, &context), &id, ACTION, resource) };
    Ok(answer(api.registry.hold(&id, &audit).await?, &caller, ACTION))
}
