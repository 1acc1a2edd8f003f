//! The operator's commands, one a file, over the ports.
//!
//! Owns what people and scripts see of a fleet from a shell: tables for people, one JSON document
//! with `--json`, exit 0 done, 1 failed, 2 wrong use. Never opens a store by itself, and never
//! changes anything but through the API: roles and audit hold for an operator too. One command can't: the
//! fleet's first key, without which nobody could call the API.
//!
//! A new command: its arguments in [`args`], its file here with one `pub(super) async fn`, one
//! line in [`run`].

mod absent;
mod approvals;
pub mod args;
mod audit_export;
mod audit_file;
mod audit_key;
mod audit_list;
mod audit_report;
mod audit_verify;
mod completions;
mod costs;
mod dlq;
mod doctor;
mod error;
mod events_get;
mod events_list;
mod explain;
mod fleet_autoscale;
mod fleet_plan;
mod fleet_status;
mod http;
mod keys;
mod ownership;
mod reading;
mod repair;
mod replay;
mod screen;
mod send;
mod table;
mod tenants;
mod timeline;
mod versions;
mod waiting;

pub use approvals::{approvals_change, approvals_read};
pub use audit_export::{ExportSources, audit_export};
pub use audit_file::{FileCheck, verify_file};
pub use audit_key::{audit_key, audit_key_new, write_seed};
pub use audit_report::Report;
pub use completions::completions;
pub use costs::{costs_budget, costs_read};
pub use dlq::{dlq_change, dlq_read};
pub use doctor::{Examination, doctor};
pub use error::{CliError, Exit};
pub use keys::{keys_create, keys_first, keys_list, keys_revoke, keys_rewrap, keys_roles};
pub use reading::Reading;
pub use repair::repair;
pub use screen::Screen;
pub use send::send;
pub use tenants::{tenants_change, tenants_read};
pub use versions::{models_active, versions_change, versions_read};

use crate::domain::scaling::ScalingPolicy;
use crate::ports::{ActiveVersions, Checkpoints, EventStore};
use args::{AuditList, AuditVerify, Autoscale, Events, Fleet, Read};

/// Runs a command that only reads the store. Says on the screen what failed and what to do next.
pub async fn run(
    command: &Read,
    (reading, versions): (Reading<'_>, &dyn ActiveVersions),
    screen: &mut Screen<'_>,
) -> Exit {
    let store = reading.store;
    let done = match command {
        Read::Events(Events::List(list)) => events_list::run(list, reading, screen).await,
        Read::Events(Events::Get(one)) => events_get::run(one, reading, screen).await,
        Read::Explain(one) => explain::run(one, (reading, versions), screen).await,
        Read::Replay(one) => replay::run(one, (reading, versions), screen).await,
        Read::Fleet(Fleet::Status(status)) => fleet_status::run(status, store, screen).await,
        Read::Fleet(Fleet::Plan(plan)) => fleet_plan::run(plan, store, screen).await,
        Read::Fleet(Fleet::Autoscale(args)) => fleet_autoscale::live(args, store, screen).await,
    };
    screen.conclude(done)
}

/// `fleet autoscale --evaluate` for a number of replicas that is given: it needs no fleet.
pub fn autoscale(args: &Autoscale, replicas: u32, screen: &mut Screen<'_>) -> Exit {
    let done = fleet_autoscale::given(args, replicas, screen);
    screen.conclude(done)
}

/// The policy that a supervisor of workers is to keep to.
///
/// # Errors
/// When it contradicts itself.
pub fn scaling_policy(args: &Autoscale) -> Result<ScalingPolicy, CliError> {
    fleet_autoscale::policy(&args.policy)
}

/// What a reading command of the audit stands on.
pub struct AuditSources<'a> {
    /// The records with what they speak of.
    pub store: &'a dyn EventStore,
    /// What is signed over them, where it is kept.
    pub checkpoints: Option<&'a dyn Checkpoints>,
    /// The public key of the fleet's own settings.
    pub public_key: Option<[u8; 32]>,
}

/// `audit list`.
pub async fn audit_list(args: &AuditList, store: &dyn EventStore, screen: &mut Screen<'_>) -> Exit {
    let done = audit_list::run(args, store, screen).await;
    screen.conclude(done)
}

/// `audit verify` of a store.
pub async fn audit_verify(args: &AuditVerify, sources: &AuditSources<'_>, screen: &mut Screen<'_>) -> Exit {
    let done = audit_verify::run(args, sources, screen).await;
    screen.conclude(done)
}

/// `audit verify FILE`.
pub async fn audit_verify_file(file: &std::path::Path, args: &AuditVerify, screen: &mut Screen<'_>) -> Exit {
    let done = audit_file::run(file, args, screen).await;
    screen.conclude(done)
}
