//! Owns what a lane remembers of the ends of its chains. Never reads the store: a head that is not
//! here is read by the adapter, inside the transaction that appends to it.
//!
//! A head is worth something only under the epoch it was read or written under: another owner may
//! have written in between. After any error the whole cache is worth nothing, since the outcome of
//! the commit is unknown.

use std::collections::HashMap;

use crate::domain::{ChainHead, Epoch, PartitionId, TenantId};

/// How many tenants' heads a lane remembers; one more and it begins anew, which costs one read a
/// tenant. About 100 bytes each.
pub const HEADS_MAX: usize = 100_000;

/// Heads of the `workflow` chains of one lane's tenants.
#[derive(Debug)]
pub struct HeadCache {
    // Only ever looked up, never walked: its order does not show.
    heads: HashMap<TenantId, Held>,
    max: usize,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    partition: PartitionId,
    epoch: Epoch,
    head: ChainHead,
}

impl Default for HeadCache {
    fn default() -> Self {
        Self::new(HEADS_MAX)
    }
}

impl HeadCache {
    /// An empty cache for at most `max` tenants, 1 or more.
    pub fn new(max: usize) -> Self {
        Self { heads: HashMap::new(), max: max.max(1) }
    }

    /// The head of a tenant's chain, if it was put under the same epoch of the same partition.
    pub fn get(&self, tenant: &TenantId, partition: PartitionId, epoch: Epoch) -> Option<ChainHead> {
        let held = self.heads.get(tenant)?;
        ((held.partition, held.epoch) == (partition, epoch)).then_some(held.head)
    }

    /// Remembers a head that is known to be committed under `epoch`.
    pub fn put(&mut self, tenant: TenantId, partition: PartitionId, epoch: Epoch, head: ChainHead) {
        if self.heads.len() >= self.max && !self.heads.contains_key(&tenant) {
            self.clear();
        }
        self.heads.insert(tenant, Held { partition, epoch, head });
    }

    /// Forgets everything: after any error.
    pub fn clear(&mut self) {
        self.heads.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(n: u32) -> TenantId {
        TenantId::parse(&format!("t{n}")).expect("legal")
    }

    const P: PartitionId = PartitionId(1);
    const HEAD: ChainHead = ChainHead { seq: 7, hash: [7; 32] };

    #[test]
    fn a_head_counts_only_under_its_epoch_and_partition() {
        let mut cache = HeadCache::default();
        cache.put(tenant(1), P, Epoch(3), HEAD);
        assert_eq!(cache.get(&tenant(1), P, Epoch(3)), Some(HEAD));
        assert_eq!(cache.get(&tenant(1), P, Epoch(4)), None);
        assert_eq!(cache.get(&tenant(1), PartitionId(2), Epoch(3)), None);
        assert_eq!(cache.get(&tenant(2), P, Epoch(3)), None);
        cache.clear();
        assert_eq!(cache.get(&tenant(1), P, Epoch(3)), None);
    }

    #[test]
    fn it_is_bounded_and_a_known_tenant_never_empties_it() {
        let mut cache = HeadCache::new(2);
        for n in [1, 2, 1, 2] {
            cache.put(tenant(n), P, Epoch(1), HEAD);
        }
        assert!(cache.get(&tenant(1), P, Epoch(1)).is_some() && cache.get(&tenant(2), P, Epoch(1)).is_some());
        cache.put(tenant(3), P, Epoch(1), HEAD);
        assert!(cache.get(&tenant(1), P, Epoch(1)).is_none() && cache.get(&tenant(3), P, Epoch(1)).is_some());
    }
}
