//! Owns the tenants' rows: what is set of them, each change with its record in their control chain.

use async_trait::async_trait;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::SqliteStore;
use super::audit::append_control;
use super::db::{Db, Sync, failure};
use super::rows::{self, get, millis};
use crate::domain::retention::RETENTION_DAYS_MAX;
use crate::domain::{AuditBody, TenantId, time};
use crate::ports::StoreError;
use crate::ports::tenants::{Hold, Tenant, TenantAct, Tenants, shown};

/// Columns tenant, created_at, retention_days, hold_reason, held_by, held_at.
fn tenant(row: &SqliteRow) -> Result<Tenant, StoreError> {
    let hold = match get::<Option<i64>>(row, 5)? {
        Some(at) => Some(Hold { reason: get(row, 3)?, by: get(row, 4)?, at: rows::from_millis(at) }),
        None => None,
    };
    Ok(Tenant {
        id: rows::tenant(row, 0)?,
        created_at: get::<Option<i64>>(row, 1)?.map(rows::from_millis),
        retention_days: get(row, 2)?,
        hold,
    })
}

/// One change: written with its audit record when `change` makes another tenant of it.
async fn change(
    db: &Db,
    id: &TenantId,
    audit: &AuditBody,
    change: impl FnOnce(&mut Tenant) + Send,
) -> Result<TenantAct, StoreError> {
    let mut tx = db.begin(Sync::Full).await?;
    let conn = tx.conn()?;
    let stands =
        "SELECT tenant, created_at, retention_days, hold_reason, held_by, held_at FROM tenants WHERE tenant = ?";
    let row = sqlx::query(stands).bind(id.as_str()).fetch_optional(&mut *conn).await.map_err(failure)?;
    let before = row.as_ref().map(tenant).transpose()?.unwrap_or_else(|| Tenant::plain(id.clone()));
    let mut after = before.clone();
    change(&mut after);
    if after == before {
        tx.commit().await?;
        return Ok(TenantAct::Already(before));
    }
    after.created_at.get_or_insert(time::whole_millis(audit.at));
    write(conn, &after).await?;
    let audit = AuditBody { previous: Some(shown(&before)), new: Some(shown(&after)), ..audit.clone() };
    append_control(conn, id, &audit).await?;
    tx.commit().await?;
    Ok(TenantAct::Done(after))
}

async fn write(conn: &mut SqliteConnection, tenant: &Tenant) -> Result<(), StoreError> {
    let hold = tenant.hold.as_ref();
    sqlx::query(
        "INSERT OR REPLACE INTO tenants
             (tenant, created_at, retention_days, legal_hold, hold_reason, held_by, held_at)
         VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(tenant.id.as_str())
    .bind(tenant.created_at.map(millis))
    .bind(tenant.retention_days)
    .bind(hold.is_some())
    .bind(hold.map(|hold| hold.reason.as_str()))
    .bind(hold.map(|hold| hold.by.as_str()))
    .bind(hold.map(|hold| millis(hold.at)))
    .execute(conn)
    .await
    .map_err(failure)?;
    Ok(())
}

#[async_trait]
impl Tenants for SqliteStore {
    /// The chains are found by one probe of the primary key a tenant, not by reading the audit.
    async fn list_tenants(&self, after: Option<&TenantId>, limit: u32) -> Result<Vec<Tenant>, StoreError> {
        let sql = "WITH RECURSIVE seen (tenant, n) AS (
                       SELECT (SELECT min(tenant) FROM audit WHERE tenant > ?1), 1
                       UNION ALL
                       SELECT (SELECT min(a.tenant) FROM audit a WHERE a.tenant > s.tenant), s.n + 1
                       FROM seen s WHERE s.tenant IS NOT NULL AND s.n <= ?2
                   ), named AS (
                       SELECT tenant FROM seen WHERE tenant IS NOT NULL
                       UNION
                       SELECT tenant FROM (SELECT tenant FROM tenants WHERE tenant > ?1 ORDER BY tenant LIMIT ?2 + 1)
                   )
                   SELECT n.tenant, t.created_at, t.retention_days, t.hold_reason, t.held_by, t.held_at
                   FROM named n LEFT JOIN tenants t ON t.tenant = n.tenant
                   WHERE n.tenant <> ?3 ORDER BY n.tenant LIMIT ?2";
        let asked = sqlx::query(sql)
            .bind(after.map_or("", TenantId::as_str))
            .bind(limit)
            .bind(TenantId::platform().as_str().to_owned());
        asked.fetch_all(self.0.db.readers()).await.map_err(failure)?.iter().map(tenant).collect()
    }

    async fn tenant(&self, id: &TenantId) -> Result<Option<Tenant>, StoreError> {
        let sql = "SELECT n.tenant, t.created_at, t.retention_days, t.hold_reason, t.held_by, t.held_at
                   FROM (SELECT ?1 AS tenant) n LEFT JOIN tenants t ON t.tenant = n.tenant
                   WHERE t.tenant IS NOT NULL OR EXISTS (SELECT 1 FROM audit WHERE tenant = ?1)";
        let row = sqlx::query(sql).bind(id.as_str()).fetch_optional(self.0.db.readers()).await.map_err(failure)?;
        row.as_ref().map(tenant).transpose()
    }

    async fn set_retention(
        &self,
        id: &TenantId,
        days: Option<u32>,
        audit: &AuditBody,
    ) -> Result<TenantAct, StoreError> {
        if days.is_some_and(|days| days > RETENTION_DAYS_MAX) {
            return Err(StoreError::Refused(format!("a retention of more than {RETENTION_DAYS_MAX} days")));
        }
        change(&self.0.db, id, audit, |tenant| tenant.retention_days = days).await
    }

    async fn hold(&self, id: &TenantId, audit: &AuditBody) -> Result<TenantAct, StoreError> {
        let hold = Hold {
            reason: audit.reason.clone().unwrap_or_default(),
            by: audit.actor.clone(),
            at: time::whole_millis(audit.at),
        };
        change(&self.0.db, id, audit, |tenant| _ = tenant.hold.get_or_insert(hold)).await
    }

    async fn release(&self, id: &TenantId, audit: &AuditBody) -> Result<TenantAct, StoreError> {
        change(&self.0.db, id, audit, |tenant| tenant.hold = None).await
    }
}
