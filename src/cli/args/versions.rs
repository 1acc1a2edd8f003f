//! Owns the command line of `models` and `prompts`, which is one but for what can be made active.

use clap::{Args, Subcommand};
use std::path::PathBuf;

use super::Access;
use crate::domain::TenantId;
use crate::domain::version::{Review, VersionName, VersionRef};

/// `models …`.
#[derive(Debug, Clone, Subcommand)]
pub enum Models {
    /// What reads the store.
    #[command(flatten)]
    Read(VersionsRead),
    /// What goes through the control API.
    #[command(flatten)]
    Change(VersionsChange),
    /// What decides, also through the control API.
    #[command(flatten)]
    Active(ModelsActive),
}

/// `prompts …`.
#[derive(Debug, Clone, Subcommand)]
pub enum Prompts {
    /// What reads the store.
    #[command(flatten)]
    Read(VersionsRead),
    /// What goes through the control API.
    #[command(flatten)]
    Change(VersionsChange),
}

/// `models list|show`, `prompts list|show`; see [`crate::cli::versions_read`].
#[derive(Debug, Clone, Subcommand)]
pub enum VersionsRead {
    /// List versions, by name and number
    List(VersionList),
    /// Show one version with its content
    Show(VersionShow),
}

/// `models list`, `prompts list`.
#[derive(Debug, Clone, Args)]
pub struct VersionList {
    /// Whose
    #[arg(long, value_name = "TENANT")]
    pub tenant: TenantId,
    /// Only of this name
    #[arg(long, value_name = "NAME", value_parser = VersionName::parse)]
    pub name: Option<VersionName>,
    /// Only those that stand there: pending, approved, rejected
    #[arg(long, value_name = "STATE", value_parser = review)]
    pub state: Option<Review>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
    /// One JSON document instead of a table
    #[arg(long)]
    pub json: bool,
}

fn review(raw: &str) -> Result<Review, &'static str> {
    Review::parse(raw).ok_or("must be pending, approved or rejected")
}

/// `models show`, `prompts show`.
#[derive(Debug, Clone, Args)]
pub struct VersionShow {
    /// Which, such as fraud@3
    #[arg(id = "name_and_number", value_name = "NAME@NUMBER")]
    pub version: VersionRef,
    /// Whose
    #[arg(long, value_name = "TENANT")]
    pub tenant: TenantId,
    /// Only the content, byte by byte
    #[arg(long, conflicts_with = "json")]
    pub content: bool,
    /// One JSON document instead of text
    #[arg(long)]
    pub json: bool,
}

/// `models register|approve|reject`, and of prompts; see [`crate::cli::versions_change`].
#[derive(Debug, Clone, Subcommand)]
pub enum VersionsChange {
    /// Register a new version, which somebody else has to approve
    Register(VersionRegister),
    /// Approve a version that somebody else has registered
    Approve(VersionAct),
    /// Reject a version for good, saying why
    Reject(VersionReject),
}

/// `models register`, `prompts register`.
#[derive(Debug, Clone, Args)]
pub struct VersionRegister {
    /// What it holds: a scorecard as JSON, or a prompt's text; `-` for what is piped in
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Under which name; the number is given by the fleet
    #[arg(long, value_name = "NAME", value_parser = VersionName::parse)]
    pub name: VersionName,
    /// What is new in it; stands in the audit, so no personal data
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Whose it is, and how to get there.
    #[command(flatten)]
    pub to: To,
}

/// `models approve|activate`, `prompts approve`.
#[derive(Debug, Clone, Args)]
pub struct VersionAct {
    /// Which, such as fraud@3
    #[arg(id = "name_and_number", value_name = "NAME@NUMBER")]
    pub version: VersionRef,
    /// Why; stands in the audit, so no personal data
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Whose it is, and how to get there.
    #[command(flatten)]
    pub to: To,
}

/// `models reject`, `prompts reject`.
#[derive(Debug, Clone, Args)]
pub struct VersionReject {
    /// Which, such as fraud@3
    #[arg(id = "name_and_number", value_name = "NAME@NUMBER")]
    pub version: VersionRef,
    /// Why; stands in the audit, so no personal data
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Whose it is, and how to get there.
    #[command(flatten)]
    pub to: To,
}

/// `models activate|deactivate`; see [`crate::cli::models_active`].
#[derive(Debug, Clone, Subcommand)]
pub enum ModelsActive {
    /// Have an approved version score the tenant's events, within two seconds
    Activate(VersionAct),
    /// Leave no model active: the baseline decides
    Deactivate(ModelDeactivate),
}

/// `models deactivate`.
#[derive(Debug, Clone, Args)]
pub struct ModelDeactivate {
    /// Why; stands in the audit, so no personal data
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Whose it is, and how to get there.
    #[command(flatten)]
    pub to: To,
}

/// What every change of a version needs.
#[derive(Debug, Clone, Args)]
pub struct To {
    /// Whose; the token's own tenant, when absent
    #[arg(long, value_name = "TENANT")]
    pub tenant: Option<TenantId>,
    /// The control API.
    #[command(flatten)]
    pub access: Access,
    /// One JSON document instead of text
    #[arg(long)]
    pub json: bool,
}
