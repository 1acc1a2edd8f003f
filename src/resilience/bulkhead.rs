//! Owns the compartments: how much may be under way at once, how much may wait for it, and the
//! refusal of what is beyond. For a dependency, and for each tenant.
//!
//! # Decisions
//! A wait in the queue has no deadline of its own. It ends because each call that is under way
//! ends: by the dependency's own timeouts, or with its caller. Whoever goes away while it waits
//! frees its place at once.

use metrics::{Counter, Gauge};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::TenantId;

/// Tenants that are in use at once, at most, unless said otherwise.
const TENANTS_MAX: usize = 10_000;

/// The size of a compartment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BulkheadRules {
    /// Calls under way at once, 1 or more.
    pub concurrent: usize,
    /// Calls that wait for them, at most.
    pub queued: usize,
}

impl Default for BulkheadRules {
    /// 10 at once, 100 waiting.
    fn default() -> Self {
        Self { concurrent: 10, queued: 100 }
    }
}

/// Where a compartment shows itself.
#[derive(Clone)]
pub struct BulkheadMeters {
    /// Calls under way.
    pub in_use: Gauge,
    /// Calls that wait.
    pub queued: Gauge,
    /// Calls refused for want of room.
    pub refused: Counter,
}

impl BulkheadMeters {
    /// Shows nothing.
    pub fn none() -> Self {
        Self { in_use: Gauge::noop(), queued: Gauge::noop(), refused: Counter::noop() }
    }
}

/// A call was refused: so many are under way, and so many wait. Completes "failed to …: ".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too much is asked of it at once: {concurrent} under way, {queued} waiting")]
pub struct Full {
    /// The bound of what is under way.
    pub concurrent: usize,
    /// The bound of what waits.
    pub queued: usize,
}

/// One compartment.
pub struct Bulkhead {
    rules: BulkheadRules,
    room: Arc<Semaphore>,
    waiting: AtomicUsize,
    meters: BulkheadMeters,
}

impl Bulkhead {
    /// An empty compartment.
    pub fn new(rules: BulkheadRules, meters: BulkheadMeters) -> Self {
        let concurrent = rules.concurrent.clamp(1, u32::MAX as usize);
        let rules = BulkheadRules { concurrent, ..rules };
        Self { rules, room: Arc::new(Semaphore::new(concurrent)), waiting: AtomicUsize::new(0), meters }
    }

    /// Takes a place, or waits for one in the order of arrival.
    ///
    /// # Errors
    /// [`Full`], at once, when the queue is at its bound.
    pub async fn enter(&self) -> Result<Place, Full> {
        self.enter_with(1).await
    }

    /// As [`Bulkhead::enter`], for a call that counts as `weight` calls. One that is heavier than
    /// the compartment takes all of it.
    ///
    /// # Errors
    /// [`Full`], at once, when the queue has no room for it.
    pub async fn enter_with(&self, weight: usize) -> Result<Place, Full> {
        let weight = weight.min(self.rules.concurrent);
        // The compartment has at most as many places.
        let permits = weight as u32;
        let room = Arc::clone(&self.room);
        let permit = match Arc::clone(&room).try_acquire_many_owned(permits) {
            Ok(permit) => permit,
            Err(_) => {
                let waiting = self.wait(weight)?;
                let permit = room.acquire_many_owned(permits).await;
                drop(waiting);
                // The semaphore is never closed.
                permit.map_err(|_| self.full())?
            }
        };
        self.meters.in_use.increment(weight as f64);
        Ok(Place { _permit: permit, weight, in_use: self.meters.in_use.clone() })
    }

    fn wait(&self, weight: usize) -> Result<Waiting<'_>, Full> {
        let longer = |waiting: usize| waiting.checked_add(weight).filter(|sum| *sum <= self.rules.queued);
        if self.waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, longer).is_err() {
            self.meters.refused.increment(1);
            return Err(self.full());
        }
        self.meters.queued.increment(weight as f64);
        Ok(Waiting { bulkhead: self, weight })
    }

    fn full(&self) -> Full {
        Full { concurrent: self.rules.concurrent, queued: self.rules.queued }
    }
}

/// A place in the queue; given back when it is dropped, also by a caller that goes away.
struct Waiting<'a> {
    bulkhead: &'a Bulkhead,
    weight: usize,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.bulkhead.waiting.fetch_sub(self.weight, Ordering::AcqRel);
        self.bulkhead.meters.queued.decrement(self.weight as f64);
    }
}

/// A place in a compartment; given back when it is dropped.
#[must_use = "a place is held while the call is under way"]
pub struct Place {
    _permit: OwnedSemaphorePermit,
    weight: usize,
    in_use: Gauge,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.in_use.decrement(self.weight as f64);
    }
}

/// Why a tenant's call was refused; completes "failed to …: ".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TenantRefusal {
    /// Its own compartment is full. The others have room.
    #[error(transparent)]
    Full(#[from] Full),
    /// So many tenants are served at once that there is no compartment left.
    #[error("{0} tenants are served at once, and there is no room for another")]
    Tenants(usize),
}

/// A compartment for each tenant, all of one size. One exists while somebody is in it or waits for
/// it, so that what is kept is bounded by what is under way.
#[derive(Clone)]
pub struct TenantBulkheads {
    shared: Arc<Tenants>,
}

struct Tenants {
    rules: BulkheadRules,
    max: usize,
    meters: BulkheadMeters,
    in_use: Mutex<HashMap<TenantId, Compartment>>,
}

struct Compartment {
    bulkhead: Arc<Bulkhead>,
    users: usize,
}

impl TenantBulkheads {
    /// Compartments for 10,000 tenants at once. The meters show the sum over all tenants: a label
    /// a tenant would be a metric family without a bound.
    pub fn new(rules: BulkheadRules, meters: BulkheadMeters) -> Self {
        Self::bounded(rules, TENANTS_MAX, meters)
    }

    /// Compartments for at most `max` tenants at once.
    pub fn bounded(rules: BulkheadRules, max: usize, meters: BulkheadMeters) -> Self {
        Self { shared: Arc::new(Tenants { rules, max, meters, in_use: Mutex::default() }) }
    }

    /// Takes a place in the tenant's compartment, or waits for one.
    ///
    /// # Errors
    /// [`TenantRefusal`], at once.
    pub async fn enter(&self, tenant: &TenantId) -> Result<TenantPlace, TenantRefusal> {
        let user = self.user(tenant)?;
        let place = user.bulkhead.enter().await?;
        Ok(TenantPlace { _place: place, _user: user })
    }

    /// How many tenants have a compartment now.
    pub fn tenants(&self) -> usize {
        self.shared.in_use().len()
    }

    fn user(&self, tenant: &TenantId) -> Result<User, TenantRefusal> {
        let shared = &self.shared;
        let mut in_use = shared.in_use();
        if !in_use.contains_key(tenant) && in_use.len() >= shared.max {
            shared.meters.refused.increment(1);
            return Err(TenantRefusal::Tenants(shared.max));
        }
        let compartment = in_use.entry(tenant.clone()).or_insert_with(|| Compartment {
            bulkhead: Arc::new(Bulkhead::new(shared.rules, shared.meters.clone())),
            users: 0,
        });
        compartment.users += 1;
        let bulkhead = Arc::clone(&compartment.bulkhead);
        Ok(User { tenants: Arc::clone(shared), tenant: tenant.clone(), bulkhead })
    }
}

impl Tenants {
    // A panic while the lock is held leaves the map whole: every change is one entry's.
    fn in_use(&self) -> MutexGuard<'_, HashMap<TenantId, Compartment>> {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody who is in a tenant's compartment, or waits for it. The last one takes it away.
struct User {
    tenants: Arc<Tenants>,
    tenant: TenantId,
    bulkhead: Arc<Bulkhead>,
}

impl Drop for User {
    fn drop(&mut self) {
        let mut in_use = self.tenants.in_use();
        if let Some(compartment) = in_use.get_mut(&self.tenant) {
            compartment.users -= 1;
            if compartment.users == 0 {
                in_use.remove(&self.tenant);
            }
        }
    }
}

/// A place in a tenant's compartment; given back when it is dropped.
#[must_use = "a place is held while the call is under way"]
pub struct TenantPlace {
    // Before the user: whoever takes the compartment away leaves it empty.
    _place: Place,
    _user: User,
}

#[cfg(test)]
mod tests;
