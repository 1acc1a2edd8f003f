//! `explain`: one event's whole way, good enough to answer "where is my event, and why?".

use serde_json::json;

use super::absent::absent;
use super::args::OneEvent;
use super::replay::{Replayed, replay};
use super::screen::{Ink, clean};
use super::timeline::{self, Step, Timeline};
use super::waiting::Around;
use super::{CliError, Exit, Reading, Screen};
use crate::domain::{Scope, Status, time};
use crate::ports::ActiveVersions;

/// The width of the column of moments: `2026-11-21T10:00:00.000Z`.
const MOMENT: usize = 24;

pub(super) async fn run(
    args: &OneEvent,
    (reading, versions): (Reading<'_>, &dyn ActiveVersions),
    screen: &mut Screen<'_>,
) -> Result<Exit, CliError> {
    let store = reading.store;
    let Some(record) = store.event(&Scope::Fleet, args.event).await? else {
        let why = absent(args.event, store).await;
        if args.json {
            let mut shown = json!({ "event_id": args.event, "stored": false });
            if let CliError::Expired { at, .. } = &why {
                shown["expired_at"] = time::text(*at).into();
            }
            screen.json(&shown)?;
        }
        return Err(why);
    };
    let Some(record) = reading.keyring.reveal(record).await? else {
        if args.json {
            screen.json(&json!({ "event_id": args.event, "stored": true, "erased": true }))?;
        }
        return Err(CliError::Erased(args.event));
    };
    let around = Around::of(&record, store).await?;
    let timeline = timeline::tell(&record, &around)?;
    let replayed = replay(&record, versions).await?;
    if args.json {
        let mut shown = json!(timeline);
        shown["stored"] = true.into();
        shown["replay"] = json!(replayed);
        screen.json(&shown)?;
    } else {
        print(&timeline, replayed.as_ref(), screen)?;
    }
    Ok(Exit::when(replayed.is_none_or(|r| !matches!(r, Replayed::Differs { .. }))))
}

fn print(timeline: &Timeline, replayed: Option<&Replayed>, screen: &mut Screen<'_>) -> Result<(), CliError> {
    let ink = match timeline.status {
        Status::Approved => Ink::Green,
        Status::Rejected | Status::Failed => Ink::Red,
        Status::Received | Status::Validated | Status::Processing | Status::Retrying | Status::Escalated => Ink::Yellow,
    };
    let status = screen.paint(ink, timeline.status.as_str());
    writeln!(screen.out, "event {} of tenant {} is {status}", timeline.event_id, timeline.tenant_id)?;
    if let Some(waiting) = &timeline.waiting {
        let text = screen.paint(Ink::Yellow, &clean(&waiting.text));
        writeln!(screen.out, "it waits: {text}")?;
    }
    for step in &timeline.steps {
        print_step(step, screen)?;
    }
    if let Some(replayed) = replayed {
        let ink = if replayed.is_same() { Ink::Green } else { Ink::Red };
        let sentence = screen.paint(ink, &clean(&replayed.sentence()));
        writeln!(screen.out, "  {:MOMENT$}  replay  {sentence}", "")?;
    }
    Ok(())
}

fn print_step(step: &Step, screen: &mut Screen<'_>) -> Result<(), CliError> {
    let name = step.step.replace('_', " ");
    let name = if step.done { screen.paint(Ink::Bold, &name) } else { screen.paint(Ink::Yellow, &name) };
    let at = step.at.as_deref().unwrap_or(if step.done { "" } else { "…" });
    writeln!(screen.out, "  {at:MOMENT$}  {name}  {}", clean(&step.text))?;
    for detail in &step.details {
        writeln!(screen.out, "  {:MOMENT$}    · {}", "", clean(detail))?;
    }
    Ok(())
}
