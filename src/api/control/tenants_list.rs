//! `GET /v1/tenants`: who there is, and what is set of them.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::auth::Caller;
use super::super::docs::ListProblems;
use super::super::problem::{Problem, ProblemType};
use super::super::{Shared, json};
use super::tenant::TenantView;
use crate::domain::{Permission, TenantId};

/// The most in one answer.
const LIMIT_MAX: u32 = 1_000;

/// How many when nothing is said.
const LIMIT: u32 = 100;

/// Which tenants.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WantedTenants {
    /// Only tenants behind this one: `next` of the page before.
    #[param(value_type = Option<String>)]
    after: Option<TenantId>,
    /// At most so many.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
}

/// A page of tenants, by name.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TenantPage {
    items: Vec<TenantView>,
    /// `after` of the next page; null on the last one.
    #[schema(value_type = Option<String>)]
    next: Option<TenantId>,
}

/// List tenants
///
/// Those of whom something is set, and those who have an audit chain.
#[utoipa::path(
    get,
    path = "/v1/tenants",
    tag = "tenants",
    params(WantedTenants),
    responses((status = 200, body = TenantPage, description = "By name"), ListProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("manage_tenants"))),
)]
pub(super) async fn list_tenants(
    State(api): State<Shared>,
    caller: Caller,
    wanted: Result<Query<WantedTenants>, QueryRejection>,
) -> Result<Response, Problem> {
    caller.require(Permission::ManageTenants)?;
    let Query(wanted) = wanted.map_err(|e| Problem::new(ProblemType::BadQuery, e.body_text()))?;
    let limit = wanted.limit.unwrap_or(LIMIT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Problem::new(ProblemType::BadQuery, format!("limit must be 1 to {LIMIT_MAX}, not {limit}")));
    }
    let page = api.registry.list_tenants(wanted.after.as_ref(), limit).await?;
    let next = page.last().filter(|_| page.len() == limit as usize).map(|tenant| tenant.id.clone());
    let items = page.into_iter().map(TenantView::from).collect();
    Ok(json(StatusCode::OK, &TenantPage { items, next }))
}
