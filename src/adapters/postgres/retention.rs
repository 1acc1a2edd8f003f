//! Owns the days: what is known of each, and the call of the function that drops one
//! (`migrations/postgres/0007_retention.sql`), which alone decides whether it goes.

use async_trait::async_trait;
use chrono::NaiveDate;
use sqlx::{ConnectOptions, Connection, PgConnection, PgPool, Row};

use super::connect::failed;
use super::control::append_control;
use super::read;
use super::store::PostgresStore;
use crate::domain::retention::{Day, DayFacts, Expired, ExpiredDay};
use crate::domain::{AuditBody, EventId, TenantId};
use crate::ports::StoreError;
use crate::ports::retention::{DropAct, Retention, chain, dropped_state};

/// What `drop_day` raises when the day stays.
const STAYS: &str = "RF007";

/// The advisory lock of "only one drops days"; its neighbours are in `connect`.
const DROP_LOCK: i32 = super::connect::MOVER_LOCK + 7;

/// `statement_timeout` for what reads or deletes a whole day.
const WHOLE_DAY: &str = "SET statement_timeout = '1h'";

/// A connection of its own: what takes long must hold up nobody who waits for one of the pool.
async fn connect(store: &PostgresStore) -> Result<PgConnection, StoreError> {
    let mut connection = store.sweeping.connect().await.map_err(failed)?;
    sqlx::query(WHOLE_DAY).execute(&mut connection).await.map_err(failed)?;
    Ok(connection)
}

#[async_trait]
impl Retention for PostgresStore {
    async fn days(&self, fleet_days: u32, limit: u32) -> Result<Vec<DayFacts>, StoreError> {
        let mut connection = connect(self).await?;
        let clock = Clock::read(&mut connection, fleet_days).await?;
        let mut facts = Vec::new();
        for day in stored_days(&mut connection, clock.today, limit).await? {
            facts.push(look(&mut connection, day, fleet_days, clock).await?);
        }
        connection.close().await.map_err(failed)?;
        Ok(facts)
    }

    async fn drop_day(&self, day: Day, fleet_days: u32, audit: &AuditBody) -> Result<DropAct, StoreError> {
        let mut connection = connect(self).await?;
        let act = match try_drop(self.locks, &mut connection, day, fleet_days, audit).await {
            Err(Refusal::Stays(why)) => {
                tracing::debug!(%day, why, "the store keeps the day");
                let clock = Clock::read(&mut connection, fleet_days).await?;
                DropAct::Stays(look(&mut connection, day, fleet_days, clock).await?.stays())
            }
            Err(Refusal::Failed(e)) => return Err(e),
            Ok(act) => act,
        };
        connection.close().await.map_err(failed)?;
        Ok(act)
    }

    /// A drop is one transaction: there is nothing half-way.
    async fn finish_drops(&self) -> Result<u64, StoreError> {
        Ok(0)
    }
}

enum Refusal {
    Stays(String),
    Failed(StoreError),
}

impl From<sqlx::Error> for Refusal {
    fn from(error: sqlx::Error) -> Self {
        match error.as_database_error() {
            Some(refused) if refused.code().as_deref() == Some(STAYS) => Self::Stays(refused.message().to_owned()),
            _ => Self::Failed(failed(error)),
        }
    }
}

/// The drop and its audit record. From the end of `drop_day` to the commit everybody waits for the
/// parents of the time partitions, so a process that pauses in between, or finds the chain taken, is
/// cut off early.
async fn try_drop(
    locks: i32,
    connection: &mut PgConnection,
    day: Day,
    fleet_days: u32,
    audit: &AuditBody,
) -> Result<DropAct, Refusal> {
    let mut tx = connection.begin().await?;
    let alone: bool = sqlx::query_scalar("SELECT pg_try_advisory_xact_lock($1, $2)")
        .bind(locks)
        .bind(DROP_LOCK)
        .fetch_one(&mut *tx)
        .await?;
    if !alone {
        tx.rollback().await?;
        return Ok(DropAct::Busy);
    }
    sqlx::query(
        "SELECT set_config('idle_in_transaction_session_timeout', '500ms', true),
                set_config('lock_timeout', '500ms', true)",
    )
    .execute(&mut *tx)
    .await?;
    let row = sqlx::query("SELECT dropped_events, dropped_decisions, clock_timestamp() FROM drop_day($1, $2)")
        .bind(day.date())
        .bind(fleet_days as i32)
        .fetch_one(&mut *tx)
        .await?;
    let (Some(events), Some(decisions)) = (row.try_get::<Option<i64>, _>(0)?, row.try_get::<Option<i64>, _>(1)?) else {
        tx.rollback().await?;
        return Ok(DropAct::Gone);
    };
    let (events, decisions) = (events.unsigned_abs(), decisions.unsigned_abs());
    let expired = ExpiredDay { day, events, decisions, at: row.try_get(2)? };
    let audit = AuditBody { new: Some(dropped_state(&expired)), ..audit.clone() };
    append_control(&mut tx, locks, &chain(), &audit).await.map_err(Refusal::Failed)?;
    tx.commit().await?;
    Ok(DropAct::Dropped(expired))
}

/// What is the same for every day of one look.
#[derive(Clone, Copy)]
struct Clock {
    today: Day,
    mark: EventId,
    /// The shortest retention that anybody has; none where all is kept for ever.
    shortest: Option<u32>,
}

impl Clock {
    async fn read(connection: &mut PgConnection, fleet_days: u32) -> Result<Self, StoreError> {
        let row = sqlx::query(
            "SELECT clock_timestamp(), mark, (SELECT min(t.retention_days) FROM tenants t WHERE t.retention_days > 0)
             FROM fleet",
        )
        .fetch_one(connection)
        .await
        .map_err(failed)?;
        let own = row.try_get::<Option<i32>, _>(2).map_err(failed)?.map(i32::unsigned_abs);
        Ok(Self {
            today: Day::at(row.try_get(0).map_err(failed)?),
            mark: EventId(row.try_get(1).map_err(failed)?),
            shortest: own.into_iter().chain((fleet_days > 0).then_some(fleet_days)).min(),
        })
    }
}

/// The days before `today` that have a time partition, or events in the DEFAULT one, the oldest first.
async fn stored_days(connection: &mut PgConnection, today: Day, limit: u32) -> Result<Vec<Day>, StoreError> {
    let days: Vec<NaiveDate> = sqlx::query_scalar(
        r"WITH RECURSIVE stray (id) AS (
              (SELECT e.event_id FROM events_default e ORDER BY e.event_id LIMIT 1)
              UNION ALL
              SELECT (SELECT e.event_id FROM events_default e WHERE e.event_id >= day_first(day_of(s.id) + 1)
                      ORDER BY e.event_id LIMIT 1)
              FROM stray s WHERE s.id IS NOT NULL
          )
          SELECT stored.day FROM (
              SELECT to_date(right(c.relname, 8), 'YYYYMMDD') AS day
              FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
              WHERE i.inhparent = 'events'::regclass AND c.relname ~ '^events_\d{8}$'
              UNION
              SELECT day_of(s.id) FROM stray s WHERE s.id IS NOT NULL) stored
          WHERE stored.day < $1 ORDER BY stored.day LIMIT $2",
    )
    .bind(today.date())
    .bind(i64::from(limit))
    .fetch_all(connection)
    .await
    .map_err(failed)?;
    Ok(days.into_iter().map(Day::on).collect())
}

/// What is known of a day. Its events are counted when it could go for the first time, and that is
/// written down.
async fn look(connection: &mut PgConnection, day: Day, fleet_days: u32, clock: Clock) -> Result<DayFacts, StoreError> {
    let mut facts = DayFacts {
        day,
        today: clock.today,
        events: None,
        below_mark: clock.mark > day.last_id(),
        kept_days: clock.shortest.unwrap_or(0),
        waiting: 0,
        dead: 0,
        unjudged: 0,
        unpublished: 0,
        held: Vec::new(),
    };
    let young = clock.shortest.is_none_or(|days| day.plus(1).plus(days) > clock.today);
    if young || !facts.below_mark {
        return Ok(facts);
    }
    sqlx::query("SELECT roll_day($1) WHERE NOT EXISTS (SELECT FROM day_tenants d WHERE d.day = $1)")
        .bind(day.date())
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    let row = sqlx::query(
        "SELECT f.kept_days, f.waiting, f.dead, f.unjudged, f.unpublished, f.held,
                (SELECT coalesce(sum(d.events), 0)::bigint FROM day_tenants d WHERE d.day = $1)
         FROM day_facts($1, $2) f",
    )
    .bind(day.date())
    .bind(fleet_days as i32)
    .fetch_one(connection)
    .await
    .map_err(failed)?;
    let count = |n: usize| row.try_get::<i64, _>(n).map(i64::unsigned_abs).map_err(failed);
    facts.kept_days = row.try_get::<i32, _>(0).map_err(failed)?.unsigned_abs();
    (facts.waiting, facts.dead, facts.unjudged, facts.unpublished) = (count(1)?, count(2)?, count(3)?, count(4)?);
    let held: Vec<String> = row.try_get(5).map_err(failed)?;
    facts.held = held.iter().map(|raw| read::tenant(raw)).collect::<Result<Vec<TenantId>, StoreError>>()?;
    facts.events = Some(count(6)?);
    Ok(facts)
}

/// The day of that number, if it is gone.
pub(super) async fn expired_day(pool: &PgPool, day: Day) -> Result<Option<ExpiredDay>, StoreError> {
    let row = sqlx::query("SELECT day, events, decisions, at FROM expired_days WHERE day = $1")
        .bind(day.date())
        .fetch_optional(pool)
        .await
        .map_err(failed)?;
    row.as_ref().map(expired).transpose()
}

/// Every day that is gone.
pub(super) async fn expired_days(pool: &PgPool) -> Result<Expired, StoreError> {
    let rows = sqlx::query("SELECT day, events, decisions, at FROM expired_days").fetch_all(pool).await;
    rows.map_err(failed)?.iter().map(expired).collect()
}

fn expired(row: &sqlx::postgres::PgRow) -> Result<ExpiredDay, StoreError> {
    Ok(ExpiredDay {
        day: Day::on(row.try_get(0).map_err(failed)?),
        events: row.try_get::<i64, _>(1).map_err(failed)?.unsigned_abs(),
        decisions: row.try_get::<i64, _>(2).map_err(failed)?.unsigned_abs(),
        at: row.try_get(3).map_err(failed)?,
    })
}
