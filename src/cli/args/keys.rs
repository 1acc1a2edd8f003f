//! Owns what `keys …` takes.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};

use super::Access;
use crate::domain::{KeyId, TenantId};

/// `keys …`.
#[derive(Debug, Clone, Subcommand)]
pub enum Keys {
    /// Make an API key, and print it this once
    Create(KeyCreate),
    /// List API keys, newest first
    List(KeyList),
    /// Take an API key back, saying why
    Revoke(KeyRevoke),
    /// Wrap every tenant's data key by the console's master key, after it was changed
    Rewrap(KeysRewrap),
    /// Show which role may do what
    Roles(KeyRoles),
}

/// `keys rewrap`.
#[derive(Debug, Clone, Args)]
pub struct KeysRewrap {
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

/// `keys create`.
#[derive(Debug, Clone, Args)]
pub struct KeyCreate {
    /// What people call it
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// A role of its holder; again for more (`riskfleet keys roles` lists them)
    #[arg(long = "role", value_name = "ROLE", required_unless_present = "bootstrap")]
    pub roles: Vec<String>,
    /// Whose it is; the token's own tenant, when absent
    #[arg(long, value_name = "TENANT")]
    pub tenant: Option<TenantId>,
    /// From when on it does not hold, as 2027-01-31T00:00:00Z; without it, it does not expire
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub expires_at: Option<DateTime<Utc>>,
    /// The first operator's key, straight in the store that --data or --database-url names: only while
    /// there is none
    #[arg(long, conflicts_with_all = ["roles", "tenant"])]
    pub bootstrap: bool,
    /// The control API.
    #[command(flatten)]
    pub access: Access,
    /// One JSON document instead of the key alone
    #[arg(long)]
    pub json: bool,
}

fn moment(raw: &str) -> Result<DateTime<Utc>, String> {
    let read = DateTime::parse_from_rfc3339(raw).map_err(|_| "must be an RFC 3339 moment: 2027-01-31T00:00:00Z")?;
    Ok(crate::domain::time::whole_millis(read.to_utc()))
}

/// `keys list`.
#[derive(Debug, Clone, Args)]
pub struct KeyList {
    /// Only this tenant's
    #[arg(long, value_name = "TENANT")]
    pub tenant: Option<TenantId>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
    /// One JSON document instead of a table
    #[arg(long)]
    pub json: bool,
}

/// `keys revoke`.
#[derive(Debug, Clone, Args)]
pub struct KeyRevoke {
    /// The key's id, as `keys list` shows it
    #[arg(value_name = "KEY")]
    pub key: KeyId,
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

/// `keys roles`.
#[derive(Debug, Clone, Args)]
pub struct KeyRoles {
    /// One JSON document instead of a table
    #[arg(long)]
    pub json: bool,
}
