//! Owns the offset between this host's clock and the store's: ids are minted by the store's clock,
//! so that a host with a wrong clock neither mints ids of the past nor of the future.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use crate::domain::time::to_millis;
use crate::ports::{Clock, EventStore, StoreError};

/// How often the offset is measured.
const MEASURE_EVERY: Duration = Duration::from_secs(30);

/// The store's clock, as seen from here.
pub struct StoreClock {
    clock: Arc<dyn Clock>,
    offset_ms: AtomicI64,
}

impl StoreClock {
    /// Measures the offset and gives the clock.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn measure(store: &dyn EventStore, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let own = Self { clock, offset_ms: AtomicI64::new(0) };
        own.adjust(store).await?;
        Ok(own)
    }

    /// Measures again: the store's answer lies, on average, half a round trip back.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn adjust(&self, store: &dyn EventStore) -> Result<(), StoreError> {
        let (asked, started) = (self.clock.now(), self.clock.elapsed());
        let theirs = store.now().await?;
        let half = self.clock.elapsed().saturating_sub(started).as_millis() as i64 / 2;
        let ours = asked.timestamp_millis() + half;
        self.offset_ms.store(theirs.timestamp_millis() - ours, Ordering::Relaxed);
        Ok(())
    }

    /// Milliseconds since the Unix epoch by the store's clock.
    pub fn millis(&self) -> u64 {
        to_millis(self.clock.now()).saturating_add_signed(self.offset_ms.load(Ordering::Relaxed))
    }
}

/// Keeps measuring until stopped. A store that does not answer keeps the last offset.
pub(super) async fn keep(clock: Arc<StoreClock>, store: Arc<dyn EventStore>, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(MEASURE_EVERY)).await.is_some() {
        if let Err(e) = clock.adjust(&*store).await {
            tracing::warn!(error = %e, "failed to measure the store's clock");
        }
    }
}
