//! Owns the schedule of repeated tries. The only file that knows the crate `backoff`, which is
//! unmaintained (RUSTSEC-2025-0012): it serves as a calculator here, and replacing it is this file.

use backoff::ExponentialBackoffBuilder;
use backoff::backoff::Backoff as _;
use std::time::Duration;

/// Exponential waits with jitter (each within ±50 % of the schedule), without an end.
#[derive(Debug)]
pub struct Backoff {
    schedule: backoff::ExponentialBackoff,
    longest: Duration,
}

impl Backoff {
    /// Waits from about `first`, doubling, up to about `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        let schedule = ExponentialBackoffBuilder::new()
            .with_initial_interval(first)
            .with_max_interval(longest)
            .with_multiplier(2.0)
            .with_randomization_factor(0.5)
            .with_max_elapsed_time(None)
            .build();
        Self { schedule, longest }
    }

    /// How long to wait before the next try.
    pub fn next_wait(&mut self) -> Duration {
        self.schedule.next_backoff().unwrap_or(self.longest)
    }

    /// Begins anew, after a try that went well.
    pub fn reset(&mut self) {
        self.schedule.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_begin_anew() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(5));
        let mut b = Backoff::new(first, longest);
        for n in 0..40 {
            let planned = first.mul_f64(2_f64.powi(n.min(30))).min(longest);
            let wait = b.next_wait();
            assert!(wait >= planned.mul_f64(0.49) && wait <= planned.mul_f64(1.51), "{n}: {wait:?} of {planned:?}");
        }
        b.reset();
        assert!(b.next_wait() <= first.mul_f64(1.51));
    }
}
