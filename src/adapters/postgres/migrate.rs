//! Owns the schema's versions: what `riskfleet migrate` does, and the check that it was done.

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, SqlSafeStr};
use std::borrow::Cow;

use super::connect::{MIGRATE_LOCK, Purpose, corrupt, failed, lock_class, options};
use super::{rights, roles};
use crate::ports::StoreError;

/// The schema's migrations, embedded; versions rise by one.
const MIGRATIONS: [(i64, &str, &str); 11] = [
    (1, "core", include_str!("../../../migrations/postgres/0001_core.sql")),
    (2, "retries", include_str!("../../../migrations/postgres/0002_retries.sql")),
    (3, "identity", include_str!("../../../migrations/postgres/0003_identity.sql")),
    (4, "approvals", include_str!("../../../migrations/postgres/0004_approvals.sql")),
    (5, "versions", include_str!("../../../migrations/postgres/0005_versions.sql")),
    (7, "retention", include_str!("../../../migrations/postgres/0007_retention.sql")),
    (8, "checkpoints", include_str!("../../../migrations/postgres/0008_checkpoints.sql")),
    (9, "isolation", include_str!("../../../migrations/postgres/0009_isolation.sql")),
    (10, "vault", include_str!("../../../migrations/postgres/0010_vault.sql")),
    (11, "costs", include_str!("../../../migrations/postgres/0011_costs.sql")),
    (12, "load", include_str!("../../../migrations/postgres/0012_load.sql")),
];

/// How many days of time partitions are made ahead.
pub(super) const DAYS_AHEAD: i32 = 4;

/// Brings a namespace's schema to this program's version, and makes it a fleet of `partitions`
/// with `secret` when it is new; makes the roles that its sessions take, and says what they may do.
/// Safe to run again and beside running processes.
///
/// # Errors
/// [`StoreError::Misfit`] when the fleet exists with another number of partitions, and, with the
/// statements for an administrator, when the user may not make roles.
pub async fn migrate(url: &str, namespace: &str, partitions: u16, secret: [u8; 32]) -> Result<(), StoreError> {
    let mut connection = options(url, namespace, Purpose::Migrating)?.connect().await.map_err(failed)?;
    // Two that grant on the same table at once would refuse each other.
    sqlx::query("SELECT pg_advisory_lock($1, $2)")
        .bind(lock_class(namespace))
        .bind(MIGRATE_LOCK)
        .execute(&mut connection)
        .await
        .map_err(failed)?;
    // The namespace is [a-z][a-z0-9_]{0,30}: it needs no quoting and cannot break out.
    let create = format!("CREATE SCHEMA IF NOT EXISTS {namespace}");
    sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut connection).await.map_err(failed)?;
    roles::make(&mut connection, namespace).await?;
    let migrations = MIGRATIONS.map(|(version, name, sql)| {
        Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, sql.into_sql_str(), false)
    });
    Migrator::with_migrations(migrations.into())
        .run(&mut connection)
        .await
        .map_err(|e| StoreError::Misfit(format!("migrate: {e}")))?;
    found(&mut connection, partitions, secret).await?;
    rights::apply(&mut connection, namespace).await?;
    // The lock goes with the connection.
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
    sqlx::query("SELECT keep_partitions($1)").bind(DAYS_AHEAD).execute(connection).await.map_err(failed)?;
    Ok(())
}

/// The schema version that this program was built for.
pub(super) fn newest() -> i64 {
    MIGRATIONS.iter().map(|(version, ..)| *version).max().unwrap_or(0)
}
