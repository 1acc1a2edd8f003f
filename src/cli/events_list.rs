//! `events list`: events, newest first.

use serde_json::{Value, json};

use super::args::EventList;
use super::{CliError, Exit, Reading, Screen, table};
use crate::crypto::reveal::ERASED;
use crate::domain::{EventBody, time};
use crate::ports::EventStore;
use crate::ports::store::{EventFilter, EventSummary};

/// How many are asked of the store at once.
const PAGE: u32 = 500;

pub(super) async fn run(args: &EventList, reading: Reading<'_>, screen: &mut Screen<'_>) -> Result<Exit, CliError> {
    let events = reading.keyring.reveal_list(read(args, reading.store).await?).await?;
    if args.json {
        screen.json(&events.iter().map(summary_json).collect::<Vec<_>>())?;
        return Ok(Exit::Done);
    }
    if events.is_empty() {
        writeln!(screen.out, "no events{}", narrowed(args))?;
        return Ok(Exit::Done);
    }
    let mut table = table::table(screen, &["event", "accepted", "tenant", "kind", "type", "status"]);
    for event in &events {
        let body = EventBody::from_canonical(&event.body).ok();
        let (kind, event_type) = body.map_or_else(|| unread(event), |b| (b.kind.as_str(), b.event_type));
        table.add_row([
            table::text(event.id),
            table::text(time::text(event.id.created_at())),
            table::text(&event.tenant),
            table::text(kind),
            table::text(event_type),
            table::status(event.status),
        ]);
    }
    writeln!(screen.out, "{}", table.trim_fmt())?;
    if events.len() == args.limit as usize {
        writeln!(screen.out, "the newest {}; more with --limit", args.limit)?;
    }
    Ok(Exit::Done)
}

/// What stands for kind and type of an event that can't be read.
fn unread(event: &EventSummary) -> (&'static str, String) {
    let word = if event.body.is_empty() { ERASED } else { "?" };
    ("?", word.to_owned())
}

async fn read(args: &EventList, store: &dyn EventStore) -> Result<Vec<EventSummary>, CliError> {
    let mut events: Vec<EventSummary> = Vec::new();
    while events.len() < args.limit as usize {
        let limit = PAGE.min(args.limit - events.len() as u32);
        let before = events.last().map(|e| e.id);
        let filter = EventFilter { tenant: args.tenant.clone(), status: args.status, before, limit };
        let page = store.list_events(&filter).await?;
        let last = page.len() < limit as usize;
        events.extend(page);
        if last {
            break;
        }
    }
    Ok(events)
}

fn narrowed(args: &EventList) -> String {
    let tenant = args.tenant.as_ref().map(|t| format!(" of tenant {t}")).unwrap_or_default();
    let status = args.status.map(|s| format!(" with status {s}")).unwrap_or_default();
    format!("{tenant}{status}")
}

fn summary_json(event: &EventSummary) -> Value {
    let body: Value = serde_json::from_slice(&event.body).unwrap_or(Value::Null);
    json!({
        "event_id": event.id, "tenant_id": event.tenant, "status": event.status,
        "created_at": time::text(event.id.created_at()), "correlation_id": event.correlation_id, "event": body,
    })
}
