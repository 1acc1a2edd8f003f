//! Owns the order in which tenants are served: deficit round robin (Shreedhar & Varghese, 1995).
//! Pure: no waiting, no locks.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Queues by key, served in turn.
#[derive(Debug)]
pub struct FairQueue<K, T> {
    lines: HashMap<K, Line<T>>,
    // Every key with a non-empty line, once, in the order of service.
    ring: VecDeque<K>,
    // Whether the key at the front has had this turn's quantum.
    begun: bool,
    quantum: usize,
    length: usize,
}

/// What waits under one key.
#[derive(Debug)]
struct Line<T> {
    /// With what each costs.
    items: VecDeque<(usize, T)>,
    /// What it may still take: the deficit of the paper.
    credit: usize,
}

impl<K: Clone + Eq + Hash, T> FairQueue<K, T> {
    /// An empty queue; in its turn a key is served items that cost `quantum`, 1 or more.
    pub fn new(quantum: usize) -> Self {
        Self { lines: HashMap::new(), ring: VecDeque::new(), begun: false, quantum: quantum.max(1), length: 0 }
    }

    /// Items in it.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Puts an item that costs 1 at the end of its key's line.
    pub fn push(&mut self, key: K, item: T) {
        self.push_costing(key, 1, item);
    }

    /// Puts an item that costs so much at the end of its key's line.
    pub fn push_costing(&mut self, key: K, cost: usize, item: T) {
        let line = self.lines.entry(key.clone()).or_insert_with(|| Line { items: VecDeque::new(), credit: 0 });
        if line.items.is_empty() {
            self.ring.push_back(key);
        }
        line.items.push_back((cost, item));
        self.length += 1;
    }

    /// Takes items in turn until they cost `max`, or more by less than the last of them.
    pub fn take(&mut self, max: usize) -> Vec<T> {
        let (mut taken, mut cost) = (Vec::with_capacity(max.min(self.length)), 0);
        while cost < max {
            let Some(line) = self.ring.front().and_then(|key| self.lines.get_mut(key)) else { break };
            if !std::mem::replace(&mut self.begun, true) {
                line.credit += self.quantum;
            }
            while cost < max
                && let Some((price, item)) = line.items.pop_front_if(|(price, _)| *price <= line.credit)
            {
                line.credit -= price;
                cost += price;
                self.length -= 1;
                taken.push(item);
            }
            let served = line.items.front().is_none_or(|(price, _)| *price > line.credit);
            if served {
                let empty = line.items.is_empty();
                self.next_turn(empty);
            }
        }
        taken
    }

    fn next_turn(&mut self, front_is_empty: bool) {
        self.begun = false;
        let Some(key) = self.ring.pop_front() else { return };
        if front_is_empty {
            // An idle key saves no credit and takes no memory.
            self.lines.remove(&key);
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
        assert!(q.lines.is_empty() && q.ring.is_empty());
    }

    #[test]
    fn large_items_wait_until_they_are_paid_for() {
        let mut q = FairQueue::new(10);
        (0..4).for_each(|_| q.push_costing("flood", 25, "flood"));
        (0..40).for_each(|_| q.push("calm", "calm"));
        let mut served = q.take(40);
        // Two turns of the calm one before the flood has saved what its first item costs.
        assert_eq!(served.iter().filter(|who| **who == "calm").count(), 20);
        assert_eq!(served[20], "flood");
        while !q.is_empty() {
            served.extend(q.take(1));
        }
        assert_eq!(served.len(), 44);
        assert!(q.lines.is_empty() && q.ring.is_empty());
    }

    #[test]
    fn one_that_is_alone_is_served_at_once_whatever_it_costs() {
        let mut q = FairQueue::new(1);
        q.push_costing("alone", 1_000, 0);
        q.push_costing("alone", 0, 1);
        assert_eq!(q.take(1), [0]);
        assert_eq!(q.take(1), [1]);
    }
}
