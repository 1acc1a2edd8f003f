//! Owns reading back: events, dispositions, lists, and the audit with what it speaks of.

use serde::{Deserialize, Serialize};
use sqlx::postgres::PgRow;
use sqlx::{PgPool, QueryBuilder, Row};
use std::collections::HashMap;
use uuid::Uuid;

use super::connect::{corrupt, failed};
use super::outbox;
use crate::domain::{
    AuditBody, AuditRecord, CorrelationId, Epoch, EventId, FailureClass, Outcome, PartitionId, Status, Stream,
    TenantId, WorkerId,
};
use crate::ports::store::{
    Approval, AuditCursor, AuditLine, Disposition, End, EventFilter, EventRecord, EventSummary, StoreError, StoredEvent,
};

/// The number of a dead letter among the outcomes.
const DEAD: i16 = 3;

pub(super) fn outcome_number(disposition: &Disposition) -> i16 {
    match disposition {
        Disposition::Decided { outcome: Outcome::Approved, .. } => 0,
        Disposition::Decided { outcome: Outcome::RequireApproval, .. } => 1,
        Disposition::Decided { outcome: Outcome::Rejected, .. } => 2,
        Disposition::Dead { .. } => DEAD,
    }
}

fn outcome(number: i16) -> Result<Outcome, StoreError> {
    let index = usize::try_from(number).unwrap_or(usize::MAX);
    Outcome::ALL.get(index).copied().ok_or_else(|| corrupt("outcome", number))
}

/// Status out of the columns `decisions.outcome` and `verdicts.verdict`.
pub(super) fn status_of(decided: Option<i16>, verdict: Option<i16>) -> Result<Status, StoreError> {
    match verdict.or(decided) {
        None => Ok(Status::Received),
        Some(DEAD) => Ok(Status::Failed),
        Some(number) => Ok(outcome(number)?.status()),
    }
}

/// The body of a dead letter's row.
#[derive(Serialize, Deserialize)]
struct Dead {
    class: FailureClass,
    error: String,
    attempts: u32,
}

pub(super) fn dead_body(class: FailureClass, error: &str, attempts: u32) -> Vec<u8> {
    // Text and numbers only: the serializer has nothing to refuse.
    serde_json::to_vec(&Dead { class, error: error.to_owned(), attempts }).unwrap_or_default()
}

fn tenant(raw: &str) -> Result<TenantId, StoreError> {
    TenantId::parse(raw).map_err(|e| corrupt("tenant", e))
}

fn uuids(ids: &[EventId]) -> Vec<Uuid> {
    ids.iter().map(|id| id.0).collect()
}

/// The ends of an id range, so that the planner prunes time partitions.
fn ends(ids: &[Uuid]) -> (Uuid, Uuid) {
    (ids.iter().min().copied().unwrap_or_default(), ids.iter().max().copied().unwrap_or_default())
}

/// Columns event_id, tenant_id, partition, correlation_id, body.
pub(super) fn stored_event(row: &PgRow) -> Result<StoredEvent, StoreError> {
    let correlation: String = row.try_get(3).map_err(failed)?;
    Ok(StoredEvent {
        id: EventId(row.try_get(0).map_err(failed)?),
        tenant: tenant(row.try_get(1).map_err(failed)?)?,
        partition: PartitionId(row.try_get::<i16, _>(2).map_err(failed)?.unsigned_abs()),
        correlation_id: CorrelationId::parse(&correlation).map_err(|e| corrupt("correlation id", e))?,
        body: row.try_get::<Vec<u8>, _>(4).map_err(failed)?.into(),
    })
}

pub(super) async fn events(pool: &PgPool, ids: &[EventId]) -> Result<Vec<StoredEvent>, StoreError> {
    let ids = uuids(ids);
    let (first, last) = ends(&ids);
    let rows = sqlx::query(
        "SELECT event_id, tenant_id, partition, correlation_id, body FROM events
         WHERE event_id = ANY($1) AND event_id BETWEEN $2 AND $3",
    )
    .bind(&ids)
    .bind(first)
    .bind(last)
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    rows.iter().map(stored_event).collect()
}

pub(super) async fn pending_of(pool: &PgPool, ids: &[EventId]) -> Result<Vec<StoredEvent>, StoreError> {
    let ids = uuids(ids);
    let (first, last) = ends(&ids);
    let rows = sqlx::query(
        "SELECT event_id, tenant_id, partition, correlation_id, body FROM events
         WHERE event_id = ANY($1) AND event_id BETWEEN $2 AND $3
           AND event_id <> ALL (ARRAY(SELECT event_id FROM decisions
                                      WHERE event_id = ANY($1) AND event_id BETWEEN $2 AND $3))",
    )
    .bind(&ids)
    .bind(first)
    .bind(last)
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    rows.iter().map(stored_event).collect()
}

pub(super) async fn decisions(
    pool: &PgPool,
    ids: &[EventId],
) -> Result<Vec<(EventId, TenantId, bytes::Bytes)>, StoreError> {
    let ids = uuids(ids);
    let (first, last) = ends(&ids);
    let rows = sqlx::query(
        "SELECT event_id, tenant_id, body FROM decisions
         WHERE event_id = ANY($1) AND event_id BETWEEN $2 AND $3 AND outcome <> 3",
    )
    .bind(&ids)
    .bind(first)
    .bind(last)
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    rows.iter()
        .map(|row| {
            let body: Vec<u8> = row.try_get(2).map_err(failed)?;
            Ok((EventId(row.try_get(0).map_err(failed)?), tenant(row.try_get(1).map_err(failed)?)?, body.into()))
        })
        .collect()
}

pub(super) async fn events_since(pool: &PgPool, since: EventId, limit: u32) -> Result<Vec<StoredEvent>, StoreError> {
    let rows = sqlx::query(
        "SELECT event_id, tenant_id, partition, correlation_id, body FROM events
         WHERE event_id >= $1 ORDER BY event_id LIMIT $2",
    )
    .bind(since.0)
    .bind(i64::from(limit))
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    rows.iter().map(stored_event).collect()
}

pub(super) async fn event(pool: &PgPool, id: EventId) -> Result<Option<EventRecord>, StoreError> {
    let row = sqlx::query(
        "SELECT e.event_id, e.tenant_id, e.partition, e.correlation_id, e.body,
                d.outcome, d.epoch, d.worker_id, d.at, d.body, d.timings,
                a.opened_at, v.verdict, v.decided_at, v.decided_by, v.reason
         FROM events e LEFT JOIN decisions d ON d.event_id = $1 LEFT JOIN approvals a ON a.event_id = $1
              LEFT JOIN verdicts v ON v.event_id = $1
         WHERE e.event_id = $1",
    )
    .bind(id.0)
    .fetch_optional(pool)
    .await
    .map_err(failed)?;
    let Some(row) = row else { return Ok(None) };
    let unpublished = outbox::naming(pool, id).await?;
    Ok(Some(EventRecord { event: stored_event(&row)?, end: end(&row)?, approval: approval(&row)?, unpublished }))
}

fn end(row: &PgRow) -> Result<Option<End>, StoreError> {
    let Some(number) = row.try_get::<Option<i16>, _>(5).map_err(failed)? else { return Ok(None) };
    let body: Vec<u8> = row.try_get(9).map_err(failed)?;
    let disposition = if number == DEAD {
        let dead: Dead = serde_json::from_slice(&body).map_err(|e| corrupt("dead letter", e))?;
        Disposition::Dead { class: dead.class, error: dead.error, attempts: dead.attempts }
    } else {
        let timings: Vec<u8> = row.try_get(10).map_err(failed)?;
        let timings = timings.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect();
        Disposition::Decided { outcome: outcome(number)?, decision: body.into(), timings }
    };
    Ok(Some(End {
        disposition,
        epoch: Epoch(row.try_get(6).map_err(failed)?),
        worker: WorkerId(row.try_get(7).map_err(failed)?),
        at: row.try_get(8).map_err(failed)?,
    }))
}

fn approval(row: &PgRow) -> Result<Option<Approval>, StoreError> {
    let Some(opened_at) = row.try_get(11).map_err(failed)? else { return Ok(None) };
    let verdict: Option<i16> = row.try_get(12).map_err(failed)?;
    Ok(Some(Approval {
        opened_at,
        verdict: verdict.map(outcome).transpose()?,
        decided_at: row.try_get(13).map_err(failed)?,
        decided_by: row.try_get(14).map_err(failed)?,
        reason: row.try_get(15).map_err(failed)?,
    }))
}

/// Reads the primary key backwards; a filter that matches little scans far, up to the statement
/// timeout. No index serves it, since every index is paid for by every accept.
pub(super) async fn list(pool: &PgPool, filter: &EventFilter) -> Result<Vec<EventSummary>, StoreError> {
    let mut query = QueryBuilder::new(
        "SELECT e.event_id, e.tenant_id, e.partition, e.correlation_id, e.body, d.outcome, v.verdict
         FROM events e LEFT JOIN decisions d ON d.event_id = e.event_id
              LEFT JOIN verdicts v ON v.event_id = e.event_id WHERE true",
    );
    if let Some(tenant) = &filter.tenant {
        query.push(" AND e.tenant_id = ").push_bind(tenant.as_str().to_owned());
    }
    if let Some(before) = filter.before {
        query.push(" AND e.event_id < ").push_bind(before.0);
    }
    match filter.status {
        None => {}
        Some(Status::Received) => _ = query.push(" AND d.outcome IS NULL"),
        Some(Status::Escalated) => _ = query.push(" AND d.outcome = 1 AND v.verdict IS NULL"),
        Some(Status::Approved) => _ = query.push(" AND coalesce(v.verdict, d.outcome) = 0"),
        Some(Status::Rejected) => _ = query.push(" AND coalesce(v.verdict, d.outcome) = 2"),
        Some(Status::Failed) => _ = query.push(" AND d.outcome = 3"),
        // Passed inside a worker, never stored.
        Some(Status::Validated | Status::Processing | Status::Retrying) => return Ok(Vec::new()),
    }
    query.push(" ORDER BY e.event_id DESC LIMIT ").push_bind(i64::from(filter.limit));
    let rows = query.build().fetch_all(pool).await.map_err(failed)?;
    rows.iter()
        .map(|row| {
            let event = stored_event(row)?;
            Ok(EventSummary {
                id: event.id,
                tenant: event.tenant,
                status: status_of(row.try_get(5).map_err(failed)?, row.try_get(6).map_err(failed)?)?,
                correlation_id: event.correlation_id,
                body: event.body,
            })
        })
        .collect()
}

fn stream(number: i16) -> Result<Stream, StoreError> {
    match number {
        0 => Ok(Stream::Workflow),
        1 => Ok(Stream::Control),
        other => Err(corrupt("audit stream", other)),
    }
}

fn stream_number(stream: Stream) -> i16 {
    match stream {
        Stream::Workflow => 0,
        Stream::Control => 1,
    }
}

pub(super) async fn audit_page(
    pool: &PgPool,
    after: Option<&AuditCursor>,
    limit: u32,
) -> Result<Vec<AuditLine>, StoreError> {
    let rows = sqlx::query(
        "SELECT tenant_id, stream, seq, prev_hash, hash, body FROM audit
         WHERE (tenant_id, stream, seq) > ($1, $2, $3) ORDER BY tenant_id, stream, seq LIMIT $4",
    )
    .bind(after.map_or("", |c| c.tenant.as_str()))
    .bind(after.map_or(0, |c| stream_number(c.stream)))
    .bind(after.map_or(0, |c| c.seq))
    .bind(i64::from(limit))
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    let records = rows.iter().map(audit_record).collect::<Result<Vec<AuditRecord>, StoreError>>()?;
    with_stored(pool, records).await
}

fn audit_record(row: &PgRow) -> Result<AuditRecord, StoreError> {
    let hash = |n: usize| -> Result<[u8; 32], StoreError> {
        let bytes: Vec<u8> = row.try_get(n).map_err(failed)?;
        bytes.try_into().map_err(|_| corrupt("audit", "a hash has not 32 bytes"))
    };
    Ok(AuditRecord {
        tenant: tenant(row.try_get(0).map_err(failed)?)?,
        stream: stream(row.try_get(1).map_err(failed)?)?,
        seq: row.try_get(2).map_err(failed)?,
        prev_hash: hash(3)?,
        hash: hash(4)?,
        body: row.try_get(5).map_err(failed)?,
    })
}

/// Puts the stored event and decision beside each record. A body that can't be read names none:
/// the verifier says what is wrong with it.
async fn with_stored(pool: &PgPool, records: Vec<AuditRecord>) -> Result<Vec<AuditLine>, StoreError> {
    let named: Vec<Option<EventId>> =
        records.iter().map(|r| serde_json::from_str::<AuditBody>(&r.body).ok().and_then(|b| b.event_id)).collect();
    let ids: Vec<EventId> = named.iter().flatten().copied().collect();
    let (mut events_by_id, mut decisions_by_id) = (HashMap::new(), HashMap::new());
    if !ids.is_empty() {
        events_by_id.extend(events(pool, &ids).await?.into_iter().map(|e| (e.id, e.body)));
        decisions_by_id.extend(decisions(pool, &ids).await?.into_iter().map(|(id, _, body)| (id, body)));
    }
    let line = |(record, id): (AuditRecord, Option<EventId>)| AuditLine {
        record,
        event: id.and_then(|id| events_by_id.get(&id).cloned()),
        decision: id.and_then(|id| decisions_by_id.get(&id).cloned()),
    };
    Ok(records.into_iter().zip(named).map(line).collect())
}
