//! Owns the fence: what a lane may still do about an event.
//!
//! The safety argument: a claim bumps the epoch under the partition's exclusive advisory lock; a
//! lane's transaction holds the lock shared from its first statement to its end and reads the epoch
//! in the NEXT statement (a statement's snapshot is older than the lock it waited for). So it
//! either sees the new epoch and writes nothing, or is waited for by the claim.

use sqlx::{PgConnection, Row};
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

use super::connect::failed;
use crate::domain::{Epoch, EventId, PartitionId};
use crate::mutants::{self, Mutant};
use crate::ports::store::{Committed, StoreError};

/// The epoch that a worker believes in; one that never was for a partition that it does not name.
pub(super) fn epoch_of(epochs: &[(PartitionId, Epoch)], partition: PartitionId) -> Epoch {
    epochs.iter().find(|(p, _)| *p == partition).map_or(Epoch(-1), |(_, epoch)| *epoch)
}

/// What the store says before anything is written.
pub(super) struct Seen {
    epochs: HashMap<i16, i64>,
    disposed: HashSet<EventId>,
}

impl Seen {
    /// What may be done about an event, believed to be owned under `epochs`.
    pub(super) fn fate(&self, epochs: &[(PartitionId, Epoch)], partition: PartitionId, event: EventId) -> Committed {
        let stored = self.epochs.get(&(partition.0 as i16));
        if stored != Some(&epoch_of(epochs, partition).0) && !mutants::active(Mutant::FenceRemoved) {
            Committed::Fenced
        } else if self.disposed.contains(&event) {
            Committed::Duplicate
        } else {
            Committed::Written
        }
    }
}

/// Locks the partitions, then reads their epochs and which of the events are disposed of.
pub(super) async fn fence(
    tx: &mut PgConnection,
    locks: i32,
    epochs: &[(PartitionId, Epoch)],
    events: &[Uuid],
) -> Result<Seen, StoreError> {
    lock_shared(tx, locks, epochs).await?;
    read(tx, epochs, events).await
}

/// Locks in partition order: two commits over the same partitions never wait for each other, and
/// a claim waits for one lock at a time.
async fn lock_shared(tx: &mut PgConnection, locks: i32, epochs: &[(PartitionId, Epoch)]) -> Result<(), StoreError> {
    let mut partitions: Vec<i32> = epochs.iter().map(|(p, _)| i32::from(p.0)).collect();
    partitions.sort_unstable();
    sqlx::query("SELECT pg_advisory_xact_lock_shared($1, p) FROM unnest($2::int[]) AS p")
        .bind(locks)
        .bind(partitions)
        .execute(tx)
        .await
        .map_err(failed)?;
    Ok(())
}

async fn read(tx: &mut PgConnection, epochs: &[(PartitionId, Epoch)], ids: &[Uuid]) -> Result<Seen, StoreError> {
    let partitions: Vec<i16> = epochs.iter().map(|(p, _)| p.0 as i16).collect();
    let rows = sqlx::query(
        "SELECT partition, epoch, NULL::uuid FROM partitions WHERE partition = ANY($1)
         UNION ALL
         SELECT NULL, NULL, event_id FROM decisions WHERE event_id = ANY($2) AND event_id BETWEEN $3 AND $4",
    )
    .bind(partitions)
    .bind(ids)
    .bind(ids.iter().min().copied().unwrap_or_default())
    .bind(ids.iter().max().copied().unwrap_or_default())
    .fetch_all(tx)
    .await
    .map_err(failed)?;
    let mut seen = Seen { epochs: HashMap::new(), disposed: HashSet::new() };
    for row in rows {
        let partition: Option<i16> = row.try_get(0).map_err(failed)?;
        match partition {
            Some(partition) => _ = seen.epochs.insert(partition, row.try_get(1).map_err(failed)?),
            None => _ = seen.disposed.insert(EventId(row.try_get(2).map_err(failed)?)),
        }
    }
    Ok(seen)
}
