//! Owns the reading of the roll-up of costs. Never writes it: a commit does, with its decisions.

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, QueryBuilder, Row};

use super::connect::failed;
use super::read::tenant;
use super::scope::ask;
use super::store::PostgresStore;
use crate::domain::cost::Micros;
use crate::domain::retention::Day;
use crate::domain::{Scope, TenantId};
use crate::ports::StoreError;
use crate::ports::costs::{CostBy, CostFilter, CostReport, CostRow, Spent};

pub(super) async fn report(
    store: &PostgresStore,
    scope: &Scope,
    filter: &CostFilter,
) -> Result<CostReport, StoreError> {
    let (of, wanted) = (scope.clone(), filter.clone());
    ask(store, scope, move |connection| Box::pin(rows(connection, of, wanted))).await
}

/// The groups in their order, each with the sums of all of them, which a window takes before the limit.
async fn rows(connection: &mut PgConnection, of: Scope, filter: CostFilter) -> Result<CostReport, StoreError> {
    let (columns, group, order) = match filter.by {
        CostBy::Tenant => ("NULL::date, NULL::text", "tenant_id", "cost DESC, tenant_id"),
        CostBy::Day => ("day, NULL::text", "tenant_id, day", "day DESC, tenant_id"),
        CostBy::Model => ("NULL::date, model", "tenant_id, model", "cost DESC, tenant_id, model"),
    };
    let mut query = QueryBuilder::new(format!(
        "SELECT tenant_id, {columns}, sum(decisions)::bigint, sum(tokens)::bigint, sum(cost_micros)::bigint AS cost,
                count(*) OVER (), (sum(sum(decisions)) OVER ())::bigint, (sum(sum(tokens)) OVER ())::bigint,
                (sum(sum(cost_micros)) OVER ())::bigint
         FROM costs WHERE day BETWEEN "
    ));
    query.push_bind(filter.from.date()).push(" AND ").push_bind(filter.to.date());
    if let Some(tenant) = of.tenant() {
        query.push(" AND tenant_id = ").push_bind(tenant.as_str().to_owned());
    }
    query.push(format!(" GROUP BY {group} ORDER BY {order} LIMIT ")).push_bind(i64::from(filter.limit));
    let rows = query.build().fetch_all(connection).await.map_err(failed)?;
    let Some(first) = rows.first() else { return Ok(CostReport::default()) };
    Ok(CostReport {
        rows: rows.iter().map(cost_row).collect::<Result<_, StoreError>>()?,
        rows_all: first.try_get(6).map_err(failed)?,
        total: spent(first, 7)?,
    })
}

fn cost_row(row: &PgRow) -> Result<CostRow, StoreError> {
    let day: Option<chrono::NaiveDate> = row.try_get(1).map_err(failed)?;
    Ok(CostRow {
        tenant: read_tenant(row)?,
        day: day.map(Day::on),
        model: row.try_get(2).map_err(failed)?,
        spent: spent(row, 3)?,
    })
}

fn read_tenant(row: &PgRow) -> Result<TenantId, StoreError> {
    tenant(row.try_get(0).map_err(failed)?)
}

fn spent(row: &PgRow, first: usize) -> Result<Spent, StoreError> {
    Ok(Spent {
        decisions: row.try_get(first).map_err(failed)?,
        tokens: row.try_get(first + 1).map_err(failed)?,
        cost: Micros::new(row.try_get(first + 2).map_err(failed)?),
    })
}
