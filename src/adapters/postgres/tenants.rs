//! Owns the tenants' rows: what is set of them, each change with its record in their control chain.

use async_trait::async_trait;
use sqlx::postgres::PgRow;
use sqlx::{Connection, PgConnection, Row};

use super::connect::failed;
use super::control::append_control;
use super::read;
use super::store::PostgresStore;
use crate::domain::retention::RETENTION_DAYS_MAX;
use crate::domain::{AuditBody, TenantId, time};
use crate::ports::StoreError;
use crate::ports::tenants::{Hold, Tenant, TenantAct, Tenants, shown};

/// Columns tenant_id, created_at, retention_days, hold_reason, held_by, held_at.
fn tenant(row: &PgRow) -> Result<Tenant, StoreError> {
    let days: Option<i32> = row.try_get(2).map_err(failed)?;
    let hold = match row.try_get(5).map_err(failed)? {
        Some(at) => {
            let (reason, by) = (row.try_get(3).map_err(failed)?, row.try_get(4).map_err(failed)?);
            Some(Hold { reason, by, at })
        }
        None => None,
    };
    Ok(Tenant {
        id: read::tenant(row.try_get(0).map_err(failed)?)?,
        created_at: row.try_get(1).map_err(failed)?,
        retention_days: days.map(i32::unsigned_abs),
        hold,
    })
}

/// The tenant as it stands, its row locked; none where nothing is set of it.
async fn locked(tx: &mut PgConnection, id: &TenantId) -> Result<Option<Tenant>, StoreError> {
    let row = sqlx::query(
        "SELECT tenant_id, created_at, retention_days, hold_reason, held_by, held_at FROM tenants
         WHERE tenant_id = $1 FOR UPDATE",
    )
    .bind(id.as_str())
    .fetch_optional(tx)
    .await
    .map_err(failed)?;
    row.as_ref().map(tenant).transpose()
}

/// One change: the row is made where there is none, locked, and written with its audit record when
/// `change` makes another tenant of it.
async fn change(
    store: &PostgresStore,
    id: &TenantId,
    audit: &AuditBody,
    change: impl FnOnce(&mut Tenant) + Send,
) -> Result<TenantAct, StoreError> {
    let mut connection = store.reading.acquire().await.map_err(failed)?;
    let mut tx = connection.begin().await.map_err(failed)?;
    sqlx::query("INSERT INTO tenants (tenant_id, created_at) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .bind(id.as_str())
        .bind(time::whole_millis(audit.at))
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
    let gone = || StoreError::Fault(format!("change tenant {id}: its row went away"));
    let before = locked(&mut tx, id).await?.ok_or_else(gone)?;
    let mut after = before.clone();
    change(&mut after);
    if after == before {
        tx.rollback().await.map_err(failed)?;
        return Ok(TenantAct::Already(before));
    }
    write(&mut tx, &after).await?;
    let audit = AuditBody { previous: Some(shown(&before)), new: Some(shown(&after)), ..audit.clone() };
    append_control(&mut tx, store.locks, id, &audit).await?;
    tx.commit().await.map_err(failed)?;
    Ok(TenantAct::Done(after))
}

async fn write(tx: &mut PgConnection, tenant: &Tenant) -> Result<(), StoreError> {
    let hold = tenant.hold.as_ref();
    let written = sqlx::query(
        "UPDATE tenants SET retention_days = $2, legal_hold = $3, hold_reason = $4, held_by = $5, held_at = $6
         WHERE tenant_id = $1",
    )
    .bind(tenant.id.as_str())
    .bind(tenant.retention_days.map(|days| days as i32))
    .bind(hold.is_some())
    .bind(hold.map(|hold| &hold.reason))
    .bind(hold.map(|hold| &hold.by))
    .bind(hold.map(|hold| hold.at))
    .execute(tx)
    .await
    .map_err(failed)?;
    if written.rows_affected() != 1 {
        return Err(StoreError::Fault(format!("change tenant {}: its row went away", tenant.id)));
    }
    Ok(())
}

#[async_trait]
impl Tenants for PostgresStore {
    /// The chains are found by one probe of the primary key a tenant, not by reading the audit.
    async fn list_tenants(&self, after: Option<&TenantId>, limit: u32) -> Result<Vec<Tenant>, StoreError> {
        let rows = sqlx::query(
            "WITH RECURSIVE seen (tenant_id, n) AS (
                 (SELECT a.tenant_id, 1 FROM audit a WHERE a.tenant_id > $1 ORDER BY a.tenant_id LIMIT 1)
                 UNION ALL
                 SELECT (SELECT a.tenant_id FROM audit a WHERE a.tenant_id > s.tenant_id ORDER BY a.tenant_id LIMIT 1),
                        s.n + 1
                 FROM seen s WHERE s.tenant_id IS NOT NULL AND s.n <= $2
             ), named AS (
                 SELECT s.tenant_id FROM seen s WHERE s.tenant_id IS NOT NULL
                 UNION
                 (SELECT t.tenant_id FROM tenants t WHERE t.tenant_id > $1 ORDER BY t.tenant_id LIMIT $2 + 1)
             )
             SELECT n.tenant_id, t.created_at, t.retention_days, t.hold_reason, t.held_by, t.held_at
             FROM named n LEFT JOIN tenants t ON t.tenant_id = n.tenant_id
             WHERE n.tenant_id <> $3 ORDER BY n.tenant_id LIMIT $2",
        )
        .bind(after.map_or("", TenantId::as_str))
        .bind(i64::from(limit))
        .bind(TenantId::platform().as_str())
        .fetch_all(&self.reading)
        .await
        .map_err(failed)?;
        rows.iter().map(tenant).collect()
    }

    async fn tenant(&self, id: &TenantId) -> Result<Option<Tenant>, StoreError> {
        let row = sqlx::query(
            "SELECT n.tenant_id, t.created_at, t.retention_days, t.hold_reason, t.held_by, t.held_at
             FROM (SELECT $1::text AS tenant_id) n LEFT JOIN tenants t ON t.tenant_id = $1
             WHERE t.tenant_id IS NOT NULL OR EXISTS (SELECT FROM audit a WHERE a.tenant_id = $1)",
        )
        .bind(id.as_str())
        .fetch_optional(&self.reading)
        .await
        .map_err(failed)?;
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
        change(self, id, audit, |tenant| tenant.retention_days = days).await
    }

    /// The row is written under a lock that a drop takes for itself before its last look.
    async fn hold(&self, id: &TenantId, audit: &AuditBody) -> Result<TenantAct, StoreError> {
        let hold = Hold {
            reason: audit.reason.clone().unwrap_or_default(),
            by: audit.actor.clone(),
            at: time::whole_millis(audit.at),
        };
        change(self, id, audit, |tenant| _ = tenant.hold.get_or_insert(hold)).await
    }

    async fn release(&self, id: &TenantId, audit: &AuditBody) -> Result<TenantAct, StoreError> {
        change(self, id, audit, |tenant| tenant.hold = None).await
    }
}
