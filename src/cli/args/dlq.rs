//! Owns what `dlq …` takes.

use clap::{Args, Subcommand};

use super::{Access, OneEvent};
use crate::domain::{EventId, TenantId};

/// `dlq …`.
#[derive(Debug, Clone, Subcommand)]
pub enum Dlq {
    /// What reads the store.
    #[command(flatten)]
    Read(DlqRead),
    /// What goes through the control API.
    #[command(flatten)]
    Change(DlqChange),
}

/// `dlq list|show`; see [`crate::cli::dlq_read`].
#[derive(Debug, Clone, Subcommand)]
pub enum DlqRead {
    /// List dead letters, newest event first
    List(DeadList),
    /// Show one dead letter with its payload and its history
    Show(OneEvent),
}

/// `dlq list`.
#[derive(Debug, Clone, Args)]
pub struct DeadList {
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

/// `dlq replay|discard`; see [`crate::cli::dlq_change`].
#[derive(Debug, Clone, Subcommand)]
pub enum DlqChange {
    /// Have dead letters decided again
    Replay(DeadReplay),
    /// Take dead letters off the list for good, saying why
    Discard(DeadDiscard),
}

/// `dlq replay`.
#[derive(Debug, Clone, Args)]
pub struct DeadReplay {
    /// The events' ids
    #[arg(value_name = "EVENT", value_parser = EventId::parse, required_unless_present = "all")]
    pub events: Vec<EventId>,
    /// Every dead letter that the token may see
    #[arg(long, conflicts_with = "events")]
    pub all: bool,
    /// With --all, only this tenant's
    // `requires` alone is not held by clap where --all is ruled out by events that are named.
    #[arg(long, value_name = "TENANT", requires = "all", conflicts_with = "events")]
    pub tenant: Option<TenantId>,
    /// Why; stands in the audit
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// The control API.
    #[command(flatten)]
    pub access: Access,
    /// One JSON document instead of a table
    #[arg(long)]
    pub json: bool,
}

/// `dlq discard`.
#[derive(Debug, Clone, Args)]
pub struct DeadDiscard {
    /// The events' ids
    #[arg(value_name = "EVENT", value_parser = EventId::parse, required = true)]
    pub events: Vec<EventId>,
    /// Why; stands in the audit
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// The control API.
    #[command(flatten)]
    pub access: Access,
    /// One JSON document instead of a table
    #[arg(long)]
    pub json: bool,
}
