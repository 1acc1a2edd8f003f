//! `approvals approve|reject|claim|release|comment`: through the control API.

use serde_json::json;

use crate::cli::args::ApprovalsChange;
use crate::cli::http::{Api, Refused};
use crate::cli::screen::clean;
use crate::cli::{CliError, Exit, Screen};

const LOOK: &str = "`riskfleet approvals show EVENT` says where it stands";

pub(super) async fn run(command: &ApprovalsChange, screen: &mut Screen<'_>) -> Result<Exit, CliError> {
    let (verb, event, body, access, as_json) = match command {
        ApprovalsChange::Approve(a) => ("approve", a.event, json!({"reason": a.reason}), &a.access, a.json),
        ApprovalsChange::Reject(a) => ("reject", a.event, json!({"reason": a.reason}), &a.access, a.json),
        ApprovalsChange::Claim(a) => ("claim", a.event, json!({}), &a.access, a.json),
        ApprovalsChange::Release(a) => ("release", a.event, json!({}), &a.access, a.json),
        ApprovalsChange::Comment(a) => ("comments", a.event, json!({"text": a.text}), &a.access, a.json),
    };
    let api = Api::new(access)?;
    let path = format!("/v1/approvals/{event}/{verb}");
    let answer = api.post(&path, &body).await.map_err(|refused| match refused {
        Refused::One(why) => CliError::Api { url: api.url(&path), why, advice: LOOK },
        Refused::All(error) => error,
    })?;
    if as_json {
        screen.json(&answer)?;
        return Ok(Exit::Done);
    }
    let action = answer["action"].as_str().unwrap_or_default().trim_start_matches("approval_");
    let until = answer["claimed_until"].as_str().map(|until| format!(" until {until}")).unwrap_or_default();
    writeln!(screen.out, "event {event}: {}{}", clean(action), clean(&until))?;
    Ok(Exit::Done)
}
