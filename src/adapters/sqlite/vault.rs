//! Owns the wrapped data keys in the file, and the erasures that destroy them. The one writer keeps
//! erasures and new keys apart.

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, SqliteConnection};
use uuid::Uuid;

use super::SqliteStore;
use super::audit::append_control;
use super::db::{Sync, failure};
use super::rows::{self, get, id_list, unreadable};
use crate::domain::{AuditBody, TenantId};
use crate::ports::StoreError;
use crate::ports::vault::{EraseAct, Erased, KeyRow, Made, MasterId, Survey, Tag, Vault, VaultState};

const COLUMNS: &str = "k.tenant, k.tag, k.id, k.wrapped, k.master";

fn sixteen(bytes: &[u8]) -> Result<[u8; 16], StoreError> {
    bytes.try_into().map_err(unreadable)
}

fn master(row: &SqliteRow, column: usize) -> Result<Option<MasterId>, StoreError> {
    Ok(get::<Option<&[u8]>>(row, column)?.map(sixteen).transpose()?.map(MasterId))
}

/// Reads [`COLUMNS`].
fn key(row: &SqliteRow) -> Result<KeyRow, StoreError> {
    Ok(KeyRow {
        tenant: rows::tenant(row, 0)?,
        tag: Tag(sixteen(get(row, 1)?)?),
        id: get(row, 2)?,
        wrapped: get::<Option<Vec<u8>>>(row, 3)?.map(Bytes::from),
        master: master(row, 4)?,
    })
}

async fn one(conn: &mut SqliteConnection, tenant: &TenantId, tag: Tag) -> Result<Option<KeyRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM data_keys k WHERE k.tenant = ? AND k.tag = ?");
    let asked = sqlx::query(AssertSqlSafe(sql)).bind(tenant.as_str()).bind(tag.0.to_vec());
    asked.fetch_optional(conn).await.map_err(failure)?.as_ref().map(key).transpose()
}

async fn is_gone(conn: &mut SqliteConnection, tenant: &TenantId, tag: Tag) -> Result<bool, StoreError> {
    let gone = |row: Option<KeyRow>| row.is_some_and(|row| row.wrapped.is_none());
    Ok(gone(one(conn, tenant, Tag::OWN).await?) || gone(one(conn, tenant, tag).await?))
}

async fn insert(conn: &mut SqliteConnection, row: &KeyRow) -> Result<(), StoreError> {
    let sql = "INSERT INTO data_keys (tenant, tag, id, wrapped, master) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING";
    sqlx::query(sql)
        .bind(row.tenant.as_str())
        .bind(row.tag.0.to_vec())
        .bind(row.id)
        .bind(row.wrapped.as_deref())
        .bind(row.master.map(|master| master.0.to_vec()))
        .execute(conn)
        .await
        .map_err(failure)?;
    Ok(())
}

async fn live(conn: &mut SqliteConnection, tenant: &TenantId, tag: Tag) -> Result<u64, StoreError> {
    let sql = "SELECT count(*) FROM data_keys WHERE tenant = ?1 AND (tag = ?2 OR ?2 = ?3) AND wrapped IS NOT NULL";
    let asked = sqlx::query(sql).bind(tenant.as_str()).bind(tag.0.to_vec()).bind(Tag::OWN.0.to_vec());
    get::<i64>(&asked.fetch_one(conn).await.map_err(failure)?, 0).map(i64::unsigned_abs)
}

/// Destroys one key, or puts a destroyed one where there is none. Those of a tenant's subjects are
/// wrapped by the tenant's own, and gone with it.
async fn destroy(conn: &mut SqliteConnection, tenant: &TenantId, tag: Tag) -> Result<(), StoreError> {
    let sql = "INSERT INTO data_keys (tenant, tag, id, generation)
               SELECT ?, ?, randomblob(16), generation FROM vault WHERE true
               ON CONFLICT (tenant, tag) DO UPDATE SET wrapped = NULL, generation = excluded.generation";
    sqlx::query(sql).bind(tenant.as_str()).bind(tag.0.to_vec()).execute(conn).await.map_err(failure)?;
    Ok(())
}

/// Writes every row anew: a key's row may have moved when others came, and what it left in a page is
/// overwritten only when the whole page goes (SQLite manual, "PRAGMA secure_delete").
async fn scrub(conn: &mut SqliteConnection) -> Result<(), StoreError> {
    for sql in [
        "CREATE TEMP TABLE kept_keys AS SELECT tenant, tag, id, wrapped, master, generation FROM data_keys",
        "DELETE FROM data_keys",
        "INSERT INTO data_keys (tenant, tag, id, wrapped, master, generation)
         SELECT tenant, tag, id, wrapped, master, generation FROM temp.kept_keys ORDER BY tenant, tag",
        "DROP TABLE temp.kept_keys",
    ] {
        sqlx::query(sql).execute(&mut *conn).await.map_err(failure)?;
    }
    Ok(())
}

#[async_trait]
impl Vault for SqliteStore {
    async fn state(&self) -> Result<VaultState, StoreError> {
        let asked = sqlx::query("SELECT generation, master FROM vault").fetch_one(self.0.db.readers()).await;
        let row = asked.map_err(failure)?;
        Ok(VaultState { generation: get(&row, 0)?, master: master(&row, 1)? })
    }

    async fn adopt(&self, wanted: MasterId) -> Result<MasterId, StoreError> {
        let mut tx = self.0.db.begin(Sync::Full).await?;
        let adopt = "UPDATE vault SET master = coalesce(master, ?) RETURNING master";
        let row = sqlx::query(adopt).bind(wanted.0.to_vec()).fetch_one(tx.conn()?).await.map_err(failure)?;
        let holds = master(&row, 0)?.unwrap_or(wanted);
        tx.commit().await?;
        Ok(holds)
    }

    async fn make_keys(&self, wanted: MasterId, new: &[KeyRow]) -> Result<Made, StoreError> {
        let mut tx = self.0.db.begin(Sync::Full).await?;
        let conn = tx.conn()?;
        let row = sqlx::query("SELECT master FROM vault").fetch_one(&mut *conn).await.map_err(failure)?;
        if let Some(other) = master(&row, 0)?.filter(|holds| *holds != wanted) {
            return Ok(Made::OtherMaster(other));
        }
        let mut made = Vec::with_capacity(new.len());
        for row in new {
            let own = if row.tag == Tag::OWN { None } else { one(conn, &row.tenant, Tag::OWN).await? };
            if let Some(gone) = own.filter(|own| own.wrapped.is_none()) {
                made.push(gone);
                continue;
            }
            insert(conn, row).await?;
            made.extend(one(conn, &row.tenant, row.tag).await?);
        }
        tx.commit().await?;
        Ok(Made::Keys(made))
    }

    async fn keys_of(&self, owners: &[(TenantId, Tag)]) -> Result<Vec<KeyRow>, StoreError> {
        let list: Vec<(&str, String)> = owners.iter().map(|(t, tag)| (t.as_str(), tag.to_string())).collect();
        let list = serde_json::to_string(&list).map_err(|e| StoreError::Fault(e.to_string()))?;
        let sql = format!(
            "SELECT {COLUMNS} FROM json_each(?) j
             CROSS JOIN data_keys k ON k.tenant = j.value ->> 0 AND k.tag = unhex(j.value ->> 1)"
        );
        let asked = sqlx::query(AssertSqlSafe(sql)).bind(list).fetch_all(self.0.db.readers()).await;
        asked.map_err(failure)?.iter().map(key).collect()
    }

    async fn keys_named(&self, ids: &[Uuid]) -> Result<Vec<KeyRow>, StoreError> {
        let sql = format!(
            "WITH named AS (SELECT {COLUMNS} FROM data_keys k
                            WHERE k.id IN (SELECT unhex(value) FROM json_each(?1)))
             SELECT * FROM named
             UNION
             SELECT {COLUMNS} FROM data_keys k WHERE k.tenant IN (SELECT n.tenant FROM named n) AND k.tag = ?2"
        );
        let asked = sqlx::query(AssertSqlSafe(sql)).bind(id_list(ids.iter().copied())).bind(Tag::OWN.0.to_vec());
        asked.fetch_all(self.0.db.readers()).await.map_err(failure)?.iter().map(key).collect()
    }

    async fn erased_since(&self, generation: i64, limit: u32) -> Result<Vec<Erased>, StoreError> {
        let sql = "SELECT tenant, tag FROM data_keys WHERE generation > ? LIMIT ?";
        let asked = sqlx::query(sql).bind(generation).bind(limit).fetch_all(self.0.db.readers()).await;
        let erased = |row: &SqliteRow| Ok(Erased { tenant: rows::tenant(row, 0)?, tag: Tag(sixteen(get(row, 1)?)?) });
        asked.map_err(failure)?.iter().map(erased).collect()
    }

    async fn survey(&self, tenant: &TenantId, tag: Tag) -> Result<Survey, StoreError> {
        let mut conn = self.0.db.readers().acquire().await.map_err(failure)?;
        let erased = is_gone(&mut conn, tenant, tag).await?;
        let keys = if erased { 0 } else { live(&mut conn, tenant, tag).await? };
        let sql = "SELECT count(*) FROM events WHERE tenant = ?1 AND (?2 = ?3 OR substr(body, 2, 16) =
                   (SELECT k.id FROM data_keys k WHERE k.tenant = ?1 AND k.tag = ?2))";
        let asked = sqlx::query(sql).bind(tenant.as_str()).bind(tag.0.to_vec()).bind(Tag::OWN.0.to_vec());
        let events: i64 = get(&asked.fetch_one(&mut *conn).await.map_err(failure)?, 0)?;
        Ok(Survey { keys, events: Some(events.unsigned_abs()), erased })
    }

    /// What is overwritten is zeroed in the file, and the log that still has it is folded away.
    async fn erase(&self, tenant: &TenantId, tag: Tag, audit: &AuditBody) -> Result<EraseAct, StoreError> {
        let mut tx = self.0.db.begin(Sync::Full).await?;
        let conn = tx.conn()?;
        let held = "SELECT EXISTS (SELECT 1 FROM tenants WHERE tenant = ? AND legal_hold = 1)";
        let held = sqlx::query(held).bind(tenant.as_str()).fetch_one(&mut *conn).await.map_err(failure)?;
        if get::<bool>(&held, 0)? {
            return Ok(EraseAct::Held);
        }
        if is_gone(conn, tenant, tag).await? {
            return Ok(EraseAct::Already);
        }
        // What is set aside for a moment goes into no other file.
        for pragma in ["PRAGMA temp_store = MEMORY", "PRAGMA secure_delete = ON"] {
            sqlx::query(pragma).execute(&mut *conn).await.map_err(failure)?;
        }
        let keys = live(conn, tenant, tag).await?;
        sqlx::query("UPDATE vault SET generation = generation + 1").execute(&mut *conn).await.map_err(failure)?;
        destroy(conn, tenant, tag).await?;
        scrub(conn).await?;
        append_control(conn, tenant, audit).await?;
        tx.commit().await?;
        if !self.0.db.fold().await {
            tracing::warn!("the store's log could not be folded; it holds an erased key until the store is closed");
        }
        Ok(EraseAct::Done(keys))
    }

    async fn change_master(&self, wanted: MasterId, audit: &AuditBody) -> Result<bool, StoreError> {
        let mut tx = self.0.db.begin(Sync::Full).await?;
        let conn = tx.conn()?;
        let change = "UPDATE vault SET master = ?1 WHERE master IS NOT ?1";
        let changed = sqlx::query(change).bind(wanted.0.to_vec()).execute(&mut *conn).await.map_err(failure)?;
        if changed.rows_affected() == 0 {
            tx.commit().await?;
            return Ok(false);
        }
        append_control(conn, &TenantId::platform(), audit).await?;
        tx.commit().await?;
        Ok(true)
    }

    async fn under_others(&self, master: MasterId, limit: u32) -> Result<Vec<KeyRow>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM data_keys k
             WHERE k.master IS NOT NULL AND k.wrapped IS NOT NULL AND k.master <> ? LIMIT ?"
        );
        let asked = sqlx::query(AssertSqlSafe(sql)).bind(master.0.to_vec()).bind(limit);
        asked.fetch_all(self.0.db.readers()).await.map_err(failure)?.iter().map(key).collect()
    }

    async fn rewrap(&self, rows: &[(KeyRow, KeyRow)]) -> Result<u64, StoreError> {
        let mut tx = self.0.db.begin(Sync::Full).await?;
        let conn = tx.conn()?;
        let mut done = 0;
        for (before, after) in rows {
            let sql = "UPDATE data_keys SET wrapped = ?, master = ? WHERE id = ? AND wrapped = ?";
            let one = sqlx::query(sql)
                .bind(after.wrapped.as_deref())
                .bind(after.master.map(|master| master.0.to_vec()))
                .bind(before.id)
                .bind(before.wrapped.as_deref());
            done += one.execute(&mut *conn).await.map_err(failure)?.rows_affected();
        }
        tx.commit().await?;
        Ok(done)
    }
}
