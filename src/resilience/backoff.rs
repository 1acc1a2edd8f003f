//! Owns the schedule of repeated tries. The only file that knows the crate `backoff`, which is
//! unmaintained (RUSTSEC-2025-0012): it serves as a calculator here, and replacing it is this file.
//!
//! # Decisions
//! The crate's own jitter comes from the operating system's generator; here it comes from the
//! caller's, so that a seeded run waits the same again.

use backoff::ExponentialBackoffBuilder;
use backoff::backoff::Backoff as _;
use std::time::Duration;

use crate::ports::Entropy;

/// Exponential waits with jitter (each within ±50 % of the schedule), without an end.
#[derive(Debug)]
pub struct Backoff {
    schedule: backoff::ExponentialBackoff,
    longest: Duration,
    jitter: u64,
}

impl Backoff {
    /// Waits from about `first`, doubling, up to about `longest`; whole milliseconds before jitter.
    pub fn new(first: Duration, longest: Duration, entropy: &dyn Entropy) -> Self {
        let schedule = ExponentialBackoffBuilder::new()
            .with_initial_interval(first)
            .with_max_interval(longest)
            .with_multiplier(2.0)
            .with_randomization_factor(0.0)
            .with_max_elapsed_time(None)
            .build();
        // The low half of the bits; a seed needs no more.
        Self { schedule, longest, jitter: entropy.bits() as u64 }
    }

    /// How long to wait before the next try.
    pub fn next_wait(&mut self) -> Duration {
        let planned = self.schedule.next_backoff().unwrap_or(self.longest);
        // Without its jitter the crate is off by a nanosecond at times.
        let planned = Duration::from_millis(planned.as_millis() as u64);
        planned.mul_f64(0.5 + self.next_fraction())
    }

    /// Evenly spread over `[0, 1)`.
    fn next_fraction(&mut self) -> f64 {
        // SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014).
        self.jitter = self.jitter.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.jitter;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Begins anew, after a try that went well.
    pub fn reset(&mut self) {
        self.schedule.reset();
    }
}

/// How long something waits that was tried `attempts` times (1 or more): about `first`, doubling, up
/// to about `longest`; within ±50 %.
pub fn wait_after(attempts: u32, first: Duration, longest: Duration, entropy: &dyn Entropy) -> Duration {
    let mut schedule = Backoff::new(first, longest, entropy);
    // The doubling of any duration has reached its bound by then.
    (1..attempts.min(64)).for_each(|_| _ = schedule.next_wait());
    schedule.next_wait()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(u128);

    impl Entropy for Fixed {
        fn bits(&self) -> u128 {
            self.0
        }
    }

    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(5);

    #[test]
    fn waits_double_up_to_the_longest_and_begin_anew() {
        let mut b = Backoff::new(FIRST, LONGEST, &Fixed(1));
        for n in 0..40 {
            let planned = FIRST.mul_f64(2_f64.powi(n.min(30))).min(LONGEST);
            let wait = b.next_wait();
            assert!(wait >= planned.mul_f64(0.49) && wait <= planned.mul_f64(1.51), "{n}: {wait:?} of {planned:?}");
        }
        b.reset();
        assert!(b.next_wait() <= FIRST.mul_f64(1.51));
    }

    #[test]
    fn the_same_bits_wait_the_same_and_others_spread() {
        let waits = |bits| {
            let mut b = Backoff::new(FIRST, LONGEST, &Fixed(bits));
            (0..20).map(|_| b.next_wait()).collect::<Vec<_>>()
        };
        assert_eq!(waits(7), waits(7));
        let first: Vec<Duration> = (0..1_000).map(|bits| waits(bits)[0]).collect();
        let below = first.iter().filter(|w| **w < FIRST).count();
        assert!((450..550).contains(&below), "{below} of 1000 waits are below the schedule");
    }

    #[test]
    fn retries_wait_longer_and_longer_up_to_a_bound() {
        let (first, longest) = (Duration::from_secs(1), Duration::from_secs(300));
        for (attempts, seconds) in [(1, 1.0), (2, 2.0), (3, 4.0), (6, 32.0), (10, 300.0), (u32::MAX, 300.0)] {
            for seed in 0..50 {
                let wait = wait_after(attempts, first, longest, &Fixed(seed)).as_secs_f64();
                assert!((0.49 * seconds..1.51 * seconds).contains(&wait), "{attempts}: {wait}");
            }
        }
    }
}
