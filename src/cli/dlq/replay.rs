//! `dlq replay`: dead letters become pending again, by their ids or all of them.

use super::tally::{self, Change};
use crate::cli::args::DeadReplay;
use crate::cli::http::{Api, Refused};
use crate::cli::{CliError, Exit, Screen};

/// Dead letters of one page of the API.
const PAGE: usize = 1_000;

/// Dead letters of one command.
const ALL_MAX: usize = 100_000;

pub(super) async fn run(args: &DeadReplay, screen: &mut Screen<'_>) -> Result<Exit, CliError> {
    let api = Api::new(&args.access)?;
    let events = if args.all { all(&api, args).await? } else { args.events.iter().map(ToString::to_string).collect() };
    if events.is_empty() && !args.json {
        writeln!(screen.out, "no dead letters")?;
        return Ok(Exit::Done);
    }
    let many = events.len() >= ALL_MAX;
    let change = Change { verb: "replay", done: "replayed", reason: args.reason.as_deref() };
    let exit = tally::each(&api, events, change, screen).await.tell(args.json, screen)?;
    if many {
        writeln!(screen.err, "these were the newest {ALL_MAX}; run it again for the others")?;
    }
    Ok(exit)
}

/// The ids of every dead letter, read before any is replayed: one that dies again is not met twice.
async fn all(api: &Api, args: &DeadReplay) -> Result<Vec<String>, CliError> {
    let tenant = args.tenant.as_ref().map(|tenant| format!("&tenant={tenant}")).unwrap_or_default();
    let mut events: Vec<String> = Vec::new();
    let mut before = String::new();
    while events.len() < ALL_MAX {
        let path = format!("/v1/dead-letters?limit={PAGE}{tenant}{before}");
        let page = api.get(&path).await.map_err(|refused| match refused {
            Refused::One(why) => CliError::Api { url: api.shown(&path), why, advice: "check --tenant" },
            Refused::All(error) => error,
        })?;
        let ids = page["items"].as_array().into_iter().flatten().filter_map(|item| item["event_id"].as_str());
        events.extend(ids.map(str::to_owned));
        match page["next"].as_str() {
            Some(next) => before = format!("&before={next}"),
            None => break,
        }
    }
    events.truncate(ALL_MAX);
    Ok(events)
}
