//! Owns connections: their session settings, and what an error of theirs means.

use sqlx::postgres::{PgConnectOptions, PgDatabaseError, PgPool, PgPoolOptions};
use std::str::FromStr;
use std::time::Duration;

use crate::domain::partition::stable_hash;
use crate::ports::StoreError;

/// What a connection is for; decides its planner settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Accepts and commits: joins over UNNEST arrays.
    Hot,
    /// Everything else.
    Reading,
    /// DDL, which may wait longer.
    Migrating,
}

/// Connection settings for a fleet's schema.
///
/// The timeouts are the server's (PostgreSQL manual, "Client Connection Defaults"): a paused holder
/// of a lock or of a transaction is cut off by the server, whatever its process does.
pub(super) fn options(url: &str, namespace: &str, purpose: Purpose) -> Result<PgConnectOptions, StoreError> {
    let base = PgConnectOptions::from_str(url)
        .map_err(|e| StoreError::Misfit(format!("the database URL can't be read: {e}")))?;
    let (lock, statement) = match purpose {
        Purpose::Hot | Purpose::Reading => ("3s", "10s"),
        Purpose::Migrating => ("30s", "300s"),
    };
    let mut settings = vec![
        ("search_path", namespace),
        ("lock_timeout", lock),
        ("statement_timeout", statement),
        ("idle_in_transaction_session_timeout", "3s"),
        ("jit", "off"),
        ("TimeZone", "UTC"),
    ];
    if purpose == Purpose::Hot {
        settings.push(("enable_nestloop", "off"));
    }
    Ok(base.application_name("riskfleet").options(settings))
}

/// A small pool; connections are made when first needed.
pub(super) fn pool(options: PgConnectOptions, size: u32) -> PgPool {
    PgPoolOptions::new()
        .max_connections(size)
        .acquire_timeout(Duration::from_secs(5))
        .idle_timeout(Duration::from_secs(300))
        .max_lifetime(Duration::from_secs(3_600))
        .connect_lazy_with(options)
}

/// The class of a fleet's advisory locks: locks are shared by the whole database, so the namespace
/// is hashed into them.
pub(super) fn lock_class(namespace: &str) -> i32 {
    // Any 32 of the hash's bits serve.
    stable_hash(namespace.as_bytes()) as i32
}

/// The advisory lock of "only one moves the mark"; partitions take 0 to 4095.
pub(super) const MARK_LOCK: i32 = 1 << 20;

/// Sorts an error by what the caller does next.
#[expect(clippy::needless_pass_by_value, reason = "`map_err` gives it by value")]
pub(super) fn failed(e: sqlx::Error) -> StoreError {
    match &e {
        sqlx::Error::Database(db) => {
            let code = db.code().unwrap_or_default().into_owned();
            match code.as_str() {
                "RF001" => StoreError::ClockSkew(skew(db.message())),
                // insufficient resources, operator intervention, connection exceptions, lock not
                // available, deadlock, serialization, idle-in-transaction cut, query cancelled
                _ if matches!(code.get(..2), Some("53" | "57" | "08" | "40" | "55" | "25")) => {
                    StoreError::Away(e.to_string())
                }
                // undefined table or schema: `migrate` has not run here
                "42P01" | "3F000" => StoreError::Misfit(format!("run `riskfleet migrate` first: {}", db.message())),
                "28P01" | "28000" | "3D000" => StoreError::Misfit(db.message().to_owned()),
                _ => StoreError::Fault(detailed(&e)),
            }
        }
        sqlx::Error::Configuration(_) | sqlx::Error::Tls(_) => StoreError::Misfit(e.to_string()),
        sqlx::Error::Io(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => StoreError::Away(e.to_string()),
        _ => StoreError::Fault(e.to_string()),
    }
}

fn skew(message: &str) -> i64 {
    message.parse().unwrap_or(i64::MAX)
}

fn detailed(e: &sqlx::Error) -> String {
    let detail = e
        .as_database_error()
        .and_then(|db| db.try_downcast_ref::<PgDatabaseError>())
        .and_then(|db| db.constraint().map(|c| format!(" (constraint {c})")));
    format!("{e}{}", detail.unwrap_or_default())
}

/// What is stored is not what was written: a defect or a foreign hand.
pub(super) fn corrupt(what: &str, why: impl std::fmt::Display) -> StoreError {
    StoreError::Fault(format!("stored {what} is unreadable: {why}"))
}
