//! Owns versions of models and prompts, and what is active. What is promised of them is held by the
//! tables' own constraints and triggers too (migration 0005).
//!
//! The tenant's control lock is taken FIRST in each change: numbers are given out, and states read,
//! under it.
//!
//! # Decisions
//! What people do with versions runs as [`Role::Api`](super::roles::Role::Api) under their tenant.
//! What changes what is active runs as the fleet, its tenant bound in each statement: the generation
//! and the number of active ones are the fleet's, and no tenant's session may see or move them.

use async_trait::async_trait;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection, PgConnection, QueryBuilder, Row};

use super::connect::{control_lock, corrupt, failed};
use super::control::append_control;
use super::read::tenant;
use super::scope::under;
use super::store::PostgresStore;
use crate::domain::audit::{Hash, sha256};
use crate::domain::version::{
    ACTIVE_MAX, Artifact, NewVersion, Refused, Review, Ruling, VERSIONS_MAX, Verdict, Version, VersionKey, VersionName,
    VersionRef, activated,
};
use crate::domain::{AuditBody, TenantId, time};
use crate::ports::store::StoreError;
use crate::ports::versions::{Act, Activation, ActiveVersions, StoredVersion, VersionFilter, Versions};

#[async_trait]
impl ActiveVersions for PostgresStore {
    async fn activations_since(&self, generation: i64, limit: u32) -> Result<Vec<Activation>, StoreError> {
        let rows = sqlx::query(
            "SELECT generation, tenant_id, kind, name, version, sha256 FROM activations
             WHERE generation > $1 ORDER BY generation LIMIT $2",
        )
        .bind(generation)
        .bind(i64::from(limit))
        .fetch_all(&self.reading)
        .await
        .map_err(failed)?;
        rows.iter().map(activation).collect()
    }

    async fn version_content(&self, key: &VersionKey) -> Result<Option<StoredVersion>, StoreError> {
        let wanted = key.clone();
        under(self, &key.tenant, move |tx| Box::pin(content(tx, wanted))).await
    }
}

#[async_trait]
impl Versions for PostgresStore {
    async fn register_version(&self, new: &NewVersion, audit: &AuditBody) -> Result<Act<Version>, StoreError> {
        let (locks, new, audit) = (self.locks, new.clone(), audit.clone());
        let tenant = new.tenant.clone();
        under(self, &tenant, move |tx| Box::pin(register(tx, locks, new, audit))).await
    }

    async fn decide_version(
        &self,
        key: &VersionKey,
        ruling: Ruling,
        audit: &AuditBody,
    ) -> Result<Act<Version>, StoreError> {
        let (locks, key, audit) = (self.locks, key.clone(), audit.clone());
        let tenant = key.tenant.clone();
        under(self, &tenant, move |tx| Box::pin(decide(tx, locks, key, ruling, audit))).await
    }

    async fn version(&self, key: &VersionKey) -> Result<Option<Version>, StoreError> {
        let wanted = key.clone();
        under(self, &key.tenant, move |tx| Box::pin(async move { find(tx, &wanted).await })).await
    }

    async fn versions(&self, filter: &VersionFilter) -> Result<Vec<Version>, StoreError> {
        let wanted = filter.clone();
        under(self, &filter.tenant, move |tx| Box::pin(list(tx, wanted))).await
    }

    async fn activate_version(&self, key: &VersionKey, audit: &AuditBody) -> Result<Act<Activation>, StoreError> {
        let mut connection = self.reading.acquire().await.map_err(failed)?;
        let mut tx = connection.begin().await.map_err(failed)?;
        lock(&mut tx, self.locks, &key.tenant).await?;
        let found = find(&mut tx, key).await?.ok_or(Refused::Unknown);
        let usable = found.and_then(|v| v.review.usable().map(|()| v.sha256));
        let before = active(&mut tx, &key.tenant, key.artifact).await?;
        let generation = next_generation(&mut tx).await?;
        // Counted under the lock of the generation: two tenants can't both be the last one.
        let usable = match usable {
            Ok(_) if before.is_none() && count_active(&mut tx).await? >= i64::from(ACTIVE_MAX) => {
                Err(Refused::Full(ACTIVE_MAX))
            }
            usable => usable,
        };
        let sha256 = match usable {
            Ok(sha256) => sha256,
            Err(refused) => {
                tx.rollback().await.map_err(failed)?;
                return Ok(Err(refused));
            }
        };
        let (tenant, artifact) = (key.tenant.clone(), key.artifact);
        let now = Activation { generation, tenant, artifact, active: Some((key.version.clone(), sha256)) };
        set_active(&mut tx, &now).await?;
        let audit = activated(before.as_ref(), Some(&key.version), audit);
        append_control(&mut tx, self.locks, &key.tenant, &audit).await?;
        tx.commit().await.map_err(failed)?;
        Ok(Ok(now))
    }

    async fn deactivate_version(
        &self,
        tenant: &TenantId,
        artifact: Artifact,
        audit: &AuditBody,
    ) -> Result<Option<VersionRef>, StoreError> {
        let mut connection = self.reading.acquire().await.map_err(failed)?;
        let mut tx = connection.begin().await.map_err(failed)?;
        lock(&mut tx, self.locks, tenant).await?;
        let Some(before) = active(&mut tx, tenant, artifact).await? else {
            tx.rollback().await.map_err(failed)?;
            return Ok(None);
        };
        let generation = next_generation(&mut tx).await?;
        set_active(&mut tx, &Activation { generation, tenant: tenant.clone(), artifact, active: None }).await?;
        append_control(&mut tx, self.locks, tenant, &activated(Some(&before), None, audit)).await?;
        tx.commit().await.map_err(failed)?;
        Ok(Some(before))
    }

    async fn active_version(&self, tenant: &TenantId, artifact: Artifact) -> Result<Option<VersionRef>, StoreError> {
        let of = tenant.clone();
        under(self, tenant, move |tx| Box::pin(async move { active(tx, &of, artifact).await })).await
    }
}

async fn register(
    tx: &mut PgConnection,
    locks: i32,
    new: NewVersion,
    audit: AuditBody,
) -> Result<Act<Version>, StoreError> {
    lock(tx, locks, &new.tenant).await?;
    let counted = sqlx::query(
        "SELECT count(*), coalesce(max(version) FILTER (WHERE name = $3), 0) FROM versions
         WHERE tenant_id = $1 AND kind = $2",
    )
    .bind(new.tenant.as_str())
    .bind(kind_number(new.artifact))
    .bind(new.name.as_str())
    .fetch_one(&mut *tx)
    .await
    .map_err(failed)?;
    let (count, newest): (i64, i32) = (counted.try_get(0).map_err(failed)?, counted.try_get(1).map_err(failed)?);
    if count >= i64::from(VERSIONS_MAX) {
        return Ok(Err(Refused::Full(VERSIONS_MAX)));
    }
    let registered = insert(tx, &new, newest + 1).await?;
    append_control(tx, locks, &new.tenant, &registered.registered(&audit)).await?;
    Ok(Ok(registered))
}

async fn decide(
    tx: &mut PgConnection,
    locks: i32,
    key: VersionKey,
    ruling: Ruling,
    audit: AuditBody,
) -> Result<Act<Version>, StoreError> {
    lock(tx, locks, &key.tenant).await?;
    let found = find(tx, &key).await?.ok_or(Refused::Unknown);
    let ruled = found.and_then(|v| Ok((v.review.rule(&v.author, &audit.actor, ruling)?, v)));
    let (review, before) = match ruled {
        Ok(ruled) => ruled,
        Err(refused) => return Ok(Err(refused)),
    };
    let decided = decided(before.clone(), review, &audit);
    write_verdict(tx, &decided).await?;
    append_control(tx, locks, &key.tenant, &decided.decided(before.review, &audit)).await?;
    Ok(Ok(decided))
}

/// Keeps other changes of the tenant's versions away, to the transaction's end.
async fn lock(tx: &mut PgConnection, locks: i32, tenant: &TenantId) -> Result<(), StoreError> {
    sqlx::query("SELECT pg_advisory_xact_lock($1, $2)")
        .bind(locks)
        .bind(control_lock(tenant))
        .execute(tx)
        .await
        .map_err(failed)?;
    Ok(())
}

async fn insert(tx: &mut PgConnection, new: &NewVersion, number: i32) -> Result<Version, StoreError> {
    let (hash, at) = (sha256(&new.content), time::whole_millis(new.at));
    sqlx::query(
        "INSERT INTO versions (tenant_id, kind, name, version, sha256, content, author, reason, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(new.tenant.as_str())
    .bind(kind_number(new.artifact))
    .bind(new.name.as_str())
    .bind(number)
    .bind(&hash[..])
    .bind(&new.content)
    .bind(&new.author)
    .bind(&new.reason)
    .bind(at)
    .execute(tx)
    .await
    .map_err(failed)?;
    let number = u32::try_from(number).map_err(|e| corrupt("version number", e))?;
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

/// A version after its ruling.
fn decided(before: Version, review: Review, audit: &AuditBody) -> Version {
    let by = audit.actor.clone();
    let verdict = Verdict { by, at: time::whole_millis(audit.at), reason: audit.reason.clone() };
    Version { review, verdict: Some(verdict), ..before }
}

async fn write_verdict(tx: &mut PgConnection, decided: &Version) -> Result<(), StoreError> {
    let verdict = decided.verdict.as_ref();
    let sql = "UPDATE versions SET state = $5, decided_by = $6, decided_at = $7, decision_reason = $8
         WHERE tenant_id = $1 AND kind = $2 AND name = $3 AND version = $4 AND state = 0";
    let written = keyed(sql, &decided.key)?
        .bind(review_number(decided.review))
        .bind(verdict.map(|v| v.by.as_str()))
        .bind(verdict.map(|v| v.at))
        .bind(verdict.and_then(|v| v.reason.as_deref()))
        .execute(tx)
        .await
        .map_err(failed)?;
    match written.rows_affected() {
        1 => Ok(()),
        n => Err(StoreError::Fault(format!("decide {}: {n} rows", decided.key.version))),
    }
}

async fn find(connection: &mut PgConnection, key: &VersionKey) -> Result<Option<Version>, StoreError> {
    let sql =
        format!("SELECT {COLUMNS} FROM versions WHERE tenant_id = $1 AND kind = $2 AND name = $3 AND version = $4");
    let row = keyed(&sql, key)?.fetch_optional(connection).await.map_err(failed)?;
    row.as_ref().map(version).transpose()
}

async fn content(connection: &mut PgConnection, key: VersionKey) -> Result<Option<StoredVersion>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS}, content FROM versions WHERE tenant_id = $1 AND kind = $2 AND name = $3 AND version = $4"
    );
    let row = keyed(&sql, &key)?.fetch_optional(connection).await.map_err(failed)?;
    let stored =
        |row: PgRow| Ok(StoredVersion { version: version(&row)?, content: row.try_get("content").map_err(failed)? });
    row.map(stored).transpose()
}

async fn list(connection: &mut PgConnection, filter: VersionFilter) -> Result<Vec<Version>, StoreError> {
    let mut query = QueryBuilder::new(format!("SELECT {COLUMNS} FROM versions WHERE tenant_id = "));
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
        query.push(", ").push_bind(number(after)?).push(")");
    }
    query.push(" ORDER BY name, version LIMIT ").push_bind(i64::from(filter.limit));
    query.build().fetch_all(connection).await.map_err(failed)?.iter().map(version).collect()
}

async fn active(
    connection: &mut PgConnection,
    tenant: &TenantId,
    artifact: Artifact,
) -> Result<Option<VersionRef>, StoreError> {
    let row = sqlx::query(
        "SELECT generation, tenant_id, kind, name, version, sha256 FROM activations WHERE tenant_id = $1 AND kind = $2",
    )
    .bind(tenant.as_str())
    .bind(kind_number(artifact))
    .fetch_optional(connection)
    .await
    .map_err(failed)?;
    let found = row.as_ref().map(activation).transpose()?;
    Ok(found.and_then(|activation| activation.active).map(|(version, _)| version))
}

/// Locks the clock of the activations: generations become visible in their order.
async fn next_generation(tx: &mut PgConnection) -> Result<i64, StoreError> {
    sqlx::query_scalar("UPDATE activation_clock SET generation = generation + 1 RETURNING generation")
        .fetch_one(tx)
        .await
        .map_err(failed)
}

async fn count_active(tx: &mut PgConnection) -> Result<i64, StoreError> {
    sqlx::query_scalar("SELECT count(name) FROM activations").fetch_one(tx).await.map_err(failed)
}

async fn set_active(tx: &mut PgConnection, now: &Activation) -> Result<(), StoreError> {
    let version = now.active.as_ref();
    sqlx::query(
        "INSERT INTO activations (tenant_id, kind, name, version, sha256, generation) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (tenant_id, kind) DO UPDATE SET name = excluded.name, version = excluded.version,
             sha256 = excluded.sha256, generation = excluded.generation",
    )
    .bind(now.tenant.as_str())
    .bind(kind_number(now.artifact))
    .bind(version.map(|(v, _)| v.name.as_str()))
    .bind(version.map(|(v, _)| number(v)).transpose()?)
    .bind(version.map(|(_, sha256)| &sha256[..]))
    .bind(now.generation)
    .execute(tx)
    .await
    .map_err(failed)?;
    Ok(())
}

/// The columns of [`version`].
const COLUMNS: &str = "tenant_id, kind, name, version, sha256, length(content) AS bytes, author, reason, created_at,
    state, decided_by, decided_at, decision_reason";

fn version(row: &PgRow) -> Result<Version, StoreError> {
    let bytes: i32 = row.try_get("bytes").map_err(failed)?;
    let by: Option<String> = row.try_get("decided_by").map_err(failed)?;
    let verdict = match by {
        None => None,
        Some(by) => Some(Verdict {
            by,
            at: row.try_get("decided_at").map_err(failed)?,
            reason: row.try_get("decision_reason").map_err(failed)?,
        }),
    };
    Ok(Version {
        key: VersionKey {
            tenant: tenant(row.try_get("tenant_id").map_err(failed)?)?,
            artifact: kind(row.try_get("kind").map_err(failed)?)?,
            version: reference(row.try_get("name").map_err(failed)?, row.try_get("version").map_err(failed)?)?,
        },
        sha256: hash(row.try_get("sha256").map_err(failed)?)?,
        bytes: u64::try_from(bytes).map_err(|e| corrupt("content's length", e))?,
        author: row.try_get("author").map_err(failed)?,
        reason: row.try_get("reason").map_err(failed)?,
        at: row.try_get("created_at").map_err(failed)?,
        review: review(row.try_get("state").map_err(failed)?)?,
        verdict,
    })
}

fn activation(row: &PgRow) -> Result<Activation, StoreError> {
    let (name, number): (Option<String>, Option<i32>) =
        (row.try_get(3).map_err(failed)?, row.try_get(4).map_err(failed)?);
    let sha256: Option<Vec<u8>> = row.try_get(5).map_err(failed)?;
    let active = match (name, number, sha256) {
        (Some(name), Some(number), Some(sha256)) => Some((reference(name, number)?, hash(sha256)?)),
        _ => None,
    };
    Ok(Activation {
        generation: row.try_get(0).map_err(failed)?,
        tenant: tenant(row.try_get(1).map_err(failed)?)?,
        artifact: kind(row.try_get(2).map_err(failed)?)?,
        active,
    })
}

/// A statement whose first four arguments are a version's key.
fn keyed<'q>(
    sql: &str,
    key: &'q VersionKey,
) -> Result<sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>, StoreError> {
    Ok(sqlx::query(AssertSqlSafe(sql.to_owned()))
        .bind(key.tenant.as_str())
        .bind(kind_number(key.artifact))
        .bind(key.version.name.as_str())
        .bind(number(&key.version)?))
}

fn number(version: &VersionRef) -> Result<i32, StoreError> {
    // Greater ones can't be read by `VersionRef`; a defect if one is made otherwise.
    i32::try_from(version.number).map_err(|e| StoreError::Fault(format!("write the number of {version}: {e}")))
}

#[expect(clippy::needless_pass_by_value, reason = "as it comes out of a row")]
fn reference(name: String, number: i32) -> Result<VersionRef, StoreError> {
    let name = VersionName::parse(&name).map_err(|e| corrupt("version name", e))?;
    Ok(VersionRef { name, number: u32::try_from(number).map_err(|e| corrupt("version number", e))? })
}

fn hash(bytes: Vec<u8>) -> Result<Hash, StoreError> {
    bytes.try_into().map_err(|_| corrupt("version", "a hash has not 32 bytes"))
}

fn kind_number(artifact: Artifact) -> i16 {
    match artifact {
        Artifact::Model => 0,
        Artifact::Prompt => 1,
    }
}

fn kind(number: i16) -> Result<Artifact, StoreError> {
    let known = usize::try_from(number).ok().and_then(|n| Artifact::ALL.get(n)).copied();
    known.ok_or_else(|| corrupt("kind of a version", number))
}

fn review_number(review: Review) -> i16 {
    match review {
        Review::Pending => 0,
        Review::Approved => 1,
        Review::Rejected => 2,
    }
}

fn review(number: i16) -> Result<Review, StoreError> {
    let known = usize::try_from(number).ok().and_then(|n| Review::ALL.get(n)).copied();
    known.ok_or_else(|| corrupt("state of a version", number))
}
