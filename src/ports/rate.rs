//! The rates of tenants: how many events each has sent of late, to this process or to all of them.

use async_trait::async_trait;
use std::time::Duration;

use crate::domain::TenantId;

/// Over how long a rate is averaged: long enough for a producer's batches, short enough that what a
/// flood may send at once is worked off before it is felt.
pub const WINDOW: Duration = Duration::from_secs(2);

/// How many seconds of counts a meter keeps: a window that ends in the middle of a second begins in
/// the middle of another, and both count whole, so that no window holds more than the bound.
pub const SECONDS_KEPT: u64 = WINDOW.as_secs() + 1;

/// What a tenant's events may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Within its rate: go with everybody.
    Normal,
    /// Above its rate: go behind the others.
    Bulk,
    /// Above its limit: not counted, not to be taken.
    Refused {
        /// After which as many fit, if the tenant sends nothing else meanwhile; above zero.
        retry_after: Duration,
    },
}

/// The two thresholds, in events of one tenant within [`WINDOW`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimits {
    /// Above it, events are [`Pace::Bulk`].
    pub bulk_above: u64,
    /// Above it, they are refused; none where nothing is.
    pub refuse_above: Option<u64>,
}

impl RateLimits {
    /// From events a second; a `most` of 0 is no bound.
    pub fn a_second(rate: u32, most: u32) -> Self {
        let window = |events: u32| u64::from(events) * WINDOW.as_secs();
        Self { bulk_above: window(rate), refuse_above: (most > 0).then(|| window(most)) }
    }
}

/// The meter did not answer; completes "failed to …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("count the rates: {0}")]
pub struct RateError(pub String);

/// Counts events by tenant.
#[async_trait]
pub trait RateMeter: Send + Sync {
    /// Asks for a batch, each ask as a whole and in order, and counts what is not refused. A tenant
    /// may be named more than once. Gives one pace an ask. An ask that alone is above the limit is
    /// taken where its tenant has sent nothing else within the window: it would never fit.
    ///
    /// # Errors
    /// [`RateError`]: whether anything was counted is unknown.
    async fn take(&self, wanted: &[(TenantId, u32)]) -> Result<Vec<Pace>, RateError>;

    /// Whether whoever counts answers; a meter of this process always does.
    ///
    /// # Errors
    /// When it does not.
    async fn ping(&self) -> Result<(), RateError> {
        Ok(())
    }
}
