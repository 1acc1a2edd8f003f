//! `tenants erase`: says what would be destroyed, and then, unless that was all, destroys it.

use serde_json::{Value, json};

use super::refused;
use crate::cli::args::TenantErase;
use crate::cli::http::Api;
use crate::cli::screen::clean;
use crate::cli::{CliError, Exit, Screen};

pub(super) async fn run(args: &TenantErase, screen: &mut Screen<'_>) -> Result<Exit, CliError> {
    let api = Api::new(&args.access)?;
    let path = format!("/v1/tenants/{}/erase", args.tenant);
    let ask = |dry_run: bool| {
        let body = json!({ "subject": args.subject, "reason": args.reason, "dry_run": dry_run });
        let (api, path) = (&api, &path);
        async move { api.post(path, &body).await.map_err(|e| refused(api, path, e)) }
    };
    let survey = ask(true).await?;
    let whose = match &args.subject {
        Some(subject) => format!("subject {subject} of tenant {}", args.tenant),
        None => format!("the whole tenant {}", args.tenant),
    };
    if args.dry_run || survey["erased"] == true {
        return tell(&survey, args.json, &foreseen(&whose, &survey), screen);
    }
    if !args.json {
        writeln!(screen.out, "{}", clean(&foreseen(&whose, &survey)))?;
    }
    let done = ask(false).await?;
    tell(&done, args.json, &format!("{whose} is erased; within 2 s no process opens it"), screen)
}

fn foreseen(whose: &str, survey: &Value) -> String {
    if survey["erased"] == true {
        return format!("{whose} is erased, as before");
    }
    let events = survey["events"].as_u64().map_or_else(|| "an unknown number of".to_owned(), |n| n.to_string());
    format!("{whose}: {} keys, {events} stored events that nobody could read any more", survey["keys"])
}

fn tell(answer: &Value, as_json: bool, sentence: &str, screen: &mut Screen<'_>) -> Result<Exit, CliError> {
    if as_json {
        screen.json(answer)?;
    } else {
        writeln!(screen.out, "{}", clean(sentence))?;
    }
    Ok(Exit::Done)
}
