//! `GET /v1/costs/budgets`: the budgets, and how much of each is spent.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::auth::Caller;
use super::super::docs::CostProblems;
use super::super::problem::{Problem, ProblemType};
use super::super::{Shared, json};
use super::budget::{BudgetView, reach};
use crate::domain::{Month, Permission, TenantId};

/// Which budgets.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WantedBudgets {
    /// Only this tenant's; others than operators see their own.
    #[param(value_type = Option<String>)]
    tenant: Option<TenantId>,
    /// Only of tenants behind this one: `next` of the page before.
    #[param(value_type = Option<String>)]
    after: Option<TenantId>,
    /// At most so many.
    #[param(minimum = 1, maximum = 1000, default = 50)]
    limit: Option<u32>,
}

/// A page of budgets, by tenant.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BudgetPage {
    items: Vec<BudgetView>,
    /// `after` of the next page; null on the last one.
    #[schema(value_type = Option<String>)]
    next: Option<TenantId>,
}

/// List budgets
///
/// With what is spent of each in this month (UTC). An operator sees every tenant's, others their own.
#[utoipa::path(
    get,
    path = "/v1/costs/budgets",
    tag = "costs",
    params(WantedBudgets),
    responses((status = 200, body = BudgetPage, description = "By tenant"), CostProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("view_costs"))),
)]
pub(super) async fn list_budgets(
    State(api): State<Shared>,
    caller: Caller,
    wanted: Result<Query<WantedBudgets>, QueryRejection>,
) -> Result<Response, Problem> {
    caller.require(Permission::ViewCosts)?;
    let Query(wanted) = wanted.map_err(|e| Problem::new(ProblemType::BadQuery, e.body_text()))?;
    let (limit, month) = (super::lines(wanted.limit)?, Month::at(api.clock.now()));
    let scope = reach(&caller, wanted.tenant)?;
    let page = api.registry.budgets(&scope, month, wanted.after.as_ref(), limit).await?;
    let next = page.last().filter(|_| page.len() == limit as usize).map(|used| used.budget.tenant.clone());
    let items = page.into_iter().map(|used| BudgetView::of(used, month)).collect();
    Ok(json(StatusCode::OK, &BudgetPage { items, next }))
}
