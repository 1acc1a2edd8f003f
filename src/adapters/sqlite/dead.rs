//! Owns dead letters after their death: the list, the history, and what people do with them.

use sqlx::SqliteConnection;

use super::audit::append_control;
use super::db::{Db, Sync, failure};
use super::ledger;
use super::rows::{self, event_id, get, millis, moment, number, numbered, tenant};
use crate::domain::{AuditBody, EventId, FailureClass, PartitionId, TenantId};
use crate::ports::StoreError;
use crate::ports::store::{DeadAct, DeadFilter, DeadLetter, PastAct, PastDeath, kept_error};

/// Reads the index of the dead letters backwards.
pub(super) async fn list(db: &Db, filter: &DeadFilter) -> Result<Vec<DeadLetter>, StoreError> {
    let sql = "SELECT d.event, e.tenant, d.class, d.body, d.attempts, d.at
               FROM decisions d CROSS JOIN events e ON e.id = d.event
               WHERE d.class IS NOT NULL AND d.event < coalesce(?1, x'ffffffffffffffffffffffffffffffffff')
                 AND (?2 IS NULL OR e.tenant = ?2)
                 AND NOT EXISTS (SELECT 1 FROM dead_history h WHERE h.event = d.event AND h.act = 1)
               ORDER BY d.event DESC LIMIT ?3";
    let asked = sqlx::query(sql)
        .bind(filter.before.map(|id| id.0))
        .bind(filter.tenant.as_ref().map(TenantId::as_str))
        .bind(filter.limit);
    let read = |row| {
        Ok(DeadLetter {
            event: event_id(row, 0)?,
            tenant: tenant(row, 1)?,
            class: numbered(&FailureClass::ALL, get(row, 2)?)?,
            error: String::from_utf8(get(row, 3)?).map_err(rows::unreadable)?,
            attempts: get(row, 4)?,
            at: moment(row, 5)?,
        })
    };
    asked.fetch_all(db.readers()).await.map_err(failure)?.iter().map(read).collect()
}

/// The deaths of an event that somebody has dealt with, oldest first.
pub(super) async fn history(conn: &mut SqliteConnection, id: EventId) -> Result<Vec<PastDeath>, StoreError> {
    let sql = "SELECT class, error, attempts, died_at, act, acted_at, by, reason FROM dead_history
               WHERE event = ? ORDER BY nth";
    let read = |row| {
        Ok(PastDeath {
            class: numbered(&FailureClass::ALL, get(row, 0)?)?,
            error: get(row, 1)?,
            attempts: get(row, 2)?,
            died_at: moment(row, 3)?,
            act: numbered(&PastAct::ALL, get(row, 4)?)?,
            acted_at: moment(row, 5)?,
            by: get(row, 6)?,
            reason: get(row, 7)?,
        })
    };
    sqlx::query(sql).bind(id.0).fetch_all(conn).await.map_err(failure)?.iter().map(read).collect()
}

pub(super) async fn act(
    db: &Db,
    id: EventId,
    act: PastAct,
    audit: &AuditBody,
    now: i64,
) -> Result<DeadAct, StoreError> {
    let mut tx = db.begin(Sync::Full).await?;
    let conn = tx.conn()?;
    let found = match find(conn, &audit.tenant_id, id).await? {
        Ok(found) => found,
        Err(refused) => {
            tx.commit().await?;
            return Ok(refused);
        }
    };
    remember(conn, id, act, audit, &found).await?;
    if act == PastAct::Replayed {
        sqlx::query("DELETE FROM decisions WHERE event = ?").bind(id.0).execute(&mut *conn).await.map_err(failure)?;
        let retry = "INSERT OR REPLACE INTO retries (event, partition, attempts, due_at) VALUES (?, ?, 0, ?)";
        let retry = sqlx::query(retry).bind(id.0).bind(found.partition.0).bind(now);
        retry.execute(&mut *conn).await.map_err(failure)?;
        ledger::reopened(conn, id).await?;
    }
    append_control(conn, &found.tenant, audit).await?;
    tx.commit().await?;
    Ok(DeadAct::Done)
}

/// A dead letter that can be acted on.
struct Found {
    tenant: TenantId,
    partition: PartitionId,
    class: i64,
    error: Vec<u8>,
    attempts: i64,
    died_at: i64,
}

async fn find(conn: &mut SqliteConnection, of: &TenantId, id: EventId) -> Result<Result<Found, DeadAct>, StoreError> {
    let Some(status) = rows::status_of(conn, of, id).await? else { return Ok(Err(DeadAct::Unknown)) };
    let sql = "SELECT e.tenant, e.partition, d.class, d.body, d.attempts, d.at,
                      EXISTS (SELECT 1 FROM dead_history h WHERE h.event = d.event AND h.act = 1)
               FROM decisions d JOIN events e ON e.id = d.event WHERE d.event = ? AND d.class IS NOT NULL";
    let row = sqlx::query(sql).bind(id.0).fetch_optional(conn).await.map_err(failure)?;
    let Some(row) = row else { return Ok(Err(DeadAct::NotDead(status))) };
    if get(&row, 6)? {
        return Ok(Err(DeadAct::Discarded));
    }
    Ok(Ok(Found {
        tenant: tenant(&row, 0)?,
        partition: PartitionId(get(&row, 1)?),
        class: get(&row, 2)?,
        error: get(&row, 3)?,
        attempts: get(&row, 4)?,
        died_at: get(&row, 5)?,
    }))
}

async fn remember(
    conn: &mut SqliteConnection,
    id: EventId,
    act: PastAct,
    audit: &AuditBody,
    found: &Found,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO dead_history (event, nth, died_at, class, error, attempts, act, acted_at, by, reason)
               SELECT ?1, count(*) + 1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9 FROM dead_history WHERE event = ?1";
    sqlx::query(sql)
        .bind(id.0)
        .bind(found.died_at)
        .bind(found.class)
        .bind(kept_error(std::str::from_utf8(&found.error).map_err(rows::unreadable)?))
        .bind(found.attempts)
        .bind(number(&PastAct::ALL, &act))
        .bind(millis(audit.at))
        .bind(audit.actor.as_str())
        .bind(audit.reason.as_deref())
        .execute(conn)
        .await
        .map_err(failure)?;
    Ok(())
}
