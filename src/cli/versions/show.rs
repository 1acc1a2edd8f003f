//! `models show`, `prompts show`: one version with its content.

use serde_json::{Value, json};

use crate::cli::args::VersionShow;
use crate::cli::screen::{Ink, clean};
use crate::cli::{CliError, Exit, Screen};
use crate::domain::audit::sha256;
use crate::domain::time;
use crate::domain::version::{Artifact, Version, VersionKey};
use crate::ports::Registry;

pub(super) async fn run(
    artifact: Artifact,
    args: &VersionShow,
    registry: &dyn Registry,
    screen: &mut Screen<'_>,
) -> Result<Exit, CliError> {
    let key = VersionKey { tenant: args.tenant.clone(), artifact, version: args.version.clone() };
    let found = registry.version_content(&key).await?;
    let found = found.ok_or_else(|| CliError::NoVersion { artifact, version: args.version.to_string() })?;
    let intact = sha256(&found.content) == found.version.sha256;
    if args.content {
        screen.out.write_all(&found.content)?;
        return Ok(Exit::when(intact));
    }
    if args.json {
        let shown = json!({
            "version": found.version.view(),
            "intact": intact,
            "content": content(artifact, &found.content),
        });
        screen.json(&shown)?;
        return Ok(Exit::when(intact));
    }
    print(&found.version, intact, screen)?;
    for line in String::from_utf8_lossy(&found.content).lines() {
        writeln!(screen.out, "  {}", clean(line))?;
    }
    Ok(Exit::when(intact))
}

/// The content as JSON: a model's object, a prompt's text; what was changed may be neither.
fn content(artifact: Artifact, content: &[u8]) -> Value {
    match artifact {
        Artifact::Model => serde_json::from_slice(content).unwrap_or(Value::Null),
        Artifact::Prompt => String::from_utf8_lossy(content).into(),
    }
}

fn print(version: &Version, intact: bool, screen: &mut Screen<'_>) -> Result<(), CliError> {
    let (at, reason) = (time::text(version.at), clean(&version.reason));
    writeln!(
        screen.out,
        "{} {} of tenant {} is {}",
        version.key.artifact, version.key.version, version.key.tenant, version.review
    )?;
    writeln!(screen.out, "  registered  {at} by {}: {reason}", clean(&version.author))?;
    if let Some(verdict) = &version.verdict {
        let why = verdict.reason.as_deref().map(|why| format!(": {}", clean(why))).unwrap_or_default();
        writeln!(screen.out, "  decided     {} by {}{why}", time::text(verdict.at), clean(&verdict.by))?;
    }
    writeln!(screen.out, "  sha256      {}", hex::encode(version.sha256))?;
    if !intact {
        let changed =
            screen.paint(Ink::Red, "CHANGED: the content does not give this SHA-256; no worker decides by it");
        writeln!(screen.out, "  {changed}")?;
    }
    writeln!(screen.out, "content ({} bytes)", version.bytes)?;
    Ok(())
}
