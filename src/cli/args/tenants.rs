//! Owns what `tenants …` takes.

use clap::{Args, Subcommand};

use super::Access;
use crate::domain::TenantId;

/// `tenants …`.
#[derive(Debug, Clone, Subcommand)]
pub enum Tenants {
    /// What reads the store.
    #[command(flatten)]
    Read(TenantsRead),
    /// What goes through the control API.
    #[command(flatten)]
    Change(TenantsChange),
}

/// `tenants list|show`; see [`crate::cli::tenants_read`].
#[derive(Debug, Clone, Subcommand)]
pub enum TenantsRead {
    /// List tenants with their retention and their legal hold
    List(TenantList),
    /// Show what is set of one tenant
    Show(OneTenant),
}

/// `tenants list`.
#[derive(Debug, Clone, Args)]
pub struct TenantList {
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
    /// One JSON document instead of a table
    #[arg(long)]
    pub json: bool,
}

/// A command about one tenant.
#[derive(Debug, Clone, Args)]
pub struct OneTenant {
    /// The tenant
    #[arg(value_name = "TENANT")]
    pub tenant: TenantId,
    /// One JSON document instead of text
    #[arg(long)]
    pub json: bool,
}

/// `tenants retention|hold|release|sweep`; see [`crate::cli::tenants_change`].
#[derive(Debug, Clone, Subcommand)]
pub enum TenantsChange {
    /// Set how long a tenant's events are kept
    Retention(TenantRetention),
    /// Put a tenant under legal hold: nothing of it goes
    Hold(TenantReason),
    /// Release a tenant's legal hold
    Release(TenantReason),
    /// Destroy the key of a subject, or of the whole tenant, for good
    Erase(TenantErase),
    /// Drop the days whose time is over, or say what would go and why the rest stays
    Sweep(TenantsSweep),
}

/// `tenants retention`.
#[derive(Debug, Clone, Args)]
pub struct TenantRetention {
    /// The tenant
    #[arg(value_name = "TENANT")]
    pub tenant: TenantId,
    /// So many days; 0: for ever
    #[arg(long, value_name = "N", required_unless_present = "fleet")]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=36_500))]
    pub days: Option<u32>,
    /// As long as the fleet's
    #[arg(long, conflicts_with = "days")]
    pub fleet: bool,
    /// Why; stands in the audit
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// The control API.
    #[command(flatten)]
    pub access: Access,
    /// One JSON document instead of text
    #[arg(long)]
    pub json: bool,
}

/// A change of one tenant that needs nothing but a reason.
#[derive(Debug, Clone, Args)]
pub struct TenantReason {
    /// The tenant
    #[arg(value_name = "TENANT")]
    pub tenant: TenantId,
    /// Why; stands in the audit
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// The control API.
    #[command(flatten)]
    pub access: Access,
    /// One JSON document instead of text
    #[arg(long)]
    pub json: bool,
}

/// `tenants erase`.
#[derive(Debug, Clone, Args)]
pub struct TenantErase {
    /// The tenant
    #[arg(value_name = "TENANT")]
    pub tenant: TenantId,
    /// Only this subject; without it the whole tenant
    #[arg(long, value_name = "SUBJECT")]
    pub subject: Option<String>,
    /// Nothing is destroyed: say what would be
    #[arg(long)]
    pub dry_run: bool,
    /// Why; stands in the audit
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// The control API.
    #[command(flatten)]
    pub access: Access,
    /// One JSON document instead of text
    #[arg(long)]
    pub json: bool,
}

/// `tenants sweep`.
#[derive(Debug, Clone, Args)]
pub struct TenantsSweep {
    /// Nothing goes: say what would
    #[arg(long)]
    pub dry_run: bool,
    /// Why; stands in the audit
    #[arg(long, value_name = "TEXT", required_unless_present = "dry_run")]
    pub reason: Option<String>,
    /// The control API.
    #[command(flatten)]
    pub access: Access,
    /// One JSON document instead of a table
    #[arg(long)]
    pub json: bool,
}
