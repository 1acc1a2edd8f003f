//! `tenants retention|hold|release`: a change of one tenant, through the control API.

use serde_json::{Value, json};

use super::list::kept;
use super::refused;
use crate::cli::args::{Access, TenantReason, TenantRetention};
use crate::cli::http::Api;
use crate::cli::screen::clean;
use crate::cli::{CliError, Exit, Screen};
use crate::domain::TenantId;

/// Sets how long a tenant's events are kept.
pub(super) async fn retention(args: &TenantRetention, screen: &mut Screen<'_>) -> Result<Exit, CliError> {
    let days = args.days.filter(|_| !args.fleet);
    let body = json!({ "retention_days": days, "reason": args.reason });
    let answer = ask(&args.access, &args.tenant, "retention", &body).await?;
    tell(&answer, args.json, &format!("tenant {}: kept {}", args.tenant, kept(days)), screen)
}

/// Puts a tenant under legal hold.
pub(super) async fn hold(args: &TenantReason, screen: &mut Screen<'_>) -> Result<Exit, CliError> {
    let answer = ask(&args.access, &args.tenant, "hold", &json!({ "reason": args.reason })).await?;
    tell(&answer, args.json, &format!("tenant {} is under legal hold", args.tenant), screen)
}

/// Releases a legal hold.
pub(super) async fn release(args: &TenantReason, screen: &mut Screen<'_>) -> Result<Exit, CliError> {
    let answer = ask(&args.access, &args.tenant, "release", &json!({ "reason": args.reason })).await?;
    tell(&answer, args.json, &format!("tenant {} is under no legal hold", args.tenant), screen)
}

async fn ask(access: &Access, tenant: &TenantId, verb: &str, body: &Value) -> Result<Value, CliError> {
    let api = Api::new(access)?;
    let path = format!("/v1/tenants/{tenant}/{verb}");
    api.post(&path, body).await.map_err(|e| refused(&api, &path, e))
}

fn tell(answer: &Value, as_json: bool, sentence: &str, screen: &mut Screen<'_>) -> Result<Exit, CliError> {
    if as_json {
        screen.json(answer)?;
    } else {
        let before = if answer["changed"] == false { ", as before" } else { "" };
        writeln!(screen.out, "{}{before}", clean(sentence))?;
    }
    Ok(Exit::Done)
}
