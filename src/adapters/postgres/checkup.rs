//! Owns what an operator's examination asks a Postgres server. Reads only, on connections of its
//! own; never judges.

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, Row};
use std::borrow::Cow;
use std::time::Duration;

use super::connect::{APPLICATION, Purpose, failed, options, session};
use super::store::{ACCEPT_CONNECTIONS, PostgresStore, READ_CONNECTIONS, TENANT_CONNECTIONS};
use super::{isolation, migrate};
use crate::ports::checkup::{
    ClockPair, Connections, Durability, OpenTransaction, PostgresSeen, STALE, Schema, SessionSetting, StandingRows,
};
use crate::ports::store::OutboxKind;
use crate::ports::{Clock, StoreError};

/// How long a connection may take. These are no pool's, and hold no transaction: giving one up
/// leaves nothing behind.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Open transactions that are told of.
const TRANSACTIONS: i64 = 3;

/// Looks at a server, with sessions as the fleet's hot path has them.
///
/// # Errors
/// When the server does not answer, or refuses.
pub async fn checkup(url: &str, namespace: &str, lanes: u16, clock: &dyn Clock) -> Result<PostgresSeen, StoreError> {
    let mut own = connect(url, namespace, Purpose::Looking).await?;
    // Open at the same time as the first: only a pooler gives both the same process of the server.
    let mut other = connect(url, namespace, Purpose::Looking).await?;
    let (one, two) = (backend(&mut own).await?, backend(&mut other).await?);
    // What it would say is said by the server's next log line.
    _ = other.close().await;
    let seen = PostgresSeen {
        version: scalar(&mut own, "SELECT current_setting('server_version_num')::int").await?,
        standby: scalar(&mut own, "SELECT pg_is_in_recovery()").await?,
        clock: clocks(&mut own, clock).await?,
        durability: durability(&mut own).await?,
        session: settings(&mut own, namespace).await?,
        shared_session: one == two,
        connections: connections(&mut own, lanes).await?,
        transactions: transactions(&mut own).await?,
        holders: holders(&mut own).await?,
        frozen_age: scalar(
            &mut own,
            "SELECT age(datfrozenxid)::bigint FROM pg_database WHERE datname = current_database()",
        )
        .await?,
        schema: schema(&mut own, namespace).await?,
        isolation: isolation::look(&mut own, url, namespace).await?,
    };
    _ = own.close().await;
    Ok(seen)
}

/// A connection as the fleet makes them for a purpose.
pub(super) async fn connect(url: &str, namespace: &str, purpose: Purpose) -> Result<PgConnection, StoreError> {
    let options = options(url, namespace, purpose)?;
    match tokio::time::timeout(CONNECT_WITHIN, options.connect()).await {
        Ok(connection) => connection.map_err(failed),
        Err(_) => Err(StoreError::Away(format!("no connection within {CONNECT_WITHIN:?}"))),
    }
}

async fn backend(connection: &mut PgConnection) -> Result<i32, StoreError> {
    scalar(connection, "SELECT pg_backend_pid()").await
}

async fn scalar<T>(connection: &mut PgConnection, statement: &'static str) -> Result<T, StoreError>
where
    T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
{
    sqlx::query_scalar(statement).fetch_one(connection).await.map_err(failed)
}

async fn clocks(connection: &mut PgConnection, clock: &dyn Clock) -> Result<ClockPair, StoreError> {
    // The question before this one has warmed the connection: this is a bare round trip.
    let (asked, began) = (clock.now(), clock.elapsed());
    let theirs: DateTime<Utc> = scalar(connection, "SELECT clock_timestamp()").await?;
    Ok(ClockPair::measured(asked, clock.elapsed().saturating_sub(began), theirs))
}

async fn durability(connection: &mut PgConnection) -> Result<Durability, StoreError> {
    let row = sqlx::query(
        "SELECT current_setting('fsync') = 'on', current_setting('full_page_writes') = 'on',
                current_setting('synchronous_commit')",
    )
    .fetch_one(connection)
    .await
    .map_err(failed)?;
    Ok(Durability {
        fsync: row.try_get(0).map_err(failed)?,
        full_page_writes: row.try_get(1).map_err(failed)?,
        synchronous_commit: row.try_get(2).map_err(failed)?,
    })
}

async fn settings(connection: &mut PgConnection, namespace: &str) -> Result<Vec<SessionSetting>, StoreError> {
    let asked = session(namespace, Purpose::Looking);
    let names: Vec<&str> = asked.iter().map(|(name, _)| *name).collect();
    let has: Vec<String> = sqlx::query_scalar(
        "SELECT current_setting(n, true) FROM unnest($1::text[]) WITH ORDINALITY AS u (n, i) ORDER BY i",
    )
    .bind(names)
    .fetch_all(connection)
    .await
    .map_err(failed)?;
    let setting = |((name, asked), has): ((&str, Cow<'_, str>), String)| SessionSetting {
        name: name.to_owned(),
        asked: asked.into_owned(),
        has,
    };
    Ok(asked.into_iter().zip(has).map(setting).collect())
}

/// Where rights are missing, the kind of another's session is null: it counts as a client's.
async fn connections(connection: &mut PgConnection, lanes: u16) -> Result<Connections, StoreError> {
    let row = sqlx::query(
        "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
                    - coalesce(current_setting('reserved_connections', true)::int, 0),
                count(*), count(*) FILTER (WHERE application_name = $1)
         FROM pg_stat_activity WHERE coalesce(backend_type, 'client backend') = 'client backend'",
    )
    .bind(APPLICATION)
    .fetch_one(connection)
    .await
    .map_err(failed)?;
    let count = |n: usize| Ok(u32::try_from(row.try_get::<i64, _>(n).map_err(failed)?).unwrap_or(u32::MAX));
    Ok(Connections {
        limit: u32::try_from(row.try_get::<i32, _>(0).map_err(failed)?).unwrap_or(0),
        used: count(1)?,
        own: count(2)?,
        per_worker: u32::from(lanes) + READ_CONNECTIONS,
        per_ingest: ACCEPT_CONNECTIONS + READ_CONNECTIONS + TENANT_CONNECTIONS,
    })
}

async fn transactions(connection: &mut PgConnection) -> Result<Vec<OpenTransaction>, StoreError> {
    let rows = sqlx::query(
        "SELECT pid, coalesce(application_name, ''), coalesce(state, 'unknown'),
                extract(epoch FROM clock_timestamp() - xact_start)::bigint
         FROM pg_stat_activity
         WHERE xact_start < clock_timestamp() - interval '1 second' AND pid <> pg_backend_pid()
           AND coalesce(backend_type, 'client backend') = 'client backend'
         ORDER BY xact_start LIMIT $1",
    )
    .bind(TRANSACTIONS)
    .fetch_all(connection)
    .await
    .map_err(failed)?;
    let open = |row: &sqlx::postgres::PgRow| {
        Ok(OpenTransaction {
            pid: row.try_get(0).map_err(failed)?,
            application: row.try_get(1).map_err(failed)?,
            state: row.try_get(2).map_err(failed)?,
            seconds: row.try_get(3).map_err(failed)?,
        })
    };
    rows.iter().map(open).collect()
}

async fn holders(connection: &mut PgConnection) -> Result<Vec<String>, StoreError> {
    sqlx::query_scalar(
        "SELECT 'the prepared transaction ' || gid FROM pg_prepared_xacts
         WHERE prepared < clock_timestamp() - interval '1 minute'
         UNION ALL SELECT 'the replication slot ' || slot_name::text FROM pg_replication_slots WHERE NOT active",
    )
    .fetch_all(connection)
    .await
    .map_err(failed)
}

/// The namespace is `[a-z][a-z0-9_]{0,30}`: it needs no quoting and cannot break out. Names are
/// written out, since behind a pooler the search path may be somebody else's.
async fn schema(connection: &mut PgConnection, namespace: &str) -> Result<Schema, StoreError> {
    let there: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
        .bind(format!("{namespace}._sqlx_migrations"))
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    if !there {
        return Ok(Schema::Missing);
    }
    let version = format!("SELECT coalesce(max(version), 0) FROM {namespace}._sqlx_migrations WHERE success");
    let version: i64 = sqlx::query_scalar(AssertSqlSafe(version)).fetch_one(&mut *connection).await.map_err(failed)?;
    let days_ahead: i32 = sqlx::query_scalar(
        "SELECT coalesce(min(i), 7) FROM generate_series(0, 6) AS i, unnest(ARRAY['events', 'decisions']) AS parent
         WHERE to_regclass(format('%I.%s_%s', $1, parent,
             to_char((clock_timestamp() AT TIME ZONE 'UTC')::date + i, 'YYYYMMDD'))) IS NULL",
    )
    .bind(namespace)
    .fetch_one(&mut *connection)
    .await
    .map_err(failed)?;
    let mut spilled = Vec::new();
    for table in ["events_default", "decisions_default"] {
        let any = format!("SELECT EXISTS (SELECT 1 FROM {namespace}.{table})");
        if sqlx::query_scalar(AssertSqlSafe(any)).fetch_one(&mut *connection).await.map_err(failed)? {
            spilled.push(table.to_owned());
        }
    }
    Ok(Schema::There { version, wanted: migrate::newest(), days_ahead: days_ahead.unsigned_abs(), spilled })
}

impl PostgresStore {
    /// Outbox rows that have stood for longer than [`STALE`]: by the id of their first event, or by
    /// the time of its verdict or decision, since finders renew the row's own time.
    ///
    /// # Errors
    /// As every verb of the store.
    pub async fn standing_rows(&self) -> Result<Vec<StandingRows>, StoreError> {
        let rows = sqlx::query(
            "SELECT kind, count(*), sum(n)::bigint, min(at) FROM (
                 SELECT kind, n, CASE WHEN kind = 0
                     THEN to_timestamp(('x' || lpad(left(replace(events[1]::text, '-', ''), 12), 16, '0'))::bit(64)::bigint
                                       / 1000.0)
                     ELSE coalesce((SELECT v.decided_at FROM verdicts v WHERE v.event_id = events[1]),
                                   (SELECT d.at FROM decisions d WHERE d.event_id = events[1]), touched_at) END AS at
                 FROM outbox) AS o
             WHERE at < clock_timestamp() - $1 * interval '1 millisecond' GROUP BY kind ORDER BY kind",
        )
        .bind(STALE.as_millis() as i64)
        .fetch_all(&self.reading)
        .await
        .map_err(failed)?;
        let read = |row: &sqlx::postgres::PgRow| {
            let kind: i16 = row.try_get(0).map_err(failed)?;
            Ok(StandingRows {
                kind: if kind == 0 { OutboxKind::Accept } else { OutboxKind::Outcome },
                rows: row.try_get::<i64, _>(1).map_err(failed)?.unsigned_abs(),
                events: row.try_get::<i64, _>(2).map_err(failed)?.unsigned_abs(),
                since: row.try_get(3).map_err(failed)?,
            })
        };
        rows.iter().map(read).collect()
    }
}
