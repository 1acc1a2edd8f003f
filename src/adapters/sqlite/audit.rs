//! Owns the reading of the audit chains with what they speak of, and the control chains: records
//! of what people did, each in the transaction that does it. Never judges them.

use serde::Deserialize;
use sqlx::SqliteConnection;
use std::collections::HashMap;

use super::Bytes;
use super::commit::{insert_lines, stream_number};
use super::db::{Db, failure};
use super::rows::{event_id, get, hash, id_list, tenant, unreadable};
use crate::domain::{AuditBody, AuditRecord, ChainHead, EventId, Stream, TenantId};
use crate::ports::StoreError;
use crate::ports::store::{AuditCursor, AuditLine};

pub(super) async fn page(db: &Db, after: Option<&AuditCursor>, limit: u32) -> Result<Vec<AuditLine>, StoreError> {
    // One snapshot: a record's decision was written with it.
    let mut tx = db.readers().begin().await.map_err(failure)?;
    let records = records(&mut tx, after, limit).await?;
    let named: Vec<Option<EventId>> = records.iter().map(|r| named_event(&r.body)).collect();
    let stored = stored(&mut tx, named.iter().flatten()).await?;
    tx.rollback().await.map_err(failure)?;
    let line = |(record, named): (AuditRecord, Option<EventId>)| {
        let (event, decision) = named.and_then(|id| stored.get(&id)).cloned().unwrap_or_default();
        AuditLine { record, event, decision }
    };
    Ok(records.into_iter().zip(named).map(line).collect())
}

/// Records without what they speak of.
pub(super) async fn records(
    conn: &mut SqliteConnection,
    after: Option<&AuditCursor>,
    limit: u32,
) -> Result<Vec<AuditRecord>, StoreError> {
    // Before the first: no tenant is empty.
    let (past_tenant, past_stream, past_seq) =
        after.map_or(("", 0, 0), |c| (c.tenant.as_str(), stream_number(c.stream), c.seq));
    let sql = "SELECT tenant, stream, seq, prev_hash, hash, body FROM audit
               WHERE (tenant, stream, seq) > (?, ?, ?) ORDER BY tenant, stream, seq LIMIT ?";
    let asked = sqlx::query(sql).bind(past_tenant).bind(past_stream).bind(past_seq).bind(limit);
    let mut records = Vec::new();
    for row in asked.fetch_all(conn).await.map_err(failure)? {
        records.push(AuditRecord {
            tenant: tenant(&row, 0)?,
            stream: stream(get(&row, 1)?)?,
            seq: get(&row, 2)?,
            prev_hash: hash(&row, 3)?,
            hash: hash(&row, 4)?,
            body: get(&row, 5)?,
        });
    }
    Ok(records)
}

/// The stream of a number.
pub(super) fn stream(number: i64) -> Result<Stream, StoreError> {
    match number {
        0 => Ok(Stream::Workflow),
        1 => Ok(Stream::Control),
        other => Err(unreadable(format!("unknown stream {other}"))),
    }
}

/// The event that a body names; none where the body can't be read, which the chain check says.
fn named_event(body: &str) -> Option<EventId> {
    #[derive(Deserialize)]
    struct Named {
        event_id: Option<EventId>,
    }
    serde_json::from_str::<Named>(body).ok()?.event_id
}

type Stored = HashMap<EventId, (Option<Bytes>, Option<Bytes>)>;

async fn stored<'a>(conn: &mut SqliteConnection, ids: impl Iterator<Item = &'a EventId>) -> Result<Stored, StoreError> {
    let sql = "SELECT e.id, e.body, d.body FROM events e
               LEFT JOIN decisions d ON d.event = e.id AND d.outcome IS NOT NULL
               WHERE e.id IN (SELECT unhex(value) FROM json_each(?))";
    let asked = sqlx::query(sql).bind(id_list(ids.map(|id| id.0)));
    let mut stored = Stored::new();
    for row in asked.fetch_all(conn).await.map_err(failure)? {
        let texts = (get::<Option<Vec<u8>>>(&row, 1)?, get::<Option<Vec<u8>>>(&row, 2)?);
        stored.insert(event_id(&row, 0)?, (texts.0.map(Bytes::from), texts.1.map(Bytes::from)));
    }
    Ok(stored)
}

/// Hangs a record on the control chain of `tenant`. The one writer keeps others from it.
pub(super) async fn append_control(
    conn: &mut SqliteConnection,
    tenant: &TenantId,
    audit: &AuditBody,
) -> Result<(), StoreError> {
    if (&audit.tenant_id, audit.stream) != (tenant, Stream::Control) {
        return Err(StoreError::Fault(format!("act for {tenant}: its audit record is of another chain")));
    }
    let last = "SELECT seq, hash FROM audit WHERE tenant = ? AND stream = 1 ORDER BY seq DESC LIMIT 1";
    let last = sqlx::query(last).bind(tenant.as_str()).fetch_optional(&mut *conn).await.map_err(failure)?;
    let mut head = match last {
        None => ChainHead::EMPTY,
        Some(row) => ChainHead { seq: get(&row, 0)?, hash: hash(&row, 1)? },
    };
    let line = head.append(audit.clone());
    insert_lines(conn, &[line]).await
}
