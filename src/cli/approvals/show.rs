//! `approvals show`: one request with what a person needs to decide it.

use serde_json::Value;

use crate::cli::args::OneEvent;
use crate::cli::screen::clean;
use crate::cli::{CliError, Exit, Reading, Screen};
use crate::domain::ApprovalRules;

pub(super) async fn run(
    args: &OneEvent,
    reading: Reading<'_>,
    rules: &ApprovalRules,
    screen: &mut Screen<'_>,
) -> Result<Exit, CliError> {
    let record = reading.record(args.event).await?;
    let unreadable = |what| move |why| CliError::Unreadable { what, event: args.event, why };
    let shown = record.approval_view(rules, reading.store.now().await?).map_err(unreadable("decision"))?;
    let mut shown = shown.ok_or(CliError::NotEscalated(args.event))?;
    shown["event"] = serde_json::from_slice(&record.event.body).map_err(unreadable("event"))?;
    if args.json {
        screen.json(&shown)?;
    } else {
        print(&shown, screen)?;
    }
    Ok(Exit::Done)
}

fn print(shown: &Value, screen: &mut Screen<'_>) -> Result<(), CliError> {
    let text = |value: &Value| clean(value.as_str().unwrap_or("-"));
    let approval = &shown["approval"];
    let (event, state) = (text(&approval["event_id"]), text(&approval["state"]));
    writeln!(screen.out, "the request about event {event} of tenant {} is {state}", text(&approval["tenant_id"]))?;
    writeln!(screen.out, "  level {}, due {}", approval["level"], text(&approval["due_at"]))?;
    writeln!(screen.out, "why it was escalated (risk score {})", shown["decision"]["risk_score"])?;
    for reason in shown["decision"]["reasons"].as_array().into_iter().flatten() {
        writeln!(screen.out, "  {} [{}]", text(&reason["message"]), text(&reason["code"]))?;
    }
    writeln!(screen.out, "history")?;
    for step in shown["history"].as_array().into_iter().flatten() {
        writeln!(screen.out, "  {}", clean(&told(step)))?;
    }
    for comment in shown["comments"].as_array().into_iter().flatten() {
        writeln!(screen.out, "{} at {} says", text(&comment["by"]), text(&comment["at"]))?;
        for line in comment["text"].as_str().unwrap_or_default().lines() {
            writeln!(screen.out, "  {}", clean(line))?;
        }
    }
    writeln!(screen.out, "event")?;
    for line in format!("{:#}", shown["event"]).lines() {
        writeln!(screen.out, "  {}", clean(line))?;
    }
    if state != "decided" {
        writeln!(screen.out, "next: riskfleet approvals approve {event} --reason WHY, or reject {event} --reason WHY")?;
    }
    Ok(())
}

/// One line of the history.
fn told(step: &Value) -> String {
    let part = |name: &str, before: &str| step[name].as_str().map(|text| format!("{before}{text}")).unwrap_or_default();
    let (verdict, by, until) = (part("verdict", " "), part("by", " by "), part("until", " until "));
    format!("{}  {}{verdict}{by}{until}{}", part("at", ""), part("act", ""), part("reason", ": "))
}
