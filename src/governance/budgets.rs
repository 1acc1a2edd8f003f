//! Owns the look at budgets: how many are in which state, and one record and one line where one comes to its
//! share of warning or to its end. Never stops anything: workers do.

use metrics::{counter, gauge};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use crate::domain::{AuditBody, BudgetState, Month, Scope, Stream, TenantId};
use crate::ports::costs::BudgetUse;
use crate::ports::{Clock, Costs, StoreError};
use crate::telemetry::names;

/// How often it looks.
const EVERY: Duration = Duration::from_secs(60);

/// Budgets read at once.
const PAGE: u32 = 500;

/// Who the audit names.
const ACTOR: &str = "system:console";

/// Looks after budgets until stopped. Of several that look at once, one notes a crossing: the others find
/// it noted.
pub async fn watch(costs: Arc<dyn Costs>, clock: Arc<dyn Clock>, stop: CancellationToken) {
    loop {
        if let Err(e) = look(&*costs, &*clock).await {
            counter!(names::BUDGET_LOOKS_FAILED).increment(1);
            tracing::warn!(error = %e, "failed to look after budgets");
        }
        if stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none() {
            return;
        }
    }
}

/// One look at every budget. Gives how many crossings it has noted.
///
/// # Errors
/// When the store did not do it; what was noted before stays noted.
pub async fn look(costs: &dyn Costs, clock: &dyn Clock) -> Result<u32, StoreError> {
    let month = Month::at(clock.now());
    let (mut counts, mut noted) = ([0_u32; BudgetState::ALL.len()], 0);
    let mut after: Option<TenantId> = None;
    loop {
        let page = costs.budgets(&Scope::Fleet, month, after.as_ref(), PAGE).await?;
        for used in &page {
            counts[used.state() as usize] += 1;
            noted += u32::from(note(costs, clock, used, month).await?);
        }
        if page.len() < PAGE as usize {
            break;
        }
        after = page.last().map(|used| used.budget.tenant.clone());
    }
    for (state, count) in BudgetState::ALL.into_iter().zip(counts) {
        gauge!(names::BUDGETS, "state" => state.as_str()).set(f64::from(count));
    }
    Ok(noted)
}

/// Notes where a budget has come to, unless that was noted.
async fn note(costs: &dyn Costs, clock: &dyn Clock, used: &BudgetUse, month: Month) -> Result<bool, StoreError> {
    let (state, tenant) = (used.state(), &used.budget.tenant);
    if state <= used.noted.unwrap_or(BudgetState::Ok) {
        return Ok(false);
    }
    let chain = (tenant.clone(), Stream::Control);
    let resource = ("budget", tenant.to_string());
    let audit = AuditBody {
        reason: Some(state.as_str().into()),
        previous: Some(used.noted.unwrap_or(BudgetState::Ok).as_str().into()),
        new: Some(json!({
            "state": state.as_str(), "month": month.to_string(), "spent_micros": used.spent.get(),
            "monthly_micros": used.budget.terms.monthly.get()
        })),
        ..AuditBody::new(chain, clock.now(), ACTOR, "budget_noted", resource)
    };
    let noted = costs.note_budget(tenant, month, state, &audit).await?;
    if noted {
        tracing::warn!(tenant.id = %tenant, %month, state = state.as_str(), spent = %used.spent,
            monthly = %used.budget.terms.monthly, "a budget has come to its limit");
    }
    Ok(noted)
}
