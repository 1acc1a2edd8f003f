//! Owns API keys in their table, and records of refusals, which nothing else is written with.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, SqliteConnection};

use super::SqliteStore;
use super::audit::append_control;
use super::db::{Sync, failure};
use super::rows::{from_millis, get, hash, millis, moment, unreadable};
use crate::domain::audit::Hash;
use crate::domain::keys::{Revocation, roles_from, roles_text};
use crate::domain::{ApiKey, AuditBody, KeyId, TenantId};
use crate::ports::StoreError;
use crate::ports::keys::{KeyAct, KeyFilter, Keys, chain_of};

/// The columns that [`read`] reads.
const COLUMNS: &str = "id, hash, tenant, roles, name, created_at, created_by, expires_at, revoked_at, revoked_by,
    revoked_reason, last_used_at";

/// A use so soon after the noted one is passed over, in milliseconds.
const TOUCHED_AGAIN_MS: i64 = 60_000;

#[async_trait]
impl Keys for SqliteStore {
    async fn create_key(&self, key: &ApiKey, audit: &AuditBody) -> Result<(), StoreError> {
        let mut tx = self.0.db.begin(Sync::Full).await?;
        insert(tx.conn()?, key).await?;
        append_control(tx.conn()?, &chain_of(key.tenant.as_ref()), audit).await?;
        tx.commit().await
    }

    async fn create_first_key(&self, key: &ApiKey, audit: &AuditBody) -> Result<bool, StoreError> {
        let mut tx = self.0.db.begin(Sync::Full).await?;
        let there = "SELECT EXISTS (SELECT 1 FROM api_keys WHERE tenant IS NULL AND revoked_at IS NULL
                                    AND (expires_at IS NULL OR expires_at > ?))";
        let there = sqlx::query(there).bind(millis(key.created_at)).fetch_one(tx.conn()?).await.map_err(failure)?;
        let first = !get::<bool>(&there, 0)?;
        if first {
            insert(tx.conn()?, key).await?;
            append_control(tx.conn()?, &chain_of(key.tenant.as_ref()), audit).await?;
        }
        tx.commit().await?;
        Ok(first)
    }

    async fn revoke_key(&self, id: KeyId, audit: &AuditBody) -> Result<KeyAct, StoreError> {
        let mut tx = self.0.db.begin(Sync::Full).await?;
        let act = revoke(tx.conn()?, id, audit).await?;
        tx.commit().await?;
        Ok(act)
    }

    async fn key(&self, id: KeyId) -> Result<Option<ApiKey>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM api_keys WHERE id = ?");
        let row = sqlx::query(AssertSqlSafe(sql)).bind(id.0).fetch_optional(self.0.db.readers()).await;
        row.map_err(failure)?.as_ref().map(read).transpose()
    }

    async fn key_by_hash(&self, hash: &Hash) -> Result<Option<ApiKey>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM api_keys WHERE hash = ?");
        let row = sqlx::query(AssertSqlSafe(sql)).bind(&hash[..]).fetch_optional(self.0.db.readers()).await;
        row.map_err(failure)?.as_ref().map(read).transpose()
    }

    async fn list_keys(&self, filter: &KeyFilter) -> Result<Vec<ApiKey>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM api_keys WHERE (?1 IS NULL OR tenant = ?1) AND (?2 IS NULL OR id < ?2)
             ORDER BY id DESC LIMIT ?3"
        );
        let asked = sqlx::query(AssertSqlSafe(sql))
            .bind(filter.tenant.as_ref().map(TenantId::as_str))
            .bind(filter.before.map(|id| id.0))
            .bind(filter.limit);
        asked.fetch_all(self.0.db.readers()).await.map_err(failure)?.iter().map(read).collect()
    }

    async fn touch_keys(&self, used: &[(KeyId, DateTime<Utc>)]) -> Result<(), StoreError> {
        let mut tx = self.0.db.begin(Sync::Normal).await?;
        for (id, at) in used {
            let sql = "UPDATE api_keys SET last_used_at = ?2
                       WHERE id = ?1 AND (last_used_at IS NULL OR last_used_at <= ?2 - ?3)";
            let touch = sqlx::query(sql).bind(id.0).bind(millis(*at)).bind(TOUCHED_AGAIN_MS);
            touch.execute(tx.conn()?).await.map_err(failure)?;
        }
        tx.commit().await
    }

    async fn append_control(&self, audit: &AuditBody) -> Result<(), StoreError> {
        let mut tx = self.0.db.begin(Sync::Full).await?;
        append_control(tx.conn()?, &audit.tenant_id, audit).await?;
        tx.commit().await
    }
}

async fn insert(conn: &mut SqliteConnection, key: &ApiKey) -> Result<(), StoreError> {
    let sql = "INSERT INTO api_keys (id, hash, tenant, roles, name, created_at, created_by, expires_at)
               VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
    sqlx::query(sql)
        .bind(key.id.0)
        .bind(&key.hash[..])
        .bind(key.tenant.as_ref().map(TenantId::as_str))
        .bind(roles_text(&key.roles))
        .bind(key.name.as_str())
        .bind(millis(key.created_at))
        .bind(key.created_by.as_str())
        .bind(key.expires_at.map(millis))
        .execute(conn)
        .await
        .map_err(failure)?;
    Ok(())
}

async fn revoke(conn: &mut SqliteConnection, id: KeyId, audit: &AuditBody) -> Result<KeyAct, StoreError> {
    let found = sqlx::query("SELECT tenant, revoked_at IS NOT NULL FROM api_keys WHERE id = ?").bind(id.0);
    let Some(row) = found.fetch_optional(&mut *conn).await.map_err(failure)? else { return Ok(KeyAct::Unknown) };
    if get(&row, 1)? {
        return Ok(KeyAct::Revoked);
    }
    let sql = "UPDATE api_keys SET revoked_at = ?2, revoked_by = ?3, revoked_reason = ?4
               WHERE id = ?1 AND revoked_at IS NULL";
    let revoked = sqlx::query(sql)
        .bind(id.0)
        .bind(millis(audit.at))
        .bind(audit.actor.as_str())
        .bind(audit.reason.as_deref())
        .execute(&mut *conn)
        .await
        .map_err(failure)?;
    if revoked.rows_affected() != 1 {
        return Err(StoreError::Fault(format!("revoke key {id}: its row went away meanwhile")));
    }
    append_control(conn, &chain_of(owner(&row, 0)?.as_ref()), audit).await?;
    Ok(KeyAct::Done)
}

fn owner(row: &SqliteRow, column: usize) -> Result<Option<TenantId>, StoreError> {
    get::<Option<&str>>(row, column)?.map(|raw| TenantId::parse(raw).map_err(unreadable)).transpose()
}

fn read(row: &SqliteRow) -> Result<ApiKey, StoreError> {
    let roles: &str = get(row, 3)?;
    let revoked_at = get::<Option<i64>>(row, 8)?.map(from_millis);
    let (revoked_by, reason) = (get::<Option<String>>(row, 9)?, get(row, 10)?);
    Ok(ApiKey {
        id: KeyId(get(row, 0)?),
        hash: hash(row, 1)?,
        tenant: owner(row, 2)?,
        roles: roles_from(roles).ok_or_else(|| unreadable(format!("a key with the roles {roles}")))?,
        name: get(row, 4)?,
        created_at: moment(row, 5)?,
        created_by: get(row, 6)?,
        expires_at: get::<Option<i64>>(row, 7)?.map(from_millis),
        revoked: revoked_at.zip(revoked_by).map(|(at, by)| Revocation { at, by, reason }),
        last_used_at: get::<Option<i64>>(row, 11)?.map(from_millis),
    })
}
