//! Owns what `costs …` takes.

use chrono::NaiveDate;
use clap::{Args, Subcommand, ValueEnum};

use super::Access;
use crate::domain::{Micros, TenantId};

/// `costs …`.
#[derive(Debug, Clone, Subcommand)]
pub enum Costs {
    /// What reads the store.
    #[command(flatten)]
    Read(CostsRead),
    /// Set what a tenant's month may cost, or take its budget away
    Budget(BudgetChange),
}

/// `costs show|budgets`; see [`crate::cli::costs_read`].
#[derive(Debug, Clone, Subcommand)]
pub enum CostsRead {
    /// Show what decisions have cost, by day, model or tenant
    Show(CostsShow),
    /// List the tenants' budgets, and how much of each is spent this month
    Budgets(BudgetList),
}

/// What `costs show` has a row for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CostRows {
    /// Each tenant's day, the newest first
    Day,
    /// Each tenant's model, the dearest first
    Model,
    /// Each tenant, the dearest first
    Tenant,
}

/// `costs show`.
#[derive(Debug, Clone, Args)]
pub struct CostsShow {
    /// Only this tenant's
    #[arg(long, value_name = "TENANT")]
    pub tenant: Option<TenantId>,
    /// The first day (UTC), as 2026-11-01; without it the first of the last day's month
    #[arg(long, value_name = "DAY")]
    pub from: Option<NaiveDate>,
    /// The last day (UTC); without it today
    #[arg(long, value_name = "DAY")]
    pub to: Option<NaiveDate>,
    /// What there is a row for
    #[arg(long, value_enum, default_value_t = CostRows::Day)]
    pub by: CostRows,
    /// Rows at most; the total is of all of them
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
    /// One JSON document instead of a table
    #[arg(long)]
    pub json: bool,
}

/// `costs budgets`.
#[derive(Debug, Clone, Args)]
pub struct BudgetList {
    /// One JSON document instead of a table
    #[arg(long)]
    pub json: bool,
}

/// `costs budget`; see [`crate::cli::costs_budget`].
#[derive(Debug, Clone, Args)]
pub struct BudgetChange {
    /// The tenant
    #[arg(value_name = "TENANT")]
    pub tenant: TenantId,
    /// What a month (UTC) may cost, as 25.00; 0 is used up at once
    #[arg(long, value_name = "AMOUNT", required_unless_present = "none")]
    pub monthly: Option<Micros>,
    /// The share at which somebody is warned
    #[arg(long, value_name = "PERCENT", conflicts_with = "none")]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=100))]
    pub warn: Option<u8>,
    /// Once it is used up, people decide and nothing more is spent
    #[arg(long, conflicts_with = "none")]
    pub stop: bool,
    /// No budget
    #[arg(long, conflicts_with = "monthly")]
    pub none: bool,
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
