//! `models register|approve|reject|activate|deactivate`, and of prompts: through the control API.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::cli::args::{ModelDeactivate, To, VersionAct, VersionRegister, VersionReject};
use crate::cli::http::{Api, Refused};
use crate::cli::screen::clean;
use crate::cli::{CliError, Exit, Screen};
use crate::domain::TenantId;
use crate::domain::version::{Artifact, CONTENT_MAX, VersionRef};

/// A version to be registered, its content as it stands in the file.
#[derive(Serialize)]
struct New<'a> {
    name: &'a str,
    content: Box<RawValue>,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant_id: Option<&'a TenantId>,
}

pub(super) async fn register(
    artifact: Artifact,
    args: &VersionRegister,
    screen: &mut Screen<'_>,
) -> Result<Exit, CliError> {
    let content = content(artifact, &args.file)?;
    let (name, tenant_id) = (args.name.as_str(), args.to.tenant.as_ref());
    let new = New { name, content, reason: &args.reason, tenant_id };
    let answer = ask(&args.to, &format!("/v1/{artifact}s"), &new).await?;
    let version = format!("{}@{}", text(&answer["name"]), answer["version"]);
    let next = format!("registered {artifact} {version}: somebody else approves it (`{artifact}s approve {version}`)");
    tell(&answer, &args.to, &next, screen)
}

pub(super) async fn approve(artifact: Artifact, args: &VersionAct, screen: &mut Screen<'_>) -> Result<Exit, CliError> {
    let answer = act(artifact, &args.version, "approve", args.reason.as_deref(), &args.to).await?;
    tell(&answer, &args.to, &format!("{artifact} {} is approved", args.version), screen)
}

pub(super) async fn reject(
    artifact: Artifact,
    args: &VersionReject,
    screen: &mut Screen<'_>,
) -> Result<Exit, CliError> {
    let answer = act(artifact, &args.version, "reject", Some(&args.reason), &args.to).await?;
    tell(&answer, &args.to, &format!("{artifact} {} is rejected", args.version), screen)
}

pub(super) async fn activate(args: &VersionAct, screen: &mut Screen<'_>) -> Result<Exit, CliError> {
    let answer = act(Artifact::Model, &args.version, "activate", args.reason.as_deref(), &args.to).await?;
    let tenant = text(&answer["tenant_id"]);
    let done = format!("model {} decides for tenant {tenant}, in every worker within 2 s", args.version);
    tell(&answer, &args.to, &done, screen)
}

pub(super) async fn deactivate(args: &ModelDeactivate, screen: &mut Screen<'_>) -> Result<Exit, CliError> {
    let path = with_tenant("/v1/models/deactivate".into(), &args.to);
    let answer = ask(&args.to, &path, &json!({ "reason": args.reason })).await?;
    let done = match answer["deactivated"].as_str() {
        Some(version) => format!("model {version} decides no more: the baseline does"),
        None => "no model was active: the baseline decides, as before".into(),
    };
    tell(&answer, &args.to, &done, screen)
}

async fn act(
    artifact: Artifact,
    version: &VersionRef,
    verb: &str,
    reason: Option<&str>,
    to: &To,
) -> Result<Value, CliError> {
    let path = with_tenant(format!("/v1/{artifact}s/{}/{}/{verb}", version.name, version.number), to);
    ask(to, &path, &reason.map_or_else(|| json!({}), |reason| json!({ "reason": reason }))).await
}

/// A tenant's characters need no escapes.
fn with_tenant(path: String, to: &To) -> String {
    match &to.tenant {
        Some(tenant) => format!("{path}?tenant={tenant}"),
        None => path,
    }
}

async fn ask(to: &To, path: &str, body: &(impl Serialize + Sync)) -> Result<Value, CliError> {
    let api = Api::new(&to.access)?;
    api.post(path, body).await.map_err(|refused| match refused {
        Refused::One(why) => CliError::Api { url: api.shown(path), why, advice: "`list` and `show` say what there is" },
        Refused::All(error) => error,
    })
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

fn tell(answer: &Value, to: &To, sentence: &str, screen: &mut Screen<'_>) -> Result<Exit, CliError> {
    if to.json {
        screen.json(answer)?;
    } else {
        writeln!(screen.out, "{}", clean(sentence))?;
    }
    Ok(Exit::Done)
}

/// A model byte by byte, a prompt as a JSON text.
fn content(artifact: Artifact, file: &Path) -> Result<Box<RawValue>, CliError> {
    let fail = |why: String, advice| CliError::Input { file: file.display().to_string(), why, advice };
    let text = read(file).map_err(|e| fail(e.to_string(), "check its name and that you may read it"))?;
    if text.len() > CONTENT_MAX {
        return Err(fail(format!("it has more than {CONTENT_MAX} bytes"), "a version holds no more"));
    }
    let json = match artifact {
        Artifact::Model => Ok(text),
        Artifact::Prompt => serde_json::to_string(&text),
    };
    json.and_then(RawValue::from_string).map_err(|e| fail(e.to_string(), "a model is one JSON object"))
}

/// At most one byte more than a version holds.
fn read(file: &Path) -> io::Result<String> {
    let (mut text, most) = (String::new(), CONTENT_MAX as u64 + 1);
    if file == Path::new("-") {
        io::stdin().take(most).read_to_string(&mut text)?;
    } else {
        File::open(file)?.take(most).read_to_string(&mut text)?;
    }
    Ok(text)
}
