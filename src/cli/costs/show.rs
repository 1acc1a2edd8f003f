//! `costs show`: what decisions have cost.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::cli::args::{CostRows, CostsShow};
use crate::cli::{CliError, Exit, Screen, table};
use crate::domain::retention::Day;
use crate::domain::{Month, Scope};
use crate::ports::Registry;
use crate::ports::costs::{CostBy, CostFilter, CostReport, CostRow, Spent};

pub(super) async fn run(
    args: &CostsShow,
    registry: &dyn Registry,
    now: DateTime<Utc>,
    screen: &mut Screen<'_>,
) -> Result<Exit, CliError> {
    let filter = filter(args, now)?;
    let report = registry.costs(&Scope::of(args.tenant.as_ref()), &filter).await?;
    if args.json {
        screen.json(&document(&filter, &report))?;
        return Ok(Exit::Done);
    }
    if report.rows.is_empty() {
        writeln!(screen.out, "nothing was decided from {} to {}", filter.from, filter.to)?;
        return Ok(Exit::Done);
    }
    print(&filter, &report, screen)?;
    Ok(Exit::Done)
}

fn filter(args: &CostsShow, now: DateTime<Utc>) -> Result<CostFilter, CliError> {
    let to = args.to.map_or_else(|| Day::at(now), Day::on);
    let from = args.from.map_or_else(|| Month::of(to).first(), Day::on);
    if from > to {
        return Err(CliError::Misuse(format!("--from must be no later than --to, not {from} and {to}")));
    }
    let by = match args.by {
        CostRows::Day => CostBy::Day,
        CostRows::Model => CostBy::Model,
        CostRows::Tenant => CostBy::Tenant,
    };
    Ok(CostFilter { from, to, by, limit: args.limit })
}

fn print(filter: &CostFilter, report: &CostReport, screen: &mut Screen<'_>) -> Result<(), CliError> {
    let headings: &[&str] = match filter.by {
        CostBy::Tenant => &["tenant", "decisions", "tokens", "cost"],
        CostBy::Day => &["tenant", "day", "decisions", "tokens", "cost"],
        CostBy::Model => &["tenant", "model", "decisions", "tokens", "cost"],
    };
    let mut table = table::table(screen, headings);
    for CostRow { tenant, day, model, spent } in &report.rows {
        let mut cells = vec![table::text(tenant)];
        cells.extend(day.map(table::text));
        cells.extend(model.as_ref().map(table::text));
        cells.extend([table::figure(spent.decisions), table::figure(spent.tokens), table::figure(spent.cost)]);
        table.add_row(cells);
    }
    writeln!(screen.out, "{}", table.trim_fmt())?;
    let (total, shown) = (report.total, report.rows.len());
    let decisions = total.decisions;
    writeln!(screen.out, "{} to {}: {decisions} decisions, cost {}", filter.from, filter.to, total.cost)?;
    if report.rows_all > shown as i64 {
        writeln!(screen.out, "{shown} of {} rows; more with --limit", report.rows_all)?;
    }
    Ok(())
}

/// As the control API shows it.
fn document(filter: &CostFilter, report: &CostReport) -> Value {
    json!({
        "currency_unit": "micros",
        "from": filter.from,
        "to": filter.to,
        "by": filter.by.as_str(),
        "items": report.rows.iter().map(line).collect::<Vec<_>>(),
        "items_all": report.rows_all,
        "total": figures(&report.total),
    })
}

fn line(row: &CostRow) -> Value {
    let mut line = figures(&row.spent);
    line["tenant_id"] = json!(row.tenant);
    if let Some(day) = row.day {
        line["day"] = json!(day);
    }
    if let Some(model) = &row.model {
        line["model"] = json!(model);
    }
    line
}

fn figures(spent: &Spent) -> Value {
    let Spent { decisions, tokens, cost } = *spent;
    json!({ "decisions": decisions, "tokens": tokens, "cost_micros": cost.get(), "cost": cost.to_string() })
}
