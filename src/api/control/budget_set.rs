//! `POST /v1/costs/budgets/{id}`: what a tenant's month may cost.

use axum::extract::{Path, Request, State};
use axum::response::Response;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::super::Shared;
use super::super::auth::Caller;
use super::super::docs::BudgetSetProblems;
use super::super::observe::RequestContext;
use super::super::problem::Problem;
use super::budget::{BudgetChanged, answer};
use super::tenant::reached;
use super::{reason, record};
use crate::domain::budget::{BUDGET_MAX, WARN_PERCENT};
use crate::domain::{AuditBody, BudgetTerms, Micros, Permission, Violation};

const ACTION: &str = "budget_set";

/// How much, and why.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the schema of what is taken field by field, to name every wrong one")]
pub(super) struct NewBudget {
    /// What a month (UTC) may cost, as a decimal with at most 6 places, up to 1,000,000,000; 0 is used up at once.
    #[schema(example = "25.00", pattern = r"^[0-9]{1,9}(\.[0-9]{1,6})?$")]
    monthly: String,
    /// The share in percent at which somebody is warned.
    #[schema(minimum = 1, maximum = 100, default = 80)]
    warn_percent: Option<u8>,
    /// Whether, once it is used up, people decide and nothing more is spent.
    #[schema(default = false)]
    stop: Option<bool>,
    /// 1 to 1,000 characters; stands in the audit, so no personal data.
    #[schema(example = "contract 12")]
    reason: String,
}

/// Set a tenant's budget
///
/// With `stop`, every event is escalated (`BUDGET_EXHAUSTED`) once the month's budget is used up, a few seconds
/// later: what is decided until workers have seen it is spent beyond.
#[utoipa::path(
    post,
    path = "/v1/costs/budgets/{id}",
    tag = "costs",
    params(("id" = String, Path, description = "The tenant")),
    request_body(content = NewBudget),
    responses((status = 200, body = BudgetChanged, description = "It is set"), BudgetSetProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("manage_tenants"))),
)]
pub(super) async fn set_budget(
    State(api): State<Shared>,
    caller: Caller,
    context: RequestContext,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let id = reached(&caller, Permission::ManageTenants, &id)?;
    let (parts, body) = request.into_parts();
    let given = reason::object(&api, &parts.headers, body).await?.unwrap_or_default();
    let (terms, reason) = read(given)?;
    let resource = ("budget", id.to_string());
    let audit = AuditBody { reason: Some(reason), ..record::act(&api, (&caller, &context), &id, ACTION, resource) };
    let act = api.registry.set_budget(&id, Some(&terms), &audit).await?;
    answer(&api, (&caller, &id), ACTION, act).await
}

fn read(mut given: Map<String, Value>) -> Result<(BudgetTerms, String), Problem> {
    let mut violations = Vec::new();
    let monthly = match given.remove("monthly") {
        Some(Value::String(text)) => text.parse::<Micros>().ok().filter(|monthly| *monthly <= BUDGET_MAX),
        _ => None,
    };
    if monthly.is_none() {
        let why = format!("must be a text with a decimal from 0 to {BUDGET_MAX} with at most 6 places, as \"25.00\"");
        violations.push(Violation::at("/monthly", why));
    }
    let warn_percent = match given.remove("warn_percent") {
        None | Some(Value::Null) => Some(WARN_PERCENT),
        Some(value) => value.as_u64().filter(|n| (1..=100).contains(n)).and_then(|n| u8::try_from(n).ok()),
    };
    if warn_percent.is_none() {
        violations.push(Violation::at("/warn_percent", "must be a whole number from 1 to 100"));
    }
    let stop = match given.remove("stop") {
        None | Some(Value::Null) => Some(false),
        Some(value) => value.as_bool(),
    };
    if stop.is_none() {
        violations.push(Violation::at("/stop", "must be true or false"));
    }
    match (reason::of(&given), monthly, warn_percent, stop) {
        (Ok(Some(reason)), Some(monthly), Some(warn_percent), Some(stop)) => {
            return Ok((BudgetTerms { monthly, warn_percent, stop }, reason));
        }
        (Ok(None), ..) => violations.push(Violation::at("/reason", "is required")),
        (Err(more), ..) => violations.extend(more),
        (Ok(Some(_)), ..) => {}
    }
    Err(reason::wrong(violations))
}
