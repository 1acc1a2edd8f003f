//! `GET /v1/tenants/{id}`: what is set of one tenant.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::super::auth::Caller;
use super::super::docs::TenantShowProblems;
use super::super::problem::Problem;
use super::super::{Shared, json};
use super::tenant::{TenantView, no_tenant, reached};
use crate::domain::Permission;

/// Read a tenant
///
/// 404 for one of whom nothing is set and who has no audit chain.
#[utoipa::path(
    get,
    path = "/v1/tenants/{id}",
    tag = "tenants",
    params(("id" = String, Path, description = "The tenant")),
    responses((status = 200, body = TenantView, description = "What is set of it"), TenantShowProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("hold_tenant"))),
)]
pub(super) async fn get_tenant(
    State(api): State<Shared>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let id = reached(&caller, Permission::HoldTenant, &id)?;
    let tenant = api.registry.tenant(&id).await?.ok_or_else(no_tenant)?;
    Ok(json(StatusCode::OK, &TenantView::from(tenant)))
}
