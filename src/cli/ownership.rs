//! Owns the question whether a partition's owner is there. Knows only what the store was told.

use chrono::{DateTime, Utc};

use crate::domain::{PartitionId, WorkerId};
use crate::ports::store::{FleetStatus, PartitionRow, WorkerRow};

/// Workers report every two seconds: one that has missed this many seconds is gone, paused, or cut
/// off from the store.
const SILENT_S: i64 = 10;

/// Who looks after a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// Nobody has claimed it, or who had has let go.
    Nobody,
    /// A worker that reports.
    Reports {
        /// Its boot id.
        id: WorkerId,
        /// Whether it is leaving.
        draining: bool,
    },
    /// A worker that does not report any more.
    Silent {
        /// Its boot id.
        id: WorkerId,
        /// Seconds since its last report; none when that is over a minute ago.
        seconds: Option<i64>,
    },
}

/// Who looks after `partition`, as the store knows it at `now`.
pub(super) fn owner(status: &FleetStatus, partition: PartitionId, now: DateTime<Utc>) -> Owner {
    let row = status.partitions.iter().find(|p| p.partition == partition);
    row.map_or(Owner::Nobody, |row| owner_of(row, &status.workers, now))
}

/// Who looks after the partition of a row.
pub(super) fn owner_of(row: &PartitionRow, workers: &[WorkerRow], now: DateTime<Utc>) -> Owner {
    let Some(id) = row.owner else { return Owner::Nobody };
    let Some(worker) = workers.iter().find(|w| w.id == id) else { return Owner::Silent { id, seconds: None } };
    let seconds = (now - worker.seen_at).num_seconds();
    if seconds > SILENT_S {
        return Owner::Silent { id, seconds: Some(seconds) };
    }
    Owner::Reports { id, draining: worker.draining }
}

/// The workers that report.
pub(super) fn reporting(status: &FleetStatus, now: DateTime<Utc>) -> impl Iterator<Item = &WorkerRow> {
    status.workers.iter().filter(move |w| (now - w.seen_at).num_seconds() <= SILENT_S)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Epoch, time};
    use crate::ports::store::Ledger;
    use uuid::Uuid;

    #[test]
    fn an_owner_is_there_as_long_as_it_reports() {
        let (id, gone) = (WorkerId(Uuid::from_u128(1)), WorkerId(Uuid::from_u128(2)));
        let row = |p, owner| PartitionRow { partition: PartitionId(p), owner, epoch: Epoch(1), backlog: 0 };
        let worker = |seen| WorkerRow {
            id,
            version: "1".into(),
            partitions: vec![],
            draining: false,
            seen_at: time::from_millis(seen),
            load: None,
        };
        let status = |seen| FleetStatus {
            workers: vec![worker(seen)],
            partitions: vec![row(0, Some(id)), row(1, None), row(2, Some(gone))],
            ledger: Ledger::default(),
        };
        let now = time::from_millis(100_000);
        let (fresh, old) = (status(90_000), status(89_000));
        assert_eq!(owner(&fresh, PartitionId(0), now), Owner::Reports { id, draining: false });
        assert_eq!(owner(&old, PartitionId(0), now), Owner::Silent { id, seconds: Some(11) });
        assert_eq!(owner(&fresh, PartitionId(1), now), Owner::Nobody);
        assert_eq!(owner(&fresh, PartitionId(2), now), Owner::Silent { id: gone, seconds: None });
        assert_eq!((reporting(&fresh, now).count(), reporting(&old, now).count()), (1, 0));
    }
}
