//! Owns the rank of the two kinds of traffic: the bulk is drained behind the others, keeps to a share
//! while they come, and never starves. Within a kind tenants are served in turn. Pure.

use std::hash::Hash;

use super::fair::FairQueue;
use crate::ports::Traffic;

/// One in so many places of a batch is for the bulk while there is anything else.
const BULK_SHARE: usize = 8;

/// Batches without anything normal after which the bulk has all places. Until then it keeps to its
/// share: what comes next would wait for the whole of a batch that is under way.
const QUIET_AFTER: u32 = 16;

/// Queues by key of both kinds.
#[derive(Debug)]
pub struct RankedQueue<K, T> {
    normal: FairQueue<K, T>,
    bulk: FairQueue<K, T>,
    /// Batches taken since there was anything normal in one.
    quiet: u32,
}

impl<K: Clone + Eq + Hash, T> RankedQueue<K, T> {
    /// An empty queue; in its turn a key is served items that cost `quantum`, 1 or more.
    pub fn new(quantum: usize) -> Self {
        Self { normal: FairQueue::new(quantum), bulk: FairQueue::new(quantum), quiet: QUIET_AFTER }
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.normal.is_empty() && self.bulk.is_empty()
    }

    /// Puts an item that costs so much at the end of its key's line.
    pub fn push_costing(&mut self, traffic: Traffic, key: K, cost: usize, item: T) {
        match traffic {
            Traffic::Normal => self.normal.push_costing(key, cost, item),
            Traffic::Bulk => self.bulk.push_costing(key, cost, item),
        }
    }

    /// Takes items until they cost about `max`: the normal first, but for the share of the bulk.
    pub fn take(&mut self, max: usize) -> Vec<T> {
        if self.is_empty() {
            return Vec::new();
        }
        let share = (max / BULK_SHARE).max(1);
        let kept = if self.bulk.is_empty() { 0 } else { share };
        let mut taken = self.normal.take(max.saturating_sub(kept).max(1));
        self.quiet = if taken.is_empty() { self.quiet.saturating_add(1) } else { 0 };
        taken.extend(self.bulk.take(if self.quiet > QUIET_AFTER { max } else { share }));
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(normal: usize, bulk: usize) -> RankedQueue<u8, Traffic> {
        let mut queue = RankedQueue::new(64);
        (0..normal).for_each(|_| queue.push_costing(Traffic::Normal, 1, 1, Traffic::Normal));
        (0..bulk).for_each(|_| queue.push_costing(Traffic::Bulk, 2, 1, Traffic::Bulk));
        queue
    }

    fn counts(taken: &[Traffic]) -> (usize, usize) {
        let normal = taken.iter().filter(|t| **t == Traffic::Normal).count();
        (normal, taken.len() - normal)
    }

    #[test]
    fn bulk_is_drained_behind_the_others_and_never_starves() {
        let mut queue = queue(150, 300);
        assert_eq!(counts(&queue.take(80)), (70, 10));
        assert_eq!(counts(&queue.take(80)), (70, 10));
        assert_eq!(counts(&queue.take(80)), (10, 10));
        assert_eq!(counts(&queue.take(1)), (0, 1));
    }

    #[test]
    fn bulk_keeps_to_its_share_until_the_others_have_been_quiet() {
        let mut queue = queue(0, 1_000);
        assert_eq!(queue.take(80).len(), 80, "nothing normal was ever seen");
        queue.push_costing(Traffic::Normal, 1, 1, Traffic::Normal);
        assert_eq!(counts(&queue.take(80)), (1, 10));
        for _ in 0..QUIET_AFTER {
            assert_eq!(queue.take(80).len(), 10);
        }
        assert_eq!(queue.take(80).len(), 80);
    }

    #[test]
    fn without_bulk_everything_is_the_others_and_an_empty_look_counts_for_nothing() {
        let mut queue = queue(100, 0);
        assert_eq!(counts(&queue.take(80)), (80, 0));
        assert_eq!(counts(&queue.take(80)), (20, 0));
        (0..100).for_each(|_| assert!(queue.take(80).is_empty()));
        (0..100).for_each(|_| queue.push_costing(Traffic::Bulk, 2, 1, Traffic::Bulk));
        assert_eq!(queue.take(80).len(), 10);
    }
}
