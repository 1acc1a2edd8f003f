//! `repair`: the workers publish again what no queue may hold any more.

use super::args::Repair;
use super::http::{Api, Refused};
use super::{CliError, Exit, Screen};

const PATH: &str = "/v1/fleet/repair";

/// Asks the control API for a repair.
pub async fn repair(args: &Repair, screen: &mut Screen<'_>) -> Exit {
    let done = ask(args, screen).await;
    screen.conclude(done)
}

async fn ask(args: &Repair, screen: &mut Screen<'_>) -> Result<Exit, CliError> {
    let api = Api::new(&args.access)?;
    let answer = api.change(PATH, args.reason.as_deref()).await.map_err(|refused| match refused {
        Refused::One(why) => CliError::Api { url: api.shown(PATH), why, advice: "check --reason" },
        Refused::All(error) => error,
    })?;
    if args.json {
        screen.json(&answer)?;
    } else {
        let count = answer["repair"].as_u64().unwrap_or_default();
        writeln!(screen.out, "repair {count} is asked for: each worker publishes its pending events again")?;
        writeln!(screen.out, "see it work down: riskfleet fleet status --watch")?;
    }
    Ok(Exit::Done)
}
