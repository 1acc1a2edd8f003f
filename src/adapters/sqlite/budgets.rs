//! Owns the tenants' budgets: what is set, how much of it is spent, and what was noted. Never spends.

use async_trait::async_trait;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::SqliteStore;
use super::audit::append_control;
use super::costs;
use super::db::{Sync, failure};
use super::rows::{self, get, millis, moment, number, numbered};
use crate::domain::budget::{BUDGETS_MAX, Budget, BudgetState, BudgetTerms, Month};
use crate::domain::cost::Micros;
use crate::domain::{AuditBody, Scope, TenantId, time};
use crate::ports::StoreError;
use crate::ports::costs::{BudgetAct, BudgetUse, CostFilter, CostReport, Costs, Stop, Stops, shown};

/// What is spent of a budget `b` in the days from ?1 to before ?2: one range of the primary key.
macro_rules! spent {
    () => {
        "coalesce((SELECT sum(c.cost_micros) FROM costs c
                   WHERE c.tenant = b.tenant AND c.day >= ?1 AND c.day < ?2), 0)"
    };
}

#[async_trait]
impl Stops for SqliteStore {
    async fn stops(&self, month: Month, after: Option<&TenantId>, limit: u32) -> Result<Vec<Stop>, StoreError> {
        let sql = concat!(
            "SELECT b.tenant, b.monthly_micros <= ",
            spent!(),
            " FROM budgets b WHERE b.stop = 1 AND b.tenant > ?3 ORDER BY b.tenant LIMIT ?4"
        );
        let asked = sqlx::query(sql)
            .bind(month.first().number())
            .bind(month.past().number())
            .bind(after.map_or("", TenantId::as_str))
            .bind(limit);
        let stop = |row: &SqliteRow| Ok(Stop { tenant: rows::tenant(row, 0)?, used_up: get(row, 1)? });
        asked.fetch_all(self.0.db.readers()).await.map_err(failure)?.iter().map(stop).collect()
    }
}

#[async_trait]
impl Costs for SqliteStore {
    async fn costs(&self, scope: &Scope, filter: &CostFilter) -> Result<CostReport, StoreError> {
        costs::report(&self.0.db, scope, filter).await
    }

    async fn budgets(
        &self,
        scope: &Scope,
        month: Month,
        after: Option<&TenantId>,
        limit: u32,
    ) -> Result<Vec<BudgetUse>, StoreError> {
        let sql = concat!(
            "SELECT b.tenant, b.monthly_micros, b.warn_percent, b.stop, b.set_at, b.set_by, ",
            spent!(),
            ", CASE WHEN b.noted_month = ?1 THEN b.noted_state END
             FROM budgets b WHERE b.tenant > ?3 AND (?4 IS NULL OR b.tenant = ?4) ORDER BY b.tenant LIMIT ?5"
        );
        let asked = sqlx::query(sql)
            .bind(month.first().number())
            .bind(month.past().number())
            .bind(after.map_or("", TenantId::as_str))
            .bind(scope.tenant().map(TenantId::as_str))
            .bind(limit);
        asked.fetch_all(self.0.db.readers()).await.map_err(failure)?.iter().map(budget_use).collect()
    }

    async fn set_budget(
        &self,
        tenant: &TenantId,
        terms: Option<&BudgetTerms>,
        audit: &AuditBody,
    ) -> Result<BudgetAct, StoreError> {
        let mut tx = self.0.db.begin(Sync::Full).await?;
        let conn = tx.conn()?;
        let before = find(conn, tenant).await?;
        if before.as_ref().map(|budget| &budget.terms) == terms {
            tx.commit().await?;
            return Ok(BudgetAct::Already(before));
        }
        if before.is_none() && count(conn).await? >= i64::from(BUDGETS_MAX) {
            tx.commit().await?;
            return Ok(BudgetAct::Full);
        }
        let after = write(conn, tenant, terms, audit).await?;
        let audit =
            AuditBody { previous: Some(shown(before.as_ref())), new: Some(shown(after.as_ref())), ..audit.clone() };
        append_control(conn, tenant, &audit).await?;
        tx.commit().await?;
        Ok(BudgetAct::Done(after))
    }

    async fn note_budget(
        &self,
        tenant: &TenantId,
        month: Month,
        state: BudgetState,
        audit: &AuditBody,
    ) -> Result<bool, StoreError> {
        let mut tx = self.0.db.begin(Sync::Full).await?;
        let conn = tx.conn()?;
        let sql = "UPDATE budgets SET noted_month = ?2, noted_state = ?3
                   WHERE tenant = ?1 AND ?3 > 0
                     AND (noted_month IS NULL OR (noted_month, noted_state) < (?2, ?3))";
        let noted =
            sqlx::query(sql).bind(tenant.as_str()).bind(month.first().number()).bind(number(&BudgetState::ALL, &state));
        let noted = noted.execute(&mut *conn).await.map_err(failure)?.rows_affected() == 1;
        if noted {
            append_control(conn, tenant, audit).await?;
        }
        tx.commit().await?;
        Ok(noted)
    }
}

fn budget_use(row: &SqliteRow) -> Result<BudgetUse, StoreError> {
    let noted = get::<Option<i64>>(row, 7)?.map(|state| numbered(&BudgetState::ALL, state)).transpose()?;
    Ok(BudgetUse { budget: budget(row)?, spent: Micros::new(get(row, 6)?), noted })
}

/// Columns tenant, monthly_micros, warn_percent, stop, set_at, set_by.
fn budget(row: &SqliteRow) -> Result<Budget, StoreError> {
    let terms = BudgetTerms { monthly: Micros::new(get(row, 1)?), warn_percent: get(row, 2)?, stop: get(row, 3)? };
    Ok(Budget { tenant: rows::tenant(row, 0)?, terms, set_at: moment(row, 4)?, set_by: get(row, 5)? })
}

async fn find(conn: &mut SqliteConnection, tenant: &TenantId) -> Result<Option<Budget>, StoreError> {
    let sql = "SELECT tenant, monthly_micros, warn_percent, stop, set_at, set_by FROM budgets WHERE tenant = ?";
    let row = sqlx::query(sql).bind(tenant.as_str()).fetch_optional(conn).await.map_err(failure)?;
    row.as_ref().map(budget).transpose()
}

async fn count(conn: &mut SqliteConnection) -> Result<i64, StoreError> {
    get(&sqlx::query("SELECT count(*) FROM budgets").fetch_one(conn).await.map_err(failure)?, 0)
}

async fn write(
    conn: &mut SqliteConnection,
    tenant: &TenantId,
    terms: Option<&BudgetTerms>,
    audit: &AuditBody,
) -> Result<Option<Budget>, StoreError> {
    let gone = sqlx::query("DELETE FROM budgets WHERE tenant = ?").bind(tenant.as_str());
    gone.execute(&mut *conn).await.map_err(failure)?;
    let Some(terms) = terms else { return Ok(None) };
    let (set_at, set_by) = (time::whole_millis(audit.at), audit.actor.clone());
    let sql = "INSERT INTO budgets (tenant, monthly_micros, warn_percent, stop, set_at, set_by)
               VALUES (?, ?, ?, ?, ?, ?)";
    sqlx::query(sql)
        .bind(tenant.as_str())
        .bind(terms.monthly.get())
        .bind(terms.warn_percent)
        .bind(terms.stop)
        .bind(millis(set_at))
        .bind(&set_by)
        .execute(conn)
        .await
        .map_err(failure)?;
    Ok(Some(Budget { tenant: tenant.clone(), terms: *terms, set_at, set_by }))
}
