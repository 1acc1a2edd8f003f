//! Tests: what is let in, what waits, what is refused, and that whoever goes away leaves room.

use super::*;
use futures::poll;
use proptest::prelude::*;
use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

fn bulkhead(concurrent: usize, queued: usize) -> Bulkhead {
    Bulkhead::new(BulkheadRules { concurrent, queued }, BulkheadMeters::none())
}

fn tenant(n: usize) -> TenantId {
    TenantId::parse(&format!("tenant-{n}")).expect("legal")
}

#[tokio::test]
async fn so_many_at_once_so_many_waiting_and_one_more_is_refused() {
    let bulkhead = bulkhead(2, 1);
    let first = bulkhead.enter().await.expect("room");
    let second = bulkhead.enter().await.expect("room");
    let mut third = Box::pin(bulkhead.enter());
    assert!(poll!(third.as_mut()).is_pending());
    let refused = bulkhead.enter().await.err().expect("no room");
    assert_eq!(refused, Full { concurrent: 2, queued: 1 });
    assert_eq!(refused.to_string(), "too much is asked of it at once: 2 under way, 1 waiting");
    drop(first);
    let third = third.await.expect("a place became free");
    assert_eq!(bulkhead.waiting.load(Ordering::SeqCst), 0);
    drop((second, third));
    assert_eq!(bulkhead.room.available_permits(), 2);
}

#[tokio::test]
async fn a_caller_that_goes_away_frees_its_place() {
    let bulkhead = bulkhead(1, 1);
    let first = bulkhead.enter().await.expect("room");
    let mut gone = Box::pin(bulkhead.enter());
    assert!(poll!(gone.as_mut()).is_pending());
    assert!(bulkhead.enter().await.is_err(), "the queue is full");
    drop(gone);
    let mut second = Box::pin(bulkhead.enter());
    assert!(poll!(second.as_mut()).is_pending(), "its place in the queue was free again");
    drop(first);
    let second = second.await.expect("not given to the one that went away");
    drop(second);
    // One that was given its place and went away before it looked.
    let held = bulkhead.enter().await.expect("room");
    let mut late = Box::pin(bulkhead.enter());
    assert!(poll!(late.as_mut()).is_pending());
    drop(held);
    drop(late);
    assert_eq!((bulkhead.room.available_permits(), bulkhead.waiting.load(Ordering::SeqCst)), (1, 0));
}

#[tokio::test]
async fn weights_count_and_the_heaviest_takes_everything() {
    let bulkhead = bulkhead(10, 10);
    let light = bulkhead.enter_with(4).await.expect("room");
    let mut heavy = Box::pin(bulkhead.enter_with(1_000));
    assert!(poll!(heavy.as_mut()).is_pending(), "it waits for all ten places");
    assert!(bulkhead.enter_with(1).await.is_err(), "and its weight fills the queue");
    drop(light);
    let heavy = heavy.await.expect("all free");
    assert_eq!(bulkhead.room.available_permits(), 0);
    drop(heavy);
    let nothing = bulkhead.enter_with(0).await.expect("nothing needs no room");
    assert_eq!(bulkhead.room.available_permits(), 10);
    drop(nothing);
}

#[tokio::test]
async fn a_tenant_that_floods_leaves_the_others_their_room() {
    let one = tenant(1);
    let tenants = TenantBulkheads::new(BulkheadRules { concurrent: 1, queued: 1 }, BulkheadMeters::none());
    let under_way = tenants.enter(&one).await.expect("room");
    let mut waits = Box::pin(tenants.enter(&one));
    assert!(poll!(waits.as_mut()).is_pending());
    let refused = tenants.enter(&one).await.err().expect("no room for this one");
    assert_eq!(refused, TenantRefusal::Full(Full { concurrent: 1, queued: 1 }));
    let other = tenants.enter(&tenant(2)).await.expect("the other has its own");
    assert_eq!(tenants.tenants(), 2);
    drop(other);
    assert_eq!(tenants.tenants(), 1);
    drop(under_way);
    assert_eq!(tenants.tenants(), 1, "somebody waits for it still");
    drop(waits.await.expect("free"));
    assert_eq!(tenants.tenants(), 0, "nobody is in it, so it is gone");
}

#[tokio::test]
async fn the_number_of_tenants_is_bounded_and_cancelled_waits_leave_nothing() {
    let rules = BulkheadRules { concurrent: 1, queued: 1 };
    let one = tenant(1);
    let tenants = TenantBulkheads::bounded(rules, 2, BulkheadMeters::none());
    let first = tenants.enter(&one).await.expect("room");
    let two = tenants.enter(&tenant(2)).await.expect("room");
    assert_eq!(tenants.enter(&tenant(3)).await.err(), Some(TenantRefusal::Tenants(2)));
    let mut waits = Box::pin(tenants.enter(&one));
    assert!(poll!(waits.as_mut()).is_pending());
    drop(waits);
    drop(first);
    assert_eq!(tenants.tenants(), 1);
    let three = tenants.enter(&tenant(3)).await.expect("a compartment became free");
    drop((two, three));
    assert_eq!(tenants.tenants(), 0);
}

type Entering<'a> = Pin<Box<dyn Future<Output = Result<Place, Full>> + 'a>>;

/// Plays a script against a compartment: `true` enters, `false` lets the oldest inside, or else
/// the oldest that waits, go away. Holds the numbers after every step.
async fn play(concurrent: usize, queued: usize, script: &[(bool, bool)]) -> Result<(), TestCaseError> {
    let bulkhead = bulkhead(concurrent, queued);
    let (mut inside, mut waiting): (Vec<Place>, Vec<Entering<'_>>) = (Vec::new(), Vec::new());
    for (enters, from_queue) in script {
        if *enters {
            let mut entering: Entering<'_> = Box::pin(bulkhead.enter());
            match poll!(entering.as_mut()) {
                Poll::Ready(Ok(place)) => {
                    prop_assert!(inside.len() < concurrent);
                    inside.push(place);
                }
                Poll::Ready(Err(_)) => {
                    prop_assert_eq!((inside.len(), waiting.len()), (concurrent, queued));
                }
                Poll::Pending => {
                    prop_assert!(inside.len() == concurrent && waiting.len() < queued);
                    waiting.push(entering);
                }
            }
        } else if *from_queue && !waiting.is_empty() {
            drop(waiting.remove(0));
        } else if !inside.is_empty() {
            drop(inside.remove(0));
            if !waiting.is_empty() {
                // In the order of arrival.
                let Poll::Ready(Ok(place)) = poll!(waiting.remove(0)) else {
                    return Err(TestCaseError::fail("the first that waits has the place"));
                };
                inside.push(place);
            }
        }
        prop_assert_eq!(bulkhead.room.available_permits(), concurrent - inside.len());
        prop_assert_eq!(bulkhead.waiting.load(Ordering::SeqCst), waiting.len());
    }
    Ok(())
}

proptest! {
    #[test]
    fn nothing_is_lost_and_nothing_is_over_the_bound(
        concurrent in 1..4_usize,
        queued in 0..4_usize,
        script in prop::collection::vec((prop::bool::weighted(0.6), any::<bool>()), 0..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(play(concurrent, queued, &script))?;
    }
}
