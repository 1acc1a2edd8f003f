//! Owns the days: what is known of each, and how one goes.
//!
//! # Decisions
//! A day is condemned in one transaction, which looks at everything and writes the audit record; from
//! then on it is gone for everybody. Its rows are deleted afterwards in short transactions, because
//! there is one writer and accepts wait for it. Keys go first: a key always has its event. A process
//! that ends half-way leaves `unfinished`, and the next sweep goes on.

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, SqliteConnection};
use uuid::Uuid;

use super::SqliteStore;
use super::audit::append_control;
use super::db::{Db, Sync, failure};
use super::rows::{event_id, get, id_list, ids_from, millis, moment, tenant};
use crate::domain::retention::{Day, DayFacts, Expired, ExpiredDay};
use crate::domain::{AuditBody, EventId, TenantId};
use crate::ports::StoreError;
use crate::ports::retention::{DropAct, Retention, chain, dropped_state};

/// Events deleted by one transaction.
const EVENTS_MAX: u32 = 500;

/// Keys looked at by one statement.
const KEYS_MAX: u32 = 5_000;

/// What hangs on an event, in an order that no reference forbids; a table that a later version adds
/// stands here too.
const BESIDE: [&str; 5] = ["verdicts", "approvals", "dead_history", "retries", "decisions"];

/// Tenants under legal hold that are named.
const HELD_MAX: u32 = 10;

#[async_trait]
impl Retention for SqliteStore {
    async fn days(&self, fleet_days: u32, limit: u32) -> Result<Vec<DayFacts>, StoreError> {
        let today = Day::at(self.0.clock.now());
        let mut facts = Vec::new();
        for day in stored_days(&self.0.db, today, limit).await? {
            let mut tx = self.0.db.readers().begin().await.map_err(failure)?;
            let found = look(&mut tx, day, fleet_days, today, true).await;
            tx.rollback().await.map_err(failure)?;
            match found? {
                Seen::Facts(found) => facts.push(found),
                Seen::Uncounted => {
                    let mut tx = self.0.db.begin(Sync::Normal).await?;
                    roll(tx.conn()?, day).await?;
                    facts.push(look(tx.conn()?, day, fleet_days, today, false).await?.facts()?);
                    tx.commit().await?;
                }
            }
        }
        Ok(facts)
    }

    async fn drop_day(&self, day: Day, fleet_days: u32, audit: &AuditBody) -> Result<DropAct, StoreError> {
        let mut tx = self.0.db.begin(Sync::Full).await?;
        let conn = tx.conn()?;
        if find(conn, day).await?.is_some() {
            tx.commit().await?;
            return Ok(DropAct::Gone);
        }
        let now = self.0.clock.now();
        roll(conn, day).await?;
        let facts = look(conn, day, fleet_days, Day::at(now), false).await?.facts()?;
        let stays = facts.stays();
        if !stays.is_empty() {
            tx.commit().await?;
            return Ok(DropAct::Stays(stays));
        }
        let expired = condemn(conn, &facts, millis(now)).await?;
        let audit = AuditBody { new: Some(dropped_state(&expired)), ..audit.clone() };
        append_control(conn, &chain(), &audit).await?;
        tx.commit().await?;
        finish(&self.0.db, day).await?;
        Ok(DropAct::Dropped(expired))
    }

    async fn finish_drops(&self) -> Result<u64, StoreError> {
        let sql = "SELECT day FROM expired_days WHERE unfinished = 1 ORDER BY day";
        let rows = sqlx::query(sql).fetch_all(self.0.db.readers()).await.map_err(failure)?;
        for row in &rows {
            finish(&self.0.db, Day::numbered(get(row, 0)?)).await?;
        }
        Ok(rows.len() as u64)
    }
}

/// The days before `today` with events in them that are not gone, the oldest first: one probe a day.
async fn stored_days(db: &Db, today: Day, limit: u32) -> Result<Vec<Day>, StoreError> {
    let (mut days, mut from) = (Vec::new(), EventId::floor(0));
    while days.len() < limit as usize {
        let next = "SELECT id FROM events WHERE id >= ? AND id < ? ORDER BY id LIMIT 1";
        let next = sqlx::query(next).bind(from.0).bind(today.first_id().0).fetch_optional(db.readers()).await;
        let Some(row) = next.map_err(failure)? else { break };
        let day = Day::of(event_id(&row, 0)?);
        if expired_day(db, day).await?.is_none() {
            days.push(day);
        }
        from = day.plus(1).first_id();
    }
    Ok(days)
}

/// What is known of a day.
enum Seen {
    Facts(DayFacts),
    /// Its events have to be counted first.
    Uncounted,
}

impl Seen {
    fn facts(self) -> Result<DayFacts, StoreError> {
        match self {
            Self::Facts(facts) => Ok(facts),
            Self::Uncounted => Err(StoreError::Fault("look at a day: it was counted, and is not".into())),
        }
    }
}

async fn look(
    conn: &mut SqliteConnection,
    day: Day,
    fleet_days: u32,
    today: Day,
    may_count: bool,
) -> Result<Seen, StoreError> {
    let sql = "SELECT mark, (SELECT min(retention_days) FROM tenants WHERE retention_days > 0),
                      EXISTS (SELECT 1 FROM day_tenants WHERE day = ?) FROM fleet";
    let row = sqlx::query(sql).bind(day.number()).fetch_one(&mut *conn).await.map_err(failure)?;
    let (mark, own, counted) = (event_id(&row, 0)?, get::<Option<u32>>(&row, 1)?, get::<bool>(&row, 2)?);
    let shortest = own.into_iter().chain((fleet_days > 0).then_some(fleet_days)).min();
    let mut facts = DayFacts {
        day,
        today,
        events: None,
        below_mark: mark > day.last_id(),
        kept_days: shortest.unwrap_or(0),
        waiting: 0,
        dead: 0,
        unjudged: 0,
        unpublished: 0,
        held: Vec::new(),
    };
    let young = shortest.is_none_or(|days| day.plus(1).plus(days) > today);
    if young || !facts.below_mark {
        return Ok(Seen::Facts(facts));
    }
    if !counted && may_count {
        return Ok(Seen::Uncounted);
    }
    fill(conn, &mut facts, fleet_days).await?;
    Ok(Seen::Facts(facts))
}

/// The counts, the longest retention and the holds of a day whose tenants are written down.
async fn fill(conn: &mut SqliteConnection, facts: &mut DayFacts, fleet_days: u32) -> Result<(), StoreError> {
    let sql = "SELECT
        coalesce((SELECT CASE WHEN min(k) = 0 THEN 0 ELSE max(k) END
                  FROM (SELECT coalesce(t.retention_days, ?1) AS k FROM day_tenants d
                        LEFT JOIN tenants t ON t.tenant = d.tenant WHERE d.day = ?2)), ?1),
        (SELECT count(*) FROM retries WHERE event BETWEEN ?3 AND ?4),
        (SELECT count(*) FROM decisions d WHERE d.event BETWEEN ?3 AND ?4 AND d.class IS NOT NULL
            AND NOT EXISTS (SELECT 1 FROM dead_history h WHERE h.event = d.event AND h.act = 1)),
        (SELECT count(*) FROM approvals a WHERE a.event BETWEEN ?3 AND ?4
            AND NOT EXISTS (SELECT 1 FROM verdicts v WHERE v.event = a.event)),
        (SELECT coalesce(sum(events), 0) FROM day_tenants WHERE day = ?2)";
    let row = sqlx::query(sql)
        .bind(fleet_days)
        .bind(facts.day.number())
        .bind(facts.day.first_id().0)
        .bind(facts.day.last_id().0)
        .fetch_one(&mut *conn)
        .await
        .map_err(failure)?;
    facts.kept_days = get(&row, 0)?;
    let count = |n: usize| get::<i64>(&row, n).map(i64::unsigned_abs);
    (facts.waiting, facts.dead, facts.unjudged) = (count(1)?, count(2)?, count(3)?);
    facts.events = Some(count(4)?);
    facts.unpublished = unpublished(conn, facts.day).await?;
    facts.held = held(conn, facts.day).await?;
    Ok(())
}

/// The outbox is small: it holds what is in flight.
async fn unpublished(conn: &mut SqliteConnection, day: Day) -> Result<u64, StoreError> {
    let rows = sqlx::query("SELECT events FROM outbox").fetch_all(conn).await.map_err(failure)?;
    let mut named = 0;
    for row in &rows {
        named += ids_from(get(row, 0)?)?.into_iter().filter(|id| Day::of(*id) == day).count() as u64;
    }
    Ok(named)
}

async fn held(conn: &mut SqliteConnection, day: Day) -> Result<Vec<TenantId>, StoreError> {
    let sql = "SELECT d.tenant FROM day_tenants d JOIN tenants t ON t.tenant = d.tenant
               WHERE d.day = ? AND t.legal_hold = 1 ORDER BY d.tenant LIMIT ?";
    let rows = sqlx::query(sql).bind(day.number()).bind(HELD_MAX).fetch_all(conn).await.map_err(failure)?;
    rows.iter().map(|row| tenant(row, 0)).collect()
}

/// Writes down whose events a day holds.
async fn roll(conn: &mut SqliteConnection, day: Day) -> Result<(), StoreError> {
    let old = sqlx::query("DELETE FROM day_tenants WHERE day = ?").bind(day.number());
    old.execute(&mut *conn).await.map_err(failure)?;
    let sql = "INSERT INTO day_tenants (day, tenant, events)
               SELECT ?, tenant, count(*) FROM events WHERE id BETWEEN ? AND ? GROUP BY tenant";
    let counted = sqlx::query(sql).bind(day.number()).bind(day.first_id().0).bind(day.last_id().0);
    counted.execute(conn).await.map_err(failure)?;
    Ok(())
}

/// Notes that the day is gone. An event without an end speaks against the mark, and is a fault.
async fn condemn(conn: &mut SqliteConnection, facts: &DayFacts, now: i64) -> Result<ExpiredDay, StoreError> {
    let day = facts.day;
    let sql = "SELECT count(*) FROM decisions WHERE event BETWEEN ? AND ?";
    let row = sqlx::query(sql).bind(day.first_id().0).bind(day.last_id().0).fetch_one(&mut *conn).await;
    let decisions = get::<i64>(&row.map_err(failure)?, 0)?.unsigned_abs();
    let events = facts.events.unwrap_or(0);
    if decisions != events {
        return Err(StoreError::Fault(format!("drop {day}: it has {events} events and {decisions} ends")));
    }
    let sql = "INSERT INTO expired_days (day, first_id, last_id, events, decisions, at, unfinished)
               VALUES (?, ?, ?, ?, ?, ?, 1)";
    sqlx::query(sql)
        .bind(day.number())
        .bind(day.first_id().0)
        .bind(day.last_id().0)
        .bind(events as i64)
        .bind(decisions as i64)
        .bind(now)
        .execute(&mut *conn)
        .await
        .map_err(failure)?;
    let old = sqlx::query("DELETE FROM day_tenants WHERE day = ?").bind(day.number());
    old.execute(conn).await.map_err(failure)?;
    Ok(ExpiredDay { day, events, decisions, at: super::rows::from_millis(now) })
}

/// Deletes the rows of a day that is gone.
async fn finish(db: &Db, day: Day) -> Result<(), StoreError> {
    forget_keys(db, day).await?;
    while delete_some(db, day).await? {}
    let mut tx = db.begin(Sync::Normal).await?;
    let done = sqlx::query("UPDATE expired_days SET unfinished = 0 WHERE day = ?").bind(day.number());
    done.execute(tx.conn()?).await.map_err(failure)?;
    tx.commit().await
}

/// Walks all keys, on a reader: no index knows their events, since every accept would pay for it.
async fn forget_keys(db: &Db, day: Day) -> Result<(), StoreError> {
    let (mut past_tenant, mut past_key) = (String::new(), String::new());
    loop {
        let page = "SELECT tenant, key, event FROM keys WHERE (tenant, key) > (?, ?) ORDER BY tenant, key LIMIT ?";
        let page = sqlx::query(page).bind(past_tenant.as_str()).bind(past_key.as_str()).bind(KEYS_MAX);
        let rows = page.fetch_all(db.readers()).await.map_err(failure)?;
        let Some(last) = rows.last() else { return Ok(()) };
        (past_tenant, past_key) = (get(last, 0)?, get(last, 1)?);
        let mut old: Vec<(&str, &str)> = Vec::new();
        for row in &rows {
            if Day::of(event_id(row, 2)?) == day {
                old.push((get(row, 0)?, get(row, 1)?));
            }
        }
        if old.is_empty() {
            continue;
        }
        let list = serde_json::to_string(&old).map_err(|e| StoreError::Fault(e.to_string()))?;
        let mut tx = db.begin(Sync::Normal).await?;
        // A key that was used again meanwhile has another event, and stays.
        let gone = "DELETE FROM keys WHERE event BETWEEN ?2 AND ?3
                    AND (tenant, key) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?1))";
        let gone = sqlx::query(gone).bind(list).bind(day.first_id().0).bind(day.last_id().0);
        gone.execute(tx.conn()?).await.map_err(failure)?;
        tx.commit().await?;
    }
}

/// Deletes some of the day's events with what hangs on them. False when none is left.
async fn delete_some(db: &Db, day: Day) -> Result<bool, StoreError> {
    let mut tx = db.begin(Sync::Normal).await?;
    let conn = tx.conn()?;
    let some = "SELECT id FROM events WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?";
    let some = sqlx::query(some).bind(day.first_id().0).bind(day.last_id().0).bind(EVENTS_MAX);
    let rows = some.fetch_all(&mut *conn).await.map_err(failure)?;
    let ids = rows.iter().map(|row| get::<Uuid>(row, 0)).collect::<Result<Vec<Uuid>, StoreError>>()?;
    let list = id_list(ids.iter().copied());
    for table in BESIDE {
        let sql = format!("DELETE FROM {table} WHERE event IN (SELECT unhex(value) FROM json_each(?))");
        sqlx::query(AssertSqlSafe(sql)).bind(list.as_str()).execute(&mut *conn).await.map_err(failure)?;
    }
    let events = sqlx::query("DELETE FROM events WHERE id IN (SELECT unhex(value) FROM json_each(?))");
    events.bind(list.as_str()).execute(&mut *conn).await.map_err(failure)?;
    tx.commit().await?;
    Ok(!ids.is_empty())
}

const EXPIRED: &str = "SELECT day, events, decisions, at FROM expired_days";

fn expired(row: &SqliteRow) -> Result<ExpiredDay, StoreError> {
    let count = |n: usize| get::<i64>(row, n).map(i64::unsigned_abs);
    Ok(ExpiredDay { day: Day::numbered(get(row, 0)?), events: count(1)?, decisions: count(2)?, at: moment(row, 3)? })
}

async fn find(conn: &mut SqliteConnection, day: Day) -> Result<Option<ExpiredDay>, StoreError> {
    let sql = format!("{EXPIRED} WHERE day = ?");
    let row = sqlx::query(AssertSqlSafe(sql)).bind(day.number()).fetch_optional(conn).await.map_err(failure)?;
    row.as_ref().map(expired).transpose()
}

/// The day, if it is gone.
pub(super) async fn expired_day(db: &Db, day: Day) -> Result<Option<ExpiredDay>, StoreError> {
    find(&mut *db.readers().acquire().await.map_err(failure)?, day).await
}

/// Every day that is gone.
pub(super) async fn expired_days(db: &Db) -> Result<Expired, StoreError> {
    sqlx::query(EXPIRED).fetch_all(db.readers()).await.map_err(failure)?.iter().map(expired).collect()
}
