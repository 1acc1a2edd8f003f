//! `dlq show`: one dead letter with its payload, what it died of, and what people did with it.

use serde_json::{Value, json};

use crate::cli::absent::absent;
use crate::cli::args::OneEvent;
use crate::cli::screen::clean;
use crate::cli::{CliError, Exit, Reading, Screen};
use crate::domain::Scope;
use crate::ports::store::EventRecord;

pub(super) async fn run(args: &OneEvent, reading: Reading<'_>, screen: &mut Screen<'_>) -> Result<Exit, CliError> {
    let found = reading.store.event(&Scope::Fleet, args.event).await?;
    let Some(record) = found else { return Err(absent(args.event, reading.store).await) };
    let mut shown = head(&record).ok_or(CliError::NeverDead(args.event))?;
    match reading.keyring.reveal(record).await? {
        Some(record) => payload(&record, &mut shown),
        None => shown["erased"] = true.into(),
    }
    if args.json {
        screen.json(&shown)?;
    } else {
        print(&shown, screen)?;
    }
    Ok(Exit::Done)
}

/// As the control API shows it: the dead letter, without its event.
fn head(record: &EventRecord) -> Option<Value> {
    let mut shown = record.dead_view()?;
    shown["event_id"] = json!(record.event.id);
    shown["tenant_id"] = json!(record.event.tenant);
    Some(shown)
}

/// The event, or `raw` where that is no JSON.
fn payload(record: &EventRecord, shown: &mut Value) {
    match serde_json::from_slice::<Value>(&record.event.body) {
        Ok(event) => shown["event"] = event,
        Err(_) => shown["raw"] = String::from_utf8_lossy(&record.event.body).into(),
    }
}

fn print(shown: &Value, screen: &mut Screen<'_>) -> Result<(), CliError> {
    let text = |value: &Value| clean(value.as_str().unwrap_or("-"));
    let (event, state) = (text(&shown["event_id"]), text(&shown["state"]));
    writeln!(screen.out, "event {event} of tenant {} is {state}", text(&shown["tenant_id"]))?;
    writeln!(screen.out, "  {}", death(shown))?;
    for past in shown["history"].as_array().into_iter().flatten() {
        let reason = past["reason"].as_str().map(|r| format!(": {}", clean(r))).unwrap_or_default();
        writeln!(screen.out, "history")?;
        writeln!(screen.out, "  {}", death(past))?;
        let (at, act) = (text(&past["acted_at"]), text(&past["act"]));
        writeln!(screen.out, "  {at}  {act} by {}{reason}", text(&past["by"]))?;
    }
    writeln!(screen.out, "payload")?;
    if shown["erased"] == true {
        writeln!(screen.out, "  erased")?;
        return Ok(());
    }
    let payload = shown["raw"].as_str().map_or_else(|| format!("{:#}", shown["event"]), str::to_owned);
    for line in payload.lines() {
        writeln!(screen.out, "  {}", clean(line))?;
    }
    if state == "dead" {
        writeln!(screen.out, "next: riskfleet dlq replay {event}, or dlq discard {event} --reason WHY")?;
    }
    Ok(())
}

fn death(shown: &Value) -> String {
    let text = |name: &str| clean(shown[name].as_str().unwrap_or("-"));
    let tries = shown["attempts"].as_u64().unwrap_or_default();
    format!("{}  died after {tries} tries: {}: {}", text("at"), text("category"), text("error"))
}
