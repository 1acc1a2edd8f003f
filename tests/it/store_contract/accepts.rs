//! Clauses of `accept_batch`.

use riskfleet::domain::{Status, time};
use riskfleet::ports::StoreError;
use riskfleet::ports::store::{Accepted, NewEvent};
use uuid::Uuid;

use super::fixture::{Fixture, approved, tenant};

pub(super) async fn a_fresh_event_is_stored_as_it_was_given(f: &Fixture) {
    let event = f.request(&tenant(1), "a key with spaces, \"quotes\" and 'more'", "p").await;
    assert_eq!(f.accept(std::slice::from_ref(&event)).await, [Accepted::Fresh]);
    let stored = f.store.events(&[event.id]).await.expect("reads");
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].body, event.body);
    assert_eq!((stored[0].id, &stored[0].tenant), (event.id, &event.tenant));
    assert_eq!((stored[0].partition, &stored[0].correlation_id), (event.partition, &event.correlation_id));
}

pub(super) async fn replay_gives_the_first_answer(f: &Fixture) {
    let first = f.request(&tenant(1), "k", "p").await;
    f.accept(std::slice::from_ref(&first)).await;
    let again = f.request(&tenant(1), "k", "p").await;
    assert_ne!((first.id, &first.correlation_id), (again.id, &again.correlation_id));
    let replayed = |status| Accepted::Replayed { id: first.id, correlation_id: first.correlation_id.clone(), status };
    assert_eq!(f.accept(std::slice::from_ref(&again)).await, [replayed(Status::Received)]);
    f.owner().await.commit(f, vec![approved(&first)]).await;
    assert_eq!(f.accept(&[again]).await, [replayed(Status::Approved)]);
    assert_eq!(f.ledger().await.accepted, 1);
}

pub(super) async fn another_payload_under_a_key_is_a_conflict(f: &Fixture) {
    let first = f.request(&tenant(1), "k", "p").await;
    f.accept(std::slice::from_ref(&first)).await;
    let other = f.request(&tenant(1), "k", "q").await;
    assert_eq!(f.accept(std::slice::from_ref(&other)).await, [Accepted::Conflict { id: first.id }]);
    assert_eq!(f.store.events(&[other.id]).await.expect("reads"), []);
}

pub(super) async fn the_same_key_twice_in_one_batch_makes_one_event(f: &Fixture) {
    let mut batch = Vec::new();
    for (key, payload) in [("k", "p"), ("other", "p"), ("k", "p"), ("k", "q"), ("a", "p")] {
        batch.push(f.request(&tenant(1), key, payload).await);
    }
    let first = &batch[0];
    let replayed =
        Accepted::Replayed { id: first.id, correlation_id: first.correlation_id.clone(), status: Status::Received };
    let conflict = Accepted::Conflict { id: first.id };
    let want = [Accepted::Fresh, Accepted::Fresh, replayed, conflict, Accepted::Fresh];
    assert_eq!(f.accept(&batch).await, want);
    assert_eq!(f.ledger().await.accepted, 3);
    assert_eq!(f.store.unpublished().await.expect("counts"), 3);
}

async fn accept_each_at_once(f: &Fixture, batches: Vec<Vec<NewEvent>>) -> Vec<Vec<Accepted>> {
    let accept = |batch: Vec<NewEvent>| {
        let store = f.store.clone();
        tokio::spawn(async move { store.accept_batch(Uuid::new_v4(), &batch).await.expect("accepts") })
    };
    let running: Vec<_> = batches.into_iter().map(accept).collect();
    let mut results = Vec::new();
    for task in running {
        results.push(task.await.expect("no panic"));
    }
    results
}

pub(super) async fn a_hundred_concurrent_copies_make_one_event(f: &Fixture) {
    let mut copies = Vec::new();
    for _ in 0..100 {
        copies.push(vec![f.request(&tenant(1), "k", "p").await]);
    }
    let ids: Vec<_> = copies.iter().map(|copy| copy[0].id).collect();
    let answers: Vec<Accepted> = accept_each_at_once(f, copies).await.concat();
    let fresh: Vec<_> = ids.iter().zip(&answers).filter(|(_, a)| **a == Accepted::Fresh).map(|(id, _)| *id).collect();
    assert_eq!(fresh.len(), 1);
    let is_replay = |a: &&Accepted| matches!(a, Accepted::Replayed { id, .. } if *id == fresh[0]);
    assert_eq!(answers.iter().filter(is_replay).count(), 99);
    let stored = f.store.events(&ids).await.expect("reads");
    assert_eq!(stored.iter().map(|e| e.id).collect::<Vec<_>>(), fresh);
    assert_eq!(f.store.unpublished().await.expect("counts"), 1);
}

pub(super) async fn concurrent_batches_over_the_same_keys_all_come_through(f: &Fixture) {
    let mut batches = Vec::new();
    for n in 0..8 {
        let mut batch = Vec::new();
        for key in 0..20 {
            batch.push(f.request(&tenant(key % 3), &format!("k{key}"), "p").await);
        }
        // Each in another order: what locks in the order given would deadlock.
        batch.rotate_left(n * 5 % 20);
        if n % 2 == 1 {
            batch.reverse();
        }
        batches.push(batch);
    }
    let answers = accept_each_at_once(f, batches).await.concat();
    assert_eq!(answers.iter().filter(|a| **a == Accepted::Fresh).count(), 20);
    assert!(answers.iter().all(|a| !matches!(a, Accepted::Conflict { .. })));
    assert_eq!(f.ledger().await.accepted, 20);
}

pub(super) async fn keys_are_of_their_tenant(f: &Fixture) {
    let batch = [f.request(&tenant(1), "k", "p").await, f.request(&tenant(2), "k", "q").await];
    assert_eq!(f.accept(&batch).await, [Accepted::Fresh, Accepted::Fresh]);
    let again = [f.request(&tenant(2), "k", "q").await, f.request(&tenant(1), "k", "q").await];
    let answers = f.accept(&again).await;
    assert!(matches!(&answers[0], Accepted::Replayed { id, .. } if *id == batch[1].id));
    assert_eq!(answers[1], Accepted::Conflict { id: batch[0].id });
}

pub(super) async fn ids_far_from_the_clock_are_refused_and_nothing_is_written(f: &Fixture) {
    for off in [-2_600_i64, 2_600] {
        let now = time::to_millis(f.store.now().await.expect("the clock"));
        let near = f.request_with_id(f.mint_at(now), &tenant(1), "near", "p");
        let far = f.request_with_id(f.mint_at(now.saturating_add_signed(off)), &tenant(1), "far", "p");
        let refused = f.store.accept_batch(Uuid::new_v4(), &[near.clone(), far]).await;
        match refused {
            Err(StoreError::ClockSkew(by)) => assert_eq!((by.signum(), by.abs() > 2_000), (off.signum(), true)),
            other => panic!("an id that is {off} ms off gave {other:?}"),
        }
        assert_eq!(f.store.events(&[near.id]).await.expect("reads"), []);
        assert_eq!(f.store.unpublished().await.expect("counts"), 0);
        assert_eq!(f.ledger().await.accepted, 0);
    }
    // A little off is as good as none, and nothing refused before is in the way.
    for (key, off) in [("near", -1_500_i64), ("far", 1_500)] {
        let now = time::to_millis(f.store.now().await.expect("the clock"));
        let event = f.request_with_id(f.mint_at(now.saturating_add_signed(off)), &tenant(1), key, "p");
        assert_eq!(f.accept(&[event]).await, [Accepted::Fresh]);
    }
}

pub(super) async fn an_empty_batch_does_nothing(f: &Fixture) {
    assert_eq!(f.accept(&[]).await, []);
    assert_eq!(f.owner().await.commit(f, vec![]).await, []);
    assert_eq!(f.ledger().await, riskfleet::ports::store::Ledger::default());
}

pub(super) async fn a_batch_sent_again_is_all_replays(f: &Fixture) {
    let (id, events) = (Uuid::new_v4(), [f.request(&tenant(1), "a", "p").await, f.request(&tenant(2), "b", "p").await]);
    f.store.accept_batch(id, &events).await.expect("accepts");
    // The answer was lost: the caller asks again.
    let again = f.store.accept_batch(id, &events).await.expect("accepts");
    for (event, answer) in events.iter().zip(again) {
        assert!(matches!(answer, Accepted::Replayed { id, .. } if id == event.id));
    }
    assert_eq!(f.store.unpublished().await.expect("counts"), 2);
}
