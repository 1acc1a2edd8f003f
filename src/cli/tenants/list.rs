//! `tenants list`: who there is, and what is set of them.

use serde_json::{Value, json};

use crate::cli::args::TenantList;
use crate::cli::{CliError, Exit, Screen, table};
use crate::domain::time;
use crate::ports::Registry;
use crate::ports::tenants::Tenant;

/// How many are asked of the store at once.
const PAGE: u32 = 500;

pub(super) async fn run(args: &TenantList, registry: &dyn Registry, screen: &mut Screen<'_>) -> Result<Exit, CliError> {
    let tenants = read(args.limit, registry).await?;
    if args.json {
        screen.json(&tenants.iter().map(line_json).collect::<Vec<_>>())?;
        return Ok(Exit::Done);
    }
    if tenants.is_empty() {
        writeln!(screen.out, "no tenants")?;
        return Ok(Exit::Done);
    }
    let mut table = table::table(screen, &["tenant", "retention", "hold", "since", "by"]);
    for tenant in &tenants {
        let hold = tenant.hold.as_ref();
        table.add_row([
            table::text(&tenant.id),
            table::text(kept(tenant.retention_days)),
            table::text(hold.map_or("-", |hold| &hold.reason)),
            table::text(hold.map_or_else(|| "-".to_owned(), |hold| time::text(hold.at))),
            table::text(hold.map_or("-", |hold| &hold.by)),
        ]);
    }
    writeln!(screen.out, "{}", table.trim_fmt())?;
    if tenants.len() == args.limit as usize {
        writeln!(screen.out, "the first {}; more with --limit", args.limit)?;
    }
    Ok(Exit::Done)
}

async fn read(limit: u32, registry: &dyn Registry) -> Result<Vec<Tenant>, CliError> {
    let mut tenants: Vec<Tenant> = Vec::new();
    while tenants.len() < limit as usize {
        let wanted = PAGE.min(limit - tenants.len() as u32);
        let after = tenants.last().map(|tenant| tenant.id.clone());
        let page = registry.list_tenants(after.as_ref(), wanted).await?;
        let last = page.len() < wanted as usize;
        tenants.extend(page);
        if last {
            break;
        }
    }
    Ok(tenants)
}

/// A retention in words.
pub(super) fn kept(days: Option<u32>) -> String {
    match days {
        None => "the fleet's".into(),
        Some(0) => "for ever".into(),
        Some(1) => "1 day".into(),
        Some(days) => format!("{days} days"),
    }
}

/// As the control API shows it.
pub(super) fn line_json(tenant: &Tenant) -> Value {
    let hold = tenant.hold.as_ref();
    json!({
        "tenant_id": tenant.id,
        "created_at": tenant.created_at.map(time::text),
        "retention_days": tenant.retention_days,
        "hold": hold.map(|hold| json!({ "reason": hold.reason, "by": hold.by, "at": time::text(hold.at) })),
    })
}
