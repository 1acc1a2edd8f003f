//! Clauses of the outbox.

use riskfleet::domain::{EventId, Outcome};
use riskfleet::ports::store::{NewEvent, OutboxKind, OutboxRow};
use std::collections::BTreeSet;
use std::time::Duration;
use uuid::Uuid;

use super::fixture::{Fixture, approved, dead, decided, tenant};

const HOLD: Duration = Duration::from_millis(400);

pub(super) async fn take(f: &Fixture, kind: OutboxKind, hold: Duration, limit: u32) -> Vec<OutboxRow> {
    f.store.take_outbox(kind, hold, limit).await.expect("takes")
}

fn ids(events: &[NewEvent]) -> Vec<EventId> {
    events.iter().map(|event| event.id).collect()
}

pub(super) async fn one_row_names_the_fresh_events_in_their_order(f: &Fixture) {
    let old = f.accepted(&tenant(1), 1).await;
    let (id, mut batch) = (Uuid::new_v4(), vec![f.request(&tenant(2), "z", "p").await]);
    batch.push(f.request(&tenant(1), old[0].key.as_str(), "p").await);
    batch.push(f.request(&tenant(3), "a", "p").await);
    batch.push(f.request(&tenant(1), "m", "p").await);
    f.store.accept_batch(id, &batch).await.expect("accepts");
    let rows = take(f, OutboxKind::Accept, Duration::ZERO, 10).await;
    assert_eq!(rows.len(), 2);
    let row = rows.into_iter().find(|row| row.id == id).expect("the batch has its row");
    assert_eq!(row.events, [batch[0].id, batch[2].id, batch[3].id]);

    let mut owner = f.owner().await;
    let items = vec![approved(&batch[3]), dead(&batch[2]), decided(&batch[0], Outcome::RequireApproval)];
    let commit = owner.batch(f, items);
    owner.commit_batch(&commit).await;
    let want = OutboxRow { id: commit.id, kind: OutboxKind::Outcome, events: vec![batch[3].id, batch[0].id] };
    assert_eq!(take(f, OutboxKind::Outcome, Duration::ZERO, 10).await, [want]);
}

pub(super) async fn a_batch_of_replays_writes_no_row(f: &Fixture) {
    let old = f.accepted(&tenant(1), 2).await;
    let id = Uuid::new_v4();
    let again = f.request(&tenant(1), old[0].key.as_str(), "p").await;
    let conflict = f.request(&tenant(1), old[1].key.as_str(), "q").await;
    f.store.accept_batch(id, &[again, conflict]).await.expect("accepts");
    let rows = take(f, OutboxKind::Accept, Duration::ZERO, 10).await;
    assert_eq!(rows.iter().map(|row| row.events.clone()).collect::<Vec<_>>(), [ids(&old)]);
    assert!(rows[0].id != id);
}

pub(super) async fn a_row_is_due_only_after_its_hold(f: &Fixture) {
    let events = f.accepted(&tenant(1), 3).await;
    assert_eq!(take(f, OutboxKind::Accept, HOLD * 100, 10).await, []);
    f.pass(HOLD * 2).await;
    let taken = take(f, OutboxKind::Accept, HOLD, 10).await;
    assert_eq!(taken.iter().map(|row| row.events.clone()).collect::<Vec<_>>(), [ids(&events)]);
    assert_eq!(take(f, OutboxKind::Accept, HOLD * 100, 10).await, [], "it is held by who took it");
    f.pass(HOLD * 2).await;
    assert_eq!(take(f, OutboxKind::Accept, HOLD, 10).await, taken, "who took it has died");
}

pub(super) async fn two_takers_never_hold_the_same_row(f: &Fixture) {
    for _ in 0..24 {
        f.accepted(&tenant(1), 1).await;
    }
    f.pass(Duration::from_millis(1_100)).await;
    let hold = Duration::from_secs(1);
    let mut seen = BTreeSet::new();
    for _ in 0..24 {
        let takers: Vec<_> = (0..6)
            .map(|_| {
                let store = f.store.clone();
                tokio::spawn(async move { store.take_outbox(OutboxKind::Accept, hold, 3).await.expect("takes") })
            })
            .collect();
        for taker in takers {
            for row in taker.await.expect("no panic") {
                assert!(seen.insert(row.id), "{} was given to two takers", row.id);
            }
        }
        if seen.len() == 24 {
            return;
        }
    }
    panic!("only {} of 24 rows were ever taken", seen.len());
}

pub(super) async fn kinds_and_limits_are_kept(f: &Fixture) {
    let mut owner = f.owner().await;
    for _ in 0..3 {
        let event = f.accepted(&tenant(1), 1).await;
        owner.commit(f, vec![approved(&event[0])]).await;
    }
    for kind in [OutboxKind::Accept, OutboxKind::Outcome] {
        let taken = take(f, kind, Duration::ZERO, 2).await;
        assert_eq!(taken.len(), 2);
        assert!(taken.iter().all(|row| row.kind == kind));
    }
}

pub(super) async fn settled_rows_are_gone_and_no_longer_counted(f: &Fixture) {
    f.accepted(&tenant(1), 3).await;
    f.accepted(&tenant(2), 4).await;
    assert_eq!(f.store.unpublished().await.expect("counts"), 7);
    let rows = take(f, OutboxKind::Accept, Duration::ZERO, 10).await;
    let three = rows.iter().find(|row| row.events.len() == 3).expect("a row of three");
    // One that is gone already is no error.
    f.store.settle_outbox(&[three.id, Uuid::new_v4()]).await.expect("settles");
    f.store.settle_outbox(&[three.id]).await.expect("settles");
    f.store.settle_outbox(&[]).await.expect("settles");
    assert_eq!(f.store.unpublished().await.expect("counts"), 4);
    let left = take(f, OutboxKind::Accept, Duration::ZERO, 10).await;
    assert_eq!(left.iter().map(|row| row.events.len()).collect::<Vec<_>>(), [4]);
}
