//! Owns the time of a run: tokio's paused time, which stands still while anything can be done and
//! jumps to the next timer when nothing can.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use riskfleet::domain::time::from_millis;
use riskfleet::ports::Clock;
use tokio::time::Instant;

/// 2027-01-15T08:00:00Z, when every run begins.
const EPOCH_MS: u64 = 1_800_000_000_000;

/// The clock of one host.
pub(crate) struct SimClock {
    start: Instant,
    off_ms: AtomicI64,
}

impl SimClock {
    /// A clock that is right when `off_ms` is 0.
    pub(crate) fn new(start: Instant, off_ms: i64) -> Self {
        Self { start, off_ms: AtomicI64::new(off_ms) }
    }

    /// Sets the wall clock to another wrong time; `elapsed` goes on.
    pub(crate) fn set_off(&self, off_ms: i64) {
        self.off_ms.store(off_ms, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn now(&self) -> DateTime<Utc> {
        let passed = self.elapsed().as_millis() as u64;
        from_millis((EPOCH_MS + passed).saturating_add_signed(self.off_ms.load(Ordering::Relaxed)))
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}
