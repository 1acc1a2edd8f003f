//! Owns what `approvals …` takes.

use clap::{Args, Subcommand, ValueEnum};

use super::{Access, OneEvent};
use crate::domain::{EventId, TenantId};

/// `approvals …`.
#[derive(Debug, Clone, Subcommand)]
pub enum Approvals {
    /// What reads the store.
    #[command(flatten)]
    Read(ApprovalsRead),
    /// What goes through the control API.
    #[command(flatten)]
    Change(ApprovalsChange),
}

/// `approvals list|show`; see [`crate::cli::approvals_read`].
#[derive(Debug, Clone, Subcommand)]
pub enum ApprovalsRead {
    /// List approval requests, newest event first
    List(ApprovalList),
    /// Show one request with the decision's reasons, its comments and its history
    Show(OneEvent),
}

/// `approvals list`.
#[derive(Debug, Clone, Args)]
pub struct ApprovalList {
    /// Only this tenant's
    #[arg(long, value_name = "TENANT")]
    pub tenant: Option<TenantId>,
    /// Which: those without a verdict, those of them that are claimed or overdue, or decided ones
    #[arg(long, value_name = "STATE", value_enum, default_value_t = ApprovalStateName::Open)]
    pub state: ApprovalStateName,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
    /// One JSON document instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Where an approval request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ApprovalStateName {
    /// Without a verdict
    Open,
    /// Somebody looks at it
    Claimed,
    /// Without a verdict in time
    Overdue,
    /// With a verdict
    Decided,
}

/// `approvals approve|reject|claim|release|comment`; see [`crate::cli::approvals_change`].
#[derive(Debug, Clone, Subcommand)]
pub enum ApprovalsChange {
    /// Let the event go on, saying why
    Approve(ApprovalVerdict),
    /// Refuse the event, saying why
    Reject(ApprovalVerdict),
    /// Show others for 15 minutes that you look at it
    Claim(ApprovalClaim),
    /// Give a claim back
    Release(ApprovalClaim),
    /// Say something about it
    Comment(ApprovalComment),
}

/// `approvals approve|reject`.
#[derive(Debug, Clone, Args)]
pub struct ApprovalVerdict {
    /// The event's id
    #[arg(value_name = "EVENT", value_parser = EventId::parse)]
    pub event: EventId,
    /// Why; stands in the audit, so no personal data
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// The control API.
    #[command(flatten)]
    pub access: Access,
    /// One JSON document instead of text
    #[arg(long)]
    pub json: bool,
}

/// `approvals claim|release`.
#[derive(Debug, Clone, Args)]
pub struct ApprovalClaim {
    /// The event's id
    #[arg(value_name = "EVENT", value_parser = EventId::parse)]
    pub event: EventId,
    /// The control API.
    #[command(flatten)]
    pub access: Access,
    /// One JSON document instead of text
    #[arg(long)]
    pub json: bool,
}

/// `approvals comment`.
#[derive(Debug, Clone, Args)]
pub struct ApprovalComment {
    /// The event's id
    #[arg(value_name = "EVENT", value_parser = EventId::parse)]
    pub event: EventId,
    /// What; kept with the request, up to 2,000 characters
    #[arg(long, value_name = "TEXT")]
    pub text: String,
    /// The control API.
    #[command(flatten)]
    pub access: Access,
    /// One JSON document instead of text
    #[arg(long)]
    pub json: bool,
}
