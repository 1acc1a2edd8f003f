//! Owns connections: their session settings, and what an error of theirs means.

use sqlx::postgres::{PgConnectOptions, PgDatabaseError, PgPool, PgPoolOptions, PgSeverity};
use std::borrow::Cow;
use std::str::FromStr;
use std::time::Duration;

use super::roles::Role;
use crate::domain::TenantId;
use crate::domain::partition::stable_hash;
use crate::ports::StoreError;

/// What a connection is for; decides its role and its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Accepts and commits: joins over UNNEST arrays.
    Hot,
    /// Everything else of the fleet's own work.
    Reading,
    /// Answers to a tenant's callers.
    Tenant,
    /// What ends rows that were kept for long enough, which may wait longer.
    Retaining,
    /// An examination: as the hot path, but as the user that connects.
    Looking,
    /// DDL, which may wait longer; as the user that connects.
    Migrating,
}

impl Purpose {
    /// The role that the session takes at its start.
    fn role(self) -> Option<Role> {
        match self {
            Self::Hot | Self::Reading => Some(Role::Worker),
            Self::Tenant => Some(Role::Api),
            Self::Retaining => Some(Role::Retention),
            Self::Looking | Self::Migrating => None,
        }
    }
}

/// Connection settings for a fleet's schema.
///
/// The timeouts are the server's (PostgreSQL manual, "Client Connection Defaults"): a paused holder
/// of a lock or of a transaction is cut off by the server, whatever its process does.
pub(super) fn options(url: &str, namespace: &str, purpose: Purpose) -> Result<PgConnectOptions, StoreError> {
    let base = PgConnectOptions::from_str(url)
        .map_err(|e| StoreError::Misfit(format!("the database URL can't be read: {e}")))?;
    let settings = session(namespace, purpose);
    Ok(base.application_name(APPLICATION).options(settings))
}

/// How the fleet's connections show themselves to the server.
pub(super) const APPLICATION: &str = "riskfleet";

/// What a session asks for, `(name, value)`, each value as the server writes it.
///
/// The role is a startup option: the session can't reset it, and a superuser or owner that connects
/// passes no policy by being one (PostgreSQL manual, "SET ROLE", "Row Security Policies").
pub(super) fn session(namespace: &str, purpose: Purpose) -> Vec<(&'static str, Cow<'_, str>)> {
    let (lock, statement) = match purpose {
        Purpose::Hot | Purpose::Reading | Purpose::Tenant | Purpose::Looking => ("3s", "10s"),
        Purpose::Retaining | Purpose::Migrating => ("30s", "300s"),
    };
    let settings = [
        ("search_path", namespace),
        ("lock_timeout", lock),
        ("statement_timeout", statement),
        ("idle_in_transaction_session_timeout", "3s"),
        ("jit", "off"),
        ("TimeZone", "UTC"),
    ];
    let mut settings: Vec<_> = settings.into_iter().map(|(name, value)| (name, Cow::Borrowed(value))).collect();
    if matches!(purpose, Purpose::Hot | Purpose::Looking) {
        settings.push(("enable_nestloop", Cow::Borrowed("off")));
    }
    if let Some(role) = purpose.role() {
        settings.push(("role", Cow::Owned(role.name(namespace))));
    }
    settings
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
pub(super) const MOVER_LOCK: i32 = 1 << 20;

/// The advisory lock of the mark and the totals below it (see `mark`).
pub(super) const MARK_LOCK: i32 = MOVER_LOCK + 1;

/// The advisory lock of "only one migrates".
pub(super) const MIGRATE_LOCK: i32 = MARK_LOCK + 1;

/// The advisory lock of "only one sets a budget": they are counted under it.
pub(super) const BUDGETS_LOCK: i32 = MIGRATE_LOCK + 1;

/// The advisory lock of a tenant's control chain: the negative numbers. Two tenants may share one,
/// and then only wait for each other.
pub(super) fn control_lock(tenant: &TenantId) -> i32 {
    // Any 31 of the hash's bits serve.
    stable_hash(tenant.as_str().as_bytes()) as i32 | i32::MIN
}

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
                // a connection that is refused for its startup options: the role is not there, or may
                // not be taken
                "22023" | "42501" if is_fatal(&e) => StoreError::Misfit(format!(
                    "run `riskfleet migrate` first, which makes the fleet's roles: {}",
                    db.message()
                )),
                "28P01" | "28000" | "3D000" => StoreError::Misfit(db.message().to_owned()),
                // data exception, integrity constraint, program limit: it is what was to be written
                _ if matches!(code.get(..2), Some("22" | "23" | "54")) => StoreError::Refused(detailed(&e)),
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

fn is_fatal(e: &sqlx::Error) -> bool {
    let error = e.as_database_error().and_then(|db| db.try_downcast_ref::<PgDatabaseError>());
    error.is_some_and(|error| error.severity() == PgSeverity::Fatal)
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
