//! `models` and `prompts`: versions under four eyes, and the active model. Reading takes the registry;
//! what changes something goes through the control API, so that roles, four eyes and audit hold.

mod change;
mod list;
mod show;

use super::args::{ModelsActive, VersionsChange, VersionsRead};
use super::{Exit, Screen};
use crate::domain::version::Artifact;
use crate::ports::Registry;

/// Runs `models list|show` or `prompts list|show`.
pub async fn versions_read(
    artifact: Artifact,
    command: &VersionsRead,
    registry: &dyn Registry,
    screen: &mut Screen<'_>,
) -> Exit {
    let done = match command {
        VersionsRead::List(list) => list::run(artifact, list, registry, screen).await,
        VersionsRead::Show(one) => show::run(artifact, one, registry, screen).await,
    };
    screen.conclude(done)
}

/// Runs `models register|approve|reject`, or the same of prompts.
pub async fn versions_change(artifact: Artifact, command: &VersionsChange, screen: &mut Screen<'_>) -> Exit {
    let done = match command {
        VersionsChange::Register(args) => change::register(artifact, args, screen).await,
        VersionsChange::Approve(args) => change::approve(artifact, args, screen).await,
        VersionsChange::Reject(args) => change::reject(artifact, args, screen).await,
    };
    screen.conclude(done)
}

/// Runs `models activate|deactivate`.
pub async fn models_active(command: &ModelsActive, screen: &mut Screen<'_>) -> Exit {
    let done = match command {
        ModelsActive::Activate(args) => change::activate(args, screen).await,
        ModelsActive::Deactivate(args) => change::deactivate(args, screen).await,
    };
    screen.conclude(done)
}
