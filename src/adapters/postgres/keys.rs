//! Owns API keys in their table, and records of refusals, which nothing else is written with.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection, PgConnection, QueryBuilder, Row};
use uuid::Uuid;

use super::connect::{control_lock, corrupt, failed};
use super::control::append_control;
use super::read::tenant;
use super::store::PostgresStore;
use crate::domain::audit::Hash;
use crate::domain::keys::{Revocation, roles_from, roles_text};
use crate::domain::{ApiKey, AuditBody, KeyId, TenantId, time};
use crate::ports::keys::{KeyAct, KeyFilter, Keys, chain_of};
use crate::ports::store::StoreError;

/// The columns that [`read`] reads.
const COLUMNS: &str = "key_id, hash, tenant_id, roles, name, created_at, created_by, expires_at, revoked_at,
    revoked_by, revoked_reason, last_used_at";

#[async_trait]
impl Keys for PostgresStore {
    async fn create_key(&self, key: &ApiKey, audit: &AuditBody) -> Result<(), StoreError> {
        let mut connection = self.reading.acquire().await.map_err(failed)?;
        let mut tx = connection.begin().await.map_err(failed)?;
        insert(&mut tx, key).await?;
        append_control(&mut tx, self.locks, &chain_of(key.tenant.as_ref()), audit).await?;
        tx.commit().await.map_err(failed)
    }

    async fn create_first_key(&self, key: &ApiKey, audit: &AuditBody) -> Result<bool, StoreError> {
        let mut connection = self.reading.acquire().await.map_err(failed)?;
        let mut tx = connection.begin().await.map_err(failed)?;
        // The lock first: whoever else makes a first key has committed when the next statement looks.
        sqlx::query("SELECT pg_advisory_xact_lock($1, $2)")
            .bind(self.locks)
            .bind(control_lock(&TenantId::platform()))
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
        let there: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM api_keys WHERE tenant_id IS NULL AND revoked_at IS NULL
                            AND (expires_at IS NULL OR expires_at > $1))",
        )
        .bind(key.created_at)
        .fetch_one(&mut *tx)
        .await
        .map_err(failed)?;
        if there {
            tx.rollback().await.map_err(failed)?;
            return Ok(false);
        }
        insert(&mut tx, key).await?;
        append_control(&mut tx, self.locks, &chain_of(key.tenant.as_ref()), audit).await?;
        tx.commit().await.map_err(failed)?;
        Ok(true)
    }

    async fn revoke_key(&self, id: KeyId, audit: &AuditBody) -> Result<KeyAct, StoreError> {
        let mut connection = self.reading.acquire().await.map_err(failed)?;
        let mut tx = connection.begin().await.map_err(failed)?;
        let row = sqlx::query("SELECT tenant_id, revoked_at IS NOT NULL FROM api_keys WHERE key_id = $1 FOR UPDATE")
            .bind(id.0)
            .fetch_optional(&mut *tx)
            .await
            .map_err(failed)?;
        let refused = match &row {
            None => Err(KeyAct::Unknown),
            Some(row) if row.try_get(1).map_err(failed)? => Err(KeyAct::Revoked),
            Some(row) => Ok(owner(row, 0)?),
        };
        let owner = match refused {
            Ok(owner) => owner,
            Err(act) => {
                tx.rollback().await.map_err(failed)?;
                return Ok(act);
            }
        };
        let revoked = sqlx::query(
            "UPDATE api_keys SET revoked_at = $2, revoked_by = $3, revoked_reason = $4
             WHERE key_id = $1 AND revoked_at IS NULL",
        )
        .bind(id.0)
        .bind(time::whole_millis(audit.at))
        .bind(&audit.actor)
        .bind(&audit.reason)
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
        if revoked.rows_affected() != 1 {
            return Err(StoreError::Fault(format!("revoke key {id}: its row went away meanwhile")));
        }
        append_control(&mut tx, self.locks, &chain_of(owner.as_ref()), audit).await?;
        tx.commit().await.map_err(failed)?;
        Ok(KeyAct::Done)
    }

    async fn key(&self, id: KeyId) -> Result<Option<ApiKey>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM api_keys WHERE key_id = $1");
        let row = sqlx::query(AssertSqlSafe(sql)).bind(id.0).fetch_optional(&self.reading).await.map_err(failed)?;
        row.as_ref().map(read).transpose()
    }

    async fn key_by_hash(&self, hash: &Hash) -> Result<Option<ApiKey>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM api_keys WHERE hash = $1");
        let row = sqlx::query(AssertSqlSafe(sql)).bind(&hash[..]).fetch_optional(&self.reading).await;
        row.map_err(failed)?.as_ref().map(read).transpose()
    }

    async fn list_keys(&self, filter: &KeyFilter) -> Result<Vec<ApiKey>, StoreError> {
        let mut query = QueryBuilder::new(format!("SELECT {COLUMNS} FROM api_keys WHERE true"));
        if let Some(tenant) = &filter.tenant {
            query.push(" AND tenant_id = ").push_bind(tenant.as_str().to_owned());
        }
        if let Some(before) = filter.before {
            query.push(" AND key_id < ").push_bind(before.0);
        }
        query.push(" ORDER BY key_id DESC LIMIT ").push_bind(i64::from(filter.limit));
        let rows = query.build().fetch_all(&self.reading).await.map_err(failed)?;
        rows.iter().map(read).collect()
    }

    /// A row that somebody else holds is passed over: it is being touched or revoked, and two batches
    /// in different orders would deadlock.
    async fn touch_keys(&self, used: &[(KeyId, DateTime<Utc>)]) -> Result<(), StoreError> {
        let ids: Vec<Uuid> = used.iter().map(|(id, _)| id.0).collect();
        let moments: Vec<DateTime<Utc>> = used.iter().map(|(_, at)| time::whole_millis(*at)).collect();
        sqlx::query(
            "WITH free AS (SELECT key_id FROM api_keys WHERE key_id = ANY ($1) FOR NO KEY UPDATE SKIP LOCKED)
             UPDATE api_keys k SET last_used_at = u.at
             FROM unnest($1::uuid[], $2::timestamptz[]) AS u (key_id, at) JOIN free USING (key_id)
             WHERE k.key_id = u.key_id AND (k.last_used_at IS NULL OR k.last_used_at <= u.at - interval '1 minute')",
        )
        .bind(ids)
        .bind(moments)
        .execute(&self.reading)
        .await
        .map_err(failed)?;
        Ok(())
    }

    async fn append_control(&self, audit: &AuditBody) -> Result<(), StoreError> {
        let mut connection = self.reading.acquire().await.map_err(failed)?;
        let mut tx = connection.begin().await.map_err(failed)?;
        append_control(&mut tx, self.locks, &audit.tenant_id, audit).await?;
        tx.commit().await.map_err(failed)
    }
}

async fn insert(tx: &mut PgConnection, key: &ApiKey) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO api_keys (key_id, hash, tenant_id, roles, name, created_at, created_by, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(key.id.0)
    .bind(&key.hash[..])
    .bind(key.tenant.as_ref().map(TenantId::as_str))
    .bind(roles_text(&key.roles))
    .bind(&key.name)
    .bind(time::whole_millis(key.created_at))
    .bind(&key.created_by)
    .bind(key.expires_at.map(time::whole_millis))
    .execute(tx)
    .await
    .map_err(failed)?;
    Ok(())
}

fn owner(row: &PgRow, column: usize) -> Result<Option<TenantId>, StoreError> {
    row.try_get::<Option<&str>, _>(column).map_err(failed)?.map(tenant).transpose()
}

fn read(row: &PgRow) -> Result<ApiKey, StoreError> {
    let hash: Vec<u8> = row.try_get(1).map_err(failed)?;
    let roles: &str = row.try_get(3).map_err(failed)?;
    let revoked_at: Option<DateTime<Utc>> = row.try_get(8).map_err(failed)?;
    let revoked_by: Option<String> = row.try_get(9).map_err(failed)?;
    let reason = row.try_get(10).map_err(failed)?;
    Ok(ApiKey {
        id: KeyId(row.try_get(0).map_err(failed)?),
        hash: hash.try_into().map_err(|_| corrupt("key", "its hash has not 32 bytes"))?,
        tenant: owner(row, 2)?,
        roles: roles_from(roles).ok_or_else(|| corrupt("key", format!("roles {roles}")))?,
        name: row.try_get(4).map_err(failed)?,
        created_at: row.try_get(5).map_err(failed)?,
        created_by: row.try_get(6).map_err(failed)?,
        expires_at: row.try_get(7).map_err(failed)?,
        revoked: revoked_at.zip(revoked_by).map(|(at, by)| Revocation { at, by, reason }),
        last_used_at: row.try_get(11).map_err(failed)?,
    })
}
