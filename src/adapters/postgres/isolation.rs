//! Owns what an operator's examination sees of the roles and of row-level security. Reads only; what
//! it should be is said in `rights`.

use sqlx::{Connection, PgConnection, Row};

use super::checkup::connect;
use super::connect::{Purpose, failed};
use super::roles::Role;
use crate::ports::StoreError;
use crate::ports::checkup::{Isolation, Looked, RoleSeen};

/// Looks at the roles by asking for a session of each, as the fleet does.
pub(super) async fn look(connection: &mut PgConnection, url: &str, namespace: &str) -> Result<Isolation, StoreError> {
    let mut seen = Isolation { roles: Vec::new(), open: open(connection, namespace).await? };
    for (role, purpose) in
        [(Role::Api, Purpose::Tenant), (Role::Worker, Purpose::Reading), (Role::Retention, Purpose::Retaining)]
    {
        let session = session(url, namespace, purpose).await;
        let passes = session.as_ref().is_ok_and(|(_, passes)| *passes);
        let runs_as = Looked::from(session.map(|(user, _)| user));
        seen.roles.push(RoleSeen { name: role.name(namespace), runs_as, passes });
    }
    Ok(seen)
}

/// As whom a session runs, and whether that passes every policy.
async fn session(url: &str, namespace: &str, purpose: Purpose) -> Result<(String, bool), StoreError> {
    let mut connection = connect(url, namespace, purpose).await?;
    let row =
        sqlx::query("SELECT current_user::text, rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user")
            .fetch_one(&mut connection)
            .await
            .map_err(failed)?;
    // What it would say is said by the server's next log line.
    _ = connection.close().await;
    Ok((row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?))
}

async fn open(connection: &mut PgConnection, namespace: &str) -> Result<Vec<String>, StoreError> {
    sqlx::query_scalar(
        "SELECT c.relname::text FROM pg_class c
         WHERE c.relnamespace = to_regnamespace($1) AND c.relkind IN ('r', 'p')
           AND NOT (c.relrowsecurity AND c.relforcerowsecurity)
           AND EXISTS (SELECT 1 FROM pg_attribute a
                       WHERE a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped)
         ORDER BY 1",
    )
    .bind(namespace)
    .fetch_all(connection)
    .await
    .map_err(failed)
}
