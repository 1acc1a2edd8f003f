//! `GET /v1/tenant/context`: who the caller is taken for.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::Caller;
use super::docs::ContextProblems;
use super::observe::RequestContext;
use super::problem::Problem;
use super::{Shared, json};
use crate::domain::{CorrelationId, Invalid, Permission, TenantId};

/// The request as it was understood.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TenantContext {
    #[schema(value_type = String)]
    tenant_id: TenantId,
    #[schema(value_type = String)]
    correlation_id: CorrelationId,
    /// The credential's subject; `local` without authentication.
    subject: String,
    /// `ADMIN`, `ANALYST`, `APPROVER`, `VIEWER`, `OPERATOR`; `PRODUCER` for a credential without roles.
    roles: Vec<&'static str>,
    /// `on` or `off`.
    authentication: &'static str,
}

/// See tenant and correlation id as the service sees them
#[utoipa::path(
    get,
    path = "/v1/tenant/context",
    tag = "tenant",
    params(("X-Tenant-ID" = Option<String>, Header, pattern = "^[A-Za-z0-9._-]{1,128}$", description = "Must agree with the credential")),
    responses((status = 200, body = TenantContext, description = "As seen"), ContextProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("view"))),
)]
pub(super) async fn get_tenant_context(
    State(api): State<Shared>,
    caller: Caller,
    context: RequestContext,
) -> Result<Response, Problem> {
    caller.require(Permission::View)?;
    let shown = TenantContext {
        tenant_id: caller.tenant.ok_or(Invalid::TenantMissing)?,
        correlation_id: context.correlation_id,
        subject: caller.subject,
        roles: caller.roles.iter().map(|role| role.as_str()).collect(),
        authentication: if api.auth.is_open() { "off" } else { "on" },
    };
    Ok(json(StatusCode::OK, &shown))
}
