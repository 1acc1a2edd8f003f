//! Owns checkpoints, anchors and the ends of the chains. Never signs, and never takes a record away
//! but below an anchor written in the same transaction.

use async_trait::async_trait;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::SqliteStore;
use super::audit::{append_control, records, stream};
use super::commit::stream_number;
use super::db::{Sync, failure};
use super::rows::{get, hash, millis, tenant, unreadable};
use crate::domain::checkpoint::{Anchor, Checkpoint, NotedHead, Signed};
use crate::domain::{AuditBody, AuditRecord, Stream, TenantId};
use crate::ports::checkpoints::{Appended, KeptCheckpoint, PRUNE_MAX, Pruned};
use crate::ports::store::AuditCursor;
use crate::ports::{Checkpoints, StoreError};

fn place(after: Option<&(TenantId, Stream)>) -> (&str, i64) {
    // Before the first: no tenant is empty.
    after.map_or(("", 0), |(tenant, stream)| (tenant.as_str(), stream_number(*stream)))
}

fn signed(row: &SqliteRow, text: usize) -> Result<Signed, StoreError> {
    let signature = get::<&[u8]>(row, text + 1)?.try_into().map_err(unreadable)?;
    Ok(Signed { text: get(row, text)?, signature })
}

fn kept(row: &SqliteRow) -> Result<KeptCheckpoint, StoreError> {
    Ok(KeptCheckpoint { number: get(row, 0)?, signed: signed(row, 1)? })
}

#[async_trait]
impl Checkpoints for SqliteStore {
    async fn chain_heads(&self, after: Option<&(TenantId, Stream)>, limit: u32) -> Result<Vec<NotedHead>, StoreError> {
        // One descent of the primary key for the next tenant, and one for each chain's end.
        let sql = "WITH RECURSIVE t (tenant) AS (
                       SELECT min(tenant) FROM audit WHERE tenant >= ?1
                       UNION ALL
                       SELECT (SELECT min(a.tenant) FROM audit a WHERE a.tenant > t.tenant) FROM t
                       WHERE t.tenant IS NOT NULL LIMIT ?3 + 1
                   )
                   SELECT t.tenant, s.stream, a.seq, a.hash
                   FROM t CROSS JOIN (SELECT 0 AS stream UNION ALL SELECT 1) s
                   CROSS JOIN audit a ON a.tenant = t.tenant AND a.stream = s.stream AND a.seq =
                       (SELECT max(seq) FROM audit WHERE tenant = t.tenant AND stream = s.stream)
                   WHERE (t.tenant, s.stream) > (?1, ?2)
                   ORDER BY t.tenant, s.stream LIMIT ?3";
        let (past_tenant, past_stream) = place(after);
        let asked = sqlx::query(sql).bind(past_tenant).bind(past_stream).bind(limit);
        let head = |row| {
            let stream = stream(get(row, 1)?)?;
            Ok(NotedHead { tenant_id: tenant(row, 0)?, stream, seq: get(row, 2)?, hash: hash(row, 3)? })
        };
        asked.fetch_all(self.0.db.readers()).await.map_err(failure)?.iter().map(head).collect()
    }

    async fn last_checkpoint(&self) -> Result<Option<KeptCheckpoint>, StoreError> {
        let sql = "SELECT number, text, signature FROM audit_checkpoints ORDER BY number DESC LIMIT 1";
        let row = sqlx::query(sql).fetch_optional(self.0.db.readers()).await.map_err(failure)?;
        row.as_ref().map(kept).transpose()
    }

    async fn append_checkpoint(&self, checkpoint: &Checkpoint, signed: &Signed) -> Result<Appended, StoreError> {
        let mut tx = self.0.db.begin(Sync::Full).await?;
        let sql = "INSERT INTO audit_checkpoints (number, at, key_id, text, signature) SELECT ?1, ?2, ?3, ?4, ?5
                   WHERE ?1 = (SELECT coalesce(max(number), 0) + 1 FROM audit_checkpoints)";
        let done = sqlx::query(sql)
            .bind(checkpoint.number)
            .bind(millis(checkpoint.at))
            .bind(checkpoint.key_id.as_str())
            .bind(signed.text.as_str())
            .bind(signed.signature.as_slice())
            .execute(tx.conn()?)
            .await
            .map_err(failure)?;
        tx.commit().await?;
        Ok(if done.rows_affected() == 1 { Appended::Done } else { Appended::Behind })
    }

    async fn checkpoints_page(&self, after: i64, limit: u32) -> Result<Vec<KeptCheckpoint>, StoreError> {
        let sql = "SELECT number, text, signature FROM audit_checkpoints WHERE number > ? ORDER BY number LIMIT ?";
        let rows = sqlx::query(sql).bind(after).bind(limit).fetch_all(self.0.db.readers()).await;
        rows.map_err(failure)?.iter().map(kept).collect()
    }

    async fn records_page(&self, after: Option<&AuditCursor>, limit: u32) -> Result<Vec<AuditRecord>, StoreError> {
        let mut conn = self.0.db.readers().acquire().await.map_err(failure)?;
        records(&mut conn, after, limit).await
    }

    async fn anchors_page(&self, after: Option<&(TenantId, Stream)>, limit: u32) -> Result<Vec<Signed>, StoreError> {
        let sql = "SELECT a.text, a.signature FROM audit_anchors a
                   WHERE (a.tenant, a.stream) > (?, ?) AND a.seq =
                       (SELECT max(seq) FROM audit_anchors WHERE tenant = a.tenant AND stream = a.stream)
                   ORDER BY a.tenant, a.stream LIMIT ?";
        let (past_tenant, past_stream) = place(after);
        let asked = sqlx::query(sql).bind(past_tenant).bind(past_stream).bind(limit);
        let rows = asked.fetch_all(self.0.db.readers()).await.map_err(failure)?;
        rows.iter().map(|row| signed(row, 0)).collect()
    }

    async fn prune_chain(&self, anchor: &Anchor, signed: &Signed, audit: &AuditBody) -> Result<Pruned, StoreError> {
        let mut tx = self.0.db.begin(Sync::Full).await?;
        let conn = tx.conn()?;
        if let Some(refused) = refusal(conn, anchor).await? {
            tx.commit().await?;
            return Ok(refused);
        }
        let (whose, which) = (anchor.tenant_id.as_str(), stream_number(anchor.stream));
        let kept = "INSERT INTO audit_anchors (tenant, stream, seq, text, signature) VALUES (?, ?, ?, ?, ?)";
        let kept = sqlx::query(kept).bind(whose).bind(which).bind(anchor.seq).bind(signed.text.as_str());
        kept.bind(signed.signature.as_slice()).execute(&mut *conn).await.map_err(failure)?;
        let open = "INSERT INTO audit_pruning (tenant, stream, seq) VALUES (?, ?, ?)";
        let open = sqlx::query(open).bind(whose).bind(which).bind(anchor.seq);
        open.execute(&mut *conn).await.map_err(failure)?;
        let gone = "DELETE FROM audit WHERE tenant = ? AND stream = ? AND seq <= ?";
        let gone = sqlx::query(gone).bind(whose).bind(which).bind(anchor.seq);
        let gone = gone.execute(&mut *conn).await.map_err(failure)?.rows_affected();
        sqlx::query("DELETE FROM audit_pruning").execute(&mut *conn).await.map_err(failure)?;
        append_control(conn, &audit.tenant_id, audit).await?;
        tx.commit().await?;
        Ok(Pruned::Done(gone))
    }
}

/// Why the chain must not be shortened so.
async fn refusal(conn: &mut SqliteConnection, anchor: &Anchor) -> Result<Option<Pruned>, StoreError> {
    let sql = "SELECT (SELECT hash FROM audit WHERE tenant = ?1 AND stream = ?2 AND seq = ?3),
                      EXISTS (SELECT 1 FROM audit WHERE tenant = ?1 AND stream = ?2 AND seq > ?3),
                      (SELECT count(*) FROM (SELECT 1 FROM audit WHERE tenant = ?1 AND stream = ?2 AND seq <= ?3
                                             LIMIT ?4)),
                      EXISTS (SELECT 1 FROM tenants WHERE tenant = ?1 AND legal_hold)";
    let asked = sqlx::query(sql).bind(anchor.tenant_id.as_str()).bind(stream_number(anchor.stream));
    let row = asked.bind(anchor.seq).bind(PRUNE_MAX + 1).fetch_one(conn).await.map_err(failure)?;
    if get::<Option<&[u8]>>(&row, 0)? != Some(&anchor.hash[..]) {
        return Ok(Some(Pruned::NoSuchRecord));
    }
    if !get::<bool>(&row, 1)? {
        return Ok(Some(Pruned::Head));
    }
    if get::<bool>(&row, 3)? {
        return Ok(Some(Pruned::Held));
    }
    Ok((get::<i64>(&row, 2)? > PRUNE_MAX).then_some(Pruned::TooMany))
}
