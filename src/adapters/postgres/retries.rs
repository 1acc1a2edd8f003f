//! Owns attempt marks and retries: what was begun and has no end.
//!
//! A due time is never taken back; only a disposition ends it, in the transaction that writes it.
//! So the mark W may pass an event that has one (see `mark`).

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgPool, Row};
use uuid::Uuid;

use super::connect::{corrupt, failed};
use super::fence::Seen;
use super::read::{ends, stored_event};
use crate::domain::{EventId, FailureClass, PartitionId, WorkerId};
use crate::ports::store::{
    Begun, BegunRow, Committed, DueRetry, Mark, MarkBatch, NewRetry, RetryBatch, RetryState, StoreError, kept_error,
};

/// The number of a class in the store.
pub(super) fn class_number(class: FailureClass) -> i16 {
    match class {
        FailureClass::ValidationError => 0,
        FailureClass::PolicyViolation => 1,
        FailureClass::HighRisk => 2,
        FailureClass::WorkflowError => 3,
        FailureClass::InfraError => 4,
        FailureClass::UnexpectedError => 5,
    }
}

/// The class with a number.
pub(super) fn class(number: i16) -> Result<FailureClass, StoreError> {
    let class = usize::try_from(number).ok().and_then(|n| FailureClass::ALL.get(n));
    class.copied().ok_or_else(|| corrupt("failure class", number))
}

/// A count of attempts.
pub(super) fn attempts(number: i64) -> Result<u32, StoreError> {
    u32::try_from(number).map_err(|e| corrupt("count of attempts", e))
}

/// Two readings, not a join: a lane's connection would join by reading the whole of `retries`.
async fn begun(tx: &mut PgConnection, ids: &[Uuid]) -> Result<Begun, StoreError> {
    let (first, last) = ends(ids);
    let rows = sqlx::query(
        "SELECT event_id, NULL::bigint, NULL::uuid, false FROM events
         WHERE event_id = ANY($1) AND event_id BETWEEN $2 AND $3
         UNION ALL
         SELECT event_id, attempts, worker_id, due_at IS NOT NULL FROM retries WHERE event_id = ANY($1)",
    )
    .bind(ids)
    .bind(first)
    .bind(last)
    .fetch_all(tx)
    .await
    .map_err(failed)?;
    let mut begun = Begun::default();
    for row in rows {
        let id = EventId(row.try_get(0).map_err(failed)?);
        let Some(count) = row.try_get::<Option<i64>, _>(1).map_err(failed)? else {
            begun.stored.insert(id);
            continue;
        };
        let worker = row.try_get::<Option<Uuid>, _>(2).map_err(failed)?.map(WorkerId);
        let row = BegunRow { attempts: attempts(count)?, worker, waits: row.try_get(3).map_err(failed)? };
        begun.rows.insert(id, row);
    }
    Ok(begun)
}

/// Marks what the fence lets through. The lane is the only one that counts these events, so what it
/// has read is what it counts on.
pub(super) async fn mark(tx: &mut PgConnection, batch: &MarkBatch, seen: &Seen) -> Result<Vec<Mark>, StoreError> {
    let ids: Vec<Uuid> = batch.events.iter().map(|(event, _)| event.0).collect();
    let begun = begun(tx, &ids).await?;
    let mut marks = Vec::with_capacity(batch.events.len());
    let (mut events, mut partitions, mut counts) = (Vec::new(), Vec::new(), Vec::new());
    for (event, partition) in &batch.events {
        let (mark, is_new) = match seen.fate(&batch.epochs, *partition, *event) {
            Committed::Fenced => (Mark::Fenced, false),
            Committed::Duplicate => (Mark::Settled, false),
            Committed::Written => begun.mark(*event, batch),
        };
        if let (Mark::Begun { attempts, .. }, true) = (mark, is_new) {
            events.push(event.0);
            partitions.push(partition.0 as i16);
            counts.push(i64::from(attempts));
        }
        marks.push(mark);
    }
    if !events.is_empty() {
        sqlx::query(
            "INSERT INTO retries (event_id, partition, attempts, worker_id)
             SELECT u.event_id, u.partition, u.attempts, $1
             FROM unnest($2::uuid[], $3::smallint[], $4::bigint[]) AS u (event_id, partition, attempts)
             ON CONFLICT (event_id) DO UPDATE SET attempts = excluded.attempts, worker_id = excluded.worker_id",
        )
        .bind(batch.worker.0)
        .bind(events)
        .bind(partitions)
        .bind(counts)
        .execute(tx)
        .await
        .map_err(failed)?;
    }
    Ok(marks)
}

/// Writes what the fence lets through. An event that is postponed is above the mark W or was passed
/// by it while it waited: no total changes.
pub(super) async fn postpone(
    tx: &mut PgConnection,
    batch: &RetryBatch,
    seen: &Seen,
) -> Result<Vec<Committed>, StoreError> {
    let ids: Vec<Uuid> = batch.items.iter().map(|item| item.event.0).collect();
    let begun = begun(tx, &ids).await?;
    let fate = |item: &NewRetry| match seen.fate(&batch.epochs, item.partition, item.event) {
        Committed::Written if !begun.stored.contains(&item.event) => Committed::Duplicate,
        fate => fate,
    };
    let fates: Vec<Committed> = batch.items.iter().map(fate).collect();
    let kept: Vec<&NewRetry> =
        batch.items.iter().zip(&fates).filter(|(_, f)| **f == Committed::Written).map(|(i, _)| i).collect();
    if kept.is_empty() {
        return Ok(fates);
    }
    sqlx::query(
        "INSERT INTO retries (event_id, partition, attempts, due_at, class, error)
         SELECT u.event_id, u.partition, u.attempts, clock_timestamp() + u.wait * interval '1 millisecond', u.class,
                u.error
         FROM unnest($1::uuid[], $2::smallint[], $3::bigint[], $4::bigint[], $5::smallint[], $6::text[])
             AS u (event_id, partition, attempts, wait, class, error)
         ON CONFLICT (event_id) DO UPDATE SET attempts = GREATEST(retries.attempts, excluded.attempts),
             worker_id = NULL, due_at = excluded.due_at, class = excluded.class, error = excluded.error",
    )
    .bind(kept.iter().map(|i| i.event.0).collect::<Vec<_>>())
    .bind(kept.iter().map(|i| i.partition.0 as i16).collect::<Vec<_>>())
    .bind(kept.iter().map(|i| i64::from(i.attempts)).collect::<Vec<_>>())
    .bind(kept.iter().map(|i| i.wait_ms()).collect::<Vec<_>>())
    .bind(kept.iter().map(|i| class_number(i.class)).collect::<Vec<_>>())
    .bind(kept.iter().map(|i| kept_error(&i.error)).collect::<Vec<_>>())
    .execute(tx)
    .await
    .map_err(failed)?;
    Ok(fates)
}

/// A row of an event that was decided by a program that does not know this table is left out.
/// OFFSET 0 keeps that a probe a row: a join might read the whole history.
pub(super) async fn due(pool: &PgPool, partition: PartitionId, limit: u32) -> Result<Vec<DueRetry>, StoreError> {
    let rows = sqlx::query(
        "SELECT e.event_id, e.tenant_id, e.partition, e.correlation_id, e.body, r.attempts
         FROM retries r JOIN events e ON e.event_id = r.event_id
         WHERE r.partition = $1 AND r.due_at <= clock_timestamp()
           AND NOT EXISTS (SELECT 1 FROM decisions d WHERE d.event_id = r.event_id OFFSET 0)
         ORDER BY r.due_at, r.event_id LIMIT $2",
    )
    .bind(partition.0 as i16)
    .bind(i64::from(limit))
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    rows.iter()
        .map(|row| Ok(DueRetry { event: stored_event(row)?, attempts: attempts(row.try_get(5).map_err(failed)?)? }))
        .collect()
}

/// Columns attempts, due_at, class, error, worker_id from `at` on.
pub(super) fn state(row: &PgRow, at: usize) -> Result<Option<RetryState>, StoreError> {
    let Some(count) = row.try_get(at).map_err(failed)? else { return Ok(None) };
    Ok(Some(RetryState {
        attempts: attempts(count)?,
        due_at: row.try_get(at + 1).map_err(failed)?,
        class: row.try_get::<Option<i16>, _>(at + 2).map_err(failed)?.map(class).transpose()?,
        error: row.try_get(at + 3).map_err(failed)?,
        worker: row.try_get::<Option<Uuid>, _>(at + 4).map_err(failed)?.map(WorkerId),
    }))
}
