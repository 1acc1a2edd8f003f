//! Owns dead letters after their death: the list, the history, and what people do with them.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, QueryBuilder, Row};

use super::connect::{corrupt, failed};
use super::control::append_control;
use super::mark;
use super::read::{DEAD, Dead, dead_letter, status_of, tenant};
use super::retries::{attempts, class, class_number};
use super::scope::{ask, under};
use super::store::PostgresStore;
use crate::domain::{AuditBody, EventId, Scope, TenantId, time};
use crate::ports::store::{DeadAct, DeadFilter, DeadLetter, PastAct, PastDeath, StoreError, kept_error};

fn act_number(act: PastAct) -> i16 {
    match act {
        PastAct::Replayed => 0,
        PastAct::Discarded => 1,
    }
}

/// Reads the index of the dead letters backwards. OFFSET 0 keeps the look into the history a probe
/// each: under a tenant every row of it costs a look at its event.
pub(super) async fn list(store: &PostgresStore, filter: &DeadFilter) -> Result<Vec<DeadLetter>, StoreError> {
    let wanted = filter.clone();
    ask(store, &Scope::of(filter.tenant.as_ref()), move |connection| Box::pin(letters(connection, wanted))).await
}

async fn letters(connection: &mut PgConnection, filter: DeadFilter) -> Result<Vec<DeadLetter>, StoreError> {
    let mut query = QueryBuilder::new(
        "SELECT d.event_id, d.tenant_id, d.at, d.body FROM decisions d
         WHERE d.outcome = 3
           AND NOT EXISTS (SELECT 1 FROM dead_history h WHERE h.event_id = d.event_id AND h.act = 1 OFFSET 0)",
    );
    if let Some(tenant) = &filter.tenant {
        query.push(" AND d.tenant_id = ").push_bind(tenant.as_str().to_owned());
    }
    if let Some(before) = filter.before {
        query.push(" AND d.event_id < ").push_bind(before.0);
    }
    query.push(" ORDER BY d.event_id DESC LIMIT ").push_bind(i64::from(filter.limit));
    let rows = query.build().fetch_all(connection).await.map_err(failed)?;
    rows.iter()
        .map(|row| {
            let dead = dead_letter(row.try_get(3).map_err(failed)?)?;
            Ok(DeadLetter {
                event: EventId(row.try_get(0).map_err(failed)?),
                tenant: tenant(row.try_get(1).map_err(failed)?)?,
                class: dead.class,
                error: dead.error,
                attempts: dead.attempts,
                at: row.try_get(2).map_err(failed)?,
            })
        })
        .collect()
}

/// The deaths of an event that somebody has dealt with, oldest first.
pub(super) async fn history(connection: &mut PgConnection, id: EventId) -> Result<Vec<PastDeath>, StoreError> {
    let rows = sqlx::query(
        "SELECT class, error, attempts, died_at, act, acted_at, by, reason FROM dead_history
         WHERE event_id = $1 ORDER BY nth",
    )
    .bind(id.0)
    .fetch_all(connection)
    .await
    .map_err(failed)?;
    rows.iter()
        .map(|row| {
            let act: i16 = row.try_get(4).map_err(failed)?;
            let known = usize::try_from(act).ok().and_then(|n| PastAct::ALL.get(n)).copied();
            Ok(PastDeath {
                class: class(row.try_get(0).map_err(failed)?)?,
                error: row.try_get(1).map_err(failed)?,
                attempts: attempts(row.try_get(2).map_err(failed)?)?,
                died_at: row.try_get(3).map_err(failed)?,
                act: known.ok_or_else(|| corrupt("act on a dead letter", act))?,
                acted_at: row.try_get(5).map_err(failed)?,
                by: row.try_get(6).map_err(failed)?,
                reason: row.try_get(7).map_err(failed)?,
            })
        })
        .collect()
}

/// The mark's lock first: from here on no step of the mark counts this death, and no other act on
/// it runs. Why that keeps the totals right is said in `mark`.
pub(super) async fn act(
    store: &PostgresStore,
    id: EventId,
    act: PastAct,
    audit: &AuditBody,
) -> Result<DeadAct, StoreError> {
    let (locks, body) = (store.locks, audit.clone());
    under(store, &audit.tenant_id, move |tx| Box::pin(act_in(tx, locks, id, act, body))).await
}

async fn act_in(
    tx: &mut PgConnection,
    locks: i32,
    id: EventId,
    act: PastAct,
    audit: AuditBody,
) -> Result<DeadAct, StoreError> {
    mark::lock(tx, locks).await?;
    let found = match find(tx, &audit.tenant_id, id).await? {
        Ok(found) => found,
        Err(refused) => return Ok(refused),
    };
    remember(tx, id, &found, act, &audit).await?;
    if act == PastAct::Replayed {
        reopen(tx, id).await?;
    }
    append_control(tx, locks, &found.tenant, &audit).await?;
    Ok(DeadAct::Done)
}

/// A dead letter that can be acted on.
struct Found {
    tenant: TenantId,
    died_at: DateTime<Utc>,
    dead: Dead,
}

async fn find(tx: &mut PgConnection, of: &TenantId, id: EventId) -> Result<Result<Found, DeadAct>, StoreError> {
    let row = sqlx::query(
        "SELECT e.tenant_id, d.outcome, v.verdict, r.due_at IS NOT NULL, d.at, d.body,
                EXISTS (SELECT 1 FROM dead_history h WHERE h.event_id = $1 AND h.act = 1)
         FROM events e LEFT JOIN decisions d ON d.event_id = $1 LEFT JOIN verdicts v ON v.event_id = $1
              LEFT JOIN retries r ON r.event_id = $1
         WHERE e.event_id = $1 AND e.tenant_id = $2",
    )
    .bind(id.0)
    .bind(of.as_str())
    .fetch_optional(tx)
    .await
    .map_err(failed)?;
    let Some(row) = row else { return Ok(Err(DeadAct::Unknown)) };
    let outcome: Option<i16> = row.try_get(1).map_err(failed)?;
    if outcome != Some(DEAD) {
        let (verdict, waits) = (row.try_get(2).map_err(failed)?, row.try_get(3).map_err(failed)?);
        return Ok(Err(DeadAct::NotDead(status_of(outcome, verdict, waits)?)));
    }
    if row.try_get(6).map_err(failed)? {
        return Ok(Err(DeadAct::Discarded));
    }
    Ok(Ok(Found {
        tenant: tenant(row.try_get(0).map_err(failed)?)?,
        died_at: row.try_get(4).map_err(failed)?,
        dead: dead_letter(row.try_get(5).map_err(failed)?)?,
    }))
}

async fn remember(
    tx: &mut PgConnection,
    id: EventId,
    found: &Found,
    act: PastAct,
    audit: &AuditBody,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO dead_history (event_id, nth, died_at, class, error, attempts, act, acted_at, by, reason)
         SELECT $1, count(*) + 1, $2, $3, $4, $5, $6, $7, $8, $9 FROM dead_history WHERE event_id = $1",
    )
    .bind(id.0)
    .bind(found.died_at)
    .bind(class_number(found.dead.class))
    .bind(kept_error(&found.dead.error))
    .bind(i64::from(found.dead.attempts))
    .bind(act_number(act))
    .bind(time::whole_millis(audit.at))
    .bind(&audit.actor)
    .bind(&audit.reason)
    .execute(tx)
    .await
    .map_err(failed)?;
    Ok(())
}

/// Takes the end away and makes the next try due now, by a function with rights that this role lacks:
/// nobody deletes a decision otherwise.
async fn reopen(tx: &mut PgConnection, id: EventId) -> Result<(), StoreError> {
    let ended: bool = sqlx::query_scalar("SELECT reopen_dead($1)").bind(id.0).fetch_one(tx).await.map_err(failed)?;
    if !ended {
        return Err(StoreError::Fault(format!("replay {id}: its dead letter went away meanwhile")));
    }
    Ok(())
}
