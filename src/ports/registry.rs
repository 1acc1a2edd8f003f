//! What people govern by: keys, approvals, versions of models and prompts, budgets, data keys, checkpoints.
//!
//! Each matter is a trait of its own beside this file, in use cases, one verb one transaction, with
//! its audit record written in that transaction. Postgres and SQLite implement all of them; one
//! contract suite a trait runs on both. Never on the hot path.

use super::approvals::Approvals;
use super::checkpoints::Checkpoints;
use super::costs::Costs;
use super::keys::Keys;
use super::retention::Retention;
use super::tenants::Tenants;
use super::versions::Versions;

/// Everything that a control plane stands on; made of the traits of its matters.
pub trait Registry: Approvals + Checkpoints + Costs + Keys + Retention + Tenants + Versions + Send + Sync {}

impl<T: Approvals + Checkpoints + Costs + Keys + Retention + Tenants + Versions + Send + Sync> Registry for T {}
