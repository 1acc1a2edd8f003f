//! Owns checkpoints, anchors and the ends of the chains. Never signs, and never takes a record away
//! but through `prune_audit`, below an anchor written in the same transaction.

use async_trait::async_trait;
use sqlx::postgres::PgRow;
use sqlx::{Connection, PgConnection, Row};

use super::connect::{control_lock, corrupt, failed};
use super::control::append_control;
use super::read::{audit_records, hash, stream, stream_number, tenant};
use super::store::PostgresStore;
use crate::domain::checkpoint::{Anchor, Checkpoint, NotedHead, Signed};
use crate::domain::{AuditBody, AuditRecord, Stream, TenantId};
use crate::ports::Checkpoints;
use crate::ports::checkpoints::{Appended, KeptCheckpoint, PRUNE_MAX, Pruned};
use crate::ports::store::{AuditCursor, StoreError};

fn place(after: Option<&(TenantId, Stream)>) -> (&str, i16) {
    // Before the first: no tenant is empty.
    after.map_or(("", 0), |(tenant, stream)| (tenant.as_str(), stream_number(*stream)))
}

fn signed(row: &PgRow, text: usize) -> Result<Signed, StoreError> {
    let signature: Vec<u8> = row.try_get(text + 1).map_err(failed)?;
    let signature = signature.try_into().map_err(|_| corrupt("signature", "it has not 64 bytes"))?;
    Ok(Signed { text: row.try_get(text).map_err(failed)?, signature })
}

fn kept(row: &PgRow) -> Result<KeptCheckpoint, StoreError> {
    Ok(KeptCheckpoint { number: row.try_get(0).map_err(failed)?, signed: signed(row, 1)? })
}

#[async_trait]
impl Checkpoints for PostgresStore {
    async fn chain_heads(&self, after: Option<&(TenantId, Stream)>, limit: u32) -> Result<Vec<NotedHead>, StoreError> {
        let (past_tenant, past_stream) = place(after);
        // A loose index scan (PostgreSQL wiki): one descent for the next chain, one for its end.
        let rows = sqlx::query(
            "WITH RECURSIVE chain AS (
                 (SELECT tenant_id, stream FROM audit WHERE (tenant_id, stream) > ($1, $2)
                  ORDER BY tenant_id, stream LIMIT 1)
                 UNION ALL
                 SELECT n.tenant_id, n.stream FROM chain c, LATERAL (
                     SELECT a.tenant_id, a.stream FROM audit a WHERE (a.tenant_id, a.stream) > (c.tenant_id, c.stream)
                     ORDER BY a.tenant_id, a.stream LIMIT 1) n
             )
             SELECT c.tenant_id, c.stream, h.seq, h.hash FROM (SELECT * FROM chain LIMIT $3) c, LATERAL (
                 SELECT a.seq, a.hash FROM audit a WHERE a.tenant_id = c.tenant_id AND a.stream = c.stream
                 ORDER BY a.seq DESC LIMIT 1) h
             ORDER BY c.tenant_id, c.stream",
        )
        .bind(past_tenant)
        .bind(past_stream)
        .bind(i64::from(limit))
        .fetch_all(&self.reading)
        .await
        .map_err(failed)?;
        let head = |row: &PgRow| {
            Ok(NotedHead {
                tenant_id: tenant(row.try_get(0).map_err(failed)?)?,
                stream: stream(row.try_get(1).map_err(failed)?)?,
                seq: row.try_get(2).map_err(failed)?,
                hash: hash(row, 3)?,
            })
        };
        rows.iter().map(head).collect()
    }

    async fn last_checkpoint(&self) -> Result<Option<KeptCheckpoint>, StoreError> {
        let sql = "SELECT number, text, signature FROM audit_checkpoints ORDER BY number DESC LIMIT 1";
        let row = sqlx::query(sql).fetch_optional(&self.reading).await.map_err(failed)?;
        row.as_ref().map(kept).transpose()
    }

    async fn append_checkpoint(&self, checkpoint: &Checkpoint, signed: &Signed) -> Result<Appended, StoreError> {
        let done = sqlx::query(
            "INSERT INTO audit_checkpoints (number, at, key_id, text, signature)
             SELECT $1, $2, $3, $4, $5
             WHERE $1 = (SELECT coalesce(max(number), 0) + 1 FROM audit_checkpoints)
             ON CONFLICT DO NOTHING",
        )
        .bind(checkpoint.number)
        .bind(checkpoint.at)
        .bind(&checkpoint.key_id)
        .bind(&signed.text)
        .bind(&signed.signature[..])
        .execute(&self.reading)
        .await
        .map_err(failed)?;
        Ok(if done.rows_affected() == 1 { Appended::Done } else { Appended::Behind })
    }

    async fn checkpoints_page(&self, after: i64, limit: u32) -> Result<Vec<KeptCheckpoint>, StoreError> {
        let sql = "SELECT number, text, signature FROM audit_checkpoints WHERE number > $1 ORDER BY number LIMIT $2";
        let rows = sqlx::query(sql).bind(after).bind(i64::from(limit)).fetch_all(&self.reading).await;
        rows.map_err(failed)?.iter().map(kept).collect()
    }

    async fn records_page(&self, after: Option<&AuditCursor>, limit: u32) -> Result<Vec<AuditRecord>, StoreError> {
        audit_records(&self.reading, after, limit).await
    }

    async fn anchors_page(&self, after: Option<&(TenantId, Stream)>, limit: u32) -> Result<Vec<Signed>, StoreError> {
        let (past_tenant, past_stream) = place(after);
        let rows = sqlx::query(
            "SELECT DISTINCT ON (tenant_id, stream) text, signature FROM audit_anchors
             WHERE (tenant_id, stream) > ($1, $2) ORDER BY tenant_id, stream, seq DESC LIMIT $3",
        )
        .bind(past_tenant)
        .bind(past_stream)
        .bind(i64::from(limit))
        .fetch_all(&self.reading)
        .await
        .map_err(failed)?;
        rows.iter().map(|row| signed(row, 0)).collect()
    }

    async fn prune_chain(&self, anchor: &Anchor, signed: &Signed, audit: &AuditBody) -> Result<Pruned, StoreError> {
        let mut connection = self.reading.acquire().await.map_err(failed)?;
        let mut tx = connection.begin().await.map_err(failed)?;
        let (tenant, which) = (anchor.tenant_id.as_str(), stream_number(anchor.stream));
        // The control chain's lock first, as its writers take it: nothing else writes below a head.
        sqlx::query("SELECT pg_advisory_xact_lock($1, $2)")
            .bind(self.locks)
            .bind(control_lock(&anchor.tenant_id))
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
        if let Some(refused) = refusal(&mut tx, anchor).await? {
            tx.rollback().await.map_err(failed)?;
            return Ok(refused);
        }
        sqlx::query("INSERT INTO audit_anchors (tenant_id, stream, seq, text, signature) VALUES ($1, $2, $3, $4, $5)")
            .bind(tenant)
            .bind(which)
            .bind(anchor.seq)
            .bind(&signed.text)
            .bind(&signed.signature[..])
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
        let gone: i64 = sqlx::query_scalar("SELECT prune_audit($1, $2, $3)")
            .bind(tenant)
            .bind(which)
            .bind(anchor.seq)
            .fetch_one(&mut *tx)
            .await
            .map_err(failed)?;
        append_control(&mut tx, self.locks, &audit.tenant_id, audit).await?;
        tx.commit().await.map_err(failed)?;
        Ok(Pruned::Done(u64::try_from(gone).unwrap_or(0)))
    }
}

/// Why the chain must not be shortened so.
async fn refusal(tx: &mut PgConnection, anchor: &Anchor) -> Result<Option<Pruned>, StoreError> {
    let found = sqlx::query(
        "SELECT (SELECT hash FROM audit WHERE tenant_id = $1 AND stream = $2 AND seq = $3),
                EXISTS (SELECT 1 FROM audit WHERE tenant_id = $1 AND stream = $2 AND seq > $3),
                (SELECT count(*) FROM (SELECT 1 FROM audit WHERE tenant_id = $1 AND stream = $2 AND seq <= $3
                                       LIMIT $4) few),
                EXISTS (SELECT 1 FROM tenants WHERE tenant_id = $1 AND legal_hold)",
    )
    .bind(anchor.tenant_id.as_str())
    .bind(stream_number(anchor.stream))
    .bind(anchor.seq)
    .bind(PRUNE_MAX + 1)
    .fetch_one(tx)
    .await
    .map_err(failed)?;
    let hash: Option<Vec<u8>> = found.try_get(0).map_err(failed)?;
    if hash.as_deref() != Some(&anchor.hash[..]) {
        return Ok(Some(Pruned::NoSuchRecord));
    }
    if !found.try_get::<bool, _>(1).map_err(failed)? {
        return Ok(Some(Pruned::Head));
    }
    if found.try_get::<bool, _>(3).map_err(failed)? {
        return Ok(Some(Pruned::Held));
    }
    let count: i64 = found.try_get(2).map_err(failed)?;
    Ok((count > PRUNE_MAX).then_some(Pruned::TooMany))
}
