//! Owns whose budget is used up and stops: reads it again and again, and hands the whole to the lanes.
//! Never adds anything up itself: what is spent is what the store has committed.
//!
//! # Decisions
//! A look a few seconds apart costs the decisions nothing, and bounds what is spent beyond a budget: by what is
//! decided for the tenant until the next look, and what was under way then. A look that fails changes
//! nothing: who was stopped stays stopped, and nobody else is, since a store that is away commits nothing.
//!
//! Lanes start behind the first look, as they do for models: a worker that starts anew must not spend a little
//! more each time.

use metrics::{counter, gauge};
use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::lane::{store_backoff, wait_out};
use crate::domain::{Month, TenantId};
use crate::ports::StoreError;
use crate::telemetry::names;

/// How often the worker looks; a budget stops within that once it is used up, and within that goes on.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Budgets read at once.
const PAGE: u32 = 500;

/// Whose budget is used up and stops. As many as there may be budgets, at most.
#[derive(Default)]
pub(super) struct Stopped(RwLock<Arc<HashSet<TenantId>>>);

impl Stopped {
    /// Who is stopped now; it stays what it is while it is held.
    pub(super) fn current(&self) -> Arc<HashSet<TenantId>> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Gives who was stopped before.
    fn set(&self, next: HashSet<TenantId>) -> Arc<HashSet<TenantId>> {
        std::mem::replace(&mut *self.0.write().unwrap_or_else(PoisonError::into_inner), Arc::new(next))
    }
}

/// Looks for the first time, until the store has answered. False when stopped before.
pub(super) async fn first_look(shared: &Shared, stop: &CancellationToken) -> bool {
    let mut backoff = store_backoff(shared);
    while !stop.is_cancelled() {
        match look(shared).await {
            Ok(()) => return true,
            Err(e) => _ = stop.run_until_cancelled(wait_out("read the budgets", &e, &mut backoff)).await,
        }
    }
    false
}

/// Looks again and again, until stopped.
pub(super) async fn watch(shared: Arc<Shared>, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
        if let Err(e) = look(&shared).await {
            counter!(names::BUDGET_LOOKS_FAILED).increment(1);
            tracing::warn!(error = %e, "failed to look for budgets that are used up; stopping those that are known");
        }
    }
}

async fn look(shared: &Shared) -> Result<(), StoreError> {
    let month = Month::at(shared.parts.clock.now());
    let mut next = HashSet::new();
    let mut after: Option<TenantId> = None;
    loop {
        let page = shared.parts.stops.stops(month, after.as_ref(), PAGE).await?;
        let last = page.len() < PAGE as usize;
        after = page.last().map(|stop| stop.tenant.clone());
        next.extend(page.into_iter().filter(|stop| stop.used_up).map(|stop| stop.tenant));
        if last {
            break;
        }
    }
    // At most as many as there may be budgets: the conversion is exact.
    gauge!(names::BUDGETS_STOPPED).set(next.len() as f64);
    let now = shared.stopped.current();
    if *now == next {
        return Ok(());
    }
    let (before, now) = (shared.stopped.set(next), shared.stopped.current());
    for tenant in now.difference(&before) {
        tracing::warn!(tenant.id = %tenant, %month, "the budget is used up: people decide every event of the tenant");
    }
    for tenant in before.difference(&now) {
        tracing::info!(tenant.id = %tenant, %month, "the budget stops no more");
    }
    Ok(())
}
