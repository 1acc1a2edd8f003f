//! `keys revoke`: keys that let nobody in any more, with a reason.

use crate::cli::args::KeyRevoke;
use crate::cli::http::{Api, Refused};
use crate::cli::{CliError, Exit, Screen};

pub(super) async fn run(args: &KeyRevoke, screen: &mut Screen<'_>) -> Result<Exit, CliError> {
    let api = Api::new(&args.access)?;
    let path = format!("/v1/keys/{}/revoke", args.key);
    let answer = api.change(&path, Some(&args.reason)).await.map_err(|refused| match refused {
        Refused::One(why) => CliError::Api { url: api.url(&path), why, advice: "see `riskfleet keys list`" },
        Refused::All(error) => error,
    })?;
    if args.json {
        screen.json(&answer)?;
    } else {
        writeln!(screen.out, "key {} is revoked: within 2 s no process takes it", args.key)?;
    }
    Ok(Exit::Done)
}
