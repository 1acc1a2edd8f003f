//! Owns the wrapped data keys, and the erasures that destroy them.
//!
//! # Decisions
//! The one row of `vault` is shared by whoever makes keys and locked by whoever erases, first of all
//! and to the end: an erasure waits for the keys that are being made and then sees them, and keys that
//! are made after it see what it has destroyed. Generations become visible in their order.
//!
//! Destroyed, a wrapped key is overwritten by a new version of its row; the old version goes with the
//! next vacuum, and from backups when they go.

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::postgres::PgRow;
use sqlx::{Connection, PgConnection, Row};
use uuid::Uuid;

use super::connect::{control_lock, corrupt, failed};
use super::control::append_control;
use super::read;
use super::store::PostgresStore;
use crate::domain::{AuditBody, TenantId};
use crate::ports::StoreError;
use crate::ports::vault::{EraseAct, Erased, KeyRow, Made, MasterId, Survey, Tag, Vault, VaultState};

fn sixteen(bytes: &[u8]) -> Result<[u8; 16], StoreError> {
    bytes.try_into().map_err(|_| corrupt("data key", "a tag or fingerprint has not 16 bytes"))
}

fn master(row: &PgRow, column: usize) -> Result<Option<MasterId>, StoreError> {
    let bytes: Option<Vec<u8>> = row.try_get(column).map_err(failed)?;
    Ok(bytes.map(|bytes| sixteen(&bytes)).transpose()?.map(MasterId))
}

/// Columns tenant_id, tag, key_id, wrapped, master.
fn key(row: &PgRow) -> Result<KeyRow, StoreError> {
    Ok(KeyRow {
        tenant: read::tenant(row.try_get(0).map_err(failed)?)?,
        tag: Tag(sixteen(row.try_get(1).map_err(failed)?)?),
        id: row.try_get(2).map_err(failed)?,
        wrapped: row.try_get::<Option<Vec<u8>>, _>(3).map_err(failed)?.map(Bytes::from),
        master: master(row, 4)?,
    })
}

const SHARE: &str = "SELECT master FROM vault FOR SHARE";

/// Sorted by their owners, so that two makers never wait for each other.
const MAKE: &str = "
INSERT INTO data_keys (tenant_id, tag, key_id, wrapped, master)
SELECT u.* FROM unnest($1::text[], $2::bytea[], $3::uuid[], $4::bytea[], $5::bytea[])
    AS u (tenant_id, tag, key_id, wrapped, master)
WHERE NOT EXISTS (SELECT FROM data_keys o
                  WHERE o.tenant_id = u.tenant_id AND o.tag = $6 AND o.wrapped IS NULL)
ORDER BY u.tenant_id, u.tag
ON CONFLICT DO NOTHING";

/// The keys of these owners, and the own keys of their tenants where those are destroyed.
const STANDING: &str = "
SELECT k.tenant_id, k.tag, k.key_id, k.wrapped, k.master
FROM unnest($1::text[], $2::bytea[]) AS u (tenant_id, tag)
CROSS JOIN LATERAL (SELECT * FROM data_keys d WHERE d.tenant_id = u.tenant_id AND d.tag = u.tag OFFSET 0) k
UNION
SELECT o.tenant_id, o.tag, o.key_id, o.wrapped, o.master FROM data_keys o
WHERE o.tenant_id = ANY ($1) AND o.tag = $3 AND o.wrapped IS NULL";

async fn make(tx: &mut PgConnection, new: &[KeyRow]) -> Result<Vec<KeyRow>, StoreError> {
    let tenants: Vec<&str> = new.iter().map(|row| row.tenant.as_str()).collect();
    let tags: Vec<&[u8]> = new.iter().map(|row| &row.tag.0[..]).collect();
    sqlx::query(MAKE)
        .bind(&tenants)
        .bind(&tags)
        .bind(new.iter().map(|row| row.id).collect::<Vec<Uuid>>())
        .bind(new.iter().map(|row| row.wrapped.as_deref()).collect::<Vec<Option<&[u8]>>>())
        .bind(new.iter().map(|row| row.master.as_ref().map(|m| &m.0[..])).collect::<Vec<Option<&[u8]>>>())
        .bind(&Tag::OWN.0[..])
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
    let rows =
        sqlx::query(STANDING).bind(&tenants).bind(&tags).bind(&Tag::OWN.0[..]).fetch_all(tx).await.map_err(failed)?;
    rows.iter().map(key).collect()
}

async fn is_held(tx: &mut PgConnection, tenant: &TenantId) -> Result<bool, StoreError> {
    let held = sqlx::query_scalar("SELECT EXISTS (SELECT FROM tenants WHERE tenant_id = $1 AND legal_hold)");
    held.bind(tenant.as_str()).fetch_one(tx).await.map_err(failed)
}

/// Whether a key, or its whole tenant's, is destroyed.
async fn is_gone(tx: &mut PgConnection, tenant: &TenantId, tag: Tag) -> Result<bool, StoreError> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM data_keys WHERE tenant_id = $1 AND tag IN ($2, $3) AND wrapped IS NULL)",
    )
    .bind(tenant.as_str())
    .bind(&tag.0[..])
    .bind(&Tag::OWN.0[..])
    .fetch_one(tx)
    .await
    .map_err(failed)
}

async fn live(tx: &mut PgConnection, tenant: &TenantId, tag: Tag) -> Result<u64, StoreError> {
    let count: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM data_keys WHERE tenant_id = $1 AND (tag = $2 OR $2 = $3) AND wrapped IS NOT NULL",
    )
    .bind(tenant.as_str())
    .bind(&tag.0[..])
    .bind(&Tag::OWN.0[..])
    .fetch_one(tx)
    .await
    .map_err(failed)?;
    Ok(count.unsigned_abs())
}

/// Destroys one key, or puts a destroyed one where there is none. Those of a tenant's subjects are
/// wrapped by the tenant's own, and gone with it.
async fn destroy(tx: &mut PgConnection, tenant: &TenantId, tag: Tag) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO data_keys (tenant_id, tag, key_id, generation)
         SELECT $1, $2, gen_random_uuid(), generation FROM vault
         ON CONFLICT (tenant_id, tag) DO UPDATE SET wrapped = NULL, generation = excluded.generation",
    )
    .bind(tenant.as_str())
    .bind(&tag.0[..])
    .execute(tx)
    .await
    .map_err(failed)?;
    Ok(())
}

/// Reads every event of the tenant; none when that takes too long.
async fn count_events(store: &PostgresStore, tenant: &TenantId, tag: Tag) -> Option<u64> {
    let counted: Result<i64, sqlx::Error> = sqlx::query_scalar(
        "SELECT count(*) FROM events e
         WHERE e.tenant_id = $1 AND ($2 = $3 OR substring(e.body FROM 2 FOR 16) =
             (SELECT decode(replace(k.key_id::text, '-', ''), 'hex') FROM data_keys k
              WHERE k.tenant_id = $1 AND k.tag = $2))",
    )
    .bind(tenant.as_str())
    .bind(&tag.0[..])
    .bind(&Tag::OWN.0[..])
    .fetch_one(&store.reading)
    .await;
    counted.ok().map(i64::unsigned_abs)
}

#[async_trait]
impl Vault for PostgresStore {
    async fn state(&self) -> Result<VaultState, StoreError> {
        let row = sqlx::query("SELECT generation, master FROM vault").fetch_one(&self.reading).await.map_err(failed)?;
        Ok(VaultState { generation: row.try_get(0).map_err(failed)?, master: master(&row, 1)? })
    }

    async fn adopt(&self, wanted: MasterId) -> Result<MasterId, StoreError> {
        let row = sqlx::query("UPDATE vault SET master = coalesce(master, $1) RETURNING master")
            .bind(&wanted.0[..])
            .fetch_one(&self.reading)
            .await
            .map_err(failed)?;
        Ok(master(&row, 0)?.unwrap_or(wanted))
    }

    async fn make_keys(&self, wanted: MasterId, new: &[KeyRow]) -> Result<Made, StoreError> {
        let mut connection = self.reading.acquire().await.map_err(failed)?;
        let mut tx = connection.begin().await.map_err(failed)?;
        let holds = master(&sqlx::query(SHARE).fetch_one(&mut *tx).await.map_err(failed)?, 0)?;
        if let Some(other) = holds.filter(|holds| *holds != wanted) {
            tx.rollback().await.map_err(failed)?;
            return Ok(Made::OtherMaster(other));
        }
        // The next statement sees what was erased while the row was waited for.
        let rows = make(&mut tx, new).await?;
        tx.commit().await.map_err(failed)?;
        Ok(Made::Keys(rows))
    }

    async fn keys_of(&self, owners: &[(TenantId, Tag)]) -> Result<Vec<KeyRow>, StoreError> {
        let rows = sqlx::query(STANDING)
            .bind(owners.iter().map(|(tenant, _)| tenant.as_str()).collect::<Vec<&str>>())
            .bind(owners.iter().map(|(_, tag)| &tag.0[..]).collect::<Vec<&[u8]>>())
            .bind(&Tag::OWN.0[..])
            .fetch_all(&self.reading)
            .await
            .map_err(failed)?;
        rows.iter().map(key).collect()
    }

    async fn keys_named(&self, ids: &[Uuid]) -> Result<Vec<KeyRow>, StoreError> {
        let rows = sqlx::query(
            "WITH named AS (
                 SELECT k.tenant_id, k.tag, k.key_id, k.wrapped, k.master FROM data_keys k WHERE k.key_id = ANY ($1)
             )
             SELECT * FROM named
             UNION
             SELECT o.tenant_id, o.tag, o.key_id, o.wrapped, o.master FROM data_keys o
             WHERE o.tenant_id IN (SELECT n.tenant_id FROM named n) AND o.tag = $2",
        )
        .bind(ids)
        .bind(&Tag::OWN.0[..])
        .fetch_all(&self.reading)
        .await
        .map_err(failed)?;
        rows.iter().map(key).collect()
    }

    async fn erased_since(&self, generation: i64, limit: u32) -> Result<Vec<Erased>, StoreError> {
        let rows = sqlx::query("SELECT tenant_id, tag FROM data_keys WHERE generation > $1 LIMIT $2")
            .bind(generation)
            .bind(i64::from(limit))
            .fetch_all(&self.reading)
            .await
            .map_err(failed)?;
        let erased = |row: &PgRow| {
            Ok(Erased {
                tenant: read::tenant(row.try_get(0).map_err(failed)?)?,
                tag: Tag(sixteen(row.try_get(1).map_err(failed)?)?),
            })
        };
        rows.iter().map(erased).collect()
    }

    async fn survey(&self, tenant: &TenantId, tag: Tag) -> Result<Survey, StoreError> {
        let mut connection = self.reading.acquire().await.map_err(failed)?;
        let erased = is_gone(&mut connection, tenant, tag).await?;
        let keys = if erased { 0 } else { live(&mut connection, tenant, tag).await? };
        drop(connection);
        Ok(Survey { keys, events: count_events(self, tenant, tag).await, erased })
    }

    async fn erase(&self, tenant: &TenantId, tag: Tag, audit: &AuditBody) -> Result<EraseAct, StoreError> {
        let mut connection = self.reading.acquire().await.map_err(failed)?;
        let mut tx = connection.begin().await.map_err(failed)?;
        // A hold takes this lock before it commits: it was before, and is seen by the next statement,
        // or comes after.
        sqlx::query("SELECT pg_advisory_xact_lock($1, $2)")
            .bind(self.locks)
            .bind(control_lock(tenant))
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
        if is_held(&mut tx, tenant).await? {
            tx.rollback().await.map_err(failed)?;
            return Ok(EraseAct::Held);
        }
        sqlx::query("UPDATE vault SET generation = generation + 1").execute(&mut *tx).await.map_err(failed)?;
        if is_gone(&mut tx, tenant, tag).await? {
            tx.rollback().await.map_err(failed)?;
            return Ok(EraseAct::Already);
        }
        let keys = live(&mut tx, tenant, tag).await?;
        destroy(&mut tx, tenant, tag).await?;
        append_control(&mut tx, self.locks, tenant, audit).await?;
        tx.commit().await.map_err(failed)?;
        Ok(EraseAct::Done(keys))
    }

    async fn change_master(&self, wanted: MasterId, audit: &AuditBody) -> Result<bool, StoreError> {
        let mut connection = self.reading.acquire().await.map_err(failed)?;
        let mut tx = connection.begin().await.map_err(failed)?;
        let changed = sqlx::query("UPDATE vault SET master = $1 WHERE master IS DISTINCT FROM $1")
            .bind(&wanted.0[..])
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
        if changed.rows_affected() == 0 {
            tx.rollback().await.map_err(failed)?;
            return Ok(false);
        }
        append_control(&mut tx, self.locks, &TenantId::platform(), audit).await?;
        tx.commit().await.map_err(failed)?;
        Ok(true)
    }

    async fn under_others(&self, master: MasterId, limit: u32) -> Result<Vec<KeyRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT tenant_id, tag, key_id, wrapped, master FROM data_keys
             WHERE master IS NOT NULL AND wrapped IS NOT NULL AND (master < $1 OR master > $1) LIMIT $2",
        )
        .bind(&master.0[..])
        .bind(i64::from(limit))
        .fetch_all(&self.reading)
        .await
        .map_err(failed)?;
        rows.iter().map(key).collect()
    }

    async fn rewrap(&self, rows: &[(KeyRow, KeyRow)]) -> Result<u64, StoreError> {
        let bytes = |f: fn(&(KeyRow, KeyRow)) -> Option<&[u8]>| rows.iter().map(f).collect::<Vec<Option<&[u8]>>>();
        let done = sqlx::query(
            "UPDATE data_keys k SET wrapped = u.after, master = u.master
             FROM unnest($1::uuid[], $2::bytea[], $3::bytea[], $4::bytea[]) AS u (key_id, before, after, master)
             WHERE k.key_id = u.key_id AND k.wrapped = u.before",
        )
        .bind(rows.iter().map(|(before, _)| before.id).collect::<Vec<Uuid>>())
        .bind(bytes(|(before, _)| before.wrapped.as_deref()))
        .bind(bytes(|(_, after)| after.wrapped.as_deref()))
        .bind(bytes(|(_, after)| after.master.as_ref().map(|master| &master.0[..])))
        .execute(&self.reading)
        .await
        .map_err(failed)?;
        Ok(done.rows_affected())
    }
}
