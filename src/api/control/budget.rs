//! Owns how a budget is shown, whose costs a caller reaches, and the answer to a change of a budget.

use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::auth::Caller;
use super::super::problem::{Problem, ProblemType};
use super::super::{ApiState, json};
use crate::domain::{Month, Scope, TenantId, time};
use crate::ports::costs::{BudgetAct, BudgetUse};

/// A tenant's budget, with what is spent of it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BudgetView {
    #[schema(value_type = String)]
    tenant_id: TenantId,
    monthly_micros: i64,
    /// The same as a decimal, in units.
    #[schema(example = "25")]
    monthly: String,
    /// The share at which somebody is warned.
    #[schema(example = 80)]
    warn_percent: u8,
    /// Whether, once it is used up, people decide and nothing more is spent.
    stop: bool,
    #[schema(format = "date-time")]
    set_at: String,
    set_by: String,
    /// The month (UTC) that `spent` is of.
    #[schema(example = "2026-11")]
    month: String,
    spent_micros: i64,
    #[schema(example = "3.2")]
    spent: String,
    /// `ok`, `warned` or `exhausted`.
    #[schema(example = "ok")]
    state: &'static str,
}

impl BudgetView {
    pub(super) fn of(used: BudgetUse, month: Month) -> Self {
        let (state, terms) = (used.state().as_str(), used.budget.terms);
        Self {
            tenant_id: used.budget.tenant,
            monthly_micros: terms.monthly.get(),
            monthly: terms.monthly.to_string(),
            warn_percent: terms.warn_percent,
            stop: terms.stop,
            set_at: time::text(used.budget.set_at),
            set_by: used.budget.set_by,
            month: month.to_string(),
            spent_micros: used.spent.get(),
            spent: used.spent.to_string(),
            state,
        }
    }
}

/// A budget after a change.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BudgetChanged {
    /// False where it was so before: nothing was written.
    changed: bool,
    /// Null where the tenant has none.
    budget: Option<BudgetView>,
}

/// Whose costs a caller sees: an operator everybody's or the tenant's that it names, others their own.
pub(super) fn reach(caller: &Caller, said: Option<TenantId>) -> Result<Scope, Problem> {
    if caller.is_operator() {
        return Ok(Scope::of(said.or_else(|| caller.tenant.clone()).as_ref()));
    }
    super::keys_list::own(caller, said).map(|own| Scope::of(own.as_ref()))
}

/// A tenant's budget.
pub(super) async fn read(api: &ApiState, tenant: &TenantId, month: Month) -> Result<Option<BudgetView>, Problem> {
    let mut found = api.registry.budgets(&Scope::Tenant(tenant.clone()), month, None, 1).await?;
    Ok(found.pop().map(|used| BudgetView::of(used, month)))
}

/// Tells what became of a change.
pub(super) async fn answer(
    api: &ApiState,
    (caller, tenant): (&Caller, &TenantId),
    action: &str,
    act: BudgetAct,
) -> Result<Response, Problem> {
    let changed = match act {
        BudgetAct::Done(_) => true,
        BudgetAct::Already(_) => false,
        BudgetAct::Full => {
            return Err(Problem::new(ProblemType::BudgetsFull, "as many tenants as can have a budget have one"));
        }
    };
    tracing::info!(tenant.id = %tenant, actor = %caller.subject, action, changed, "a budget was changed");
    let budget = read(api, tenant, Month::at(api.clock.now())).await?;
    Ok(json(StatusCode::OK, &BudgetChanged { changed, budget }))
}
