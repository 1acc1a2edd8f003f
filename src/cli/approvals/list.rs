//! `approvals list`: what waits for a person, newest event first.

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::cli::args::{ApprovalList, ApprovalStateName};
use crate::cli::{CliError, Exit, Screen, table};
use crate::domain::ApprovalRules;
use crate::ports::approvals::{ApprovalFilter, ApprovalLine, ApprovalState};
use crate::ports::{Approvals, EventStore};

/// How many are asked of the store at once.
const PAGE: u32 = 500;

pub(super) async fn run(
    args: &ApprovalList,
    (store, approvals): (&dyn EventStore, &dyn Approvals),
    rules: &ApprovalRules,
    screen: &mut Screen<'_>,
) -> Result<Exit, CliError> {
    let now = store.now().await?;
    let lines: Vec<Value> = read(args, approvals, rules, now).await?.iter().map(|line| line.view(rules, now)).collect();
    if args.json {
        screen.json(&lines)?;
        return Ok(Exit::Done);
    }
    if lines.is_empty() {
        let narrowed = args.tenant.as_ref().map(|t| format!(" of tenant {t}")).unwrap_or_default();
        writeln!(screen.out, "no {} approval requests{narrowed}", word(args.state))?;
        return Ok(Exit::Done);
    }
    let mut table = table::table(screen, &["event", "opened", "due", "tenant", "state", "level", "by"]);
    for line in &lines {
        let text = |name: &str| table::text(line[name].as_str().unwrap_or("-"));
        table.add_row([
            text("event_id"),
            text("opened_at"),
            text("due_at"),
            text("tenant_id"),
            table::text(standing(line)),
            table::figure(&line["level"]),
            table::text(line["decided_by"].as_str().or(line["claimed_by"].as_str()).unwrap_or("-")),
        ]);
    }
    writeln!(screen.out, "{}", table.trim_fmt())?;
    if lines.len() == args.limit as usize {
        writeln!(screen.out, "the newest {}; more with --limit", args.limit)?;
    }
    Ok(Exit::Done)
}

/// The verdict, or whether it is claimed, and overdue.
fn standing(line: &Value) -> String {
    let state = line["verdict"].as_str().or(line["state"].as_str()).unwrap_or("-");
    if line["overdue"] == true { format!("{state}, overdue") } else { state.to_owned() }
}

async fn read(
    args: &ApprovalList,
    approvals: &dyn Approvals,
    rules: &ApprovalRules,
    now: DateTime<Utc>,
) -> Result<Vec<ApprovalLine>, CliError> {
    let state = match args.state {
        ApprovalStateName::Open => ApprovalState::Open,
        ApprovalStateName::Claimed => ApprovalState::Claimed(now),
        ApprovalStateName::Overdue => ApprovalState::Overdue(rules.overdue_by(now)),
        ApprovalStateName::Decided => ApprovalState::Decided,
    };
    let mut lines: Vec<ApprovalLine> = Vec::new();
    while lines.len() < args.limit as usize {
        let limit = PAGE.min(args.limit - lines.len() as u32);
        let before = lines.last().map(|line| line.event);
        let page =
            approvals.list_approvals(&ApprovalFilter { tenant: args.tenant.clone(), state, before, limit }).await?;
        let last = page.len() < limit as usize;
        lines.extend(page);
        if last {
            break;
        }
    }
    Ok(lines)
}

fn word(state: ApprovalStateName) -> &'static str {
    match state {
        ApprovalStateName::Open => "open",
        ApprovalStateName::Claimed => "claimed",
        ApprovalStateName::Overdue => "overdue",
        ApprovalStateName::Decided => "decided",
    }
}
