//! What decisions have cost, rolled up by the day, and the tenants' budgets.
//!
//! The roll-up is written by [`Lane::commit_batch`](super::Lane) in the transaction of the decisions that it
//! sums: it counts what was written, and nothing twice. It holds no personal data, so that it stays when the
//! days of its decisions go.

use async_trait::async_trait;
use std::collections::BTreeMap;

use super::store::{NewDisposition, StoreError};
use crate::domain::budget::{Budget, BudgetState, BudgetTerms, Month};
use crate::domain::cost::Micros;
use crate::domain::retention::Day;
use crate::domain::{AuditBody, Scope, TenantId};

/// What a report has a row for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CostBy {
    /// Each tenant, the dearest first.
    Tenant,
    /// Each tenant's day, the newest first.
    Day,
    /// Each tenant's model, the dearest first.
    Model,
}

impl CostBy {
    /// Every kind of row.
    pub const ALL: [Self; 3] = [Self::Tenant, Self::Day, Self::Model];

    /// `tenant`, `day` or `model`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Day => "day",
            Self::Model => "model",
        }
    }

    /// Reads [`CostBy::as_str`].
    pub fn parse(raw: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|by| by.as_str() == raw)
    }
}

/// Which costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CostFilter {
    /// The first day.
    pub from: Day,
    /// The last day.
    pub to: Day,
    /// What there is a row for.
    pub by: CostBy,
    /// Rows at most, 1 or more; the total is of all of them.
    pub limit: u32,
}

/// What was decided, and what it cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// How many decisions.
    pub decisions: i64,
    /// Tokens of language models.
    pub tokens: i64,
    /// By the prices of their moments.
    pub cost: Micros,
}

/// A row of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CostRow {
    /// Whose.
    pub tenant: TenantId,
    /// The day, where rows are by day.
    pub day: Option<Day>,
    /// The model, where rows are by model.
    pub model: Option<String>,
    /// How much.
    pub spent: Spent,
}

/// A report.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CostReport {
    /// In the order of [`CostBy`].
    pub rows: Vec<CostRow>,
    /// How many rows there are without the limit.
    pub rows_all: i64,
    /// The sum of all of them.
    pub total: Spent,
}

/// A budget with what is spent of it in a month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetUse {
    /// The budget.
    pub budget: Budget,
    /// What is spent.
    pub spent: Micros,
    /// The last state of that month that was noted; none: none was since the budget was set.
    pub noted: Option<BudgetState>,
}

impl BudgetUse {
    /// Where it stands.
    pub fn state(&self) -> BudgetState {
        self.budget.terms.state(self.spent)
    }
}

/// A budget that stops, as a worker has to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// Whose.
    pub tenant: TenantId,
    /// Whether the month's budget is used up.
    pub used_up: bool,
}

/// What became of a change of a budget. Inside: the budget as it is; none where there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BudgetAct {
    /// It was done.
    Done(Option<Budget>),
    /// It was so before: nothing was written.
    Already(Option<Budget>),
    /// There are [`BUDGETS_MAX`](crate::domain::budget::BUDGETS_MAX) budgets already.
    Full,
}

/// What workers read of budgets. A store without a registry has none.
#[async_trait]
pub trait Stops: Send + Sync {
    /// One page of the tenants behind `after` whose budget stops, by name, at most `limit`.
    ///
    /// # Errors
    /// When the store is away.
    async fn stops(&self, month: Month, after: Option<&TenantId>, limit: u32) -> Result<Vec<Stop>, StoreError>;
}

/// Costs and budgets. Every verb may fail with [`StoreError::Away`] or [`StoreError::Fault`]; the changes with
/// the latter also when `audit` is of another chain.
#[async_trait]
pub trait Costs: Stops {
    /// What was spent within a scope.
    async fn costs(&self, scope: &Scope, filter: &CostFilter) -> Result<CostReport, StoreError>;

    /// One page of the budgets within a scope, with what is spent of each in `month`, by tenant, behind `after`;
    /// at most `limit`.
    async fn budgets(
        &self,
        scope: &Scope,
        month: Month,
        after: Option<&TenantId>,
        limit: u32,
    ) -> Result<Vec<BudgetUse>, StoreError>;

    /// Sets a tenant's budget, by `audit`'s actor, at its time; without terms it is taken away. What was noted of
    /// the one before is forgotten. Writes `audit` (all but the place in the chain) to the tenant's control
    /// chain in the same transaction, with the state before and after.
    async fn set_budget(
        &self,
        tenant: &TenantId,
        terms: Option<&BudgetTerms>,
        audit: &AuditBody,
    ) -> Result<BudgetAct, StoreError>;

    /// Notes that a tenant's budget has come to `state` in `month`, with its record in the tenant's control chain:
    /// once for each budget that was set, month and state. False when it was noted before, or there is no budget.
    async fn note_budget(
        &self,
        tenant: &TenantId,
        month: Month,
        state: BudgetState,
        audit: &AuditBody,
    ) -> Result<bool, StoreError>;
}

/// A budget as it stands in an audit record; null where there is none.
pub fn shown(budget: Option<&Budget>) -> serde_json::Value {
    budget.map_or(serde_json::Value::Null, |budget| budget.terms.shown())
}

/// What written dispositions add to the roll-up, by tenant and model, in that order: two commits would lock its
/// rows in the same order.
pub fn rolled_up<'a>(written: impl Iterator<Item = &'a NewDisposition>) -> BTreeMap<(&'a TenantId, &'a str), Spent> {
    let mut sums: BTreeMap<(&TenantId, &str), Spent> = BTreeMap::new();
    for item in written {
        let Some((model, charge)) = item.charge() else { continue };
        let sum = sums.entry((&item.tenant, model)).or_default();
        sum.decisions += 1;
        sum.tokens += i64::from(charge.tokens);
        sum.cost = sum.cost.plus(charge.cost);
    }
    sums
}
