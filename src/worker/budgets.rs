//! Owns whose budget is used up and stops: reads it again and again, and hands the whole to the lanes.
//! Never adds anything up itself: what is spent is what the store has committed.
//!
//! # Decisions
//! Looks that are seconds apart cost the decisions nothing, and bound what is spent beyond a budget: by what is
//! decided for the tenant until it is looked at again, and what was under way then. A look sums a month of each
//! tenant (28 µs for 60 rows, measured on Postgres 15), so each reads one page, and a fleet with many budgets takes
//! longer to see them all, not more of the store: with 10,000 a round takes 40 s. A look that fails changes
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
/// Budgets read by one look: where more of them stop, it takes several looks to see them all.
const PAGE: u32 = 500;

/// Whose budget is used up and stops. As many as there may be budgets, at most.
#[derive(Default)]
pub(super) struct Stopped(RwLock<Arc<HashSet<TenantId>>>);

impl Stopped {
    /// Who is stopped now; it stays what it is while it is held.
    pub(super) fn current(&self) -> Arc<HashSet<TenantId>> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, next: HashSet<TenantId>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
    }
}

/// Keeps [`Stopped`] as the store has it.
pub(super) struct Watch {
    shared: Arc<Shared>,
    /// The last tenant of the page that was read; none before the first one of a round.
    after: Option<TenantId>,
}

/// Looks at all budgets for the first time, until the store has answered. None when stopped before.
pub(super) async fn first_look(shared: Arc<Shared>, stop: &CancellationToken) -> Option<Watch> {
    let mut backoff = store_backoff(&shared);
    let mut watch = Watch { shared, after: None };
    while !stop.is_cancelled() {
        match watch.look().await {
            Ok(()) if watch.after.is_none() => return Some(watch),
            Ok(()) => {}
            Err(e) => _ = stop.run_until_cancelled(wait_out("read the budgets", &e, &mut backoff)).await,
        }
    }
    None
}

impl Watch {
    /// Looks again and again, until stopped.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            if let Err(e) = self.look().await {
                counter!(names::BUDGET_LOOKS_FAILED).increment(1);
                tracing::warn!(error = %e, "failed to look for budgets that are used up; stopping those that are known");
            }
        }
    }

    /// Reads the next page; what it says holds for the tenants from its first to its last.
    async fn look(&mut self) -> Result<(), StoreError> {
        let month = Month::at(self.shared.parts.clock.now());
        let page = self.shared.parts.stops.stops(month, self.after.as_ref(), PAGE).await?;
        let last = page.last().filter(|_| page.len() == PAGE as usize).map(|stop| stop.tenant.clone());
        let outside = |tenant: &&TenantId| {
            Some(*tenant) <= self.after.as_ref() || last.as_ref().is_some_and(|last| *tenant > last)
        };
        let before = self.shared.stopped.current();
        let mut next: HashSet<TenantId> = before.iter().filter(outside).cloned().collect();
        next.extend(page.into_iter().filter(|stop| stop.used_up).map(|stop| stop.tenant));
        self.after = last;
        tell(&before, &next, month);
        self.shared.stopped.set(next);
        Ok(())
    }
}

fn tell(before: &HashSet<TenantId>, next: &HashSet<TenantId>, month: Month) {
    // At most as many as there may be budgets: the conversion is exact.
    gauge!(names::BUDGETS_STOPPED).set(next.len() as f64);
    for tenant in next.difference(before) {
        tracing::warn!(tenant.id = %tenant, %month, "the budget is used up: people decide every event of the tenant");
    }
    for tenant in before.difference(next) {
        tracing::info!(tenant.id = %tenant, %month, "the budget stops no more");
    }
}
