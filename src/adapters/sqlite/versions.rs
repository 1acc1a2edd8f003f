//! Owns versions of models and prompts, and what is active. What is promised of them is held by the
//! tables' own constraints and triggers too (migration 0005). The one writer keeps changes apart.

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, QueryBuilder, SqliteConnection};

use super::SqliteStore;
use super::audit::append_control;
use super::db::{Sync, failure};
use super::rows::{Statement, from_millis, get, hash, millis, moment, number, numbered, tenant, unreadable};
use crate::domain::audit::{Hash, sha256};
use crate::domain::version::{
    ACTIVE_MAX, Artifact, NewVersion, Refused, Review, Ruling, VERSIONS_MAX, Verdict, Version, VersionKey, VersionName,
    VersionRef, activated,
};
use crate::domain::{AuditBody, TenantId, time};
use crate::ports::StoreError;
use crate::ports::versions::{Act, Activation, ActiveVersions, StoredVersion, VersionFilter, Versions};

#[async_trait]
impl ActiveVersions for SqliteStore {
    async fn activations_since(&self, generation: i64, limit: u32) -> Result<Vec<Activation>, StoreError> {
        let sql = format!("{ACTIVATION} WHERE generation > ? ORDER BY generation LIMIT ?");
        let asked = sqlx::query(AssertSqlSafe(sql)).bind(generation).bind(limit);
        asked.fetch_all(self.0.db.readers()).await.map_err(failure)?.iter().map(activation).collect()
    }

    async fn version_content(&self, key: &VersionKey) -> Result<Option<StoredVersion>, StoreError> {
        let sql = format!("SELECT {COLUMNS}, content FROM versions {KEYED}");
        let row = keyed(sql, key).fetch_optional(self.0.db.readers()).await.map_err(failure)?;
        let stored = |row: SqliteRow| Ok(StoredVersion { version: version(&row)?, content: get(&row, COLUMNS_COUNT)? });
        row.map(stored).transpose()
    }
}

#[async_trait]
impl Versions for SqliteStore {
    async fn register_version(&self, new: &NewVersion, audit: &AuditBody) -> Result<Act<Version>, StoreError> {
        let mut tx = self.0.db.begin(Sync::Full).await?;
        let conn = tx.conn()?;
        let counted = "SELECT count(*), coalesce(max(version) FILTER (WHERE name = ?3), 0) FROM versions
                       WHERE tenant = ?1 AND kind = ?2";
        let counted = sqlx::query(counted)
            .bind(new.tenant.as_str())
            .bind(kind_number(new.artifact))
            .bind(new.name.as_str())
            .fetch_one(&mut *conn)
            .await
            .map_err(failure)?;
        if get::<i64>(&counted, 0)? >= i64::from(VERSIONS_MAX) {
            tx.commit().await?;
            return Ok(Err(Refused::Full(VERSIONS_MAX)));
        }
        let registered = insert(conn, new, get::<u32>(&counted, 1)? + 1).await?;
        append_control(conn, &new.tenant, &registered.registered(audit)).await?;
        tx.commit().await?;
        Ok(Ok(registered))
    }

    async fn decide_version(
        &self,
        key: &VersionKey,
        ruling: Ruling,
        audit: &AuditBody,
    ) -> Result<Act<Version>, StoreError> {
        let mut tx = self.0.db.begin(Sync::Full).await?;
        let conn = tx.conn()?;
        let found = find(conn, key).await?.ok_or(Refused::Unknown);
        let ruled = found.and_then(|v| Ok((v.review.rule(&v.author, &audit.actor, ruling)?, v)));
        let (review, before) = match ruled {
            Ok(ruled) => ruled,
            Err(refused) => {
                tx.commit().await?;
                return Ok(Err(refused));
            }
        };
        let verdict =
            Verdict { by: audit.actor.clone(), at: time::whole_millis(audit.at), reason: audit.reason.clone() };
        write_verdict(conn, key, review, &verdict).await?;
        let decided = Version { review, verdict: Some(verdict), ..before.clone() };
        append_control(conn, &key.tenant, &decided.decided(before.review, audit)).await?;
        tx.commit().await?;
        Ok(Ok(decided))
    }

    async fn version(&self, key: &VersionKey) -> Result<Option<Version>, StoreError> {
        let mut conn = self.0.db.readers().acquire().await.map_err(failure)?;
        find(&mut conn, key).await
    }

    async fn versions(&self, filter: &VersionFilter) -> Result<Vec<Version>, StoreError> {
        let mut query = QueryBuilder::new(format!("SELECT {COLUMNS} FROM versions WHERE tenant = "));
        query.push_bind(filter.tenant.as_str().to_owned());
        query.push(" AND kind = ").push_bind(kind_number(filter.artifact));
        if let Some(name) = &filter.name {
            query.push(" AND name = ").push_bind(name.as_str().to_owned());
        }
        if let Some(review) = filter.review {
            query.push(" AND state = ").push_bind(review_number(review));
        }
        if let Some(after) = &filter.after {
            query.push(" AND (name, version) > (").push_bind(after.name.as_str().to_owned());
            query.push(", ").push_bind(after.number).push(")");
        }
        query.push(" ORDER BY name, version LIMIT ").push_bind(filter.limit);
        let rows = query.build().fetch_all(self.0.db.readers()).await.map_err(failure)?;
        rows.iter().map(version).collect()
    }

    async fn activate_version(&self, key: &VersionKey, audit: &AuditBody) -> Result<Act<Activation>, StoreError> {
        let mut tx = self.0.db.begin(Sync::Full).await?;
        let conn = tx.conn()?;
        let found = find(conn, key).await?.ok_or(Refused::Unknown);
        let before = active(conn, &key.tenant, key.artifact).await?;
        let usable = match found.and_then(|v| v.review.usable().map(|()| v.sha256)) {
            Ok(_) if before.is_none() && count_active(conn).await? >= i64::from(ACTIVE_MAX) => {
                Err(Refused::Full(ACTIVE_MAX))
            }
            usable => usable,
        };
        let sha256 = match usable {
            Ok(sha256) => sha256,
            Err(refused) => {
                tx.commit().await?;
                return Ok(Err(refused));
            }
        };
        let now = set_active(conn, &key.tenant, key.artifact, Some((key.version.clone(), sha256))).await?;
        append_control(conn, &key.tenant, &activated(before.as_ref(), Some(&key.version), audit)).await?;
        tx.commit().await?;
        Ok(Ok(now))
    }

    async fn deactivate_version(
        &self,
        tenant: &TenantId,
        artifact: Artifact,
        audit: &AuditBody,
    ) -> Result<Option<VersionRef>, StoreError> {
        let mut tx = self.0.db.begin(Sync::Full).await?;
        let conn = tx.conn()?;
        let before = active(conn, tenant, artifact).await?;
        if before.is_some() {
            set_active(conn, tenant, artifact, None).await?;
            append_control(conn, tenant, &activated(before.as_ref(), None, audit)).await?;
        }
        tx.commit().await?;
        Ok(before)
    }

    async fn active_version(&self, tenant: &TenantId, artifact: Artifact) -> Result<Option<VersionRef>, StoreError> {
        let mut conn = self.0.db.readers().acquire().await.map_err(failure)?;
        active(&mut conn, tenant, artifact).await
    }
}

async fn insert(conn: &mut SqliteConnection, new: &NewVersion, number: u32) -> Result<Version, StoreError> {
    let (hash, at) = (sha256(&new.content), time::whole_millis(new.at));
    let sql = "INSERT INTO versions (tenant, kind, name, version, sha256, content, author, reason, created_at)
               VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
    sqlx::query(sql)
        .bind(new.tenant.as_str())
        .bind(kind_number(new.artifact))
        .bind(new.name.as_str())
        .bind(number)
        .bind(hash.as_slice())
        .bind(new.content.as_slice())
        .bind(new.author.as_str())
        .bind(new.reason.as_str())
        .bind(millis(at))
        .execute(conn)
        .await
        .map_err(failure)?;
    let version = VersionRef { name: new.name.clone(), number };
    Ok(Version {
        key: VersionKey { tenant: new.tenant.clone(), artifact: new.artifact, version },
        sha256: hash,
        bytes: new.content.len() as u64,
        author: new.author.clone(),
        reason: new.reason.clone(),
        at,
        review: Review::Pending,
        verdict: None,
    })
}

async fn write_verdict(
    conn: &mut SqliteConnection,
    key: &VersionKey,
    review: Review,
    verdict: &Verdict,
) -> Result<(), StoreError> {
    let sql = "UPDATE versions SET state = ?5, decided_by = ?6, decided_at = ?7, decision_reason = ?8
               WHERE tenant = ?1 AND kind = ?2 AND name = ?3 AND version = ?4 AND state = 0";
    let written = keyed(sql.to_owned(), key)
        .bind(review_number(review))
        .bind(verdict.by.as_str())
        .bind(millis(verdict.at))
        .bind(verdict.reason.as_deref())
        .execute(conn)
        .await
        .map_err(failure)?;
    match written.rows_affected() {
        1 => Ok(()),
        n => Err(StoreError::Fault(format!("decide {}: {n} rows", key.version))),
    }
}

async fn find(conn: &mut SqliteConnection, key: &VersionKey) -> Result<Option<Version>, StoreError> {
    let row = keyed(format!("SELECT {COLUMNS} FROM versions {KEYED}"), key).fetch_optional(conn).await;
    row.map_err(failure)?.as_ref().map(version).transpose()
}

async fn active(
    conn: &mut SqliteConnection,
    tenant: &TenantId,
    artifact: Artifact,
) -> Result<Option<VersionRef>, StoreError> {
    let sql = format!("{ACTIVATION} WHERE tenant = ? AND kind = ?");
    let asked = sqlx::query(AssertSqlSafe(sql)).bind(tenant.as_str()).bind(kind_number(artifact));
    let found = asked.fetch_optional(conn).await.map_err(failure)?.as_ref().map(activation).transpose()?;
    Ok(found.and_then(|activation| activation.active).map(|(version, _)| version))
}

async fn count_active(conn: &mut SqliteConnection) -> Result<i64, StoreError> {
    sqlx::query_scalar("SELECT count(name) FROM activations").fetch_one(conn).await.map_err(failure)
}

async fn set_active(
    conn: &mut SqliteConnection,
    tenant: &TenantId,
    artifact: Artifact,
    now: Option<(VersionRef, Hash)>,
) -> Result<Activation, StoreError> {
    let newest = "SELECT coalesce(max(generation), 0) + 1 FROM activations";
    let generation: i64 = sqlx::query_scalar(newest).fetch_one(&mut *conn).await.map_err(failure)?;
    let sql = "INSERT INTO activations (tenant, kind, name, version, sha256, generation) VALUES (?, ?, ?, ?, ?, ?)
               ON CONFLICT (tenant, kind) DO UPDATE SET name = excluded.name, version = excluded.version,
                   sha256 = excluded.sha256, generation = excluded.generation";
    sqlx::query(sql)
        .bind(tenant.as_str())
        .bind(kind_number(artifact))
        .bind(now.as_ref().map(|(version, _)| version.name.as_str()))
        .bind(now.as_ref().map(|(version, _)| version.number))
        .bind(now.as_ref().map(|(_, sha256)| sha256.as_slice()))
        .bind(generation)
        .execute(conn)
        .await
        .map_err(failure)?;
    Ok(Activation { generation, tenant: tenant.clone(), artifact, active: now })
}

/// The columns of [`version`], standing first.
const COLUMNS: &str = "tenant, kind, name, version, sha256, length(content), author, reason, created_at, state,
    decided_by, decided_at, decision_reason";
const COLUMNS_COUNT: usize = 13;

/// Picks one version; the first four arguments of [`keyed`].
const KEYED: &str = "WHERE tenant = ?1 AND kind = ?2 AND name = ?3 AND version = ?4";

fn keyed(sql: String, key: &VersionKey) -> Statement<'_> {
    sqlx::query(AssertSqlSafe(sql))
        .bind(key.tenant.as_str())
        .bind(kind_number(key.artifact))
        .bind(key.version.name.as_str())
        .bind(key.version.number)
}

fn version(row: &SqliteRow) -> Result<Version, StoreError> {
    let verdict = match get::<Option<String>>(row, 10)? {
        None => None,
        Some(by) => Some(Verdict { by, at: from_millis(get(row, 11)?), reason: get(row, 12)? }),
    };
    Ok(Version {
        key: VersionKey {
            tenant: tenant(row, 0)?,
            artifact: numbered(&Artifact::ALL, get(row, 1)?)?,
            version: reference(get(row, 2)?, get(row, 3)?)?,
        },
        sha256: hash(row, 4)?,
        bytes: get(row, 5)?,
        author: get(row, 6)?,
        reason: get(row, 7)?,
        at: moment(row, 8)?,
        review: numbered(&Review::ALL, get(row, 9)?)?,
        verdict,
    })
}

/// The columns of [`activation`].
const ACTIVATION: &str = "SELECT generation, tenant, kind, name, version, sha256 FROM activations";

fn activation(row: &SqliteRow) -> Result<Activation, StoreError> {
    let active = match get::<Option<&str>>(row, 3)? {
        Some(name) => Some((reference(name, get(row, 4)?)?, hash(row, 5)?)),
        None => None,
    };
    let artifact = numbered(&Artifact::ALL, get(row, 2)?)?;
    Ok(Activation { generation: get(row, 0)?, tenant: tenant(row, 1)?, artifact, active })
}

fn reference(name: &str, number: u32) -> Result<VersionRef, StoreError> {
    Ok(VersionRef { name: VersionName::parse(name).map_err(unreadable)?, number })
}

fn kind_number(artifact: Artifact) -> Option<i64> {
    number(&Artifact::ALL, &artifact)
}

fn review_number(review: Review) -> Option<i64> {
    number(&Review::ALL, &review)
}
