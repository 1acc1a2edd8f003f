//! Owns the counting of rates in this process, and the stepping in of this count where the shared
//! one is away. Never waits for the shared one longer than a caller would notice.

use async_trait::async_trait;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::domain::TenantId;
use crate::ports::Clock;
use crate::ports::rate::{Pace, RateError, RateLimits, RateMeter, SECONDS_KEPT};

/// How long the shared meter may take.
const PATIENCE: Duration = Duration::from_millis(250);

/// How long it is left alone after a failure: every call waits for the answer.
const LEFT_ALONE: Duration = Duration::from_secs(2);

/// The events of one tenant, by the second.
#[derive(Debug, Default)]
struct Counts {
    /// At `second % SECONDS_KEPT`.
    each: [u64; SECONDS_KEPT as usize],
    newest: u64,
}

impl Counts {
    /// Moves on to `second`; what leaves the window is forgotten.
    fn roll(&mut self, second: u64) {
        let passed = second.saturating_sub(self.newest).min(SECONDS_KEPT);
        for back in 0..passed {
            self.each[((second - back) % SECONDS_KEPT) as usize] = 0;
        }
        self.newest = self.newest.max(second);
    }

    fn take(&mut self, now: Duration, wanted: u64, limits: RateLimits) -> Pace {
        self.roll(now.as_secs());
        let there: u64 = self.each.iter().sum();
        let total = there + wanted;
        if there > 0 && limits.refuse_above.is_some_and(|most| total > most) {
            let retry_after = self.room_at(total - limits.refuse_above.unwrap_or(total)).saturating_sub(now);
            return Pace::Refused { retry_after };
        }
        self.each[(self.newest % SECONDS_KEPT) as usize] += wanted;
        if total > limits.bulk_above { Pace::Bulk } else { Pace::Normal }
    }

    /// When so many of the counted events, or all, have left the window.
    fn room_at(&self, events: u64) -> Duration {
        let (mut left, oldest) = (0, (self.newest + 1).saturating_sub(SECONDS_KEPT));
        for second in oldest..self.newest {
            left += self.each[(second % SECONDS_KEPT) as usize];
            if left >= events {
                return Duration::from_secs(second + SECONDS_KEPT);
            }
        }
        Duration::from_secs(self.newest + SECONDS_KEPT)
    }
}

#[derive(Default)]
struct Tenants {
    counts: HashMap<TenantId, Counts>,
    /// The second in which the idle ones were last forgotten.
    swept: u64,
}

/// Counts in this process. A tenant that finds no place among so many active ones is not counted
/// and goes behind the others: it spends for nobody.
pub struct LocalRate {
    limits: RateLimits,
    tenants_max: usize,
    clock: Arc<dyn Clock>,
    tenants: Mutex<Tenants>,
}

impl LocalRate {
    /// Tenants that are counted at once where nothing else is said; some 200 bytes each.
    pub const TENANTS_MAX: usize = 100_000;

    /// A meter that has seen nothing.
    pub fn new(limits: RateLimits, tenants_max: usize, clock: Arc<dyn Clock>) -> Self {
        Self { limits, tenants_max, clock, tenants: Mutex::default() }
    }

    fn pace(&self, tenants: &mut Tenants, tenant: &TenantId, wanted: u32, now: Duration) -> Pace {
        if let Some(counts) = tenants.counts.get_mut(tenant) {
            return counts.take(now, u64::from(wanted), self.limits);
        }
        if tenants.counts.len() >= self.tenants_max && tenants.swept < now.as_secs() {
            tenants.swept = now.as_secs();
            tenants.counts.retain(|_, counts| counts.newest + SECONDS_KEPT > now.as_secs());
        }
        if tenants.counts.len() >= self.tenants_max {
            return Pace::Bulk;
        }
        tenants.counts.entry(tenant.clone()).or_default().take(now, u64::from(wanted), self.limits)
    }
}

#[async_trait]
impl RateMeter for LocalRate {
    async fn take(&self, wanted: &[(TenantId, u32)]) -> Result<Vec<Pace>, RateError> {
        let now = self.clock.elapsed();
        // A panic while it is held can only come from an allocation that failed.
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(wanted.iter().map(|(tenant, events)| self.pace(&mut tenants, tenant, *events, now)).collect())
    }
}

/// A meter that all processes share, and the count of this process while that one is away. The
/// count begins empty then, so for one window a tenant may send its limit once more.
pub struct SharedRate {
    shared: Arc<dyn RateMeter>,
    local: LocalRate,
    clock: Arc<dyn Clock>,
    /// While the shared one is away: when it is asked again.
    away: Mutex<Option<Duration>>,
    tell: Tell,
}

/// Hears whether the shared meter is in use: at the start, and whenever that changes.
pub type Tell = Box<dyn Fn(bool) + Send + Sync>;

impl SharedRate {
    /// Asks `shared`, and `local` while that one is away.
    pub fn new(shared: Arc<dyn RateMeter>, local: LocalRate, clock: Arc<dyn Clock>, tell: Tell) -> Self {
        tell(true);
        Self { shared, local, clock, away: Mutex::default(), tell }
    }

    fn away(&self) -> MutexGuard<'_, Option<Duration>> {
        self.away.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lost(&self, error: &RateError) {
        let again = self.clock.elapsed() + LEFT_ALONE;
        if self.away().replace(again).is_none() {
            (self.tell)(false);
            tracing::warn!(%error, "the shared rates are away; every process counts by itself");
        }
    }

    fn found(&self) {
        if self.away().take().is_some() {
            (self.tell)(true);
            tracing::info!("the shared rates are back");
        }
    }
}

#[async_trait]
impl RateMeter for SharedRate {
    async fn take(&self, wanted: &[(TenantId, u32)]) -> Result<Vec<Pace>, RateError> {
        let left_alone = self.away().is_some_and(|again| self.clock.elapsed() < again);
        if !left_alone {
            let late = || RateError(format!("no answer within {PATIENCE:?}"));
            let answer = tokio::time::timeout(PATIENCE, self.shared.take(wanted)).await;
            match answer.unwrap_or_else(|_| Err(late())) {
                Ok(paces) => {
                    self.found();
                    return Ok(paces);
                }
                Err(error) => self.lost(&error),
            }
        }
        self.local.take(wanted).await
    }

    async fn ping(&self) -> Result<(), RateError> {
        self.shared.ping().await
    }
}
