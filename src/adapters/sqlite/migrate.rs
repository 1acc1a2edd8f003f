//! Owns the schema of the file: makes it, brings it up to date, and refuses what this program
//! does not know. Never changes a file that is opened for reading.

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::sqlite::SqlitePool;
use sqlx::{Connection, Row, SqlSafeStr, SqliteConnection};
use std::path::Path;

use super::db::{connect_writer, failure, writer_options};
use crate::ports::StoreError;
use crate::ports::store::FleetConstants;

/// The schema's migrations, embedded; versions rise by one.
const MIGRATIONS: [(i64, &str, &str); 10] = [
    (1, "store", include_str!("../../../migrations/sqlite/0001_store.sql")),
    (2, "retries", include_str!("../../../migrations/sqlite/0002_retries.sql")),
    (3, "identity", include_str!("../../../migrations/sqlite/0003_identity.sql")),
    (4, "approvals", include_str!("../../../migrations/sqlite/0004_approvals.sql")),
    (5, "versions", include_str!("../../../migrations/sqlite/0005_versions.sql")),
    (7, "retention", include_str!("../../../migrations/sqlite/0007_retention.sql")),
    (8, "checkpoints", include_str!("../../../migrations/sqlite/0008_checkpoints.sql")),
    (10, "vault", include_str!("../../../migrations/sqlite/0010_vault.sql")),
    (11, "costs", include_str!("../../../migrations/sqlite/0011_costs.sql")),
    (12, "load", include_str!("../../../migrations/sqlite/0012_load.sql")),
];

/// The newest schema that this program knows.
const NEWEST: i64 = MIGRATIONS[MIGRATIONS.len() - 1].0;

fn migrator() -> Migrator {
    let migration = |(version, name, sql): (i64, &'static str, &'static str)| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(MIGRATIONS.into_iter().map(migration).collect())
}

/// Opens the file, made when it is not there, with the newest schema in it. `wanted` goes in at
/// the first opening; later ones get what is there.
pub(super) async fn open(
    path: &Path,
    wanted: &FleetConstants,
) -> Result<(SqliteConnection, FleetConstants), StoreError> {
    create(path).await?;
    let mut conn = connect_writer(&writer_options(path)).await?;
    // One transaction, so that of two processes that open a new file one waits for the other.
    let mut tx = conn.begin_with("BEGIN IMMEDIATE").await.map_err(failure)?;
    migrator().run(&mut *tx).await.map_err(misfit)?;
    settle_constants(&mut tx, wanted).await?;
    tx.commit().await.map_err(failure)?;
    let row = sqlx::query(CONSTANTS).fetch_one(&mut conn).await.map_err(failure)?;
    Ok((conn, read_constants(&row)?))
}

/// Reads the constants of a file that is there and has the schema of this program.
pub(super) async fn check(path: &Path, readers: &SqlitePool) -> Result<FleetConstants, StoreError> {
    if !tokio::fs::try_exists(path).await.unwrap_or(false) {
        return Err(StoreError::Misfit(format!("{}: no such file", path.display())));
    }
    let applied = sqlx::query("SELECT max(version) FROM _sqlx_migrations").fetch_one(readers).await;
    let applied = match applied {
        Err(sqlx::Error::Database(refused)) if refused.message().contains("no such table") => {
            return Err(StoreError::Misfit(format!("{}: no store of this program", path.display())));
        }
        applied => applied.map_err(failure)?.try_get::<Option<i64>, _>(0).map_err(failure)?.unwrap_or(0),
    };
    if applied > NEWEST {
        return Err(newer(applied));
    }
    if applied < NEWEST {
        let why =
            format!("its schema {applied} is older than {NEWEST}; `migrate`, or the next start of `up`, renews it");
        return Err(StoreError::Misfit(why));
    }
    let row = sqlx::query(CONSTANTS).fetch_one(readers).await.map_err(failure)?;
    read_constants(&row)
}

const CONSTANTS: &str = "SELECT partitions, pack_secret FROM fleet";

fn read_constants(row: &sqlx::sqlite::SqliteRow) -> Result<FleetConstants, StoreError> {
    Ok(FleetConstants { partitions: super::rows::get(row, 0)?, pack_secret: super::rows::hash(row, 1)? })
}

/// Makes the file. It holds the pack secret, so only its owner may read it.
async fn create(path: &Path) -> Result<(), StoreError> {
    let mut options = tokio::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    options.mode(0o600);
    match options.open(path).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(StoreError::Misfit(format!("{}: {error}", path.display()))),
    }
}

async fn settle_constants(conn: &mut SqliteConnection, wanted: &FleetConstants) -> Result<(), StoreError> {
    let made = sqlx::query("INSERT INTO fleet (id, partitions, pack_secret) VALUES (1, ?, ?) ON CONFLICT DO NOTHING")
        .bind(wanted.partitions)
        .bind(wanted.pack_secret.as_slice())
        .execute(&mut *conn)
        .await
        .map_err(failure)?;
    if made.rows_affected() == 0 {
        return Ok(());
    }
    let count = "WITH RECURSIVE n (p) AS (SELECT 0 UNION ALL SELECT p + 1 FROM n WHERE p + 1 < ?) \
                 INSERT INTO partitions (partition) SELECT p FROM n";
    sqlx::query(count).bind(wanted.partitions).execute(conn).await.map_err(failure)?;
    Ok(())
}

fn newer(version: i64) -> StoreError {
    StoreError::Misfit(format!("its schema {version} is newer than {NEWEST}, the newest this program knows"))
}

fn misfit(error: MigrateError) -> StoreError {
    match error {
        MigrateError::VersionMissing(version) => newer(version),
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => failure(error),
        other => StoreError::Misfit(other.to_string()),
    }
}
