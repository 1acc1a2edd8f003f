//! Owns what `audit …` takes.

use clap::{Args, Subcommand};
use std::path::PathBuf;

use crate::domain::TenantId;

/// `audit …`; see [`crate::cli::audit_verify()`] and its neighbours.
#[derive(Debug, Clone, Subcommand)]
pub enum Audit {
    /// Check every record of every chain, of the store or of an export
    Verify(AuditVerify),
    /// List records in the order of the chains
    List(AuditList),
    /// Write the chains, with what is signed over them, to a file that anybody can verify
    Export(AuditExport),
    /// Print the public key that verifies the audit, or make a new key
    Key(AuditKeyArgs),
}

/// `audit verify`.
#[derive(Debug, Clone, Default, Args)]
pub struct AuditVerify {
    /// An export; without it the store is verified, and what is stored against its hashes
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The key that checkpoints are signed with, as `audit key` prints it, or a file that holds it
    #[arg(long, value_name = "HEX|FILE")]
    pub public_key: Option<String>,
    /// Checkpoints that were kept outside the database: what they name must be there
    #[arg(long, value_name = "FILE")]
    pub anchor: Option<PathBuf>,
    /// One JSON document instead of text
    #[arg(long)]
    pub json: bool,
}

/// `audit export`.
#[derive(Debug, Clone, Args)]
pub struct AuditExport {
    /// Where to; `-` for standard output
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Only this tenant's chains; without checkpoints, which name all tenants
    #[arg(long, value_name = "TENANT")]
    pub tenant: Option<TenantId>,
    /// Say what was exported as one JSON document on standard error, where the text else is
    #[arg(long)]
    pub json: bool,
}

/// `audit key`.
#[derive(Debug, Clone, Args)]
pub struct AuditKeyArgs {
    /// Make a new key in this file, which must not be there yet
    #[arg(long, value_name = "FILE")]
    pub new: Option<PathBuf>,
    /// One JSON document instead of the key alone
    #[arg(long)]
    pub json: bool,
}

/// `audit list`.
#[derive(Debug, Clone, Args)]
pub struct AuditList {
    /// Only this tenant's
    #[arg(long, value_name = "TENANT")]
    pub tenant: Option<TenantId>,
    /// Begin each of the tenant's chains at this record
    #[arg(long, value_name = "SEQ", requires = "tenant", value_parser = clap::value_parser!(i64).range(1..))]
    pub from: Option<i64>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
    /// One JSON document instead of a table
    #[arg(long)]
    pub json: bool,
}
