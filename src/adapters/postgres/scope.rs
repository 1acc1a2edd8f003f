//! Owns the way a question takes to its rows: which role it is asked as, and under which tenant.
//!
//! # Decisions
//! A tenant's question is a transaction of its own that begins by naming the tenant, for itself
//! only: a connection that goes back to its pool names nobody. The answer of the server says as
//! whom it was asked, since a pooler that drops startup options would leave the session to a user
//! who passes every policy.
//!
//! It runs as a task of its own: a request that is given up drops its futures, and one dropped in
//! `begin` would leave the pool a connection within a transaction.

use sqlx::{Acquire, PgConnection, Row};
use std::future::Future;
use std::panic::resume_unwind;
use std::pin::Pin;

use super::connect::failed;
use super::roles::Role;
use super::store::PostgresStore;
use crate::domain::{Scope, TenantId};
use crate::ports::StoreError;

/// What a question gives, on the connection that it was asked on.
pub(super) type Answer<'c, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'c>>;

/// Asks within a scope: a tenant's in one transaction under that tenant, the fleet's statement by
/// statement.
pub(super) async fn ask<T, Q>(store: &PostgresStore, scope: &Scope, question: Q) -> Result<T, StoreError>
where
    T: Send + 'static,
    Q: for<'c> FnOnce(&'c mut PgConnection) -> Answer<'c, T> + Send + 'static,
{
    match scope {
        Scope::Fleet => {
            let mut connection = store.reading.acquire().await.map_err(failed)?;
            question(&mut connection).await
        }
        Scope::Tenant(tenant) => under(store, tenant, question).await,
    }
}

/// Asks, or acts, in one transaction under a tenant. What fails is rolled back.
pub(super) async fn under<T, Q>(store: &PostgresStore, tenant: &TenantId, question: Q) -> Result<T, StoreError>
where
    T: Send + 'static,
    Q: for<'c> FnOnce(&'c mut PgConnection) -> Answer<'c, T> + Send + 'static,
{
    let (pool, tenant) = (store.tenants.clone(), tenant.clone());
    let role = Role::Api.name(&store.namespace);
    let asked = tokio::spawn(async move {
        let mut connection = pool.acquire().await.map_err(failed)?;
        let mut tx = connection.begin().await.map_err(failed)?;
        name(&mut tx, &tenant, &role).await?;
        let answer = question(&mut tx).await?;
        tx.commit().await.map_err(failed)?;
        Ok(answer)
    });
    match asked.await {
        Ok(answer) => answer,
        Err(e) if e.is_panic() => resume_unwind(e.into_panic()),
        Err(e) => Err(StoreError::Away(e.to_string())),
    }
}

async fn name(tx: &mut PgConnection, tenant: &TenantId, role: &str) -> Result<(), StoreError> {
    let row = sqlx::query("SELECT set_config('riskfleet.tenant', $1, true), current_user::text")
        .bind(tenant.as_str())
        .fetch_one(tx)
        .await
        .map_err(failed)?;
    runs_as(row.try_get(1).map_err(failed)?, role)
}

/// Refuses a session that is not the role's.
pub(super) fn runs_as(user: &str, role: &str) -> Result<(), StoreError> {
    if user == role {
        return Ok(());
    }
    Err(StoreError::Misfit(format!(
        "the session runs as {user}, not as {role}: connect to Postgres itself, or to a pooler that hands `options` on"
    )))
}
