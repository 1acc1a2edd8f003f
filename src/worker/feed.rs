//! Owns the deliveries of one partition: its two queues, the watch over both, and what is due again.
//!
//! `queue` subscribes and opens packs; `due` takes failed events up; the watch here tells refill what
//! a queue must have lost.

use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::buffer::Buffer;
use super::due::Due;
use super::progress::Progress;
use super::queue::QueueFeed;
use super::refill::Refill;
use crate::domain::PartitionId;
use crate::ports::broker::{Route, Traffic};

/// How long a partition without deliveries is taken for idle, at first; doubles while nothing is
/// found to be missing.
const IDLE_FIRST: Duration = Duration::from_secs(5);

/// The longest wait between two looks at an idle partition.
const IDLE_LONGEST: Duration = Duration::from_secs(30);

/// How often a partition is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often a busy partition is looked at for events that were overtaken.
const OVERTAKEN_EVERY: Duration = Duration::from_secs(30);

/// Of the prefetch, what the bulk gets: it waits behind the others in any case.
const BULK_PREFETCH: u16 = 4;

/// The deliveries of a partition.
pub(super) struct Feed {
    pub(super) shared: Arc<Shared>,
    pub(super) partition: PartitionId,
    pub(super) buffer: Arc<Buffer>,
    pub(super) refill: Refill,
    pub(super) stop: CancellationToken,
}

impl Feed {
    /// Runs until stopped, then until everything taken is acknowledged or dropped (bounded by the
    /// drain timeout).
    pub(super) async fn run(self) {
        let progress = Arc::new(Progress::new(self.shared.parts.clock.elapsed()));
        let due = Due {
            shared: Arc::clone(&self.shared),
            partition: self.partition,
            buffer: Arc::clone(&self.buffer),
            stop: self.stop.clone(),
        };
        tokio::join!(
            self.queue(Traffic::Normal, &progress).run(),
            self.queue(Traffic::Bulk, &progress).run(),
            due.run(),
            self.watch(&progress),
        );
    }

    fn queue(&self, traffic: Traffic, progress: &Arc<Progress>) -> QueueFeed {
        let prefetch = self.shared.limits.prefetch;
        QueueFeed {
            shared: Arc::clone(&self.shared),
            route: Route { partition: self.partition, traffic },
            prefetch: match traffic {
                Traffic::Normal => prefetch,
                Traffic::Bulk => (prefetch / BULK_PREFETCH).max(1),
            },
            buffer: Arc::clone(&self.buffer),
            progress: Arc::clone(progress),
            stop: self.stop.clone(),
        }
    }

    async fn watch(&self, progress: &Progress) {
        let now = || self.shared.parts.clock.elapsed();
        let (mut idle, mut looked) = (IDLE_FIRST, now());
        while self.stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            if progress.lost() {
                self.refill.start("a queue had to be made");
            }
            if !progress.idle(IDLE_FIRST, now()) {
                idle = IDLE_FIRST;
                self.refill.has_found();
            } else if progress.idle(idle, now()) {
                if self.refill.has_found() {
                    // Published, and not delivered: the broker knows of a queue, and not of who listens.
                    tracing::warn!(partition = %self.partition, "nothing of what was published comes; subscribing anew");
                    progress.renew();
                }
                self.refill.start_if_pending();
                idle = if idle < IDLE_LONGEST { idle * 2 } else { idle + IDLE_LONGEST };
            }
            if now().saturating_sub(looked) >= OVERTAKEN_EVERY {
                looked = now();
                if let Some(passed) = progress.passed() {
                    self.refill.start_overtaken_by(passed);
                }
            }
        }
    }
}
