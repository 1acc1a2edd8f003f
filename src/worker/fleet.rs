//! Owns this worker's place in the fleet: membership, leases, claims and letting go.
//!
//! Nobody is pre-empted: an owner that is no longer desired finishes, commits, acknowledges and
//! releases. While the lease server is away everybody keeps what they have and nobody claims.

use metrics::{counter, gauge};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Shared;
use super::assign::{cap, desired};
use super::feed::Feed;
use super::ownership::Held;
use super::refill::Refill;
use crate::domain::{PartitionId, WorkerId};
use crate::ports::leases::{Beat, LeaseError, Renewal};
use crate::ports::{Member, StoreError};
use crate::telemetry::names::{self, lease};

/// How often the worker shows itself.
const BEAT_EVERY: Duration = Duration::from_secs(2);
/// How often leases are renewed.
const RENEW_EVERY: Duration = Duration::from_secs(3);
/// How long a partition stays free before somebody takes it who is not its desired owner.
const FREE_FOR: Duration = Duration::from_secs(3);

/// The worker's place in the fleet.
pub(super) struct FleetTask {
    shared: Arc<Shared>,
    tasks: TaskTracker,
    beaten: Option<Duration>,
    renewed: Duration,
    may_claim_at: Duration,
    free_since: HashMap<PartitionId, Duration>,
}

impl FleetTask {
    pub(super) fn new(shared: Arc<Shared>, tasks: TaskTracker) -> Self {
        let now = shared.parts.clock.elapsed();
        Self { shared, tasks, beaten: None, renewed: now, may_claim_at: now, free_since: HashMap::new() }
    }

    /// Runs until stopped, then lets go of everything and leaves.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(e) = self.turn().await {
                tracing::warn!(error = %e, "keeping what is held; claiming nothing");
            }
            gauge!(names::OWNED_PARTITIONS).set(self.shared.ownership.len() as f64);
            stop.run_until_cancelled(tokio::time::sleep(self.shared.limits.turn)).await;
        }
        self.leave().await;
    }

    fn now(&self) -> Duration {
        self.shared.parts.clock.elapsed()
    }

    async fn turn(&mut self) -> Result<(), LeaseError> {
        let now = self.now();
        for partition in self.shared.ownership.lost() {
            self.let_go(partition);
        }
        let settled = self.shared.settling.load(Ordering::Acquire) && now >= self.may_claim_at;
        if settled || self.beaten.is_none_or(|at| now.saturating_sub(at) >= BEAT_EVERY) {
            self.beat(now).await?;
        }
        if now.saturating_sub(self.renewed) >= RENEW_EVERY {
            self.renew().await?;
            self.renewed = now;
        }
        self.rebalance(now).await
    }

    /// A worker that starts, or that finds itself forgotten, claims nothing for one membership TTL:
    /// others may hold what looks free. It says so, or they would let go of what it may not take yet.
    async fn beat(&mut self, now: Duration) -> Result<(), LeaseError> {
        let settling = self.beaten.is_none() || now < self.may_claim_at;
        self.shared.settling.store(settling, Ordering::Release);
        if self.shared.parts.leases.beat(&self.shared.member()).await? == Beat::Missing {
            self.may_claim_at = now + self.shared.limits.settle;
            if !settling {
                self.shared.settling.store(true, Ordering::Release);
                self.shared.parts.leases.beat(&self.shared.member()).await?;
            }
        }
        self.beaten = Some(now);
        Ok(())
    }

    async fn renew(&self) -> Result<(), LeaseError> {
        for partition in self.shared.ownership.partitions() {
            if self.shared.parts.leases.renew(partition, self.shared.member.id).await? == Renewal::Lost {
                tracing::warn!(%partition, "another worker has the lease; letting go");
                counter!(names::LEASE_CHANGES, "change" => lease::LOST).increment(1);
                self.let_go(partition);
            }
        }
        Ok(())
    }

    async fn rebalance(&mut self, now: Duration) -> Result<(), LeaseError> {
        let (leases, me) = (&self.shared.parts.leases, self.shared.member.id);
        let members = leases.members().await?;
        if !members.iter().any(|m| m.id == me) {
            // The server has just forgotten everybody: who is missing here may be missing there, and
            // what is let go now nobody could claim for one membership TTL.
            return Ok(());
        }
        let partitions = self.shared.constants.partitions;
        let (wanted, holders) = (desired(&members, partitions), leases.holders(partitions).await?);
        let takes = |id: WorkerId| id != me && members.iter().any(|m| m.id == id && !m.settling);
        for (p, (wanted, holder)) in (0..partitions).map(PartitionId).zip(wanted.into_iter().zip(holders)) {
            if self.shared.ownership.holds(p) {
                self.free_since.remove(&p);
                if wanted.is_some_and(takes) {
                    self.let_go(p);
                }
            } else if self.should_claim(p, wanted, holder, &members, now) {
                self.claim(p).await?;
            }
        }
        Ok(())
    }

    fn should_claim(
        &mut self,
        partition: PartitionId,
        wanted: Option<WorkerId>,
        holder: Option<WorkerId>,
        members: &[Member],
        now: Duration,
    ) -> bool {
        let me = self.shared.member.id;
        // A lease of this worker's that it does not work under is left of a claim that failed.
        if holder.is_some_and(|h| h != me) {
            self.free_since.remove(&partition);
            return false;
        }
        let since = *self.free_since.entry(partition).or_insert(now);
        let room = self.shared.ownership.len() < cap(members, me, self.shared.constants.partitions);
        let left_over = now.saturating_sub(since) > FREE_FOR && room;
        now >= self.may_claim_at && (wanted == Some(me) || left_over)
    }

    async fn claim(&mut self, partition: PartitionId) -> Result<(), LeaseError> {
        let (leases, me) = (&self.shared.parts.leases, self.shared.member.id);
        if !leases.acquire(partition, me).await? {
            return Ok(());
        }
        match self.shared.parts.store.claim_partition(partition, me).await {
            Ok(epoch) => {
                tracing::info!(%partition, epoch = epoch.0, "claimed");
                counter!(names::LEASE_CHANGES, "change" => lease::CLAIMED).increment(1);
                self.free_since.remove(&partition);
                self.start_feed(partition, epoch);
            }
            Err(e) => {
                tracing::warn!(%partition, error = %e, "failed to claim");
                leases.release(partition, me).await?;
            }
        }
        Ok(())
    }

    fn start_feed(&self, partition: PartitionId, epoch: crate::domain::Epoch) {
        let stop = CancellationToken::new();
        let refill = Refill {
            shared: Arc::clone(&self.shared),
            partition,
            running: Arc::default(),
            found: Arc::default(),
            tasks: self.tasks.clone(),
            stop: stop.clone(),
        };
        let lane = usize::from(partition.0) % self.shared.buffers.len();
        let buffer = Arc::clone(&self.shared.buffers[lane]);
        let held = Held { epoch, stop: stop.clone(), fenced: false, refill: refill.clone(), feed: None };
        // Held before it is fed: a lane that gets the first event must find the epoch.
        self.shared.ownership.insert(partition, held);
        let feed = Feed { shared: Arc::clone(&self.shared), partition, buffer, refill, stop };
        let handle = self.tasks.spawn(feed.run());
        self.shared.ownership.set_feed(partition, handle);
    }

    /// Finish, commit, acknowledge, release: in the background, once.
    fn let_go(&self, partition: PartitionId) {
        let Some(feed) = self.shared.ownership.let_go(partition) else { return };
        self.tasks.spawn(release(Arc::clone(&self.shared), partition, feed));
    }

    async fn leave(&self) {
        self.shared.draining.store(true, Ordering::Release);
        if let Err(e) = self.shared.parts.leases.beat(&self.shared.member()).await {
            tracing::debug!(error = %e, "failed to say that this worker is leaving");
        }
        let feeds = self.shared.ownership.partitions().into_iter();
        let leaving = feeds.filter_map(|p| {
            let feed = self.shared.ownership.let_go(p)?;
            Some(release(Arc::clone(&self.shared), p, feed))
        });
        futures::future::join_all(leaving).await;
        if let Err(e) = self.shared.parts.leases.leave(self.shared.member.id).await {
            tracing::debug!(error = %e, "failed to leave; the membership runs out by itself");
        }
    }
}

/// Waits for the feed, forgets the partition, and tells the others, in this order: when another
/// worker claims it, nothing of it is in flight here.
async fn release(shared: Arc<Shared>, partition: PartitionId, feed: tokio::task::JoinHandle<()>) {
    if feed.await.is_err() {
        tracing::error!(%partition, "the feed of a partition has failed");
    }
    let Some(epoch) = shared.ownership.remove(partition) else { return };
    let noted: Result<(), StoreError> = shared.parts.store.release_partition(partition, epoch).await;
    if let Err(e) = noted {
        tracing::debug!(%partition, error = %e, "failed to note a release");
    }
    if let Err(e) = shared.parts.leases.release(partition, shared.member.id).await {
        tracing::debug!(%partition, error = %e, "failed to release a lease; it runs out by itself");
    }
    counter!(names::LEASE_CHANGES, "change" => lease::RELEASED).increment(1);
    tracing::info!(%partition, "released");
}
