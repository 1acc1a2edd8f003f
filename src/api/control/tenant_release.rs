//! `POST /v1/tenants/{id}/release`: the tenant's days go again when their time is over.

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

const ACTION: &str = "tenant_released";

/// Release a legal hold
///
/// From then on the tenant's events go when their retention is over. Where there is no hold nothing is
/// done. The reason stands in the audit.
#[utoipa::path(
    post,
    path = "/v1/tenants/{id}/release",
    tag = "tenants",
    params(("id" = String, Path, description = "The tenant")),
    request_body(content = Reason),
    responses((status = 200, body = TenantChanged, description = "It is free"), TenantChangeProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("hold_tenant"))),
)]
pub(super) async fn release_tenant(
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
    Ok(answer(api.registry.release(&id, &audit).await?, &caller, ACTION))
}
