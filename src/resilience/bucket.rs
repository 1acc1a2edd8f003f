//! Owns token buckets by key: how often each of many callers has asked of late. Never holds more keys
//! than its bound.
//!
//! # Decisions
//! The generic cell rate algorithm (ITU-T I.371, annex A): a key is one moment, the one at which its
//! bucket is full again. A key whose moment has passed is like one that was never seen, so that it
//! can be forgotten. A key that finds no place among so many active ones is not counted: a crowd
//! must not lock out whoever comes after it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::ports::Clock;

/// Keys that are counted at once; some 100 bytes each.
const KEYS_MAX: usize = 100_000;

/// Buckets that hold one second's worth.
pub struct Buckets<K> {
    /// Between two tokens; none where nothing is counted.
    each: Option<Duration>,
    keys_max: usize,
    clock: Arc<dyn Clock>,
    table: Mutex<Table<K>>,
}

struct Table<K> {
    full_at: HashMap<K, Duration>,
    swept: Duration,
}

impl<K: Hash + Eq> Buckets<K> {
    /// Full buckets, for so many a second and key; 0 counts nothing.
    pub fn a_second(rate: u32, clock: Arc<dyn Clock>) -> Self {
        Self::with(rate, KEYS_MAX, clock)
    }

    fn with(rate: u32, keys_max: usize, clock: Arc<dyn Clock>) -> Self {
        let each = (rate > 0).then(|| Duration::from_secs(1) / rate);
        Self { each, keys_max, clock, table: Mutex::new(Table { full_at: HashMap::new(), swept: Duration::ZERO }) }
    }

    /// Takes a token.
    ///
    /// # Errors
    /// After how long there is one, when there is none; above zero.
    pub fn take(&self, key: K) -> Result<(), Duration> {
        self.look(key, true)
    }

    /// Whether there is a token, without taking it.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub fn peek(&self, key: K) -> Result<(), Duration> {
        self.look(key, false)
    }

    fn look(&self, key: K, takes: bool) -> Result<(), Duration> {
        let Some(each) = self.each else { return Ok(()) };
        let now = self.clock.elapsed();
        // A panic while it is held can only come from an allocation that failed.
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let known = table.full_at.get(&key).copied();
        let full_at = known.unwrap_or(now).max(now) + each;
        let late = full_at.saturating_sub(now + Duration::from_secs(1));
        if !late.is_zero() {
            return Err(late);
        }
        if takes && (known.is_some() || table.has_room(self.keys_max, now)) {
            table.full_at.insert(key, full_at);
        }
        Ok(())
    }
}

impl<K: Hash + Eq> Table<K> {
    /// Forgets full buckets, at most once a second.
    fn has_room(&mut self, keys_max: usize, now: Duration) -> bool {
        if self.full_at.len() >= keys_max && now >= self.swept + Duration::from_secs(1) {
            self.swept = now;
            self.full_at.retain(|_, full_at| *full_at > now);
        }
        self.full_at.len() < keys_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resilience::hand_clock::HandClock;

    fn buckets(rate: u32, keys_max: usize) -> (Buckets<u32>, Arc<HandClock>) {
        let clock = Arc::new(HandClock::default());
        (Buckets::with(rate, keys_max, clock.clone()), clock)
    }

    fn taken(buckets: &Buckets<u32>, key: u32, tries: usize) -> usize {
        (0..tries).filter(|_| buckets.take(key).is_ok()).count()
    }

    #[test]
    fn a_key_has_its_rate_and_no_more() {
        let (buckets, clock) = buckets(20, 8);
        assert_eq!(taken(&buckets, 1, 100), 20);
        assert_eq!(buckets.take(1), Err(Duration::from_millis(50)));
        assert_eq!(buckets.peek(1), Err(Duration::from_millis(50)));
        assert_eq!(taken(&buckets, 2, 100), 20, "another key has its own");
        clock.pass(Duration::from_millis(50));
        assert_eq!(buckets.peek(1), Ok(()));
        assert_eq!(taken(&buckets, 1, 100), 1);
        clock.pass(Duration::from_secs(3600));
        assert_eq!(taken(&buckets, 1, 100), 20, "a bucket holds one second's worth");
    }

    #[test]
    fn looking_takes_nothing() {
        let (buckets, _) = buckets(2, 8);
        assert!((0..10).all(|_| buckets.peek(1).is_ok()));
        assert_eq!(taken(&buckets, 1, 10), 2);
    }

    #[test]
    fn zero_counts_nothing() {
        let (buckets, _) = buckets(0, 8);
        assert_eq!(taken(&buckets, 1, 10_000), 10_000);
    }

    #[test]
    fn a_crowd_fills_the_table_and_locks_nobody_out() {
        let (buckets, clock) = buckets(1, 3);
        assert!((0..3).all(|key| buckets.take(key).is_ok()));
        assert_eq!(taken(&buckets, 9, 5), 5, "no place: not counted");
        assert!(buckets.take(0).is_err(), "those inside stay counted");
        clock.pass(Duration::from_millis(1_001));
        assert_eq!(taken(&buckets, 9, 5), 1, "the full ones were forgotten");
        assert!(buckets.table.lock().expect("no panic inside").full_at.len() <= 3);
    }
}
