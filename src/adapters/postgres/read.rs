//! Owns reading back: events, dispositions, lists, and the audit with what it speaks of.

use serde::{Deserialize, Serialize};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgPool, QueryBuilder, Row};
use std::collections::HashMap;
use uuid::Uuid;

use super::connect::{corrupt, failed};
use super::scope::ask;
use super::store::PostgresStore;
use super::{approvals, dead, outbox, retries};
use crate::domain::cost::{Charge, Micros};
use crate::domain::{
    AuditBody, AuditRecord, CorrelationId, Epoch, EventId, FailureClass, Outcome, PartitionId, Scope, Status, Stream,
    TenantId, WorkerId,
};
use crate::ports::store::{
    Approval, AuditCursor, AuditLine, Disposition, End, EventFilter, EventRecord, EventSummary, StoreError,
    StoredEvent, standing,
};

/// The number of a dead letter among the outcomes.
pub(super) const DEAD: i16 = 3;

pub(super) fn outcome_number(disposition: &Disposition) -> i16 {
    match disposition {
        Disposition::Decided { outcome: Outcome::Approved, .. } => 0,
        Disposition::Decided { outcome: Outcome::RequireApproval, .. } => 1,
        Disposition::Decided { outcome: Outcome::Rejected, .. } => 2,
        Disposition::Dead { .. } => DEAD,
    }
}

pub(super) fn outcome(number: i16) -> Result<Outcome, StoreError> {
    let index = usize::try_from(number).unwrap_or(usize::MAX);
    Outcome::ALL.get(index).copied().ok_or_else(|| corrupt("outcome", number))
}

/// Status out of the columns `decisions.outcome` and `verdicts.verdict`, and of whether
/// `retries.due_at` is set.
pub(super) fn status_of(decided: Option<i16>, verdict: Option<i16>, waits: bool) -> Result<Status, StoreError> {
    match verdict.or(decided) {
        None => Ok(standing(None, waits)),
        Some(DEAD) => Ok(Status::Failed),
        Some(number) => Ok(outcome(number)?.status()),
    }
}

/// The body of a dead letter's row.
#[derive(Serialize, Deserialize)]
pub(super) struct Dead {
    pub(super) class: FailureClass,
    pub(super) error: String,
    pub(super) attempts: u32,
}

/// Reads the body of a dead letter's row.
pub(super) fn dead_letter(body: &[u8]) -> Result<Dead, StoreError> {
    serde_json::from_slice(body).map_err(|e| corrupt("dead letter", e))
}

pub(super) fn dead_body(class: FailureClass, error: &str, attempts: u32) -> Vec<u8> {
    // Text and numbers only: the serializer has nothing to refuse.
    serde_json::to_vec(&Dead { class, error: error.to_owned(), attempts }).unwrap_or_default()
}

pub(super) fn tenant(raw: &str) -> Result<TenantId, StoreError> {
    TenantId::parse(raw).map_err(|e| corrupt("tenant", e))
}

fn uuids(ids: &[EventId]) -> Vec<Uuid> {
    ids.iter().map(|id| id.0).collect()
}

/// The ends of an id range, so that the planner prunes time partitions.
pub(super) fn ends(ids: &[Uuid]) -> (Uuid, Uuid) {
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

pub(super) async fn event(
    store: &PostgresStore,
    scope: &Scope,
    id: EventId,
) -> Result<Option<EventRecord>, StoreError> {
    let of = scope.clone();
    ask(store, scope, move |connection| Box::pin(record(connection, of, id))).await
}

async fn record(connection: &mut PgConnection, of: Scope, id: EventId) -> Result<Option<EventRecord>, StoreError> {
    let row = sqlx::query(
        "SELECT e.event_id, e.tenant_id, e.partition, e.correlation_id, e.body,
                d.outcome, d.epoch, d.worker_id, d.at, d.body, d.timings,
                a.opened_at, v.verdict, v.decided_at, v.decided_by, v.reason,
                r.attempts, r.due_at, r.class, r.error, r.worker_id,
                a.level, a.claimed_by, a.claimed_until, d.tokens, d.cost_micros
         FROM events e LEFT JOIN decisions d ON d.event_id = $1 LEFT JOIN approvals a ON a.event_id = $1
              LEFT JOIN verdicts v ON v.event_id = $1 LEFT JOIN retries r ON r.event_id = $1
         WHERE e.event_id = $1 AND ($2::text IS NULL OR e.tenant_id = $2)",
    )
    .bind(id.0)
    .bind(of.tenant().map(TenantId::as_str))
    .fetch_optional(&mut *connection)
    .await
    .map_err(failed)?;
    let Some(row) = row else { return Ok(None) };
    let mut approval = approval(&row)?;
    if let Some(approval) = &mut approval {
        approval.history = approvals::history(connection, id).await?;
    }
    Ok(Some(EventRecord {
        event: stored_event(&row)?,
        end: end(&row)?,
        approval,
        unpublished: outbox::naming(connection, id).await?,
        retry: retries::state(&row, 16)?,
        past: dead::history(connection, id).await?,
    }))
}

fn end(row: &PgRow) -> Result<Option<End>, StoreError> {
    let Some(number) = row.try_get::<Option<i16>, _>(5).map_err(failed)? else { return Ok(None) };
    let body: Vec<u8> = row.try_get(9).map_err(failed)?;
    let disposition = if number == DEAD {
        let dead = dead_letter(&body)?;
        Disposition::Dead { class: dead.class, error: dead.error, attempts: dead.attempts }
    } else {
        let timings: Vec<u8> = row.try_get(10).map_err(failed)?;
        let timings = timings.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect();
        Disposition::Decided { outcome: outcome(number)?, decision: body.into(), timings, charge: charge(row)? }
    };
    Ok(Some(End {
        disposition,
        epoch: Epoch(row.try_get(6).map_err(failed)?),
        worker: WorkerId(row.try_get(7).map_err(failed)?),
        at: row.try_get(8).map_err(failed)?,
    }))
}

fn charge(row: &PgRow) -> Result<Charge, StoreError> {
    let (tokens, micros): (Option<i64>, Option<i64>) =
        (row.try_get("tokens").map_err(failed)?, row.try_get("cost_micros").map_err(failed)?);
    let tokens = u32::try_from(tokens.unwrap_or(0)).map_err(|e| corrupt("tokens", e))?;
    Ok(Charge { tokens, cost: Micros::new(micros.unwrap_or(0)) })
}

fn approval(row: &PgRow) -> Result<Option<Approval>, StoreError> {
    let Some(opened_at) = row.try_get(11).map_err(failed)? else { return Ok(None) };
    approvals::request(row, opened_at, 21, 12).map(Some)
}

/// Reads the primary key backwards; a filter that matches little scans far, up to the statement
/// timeout. No index serves it, since every index is paid for by every accept. OFFSET 0 keeps the look
/// into `retries` a probe an event: under a tenant each row of it costs a look at its event.
pub(super) async fn list(store: &PostgresStore, filter: &EventFilter) -> Result<Vec<EventSummary>, StoreError> {
    let wanted = filter.clone();
    ask(store, &Scope::of(filter.tenant.as_ref()), move |connection| Box::pin(summaries(connection, wanted))).await
}

async fn summaries(connection: &mut PgConnection, filter: EventFilter) -> Result<Vec<EventSummary>, StoreError> {
    let mut query = QueryBuilder::new(
        "SELECT e.event_id, e.tenant_id, e.partition, e.correlation_id, e.body, d.outcome, v.verdict,
                r.due_at IS NOT NULL
         FROM events e LEFT JOIN decisions d ON d.event_id = e.event_id
              LEFT JOIN verdicts v ON v.event_id = e.event_id
              LEFT JOIN LATERAL (SELECT due_at FROM retries r WHERE r.event_id = e.event_id OFFSET 0) r ON true
         WHERE true",
    );
    if let Some(tenant) = &filter.tenant {
        query.push(" AND e.tenant_id = ").push_bind(tenant.as_str().to_owned());
    }
    if let Some(before) = filter.before {
        query.push(" AND e.event_id < ").push_bind(before.0);
    }
    match filter.status {
        None => {}
        Some(Status::Received) => _ = query.push(" AND d.outcome IS NULL AND r.due_at IS NULL"),
        Some(Status::Retrying) => _ = query.push(" AND d.outcome IS NULL AND r.due_at IS NOT NULL"),
        Some(Status::Escalated) => _ = query.push(" AND d.outcome = 1 AND v.verdict IS NULL"),
        Some(Status::Approved) => _ = query.push(" AND coalesce(v.verdict, d.outcome) = 0"),
        Some(Status::Rejected) => _ = query.push(" AND coalesce(v.verdict, d.outcome) = 2"),
        Some(Status::Failed) => _ = query.push(" AND d.outcome = 3"),
        // Passed inside a worker, never stored.
        Some(Status::Validated | Status::Processing) => return Ok(Vec::new()),
    }
    query.push(" ORDER BY e.event_id DESC LIMIT ").push_bind(i64::from(filter.limit));
    let rows = query.build().fetch_all(connection).await.map_err(failed)?;
    rows.iter()
        .map(|row| {
            let event = stored_event(row)?;
            Ok(EventSummary {
                id: event.id,
                tenant: event.tenant,
                status: status_of(
                    row.try_get(5).map_err(failed)?,
                    row.try_get(6).map_err(failed)?,
                    row.try_get(7).map_err(failed)?,
                )?,
                correlation_id: event.correlation_id,
                body: event.body,
            })
        })
        .collect()
}

pub(super) fn stream(number: i16) -> Result<Stream, StoreError> {
    match number {
        0 => Ok(Stream::Workflow),
        1 => Ok(Stream::Control),
        other => Err(corrupt("audit stream", other)),
    }
}

pub(super) fn stream_number(stream: Stream) -> i16 {
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
    let records = audit_records(pool, after, limit).await?;
    with_stored(pool, records).await
}

/// Records without what they speak of.
pub(super) async fn audit_records(
    pool: &PgPool,
    after: Option<&AuditCursor>,
    limit: u32,
) -> Result<Vec<AuditRecord>, StoreError> {
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
    rows.iter().map(audit_record).collect()
}

fn audit_record(row: &PgRow) -> Result<AuditRecord, StoreError> {
    Ok(AuditRecord {
        tenant: tenant(row.try_get(0).map_err(failed)?)?,
        stream: stream(row.try_get(1).map_err(failed)?)?,
        seq: row.try_get(2).map_err(failed)?,
        prev_hash: hash(row, 3)?,
        hash: hash(row, 4)?,
        body: row.try_get(5).map_err(failed)?,
    })
}

/// Reads 32 bytes.
pub(super) fn hash(row: &PgRow, column: usize) -> Result<[u8; 32], StoreError> {
    let bytes: Vec<u8> = row.try_get(column).map_err(failed)?;
    bytes.try_into().map_err(|_| corrupt("audit", "a hash has not 32 bytes"))
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
