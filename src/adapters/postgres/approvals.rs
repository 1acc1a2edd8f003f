//! Owns approval requests after their opening: lists, claims, comments, verdicts, escalation.
//!
//! Whoever changes a request locks its row first and reads what stands on it in the NEXT statement;
//! the verdict's primary key and its trigger hold whatever else writes.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::postgres::{PgPool, PgRow};
use sqlx::{Connection, PgConnection, QueryBuilder, Row};
use uuid::Uuid;

use super::connect::{corrupt, failed};
use super::control::append_control;
use super::read::{outcome, tenant};
use super::scope::{ask, under};
use super::store::PostgresStore;
use crate::domain::approval::{Claim, Given, Level, PastStep, Refusal, Standing, Step, Verdict, Wish};
use crate::domain::{AuditBody, EventId, Outcome, Scope, TenantId, time};
use crate::ports::Approvals;
use crate::ports::approvals::{Acted, ApprovalAct, ApprovalCounts, ApprovalFilter, ApprovalLine, ApprovalState};
use crate::ports::store::{Approval, StoreError};

/// The columns of [`request`] behind `opened_at`, of tables `a` (approvals) and `v` (verdicts).
const REQUEST: &str = "a.level, a.claimed_by, a.claimed_until, v.verdict, v.decided_at, v.decided_by, v.reason";

/// The same where it is known that there is no verdict.
const OPEN_REQUEST: &str = "a.level, a.claimed_by, a.claimed_until,
    NULL::smallint, NULL::timestamptz, NULL::text, NULL::text";

/// Reads level and claim from column `level` on, the verdict from column `verdict` on.
pub(super) fn request(
    row: &PgRow,
    opened_at: DateTime<Utc>,
    level: usize,
    verdict: usize,
) -> Result<Approval, StoreError> {
    let given: Option<i16> = row.try_get(verdict).map_err(failed)?;
    Ok(Approval {
        level: level_of(row.try_get(level).map_err(failed)?)?,
        claim: claim(row, level + 1)?,
        verdict: given.map(outcome).transpose()?,
        decided_at: row.try_get(verdict + 1).map_err(failed)?,
        decided_by: row.try_get(verdict + 2).map_err(failed)?,
        reason: row.try_get(verdict + 3).map_err(failed)?,
        ..Approval::opened(opened_at)
    })
}

fn level_of(number: i16) -> Result<Level, StoreError> {
    u8::try_from(number).ok().and_then(|n| Level::try_from(n).ok()).ok_or_else(|| corrupt("approval level", number))
}

fn claim(row: &PgRow, by: usize) -> Result<Option<Claim>, StoreError> {
    let (by, until) = (row.try_get(by).map_err(failed)?, row.try_get(by + 1).map_err(failed)?);
    Ok(Option::zip(by, until).map(|(by, until)| Claim { by, until }))
}

/// What happened to a request, oldest first.
pub(super) async fn history(connection: &mut PgConnection, id: EventId) -> Result<Vec<PastStep>, StoreError> {
    let rows = sqlx::query("SELECT at, by, act, until, text FROM approval_history WHERE event_id = $1 ORDER BY nth")
        .bind(id.0)
        .fetch_all(connection)
        .await
        .map_err(failed)?;
    rows.iter()
        .map(|row| {
            let (act, until, text): (i16, _, _) = (
                row.try_get(2).map_err(failed)?,
                row.try_get::<Option<_>, _>(3).map_err(failed)?,
                row.try_get::<Option<_>, _>(4).map_err(failed)?,
            );
            let step = match (act, until, text) {
                (0, Some(until), _) => Step::Claimed { until },
                (1, ..) => Step::Released,
                (2, ..) => Step::Escalated,
                (3, _, Some(text)) => Step::Commented { text },
                (other, ..) => return Err(corrupt("act on an approval", other)),
            };
            Ok(PastStep { at: row.try_get(0).map_err(failed)?, by: row.try_get(1).map_err(failed)?, step })
        })
        .collect()
}

pub(super) async fn verdicts(pool: &PgPool, ids: &[EventId]) -> Result<Vec<(EventId, Outcome)>, StoreError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows = sqlx::query("SELECT event_id, verdict FROM verdicts WHERE event_id = ANY($1)")
        .bind(ids)
        .fetch_all(pool)
        .await
        .map_err(failed)?;
    let read = |row: &PgRow| Ok((EventId(row.try_get(0).map_err(failed)?), outcome(row.try_get(1).map_err(failed)?)?));
    rows.iter().map(read).collect()
}

/// Of open requests the index of a tenant's is read, of decided ones the primary key, backwards. A page
/// of 1,000 open requests beside 1,000,000 decided ones takes 2 ms (PostgreSQL 15, two cores).
async fn list(connection: &mut PgConnection, filter: ApprovalFilter) -> Result<Vec<ApprovalLine>, StoreError> {
    let decided = filter.state == ApprovalState::Decided;
    let mut query = QueryBuilder::new("SELECT a.event_id, a.tenant_id, a.opened_at, ");
    query.push(if decided { REQUEST } else { OPEN_REQUEST }).push(" FROM approvals a");
    query.push(match decided {
        true => " JOIN verdicts v ON v.event_id = a.event_id WHERE a.decided",
        false => " WHERE NOT a.decided",
    });
    match filter.state {
        ApprovalState::Open | ApprovalState::Decided => {}
        ApprovalState::Claimed(at) => _ = query.push(" AND a.claimed_until > ").push_bind(at),
        ApprovalState::Overdue(opened_by) => {
            query.push(" AND (a.level = 2 OR a.opened_at <= ").push_bind(opened_by).push(")");
        }
    }
    if let Some(tenant) = &filter.tenant {
        query.push(" AND a.tenant_id = ").push_bind(tenant.as_str().to_owned());
    }
    if let Some(before) = filter.before {
        query.push(" AND a.event_id < ").push_bind(before.0);
    }
    query.push(" ORDER BY a.event_id DESC LIMIT ").push_bind(i64::from(filter.limit));
    let rows = query.build().fetch_all(connection).await.map_err(failed)?;
    rows.iter()
        .map(|row| {
            Ok(ApprovalLine {
                event: EventId(row.try_get(0).map_err(failed)?),
                tenant: tenant(row.try_get(1).map_err(failed)?)?,
                approval: request(row, row.try_get(2).map_err(failed)?, 3, 6)?,
            })
        })
        .collect()
}

/// Locks the request up to the transaction's end; none where there is none.
async fn lock(tx: &mut PgConnection, of: &TenantId, id: EventId) -> Result<Option<Standing>, StoreError> {
    let locked = sqlx::query(
        "SELECT level, claimed_by, claimed_until FROM approvals WHERE event_id = $1 AND tenant_id = $2 FOR UPDATE",
    )
    .bind(id.0)
    .bind(of.as_str())
    .fetch_optional(&mut *tx)
    .await
    .map_err(failed)?;
    let Some(row) = locked else { return Ok(None) };
    let (level, claim) = (level_of(row.try_get(0).map_err(failed)?)?, claim(&row, 1)?);
    let row = sqlx::query(
        "SELECT v.verdict, v.decided_by, v.decided_at,
                (SELECT count(*) FROM approval_history WHERE event_id = $1 AND act = 0),
                (SELECT count(*) FROM approval_history WHERE event_id = $1 AND act = 3)
         FROM (VALUES (1)) AS one LEFT JOIN verdicts v ON v.event_id = $1",
    )
    .bind(id.0)
    .fetch_one(tx)
    .await
    .map_err(failed)?;
    let given = match row.try_get::<Option<i16>, _>(0).map_err(failed)? {
        None => None,
        Some(number) => Some(Given {
            outcome: outcome(number)?,
            by: row.try_get(1).map_err(failed)?,
            at: row.try_get(2).map_err(failed)?,
        }),
    };
    let count = |n: usize| Ok(u32::try_from(row.try_get::<i64, _>(n).map_err(failed)?).unwrap_or(u32::MAX));
    Ok(Some(Standing { level, claim, given, claims: count(3)?, comments: count(4)? }))
}

async fn remember(tx: &mut PgConnection, act: &ApprovalAct, step: &Step) -> Result<(), StoreError> {
    note(tx, &act.tenant, act.event, &act.audit, step).await
}

async fn note(
    tx: &mut PgConnection,
    tenant: &TenantId,
    event: EventId,
    audit: &AuditBody,
    step: &Step,
) -> Result<(), StoreError> {
    let (act, until, text): (i16, Option<DateTime<Utc>>, Option<&str>) = match step {
        Step::Claimed { until } => (0, Some(time::whole_millis(*until)), None),
        Step::Released => (1, None, None),
        Step::Escalated => (2, None, None),
        Step::Commented { text } => (3, None, Some(text)),
    };
    sqlx::query(
        "INSERT INTO approval_history (event_id, nth, tenant_id, at, by, act, until, text)
         SELECT $1, count(*) + 1, $2, $3, $4, $5, $6, $7 FROM approval_history WHERE event_id = $1",
    )
    .bind(event.0)
    .bind(tenant.as_str())
    .bind(time::whole_millis(audit.at))
    .bind(&audit.actor)
    .bind(act)
    .bind(until)
    .bind(text)
    .execute(tx)
    .await
    .map_err(failed)?;
    Ok(())
}

async fn set_claim(tx: &mut PgConnection, event: EventId, claim: Option<&Claim>) -> Result<(), StoreError> {
    let set = sqlx::query("UPDATE approvals SET claimed_by = $2, claimed_until = $3 WHERE event_id = $1")
        .bind(event.0)
        .bind(claim.map(|claim| &claim.by))
        .bind(claim.map(|claim| time::whole_millis(claim.until)))
        .execute(tx)
        .await
        .map_err(failed)?;
    one(set.rows_affected(), "claim", event)
}

async fn give(tx: &mut PgConnection, act: &ApprovalAct, verdict: Verdict, row: Uuid) -> Result<(), StoreError> {
    let unreasoned = || StoreError::Fault(format!("decide {}: its audit record has no reason", act.event));
    let number: i16 = match verdict {
        Verdict::Approved => 0,
        Verdict::Rejected => 2,
    };
    let given = sqlx::query(
        "INSERT INTO verdicts (event_id, tenant_id, verdict, decided_at, decided_by, reason)
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
    )
    .bind(act.event.0)
    .bind(act.tenant.as_str())
    .bind(number)
    .bind(time::whole_millis(act.audit.at))
    .bind(&act.audit.actor)
    .bind(act.audit.reason.as_ref().ok_or_else(unreasoned)?)
    .execute(&mut *tx)
    .await
    .map_err(failed)?;
    one(given.rows_affected(), "decide", act.event)?;
    // Nobody has it in hands: as old as can be, it is due at whoever looks first.
    sqlx::query("INSERT INTO outbox (id, kind, touched_at, n, events) VALUES ($1, 1, 'epoch', 1, ARRAY[$2::uuid])")
        .bind(row)
        .bind(act.event.0)
        .execute(tx)
        .await
        .map_err(failed)?;
    Ok(())
}

/// The request is locked: anything but one row is a foreign hand's.
fn one(rows: u64, what: &str, event: EventId) -> Result<(), StoreError> {
    if rows == 1 {
        return Ok(());
    }
    Err(StoreError::Fault(format!("{what} {event}: its approval changed under its lock")))
}

/// What an act writes.
enum Change {
    Claim(DateTime<Utc>),
    Release,
    Comment(String),
    Decide(Verdict, Uuid),
}

impl Change {
    fn wish(&self) -> Wish {
        match self {
            Self::Claim(_) => Wish::Claim,
            Self::Release => Wish::Release,
            Self::Comment(_) => Wish::Comment,
            Self::Decide(..) => Wish::Decide,
        }
    }

    async fn write(&self, tx: &mut PgConnection, act: &ApprovalAct) -> Result<(), StoreError> {
        match self {
            Self::Claim(until) => {
                let claim = Claim { by: act.audit.actor.clone(), until: *until };
                set_claim(tx, act.event, Some(&claim)).await?;
                remember(tx, act, &Step::Claimed { until: *until }).await
            }
            Self::Release => {
                set_claim(tx, act.event, None).await?;
                remember(tx, act, &Step::Released).await
            }
            Self::Comment(text) => remember(tx, act, &Step::Commented { text: text.clone() }).await,
            Self::Decide(verdict, row) => give(tx, act, *verdict, *row).await,
        }
    }
}

async fn change(store: &PostgresStore, act: &ApprovalAct, change: Change) -> Result<Acted, StoreError> {
    let (locks, person) = (store.locks, act.clone());
    under(store, &act.tenant, move |tx| Box::pin(change_in(tx, locks, person, change))).await
}

async fn change_in(tx: &mut PgConnection, locks: i32, act: ApprovalAct, change: Change) -> Result<Acted, StoreError> {
    let judged = match lock(tx, &act.tenant, act.event).await? {
        None => Err(Refusal::NotEscalated),
        Some(standing) => standing.judge(change.wish(), &act.audit.actor, act.powers, act.audit.at),
    };
    if judged.is_ok() {
        change.write(tx, &act).await?;
        append_control(tx, locks, &act.tenant, &act.audit).await?;
    }
    Ok(judged)
}

#[async_trait]
impl Approvals for PostgresStore {
    async fn list_approvals(&self, filter: &ApprovalFilter) -> Result<Vec<ApprovalLine>, StoreError> {
        let (scope, wanted) = (Scope::of(filter.tenant.as_ref()), filter.clone());
        ask(self, &scope, move |connection| Box::pin(list(connection, wanted))).await
    }

    async fn claim_approval(&self, act: &ApprovalAct, until: DateTime<Utc>) -> Result<Acted, StoreError> {
        change(self, act, Change::Claim(until)).await
    }

    async fn release_approval(&self, act: &ApprovalAct) -> Result<Acted, StoreError> {
        change(self, act, Change::Release).await
    }

    async fn comment_approval(&self, act: &ApprovalAct, text: &str) -> Result<Acted, StoreError> {
        change(self, act, Change::Comment(text.to_owned())).await
    }

    async fn decide_approval(&self, act: &ApprovalAct, verdict: Verdict, row: Uuid) -> Result<Acted, StoreError> {
        change(self, act, Change::Decide(verdict, row)).await
    }

    async fn count_approvals(&self, opened_by: Option<DateTime<Utc>>) -> Result<ApprovalCounts, StoreError> {
        let row = sqlx::query(
            "SELECT count(*), count(*) FILTER (WHERE level = 2 OR opened_at <= $1),
                    count(*) FILTER (WHERE level = 1 AND opened_at <= $1)
             FROM approvals WHERE NOT decided",
        )
        .bind(opened_by)
        .fetch_one(&self.reading)
        .await
        .map_err(failed)?;
        let count = |n: usize| Ok(row.try_get::<i64, _>(n).map_err(failed)?.unsigned_abs());
        Ok(ApprovalCounts { open: count(0)?, overdue: count(1)?, to_escalate: count(2)? })
    }

    async fn approvals_to_escalate(
        &self,
        opened_by: DateTime<Utc>,
        limit: u32,
    ) -> Result<Vec<(TenantId, EventId)>, StoreError> {
        let rows = sqlx::query(
            "SELECT tenant_id, event_id FROM approvals WHERE NOT decided AND level = 1 AND opened_at <= $1 LIMIT $2",
        )
        .bind(opened_by)
        .bind(i64::from(limit))
        .fetch_all(&self.reading)
        .await
        .map_err(failed)?;
        let read =
            |row: &PgRow| Ok((tenant(row.try_get(0).map_err(failed)?)?, EventId(row.try_get(1).map_err(failed)?)));
        rows.iter().map(read).collect()
    }

    async fn escalate_approval(
        &self,
        tenant: &TenantId,
        event: EventId,
        opened_by: DateTime<Utc>,
        audit: &AuditBody,
    ) -> Result<bool, StoreError> {
        let mut connection = self.reading.acquire().await.map_err(failed)?;
        let mut tx = connection.begin().await.map_err(failed)?;
        // Whoever waits here for a verdict under way sees `decided` when it goes on.
        let raised = sqlx::query(
            "UPDATE approvals SET level = 2, claimed_by = NULL, claimed_until = NULL
             WHERE event_id = $1 AND tenant_id = $2 AND NOT decided AND level = 1 AND opened_at <= $3",
        )
        .bind(event.0)
        .bind(tenant.as_str())
        .bind(opened_by)
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
        if raised.rows_affected() == 0 {
            tx.rollback().await.map_err(failed)?;
            return Ok(false);
        }
        note(&mut tx, tenant, event, audit, &Step::Escalated).await?;
        append_control(&mut tx, self.locks, tenant, audit).await?;
        tx.commit().await.map_err(failed)?;
        Ok(true)
    }
}
