//! Owns the command line of `riskfleet`: names, flags, help. Never runs anything.

mod approvals;
mod audit;
mod costs;
mod dlq;
mod keys;
mod scaling;
mod tenants;
mod versions;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use std::{net::SocketAddr, path::PathBuf};

pub use approvals::{
    ApprovalClaim, ApprovalComment, ApprovalList, ApprovalStateName, ApprovalVerdict, Approvals, ApprovalsChange,
    ApprovalsRead,
};
pub use audit::{Audit, AuditExport, AuditKeyArgs, AuditList, AuditVerify};
pub use costs::{BudgetChange, BudgetList, CostRows, Costs, CostsRead, CostsShow};
pub use dlq::{DeadDiscard, DeadList, DeadReplay, Dlq, DlqChange, DlqRead};
pub use keys::{KeyCreate, KeyList, KeyRevoke, KeyRoles, Keys, KeysRewrap};
pub use scaling::{Autoscale, CrewArgs, GivenSignals, PolicyArgs};
pub use tenants::{
    OneTenant, TenantErase, TenantList, TenantReason, TenantRetention, Tenants, TenantsChange, TenantsRead,
    TenantsSweep,
};
pub use versions::{
    ModelDeactivate, Models, ModelsActive, Prompts, To, VersionAct, VersionList, VersionRegister, VersionReject,
    VersionShow, VersionsChange, VersionsRead,
};

use crate::config::Flags;
use crate::domain::{EventId, Status, TenantId, WorkerId};

/// Decides on risk and compliance events for many tenants, each event exactly once, with proof of
/// every decision.
#[derive(Debug, Parser)]
#[command(name = "riskfleet", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "Begin with:  riskfleet up --demo\nExit codes:  0 done, 1 failed, 2 wrong use")]
pub struct Cli {
    /// Where the fleet is.
    #[command(flatten)]
    pub source: Source,
    /// Settings that were given as flags.
    #[command(flatten)]
    pub settings: Flags,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Which fleet a command speaks of, where the settings do not say it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct Source {
    /// The folder of an `up` fleet, which needs no servers
    #[arg(long, global = true, value_name = "DIR", help_heading = "Which fleet")]
    pub data: Option<PathBuf>,
    /// The Postgres of a fleet; RISKFLEET_DATABASE_URL keeps a password off the command line
    #[arg(long, global = true, value_name = "URL", help_heading = "Which fleet")]
    pub database_url: Option<String>,
}

impl Source {
    /// Refuses two fleets at once. clap's own `conflicts_with` does not see global options that
    /// stand on both sides of the command's name.
    ///
    /// # Errors
    /// When both a folder and a database are named; one sentence for the user.
    pub fn check(&self) -> Result<(), &'static str> {
        match (&self.data, &self.database_url) {
            (Some(_), Some(_)) => Err("--data and --database-url name two fleets: give one of them"),
            _ => Ok(()),
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a whole fleet in this process: API, workers and store, no servers needed
    Up(Up),
    /// Make or bring up to date the fleet's tables
    Migrate(Migrate),
    /// Look at the settings, the servers and the fleet, and say what hurts and what to do
    Doctor(Doctor),
    /// Send events from a file (one event, an array, or NDJSON) to a fleet's API
    Send(Send),
    /// What only reads the store.
    #[command(flatten)]
    Read(Read),
    /// Read, verify and export the audit chains
    #[command(subcommand)]
    Audit(Audit),
    /// Look after dead letters: events that failed for good
    #[command(subcommand)]
    Dlq(Dlq),
    /// Look after tenants: how long theirs is kept, and what must not go
    #[command(subcommand)]
    Tenants(Tenants),
    /// See what decisions have cost, and set what a tenant's month may cost
    #[command(subcommand)]
    Costs(Costs),
    /// Look after API keys, and see what roles may do
    #[command(subcommand)]
    Keys(Keys),
    /// Look after approval requests: what the workflow escalates to people
    #[command(subcommand)]
    Approvals(Approvals),
    /// Look after models: what gives the risk score, under four eyes
    #[command(subcommand)]
    Models(Models),
    /// Look after prompts: what a language model is asked with, under four eyes
    #[command(subcommand)]
    Prompts(Prompts),
    /// Have the workers publish again what no queue may hold any more
    Repair(Repair),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// The commands that only read the store; see [`super::run`].
#[derive(Debug, Clone, Subcommand)]
pub enum Read {
    /// Read events
    #[command(subcommand)]
    Events(Events),
    /// Answer "where is my event?": its way from the accept to the verdict, with the reasons
    Explain(OneEvent),
    /// Decide a decided event again and compare the result with what is stored, byte by byte
    Replay(OneEvent),
    /// Look at workers, partitions and the ledger
    #[command(subcommand)]
    Fleet(Fleet),
}

/// `up`.
#[derive(Debug, Clone, Args)]
pub struct Up {
    /// Where to listen; anything but loopback needs authentication
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub http: SocketAddr,
    /// Worker tasks
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub workers: u16,
    /// Feed a seeded stream of events, to have something to look at
    #[arg(long)]
    pub demo: bool,
    /// Events a second of the demo
    #[arg(long, value_name = "N", default_value_t = 50, requires = "demo")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub demo_rate: u32,
    /// End by itself after so many demo events are decided
    #[arg(long, value_name = "N", requires = "demo", value_parser = clap::value_parser!(u64).range(1..))]
    pub demo_events: Option<u64>,
}

/// How a command reaches a fleet's API.
#[derive(Debug, Clone, Args)]
pub struct Access {
    /// The fleet's API
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// API key or JWT; RISKFLEET_TOKEN keeps it off the command line
    #[arg(long, value_name = "TOKEN", env = "RISKFLEET_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// A file that holds the token; goes before --token
    #[arg(long, value_name = "PATH")]
    pub token_file: Option<PathBuf>,
}

/// `send`.
#[derive(Debug, Clone, Args)]
pub struct Send {
    /// The file; `-` for what is piped in
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The API.
    #[command(flatten)]
    pub access: Access,
    /// The tenant of events that name none; those that name one must agree
    #[arg(long, value_name = "TENANT")]
    pub tenant: Option<TenantId>,
    /// One JSON document instead of a table
    #[arg(long)]
    pub json: bool,
}

/// `doctor`.
#[derive(Debug, Clone, Args)]
pub struct Doctor {
    /// One JSON document instead of text
    #[arg(long)]
    pub json: bool,
}

/// `events …`.
#[derive(Debug, Clone, Subcommand)]
pub enum Events {
    /// List events, newest first
    List(EventList),
    /// Show one event with its decision and approval
    Get(OneEvent),
}

/// `events list`.
#[derive(Debug, Clone, Args)]
pub struct EventList {
    /// Only this tenant's
    #[arg(long, value_name = "TENANT")]
    pub tenant: Option<TenantId>,
    /// Only those that stand there: received, retrying, escalated, approved, rejected, failed
    #[arg(long, value_name = "STATUS")]
    pub status: Option<Status>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
    /// One JSON document instead of a table
    #[arg(long)]
    pub json: bool,
}

/// A command about one event.
#[derive(Debug, Clone, Args)]
pub struct OneEvent {
    /// The event's id, as the API answered it
    #[arg(value_name = "EVENT", value_parser = EventId::parse)]
    pub event: EventId,
    /// One JSON document instead of text
    #[arg(long)]
    pub json: bool,
}

/// `fleet …`.
#[derive(Debug, Clone, Subcommand)]
pub enum Fleet {
    /// Who works, who owns what, and whether the ledger balances
    Status(FleetStatus),
    /// What would move if the fleet had another number of workers
    Plan(FleetPlan),
    /// How many workers there should be, or keep so many running on this machine
    Autoscale(Box<Autoscale>),
}

/// `fleet status`.
#[derive(Debug, Clone, Args)]
pub struct FleetStatus {
    /// One JSON document instead of tables; with --watch, one a line
    #[arg(long)]
    pub json: bool,
    /// Show it again every two seconds, until stopped
    #[arg(long)]
    pub watch: bool,
}

/// `fleet plan`.
#[derive(Debug, Clone, Args)]
pub struct FleetPlan {
    /// How many workers there would be
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub workers: u16,
    /// The weight of workers that would join; those that run count as 1
    #[arg(long, value_name = "W", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub joining_weight: u32,
    /// A worker that would leave; again for more. Else those that own the least
    #[arg(long, value_name = "WORKER")]
    pub leaving: Vec<WorkerId>,
    /// One JSON document instead of tables
    #[arg(long)]
    pub json: bool,
}

/// `migrate`.
#[derive(Debug, Clone, Args)]
pub struct Migrate {
    /// One JSON document instead of text
    #[arg(long)]
    pub json: bool,
}

/// `repair`.
#[derive(Debug, Clone, Args)]
pub struct Repair {
    /// Why; stands in the log
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// The control API.
    #[command(flatten)]
    pub access: Access,
    /// One JSON document instead of text
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_fleet_can_be_named_before_and_behind_the_command() {
        for line in ["riskfleet --data d events list", "riskfleet events list --data d"] {
            let cli = parse(line).expect("legal");
            assert_eq!(cli.source.data.as_deref(), Some(std::path::Path::new("d")), "{line}");
        }
        let both = parse("riskfleet --data d events list --database-url postgres://x").expect("clap takes it");
        assert!(both.source.check().is_err());
    }

    #[test]
    fn every_command_is_taken_and_none_of_its_flags_is_a_setting() {
        for line in [
            "riskfleet doctor --json",
            "riskfleet fleet plan --workers 4 --joining-weight 2 --leaving 019aa5a0-0000-7000-8000-000000000000",
            "riskfleet fleet status --watch",
            "riskfleet audit list --tenant acme --from 3",
            "riskfleet send - --tenant acme",
            "riskfleet tenants sweep --dry-run",
            "riskfleet tenants retention acme --fleet --reason over",
            "riskfleet approvals list --state overdue --tenant acme",
            "riskfleet up --demo --workers 3",
            "riskfleet models register card.json --name fraud --reason new --tenant acme",
            "riskfleet models activate fraud@3",
            "riskfleet prompts show explain@1 --tenant acme --content",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn wrong_use_names_what_is_wrong() {
        let cases = [
            ("riskfleet events get nonsense", "must be a UUID"),
            ("riskfleet events list --status done", "must be one of received"),
            ("riskfleet events list --tenant a/b", "must be 1 to 128 characters"),
            ("riskfleet events list --limit 0", "0 is not in 1..=10000"),
            ("riskfleet up --demo-rate 5", "--demo"),
            ("riskfleet dlq replay", "<EVENT>"),
            ("riskfleet dlq replay --tenant acme 019aa5a0-0000-7000-8000-000000000000", "cannot be used with"),
            ("riskfleet dlq replay --all 019aa5a0-0000-7000-8000-000000000000", "cannot be used with"),
            ("riskfleet dlq discard 019aa5a0-0000-7000-8000-000000000000", "--reason"),
            ("riskfleet tenants retention acme --reason x", "--days"),
            ("riskfleet tenants retention acme --days 36501 --reason x", "is not in 0..=36500"),
            ("riskfleet tenants hold acme", "--reason"),
            ("riskfleet tenants sweep", "--reason"),
            ("riskfleet keys create --name shop", "--role"),
            ("riskfleet keys create --name ops --bootstrap --role ADMIN", "cannot be used with"),
            ("riskfleet keys create --name ops --role ADMIN --expires-at soon", "must be an RFC 3339 moment"),
            ("riskfleet keys revoke x --reason y", "<KEY>"),
            ("riskfleet models approve fraud", "must be NAME@NUMBER"),
            ("riskfleet models list", "--tenant"),
            ("riskfleet models list --tenant acme --state good", "must be pending, approved or rejected"),
            ("riskfleet prompts reject explain@1", "--reason"),
            ("riskfleet prompts activate explain@1", "unrecognized subcommand"),
            ("riskfleet fleet autoscale --replicas 2", "--evaluate"),
            ("riskfleet fleet autoscale --evaluate --apply", "cannot be used with"),
            ("riskfleet fleet autoscale --apply --cpu 80", "cannot be used with"),
            ("riskfleet fleet autoscale --evaluate --cpu 80", "--replicas"),
            ("riskfleet fleet autoscale --evaluate --cpu=-1 --replicas 2", "must be a number of 0 or more"),
            ("riskfleet fly", "unrecognized subcommand 'fly'"),
        ];
        for (line, want) in cases {
            let error = parse(line).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.to_string().contains(want), "{line}: {error}");
        }
    }
}
