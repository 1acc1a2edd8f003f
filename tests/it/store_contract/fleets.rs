//! Clauses of constants, workers and partitions.

use riskfleet::domain::{Epoch, PartitionId, WorkerId, WorkerLoad, time};
use riskfleet::ports::store::WorkerRow;
use std::time::Duration;
use uuid::Uuid;

use super::fixture::{Fixture, PARTITIONS, SECRET, approved, tenant};

pub(super) async fn constants_and_clock(f: &Fixture) {
    let constants = f.store.constants().await.expect("reads");
    assert_eq!((constants.partitions, constants.pack_secret), (PARTITIONS, SECRET));
    let before = f.store.now().await.expect("the clock");
    f.pass(Duration::from_millis(20)).await;
    let passed = f.store.now().await.expect("the clock") - before;
    assert!(passed >= chrono::Duration::milliseconds(20), "{passed}");
}

fn worker(n: u128, partitions: &[u16]) -> WorkerRow {
    WorkerRow {
        id: WorkerId(Uuid::from_u128(n)),
        version: format!("0.1.{n}"),
        partitions: partitions.iter().copied().map(PartitionId).collect(),
        draining: n == 2,
        // Of the worker's own clock: not believed.
        seen_at: time::from_millis(5),
        load: (n != 3).then(|| load(n as u64)),
    }
}

fn load(n: u64) -> WorkerLoad {
    let mut load = WorkerLoad { cpu_permille: Some(n as u32 * 100), failed: n, ..WorkerLoad::default() };
    (0..n).for_each(|_| load.took(12));
    load
}

pub(super) async fn workers_are_shown_by_the_stores_clock(f: &Fixture) {
    let before = f.store.now().await.expect("the clock");
    for row in [worker(3, &[]), worker(1, &[0, 3]), worker(2, &[1]), worker(1, &[0])] {
        f.store.report_worker(&row).await.expect("reports");
    }
    let shown = f.store.fleet_status().await.expect("reads").workers;
    assert_eq!(shown.iter().map(|w| w.id.0.as_u128()).collect::<Vec<_>>(), [1, 2, 3]);
    for row in &shown {
        assert!(row.seen_at >= before, "{row:?}");
        let n = row.id.0.as_u128();
        let want = worker(
            n,
            if n == 1 {
                &[0]
            } else if n == 2 {
                &[1]
            } else {
                &[]
            },
        );
        assert_eq!(*row, WorkerRow { seen_at: row.seen_at, ..want });
    }
    if let Some(clock) = f.clock() {
        clock.advance(Duration::from_secs(50));
        f.store.report_worker(&worker(2, &[1])).await.expect("reports");
        clock.advance(Duration::from_secs(20));
        let shown = f.store.fleet_status().await.expect("reads").workers;
        assert_eq!(shown.iter().map(|w| w.id.0.as_u128()).collect::<Vec<_>>(), [2]);
    }
}

pub(super) async fn partitions_show_owner_epoch_and_backlog(f: &Fixture) {
    let mut events = Vec::new();
    for n in 0..12 {
        events.extend(f.accepted(&tenant(n), 1).await);
    }
    let mut owner = f.owner().await;
    owner.claim(f, PartitionId(2)).await;
    owner.commit(f, vec![approved(&events[0]), approved(&events[5])]).await;
    let status = f.store.fleet_status().await.expect("reads");
    assert_eq!(status.ledger, f.ledger().await);
    for (n, row) in (0..PARTITIONS).zip(&status.partitions) {
        let here = |n: &&usize| events[**n].partition == row.partition;
        let pending = [1, 2, 3, 4, 6, 7, 8, 9, 10, 11].iter().filter(here).count();
        assert_eq!((row.partition, row.owner), (PartitionId(n), Some(owner.worker)));
        assert_eq!((row.epoch, row.backlog), (Epoch(if n == 2 { 2 } else { 1 }), pending as i64));
    }
    assert_eq!(status.partitions.len(), usize::from(PARTITIONS));
}

pub(super) async fn there_are_no_other_partitions(f: &Fixture) {
    f.store.claim_partition(PartitionId(PARTITIONS), WorkerId(Uuid::new_v4())).await.expect_err("there is none");
    f.store.release_partition(PartitionId(PARTITIONS), Epoch(1)).await.expect("nothing to release");
}
