//! Owns the accept: keys, events and their one outbox row, in one transaction. Never publishes.

use bytes::Bytes;
use sqlx::{AssertSqlSafe, SqliteConnection};
use std::collections::HashMap;
use uuid::Uuid;

use super::db::{Db, Sync, failure};
use super::rows::{self, event_id, get, parsed, status};
use super::{outbox, rows::STANDING};
use crate::crypto::envelope::same_payload;
use crate::domain::{CorrelationId, EventId, Status};
use crate::ports::store::{Accepted, NewEvent, OutboxKind, SKEW_MAX_MS};
use crate::ports::{Clock, StoreError};

pub(super) async fn accept_batch(
    db: &Db,
    clock: &dyn Clock,
    batch: Uuid,
    events: &[NewEvent],
) -> Result<Vec<Accepted>, StoreError> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let mut tx = db.begin(Sync::Full).await?;
    let conn = tx.conn()?;
    // Inside the transaction: no accept is under way while the mark moves.
    let now = rows::millis(clock.now());
    refuse_skewed(events, now, mark(conn).await?)?;
    let (accepted, fresh) = sort_out(events, first_requests(conn, events).await?);
    insert(conn, &fresh).await?;
    let ids: Vec<EventId> = fresh.iter().map(|e| e.id).collect();
    outbox::write(conn, batch, OutboxKind::Accept, &ids, now).await?;
    tx.commit().await?;
    Ok(accepted)
}

/// An id below the mark would never be found again by a refill; it can only come of a clock that
/// was set back.
fn refuse_skewed(events: &[NewEvent], now: i64, mark: EventId) -> Result<(), StoreError> {
    for event in events {
        let off = i64::try_from(event.id.millis()).unwrap_or(i64::MAX).saturating_sub(now);
        if off.abs() > SKEW_MAX_MS || event.id < mark {
            return Err(StoreError::ClockSkew(off));
        }
    }
    Ok(())
}

async fn mark(conn: &mut SqliteConnection) -> Result<EventId, StoreError> {
    let row = sqlx::query("SELECT mark FROM fleet").fetch_one(conn).await.map_err(failure)?;
    event_id(&row, 0)
}

/// The request that used a key first.
#[derive(Clone)]
struct First {
    id: EventId,
    correlation_id: CorrelationId,
    body: Bytes,
    status: Status,
}

impl First {
    fn of(event: &NewEvent) -> Self {
        Self {
            id: event.id,
            correlation_id: event.correlation_id.clone(),
            body: event.body.clone(),
            status: Status::Received,
        }
    }

    fn answer(&self, event: &NewEvent) -> Accepted {
        if !same_payload(&self.body, event) {
            return Accepted::Conflict { id: self.id };
        }
        Accepted::Replayed { id: self.id, correlation_id: self.correlation_id.clone(), status: self.status }
    }
}

type Key<'a> = (&'a str, &'a str);

fn key(event: &NewEvent) -> Key<'_> {
    (event.tenant.as_str(), event.key.as_str())
}

/// The requests, stored before, that used the keys of these.
async fn first_requests<'a>(
    conn: &mut SqliteConnection,
    events: &'a [NewEvent],
) -> Result<HashMap<Key<'a>, First>, StoreError> {
    let keys: Vec<Key<'a>> = events.iter().map(key).collect();
    let list = serde_json::to_string(&keys).map_err(|e| StoreError::Fault(e.to_string()))?;
    // CROSS JOIN keeps the order of the tables (SQLite manual, "The SQLite Query Optimizer").
    let sql = format!(
        "SELECT j.key, k.event, e.correlation_id, e.body, {STANDING}
         FROM json_each(?) j
         CROSS JOIN keys k ON k.tenant = j.value ->> 0 AND k.key = j.value ->> 1
         JOIN events e ON e.id = k.event
         LEFT JOIN decisions d ON d.event = k.event
         LEFT JOIN verdicts v ON v.event = k.event
         LEFT JOIN retries r ON r.event = k.event"
    );
    let mut first = HashMap::new();
    for row in sqlx::query(AssertSqlSafe(sql)).bind(list).fetch_all(conn).await.map_err(failure)? {
        let place = usize::try_from(get::<i64>(&row, 0)?).map_err(rows::unreadable)?;
        let key = *keys.get(place).ok_or_else(|| rows::unreadable("a key that was not asked for"))?;
        let request = First {
            id: event_id(&row, 1)?,
            correlation_id: parsed(&row, 2, CorrelationId::parse)?,
            body: get::<Vec<u8>>(&row, 3)?.into(),
            status: status(get(&row, 4)?)?,
        };
        first.insert(key, request);
    }
    Ok(first)
}

/// The answer to each event, and the fresh ones.
fn sort_out<'a>(events: &'a [NewEvent], mut first: HashMap<Key<'a>, First>) -> (Vec<Accepted>, Vec<&'a NewEvent>) {
    let (mut answers, mut fresh) = (Vec::with_capacity(events.len()), Vec::new());
    for event in events {
        if let Some(first) = first.get(&key(event)) {
            answers.push(first.answer(event));
        } else {
            first.insert(key(event), First::of(event));
            fresh.push(event);
            answers.push(Accepted::Fresh);
        }
    }
    (answers, fresh)
}

async fn insert(conn: &mut SqliteConnection, fresh: &[&NewEvent]) -> Result<(), StoreError> {
    let keys = "INSERT INTO keys (tenant, key, event)";
    rows::insert(conn, keys, 3, fresh, |q, e| q.bind(e.tenant.as_str()).bind(e.key.as_str()).bind(e.id.0)).await?;
    let events = "INSERT INTO events (id, tenant, partition, correlation_id, body)";
    rows::insert(conn, events, 5, fresh, |q, e| {
        q.bind(e.id.0).bind(e.tenant.as_str()).bind(e.partition.0).bind(e.correlation_id.as_str()).bind(e.body.as_ref())
    })
    .await
}
