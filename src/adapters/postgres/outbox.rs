//! Owns the outbox and what the inbox could not take.

use sqlx::{PgConnection, PgPool, Row};
use std::time::Duration;
use uuid::Uuid;

use super::connect::failed;
use crate::domain::EventId;
use crate::ports::store::{OutboxKind, OutboxRow, StoreError};

/// The largest part of a rejected message that is kept, in bytes.
const REJECTED_BODY_MAX: usize = 64 * 1024;

fn number(kind: OutboxKind) -> i16 {
    match kind {
        OutboxKind::Accept => 0,
        OutboxKind::Outcome => 1,
    }
}

pub(super) async fn settle(pool: &PgPool, rows: &[Uuid]) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query("DELETE FROM outbox WHERE id = ANY($1)").bind(rows).execute(pool).await.map_err(failed)?;
    Ok(())
}

pub(super) async fn take(
    pool: &PgPool,
    kind: OutboxKind,
    hold: Duration,
    limit: u32,
) -> Result<Vec<OutboxRow>, StoreError> {
    let rows = sqlx::query(
        "UPDATE outbox SET touched_at = clock_timestamp() WHERE id IN (
             SELECT id FROM outbox
             WHERE kind = $1 AND touched_at <= clock_timestamp() - $2 * interval '1 millisecond'
             ORDER BY touched_at LIMIT $3 FOR UPDATE SKIP LOCKED)
         RETURNING id, events",
    )
    .bind(number(kind))
    .bind(hold.as_millis() as i64)
    .bind(i64::from(limit))
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    rows.iter()
        .map(|row| {
            let events: Vec<Uuid> = row.try_get(1).map_err(failed)?;
            let id = row.try_get(0).map_err(failed)?;
            Ok(OutboxRow { id, kind, events: events.into_iter().map(EventId).collect() })
        })
        .collect()
}

pub(super) async fn unpublished(pool: &PgPool) -> Result<u64, StoreError> {
    let sum: i64 = sqlx::query_scalar("SELECT coalesce(sum(n), 0)::bigint FROM outbox WHERE kind = 0")
        .fetch_one(pool)
        .await
        .map_err(failed)?;
    Ok(sum.unsigned_abs())
}

/// The kinds of rows that still name an event. The table is small: it holds what is in flight.
/// Read by a function: a tenant's caller has no right on the ids of everybody.
pub(super) async fn naming(connection: &mut PgConnection, event: EventId) -> Result<Vec<OutboxKind>, StoreError> {
    let kinds: Vec<i16> =
        sqlx::query_scalar("SELECT outbox_kinds($1)").bind(event.0).fetch_all(connection).await.map_err(failed)?;
    Ok(kinds.into_iter().map(|k| if k == 0 { OutboxKind::Accept } else { OutboxKind::Outcome }).collect())
}

pub(super) async fn keep_rejected(pool: &PgPool, id: Uuid, reason: &str, body: &[u8]) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO inbox_rejected (id, reason, body) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING")
        .bind(id)
        .bind(reason.replace('\0', "\u{fffd}"))
        .bind(&body[..body.len().min(REJECTED_BODY_MAX)])
        .execute(pool)
        .await
        .map_err(failed)?;
    Ok(())
}
