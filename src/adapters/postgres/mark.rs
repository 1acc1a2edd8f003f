//! Owns the mark W, what is pending above it, and the ledger.

use sqlx::{Connection, PgConnection, PgPool, Row};
use uuid::Uuid;

use super::connect::{MARK_LOCK, failed};
use super::migrate::DAYS_AHEAD;
use super::read::stored_event;
use super::store::PostgresStore;
use crate::domain::{EventId, PartitionId};
use crate::ports::store::{Ledger, MARK_LAG, StoreError, StoredEvent};

/// Events folded into the totals by one step at most: a step stays far below the statement timeout.
const STEP: i64 = 50_000;

pub(super) async fn mark(pool: &PgPool) -> Result<EventId, StoreError> {
    sqlx::query_scalar("SELECT mark FROM fleet").fetch_one(pool).await.map(EventId).map_err(failed)
}

/// Both sides of the anti-join are bounded by the same ids, so that the planner scans no history.
pub(super) async fn pending_page(
    pool: &PgPool,
    partition: PartitionId,
    after: Option<EventId>,
    before: EventId,
    limit: u32,
) -> Result<Vec<StoredEvent>, StoreError> {
    let mark = mark(pool).await?;
    let rows = sqlx::query(
        "SELECT e.event_id, e.tenant_id, e.partition, e.correlation_id, e.body FROM events e
         WHERE e.event_id >= $1 AND e.event_id < $2 AND e.partition = $3 AND e.event_id > $4
           AND NOT EXISTS (SELECT 1 FROM decisions d
                           WHERE d.event_id = e.event_id AND d.event_id >= $1 AND d.event_id < $2)
         ORDER BY e.event_id LIMIT $5",
    )
    .bind(mark.0)
    .bind(before.0)
    .bind(partition.0 as i16)
    .bind(after.map_or(Uuid::nil(), |id| id.0))
    .bind(i64::from(limit))
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    rows.iter().map(stored_event).collect()
}

pub(super) async fn advance(store: &PostgresStore) -> Result<EventId, StoreError> {
    let mut connection = store.reading.acquire().await.map_err(failed)?;
    let mut tx = connection.begin().await.map_err(failed)?;
    let alone: bool = sqlx::query_scalar("SELECT pg_try_advisory_xact_lock($1, $2)")
        .bind(store.locks)
        .bind(MARK_LOCK)
        .fetch_one(&mut *tx)
        .await
        .map_err(failed)?;
    if !alone {
        tx.rollback().await.map_err(failed)?;
        return mark(&store.reading).await;
    }
    let (from, to) = next_step(&mut tx).await?;
    if to > from {
        fold(&mut tx, from, to).await?;
    }
    sqlx::query("SELECT make_partitions($1)").bind(DAYS_AHEAD).execute(&mut *tx).await.map_err(failed)?;
    tx.commit().await.map_err(failed)?;
    Ok(EventId(to.max(from)))
}

/// From the mark up to the oldest pending event, the lag, or the length of a step.
async fn next_step(tx: &mut PgConnection) -> Result<(Uuid, Uuid), StoreError> {
    let row = sqlx::query(
        "SELECT mark, id_floor(floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint - $1) FROM fleet",
    )
    .bind(MARK_LAG.as_millis() as i64)
    .fetch_one(&mut *tx)
    .await
    .map_err(failed)?;
    let (from, lag): (Uuid, Uuid) = (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
    let step: Option<Uuid> = sqlx::query_scalar(
        "SELECT event_id FROM events WHERE event_id >= $1 AND event_id < $2 ORDER BY event_id OFFSET $3 LIMIT 1",
    )
    .bind(from)
    .bind(lag)
    .bind(STEP)
    .fetch_optional(&mut *tx)
    .await
    .map_err(failed)?;
    let end = step.unwrap_or(lag);
    let oldest: Option<Uuid> = sqlx::query_scalar(
        "SELECT e.event_id FROM events e WHERE e.event_id >= $1 AND e.event_id < $2
           AND NOT EXISTS (SELECT 1 FROM decisions d
                           WHERE d.event_id = e.event_id AND d.event_id >= $1 AND d.event_id < $2)
         ORDER BY e.event_id LIMIT 1",
    )
    .bind(from)
    .bind(end)
    .fetch_optional(&mut *tx)
    .await
    .map_err(failed)?;
    Ok((from, oldest.unwrap_or(end)))
}

async fn fold(tx: &mut PgConnection, from: Uuid, to: Uuid) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE fleet SET mark = $2,
             accepted = accepted + (SELECT count(*) FROM events WHERE event_id >= $1 AND event_id < $2),
             decided  = decided + (SELECT count(*) FROM decisions
                                   WHERE event_id >= $1 AND event_id < $2 AND outcome <> 3),
             dead     = dead + (SELECT count(*) FROM decisions
                                WHERE event_id >= $1 AND event_id < $2 AND outcome = 3)
         WHERE mark = $1",
    )
    .bind(from)
    .bind(to)
    .execute(tx)
    .await
    .map_err(failed)?;
    Ok(())
}

/// Totals below the mark and counts above it, in one snapshot. `pending` is counted on its own.
pub(super) async fn ledger(pool: &PgPool) -> Result<Ledger, StoreError> {
    let row = sqlx::query(
        "WITH f AS MATERIALIZED (SELECT * FROM fleet)
         SELECT (SELECT accepted FROM f) + (SELECT count(*) FROM events WHERE event_id >= (SELECT mark FROM f)),
                (SELECT decided FROM f)
                    + (SELECT count(*) FROM decisions WHERE event_id >= (SELECT mark FROM f) AND outcome <> 3),
                (SELECT dead FROM f)
                    + (SELECT count(*) FROM decisions WHERE event_id >= (SELECT mark FROM f) AND outcome = 3),
                (SELECT count(*) FROM events e WHERE e.event_id >= (SELECT mark FROM f)
                    AND NOT EXISTS (SELECT 1 FROM decisions d
                                    WHERE d.event_id = e.event_id AND d.event_id >= (SELECT mark FROM f)))",
    )
    .fetch_one(pool)
    .await
    .map_err(failed)?;
    let column = |n: usize| row.try_get::<i64, _>(n).map_err(failed);
    Ok(Ledger { accepted: column(0)?, decided: column(1)?, dead: column(2)?, pending: column(3)? })
}

/// Pending events by partition.
pub(super) async fn backlog(pool: &PgPool) -> Result<Vec<(i16, i64)>, StoreError> {
    let mark = mark(pool).await?;
    let rows = sqlx::query(
        "SELECT e.partition, count(*) FROM events e WHERE e.event_id >= $1
           AND NOT EXISTS (SELECT 1 FROM decisions d WHERE d.event_id = e.event_id AND d.event_id >= $1)
         GROUP BY e.partition",
    )
    .bind(mark.0)
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    rows.iter().map(|r| Ok((r.try_get(0).map_err(failed)?, r.try_get(1).map_err(failed)?))).collect()
}
