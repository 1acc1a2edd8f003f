//! Owns attempt marks and retries: what was begun and has no end. A due time is never taken back;
//! only a disposition ends it.

use sqlx::{AssertSqlSafe, SqliteConnection};

use super::commit::{ended, fate, held_epochs};
use super::db::{Db, Sync, failure};
use super::rows::{self, EVENT, event_id, get, id_list, number, numbered, stored_event};
use crate::domain::{EventId, FailureClass, PartitionId, WorkerId};
use crate::ports::StoreError;
use crate::ports::store::{
    Begun, BegunRow, Committed, DueRetry, Mark, MarkBatch, NewRetry, RetryBatch, RetryState, kept_error,
};

async fn begun(conn: &mut SqliteConnection, ids: impl Iterator<Item = EventId>) -> Result<Begun, StoreError> {
    let sql = "SELECT e.id, r.attempts, r.worker, r.due_at IS NOT NULL FROM events e
               LEFT JOIN retries r ON r.event = e.id WHERE e.id IN (SELECT unhex(value) FROM json_each(?))";
    let list = id_list(ids.map(|id| id.0));
    let mut begun = Begun::default();
    for row in sqlx::query(sql).bind(list).fetch_all(conn).await.map_err(failure)? {
        let id = event_id(&row, 0)?;
        begun.stored.insert(id);
        if let Some(attempts) = get(&row, 1)? {
            let worker = get::<Option<uuid::Uuid>>(&row, 2)?.map(WorkerId);
            begun.rows.insert(id, BegunRow { attempts, worker, waits: get(&row, 3)? });
        }
    }
    Ok(begun)
}

pub(super) async fn mark(db: &Db, batch: &MarkBatch) -> Result<Vec<Mark>, StoreError> {
    let ids = || batch.events.iter().map(|(event, _)| *event);
    let mut tx = db.begin(Sync::Full).await?;
    let conn = tx.conn()?;
    let held = held_epochs(conn, &batch.epochs).await?;
    let ended = ended(conn, ids()).await?;
    let begun = begun(conn, ids()).await?;
    let (mut marks, mut fresh) = (Vec::with_capacity(batch.events.len()), Vec::new());
    for (event, partition) in &batch.events {
        let (mark, is_new) = match fate(&held, &ended, *partition, *event) {
            Committed::Fenced => (Mark::Fenced, false),
            Committed::Duplicate => (Mark::Settled, false),
            Committed::Written => begun.mark(*event, batch),
        };
        if let (Mark::Begun { attempts, .. }, true) = (mark, is_new) {
            fresh.push((*event, *partition, attempts));
        }
        marks.push(mark);
    }
    let upsert = "INSERT INTO retries (event, partition, attempts, worker) VALUES (?, ?, ?, ?)
                  ON CONFLICT (event) DO UPDATE SET attempts = excluded.attempts, worker = excluded.worker";
    for (event, partition, attempts) in fresh {
        let statement = sqlx::query(upsert).bind(event.0).bind(partition.0).bind(attempts).bind(batch.worker.0);
        statement.execute(&mut *conn).await.map_err(failure)?;
    }
    tx.commit().await?;
    Ok(marks)
}

/// An event that is postponed is above the mark W or was passed by it while it waited: no total
/// changes.
pub(super) async fn postpone(db: &Db, batch: &RetryBatch, now: i64) -> Result<Vec<Committed>, StoreError> {
    let ids = || batch.items.iter().map(|item| item.event);
    let mut tx = db.begin(Sync::Full).await?;
    let conn = tx.conn()?;
    let held = held_epochs(conn, &batch.epochs).await?;
    let ended = ended(conn, ids()).await?;
    let begun = begun(conn, ids()).await?;
    let fate = |item: &NewRetry| match fate(&held, &ended, item.partition, item.event) {
        Committed::Written if !begun.stored.contains(&item.event) => Committed::Duplicate,
        fate => fate,
    };
    let fates: Vec<Committed> = batch.items.iter().map(fate).collect();
    let upsert = "INSERT INTO retries (event, partition, attempts, due_at, class, error) VALUES (?, ?, ?, ?, ?, ?)
                  ON CONFLICT (event) DO UPDATE SET attempts = max(attempts, excluded.attempts), worker = NULL,
                      due_at = excluded.due_at, class = excluded.class, error = excluded.error";
    for (item, _) in batch.items.iter().zip(&fates).filter(|(_, fate)| **fate == Committed::Written) {
        sqlx::query(upsert)
            .bind(item.event.0)
            .bind(item.partition.0)
            .bind(item.attempts)
            .bind(now + item.wait_ms())
            .bind(number(&FailureClass::ALL, &item.class))
            .bind(kept_error(&item.error))
            .execute(&mut *conn)
            .await
            .map_err(failure)?;
    }
    tx.commit().await?;
    Ok(fates)
}

/// A row of an event that was decided by a program that does not know this table is left out.
pub(super) async fn due(db: &Db, partition: PartitionId, limit: u32, now: i64) -> Result<Vec<DueRetry>, StoreError> {
    let sql = format!(
        "SELECT {EVENT}, r.attempts FROM retries r CROSS JOIN events e ON e.id = r.event
         WHERE r.partition = ? AND r.due_at <= ?
           AND NOT EXISTS (SELECT 1 FROM decisions d WHERE d.event = r.event)
         ORDER BY r.due_at, r.event LIMIT ?"
    );
    let asked = sqlx::query(AssertSqlSafe(sql)).bind(partition.0).bind(now).bind(limit);
    let read = |row| Ok(DueRetry { event: stored_event(row)?, attempts: get(row, 5)? });
    asked.fetch_all(db.readers()).await.map_err(failure)?.iter().map(read).collect()
}

/// What is kept of one event.
pub(super) async fn state(conn: &mut SqliteConnection, id: EventId) -> Result<Option<RetryState>, StoreError> {
    let sql = "SELECT attempts, due_at, class, error, worker FROM retries WHERE event = ?";
    let row = sqlx::query(sql).bind(id.0).fetch_optional(conn).await.map_err(failure)?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(RetryState {
        attempts: get(&row, 0)?,
        due_at: get::<Option<i64>>(&row, 1)?.map(rows::from_millis),
        class: get::<Option<i64>>(&row, 2)?.map(|class| numbered(&FailureClass::ALL, class)).transpose()?,
        error: get(&row, 3)?,
        worker: get::<Option<uuid::Uuid>>(&row, 4)?.map(WorkerId),
    }))
}
