//! Owns how much may be traced: a bucket of one second's worth. Never waits. Pure: time is given.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What the bucket holds when it is full.
const FULL: Duration = Duration::from_secs(1);

/// A bucket of tokens, as the moment at which it is full again (generic cell rate algorithm, ITU-T
/// I.371, annex A).
#[derive(Debug)]
pub(super) struct Budget {
    /// Between two tokens.
    each: Duration,
    full_at: Mutex<Duration>,
}

impl Budget {
    /// A full bucket for so many a second.
    pub(super) fn a_second(rate: u32) -> Self {
        Self { each: FULL / rate.max(1), full_at: Mutex::default() }
    }

    /// Takes a token, if there is one. Who has `asked` gets none of the lower half.
    pub(super) fn take(&self, now: Duration, asked: bool) -> bool {
        // A panic while it is held is not possible: it guards one number.
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        // One token is there for everybody, however few there are.
        let depth = if asked { (FULL / 2).max(self.each) } else { FULL };
        let after = (*full_at).max(now) + self.each;
        let taken = after <= now + depth;
        if taken {
            *full_at = after;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(budget: &Budget, now: Duration, asked: bool, tries: usize) -> usize {
        (0..tries).filter(|_| budget.take(now, asked)).count()
    }

    #[test]
    fn who_asks_gets_half_and_the_rest_stays() {
        let budget = Budget::a_second(100);
        let start = Duration::from_secs(5);
        assert_eq!(taken(&budget, start, true, 1_000), 50);
        assert_eq!(taken(&budget, start, false, 1_000), 50);
        assert_eq!(taken(&budget, start + Duration::from_millis(100), true, 1_000), 0, "the lower half comes first");
        assert_eq!(taken(&budget, start + Duration::from_millis(100), false, 1_000), 10);
        assert_eq!(taken(&budget, start + Duration::from_secs(60), false, 1_000), 100, "one second's worth");
    }

    #[test]
    fn one_a_second_is_for_everybody() {
        let budget = Budget::a_second(1);
        assert_eq!(taken(&budget, Duration::ZERO, true, 9), 1);
        assert_eq!(taken(&budget, Duration::from_millis(999), true, 9), 0);
        assert_eq!(taken(&budget, Duration::from_millis(1_000), true, 9), 1);
    }
}
