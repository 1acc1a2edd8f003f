//! Owns the only readings of the wall clock and of real randomness.

use chrono::{DateTime, Utc};
use std::time::{Duration, Instant};

use crate::ports::{Clock, Cpu, Entropy};

/// The clock of this machine.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose `elapsed` begins now.
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that may")]
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    fn cpu(&self) -> Option<Cpu> {
        // Quotas of a container count, as the kernel gives them.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Some(Cpu { used: super::process::usage()?.cpu, cores: u32::try_from(cores).unwrap_or(u32::MAX) })
    }
}

/// A cryptographic generator, seeded by the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    #[expect(clippy::disallowed_methods, reason = "the one place that may")]
    fn bits(&self) -> u128 {
        rand::random()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_and_bits_differ() {
        let clock = SystemClock::new();
        let before = clock.elapsed();
        assert!(clock.elapsed() >= before);
        assert!(clock.now().timestamp() > 1_700_000_000);
        assert_ne!(SystemEntropy.bits(), SystemEntropy.bits());
        assert_eq!(SystemEntropy.uuid().get_version_num(), 4);
    }
}
