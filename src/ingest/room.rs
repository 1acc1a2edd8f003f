//! Owns the bound of the accept queue and each tenant's share of it. Never waits: there is room, or
//! there is none.

use metrics::gauge;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::domain::TenantId;
use crate::ports::intake::IntakeError;
use crate::telemetry::names;

/// What a refused caller is told to wait.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The room of the accept queue, in events.
pub(super) struct Rooms {
    bound: usize,
    tenant_bound: usize,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    all: usize,
    each: HashMap<TenantId, usize>,
}

/// Room of one tenant; given back when it is dropped.
pub(super) struct Room {
    rooms: Arc<Rooms>,
    tenant: TenantId,
    events: usize,
}

impl Rooms {
    /// Room for `bound` events, of one tenant for `tenant_bound` of them.
    pub(super) fn new(bound: usize, tenant_bound: usize) -> Arc<Self> {
        Arc::new(Self { bound, tenant_bound, held: Mutex::default() })
    }

    // Every change is made whole before the next allocation: a poisoned lock guards good data.
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room for all events of a call, or for none; one room a tenant, in order. A call that is
    /// larger than the queue, or than its tenant's share, is let in when it would have that to
    /// itself. Who can't be refused has no share: what he sends is bounded where it comes from.
    pub(super) fn take(self: &Arc<Self>, call: &[(TenantId, u32)], refusable: bool) -> Result<Vec<Room>, IntakeError> {
        let events: usize = call.iter().map(|(_, events)| *events as usize).sum();
        let mut held = self.held();
        if held.all > 0 && held.all + events > self.bound {
            return Err(IntakeError::Full(RETRY_AFTER));
        }
        let full = |tenant: &TenantId, more: usize| {
            let own = held.each.get(tenant).copied().unwrap_or(0);
            own > 0 && own + more > self.tenant_bound
        };
        if refusable && let Some((tenant, _)) = call.iter().find(|(tenant, more)| full(tenant, *more as usize)) {
            return Err(IntakeError::TenantFull { tenant: tenant.clone(), retry_after: RETRY_AFTER });
        }
        held.all += events;
        gauge!(names::ACCEPT_QUEUE_EVENTS).set(held.all as f64);
        let mut rooms = Vec::with_capacity(call.len());
        for (tenant, events) in call {
            let events = *events as usize;
            *held.each.entry(tenant.clone()).or_default() += events;
            rooms.push(Room { rooms: Arc::clone(self), tenant: tenant.clone(), events });
        }
        Ok(rooms)
    }
}

impl Room {
    /// A part of it, at most all.
    pub(super) fn split(&mut self, events: usize) -> Self {
        let events = events.min(self.events);
        self.events -= events;
        Self { rooms: Arc::clone(&self.rooms), tenant: self.tenant.clone(), events }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.events == 0 {
            return;
        }
        let mut held = self.rooms.held();
        held.all = held.all.saturating_sub(self.events);
        gauge!(names::ACCEPT_QUEUE_EVENTS).set(held.all as f64);
        if let Some(own) = held.each.get_mut(&self.tenant) {
            *own = own.saturating_sub(self.events);
            if *own == 0 {
                held.each.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(tenants: &[(&str, u32)]) -> Vec<(TenantId, u32)> {
        tenants.iter().map(|(name, events)| (TenantId::parse(name).expect("legal"), *events)).collect()
    }

    #[test]
    fn a_tenant_fills_its_share_and_no_more() {
        let rooms = Rooms::new(100, 25);
        let first = rooms.take(&call(&[("flood", 20)]), true).expect("room");
        let refused = rooms.take(&call(&[("calm", 1), ("flood", 6)]), true).err();
        assert!(matches!(refused, Some(IntakeError::TenantFull { tenant, .. }) if tenant.as_str() == "flood"));
        assert_eq!(rooms.held().all, 20, "a refused call holds nothing");
        let _calm = rooms.take(&call(&[("calm", 25)]), true).expect("its own share");
        let _inbox = rooms.take(&call(&[("flood", 6)]), false).expect("nobody could be told");
        drop(first);
        assert_eq!(rooms.held().each.values().sum::<usize>(), 31);
        let _again = rooms.take(&call(&[("flood", 19)]), true).expect("given back");
    }

    #[test]
    fn what_is_larger_than_the_bound_is_let_in_alone() {
        let rooms = Rooms::new(100, 25);
        let mut large = rooms.take(&call(&[("large", 500)]), true).expect("alone");
        assert_eq!(rooms.take(&call(&[("calm", 1)]), true).err(), Some(IntakeError::Full(RETRY_AFTER)));
        let part = large[0].split(450);
        drop(large);
        assert!(matches!(rooms.take(&call(&[("large", 1)]), true).err(), Some(IntakeError::Full(_))));
        drop(part);
        assert!(rooms.held().all == 0 && rooms.held().each.is_empty());
    }
}
