//! Owns the outbox rows: written with what they name, taken by one finder at a time, deleted when
//! the broker has confirmed. Never publishes.

use sqlx::SqliteConnection;
use std::time::Duration;
use uuid::Uuid;

use super::db::{Db, Sync, failure};
use super::rows::{get, id_bytes, id_list, ids_from, kind_number, millis};
use crate::domain::EventId;
use crate::ports::store::{OutboxKind, OutboxRow};
use crate::ports::{Clock, StoreError};

/// Writes the row of a batch; none when it names nothing.
pub(super) async fn write(
    conn: &mut SqliteConnection,
    id: Uuid,
    kind: OutboxKind,
    events: &[EventId],
    now: i64,
) -> Result<(), StoreError> {
    if events.is_empty() {
        return Ok(());
    }
    sqlx::query("INSERT INTO outbox (id, kind, touched_at, events) VALUES (?, ?, ?, ?)")
        .bind(id)
        .bind(kind_number(kind))
        .bind(now)
        .bind(id_bytes(events))
        .execute(conn)
        .await
        .map_err(failure)?;
    Ok(())
}

/// A settled row that a power cut brings back is published again: duplicates are absorbed.
pub(super) async fn settle(db: &Db, ids: &[Uuid]) -> Result<(), StoreError> {
    if ids.is_empty() {
        return Ok(());
    }
    let mut tx = db.begin(Sync::Normal).await?;
    sqlx::query("DELETE FROM outbox WHERE id IN (SELECT unhex(value) FROM json_each(?))")
        .bind(id_list(ids.iter().copied()))
        .execute(tx.conn()?)
        .await
        .map_err(failure)?;
    tx.commit().await
}

pub(super) async fn take(
    db: &Db,
    clock: &dyn Clock,
    kind: OutboxKind,
    hold: Duration,
    limit: u32,
) -> Result<Vec<OutboxRow>, StoreError> {
    let hold = i64::try_from(hold.as_millis()).unwrap_or(i64::MAX);
    let written_by = millis(clock.now()).saturating_sub(hold);
    // Asked often, and mostly in vain: look before waiting for the writer's turn.
    let any = sqlx::query("SELECT 1 FROM outbox WHERE kind = ? AND touched_at <= ? LIMIT 1")
        .bind(kind_number(kind))
        .bind(written_by);
    if any.fetch_optional(db.readers()).await.map_err(failure)?.is_none() {
        return Ok(Vec::new());
    }
    let mut tx = db.begin(Sync::Normal).await?;
    let conn = tx.conn()?;
    // The turn may have taken a while, and the hold counts from here.
    let now = millis(clock.now());
    let due = "SELECT id, events FROM outbox WHERE kind = ? AND touched_at <= ? ORDER BY touched_at, rowid LIMIT ?";
    let due = sqlx::query(due).bind(kind_number(kind)).bind(written_by).bind(limit);
    let mut taken = Vec::new();
    for row in due.fetch_all(&mut *conn).await.map_err(failure)? {
        taken.push(OutboxRow { id: get(&row, 0)?, kind, events: ids_from(get(&row, 1)?)? });
    }
    sqlx::query("UPDATE outbox SET touched_at = ? WHERE id IN (SELECT unhex(value) FROM json_each(?))")
        .bind(now)
        .bind(id_list(taken.iter().map(|row| row.id)))
        .execute(conn)
        .await
        .map_err(failure)?;
    tx.commit().await?;
    Ok(taken)
}

pub(super) async fn unpublished(db: &Db) -> Result<u64, StoreError> {
    let sum = "SELECT coalesce(sum(length(events)), 0) / 16 FROM outbox WHERE kind = ?";
    let row = sqlx::query(sum).bind(kind_number(OutboxKind::Accept)).fetch_one(db.readers()).await.map_err(failure)?;
    Ok(u64::try_from(get::<i64>(&row, 0)?).unwrap_or(0))
}

/// The kinds of the rows that name an event.
pub(super) async fn naming(conn: &mut SqliteConnection, event: EventId) -> Result<Vec<OutboxKind>, StoreError> {
    let rows = sqlx::query("SELECT kind, events FROM outbox WHERE instr(events, ?) > 0 ORDER BY kind")
        .bind(event.0)
        .fetch_all(conn)
        .await
        .map_err(failure)?;
    let mut kinds = Vec::new();
    for row in rows {
        // The bytes of two neighbours may look like the id.
        if ids_from(get(&row, 1)?)?.contains(&event) {
            let accept = get::<i64>(&row, 0)? == kind_number(OutboxKind::Accept);
            kinds.push(if accept { OutboxKind::Accept } else { OutboxKind::Outcome });
        }
    }
    Ok(kinds)
}
