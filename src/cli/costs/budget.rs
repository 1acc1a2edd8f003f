//! `costs budget`: sets a tenant's budget or takes it away, through the control API.

use serde_json::json;

use crate::cli::args::BudgetChange;
use crate::cli::http::{Api, Refused};
use crate::cli::screen::clean;
use crate::cli::{CliError, Exit, Screen};

pub(super) async fn run(args: &BudgetChange, screen: &mut Screen<'_>) -> Result<Exit, CliError> {
    let path = format!("/v1/costs/budgets/{}", args.tenant);
    let (path, body) = match &args.monthly {
        None => (format!("{path}/remove"), json!({ "reason": args.reason })),
        Some(monthly) => {
            let monthly = monthly.to_string();
            let body = json!({
                "monthly": monthly, "warn_percent": args.warn, "stop": args.stop, "reason": args.reason
            });
            (path, body)
        }
    };
    let api = Api::new(&args.access)?;
    let answer = api.post(&path, &body).await.map_err(|refused| match refused {
        Refused::One(why) => CliError::Api { url: api.shown(&path), why, advice: "check the tenant and the amount" },
        Refused::All(error) => error,
    })?;
    if args.json {
        screen.json(&answer)?;
        return Ok(Exit::Done);
    }
    let before = if answer["changed"] == false { ", as before" } else { "" };
    writeln!(screen.out, "{}{before}", clean(&sentence(args)))?;
    Ok(Exit::Done)
}

fn sentence(args: &BudgetChange) -> String {
    let tenant = &args.tenant;
    match &args.monthly {
        None => format!("tenant {tenant} has no budget"),
        Some(monthly) if args.stop => {
            format!("tenant {tenant}: {monthly} a month; once that is used up, people decide")
        }
        Some(monthly) => format!("tenant {tenant}: {monthly} a month; once that is used up, somebody is warned"),
    }
}
