//! Owns the accept: key, event and outbox row of a whole batch in one statement.

use sqlx::Row;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

use super::connect::{corrupt, failed};
use super::read::status_of;
use super::store::PostgresStore;
use crate::crypto::envelope::same_payload;
use crate::domain::{CorrelationId, EventId};
use crate::mutants::{self, Mutant};
use crate::ports::store::{Accepted, NewEvent, StoreError};

/// One statement, one transaction: when the key of an event is new, its event and its place in the
/// outbox row are too. The clock is checked before anything is written.
const ACCEPT: &str = "
WITH fresh AS (
    INSERT INTO keys (tenant_id, key, event_id)
    SELECT u.* FROM unnest($1::text[], $2::text[], $3::uuid[]) AS u
    WHERE (SELECT ids_are_fresh($7, $8))
    ON CONFLICT DO NOTHING
    RETURNING event_id
), stored AS (
    INSERT INTO events (event_id, partition, tenant_id, correlation_id, body)
    SELECT u.event_id, u.partition, u.tenant_id, u.correlation_id, u.body
    FROM unnest($3::uuid[], $4::smallint[], $1::text[], $5::text[], $6::bytea[])
        AS u (event_id, partition, tenant_id, correlation_id, body)
    JOIN fresh USING (event_id)
), noted AS (
    INSERT INTO outbox (id, kind, n, events)
    SELECT $9, 0, count(*), array_agg(u.event_id ORDER BY u.place)
    FROM unnest($10::uuid[]) WITH ORDINALITY AS u (event_id, place)
    JOIN fresh USING (event_id)
    HAVING count(*) > 0
)
SELECT event_id FROM fresh";

pub(super) async fn accept_batch(
    store: &PostgresStore,
    batch: Uuid,
    events: &[NewEvent],
) -> Result<Vec<Accepted>, StoreError> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let fresh = insert(store, batch, events).await?;
    let known: Vec<&NewEvent> = events.iter().filter(|e| !fresh.contains(&e.id)).collect();
    // A second statement: the rows of a concurrent accept that was waited for are not in the first
    // one's snapshot.
    let firsts = if known.is_empty() { HashMap::new() } else { first_requests(store, &known).await? };
    events
        .iter()
        .map(|e| {
            if fresh.contains(&e.id) {
                return Ok(Accepted::Fresh);
            }
            let key = (e.tenant.as_str().to_owned(), e.key.as_str().to_owned());
            // Its day, with the key, was dropped between the two statements.
            let expired = || StoreError::Away("a key has just expired: the same request again is fresh".into());
            let first = firsts.get(&key).ok_or_else(expired)?;
            Ok(first.answer(e))
        })
        .collect()
}

async fn insert(store: &PostgresStore, batch: Uuid, events: &[NewEvent]) -> Result<HashSet<EventId>, StoreError> {
    // Two accepts that lock the same keys in different orders would deadlock.
    let mut sorted: Vec<&NewEvent> = events.iter().collect();
    sorted.sort_by(|a, b| (&a.tenant, &a.key).cmp(&(&b.tenant, &b.key)));
    let column = |f: fn(&NewEvent) -> &str| sorted.iter().map(|e| f(e)).collect::<Vec<&str>>();
    let keys = sorted.iter().map(|e| stored_key(e)).collect::<Vec<_>>();
    let ids: Vec<Uuid> = sorted.iter().map(|e| e.id.0).collect();
    let partitions: Vec<i16> = sorted.iter().map(|e| e.partition.0 as i16).collect();
    let bodies: Vec<&[u8]> = sorted.iter().map(|e| &e.body[..]).collect();
    let given: Vec<Uuid> = events.iter().map(|e| e.id.0).collect();
    let millis = events.iter().map(|e| e.id.millis() as i64);
    let rows = sqlx::query(ACCEPT)
        .bind(column(|e| e.tenant.as_str()))
        .bind(keys)
        .bind(ids)
        .bind(partitions)
        .bind(column(|e| e.correlation_id.as_str()))
        .bind(bodies)
        .bind(millis.clone().min())
        .bind(millis.max())
        .bind(batch)
        .bind(given)
        .fetch_all(&store.hot)
        .await
        .map_err(failed)?;
    rows.iter().map(|row| row.try_get(0).map(EventId).map_err(failed)).collect()
}

fn stored_key(event: &NewEvent) -> Cow<'_, str> {
    if mutants::active(Mutant::DedupeRemoved) {
        return Cow::Owned(format!("{}{}", event.key.as_str(), event.id));
    }
    Cow::Borrowed(event.key.as_str())
}

/// The first request under a key.
struct First {
    id: EventId,
    correlation_id: CorrelationId,
    body: Vec<u8>,
    status: crate::domain::Status,
}

impl First {
    fn answer(&self, again: &NewEvent) -> Accepted {
        if !same_payload(&self.body, again) {
            return Accepted::Conflict { id: self.id };
        }
        Accepted::Replayed { id: self.id, correlation_id: self.correlation_id.clone(), status: self.status }
    }
}

/// OFFSET 0 keeps the lateral reads apart, one index probe a key.
const FIRST_REQUESTS: &str = "
SELECT u.tenant_id, u.key, k.event_id, e.correlation_id, e.body, d.outcome, v.verdict, r.due_at IS NOT NULL
FROM unnest($1::text[], $2::text[]) AS u (tenant_id, key)
CROSS JOIN LATERAL (SELECT event_id FROM keys k WHERE k.tenant_id = u.tenant_id AND k.key = u.key OFFSET 0) k
LEFT JOIN LATERAL (SELECT * FROM events e WHERE e.event_id = k.event_id OFFSET 0) e ON true
LEFT JOIN LATERAL (SELECT outcome FROM decisions d WHERE d.event_id = k.event_id OFFSET 0) d ON true
LEFT JOIN LATERAL (SELECT verdict FROM verdicts v WHERE v.event_id = k.event_id OFFSET 0) v ON true
LEFT JOIN LATERAL (SELECT due_at FROM retries r WHERE r.event_id = k.event_id OFFSET 0) r ON true";

async fn first_requests(
    store: &PostgresStore,
    known: &[&NewEvent],
) -> Result<HashMap<(String, String), First>, StoreError> {
    let rows = sqlx::query(FIRST_REQUESTS)
        .bind(known.iter().map(|e| e.tenant.as_str()).collect::<Vec<_>>())
        .bind(known.iter().map(|e| e.key.as_str()).collect::<Vec<_>>())
        .fetch_all(&store.reading)
        .await
        .map_err(failed)?;
    let mut firsts = HashMap::with_capacity(rows.len());
    for row in rows {
        let correlation: Option<String> = row.try_get(3).map_err(failed)?;
        let correlation = correlation.ok_or_else(|| corrupt("key", "its event is not stored"))?;
        let first = First {
            id: EventId(row.try_get(2).map_err(failed)?),
            correlation_id: CorrelationId::parse(&correlation).map_err(|e| corrupt("correlation id", e))?,
            body: row.try_get(4).map_err(failed)?,
            status: status_of(
                row.try_get(5).map_err(failed)?,
                row.try_get(6).map_err(failed)?,
                row.try_get(7).map_err(failed)?,
            )?,
        };
        firsts.insert((row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?), first);
    }
    Ok(firsts)
}
