//! Owns the order in which tenants are served: deficit round robin (Shreedhar & Varghese, 1995),
//! one event costing one. Pure: no waiting, no locks.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Queues by key, served in turn.
#[derive(Debug)]
pub struct FairQueue<K, T> {
    queues: HashMap<K, VecDeque<T>>,
    // Every key with a non-empty queue, once, in the order of service.
    ring: VecDeque<K>,
    // What the key at the front may still take in this turn.
    credit: usize,
    quantum: usize,
    length: usize,
}

impl<K: Clone + Eq + Hash, T> FairQueue<K, T> {
    /// An empty queue; in its turn a key is served `quantum` items, 1 or more.
    pub fn new(quantum: usize) -> Self {
        let quantum = quantum.max(1);
        Self { queues: HashMap::new(), ring: VecDeque::new(), credit: quantum, quantum, length: 0 }
    }

    /// Items in it.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Puts an item at the end of its key's queue.
    pub fn push(&mut self, key: K, item: T) {
        let queue = self.queues.entry(key.clone()).or_default();
        if queue.is_empty() {
            self.ring.push_back(key);
        }
        queue.push_back(item);
        self.length += 1;
    }

    /// Takes up to `max` items, in turn.
    pub fn take(&mut self, max: usize) -> Vec<T> {
        let mut taken = Vec::with_capacity(max.min(self.length));
        while taken.len() < max {
            let Some(key) = self.ring.front() else { break };
            let Some(queue) = self.queues.get_mut(key) else { break };
            let now = self.credit.min(max - taken.len()).min(queue.len());
            taken.extend(queue.drain(..now));
            self.credit -= now;
            self.length -= now;
            let empty = queue.is_empty();
            if empty || self.credit == 0 {
                self.next_turn(empty);
            }
        }
        taken
    }

    fn next_turn(&mut self, front_is_empty: bool) {
        self.credit = self.quantum;
        let Some(key) = self.ring.pop_front() else { return };
        if front_is_empty {
            // An idle key saves no credit and takes no memory.
            self.queues.remove(&key);
        } else {
            self.ring.push_back(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_does_not_hold_up_the_others() {
        let mut q = FairQueue::new(10);
        (0..1_000).for_each(|n| q.push("flood", n));
        (0..5).for_each(|n| q.push("calm", n));
        let first = q.take(20);
        assert_eq!(first.len(), 20);
        assert_eq!(q.len(), 985);
        // Ten of the flood, the five of the calm one, then the flood again.
        assert_eq!(first[10..15], [0, 1, 2, 3, 4]);
    }

    #[test]
    fn nothing_is_lost_and_each_keys_order_stays() {
        let mut q = FairQueue::new(3);
        for n in 0..100_u32 {
            q.push(n % 7, n);
        }
        let mut seen: Vec<u32> = Vec::new();
        while !q.is_empty() {
            seen.extend(q.take(1 + seen.len() % 5));
        }
        for key in 0..7 {
            let own: Vec<u32> = seen.iter().copied().filter(|n| n % 7 == key).collect();
            assert!(own.is_sorted() && own.len() == if key < 2 { 15 } else { 14 });
        }
        assert_eq!(seen.len(), 100);
        assert!(q.queues.is_empty() && q.ring.is_empty());
    }
}
