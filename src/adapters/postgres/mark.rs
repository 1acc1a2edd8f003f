//! Owns the mark W, what is pending, and the ledger.
//!
//! W passes an event that waits for a next try: it is durable and belongs to its row in `retries`,
//! and an hour of retries must not hold W, since every scan above it would grow. Such an event is
//! in neither total; the commit that ends it below W adds to them. Every event is then counted
//! exactly once, because whoever changes what a step of W may count holds [`MARK_LOCK`]:
//!
//! - A step holds it exclusively over all its statements. An event that it passes had a disposition
//!   or a due time in the statement that looked for the oldest pending one. A due time ends only by
//!   a disposition, and a commit that writes one takes the lock shared, once it has deleted the row
//!   and before it ends, and reads the mark in the NEXT statement. So either the commit is over
//!   before the step begins, and the step counts the disposition; or it waits for the step's end,
//!   sees the event below the mark, and adds to the totals itself.
//! - A commit on an event that never waited need not lock: W stops at such an event.
//! - A dead letter that is replayed loses its disposition: that takes the lock exclusively, and the
//!   total of the dead with it where W has passed.
//!
//! The ledger reads all of it in one statement, and so one snapshot.
//!
//! Of the movers of W the others go home ([`MOVER_LOCK`]); the one that moves waits for
//! [`MARK_LOCK`], or a stream of retried events would keep it away for ever.

use sqlx::{Connection, PgConnection, PgPool, Row};
use std::collections::HashSet;
use uuid::Uuid;

use super::connect::{MARK_LOCK, MOVER_LOCK, failed};
use super::migrate::DAYS_AHEAD;
use super::read::stored_event;
use super::store::PostgresStore;
use crate::domain::time::from_millis;
use crate::domain::{EventId, PartitionId};
use crate::ports::store::{Backlog, Disposition, Ledger, MARK_LAG, NewDisposition, StoreError, StoredEvent};

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
           AND NOT EXISTS (SELECT 1 FROM retries r WHERE r.event_id = e.event_id AND r.due_at IS NOT NULL)
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
        .bind(MOVER_LOCK)
        .fetch_one(&mut *tx)
        .await
        .map_err(failed)?;
    if !alone {
        tx.rollback().await.map_err(failed)?;
        return mark(&store.reading).await;
    }
    lock(&mut tx, store.locks).await?;
    let (from, to) = next_step(&mut tx).await?;
    if to > from {
        fold(&mut tx, from, to).await?;
    }
    tx.commit().await.map_err(failed)?;
    // A transaction of its own: a new time partition locks the DEFAULT one, which a commit that
    // waits for the mark's lock may hold.
    sqlx::query("SELECT keep_partitions($1) WHERE pg_try_advisory_xact_lock($2, $3)")
        .bind(DAYS_AHEAD)
        .bind(store.locks)
        .bind(MOVER_LOCK)
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    Ok(EventId(to.max(from)))
}

/// Takes [`MARK_LOCK`] for oneself, up to the transaction's end.
pub(super) async fn lock(tx: &mut PgConnection, locks: i32) -> Result<(), StoreError> {
    sqlx::query("SELECT pg_advisory_xact_lock($1, $2)")
        .bind(locks)
        .bind(MARK_LOCK)
        .execute(tx)
        .await
        .map_err(failed)?;
    Ok(())
}

/// Adds to the totals those of the written dispositions whose event had waited for a next try and
/// was passed by the mark meanwhile.
pub(super) async fn count_late(
    tx: &mut PgConnection,
    locks: i32,
    waited: &HashSet<Uuid>,
    written: &[&NewDisposition],
) -> Result<(), StoreError> {
    if waited.is_empty() {
        return Ok(());
    }
    sqlx::query("SELECT pg_advisory_xact_lock_shared($1, $2)")
        .bind(locks)
        .bind(MARK_LOCK)
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
    let late = written.iter().filter(|item| waited.contains(&item.event.0));
    let (dead, decided): (Vec<&NewDisposition>, Vec<&NewDisposition>) =
        late.partition(|item| matches!(item.disposition, Disposition::Dead { .. }));
    let ids = |items: Vec<&NewDisposition>| items.iter().map(|item| item.event.0).collect::<Vec<Uuid>>();
    sqlx::query(
        "UPDATE fleet SET decided = decided + (SELECT count(*) FROM unnest($1::uuid[]) AS u (id) WHERE u.id < mark),
             dead = dead + (SELECT count(*) FROM unnest($2::uuid[]) AS u (id) WHERE u.id < mark)
         WHERE mark > $3",
    )
    .bind(ids(decided))
    .bind(ids(dead))
    .bind(waited.iter().min().copied().unwrap_or_default())
    .execute(tx)
    .await
    .map_err(failed)?;
    Ok(())
}

/// From the mark up to the oldest event that holds it, the lag, or the length of a step.
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
           AND NOT EXISTS (SELECT 1 FROM retries r WHERE r.event_id = e.event_id AND r.due_at IS NOT NULL)
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
/// OFFSET 0 keeps the look below the mark a probe a retry: a join might read the whole history.
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
                                    WHERE d.event_id = e.event_id AND d.event_id >= (SELECT mark FROM f)))
                    + (SELECT count(*) FROM retries r WHERE r.event_id < (SELECT mark FROM f)
                           AND r.due_at IS NOT NULL
                           AND NOT EXISTS (SELECT 1 FROM decisions d WHERE d.event_id = r.event_id OFFSET 0))",
    )
    .fetch_one(pool)
    .await
    .map_err(failed)?;
    let column = |n: usize| row.try_get::<i64, _>(n).map_err(failed);
    Ok(Ledger { accepted: column(0)?, decided: column(1)?, dead: column(2)?, pending: column(3)? })
}

/// What waits, and how much of it nobody could do anything for yet. As in [`ledger`], of which its sum
/// is the `pending`.
pub(super) async fn waiting(pool: &PgPool) -> Result<Backlog, StoreError> {
    let mark = mark(pool).await?;
    let row = sqlx::query(
        "SELECT count(*), count(*) FILTER (WHERE p.postponed),
                min(p.event_id::text) FILTER (WHERE NOT p.postponed)
         FROM (SELECT e.event_id, EXISTS (SELECT 1 FROM retries r WHERE r.event_id = e.event_id
                                            AND r.due_at > clock_timestamp()) AS postponed
               FROM events e WHERE e.event_id >= $1
                 AND NOT EXISTS (SELECT 1 FROM decisions d WHERE d.event_id = e.event_id AND d.event_id >= $1)
               UNION ALL
               SELECT r.event_id, r.due_at > clock_timestamp() FROM retries r
               WHERE r.event_id < $1 AND r.due_at IS NOT NULL
                 AND NOT EXISTS (SELECT 1 FROM decisions d WHERE d.event_id = r.event_id OFFSET 0)) p",
    )
    .bind(mark.0)
    .fetch_one(pool)
    .await
    .map_err(failed)?;
    let count = |n: usize| row.try_get::<i64, _>(n).map(i64::unsigned_abs).map_err(failed);
    let oldest: Option<String> = row.try_get(2).map_err(failed)?;
    let oldest = oldest.and_then(|id| EventId::parse(&id).ok());
    Ok(Backlog { events: count(0)?, postponed: count(1)?, oldest: oldest.map(|id| from_millis(id.millis())) })
}

/// Pending events by partition: those above the mark, and those below it that wait for a next try.
pub(super) async fn backlog(pool: &PgPool) -> Result<Vec<(i16, i64)>, StoreError> {
    let mark = mark(pool).await?;
    let rows = sqlx::query(
        "SELECT p.partition, count(*) FROM (
             SELECT e.partition FROM events e WHERE e.event_id >= $1
               AND NOT EXISTS (SELECT 1 FROM decisions d WHERE d.event_id = e.event_id AND d.event_id >= $1)
             UNION ALL
             SELECT r.partition FROM retries r WHERE r.event_id < $1 AND r.due_at IS NOT NULL
               AND NOT EXISTS (SELECT 1 FROM decisions d WHERE d.event_id = r.event_id OFFSET 0)) p
         GROUP BY p.partition",
    )
    .bind(mark.0)
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    rows.iter().map(|r| Ok((r.try_get(0).map_err(failed)?, r.try_get(1).map_err(failed)?))).collect()
}
