//! Owns approval requests after their opening: lists, claims, comments, verdicts, escalation. The one
//! writer takes the place of the request's lock.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, SqliteConnection};
use uuid::Uuid;

use super::audit::append_control;
use super::db::{Db, Sync, failure};
use super::rows::{self, event_id, from_millis, get, id_list, kind_number, millis, moment, number, numbered, tenant};
use super::{SqliteStore, rows::unreadable};
use crate::domain::approval::{Claim, Given, Level, PastStep, Refusal, Standing, Step, Verdict, Wish};
use crate::domain::{AuditBody, EventId, Outcome, TenantId};
use crate::ports::approvals::{Acted, ApprovalAct, ApprovalCounts, ApprovalFilter, ApprovalLine, ApprovalState};
use crate::ports::store::{Approval, OutboxKind};
use crate::ports::{Approvals, StoreError};

/// The columns of [`request`], of tables `a` (approvals) and `v` (verdicts).
const REQUEST: &str =
    "a.opened_at, a.level, a.claimed_by, a.claimed_until, v.verdict, v.decided_at, v.decided_by, v.reason";

fn request(row: &SqliteRow, first: usize) -> Result<Approval, StoreError> {
    Ok(Approval {
        level: level(get(row, first + 1)?)?,
        claim: claim(row, first + 2)?,
        verdict: get::<Option<i64>>(row, first + 4)?.map(|verdict| numbered(&Outcome::ALL, verdict)).transpose()?,
        decided_at: get::<Option<i64>>(row, first + 5)?.map(from_millis),
        decided_by: get(row, first + 6)?,
        reason: get(row, first + 7)?,
        ..Approval::opened(moment(row, first)?)
    })
}

fn level(number: u8) -> Result<Level, StoreError> {
    Level::try_from(number).map_err(unreadable)
}

fn claim(row: &SqliteRow, by: usize) -> Result<Option<Claim>, StoreError> {
    let (by, until) = (get::<Option<String>>(row, by)?, get::<Option<i64>>(row, by + 1)?);
    Ok(by.zip(until).map(|(by, until)| Claim { by, until: from_millis(until) }))
}

/// The request about an event, with its history.
pub(super) async fn of_event(conn: &mut SqliteConnection, id: EventId) -> Result<Option<Approval>, StoreError> {
    let sql = format!("SELECT {REQUEST} FROM approvals a LEFT JOIN verdicts v ON v.event = a.event WHERE a.event = ?");
    let row = sqlx::query(AssertSqlSafe(sql)).bind(id.0).fetch_optional(&mut *conn).await.map_err(failure)?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Approval { history: history(conn, id).await?, ..request(&row, 0)? }))
}

async fn history(conn: &mut SqliteConnection, id: EventId) -> Result<Vec<PastStep>, StoreError> {
    let sql = "SELECT at, by, act, until, text FROM approval_history WHERE event = ? ORDER BY nth";
    let read = |row| {
        let step = match (get::<i64>(row, 2)?, get::<Option<i64>>(row, 3)?, get::<Option<String>>(row, 4)?) {
            (0, Some(until), _) => Step::Claimed { until: from_millis(until) },
            (1, ..) => Step::Released,
            (2, ..) => Step::Escalated,
            (3, _, Some(text)) => Step::Commented { text },
            (other, ..) => return Err(unreadable(format!("unknown act {other} on an approval"))),
        };
        Ok(PastStep { at: moment(row, 0)?, by: get(row, 1)?, step })
    };
    sqlx::query(sql).bind(id.0).fetch_all(conn).await.map_err(failure)?.iter().map(read).collect()
}

pub(super) async fn verdicts(db: &Db, ids: &[EventId]) -> Result<Vec<(EventId, Outcome)>, StoreError> {
    let sql = "SELECT event, verdict FROM verdicts WHERE event IN (SELECT unhex(value) FROM json_each(?))";
    let asked = sqlx::query(sql).bind(id_list(ids.iter().map(|id| id.0)));
    let read = |row| Ok((event_id(row, 0)?, numbered(&Outcome::ALL, get(row, 1)?)?));
    asked.fetch_all(db.readers()).await.map_err(failure)?.iter().map(read).collect()
}

/// Reads the index of the open requests backwards; for decided ones, the primary key.
async fn list(db: &Db, filter: &ApprovalFilter) -> Result<Vec<ApprovalLine>, StoreError> {
    let (fits, moment) = match filter.state {
        ApprovalState::Open => ("a.decided = 0", None),
        ApprovalState::Claimed(at) => ("a.decided = 0 AND a.claimed_until > ?4", Some(at)),
        ApprovalState::Overdue(opened_by) => ("a.decided = 0 AND (a.level = 2 OR a.opened_at <= ?4)", opened_by),
        ApprovalState::Decided => ("a.decided = 1", None),
    };
    let sql = format!(
        "SELECT a.event, e.tenant, {REQUEST} FROM approvals a CROSS JOIN events e ON e.id = a.event
         LEFT JOIN verdicts v ON v.event = a.event
         WHERE {fits} AND a.event < coalesce(?1, x'ffffffffffffffffffffffffffffffffff')
           AND (?2 IS NULL OR e.tenant = ?2)
         ORDER BY a.event DESC LIMIT ?3"
    );
    let asked = sqlx::query(AssertSqlSafe(sql))
        .bind(filter.before.map(|id| id.0))
        .bind(filter.tenant.as_ref().map(TenantId::as_str))
        .bind(filter.limit)
        .bind(moment.map(millis));
    let read = |row| Ok(ApprovalLine { event: event_id(row, 0)?, tenant: tenant(row, 1)?, approval: request(row, 2)? });
    asked.fetch_all(db.readers()).await.map_err(failure)?.iter().map(read).collect()
}

/// The request as it stands; none where there is none.
async fn standing(conn: &mut SqliteConnection, act: &ApprovalAct) -> Result<Option<Standing>, StoreError> {
    let sql = "SELECT a.level, a.claimed_by, a.claimed_until, v.verdict, v.decided_by, v.decided_at,
                      (SELECT count(*) FROM approval_history h WHERE h.event = a.event AND h.act = 0),
                      (SELECT count(*) FROM approval_history h WHERE h.event = a.event AND h.act = 3)
               FROM approvals a JOIN events e ON e.id = a.event LEFT JOIN verdicts v ON v.event = a.event
               WHERE a.event = ? AND e.tenant = ?";
    let asked = sqlx::query(sql).bind(act.event.0).bind(act.tenant.as_str());
    let Some(row) = asked.fetch_optional(conn).await.map_err(failure)? else { return Ok(None) };
    let given = match get::<Option<i64>>(&row, 3)? {
        None => None,
        Some(verdict) => {
            Some(Given { outcome: numbered(&Outcome::ALL, verdict)?, by: get(&row, 4)?, at: moment(&row, 5)? })
        }
    };
    Ok(Some(Standing {
        level: level(get(&row, 0)?)?,
        claim: claim(&row, 1)?,
        given,
        claims: get(&row, 6)?,
        comments: get(&row, 7)?,
    }))
}

async fn note(conn: &mut SqliteConnection, event: EventId, audit: &AuditBody, step: &Step) -> Result<(), StoreError> {
    let (act, until, text) = match step {
        Step::Claimed { until } => (0, Some(millis(*until)), None),
        Step::Released => (1, None, None),
        Step::Escalated => (2, None, None),
        Step::Commented { text } => (3, None, Some(text.as_str())),
    };
    let sql = "INSERT INTO approval_history (event, nth, at, by, act, until, text)
               SELECT ?1, count(*) + 1, ?2, ?3, ?4, ?5, ?6 FROM approval_history WHERE event = ?1";
    sqlx::query(sql)
        .bind(event.0)
        .bind(millis(audit.at))
        .bind(audit.actor.as_str())
        .bind(act)
        .bind(until)
        .bind(text)
        .execute(conn)
        .await
        .map_err(failure)?;
    Ok(())
}

async fn set_claim(conn: &mut SqliteConnection, event: EventId, claim: Option<(&str, i64)>) -> Result<(), StoreError> {
    sqlx::query("UPDATE approvals SET claimed_by = ?, claimed_until = ? WHERE event = ?")
        .bind(claim.map(|(by, _)| by))
        .bind(claim.map(|(_, until)| until))
        .bind(event.0)
        .execute(conn)
        .await
        .map_err(failure)?;
    Ok(())
}

async fn give(conn: &mut SqliteConnection, act: &ApprovalAct, verdict: Verdict, row: Uuid) -> Result<(), StoreError> {
    let unreasoned = || StoreError::Fault(format!("decide {}: its audit record has no reason", act.event));
    sqlx::query("INSERT INTO verdicts (event, verdict, decided_at, decided_by, reason) VALUES (?, ?, ?, ?, ?)")
        .bind(act.event.0)
        .bind(number(&Outcome::ALL, &verdict.outcome()))
        .bind(millis(act.audit.at))
        .bind(act.audit.actor.as_str())
        .bind(act.audit.reason.as_deref().ok_or_else(unreasoned)?)
        .execute(&mut *conn)
        .await
        .map_err(failure)?;
    // Nobody has it in hands: as old as can be, it is due at whoever looks first.
    sqlx::query("INSERT INTO outbox (id, kind, touched_at, events) VALUES (?, ?, 0, ?)")
        .bind(row)
        .bind(kind_number(OutboxKind::Outcome))
        .bind(rows::id_bytes(&[act.event]))
        .execute(conn)
        .await
        .map_err(failure)?;
    Ok(())
}

/// What an act writes.
enum Change<'a> {
    Claim(DateTime<Utc>),
    Release,
    Comment(&'a str),
    Decide(Verdict, Uuid),
}

impl Change<'_> {
    fn wish(&self) -> Wish {
        match self {
            Self::Claim(_) => Wish::Claim,
            Self::Release => Wish::Release,
            Self::Comment(_) => Wish::Comment,
            Self::Decide(..) => Wish::Decide,
        }
    }

    async fn write(&self, conn: &mut SqliteConnection, act: &ApprovalAct) -> Result<(), StoreError> {
        let step = match self {
            Self::Claim(until) => {
                set_claim(conn, act.event, Some((&act.audit.actor, millis(*until)))).await?;
                Step::Claimed { until: *until }
            }
            Self::Release => {
                set_claim(conn, act.event, None).await?;
                Step::Released
            }
            Self::Comment(text) => Step::Commented { text: (*text).to_owned() },
            Self::Decide(verdict, row) => return give(conn, act, *verdict, *row).await,
        };
        note(conn, act.event, &act.audit, &step).await
    }
}

async fn change(db: &Db, act: &ApprovalAct, change: Change<'_>) -> Result<Acted, StoreError> {
    let mut tx = db.begin(Sync::Full).await?;
    let conn = tx.conn()?;
    let judged = match standing(conn, act).await? {
        None => Err(Refusal::NotEscalated),
        Some(standing) => standing.judge(change.wish(), &act.audit.actor, act.powers, act.audit.at),
    };
    if judged.is_ok() {
        change.write(conn, act).await?;
        append_control(conn, &act.tenant, &act.audit).await?;
    }
    tx.commit().await?;
    Ok(judged)
}

#[async_trait]
impl Approvals for SqliteStore {
    async fn list_approvals(&self, filter: &ApprovalFilter) -> Result<Vec<ApprovalLine>, StoreError> {
        list(&self.0.db, filter).await
    }

    async fn claim_approval(&self, act: &ApprovalAct, until: DateTime<Utc>) -> Result<Acted, StoreError> {
        change(&self.0.db, act, Change::Claim(until)).await
    }

    async fn release_approval(&self, act: &ApprovalAct) -> Result<Acted, StoreError> {
        change(&self.0.db, act, Change::Release).await
    }

    async fn comment_approval(&self, act: &ApprovalAct, text: &str) -> Result<Acted, StoreError> {
        change(&self.0.db, act, Change::Comment(text)).await
    }

    async fn decide_approval(&self, act: &ApprovalAct, verdict: Verdict, row: Uuid) -> Result<Acted, StoreError> {
        change(&self.0.db, act, Change::Decide(verdict, row)).await
    }

    async fn count_approvals(&self, opened_by: Option<DateTime<Utc>>) -> Result<ApprovalCounts, StoreError> {
        let sql = "SELECT count(*), count(*) FILTER (WHERE level = 2 OR opened_at <= ?1),
                          count(*) FILTER (WHERE level = 1 AND opened_at <= ?1)
                   FROM approvals WHERE decided = 0";
        let asked = sqlx::query(sql).bind(opened_by.map(millis));
        let row = asked.fetch_one(self.0.db.readers()).await.map_err(failure)?;
        let count = |n: usize| Ok(get::<i64>(&row, n)?.unsigned_abs());
        Ok(ApprovalCounts { open: count(0)?, overdue: count(1)?, to_escalate: count(2)? })
    }

    async fn approvals_to_escalate(
        &self,
        opened_by: DateTime<Utc>,
        limit: u32,
    ) -> Result<Vec<(TenantId, EventId)>, StoreError> {
        let sql = "SELECT e.tenant, a.event FROM approvals a CROSS JOIN events e ON e.id = a.event
                   WHERE a.decided = 0 AND a.level = 1 AND a.opened_at <= ? LIMIT ?";
        let asked = sqlx::query(sql).bind(millis(opened_by)).bind(limit);
        let read = |row| Ok((tenant(row, 0)?, event_id(row, 1)?));
        asked.fetch_all(self.0.db.readers()).await.map_err(failure)?.iter().map(read).collect()
    }

    async fn escalate_approval(
        &self,
        tenant: &TenantId,
        event: EventId,
        opened_by: DateTime<Utc>,
        audit: &AuditBody,
    ) -> Result<bool, StoreError> {
        let mut tx = self.0.db.begin(Sync::Full).await?;
        let conn = tx.conn()?;
        let sql = "UPDATE approvals SET level = 2, claimed_by = NULL, claimed_until = NULL
                   WHERE event = ? AND decided = 0 AND level = 1 AND opened_at <= ?
                     AND EXISTS (SELECT 1 FROM events e WHERE e.id = approvals.event AND e.tenant = ?)";
        let raised = sqlx::query(sql).bind(event.0).bind(millis(opened_by)).bind(tenant.as_str());
        let raised = raised.execute(&mut *conn).await.map_err(failure)?.rows_affected() == 1;
        if raised {
            note(conn, event, audit, &Step::Escalated).await?;
            append_control(conn, tenant, audit).await?;
        }
        tx.commit().await?;
        Ok(raised)
    }
}
