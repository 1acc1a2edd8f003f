//! `dlq discard`: dead letters leave the list for good, with a reason.

use super::tally::{self, Change};
use crate::cli::args::DeadDiscard;
use crate::cli::http::Api;
use crate::cli::{CliError, Exit, Screen};

pub(super) async fn run(args: &DeadDiscard, screen: &mut Screen<'_>) -> Result<Exit, CliError> {
    let api = Api::new(&args.access)?;
    let events = args.events.iter().map(ToString::to_string).collect();
    let change = Change { verb: "discard", done: "discarded", reason: Some(&args.reason) };
    tally::each(&api, events, change, screen).await.tell(args.json, screen)
}
