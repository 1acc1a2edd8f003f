//! Owns the hourly sweep: days whose time is over are dropped. Never decides which: the store does.

use metrics::{counter, gauge};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use crate::domain::{AuditBody, Stream};
use crate::ports::retention::{Sweep, Swept, chain};
use crate::ports::{Clock, Registry, StoreError};
use crate::telemetry::names;

/// How often days are looked at.
const EVERY: Duration = Duration::from_secs(3_600);

/// Days dropped by one sweep at most; while more may go, the next one follows at once.
const DROPS_MAX: u32 = 7;

/// What the sweep stands on.
pub struct Sweeper {
    /// Where the days are.
    pub registry: Arc<dyn Registry>,
    /// For the records.
    pub clock: Arc<dyn Clock>,
    /// The fleet's retention, in days; 0: for ever.
    pub retention_days: u32,
}

impl Sweeper {
    /// Sweeps now and every hour, until stopped; a sweep that was begun is finished.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            let more = match self.sweep().await {
                Ok(swept) => tell(&swept),
                Err(e) => {
                    counter!(names::RETENTION_FAILURES).increment(1);
                    tracing::warn!(error = %e, "failed to drop what is old; the next try is in an hour");
                    false
                }
            };
            if stop.is_cancelled() {
                return;
            }
            if !more && stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none() {
                return;
            }
        }
    }

    async fn sweep(&self) -> Result<Swept, StoreError> {
        let at = self.clock.now();
        let resource = ("retention", "sweep");
        let audit = AuditBody::new((chain(), Stream::Control), at, "governance", "day_dropped", resource);
        self.registry.sweep(Sweep { fleet_days: self.retention_days, drops_max: DROPS_MAX, audit: &audit }).await
    }
}

/// Says what went. Gives whether more may go; where nothing went that may, the next hour is early
/// enough.
fn tell(swept: &Swept) -> bool {
    let mut dropped = 0;
    for expired in swept.dropped() {
        dropped += 1;
        let (day, events) = (expired.day, expired.events);
        tracing::info!(%day, events, decisions = expired.decisions, "a day was dropped: its retention is over");
    }
    counter!(names::RETENTION_DAYS_DROPPED).increment(dropped);
    let oldest = swept.oldest_kept().map_or(0, |day| day.first_id().millis() / 1_000);
    gauge!(names::RETENTION_OLDEST_DAY).set(oldest as f64);
    swept.more && dropped > 0
}
