//! Owns the fleet's constants, partitions with their epochs, and workers.

use sqlx::{Connection, PgPool, Row};
use uuid::Uuid;

use super::connect::{corrupt, failed};
use super::roles::Role;
use super::store::PostgresStore;
use super::{mark, migrate, scope};
use crate::domain::{Epoch, PartitionId, WorkerId, WorkerLoad};
use crate::ports::store::{FleetConstants, FleetStatus, PartitionRow, StoreError, WorkerRow};

/// What every process asks first: so it is refused here when its sessions are not the fleet's.
pub(super) async fn constants(store: &PostgresStore) -> Result<FleetConstants, StoreError> {
    let pool = &store.reading;
    let first = sqlx::query("SELECT coalesce(max(version), 0), current_user::text FROM _sqlx_migrations WHERE success")
        .fetch_one(pool)
        .await
        .map_err(failed)?;
    scope::runs_as(first.try_get(1).map_err(failed)?, &Role::Worker.name(&store.namespace))?;
    let stored: i64 = first.try_get(0).map_err(failed)?;
    let newest = migrate::newest();
    if stored < newest {
        return Err(StoreError::Misfit(format!(
            "the schema has version {stored}, this program needs {newest}: run `riskfleet migrate`"
        )));
    }
    let row = sqlx::query("SELECT partitions, pack_secret FROM fleet").fetch_one(pool).await.map_err(failed)?;
    let secret: Vec<u8> = row.try_get(1).map_err(failed)?;
    Ok(FleetConstants {
        partitions: row.try_get::<i16, _>(0).map_err(failed)?.unsigned_abs(),
        pack_secret: secret.try_into().map_err(|_| corrupt("pack secret", "it has not 32 bytes"))?,
    })
}

/// Exclusive lock first, then the epoch: commits that hold the lock shared are waited for, and
/// every later one reads the new epoch.
pub(super) async fn claim(
    store: &PostgresStore,
    partition: PartitionId,
    worker: WorkerId,
) -> Result<Epoch, StoreError> {
    let mut connection = store.reading.acquire().await.map_err(failed)?;
    let mut tx = connection.begin().await.map_err(failed)?;
    sqlx::query("SELECT pg_advisory_xact_lock($1, $2)")
        .bind(store.locks)
        .bind(i32::from(partition.0))
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
    let epoch: Option<i64> =
        sqlx::query_scalar("UPDATE partitions SET epoch = epoch + 1, owner = $2 WHERE partition = $1 RETURNING epoch")
            .bind(partition.0 as i16)
            .bind(worker.0)
            .fetch_optional(&mut *tx)
            .await
            .map_err(failed)?;
    tx.commit().await.map_err(failed)?;
    epoch.map(Epoch).ok_or_else(|| StoreError::Misfit(format!("the fleet has no partition {partition}")))
}

pub(super) async fn release(pool: &PgPool, partition: PartitionId, epoch: Epoch) -> Result<(), StoreError> {
    sqlx::query("UPDATE partitions SET owner = NULL WHERE partition = $1 AND epoch = $2")
        .bind(partition.0 as i16)
        .bind(epoch.0)
        .execute(pool)
        .await
        .map_err(failed)?;
    Ok(())
}

pub(super) async fn report(pool: &PgPool, worker: &WorkerRow) -> Result<(), StoreError> {
    let partitions: Vec<i16> = worker.partitions.iter().map(|p| p.0 as i16).collect();
    sqlx::query(
        "WITH old AS (DELETE FROM workers WHERE seen_at < clock_timestamp() - interval '1 hour' AND id <> $1)
         INSERT INTO workers (id, version, partitions, draining, seen_at, load)
         VALUES ($1, $2, $3, $4, clock_timestamp(), $5::json)
         ON CONFLICT (id) DO UPDATE SET partitions = excluded.partitions, draining = excluded.draining,
             seen_at = excluded.seen_at, load = excluded.load",
    )
    .bind(worker.id.0)
    .bind(&worker.version)
    .bind(partitions)
    .bind(worker.draining)
    .bind(worker.load.as_ref().map(written).transpose()?)
    .execute(pool)
    .await
    .map_err(failed)?;
    Ok(())
}

fn written(load: &WorkerLoad) -> Result<String, StoreError> {
    serde_json::to_string(load).map_err(|e| StoreError::Fault(e.to_string()))
}

pub(super) async fn status(pool: &PgPool) -> Result<FleetStatus, StoreError> {
    let backlog = mark::backlog(pool).await?;
    let rows = sqlx::query("SELECT partition, owner, epoch FROM partitions ORDER BY partition")
        .fetch_all(pool)
        .await
        .map_err(failed)?;
    let mut partitions = Vec::with_capacity(rows.len());
    for row in rows {
        let partition: i16 = row.try_get(0).map_err(failed)?;
        partitions.push(PartitionRow {
            partition: PartitionId(partition.unsigned_abs()),
            owner: row.try_get::<Option<Uuid>, _>(1).map_err(failed)?.map(WorkerId),
            epoch: Epoch(row.try_get(2).map_err(failed)?),
            backlog: backlog.iter().find(|(p, _)| *p == partition).map_or(0, |(_, n)| *n),
        });
    }
    Ok(FleetStatus { workers: workers(pool).await?, partitions, ledger: mark::ledger(pool).await? })
}

async fn workers(pool: &PgPool) -> Result<Vec<WorkerRow>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, version, partitions, draining, seen_at, load::text FROM workers
         WHERE seen_at > clock_timestamp() - interval '1 minute' ORDER BY id",
    )
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    let mut workers = Vec::with_capacity(rows.len());
    for row in rows {
        let partitions: Vec<i16> = row.try_get(2).map_err(failed)?;
        workers.push(WorkerRow {
            id: WorkerId(row.try_get(0).map_err(failed)?),
            version: row.try_get(1).map_err(failed)?,
            partitions: partitions.into_iter().map(|p| PartitionId(p.unsigned_abs())).collect(),
            draining: row.try_get(3).map_err(failed)?,
            seen_at: row.try_get(4).map_err(failed)?,
            // A report that can't be read is of a version that means something else by it.
            load: row
                .try_get::<Option<String>, _>(5)
                .map_err(failed)?
                .and_then(|text| serde_json::from_str(&text).ok()),
        });
    }
    Ok(workers)
}

pub(super) async fn ask_repair(pool: &PgPool) -> Result<u64, StoreError> {
    let count: i64 = sqlx::query_scalar("UPDATE fleet SET repairs = repairs + 1 RETURNING repairs")
        .fetch_one(pool)
        .await
        .map_err(failed)?;
    Ok(count.unsigned_abs())
}

pub(super) async fn repairs(pool: &PgPool) -> Result<u64, StoreError> {
    let count: i64 = sqlx::query_scalar("SELECT repairs FROM fleet").fetch_one(pool).await.map_err(failed)?;
    Ok(count.unsigned_abs())
}
