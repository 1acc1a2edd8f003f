//! The operator's commands, one a file, over the ports.
//!
//! Owns what people and scripts see of a fleet from a shell: tables for people, one JSON document
//! with `--json`, exit 0 done, 1 failed, 2 wrong use. Never opens a store by itself, and never
//! changes anything but through the API: roles and audit hold for an operator too.
//!
//! A new command: its arguments in [`args`], its file here with one `pub(super) async fn`, one
//! line in [`run`].

pub mod args;
mod audit_list;
mod audit_verify;
mod completions;
mod error;
mod events_get;
mod events_list;
mod explain;
mod fleet_status;
mod replay;
mod screen;
mod send;
mod table;
mod timeline;

pub use completions::completions;
pub use error::{CliError, Exit};
pub use screen::Screen;
pub use send::send;

use crate::ports::EventStore;
use args::{Audit, Events, Fleet, Read};

/// Runs a command that only reads the store. Says on the screen what failed and what to do next.
pub async fn run(command: &Read, store: &dyn EventStore, screen: &mut Screen<'_>) -> Exit {
    let done = match command {
        Read::Events(Events::List(list)) => events_list::run(list, store, screen).await,
        Read::Events(Events::Get(one)) => events_get::run(one, store, screen).await,
        Read::Explain(one) => explain::run(one, store, screen).await,
        Read::Replay(one) => replay::run(one, store, screen).await,
        Read::Audit(Audit::Verify { json }) => audit_verify::run(*json, store, screen).await,
        Read::Audit(Audit::List(list)) => audit_list::run(list, store, screen).await,
        Read::Fleet(Fleet::Status(status)) => fleet_status::run(status, store, screen).await,
    };
    screen.conclude(done)
}
