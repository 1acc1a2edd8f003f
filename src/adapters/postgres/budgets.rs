//! Owns the tenants' budgets: what is set, how much of it is spent, and what was noted. Never spends.
//!
//! The tenant's control lock is taken FIRST in each change: states are read, and chained, under it.
//!
//! # Decisions
//! Budgets are set by operators, whose sessions are the fleet's, so that they can be counted; a tenant's caller
//! only reads its own, as [`Role::Api`](super::roles::Role::Api).

use async_trait::async_trait;
use sqlx::postgres::PgRow;
use sqlx::{Connection, PgConnection, Row};

use super::connect::{BUDGETS_LOCK, corrupt, failed};
use super::control::{append_control, lock_control};
use super::scope::ask;
use super::store::PostgresStore;
use super::{costs, read};
use crate::domain::budget::{BUDGETS_MAX, Budget, BudgetState, BudgetTerms, Month};
use crate::domain::cost::Micros;
use crate::domain::{AuditBody, Scope, TenantId, time};
use crate::ports::StoreError;
use crate::ports::costs::{BudgetAct, BudgetUse, CostFilter, CostReport, Costs, Stop, Stops, shown};

/// What is spent of a budget `b` in the days from $1 to before $2: one range of the primary key.
macro_rules! spent {
    () => {
        "coalesce((SELECT sum(c.cost_micros) FROM costs c
                   WHERE c.tenant_id = b.tenant_id AND c.day >= $1 AND c.day < $2), 0)::bigint"
    };
}

#[async_trait]
impl Stops for PostgresStore {
    async fn stops(&self, month: Month, after: Option<&TenantId>, limit: u32) -> Result<Vec<Stop>, StoreError> {
        let rows = sqlx::query(concat!(
            "SELECT b.tenant_id, b.monthly_micros <= ",
            spent!(),
            " FROM budgets b WHERE b.stop AND b.tenant_id > $3 ORDER BY b.tenant_id LIMIT $4"
        ))
        .bind(month.first().date())
        .bind(month.past().date())
        .bind(after.map_or("", TenantId::as_str))
        .bind(i64::from(limit))
        .fetch_all(&self.reading)
        .await
        .map_err(failed)?;
        let stop = |row: &PgRow| {
            let tenant = read::tenant(row.try_get(0).map_err(failed)?)?;
            Ok(Stop { tenant, used_up: row.try_get(1).map_err(failed)? })
        };
        rows.iter().map(stop).collect()
    }
}

#[async_trait]
impl Costs for PostgresStore {
    async fn costs(&self, scope: &Scope, filter: &CostFilter) -> Result<CostReport, StoreError> {
        costs::report(self, scope, filter).await
    }

    async fn budgets(
        &self,
        scope: &Scope,
        month: Month,
        after: Option<&TenantId>,
        limit: u32,
    ) -> Result<Vec<BudgetUse>, StoreError> {
        let (of, after) = (scope.clone(), after.cloned());
        ask(self, scope, move |connection| Box::pin(page(connection, of, month, after, limit))).await
    }

    async fn set_budget(
        &self,
        tenant: &TenantId,
        terms: Option<&BudgetTerms>,
        audit: &AuditBody,
    ) -> Result<BudgetAct, StoreError> {
        let mut connection = self.reading.acquire().await.map_err(failed)?;
        let mut tx = connection.begin().await.map_err(failed)?;
        // Budgets are counted under one lock: two tenants can't both be the last one.
        sqlx::query("SELECT pg_advisory_xact_lock($1, $2)")
            .bind(self.locks)
            .bind(BUDGETS_LOCK)
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
        lock_control(&mut tx, self.locks, tenant).await?;
        let before = find(&mut tx, tenant).await?;
        if before.as_ref().map(|budget| &budget.terms) == terms {
            tx.rollback().await.map_err(failed)?;
            return Ok(BudgetAct::Already(before));
        }
        if before.is_none() && count(&mut tx).await? >= i64::from(BUDGETS_MAX) {
            tx.rollback().await.map_err(failed)?;
            return Ok(BudgetAct::Full);
        }
        let after = write(&mut tx, tenant, terms, audit).await?;
        let audit =
            AuditBody { previous: Some(shown(before.as_ref())), new: Some(shown(after.as_ref())), ..audit.clone() };
        append_control(&mut tx, self.locks, tenant, &audit).await?;
        tx.commit().await.map_err(failed)?;
        Ok(BudgetAct::Done(after))
    }

    async fn note_budget(
        &self,
        tenant: &TenantId,
        month: Month,
        state: BudgetState,
        audit: &AuditBody,
    ) -> Result<bool, StoreError> {
        let mut connection = self.reading.acquire().await.map_err(failed)?;
        let mut tx = connection.begin().await.map_err(failed)?;
        lock_control(&mut tx, self.locks, tenant).await?;
        let noted = sqlx::query(
            "UPDATE budgets SET noted_month = $2, noted_state = $3
             WHERE tenant_id = $1 AND $3 > 0
               AND (noted_month IS NULL OR (noted_month, noted_state) < ($2::date, $3::smallint))",
        )
        .bind(tenant.as_str())
        .bind(month.first().date())
        .bind(state_number(state))
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
        if noted.rows_affected() == 0 {
            tx.rollback().await.map_err(failed)?;
            return Ok(false);
        }
        append_control(&mut tx, self.locks, tenant, audit).await?;
        tx.commit().await.map_err(failed)?;
        Ok(true)
    }
}

async fn page(
    connection: &mut PgConnection,
    of: Scope,
    month: Month,
    after: Option<TenantId>,
    limit: u32,
) -> Result<Vec<BudgetUse>, StoreError> {
    let rows = sqlx::query(concat!(
        "SELECT b.tenant_id, b.monthly_micros, b.warn_percent, b.stop, b.set_at, b.set_by, ",
        spent!(),
        ", CASE WHEN b.noted_month = $1 THEN b.noted_state END
         FROM budgets b WHERE b.tenant_id > $3 AND ($4::text IS NULL OR b.tenant_id = $4)
         ORDER BY b.tenant_id LIMIT $5"
    ))
    .bind(month.first().date())
    .bind(month.past().date())
    .bind(after.as_ref().map_or("", TenantId::as_str))
    .bind(of.tenant().map(TenantId::as_str))
    .bind(i64::from(limit))
    .fetch_all(connection)
    .await
    .map_err(failed)?;
    rows.iter().map(budget_use).collect()
}

fn budget_use(row: &PgRow) -> Result<BudgetUse, StoreError> {
    let noted: Option<i16> = row.try_get(7).map_err(failed)?;
    let state = |number: i16| {
        let known = usize::try_from(number).ok().and_then(|n| BudgetState::ALL.get(n)).copied();
        known.ok_or_else(|| corrupt("state of a budget", number))
    };
    Ok(BudgetUse {
        budget: budget(row)?,
        spent: Micros::new(row.try_get(6).map_err(failed)?),
        noted: noted.map(state).transpose()?,
    })
}

/// Columns tenant_id, monthly_micros, warn_percent, stop, set_at, set_by.
fn budget(row: &PgRow) -> Result<Budget, StoreError> {
    let percent: i16 = row.try_get(2).map_err(failed)?;
    Ok(Budget {
        tenant: read::tenant(row.try_get(0).map_err(failed)?)?,
        terms: BudgetTerms {
            monthly: Micros::new(row.try_get(1).map_err(failed)?),
            warn_percent: u8::try_from(percent).map_err(|e| corrupt("share of a budget", e))?,
            stop: row.try_get(3).map_err(failed)?,
        },
        set_at: row.try_get(4).map_err(failed)?,
        set_by: row.try_get(5).map_err(failed)?,
    })
}

fn state_number(state: BudgetState) -> i16 {
    match state {
        BudgetState::Ok => 0,
        BudgetState::Warned => 1,
        BudgetState::Exhausted => 2,
    }
}

async fn find(tx: &mut PgConnection, tenant: &TenantId) -> Result<Option<Budget>, StoreError> {
    let sql = "SELECT tenant_id, monthly_micros, warn_percent, stop, set_at, set_by FROM budgets WHERE tenant_id = $1";
    let row = sqlx::query(sql).bind(tenant.as_str()).fetch_optional(tx).await.map_err(failed)?;
    row.as_ref().map(budget).transpose()
}

async fn count(tx: &mut PgConnection) -> Result<i64, StoreError> {
    sqlx::query_scalar("SELECT count(*) FROM budgets").fetch_one(tx).await.map_err(failed)
}

async fn write(
    tx: &mut PgConnection,
    tenant: &TenantId,
    terms: Option<&BudgetTerms>,
    audit: &AuditBody,
) -> Result<Option<Budget>, StoreError> {
    let Some(terms) = terms else {
        let gone = sqlx::query("DELETE FROM budgets WHERE tenant_id = $1").bind(tenant.as_str());
        gone.execute(tx).await.map_err(failed)?;
        return Ok(None);
    };
    let (set_at, set_by) = (time::whole_millis(audit.at), audit.actor.clone());
    sqlx::query(
        "INSERT INTO budgets (tenant_id, monthly_micros, warn_percent, stop, set_at, set_by)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (tenant_id) DO UPDATE SET monthly_micros = excluded.monthly_micros,
             warn_percent = excluded.warn_percent, stop = excluded.stop, set_at = excluded.set_at,
             set_by = excluded.set_by, noted_month = NULL, noted_state = NULL",
    )
    .bind(tenant.as_str())
    .bind(terms.monthly.get())
    .bind(i16::from(terms.warn_percent))
    .bind(terms.stop)
    .bind(set_at)
    .bind(&set_by)
    .execute(tx)
    .await
    .map_err(failed)?;
    Ok(Some(Budget { tenant: tenant.clone(), terms: *terms, set_at, set_by }))
}
