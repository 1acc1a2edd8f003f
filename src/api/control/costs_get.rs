//! `GET /v1/costs`: what decisions have cost, by tenant, day or model.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::auth::Caller;
use super::super::docs::CostProblems;
use super::super::problem::{Problem, ProblemType};
use super::super::{Shared, json};
use super::budget::{self, BudgetView};
use crate::domain::retention::Day;
use crate::domain::{Month, Permission, TenantId};
use crate::ports::costs::{CostBy, CostFilter, CostRow, Spent};

/// The longest time that is reported on, in days.
const DAYS_MAX: u32 = 366;

/// Which costs.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WantedCosts {
    /// The first day (UTC); the first of `to`'s month when absent.
    #[param(example = "2026-11-01")]
    from: Option<NaiveDate>,
    /// The last day (UTC); today when absent. At most 366 days with `from`.
    #[param(example = "2026-11-22")]
    to: Option<NaiveDate>,
    /// A row for each `day` (newest first), or for each `tenant` or `model` (dearest first).
    #[param(example = "day")]
    by: Option<String>,
    /// Only this tenant's; others than operators see their own.
    #[param(value_type = Option<String>)]
    tenant: Option<TenantId>,
    /// At most so many rows; the total is of all of them.
    #[param(minimum = 1, maximum = 1000, default = 50)]
    limit: Option<u32>,
}

/// A report.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CostPage {
    /// What `cost_micros` counts: millionths of the fleet's currency unit.
    #[schema(example = "micros")]
    currency_unit: &'static str,
    #[schema(value_type = String, format = "date")]
    from: Day,
    #[schema(value_type = String, format = "date")]
    to: Day,
    /// `day`, `tenant` or `model`.
    #[schema(example = "day")]
    by: &'static str,
    items: Vec<CostItem>,
    /// How many there are without the limit.
    items_all: i64,
    /// Of all of them.
    total: SpentView,
    /// Of the one tenant that is asked about, in this month; null where none is set.
    budget: Option<BudgetView>,
}

/// A row of the report.
#[derive(Debug, Serialize, ToSchema)]
struct CostItem {
    #[schema(value_type = String)]
    tenant_id: TenantId,
    /// Where rows are by day.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "date")]
    day: Option<Day>,
    /// `name@version`, where rows are by model.
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(flatten)]
    spent: SpentView,
}

/// What was decided and what it cost.
#[derive(Debug, Serialize, ToSchema)]
struct SpentView {
    decisions: i64,
    tokens: i64,
    cost_micros: i64,
    /// The same as a decimal, in units.
    #[schema(example = "12.5")]
    cost: String,
}

impl From<Spent> for SpentView {
    fn from(spent: Spent) -> Self {
        let Spent { decisions, tokens, cost } = spent;
        Self { decisions, tokens, cost_micros: cost.get(), cost: cost.to_string() }
    }
}

impl From<CostRow> for CostItem {
    fn from(row: CostRow) -> Self {
        Self { tenant_id: row.tenant, day: row.day, model: row.model, spent: row.spent.into() }
    }
}

/// Read costs
///
/// Rolled up by the day of the decisions' commit, each at the prices of its moment. An operator sees every
/// tenant's, others their own.
#[utoipa::path(
    get,
    path = "/v1/costs",
    tag = "costs",
    params(WantedCosts),
    responses((status = 200, body = CostPage, description = "What was spent"), CostProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("view_costs"))),
)]
pub(super) async fn get_costs(
    State(api): State<Shared>,
    caller: Caller,
    wanted: Result<Query<WantedCosts>, QueryRejection>,
) -> Result<Response, Problem> {
    caller.require(Permission::ViewCosts)?;
    let Query(wanted) = wanted.map_err(|e| bad(e.body_text()))?;
    let now = api.clock.now();
    let filter = filter(&wanted, Day::at(now))?;
    let scope = budget::reach(&caller, wanted.tenant)?;
    let report = api.registry.costs(&scope, &filter).await?;
    let budget = match scope.tenant() {
        Some(tenant) => budget::read(&api, tenant, Month::at(now)).await?,
        None => None,
    };
    let page = CostPage {
        currency_unit: "micros",
        from: filter.from,
        to: filter.to,
        by: filter.by.as_str(),
        items: report.rows.into_iter().map(CostItem::from).collect(),
        items_all: report.rows_all,
        total: report.total.into(),
        budget,
    };
    Ok(json(StatusCode::OK, &page))
}

fn filter(wanted: &WantedCosts, today: Day) -> Result<CostFilter, Problem> {
    let to = wanted.to.map_or(today, Day::on);
    let from = wanted.from.map_or_else(|| Month::of(to).first(), Day::on);
    if from > to || to.number() - from.number() >= DAYS_MAX {
        return Err(bad(format!(
            "from must be no later than to, and the two at most {DAYS_MAX} days, not {from} and {to}"
        )));
    }
    let by = wanted.by.as_deref().map_or(Some(CostBy::Day), CostBy::parse);
    let by = by.ok_or_else(|| bad("by must be `day`, `tenant` or `model`".into()))?;
    Ok(CostFilter { from, to, by, limit: super::lines(wanted.limit)? })
}

fn bad(why: String) -> Problem {
    Problem::new(ProblemType::BadQuery, why)
}
