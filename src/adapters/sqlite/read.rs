//! Owns the reading back of events and their ends. Never writes.

use sqlx::{AssertSqlSafe, SqliteConnection};

use super::db::{Db, failure};
use super::rows::{self, EVENT, STANDING, event_id, get, id_list, moment, numbered, parsed, stored_event, tenant};
use super::{Bytes, approvals, dead, outbox, retries};
use crate::domain::cost::{Charge, Micros};
use crate::domain::{CorrelationId, Epoch, EventId, FailureClass, Outcome, PartitionId, Scope, TenantId, WorkerId};
use crate::ports::StoreError;
use crate::ports::store::{Disposition, End, EventFilter, EventRecord, EventSummary, StoredEvent};

/// What makes an event `e` one without a disposition.
const NO_END: &str = "NOT EXISTS (SELECT 1 FROM decisions d WHERE d.event = e.id)";

pub(super) async fn events(db: &Db, ids: &[EventId], only_pending: bool) -> Result<Vec<StoredEvent>, StoreError> {
    let only = if only_pending { NO_END } else { "true" };
    let sql = format!("SELECT {EVENT} FROM events e WHERE e.id IN (SELECT unhex(value) FROM json_each(?)) AND {only}");
    let asked = sqlx::query(AssertSqlSafe(sql)).bind(id_list(ids.iter().map(|id| id.0)));
    asked.fetch_all(db.readers()).await.map_err(failure)?.iter().map(stored_event).collect()
}

pub(super) async fn decisions(db: &Db, ids: &[EventId]) -> Result<Vec<(EventId, TenantId, Bytes)>, StoreError> {
    let sql = "SELECT d.event, e.tenant, d.body FROM decisions d JOIN events e ON e.id = d.event
               WHERE d.event IN (SELECT unhex(value) FROM json_each(?)) AND d.outcome IS NOT NULL";
    let asked = sqlx::query(sql).bind(id_list(ids.iter().map(|id| id.0)));
    let read = |row| Ok((event_id(row, 0)?, tenant(row, 1)?, get::<Vec<u8>>(row, 2)?.into()));
    asked.fetch_all(db.readers()).await.map_err(failure)?.iter().map(read).collect()
}

pub(super) async fn pending_page(
    db: &Db,
    partition: PartitionId,
    after: Option<EventId>,
    before: EventId,
    limit: u32,
) -> Result<Vec<StoredEvent>, StoreError> {
    // Only the events above the mark are walked, by id; the sign keeps the planner from an index
    // that would have to be sorted.
    let sql = format!(
        "SELECT {EVENT} FROM events e
         WHERE e.id >= (SELECT mark FROM fleet) AND e.id > ? AND e.id < ? AND +e.partition = ? AND {NO_END}
           AND NOT EXISTS (SELECT 1 FROM retries r WHERE r.event = e.id AND r.due_at IS NOT NULL)
         ORDER BY e.id LIMIT ?"
    );
    let asked = sqlx::query(AssertSqlSafe(sql))
        .bind(after.unwrap_or(EventId::floor(0)).0)
        .bind(before.0)
        .bind(partition.0)
        .bind(limit);
    asked.fetch_all(db.readers()).await.map_err(failure)?.iter().map(stored_event).collect()
}

pub(super) async fn events_since(db: &Db, since: EventId, limit: u32) -> Result<Vec<StoredEvent>, StoreError> {
    let sql = format!("SELECT {EVENT} FROM events e WHERE e.id >= ? ORDER BY e.id LIMIT ?");
    let asked = sqlx::query(AssertSqlSafe(sql)).bind(since.0).bind(limit);
    asked.fetch_all(db.readers()).await.map_err(failure)?.iter().map(stored_event).collect()
}

pub(super) async fn event(db: &Db, scope: &Scope, id: EventId) -> Result<Option<EventRecord>, StoreError> {
    // One snapshot for all of it.
    let mut tx = db.readers().begin().await.map_err(failure)?;
    let sql = format!("SELECT {EVENT} FROM events e WHERE e.id = ?1 AND (?2 IS NULL OR e.tenant = ?2)");
    let asked = sqlx::query(AssertSqlSafe(sql)).bind(id.0).bind(scope.tenant().map(TenantId::as_str));
    let row = asked.fetch_optional(&mut *tx).await.map_err(failure)?;
    let Some(row) = row else { return Ok(None) };
    let record = EventRecord {
        event: stored_event(&row)?,
        end: end(&mut tx, id).await?,
        approval: approvals::of_event(&mut tx, id).await?,
        unpublished: outbox::naming(&mut tx, id).await?,
        retry: retries::state(&mut tx, id).await?,
        past: dead::history(&mut tx, id).await?,
    };
    tx.rollback().await.map_err(failure)?;
    Ok(Some(record))
}

async fn end(conn: &mut SqliteConnection, id: EventId) -> Result<Option<End>, StoreError> {
    let sql = "SELECT outcome, class, attempts, timings, body, at, worker, epoch, tokens, cost_micros
               FROM decisions WHERE event = ?";
    let row = sqlx::query(sql).bind(id.0).fetch_optional(conn).await.map_err(failure)?;
    let Some(row) = row else { return Ok(None) };
    let body: Vec<u8> = get(&row, 4)?;
    let disposition = match (get::<Option<i64>>(&row, 0)?, get::<Option<i64>>(&row, 1)?) {
        (Some(outcome), None) => Disposition::Decided {
            outcome: numbered(&Outcome::ALL, outcome)?,
            decision: body.into(),
            timings: timings(get(&row, 3)?),
            charge: Charge {
                tokens: get::<Option<u32>>(&row, 8)?.unwrap_or(0),
                cost: Micros::new(get::<Option<i64>>(&row, 9)?.unwrap_or(0)),
            },
        },
        (None, Some(class)) => Disposition::Dead {
            class: numbered(&FailureClass::ALL, class)?,
            error: String::from_utf8(body).map_err(rows::unreadable)?,
            attempts: get(&row, 2)?,
        },
        _ => return Err(rows::unreadable(format!("the disposition of {id} is of no kind"))),
    };
    let (worker, epoch) = (WorkerId(get(&row, 6)?), Epoch(get(&row, 7)?));
    Ok(Some(End { disposition, at: moment(&row, 5)?, worker, epoch }))
}

fn timings(bytes: &[u8]) -> Vec<u32> {
    bytes.as_chunks::<4>().0.iter().map(|micros| u32::from_le_bytes(*micros)).collect()
}

/// Walks the events from the newest back: what fits is found soon, what is rare takes the whole
/// walk. An index by tenant would cost every accept for the sake of a list that people look at.
pub(super) async fn list(db: &Db, filter: &EventFilter) -> Result<Vec<EventSummary>, StoreError> {
    let standing = match filter.status.map(rows::standing) {
        // No stored event ever stands there.
        Some(None) => return Ok(Vec::new()),
        Some(some) => some,
        None => None,
    };
    let sql = format!(
        "SELECT {EVENT}, {STANDING} AS standing FROM events e
         LEFT JOIN decisions d ON d.event = e.id
         LEFT JOIN verdicts v ON v.event = e.id
         LEFT JOIN retries r ON r.event = e.id
         WHERE e.id < coalesce(?1, x'ffffffffffffffffffffffffffffffffff')
           AND (?2 IS NULL OR e.tenant = ?2) AND (?3 IS NULL OR standing = ?3)
         ORDER BY e.id DESC LIMIT ?4"
    );
    let asked = sqlx::query(AssertSqlSafe(sql))
        .bind(filter.before.map(|id| id.0))
        .bind(filter.tenant.as_ref().map(TenantId::as_str))
        .bind(standing)
        .bind(filter.limit);
    let read = |row| {
        let correlation_id = parsed(row, 3, CorrelationId::parse)?;
        let (id, tenant, status) = (event_id(row, 0)?, tenant(row, 1)?, rows::status(get(row, 5)?)?);
        Ok(EventSummary { id, tenant, status, correlation_id, body: get::<Vec<u8>>(row, 4)?.into() })
    };
    asked.fetch_all(db.readers()).await.map_err(failure)?.iter().map(read).collect()
}
