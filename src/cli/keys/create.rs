//! `keys create`: a new API key, through the control API. Its text is printed once.

use serde_json::{Value, json};

use crate::cli::args::KeyCreate;
use crate::cli::http::{Api, Refused};
use crate::cli::screen::clean;
use crate::cli::{CliError, Exit, Screen};

const PATH: &str = "/v1/keys";

pub(super) async fn run(args: &KeyCreate, screen: &mut Screen<'_>) -> Result<Exit, CliError> {
    let api = Api::new(&args.access)?;
    let body = json!({"name": args.name, "roles": args.roles, "tenant_id": args.tenant, "expires_at": args.expires_at});
    let answer = api.post(PATH, &body).await.map_err(|refused| match refused {
        Refused::One(why) => CliError::Api { url: api.url(PATH), why, advice: "see `riskfleet keys create --help`" },
        Refused::All(error) => error,
    })?;
    tell(&answer, args.json, screen)
}

/// Prints a key that was made, in the API's words.
pub(super) fn tell(answer: &Value, as_json: bool, screen: &mut Screen<'_>) -> Result<Exit, CliError> {
    if as_json {
        screen.json(answer)?;
        return Ok(Exit::Done);
    }
    let id = answer["api_key"]["id"].as_str().unwrap_or_default();
    writeln!(screen.out, "{}", clean(answer["key"].as_str().unwrap_or_default()))?;
    writeln!(
        screen.err,
        "key {} is made; the line above is shown this once: keep it where secrets are kept",
        clean(id)
    )?;
    Ok(Exit::Done)
}
