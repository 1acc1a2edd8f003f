//! A fleet in which all is well, for tests that break one thing.

use uuid::Uuid;

use crate::domain::{Epoch, PartitionId, WorkerId, time};
use crate::ports::checkup::FleetSeen;
use crate::ports::store::{FleetConstants, FleetStatus, Ledger, PartitionRow, WorkerRow};

const NOW_MS: u64 = 1_795_255_200_000;

pub(super) fn worker(n: u128) -> WorkerId {
    WorkerId(Uuid::from_u128(n))
}

/// Two partitions, one worker that owns both, nothing pending.
pub(super) fn fleet(breaks: impl FnOnce(&mut FleetSeen)) -> FleetSeen {
    let partition = |p| PartitionRow { partition: PartitionId(p), owner: Some(worker(1)), epoch: Epoch(1), backlog: 0 };
    let mut seen = FleetSeen {
        now: time::from_millis(NOW_MS),
        constants: FleetConstants { partitions: 2, pack_secret: [0; 32] },
        status: FleetStatus {
            workers: vec![WorkerRow {
                id: worker(1),
                version: "0.1.0".into(),
                partitions: vec![PartitionId(0), PartitionId(1)],
                draining: false,
                seen_at: time::from_millis(NOW_MS - 1_000),
                load: None,
            }],
            partitions: vec![partition(0), partition(1)],
            ledger: Ledger { accepted: 10, decided: 9, dead: 1, pending: 0 },
        },
        stale: vec![],
        standing: vec![],
    };
    breaks(&mut seen);
    seen
}
