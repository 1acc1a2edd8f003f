//! `keys rewrap`: every tenant's key is wrapped by the console's master key, page by page.

use serde_json::{Value, json};

use crate::cli::args::KeysRewrap;
use crate::cli::http::{Api, Refused};
use crate::cli::{CliError, Exit, Screen};

const PATH: &str = "/v1/vault/rewrap";

/// Requests of one command; each wraps some hundred keys.
const REQUESTS_MAX: usize = 20_000;

pub(super) async fn run(args: &KeysRewrap, screen: &mut Screen<'_>) -> Result<Exit, CliError> {
    let api = Api::new(&args.access)?;
    let (mut keys, mut last) = (0, Value::Null);
    for _ in 0..REQUESTS_MAX {
        last = api.post(PATH, &json!({ "reason": args.reason })).await.map_err(|refused| match refused {
            Refused::One(why) => CliError::Api { url: api.url(PATH), why, advice: "check --reason" },
            Refused::All(error) => error,
        })?;
        keys += last["keys"].as_u64().unwrap_or_default();
        if last["more"] != true {
            break;
        }
    }
    last["keys"] = json!(keys);
    if args.json {
        screen.json(&last)?;
    } else {
        let master = last["master"].as_str().unwrap_or("?");
        writeln!(screen.out, "{keys} tenants' keys were wrapped anew; the master key {master} holds")?;
        writeln!(screen.out, "the one before can be taken out of the settings once every process runs with this one")?;
    }
    Ok(Exit::Done)
}
