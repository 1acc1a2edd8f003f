//! `tenants sweep`: drops the days whose time is over, or says what would go and why the rest stays.

use serde_json::{Value, json};

use super::refused;
use crate::cli::args::TenantsSweep;
use crate::cli::http::Api;
use crate::cli::screen::Ink;
use crate::cli::{CliError, Exit, Screen, table};

const PATH: &str = "/v1/retention/sweep";

/// Requests of one command; each drops a week.
const REQUESTS_MAX: usize = 600;

pub(super) async fn run(args: &TenantsSweep, screen: &mut Screen<'_>) -> Result<Exit, CliError> {
    let api = Api::new(&args.access)?;
    let body = json!({ "dry_run": args.dry_run, "reason": args.reason });
    let mut dropped: Vec<Value> = Vec::new();
    let mut last = Value::Null;
    for _ in 0..REQUESTS_MAX {
        last = api.post(PATH, &body).await.map_err(|e| refused(&api, PATH, e))?;
        let went = |day: &&Value| day["fate"] == "dropped";
        let before = dropped.len();
        dropped.extend(last["days"].as_array().into_iter().flatten().filter(went).cloned());
        // Where days may go and none went, somebody else is at it.
        if last["more"] != true || dropped.len() == before {
            break;
        }
    }
    let left = last["days"].as_array().into_iter().flatten().filter(|day| day["fate"] != "dropped").cloned();
    let days: Vec<Value> = dropped.into_iter().chain(left).collect();
    if args.json {
        last["days"] = json!(days);
        screen.json(&last)?;
    } else {
        print(&last, &days, screen)?;
    }
    Ok(Exit::Done)
}

fn print(answer: &Value, days: &[Value], screen: &mut Screen<'_>) -> Result<(), CliError> {
    let kept = match answer["retention_days"].as_u64().unwrap_or(0) {
        0 => "for ever, where a tenant has no retention of its own".to_owned(),
        days => format!("{days} days"),
    };
    writeln!(screen.out, "the fleet keeps events {kept}")?;
    if days.is_empty() {
        writeln!(screen.out, "no day is over of which anything is stored")?;
        return Ok(());
    }
    let mut table = table::table(screen, &["day", "events", "fate", "why"]);
    for day in days {
        let reasons = day["reasons"].as_array().into_iter().flatten();
        let why: Vec<&str> = reasons.filter_map(|reason| reason["detail"].as_str()).collect();
        table.add_row([
            table::text(day["day"].as_str().unwrap_or("?")),
            table::figure(day["events"].as_u64().map_or_else(|| "-".to_owned(), |n| n.to_string())),
            table::text(day["fate"].as_str().unwrap_or("?")),
            table::text(why.join("; ")),
        ]);
    }
    writeln!(screen.out, "{}", table.trim_fmt())?;
    let count = |fate: &str| days.iter().filter(|day| day["fate"] == fate).count();
    let line = match answer["dry_run"] == true {
        true => format!("{} days would go, {} stay", count("goes"), count("stays")),
        false => format!("{} days are gone, {} stay", count("dropped"), count("stays") + count("goes")),
    };
    writeln!(screen.out, "{}", screen.paint(Ink::Bold, &line))?;
    Ok(())
}
