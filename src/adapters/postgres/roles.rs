//! Owns the roles that sessions of a fleet run as: their names, and their making. Never says what
//! they may do: that is `rights`.

use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::connect::failed;
use crate::ports::StoreError;

/// What a session runs as. None of them logs in, owns a table, or passes row-level security: the
/// user that connects may do all three, so its sessions leave it behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Answers a tenant's caller: sees the rows of the tenant that its transaction names.
    Api,
    /// Does the fleet's work: sees every tenant's rows.
    Worker,
    /// Ends what is kept for long enough: sees every tenant's rows.
    Retention,
}

impl Role {
    /// Every role.
    pub(super) const ALL: [Self; 3] = [Self::Api, Self::Worker, Self::Retention];

    /// Its name. Roles belong to the whole server, so the namespace is in it; that is
    /// `[a-z][a-z0-9_]{0,30}`, so the name needs no quoting and is short enough.
    pub(super) fn name(self, namespace: &str) -> String {
        let suffix = match self {
            Self::Api => "api",
            Self::Worker => "worker",
            Self::Retention => "retention",
        };
        format!("{namespace}_{suffix}")
    }
}

/// How a role stands on the server.
struct Standing {
    name: String,
    exists: bool,
    /// It logs in, or passes every policy: not a role for sessions that must not.
    unfit: bool,
    /// Whether the connecting user can take it, and has its rights.
    taken: bool,
}

/// Makes the roles that are missing, and lets the connecting user take them.
///
/// # Errors
/// [`StoreError::Misfit`], with the statements for an administrator, when the user may not; or when
/// a role of that name is more than these are.
pub(super) async fn make(connection: &mut PgConnection, namespace: &str) -> Result<(), StoreError> {
    for standing in look(connection, namespace).await? {
        if standing.unfit {
            let name = standing.name;
            return Err(StoreError::Misfit(format!(
                "the role {name} logs in or passes row-level security; run `ALTER ROLE {name} NOLOGIN NOSUPERUSER \
                 NOBYPASSRLS` or choose another RISKFLEET_NAMESPACE"
            )));
        }
        // What is refused here is told below, all of it at once.
        if !standing.exists {
            attempt(connection, format!("CREATE ROLE {} NOLOGIN", standing.name)).await?;
        }
        if !standing.taken {
            attempt(connection, format!("GRANT {} TO CURRENT_USER", standing.name)).await?;
        }
    }
    let mut missing = Vec::new();
    for standing in look(connection, namespace).await? {
        if !standing.exists {
            missing.push(format!("CREATE ROLE {} NOLOGIN;", standing.name));
        }
        if !standing.taken {
            missing.push(format!("GRANT {} TO {};", standing.name, user(connection).await?));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(StoreError::Misfit(format!(
        "the database user may not make the fleet's roles; let an administrator run: {}",
        missing.join(" ")
    )))
}

/// From version 16 on a member need not have the right to take the role.
async fn look(connection: &mut PgConnection, namespace: &str) -> Result<Vec<Standing>, StoreError> {
    let names = Role::ALL.map(|role| role.name(namespace));
    let rows = sqlx::query(
        "SELECT u.name, r.oid IS NOT NULL, coalesce(r.rolcanlogin OR r.rolsuper OR r.rolbypassrls, false),
                coalesce(pg_has_role(r.oid, 'USAGE') AND pg_has_role(r.oid,
                    CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END), false)
         FROM unnest($1::text[]) WITH ORDINALITY AS u (name, place) LEFT JOIN pg_roles r ON r.rolname = u.name
         ORDER BY u.place",
    )
    .bind(&names[..])
    .fetch_all(connection)
    .await
    .map_err(failed)?;
    let standing = |row: &sqlx::postgres::PgRow| {
        Ok(Standing {
            name: row.try_get(0).map_err(failed)?,
            exists: row.try_get(1).map_err(failed)?,
            unfit: row.try_get(2).map_err(failed)?,
            taken: row.try_get(3).map_err(failed)?,
        })
    };
    rows.iter().map(standing).collect()
}

async fn user(connection: &mut PgConnection) -> Result<String, StoreError> {
    sqlx::query_scalar("SELECT quote_ident(current_user)").fetch_one(connection).await.map_err(failed)
}

/// Runs a statement; that the user lacks the right, or that the role is not there, is no error.
async fn attempt(connection: &mut PgConnection, statement: String) -> Result<(), StoreError> {
    match sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await {
        // insufficient privilege; undefined object; duplicate object: somebody was faster
        Err(sqlx::Error::Database(e)) if matches!(e.code().as_deref(), Some("42501" | "42704" | "42710")) => Ok(()),
        result => result.map(drop).map_err(failed),
    }
}
