//! Owns the mark and the ledger. Never counts pending events as a remainder.

use super::db::{Db, Sync, failure};
use super::rows::{event_id, get};
use crate::domain::EventId;
use crate::ports::StoreError;
use crate::ports::store::{Ledger, MARK_LAG};
use sqlx::SqliteConnection;

/// Events folded into the totals by one step at most.
const STEP_MAX: i64 = 50_000;

pub(super) async fn mark(db: &Db) -> Result<EventId, StoreError> {
    let row = sqlx::query("SELECT mark FROM fleet").fetch_one(db.readers()).await.map_err(failure)?;
    event_id(&row, 0)
}

/// Counts on a reader, so that nobody's accept waits for it: below the lag nothing is added, a
/// disposition never goes away, and so what a snapshot finds ended stays so.
pub(super) async fn advance(db: &Db, now_ms: u64) -> Result<EventId, StoreError> {
    let lag = u64::try_from(MARK_LAG.as_millis()).unwrap_or(u64::MAX);
    let mut tx = db.readers().begin().await.map_err(failure)?;
    let row = sqlx::query("SELECT mark FROM fleet").fetch_one(&mut *tx).await.map_err(failure)?;
    let from = event_id(&row, 0)?;
    let ceiling = EventId::floor(now_ms.saturating_sub(lag));
    if ceiling <= from {
        return Ok(from);
    }
    let step = step(&mut tx, from, ceiling).await?;
    tx.rollback().await.map_err(failure)?;
    if step.to == from { Ok(from) } else { fold(db, from, step).await }
}

struct Step {
    to: EventId,
    accepted: i64,
    decided: i64,
    dead: i64,
}

async fn step(conn: &mut SqliteConnection, from: EventId, ceiling: EventId) -> Result<Step, StoreError> {
    let mut to = ceiling;
    let bounds = [
        ("SELECT id FROM events WHERE id >= ? AND id < ? ORDER BY id LIMIT 1 OFFSET ?", STEP_MAX),
        // The oldest event without a disposition.
        (
            "SELECT e.id FROM events e WHERE e.id >= ? AND e.id < ?
             AND NOT EXISTS (SELECT 1 FROM decisions d WHERE d.event = e.id) ORDER BY e.id LIMIT 1 OFFSET ?",
            0,
        ),
    ];
    for (bound, skip) in bounds {
        let found = sqlx::query(bound).bind(from.0).bind(to.0).bind(skip).fetch_optional(&mut *conn).await;
        if let Some(row) = found.map_err(failure)? {
            to = event_id(&row, 0)?;
        }
    }
    let count = "SELECT count(*), count(d.outcome), count(d.class) FROM events e
                 LEFT JOIN decisions d ON d.event = e.id WHERE e.id >= ? AND e.id < ?";
    let row = sqlx::query(count).bind(from.0).bind(to.0).fetch_one(conn).await.map_err(failure)?;
    Ok(Step { to, accepted: get(&row, 0)?, decided: get(&row, 1)?, dead: get(&row, 2)? })
}

async fn fold(db: &Db, from: EventId, step: Step) -> Result<EventId, StoreError> {
    let mut tx = db.begin(Sync::Normal).await?;
    let moved = "UPDATE fleet SET mark = ?, accepted = accepted + ?, decided = decided + ?, dead = dead + ?
                 WHERE mark = ?";
    let moved = sqlx::query(moved)
        .bind(step.to.0)
        .bind(step.accepted)
        .bind(step.decided)
        .bind(step.dead)
        .bind(from.0)
        .execute(tx.conn()?)
        .await
        .map_err(failure)?;
    tx.commit().await?;
    // Somebody else moved it meanwhile: theirs counts.
    if moved.rows_affected() == 1 { Ok(step.to) } else { mark(db).await }
}

pub(super) async fn ledger(db: &Db) -> Result<Ledger, StoreError> {
    let mut conn = db.readers().acquire().await.map_err(failure)?;
    read(&mut conn).await
}

/// The totals below the mark and exact counts above it, by one statement: one snapshot.
pub(super) async fn read(conn: &mut SqliteConnection) -> Result<Ledger, StoreError> {
    let sql = "SELECT
        f.accepted + (SELECT count(*) FROM events WHERE id >= f.mark),
        f.decided + (SELECT count(outcome) FROM decisions WHERE event >= f.mark),
        f.dead + (SELECT count(class) FROM decisions WHERE event >= f.mark),
        (SELECT count(*) FROM events e WHERE e.id >= f.mark
            AND NOT EXISTS (SELECT 1 FROM decisions d WHERE d.event = e.id AND d.event >= f.mark))
        FROM fleet f";
    let row = sqlx::query(sql).fetch_one(conn).await.map_err(failure)?;
    Ok(Ledger { accepted: get(&row, 0)?, decided: get(&row, 1)?, dead: get(&row, 2)?, pending: get(&row, 3)? })
}
