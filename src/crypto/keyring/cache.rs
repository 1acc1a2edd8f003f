//! Owns the opened keys in memory: bounded, and forgotten when they are erased. Never asks anybody.
//!
//! # Decisions
//! Two shelves: what is used moves to the front one, and when that is full the back one is thrown
//! away. So what was used among the last half of the bound is there, at the price of two look-ups,
//! and no list has to be kept in order under the lock.

use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

use crate::crypto::envelope::DataKey;
use crate::domain::TenantId;
use crate::ports::vault::{Erased, Tag};

/// A key as it is known here. An erased one is remembered too: it stays erased.
#[derive(Debug, Clone)]
pub enum Key {
    /// It can be used.
    Live(Arc<DataKey>),
    /// It was destroyed.
    Erased,
}

/// A key with what it is found by.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) tenant: TenantId,
    pub(super) tag: Tag,
    pub(super) id: Uuid,
    pub(super) key: Key,
}

#[derive(Default)]
struct Shelf {
    by_owner: HashMap<TenantId, HashMap<Tag, Arc<Known>>>,
    by_id: HashMap<Uuid, Arc<Known>>,
}

impl Shelf {
    fn put(&mut self, known: Arc<Known>) {
        let owners = self.by_owner.entry(known.tenant.clone()).or_default();
        if let Some(before) = owners.insert(known.tag, Arc::clone(&known)) {
            self.by_id.remove(&before.id);
        }
        self.by_id.insert(known.id, known);
    }

    fn evict(&mut self, erased: &Erased) {
        if erased.tag == Tag::OWN {
            for known in self.by_owner.remove(&erased.tenant).unwrap_or_default().into_values() {
                self.by_id.remove(&known.id);
            }
        } else if let Some(known) = self.by_owner.get_mut(&erased.tenant).and_then(|o| o.remove(&erased.tag)) {
            self.by_id.remove(&known.id);
        }
    }
}

/// The keys that are known.
pub(super) struct Cache {
    front: Shelf,
    back: Shelf,
    shelf_max: usize,
}

impl Cache {
    /// A cache of at most `max` keys, 2 or more.
    pub(super) fn new(max: usize) -> Self {
        Self { front: Shelf::default(), back: Shelf::default(), shelf_max: (max / 2).max(1) }
    }

    pub(super) fn of(&mut self, tenant: &TenantId, tag: Tag) -> Option<Arc<Known>> {
        let on = |shelf: &Shelf| shelf.by_owner.get(tenant).and_then(|owners| owners.get(&tag)).cloned();
        on(&self.front).or_else(|| self.bring(on(&self.back)))
    }

    pub(super) fn named(&mut self, id: Uuid) -> Option<Arc<Known>> {
        let found = self.front.by_id.get(&id).cloned();
        found.or_else(|| self.bring(self.back.by_id.get(&id).cloned()))
    }

    /// Brings what is still used to the front.
    fn bring(&mut self, found: Option<Arc<Known>>) -> Option<Arc<Known>> {
        found.inspect(|known| self.put(Arc::clone(known)))
    }

    pub(super) fn put(&mut self, known: Arc<Known>) {
        if self.front.by_id.len() >= self.shelf_max {
            self.back = std::mem::take(&mut self.front);
        }
        self.front.put(known);
    }

    pub(super) fn evict(&mut self, erased: &[Erased]) {
        for one in erased {
            self.front.evict(one);
            self.back.evict(one);
        }
    }

    pub(super) fn clear(&mut self) {
        (self.front, self.back) = (Shelf::default(), Shelf::default());
    }

    pub(super) fn len(&self) -> usize {
        self.front.by_id.len() + self.back.by_id.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(tenant: &str, n: u8) -> Arc<Known> {
        let tenant = TenantId::parse(tenant).expect("legal");
        Arc::new(Known { tenant, tag: Tag([n; 16]), id: Uuid::from_bytes([n; 16]), key: Key::Erased })
    }

    #[test]
    fn it_is_bounded_and_what_is_used_stays() {
        let mut cache = Cache::new(8);
        let tenant = TenantId::parse("t").expect("legal");
        for n in 1..100 {
            cache.put(known("t", n));
            assert!(cache.of(&tenant, Tag([1; 16])).is_some(), "used, at {n}");
            assert!(cache.len() <= 8, "{}", cache.len());
        }
        assert!(cache.named(Uuid::from_bytes([50; 16])).is_none());
    }

    #[test]
    fn what_is_erased_is_gone_from_both_shelves_under_both_names() {
        let mut cache = Cache::new(4);
        let tenant = TenantId::parse("t").expect("legal");
        for n in 1..=3 {
            cache.put(known("t", n));
        }
        cache.put(known("other", 9));
        cache.evict(&[Erased { tenant: tenant.clone(), tag: Tag([1; 16]) }]);
        assert!(cache.of(&tenant, Tag([1; 16])).is_none() && cache.named(Uuid::from_bytes([1; 16])).is_none());
        cache.evict(&[Erased { tenant: tenant.clone(), tag: Tag::OWN }]);
        assert!((1..=3).all(|n| cache.named(Uuid::from_bytes([n; 16])).is_none()));
        assert!(cache.named(Uuid::from_bytes([9; 16])).is_some());
    }
}
