//! `costs`: what decisions have cost, and what a tenant's month may cost. Reading takes the registry; what
//! changes something goes through the control API, so that roles and audit hold for it.

mod budget;
mod budgets;
mod show;

use chrono::{DateTime, Utc};

use super::args::{BudgetChange, CostsRead};
use super::{Exit, Screen};
use crate::ports::Registry;

/// Runs `costs show` or `costs budgets`.
pub async fn costs_read(
    command: &CostsRead,
    registry: &dyn Registry,
    now: DateTime<Utc>,
    screen: &mut Screen<'_>,
) -> Exit {
    let done = match command {
        CostsRead::Show(args) => show::run(args, registry, now, screen).await,
        CostsRead::Budgets(args) => budgets::run(args, registry, now, screen).await,
    };
    screen.conclude(done)
}

/// Runs `costs budget`.
pub async fn costs_budget(change: &BudgetChange, screen: &mut Screen<'_>) -> Exit {
    let done = budget::run(change, screen).await;
    screen.conclude(done)
}
