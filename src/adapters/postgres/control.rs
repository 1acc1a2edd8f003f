//! Owns the control chains: records of what people did, each in the transaction that does it.

use sqlx::{PgConnection, Row};

use super::connect::{control_lock, corrupt, failed};
use crate::domain::{AuditBody, ChainHead, Stream, TenantId};
use crate::ports::store::StoreError;

/// Locks the control chain of `tenant`, to the transaction's end: taken first, it keeps whoever else changes
/// something of the tenant away from what is read next.
pub(super) async fn lock_control(tx: &mut PgConnection, locks: i32, tenant: &TenantId) -> Result<(), StoreError> {
    sqlx::query("SELECT pg_advisory_xact_lock($1, $2)")
        .bind(locks)
        .bind(control_lock(tenant))
        .execute(tx)
        .await
        .map_err(failed)?;
    Ok(())
}

/// Hangs a record on the control chain of `tenant`. The chain is locked first and its head read in
/// the NEXT statement, so that a record that was waited for is seen. Call it last: the lock is held
/// to the transaction's end.
pub(super) async fn append_control(
    tx: &mut PgConnection,
    locks: i32,
    tenant: &TenantId,
    audit: &AuditBody,
) -> Result<(), StoreError> {
    if (&audit.tenant_id, audit.stream) != (tenant, Stream::Control) {
        return Err(StoreError::Fault(format!("act for {tenant}: its audit record is of another chain")));
    }
    lock_control(tx, locks, tenant).await?;
    let last = sqlx::query("SELECT seq, hash FROM audit WHERE tenant_id = $1 AND stream = 1 ORDER BY seq DESC LIMIT 1")
        .bind(tenant.as_str())
        .fetch_optional(&mut *tx)
        .await
        .map_err(failed)?;
    let mut head = match last {
        None => ChainHead::EMPTY,
        Some(row) => {
            let hash: Vec<u8> = row.try_get(1).map_err(failed)?;
            let hash = hash.try_into().map_err(|_| corrupt("audit", "a hash has not 32 bytes"))?;
            ChainHead { seq: row.try_get(0).map_err(failed)?, hash }
        }
    };
    let record = head.append(audit.clone());
    sqlx::query("INSERT INTO audit (tenant_id, stream, seq, prev_hash, hash, body) VALUES ($1, 1, $2, $3, $4, $5)")
        .bind(record.tenant.as_str())
        .bind(record.seq)
        .bind(&record.prev_hash[..])
        .bind(&record.hash[..])
        .bind(record.body.as_str())
        .execute(tx)
        .await
        .map_err(failed)?;
    Ok(())
}
