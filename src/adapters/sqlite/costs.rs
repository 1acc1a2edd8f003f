//! Owns the roll-up of costs: a commit adds to it in its own transaction, people read it.

use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, SqliteConnection};

use super::db::{Db, failure};
use super::rows::{self, get, tenant};
use crate::domain::cost::Micros;
use crate::domain::retention::Day;
use crate::domain::{Scope, TenantId};
use crate::ports::StoreError;
use crate::ports::costs::{CostBy, CostFilter, CostReport, CostRow, Spent, rolled_up};
use crate::ports::store::{CommitBatch, NewDisposition};

/// Adds what a commit has written.
pub(super) async fn roll_up(
    conn: &mut SqliteConnection,
    batch: &CommitBatch,
    written: &[&NewDisposition],
) -> Result<(), StoreError> {
    let day = Day::at(batch.at).number();
    let sql = "INSERT INTO costs (tenant, day, model, decisions, tokens, cost_micros) VALUES (?, ?, ?, ?, ?, ?)
               ON CONFLICT (tenant, day, model) DO UPDATE SET decisions = decisions + excluded.decisions,
                   tokens = tokens + excluded.tokens, cost_micros = cost_micros + excluded.cost_micros";
    for ((tenant, model), spent) in rolled_up(written.iter().copied()) {
        let added = sqlx::query(sql).bind(tenant.as_str()).bind(day).bind(model);
        let added = added.bind(spent.decisions).bind(spent.tokens).bind(spent.cost.get());
        added.execute(&mut *conn).await.map_err(failure)?;
    }
    Ok(())
}

/// The groups in their order, each with the sums of all of them, which a window takes before the limit.
pub(super) async fn report(db: &Db, scope: &Scope, filter: &CostFilter) -> Result<CostReport, StoreError> {
    let (columns, group, order) = match filter.by {
        CostBy::Tenant => ("NULL, NULL", "tenant", "cost DESC, tenant"),
        CostBy::Day => ("day, NULL", "tenant, day", "day DESC, tenant"),
        CostBy::Model => ("NULL, model", "tenant, model", "cost DESC, tenant, model"),
    };
    let sql = format!(
        "SELECT tenant, {columns}, sum(decisions), sum(tokens), sum(cost_micros) AS cost,
                count(*) OVER (), sum(sum(decisions)) OVER (), sum(sum(tokens)) OVER (), sum(sum(cost_micros)) OVER ()
         FROM costs WHERE day BETWEEN ?1 AND ?2 AND (?3 IS NULL OR tenant = ?3)
         GROUP BY {group} ORDER BY {order} LIMIT ?4"
    );
    let asked = sqlx::query(AssertSqlSafe(sql))
        .bind(filter.from.number())
        .bind(filter.to.number())
        .bind(scope.tenant().map(TenantId::as_str))
        .bind(filter.limit);
    let rows = asked.fetch_all(db.readers()).await.map_err(failure)?;
    let Some(first) = rows.first() else { return Ok(CostReport::default()) };
    Ok(CostReport {
        rows: rows.iter().map(cost_row).collect::<Result<_, StoreError>>()?,
        rows_all: rows::get(first, 6)?,
        total: spent(first, 7)?,
    })
}

fn cost_row(row: &SqliteRow) -> Result<CostRow, StoreError> {
    let day = get::<Option<u32>>(row, 1)?.map(Day::numbered);
    Ok(CostRow { tenant: tenant(row, 0)?, day, model: get(row, 2)?, spent: spent(row, 3)? })
}

fn spent(row: &SqliteRow, first: usize) -> Result<Spent, StoreError> {
    Ok(Spent { decisions: get(row, first)?, tokens: get(row, first + 1)?, cost: Micros::new(get(row, first + 2)?) })
}
