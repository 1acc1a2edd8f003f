//! `keys`: API keys and the table of roles. Listing takes the store; making and revoking go through the
//! control API, so that roles and audit hold for them. The fleet's first key is the exception: nobody
//! could make it there.

mod create;
mod first;
mod list;
mod revoke;
mod rewrap;
mod roles;

use chrono::{DateTime, Utc};

use super::args::{KeyCreate, KeyList, KeyRevoke, KeyRoles, KeysRewrap};
use super::{Exit, Screen};
use crate::ports::{Clock, Entropy, Registry};

/// Runs `keys list`; `now` tells which have expired.
pub async fn keys_list(args: &KeyList, registry: &dyn Registry, now: DateTime<Utc>, screen: &mut Screen<'_>) -> Exit {
    let done = list::run(args, registry, now, screen).await;
    screen.conclude(done)
}

/// Runs `keys roles`.
pub fn keys_roles(args: &KeyRoles, screen: &mut Screen<'_>) -> Exit {
    let done = roles::run(args, screen);
    screen.conclude(done)
}

/// Runs `keys create`, through the API.
pub async fn keys_create(args: &KeyCreate, screen: &mut Screen<'_>) -> Exit {
    let done = create::run(args, screen).await;
    screen.conclude(done)
}

/// Runs `keys create --bootstrap`, straight on the store.
pub async fn keys_first(
    args: &KeyCreate,
    registry: &dyn Registry,
    (clock, entropy): (&dyn Clock, &dyn Entropy),
    screen: &mut Screen<'_>,
) -> Exit {
    let done = first::run(args, registry, (clock, entropy), screen).await;
    screen.conclude(done)
}

/// Runs `keys revoke`.
pub async fn keys_revoke(args: &KeyRevoke, screen: &mut Screen<'_>) -> Exit {
    let done = revoke::run(args, screen).await;
    screen.conclude(done)
}

/// Runs `keys rewrap`.
pub async fn keys_rewrap(args: &KeysRewrap, screen: &mut Screen<'_>) -> Exit {
    let done = rewrap::run(args, screen).await;
    screen.conclude(done)
}
