//! `tenants`: how long things are kept, and what must not go. Reading takes the registry; what changes
//! something goes through the control API, so that roles and audit hold for it.

mod change;
mod erase;
mod list;
mod show;
mod sweep;

use super::args::{TenantsChange, TenantsRead};
use super::http::{Api, Refused};
use super::{CliError, Exit, Screen};
use crate::ports::Registry;

/// Runs `tenants list` or `tenants show`.
pub async fn tenants_read(command: &TenantsRead, registry: &dyn Registry, screen: &mut Screen<'_>) -> Exit {
    let done = match command {
        TenantsRead::List(list) => list::run(list, registry, screen).await,
        TenantsRead::Show(one) => show::run(one, registry, screen).await,
    };
    screen.conclude(done)
}

/// Runs what changes something, or drops it.
pub async fn tenants_change(command: &TenantsChange, screen: &mut Screen<'_>) -> Exit {
    let done = match command {
        TenantsChange::Retention(args) => change::retention(args, screen).await,
        TenantsChange::Hold(args) => change::hold(args, screen).await,
        TenantsChange::Release(args) => change::release(args, screen).await,
        TenantsChange::Erase(args) => erase::run(args, screen).await,
        TenantsChange::Sweep(args) => sweep::run(args, screen).await,
    };
    screen.conclude(done)
}

/// A refusal of one request, where there is only one.
fn refused(api: &Api, path: &str, refused: Refused) -> CliError {
    match refused {
        Refused::One(why) => CliError::Api { url: api.url(path), why, advice: "check the tenant and the flags" },
        Refused::All(error) => error,
    }
}
