//! Owns the mark and the ledger. Never counts pending events as a remainder.

use super::Inner;
use super::db::{Db, Sync, failure};
use super::rows::{event_id, get, id_list, millis};
use crate::domain::EventId;
use crate::domain::time::from_millis;
use crate::ports::StoreError;
use crate::ports::store::{Backlog, Disposition, Ledger, MARK_LAG, NewDisposition};
use sqlx::SqliteConnection;
use std::collections::HashSet;

/// Events folded into the totals by one step at most.
const STEP_MAX: i64 = 50_000;

pub(super) async fn mark(db: &Db) -> Result<EventId, StoreError> {
    let row = sqlx::query("SELECT mark FROM fleet").fetch_one(db.readers()).await.map_err(failure)?;
    event_id(&row, 0)
}

/// Counts on a reader, so that nobody's accept waits for it: below the lag nothing is added, and a
/// disposition that a snapshot finds stays, save that of a dead letter that is replayed; and the end
/// of an event that the step passes because it waits for a next try may come meanwhile. Both are
/// counted in `upsets`: when it has moved, the step is counted again by the writer.
pub(super) async fn advance(db: &Db, now_ms: u64) -> Result<EventId, StoreError> {
    let lag = u64::try_from(MARK_LAG.as_millis()).unwrap_or(u64::MAX);
    let mut tx = db.readers().begin().await.map_err(failure)?;
    let row = sqlx::query("SELECT mark, upsets FROM fleet").fetch_one(&mut *tx).await.map_err(failure)?;
    let (from, upsets) = (event_id(&row, 0)?, get(&row, 1)?);
    let ceiling = EventId::floor(now_ms.saturating_sub(lag));
    if ceiling <= from {
        return Ok(from);
    }
    let counted = step(&mut tx, from, ceiling).await?;
    tx.rollback().await.map_err(failure)?;
    if counted.to == from { Ok(from) } else { fold(db, Moving { from, upsets, ceiling }, counted).await }
}

/// A step of the mark under way.
struct Moving {
    from: EventId,
    upsets: i64,
    ceiling: EventId,
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
        // The oldest event without a disposition that does not wait for a next try.
        (
            "SELECT e.id FROM events e WHERE e.id >= ? AND e.id < ?
             AND NOT EXISTS (SELECT 1 FROM decisions d WHERE d.event = e.id)
             AND NOT EXISTS (SELECT 1 FROM retries r WHERE r.event = e.id AND r.due_at IS NOT NULL)
             ORDER BY e.id LIMIT 1 OFFSET ?",
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

async fn fold(db: &Db, moving: Moving, mut counted: Step) -> Result<EventId, StoreError> {
    let mut tx = db.begin(Sync::Normal).await?;
    let conn = tx.conn()?;
    let row = sqlx::query("SELECT mark, upsets FROM fleet").fetch_one(&mut *conn).await.map_err(failure)?;
    let (mark, upsets): (EventId, i64) = (event_id(&row, 0)?, get(&row, 1)?);
    if mark != moving.from {
        // Somebody else moved it meanwhile: theirs counts.
        tx.commit().await?;
        return Ok(mark);
    }
    if upsets != moving.upsets {
        counted = step(conn, moving.from, moving.ceiling).await?;
    }
    sqlx::query("UPDATE fleet SET mark = ?, accepted = accepted + ?, decided = decided + ?, dead = dead + ?")
        .bind(counted.to.0)
        .bind(counted.accepted)
        .bind(counted.decided)
        .bind(counted.dead)
        .execute(conn)
        .await
        .map_err(failure)?;
    tx.commit().await?;
    Ok(counted.to)
}

/// Deletes the marks and retries of events that have got their disposition. Where the mark had
/// passed one, which it does only while it waits for a next try, its end goes into the totals.
pub(super) async fn end_retries<'a>(
    conn: &mut SqliteConnection,
    ended: impl Iterator<Item = &'a NewDisposition> + Clone,
) -> Result<(), StoreError> {
    let gone = "DELETE FROM retries WHERE event IN (SELECT unhex(value) FROM json_each(?)) RETURNING event, due_at";
    let list = id_list(ended.clone().map(|item| item.event.0));
    let gone = sqlx::query(gone).bind(list).fetch_all(&mut *conn).await.map_err(failure)?;
    let mut waited = HashSet::new();
    for row in &gone {
        if get::<Option<i64>>(row, 1)?.is_some() {
            waited.insert(event_id(row, 0)?);
        }
    }
    if waited.is_empty() {
        return Ok(());
    }
    let row = sqlx::query("UPDATE fleet SET upsets = upsets + 1 RETURNING mark").fetch_one(&mut *conn).await;
    let mark = event_id(&row.map_err(failure)?, 0)?;
    let late = ended.filter(|item| item.event < mark && waited.contains(&item.event));
    let (dead, decided): (Vec<_>, Vec<_>) = late.partition(|item| matches!(item.disposition, Disposition::Dead { .. }));
    sqlx::query("UPDATE fleet SET decided = decided + ?, dead = dead + ?")
        .bind(decided.len() as i64)
        .bind(dead.len() as i64)
        .execute(conn)
        .await
        .map_err(failure)?;
    Ok(())
}

/// Takes a death that was undone out of the totals, where the mark has passed it.
pub(super) async fn reopened(conn: &mut SqliteConnection, id: EventId) -> Result<(), StoreError> {
    sqlx::query("UPDATE fleet SET upsets = upsets + 1, dead = dead - (mark > ?)")
        .bind(id.0)
        .execute(conn)
        .await
        .map_err(failure)?;
    Ok(())
}

/// What waits. A time that an id holds is as good as the one it was minted by.
pub(super) async fn backlog(inner: &Inner) -> Result<Backlog, StoreError> {
    let sql = "SELECT count(*), count(*) FILTER (WHERE p.postponed), min(p.id) FILTER (WHERE NOT p.postponed)
        FROM (SELECT e.id, EXISTS (SELECT 1 FROM retries r WHERE r.event = e.id AND r.due_at > ?1) AS postponed
              FROM events e WHERE e.id >= (SELECT mark FROM fleet)
                AND NOT EXISTS (SELECT 1 FROM decisions d WHERE d.event = e.id)
              UNION ALL
              SELECT r.event, r.due_at > ?1 FROM retries r
              WHERE r.event < (SELECT mark FROM fleet) AND r.due_at IS NOT NULL
                AND NOT EXISTS (SELECT 1 FROM decisions d WHERE d.event = r.event)) p";
    let row = sqlx::query(sql).bind(millis(inner.clock.now())).fetch_one(inner.db.readers()).await.map_err(failure)?;
    let count = |n: usize| get::<i64>(&row, n).map(i64::unsigned_abs);
    let oldest = get::<Option<uuid::Uuid>>(&row, 2)?.map(|id| from_millis(EventId(id).millis()));
    Ok(Backlog { events: count(0)?, postponed: count(1)?, oldest })
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
            + (SELECT count(*) FROM retries r WHERE r.event < f.mark AND r.due_at IS NOT NULL
            AND NOT EXISTS (SELECT 1 FROM decisions d WHERE d.event = r.event))
        FROM fleet f";
    let row = sqlx::query(sql).fetch_one(conn).await.map_err(failure)?;
    Ok(Ledger { accepted: get(&row, 0)?, decided: get(&row, 1)?, dead: get(&row, 2)?, pending: get(&row, 3)? })
}
