//! Owns the schema's versions: what `riskfleet migrate` does, and the check that it was done.

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, SqlSafeStr};
use std::borrow::Cow;

use super::connect::{Purpose, corrupt, failed, options};
use crate::ports::StoreError;

/// The schema's migrations, embedded; versions rise by one.
const MIGRATIONS: [(i64, &str, &str); 1] = [(1, "core", include_str!("../../../migrations/postgres/0001_core.sql"))];

/// How many days of time partitions are made ahead.
pub(super) const DAYS_AHEAD: i32 = 4;

/// Brings a namespace's schema to this program's version, and makes it a fleet of `partitions`
/// with `secret` when it is new. Safe to run again and beside running processes.
///
/// # Errors
/// [`StoreError::Misfit`] when the fleet exists with another number of partitions.
pub async fn migrate(url: &str, namespace: &str, partitions: u16, secret: [u8; 32]) -> Result<(), StoreError> {
    let mut connection = options(url, namespace, Purpose::Migrating)?.connect().await.map_err(failed)?;
    // The namespace is [a-z][a-z0-9_]{0,30}: it needs no quoting and cannot break out.
    let create = format!("CREATE SCHEMA IF NOT EXISTS {namespace}");
    sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut connection).await.map_err(failed)?;
    let migrations = MIGRATIONS.map(|(version, name, sql)| {
        Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, sql.into_sql_str(), false)
    });
    Migrator::with_migrations(migrations.into())
        .run(&mut connection)
        .await
        .map_err(|e| StoreError::Misfit(format!("migrate: {e}")))?;
    found(&mut connection, partitions, secret).await?;
    connection.close().await.map_err(failed)
}

/// Writes what is fixed for the fleet, unless it stands there.
async fn found(connection: &mut PgConnection, partitions: u16, secret: [u8; 32]) -> Result<(), StoreError> {
    let count = i16::try_from(partitions).map_err(|e| corrupt("partition count", e))?;
    sqlx::query("INSERT INTO fleet (partitions, pack_secret) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .bind(count)
        .bind(&secret[..])
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    let stored: i16 =
        sqlx::query_scalar("SELECT partitions FROM fleet").fetch_one(&mut *connection).await.map_err(failed)?;
    if stored != count {
        return Err(StoreError::Misfit(format!(
            "this fleet was made with {stored} partitions, not {count}: set RISKFLEET_PARTITIONS={stored}, \
             or choose another RISKFLEET_NAMESPACE"
        )));
    }
    sqlx::query(
        "INSERT INTO partitions (partition) SELECT generate_series(0, $1::int - 1)::smallint ON CONFLICT DO NOTHING",
    )
    .bind(i32::from(count))
    .execute(&mut *connection)
    .await
    .map_err(failed)?;
    sqlx::query("SELECT make_partitions($1)").bind(DAYS_AHEAD).execute(connection).await.map_err(failed)?;
    Ok(())
}

/// The schema version that this program was built for.
pub(super) fn newest() -> i64 {
    MIGRATIONS.iter().map(|(version, ..)| *version).max().unwrap_or(0)
}
