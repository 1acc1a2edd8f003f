//! `costs budgets`: what the tenants' months may cost, and how much of that is spent.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::cli::args::BudgetList;
use crate::cli::{CliError, Exit, Screen, table};
use crate::domain::{Month, Scope, time};
use crate::ports::Registry;
use crate::ports::costs::BudgetUse;

/// How many are asked of the store at once.
const PAGE: u32 = 500;

pub(super) async fn run(
    args: &BudgetList,
    registry: &dyn Registry,
    now: DateTime<Utc>,
    screen: &mut Screen<'_>,
) -> Result<Exit, CliError> {
    let month = Month::at(now);
    let budgets = read(registry, month).await?;
    if args.json {
        screen.json(&budgets.iter().map(|used| line_json(used, month)).collect::<Vec<_>>())?;
        return Ok(Exit::Done);
    }
    if budgets.is_empty() {
        writeln!(screen.out, "no budgets")?;
        return Ok(Exit::Done);
    }
    let mut table = table::table(screen, &["tenant", "monthly", "spent", "state", "warn at", "stops", "since", "by"]);
    for used in &budgets {
        let terms = used.budget.terms;
        table.add_row([
            table::text(&used.budget.tenant),
            table::figure(terms.monthly),
            table::figure(used.spent),
            table::text(used.state().as_str()),
            table::text(format!("{} %", terms.warn_percent)),
            table::text(if terms.stop { "yes" } else { "no" }),
            table::text(time::text(used.budget.set_at)),
            table::text(&used.budget.set_by),
        ]);
    }
    writeln!(screen.out, "{}", table.trim_fmt())?;
    writeln!(screen.out, "spent: in {month}")?;
    Ok(Exit::Done)
}

async fn read(registry: &dyn Registry, month: Month) -> Result<Vec<BudgetUse>, CliError> {
    let mut budgets: Vec<BudgetUse> = Vec::new();
    loop {
        let after = budgets.last().map(|used| used.budget.tenant.clone());
        let page = registry.budgets(&Scope::Fleet, month, after.as_ref(), PAGE).await?;
        let last = page.len() < PAGE as usize;
        budgets.extend(page);
        if last {
            return Ok(budgets);
        }
    }
}

/// As the control API shows it.
fn line_json(used: &BudgetUse, month: Month) -> Value {
    let (budget, terms) = (&used.budget, used.budget.terms);
    json!({
        "tenant_id": budget.tenant,
        "monthly_micros": terms.monthly.get(),
        "monthly": terms.monthly.to_string(),
        "warn_percent": terms.warn_percent,
        "stop": terms.stop,
        "set_at": time::text(budget.set_at),
        "set_by": budget.set_by,
        "month": month.to_string(),
        "spent_micros": used.spent.get(),
        "spent": used.spent.to_string(),
        "state": used.state().as_str(),
    })
}
