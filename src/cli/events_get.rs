//! `events get`: one event with its decision and approval.

use serde_json::{Map, Value, json};

use super::args::OneEvent;
use super::screen::clean;
use super::{CliError, Exit, Reading, Screen};
use crate::domain::{Decision, EventId, time};
use crate::ports::store::{Disposition, EventRecord};

pub(super) async fn run(args: &OneEvent, reading: Reading<'_>, screen: &mut Screen<'_>) -> Result<Exit, CliError> {
    let record = reading.record(args.event).await?;
    let shown = document(&record)?;
    if args.json {
        screen.json(&shown)?;
        return Ok(Exit::Done);
    }
    for part in ["status", "event", "decision", "cost", "dead_letter", "approval"] {
        match &shown[part] {
            Value::Null => {}
            Value::String(text) => writeln!(screen.out, "{part}: {}", clean(text))?,
            other => print_part(screen, part, other)?,
        }
    }
    writeln!(screen.out, "the way it took: riskfleet explain {}", args.event)?;
    Ok(Exit::Done)
}

fn print_part(screen: &mut Screen<'_>, part: &str, value: &Value) -> Result<(), CliError> {
    writeln!(screen.out, "{part}:")?;
    for line in format!("{value:#}").lines() {
        writeln!(screen.out, "  {}", clean(line))?;
    }
    Ok(())
}

/// `{event,status,decision,approval}`, and `dead_letter` where the event ended as one.
fn document(record: &EventRecord) -> Result<Value, CliError> {
    let stored = &record.event;
    let unreadable = |why| CliError::Unreadable { what: "event", event: stored.id, why };
    let mut event: Map<String, Value> = serde_json::from_slice(&stored.body).map_err(unreadable)?;
    event.insert("event_id".into(), json!(stored.id));
    event.insert("correlation_id".into(), json!(stored.correlation_id));
    event.insert("created_at".into(), time::text(stored.id.created_at()).into());
    let mut shown = json!({ "event": event, "status": record.status(), "decision": null, "approval": record.approval });
    match record.end.as_ref().map(|end| (&end.disposition, end.at)) {
        None => {}
        Some((Disposition::Decided { decision, timings, .. }, _)) => {
            let verdict = record.approval.as_ref().and_then(|a| a.verdict);
            let charge = record.charge().view();
            if !charge.is_null() {
                shown["cost"] = charge;
            }
            shown["decision"] = read_decision(stored.id, decision)?.view(verdict, timings);
        }
        Some((Disposition::Dead { class, error, attempts }, at)) => {
            shown["dead_letter"] =
                json!({ "category": class, "error": error, "attempts": attempts, "at": time::text(at) });
        }
    }
    Ok(shown)
}

/// The stored decision of an event.
pub(super) fn read_decision(event: EventId, text: &[u8]) -> Result<Decision, CliError> {
    Decision::from_canonical(text).map_err(|why| CliError::Unreadable { what: "decision", event, why })
}
