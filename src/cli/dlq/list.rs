//! `dlq list`: dead letters that nobody has dealt with, newest event first.

use serde_json::{Value, json};

use crate::cli::args::DeadList;
use crate::cli::{CliError, Exit, Screen, table};
use crate::domain::time;
use crate::ports::EventStore;
use crate::ports::store::{DeadFilter, DeadLetter};

/// How many are asked of the store at once.
const PAGE: u32 = 500;

/// How much of an error a table shows, in characters.
const ERROR_SHOWN: usize = 80;

pub(super) async fn run(args: &DeadList, store: &dyn EventStore, screen: &mut Screen<'_>) -> Result<Exit, CliError> {
    let dead = read(args, store).await?;
    if args.json {
        screen.json(&dead.iter().map(line_json).collect::<Vec<_>>())?;
        return Ok(Exit::Done);
    }
    if dead.is_empty() {
        let narrowed = args.tenant.as_ref().map(|t| format!(" of tenant {t}")).unwrap_or_default();
        writeln!(screen.out, "no dead letters{narrowed}")?;
        return Ok(Exit::Done);
    }
    let mut table = table::table(screen, &["event", "died", "tenant", "category", "tries", "error"]);
    for letter in &dead {
        table.add_row([
            table::text(letter.event),
            table::text(time::text(letter.at)),
            table::text(&letter.tenant),
            table::text(letter.class),
            table::figure(letter.attempts),
            table::text(cut(&letter.error)),
        ]);
    }
    writeln!(screen.out, "{}", table.trim_fmt())?;
    if dead.len() == args.limit as usize {
        writeln!(screen.out, "the newest {}; more with --limit", args.limit)?;
    }
    Ok(Exit::Done)
}

async fn read(args: &DeadList, store: &dyn EventStore) -> Result<Vec<DeadLetter>, CliError> {
    let mut dead: Vec<DeadLetter> = Vec::new();
    while dead.len() < args.limit as usize {
        let limit = PAGE.min(args.limit - dead.len() as u32);
        let filter = DeadFilter { tenant: args.tenant.clone(), before: dead.last().map(|d| d.event), limit };
        let page = store.dead_letters(&filter).await?;
        let last = page.len() < limit as usize;
        dead.extend(page);
        if last {
            break;
        }
    }
    Ok(dead)
}

fn cut(error: &str) -> String {
    match error.char_indices().nth(ERROR_SHOWN) {
        Some((at, _)) => format!("{}…", &error[..at]),
        None => error.to_owned(),
    }
}

fn line_json(letter: &DeadLetter) -> Value {
    json!({
        "event_id": letter.event, "tenant_id": letter.tenant, "category": letter.class, "error": letter.error,
        "attempts": letter.attempts, "at": time::text(letter.at),
    })
}
