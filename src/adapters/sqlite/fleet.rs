//! Owns claims of partitions, reports of workers and the view of both. Never grants a lease.

use sqlx::SqliteConnection;
use std::collections::HashMap;

use super::db::{Db, Sync, failure};
use super::rows::{get, millis, moment, unreadable};
use super::{Inner, ledger};
use crate::domain::{Epoch, PartitionId, WorkerId};
use crate::ports::StoreError;
use crate::ports::store::{FleetStatus, PartitionRow, WorkerRow};

/// Workers that reported within this time are shown.
const SHOWN_MS: i64 = 60_000;
/// Reports older than this are deleted.
const KEPT_MS: i64 = 3_600_000;

/// The one writer is the exclusive lock: no commit is under way while the epoch moves.
pub(super) async fn claim(db: &Db, partition: PartitionId, worker: WorkerId) -> Result<Epoch, StoreError> {
    let mut tx = db.begin(Sync::Full).await?;
    let row = sqlx::query("UPDATE partitions SET epoch = epoch + 1, owner = ? WHERE partition = ? RETURNING epoch")
        .bind(worker.0)
        .bind(partition.0)
        .fetch_optional(tx.conn()?)
        .await
        .map_err(failure)?;
    let row = row.ok_or_else(|| StoreError::Fault(format!("claim {partition}: there is no such partition")))?;
    let epoch = Epoch(get(&row, 0)?);
    tx.commit().await?;
    Ok(epoch)
}

pub(super) async fn release(db: &Db, partition: PartitionId, epoch: Epoch) -> Result<(), StoreError> {
    let mut tx = db.begin(Sync::Normal).await?;
    sqlx::query("UPDATE partitions SET owner = NULL WHERE partition = ? AND epoch = ?")
        .bind(partition.0)
        .bind(epoch.0)
        .execute(tx.conn()?)
        .await
        .map_err(failure)?;
    tx.commit().await
}

pub(super) async fn report(inner: &Inner, worker: &WorkerRow) -> Result<(), StoreError> {
    let partitions = serde_json::to_string(&worker.partitions).map_err(|e| StoreError::Fault(e.to_string()))?;
    let now = millis(inner.clock.now());
    let mut tx = inner.db.begin(Sync::Normal).await?;
    let load = worker.load.as_ref().map(serde_json::to_string).transpose();
    let load = load.map_err(|e| StoreError::Fault(e.to_string()))?;
    let sql =
        "INSERT OR REPLACE INTO workers (id, version, partitions, draining, seen_at, load) VALUES (?, ?, ?, ?, ?, ?)";
    sqlx::query(sql)
        .bind(worker.id.0)
        .bind(worker.version.as_str())
        .bind(partitions)
        .bind(worker.draining)
        .bind(now)
        .bind(load)
        .execute(tx.conn()?)
        .await
        .map_err(failure)?;
    let old = sqlx::query("DELETE FROM workers WHERE seen_at < ?").bind(now.saturating_sub(KEPT_MS));
    old.execute(tx.conn()?).await.map_err(failure)?;
    tx.commit().await
}

pub(super) async fn status(inner: &Inner) -> Result<FleetStatus, StoreError> {
    let since = millis(inner.clock.now()).saturating_sub(SHOWN_MS);
    // One snapshot, so that the backlogs add up to what the ledger calls pending.
    let mut tx = inner.db.readers().begin().await.map_err(failure)?;
    let status = FleetStatus {
        workers: workers(&mut tx, since).await?,
        partitions: partitions(&mut tx).await?,
        ledger: ledger::read(&mut tx).await?,
    };
    tx.rollback().await.map_err(failure)?;
    Ok(status)
}

async fn workers(conn: &mut SqliteConnection, since: i64) -> Result<Vec<WorkerRow>, StoreError> {
    let sql = "SELECT id, version, partitions, draining, seen_at, load FROM workers WHERE seen_at >= ? ORDER BY id";
    let mut workers = Vec::new();
    for row in sqlx::query(sql).bind(since).fetch_all(conn).await.map_err(failure)? {
        workers.push(WorkerRow {
            id: WorkerId(get(&row, 0)?),
            version: get(&row, 1)?,
            partitions: serde_json::from_str(get(&row, 2)?).map_err(unreadable)?,
            draining: get(&row, 3)?,
            seen_at: moment(&row, 4)?,
            // A report that can't be read is of a version that means something else by it.
            load: get::<Option<String>>(&row, 5)?.and_then(|text| serde_json::from_str(&text).ok()),
        });
    }
    Ok(workers)
}

async fn partitions(conn: &mut SqliteConnection) -> Result<Vec<PartitionRow>, StoreError> {
    // Above the mark, and below it those that wait for a next try.
    let sql = "SELECT p.partition, count(*) FROM (
                   SELECT e.partition FROM events e WHERE e.id >= (SELECT mark FROM fleet)
                   AND NOT EXISTS (SELECT 1 FROM decisions d WHERE d.event = e.id)
                   UNION ALL
                   SELECT r.partition FROM retries r
                   WHERE r.event < (SELECT mark FROM fleet) AND r.due_at IS NOT NULL
                   AND NOT EXISTS (SELECT 1 FROM decisions d WHERE d.event = r.event)) p
               GROUP BY p.partition";
    let mut backlogs = HashMap::new();
    for row in sqlx::query(sql).fetch_all(&mut *conn).await.map_err(failure)? {
        backlogs.insert(PartitionId(get(&row, 0)?), get::<i64>(&row, 1)?);
    }
    let mut partitions = Vec::new();
    let sql = "SELECT partition, owner, epoch FROM partitions ORDER BY partition";
    for row in sqlx::query(sql).fetch_all(conn).await.map_err(failure)? {
        let partition = PartitionId(get(&row, 0)?);
        let owner = get::<Option<uuid::Uuid>>(&row, 1)?.map(WorkerId);
        let backlog = backlogs.get(&partition).copied().unwrap_or(0);
        partitions.push(PartitionRow { partition, owner, epoch: Epoch(get(&row, 2)?), backlog });
    }
    Ok(partitions)
}

pub(super) async fn ask_repair(db: &Db) -> Result<u64, StoreError> {
    let mut tx = db.begin(Sync::Full).await?;
    let asked = sqlx::query("UPDATE fleet SET repairs = repairs + 1 RETURNING repairs").fetch_one(tx.conn()?).await;
    let count = get::<i64>(&asked.map_err(failure)?, 0)?;
    tx.commit().await?;
    Ok(count.unsigned_abs())
}

pub(super) async fn repairs(db: &Db) -> Result<u64, StoreError> {
    let row = sqlx::query("SELECT repairs FROM fleet").fetch_one(db.readers()).await.map_err(failure)?;
    Ok(get::<i64>(&row, 0)?.unsigned_abs())
}
