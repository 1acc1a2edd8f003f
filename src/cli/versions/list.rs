//! `models list`, `prompts list`: the versions of a tenant, by name and number.

use serde_json::Value;

use crate::cli::args::VersionList;
use crate::cli::{CliError, Exit, Screen, table};
use crate::domain::time;
use crate::domain::version::{Artifact, Version, VersionRef};
use crate::ports::Registry;
use crate::ports::versions::VersionFilter;

/// How many are asked of the store at once.
const PAGE: u32 = 500;

pub(super) async fn run(
    artifact: Artifact,
    args: &VersionList,
    registry: &dyn Registry,
    screen: &mut Screen<'_>,
) -> Result<Exit, CliError> {
    let versions = read(artifact, args, registry).await?;
    let active = registry.active_version(&args.tenant, artifact).await?;
    if args.json {
        screen.json(&versions.iter().map(|version| line(version, active.as_ref())).collect::<Vec<_>>())?;
        return Ok(Exit::Done);
    }
    if versions.is_empty() {
        writeln!(screen.out, "no {artifact}s of tenant {}", args.tenant)?;
        return Ok(Exit::Done);
    }
    let mut table = table::table(screen, &["version", "state", "author", "registered", "decided by", "reason"]);
    for version in &versions {
        let active = Some(&version.key.version) == active.as_ref();
        table.add_row([
            table::text(&version.key.version),
            table::text(if active { "active" } else { version.review.as_str() }),
            table::text(&version.author),
            table::text(time::text(version.at)),
            table::text(version.verdict.as_ref().map_or("-", |verdict| &verdict.by)),
            table::text(&version.reason),
        ]);
    }
    writeln!(screen.out, "{}", table.trim_fmt())?;
    if versions.len() == args.limit as usize {
        writeln!(screen.out, "the first {}; more with --limit", args.limit)?;
    }
    Ok(Exit::Done)
}

/// As the control API shows it, with whether it is the active one.
fn line(version: &Version, active: Option<&VersionRef>) -> Value {
    let mut shown = version.view();
    shown["active"] = (Some(&version.key.version) == active).into();
    shown
}

async fn read(artifact: Artifact, args: &VersionList, registry: &dyn Registry) -> Result<Vec<Version>, CliError> {
    let mut versions: Vec<Version> = Vec::new();
    while versions.len() < args.limit as usize {
        let limit = PAGE.min(args.limit - versions.len() as u32);
        let after = versions.last().map(|version| version.key.version.clone());
        let (tenant, name) = (args.tenant.clone(), args.name.clone());
        let page =
            registry.versions(&VersionFilter { tenant, artifact, name, review: args.state, after, limit }).await?;
        let last = page.len() < limit as usize;
        versions.extend(page);
        if last {
            break;
        }
    }
    Ok(versions)
}
