//! Clauses of the mark W and of the conservation ledger.

use riskfleet::domain::EventId;
use riskfleet::ports::store::{DeadAct, Ledger, MARK_LAG, Marking, NewEvent};
use std::time::Duration;

use super::deaths::replay;
use super::fixture::{Fixture, approved, dead, retry, tenant};

async fn advance(f: &Fixture) -> EventId {
    let mark = f.store.advance_mark().await.expect("advances");
    assert_eq!(f.store.mark().await.expect("reads"), mark);
    mark
}

pub(super) async fn the_ledger_balances_at_every_step(f: &Fixture) {
    assert_eq!(f.ledger().await, Ledger::default());
    let mut events = f.accepted(&tenant(1), 4).await;
    events.extend(f.accepted(&tenant(2), 4).await);
    let mut owner = f.owner().await;
    let mut want = Ledger { accepted: 8, pending: 8, ..Ledger::default() };
    assert_eq!(f.ledger().await, want);
    for n in 0..8 {
        let is_dead = n % 3 == 2;
        let item = if is_dead { dead(&events[n]) } else { approved(&events[n]) };
        owner.commit(f, vec![item]).await;
        want.pending -= 1;
        *(if is_dead { &mut want.dead } else { &mut want.decided }) += 1;
        assert_eq!(f.ledger().await, want);
        if n == 3 {
            f.age(MARK_LAG * 2, &mut events).await;
        }
        advance(f).await;
        assert_eq!(f.ledger().await, want, "after the {n}th step of the mark");
    }
    assert!(f.store.mark().await.expect("reads") > events[7].id);
    f.accepted(&tenant(1), 2).await;
    want.accepted += 2;
    want.pending += 2;
    assert_eq!(f.ledger().await, want);
}

pub(super) async fn the_mark_stops_at_the_oldest_pending_event(f: &Fixture) {
    let mut events = f.accepted(&tenant(1), 6).await;
    let mut owner = f.owner().await;
    owner.commit(f, [0, 1, 3, 5].map(|n: usize| approved(&events[n])).into()).await;
    f.age(MARK_LAG + Duration::from_secs(1), &mut events).await;
    assert_eq!(advance(f).await, events[2].id);
    assert_eq!(advance(f).await, events[2].id, "nothing has changed");
    let pending = async |events: &[NewEvent]| {
        let far = EventId::floor(events[0].id.millis() + 3_600_000);
        let page = f.store.pending_page(events[0].partition, None, far, 10).await.expect("reads");
        page.into_iter().map(|event| event.id).collect::<Vec<_>>()
    };
    assert_eq!(pending(&events).await, [events[2].id, events[4].id]);
    let backlog: i64 = f.store.fleet_status().await.expect("reads").partitions.iter().map(|p| p.backlog).sum();
    assert_eq!(backlog, 2);
    owner.commit(f, vec![dead(&events[2])]).await;
    assert_eq!(advance(f).await, events[4].id);
    assert_eq!(pending(&events).await, [events[4].id]);
    owner.commit(f, vec![approved(&events[4])]).await;
    assert!(advance(f).await > events[5].id);
    assert_eq!(pending(&events).await, []);
    assert_eq!(f.ledger().await, Ledger { accepted: 6, decided: 5, dead: 1, pending: 0 });
}

pub(super) async fn the_mark_stays_a_minute_behind(f: &Fixture) {
    let events = f.accepted(&tenant(1), 2).await;
    f.owner().await.commit(f, events.iter().map(approved).collect()).await;
    let mark = advance(f).await;
    assert!(mark <= EventId::floor(events[0].id.millis() + 2_000 - MARK_LAG.as_millis() as u64), "{mark}");
    assert!(mark < events[0].id);
    // A clock that is set back far must not let anything in below the mark.
    if let Some(clock) = f.clock() {
        clock.advance(MARK_LAG * 3);
        assert!(advance(f).await > events[1].id);
        clock.set_back(MARK_LAG * 2);
        let late = f.request(&tenant(1), "late", "p").await;
        let refused = f.store.accept_batch(uuid::Uuid::new_v4(), &[late]).await;
        assert!(matches!(refused, Err(riskfleet::ports::StoreError::ClockSkew(_))), "{refused:?}");
        assert_eq!(f.ledger().await, Ledger { accepted: 2, decided: 2, dead: 0, pending: 0 });
    }
}

pub(super) async fn many_movers_fold_every_event_once(f: &Fixture) {
    let mut events = f.accepted(&tenant(1), 40).await;
    f.owner().await.commit(f, events.iter().map(approved).collect()).await;
    f.age(MARK_LAG * 2, &mut events).await;
    let movers: Vec<_> = (0..8)
        .map(|_| {
            let store = f.store.clone();
            tokio::spawn(async move { store.advance_mark().await.expect("advances") })
        })
        .collect();
    for mover in movers {
        mover.await.expect("no panic");
    }
    assert!(advance(f).await > events[39].id);
    assert_eq!(f.ledger().await, Ledger { accepted: 40, decided: 40, dead: 0, pending: 0 });
}

pub(super) async fn the_mark_passes_what_waits_for_its_next_try(f: &Fixture) {
    let mut events = f.accepted(&tenant(1), 5).await;
    let mut owner = f.owner().await;
    owner.commit(f, vec![approved(&events[0])]).await;
    let hour = Duration::from_secs(3_600);
    owner.postpone(vec![retry(&events[1], hour), retry(&events[2], hour)]).await;
    owner.mark(Marking::Together, &events[3..4]).await;
    f.age(MARK_LAG * 2, &mut events).await;
    // A mark of attempts holds it: that message is in the broker's hands.
    assert_eq!(advance(f).await, events[3].id);
    assert_eq!(f.ledger().await, Ledger { accepted: 5, decided: 1, dead: 0, pending: 4 });
    owner.commit(f, vec![approved(&events[3]), dead(&events[4])]).await;
    assert!(advance(f).await > events[4].id);
    assert_eq!(f.ledger().await, Ledger { accepted: 5, decided: 2, dead: 1, pending: 2 });
    let status = f.store.fleet_status().await.expect("reads");
    assert_eq!(status.partitions.iter().map(|p| p.backlog).sum::<i64>(), 2);
    let far = EventId::floor(events[0].id.millis() + 3_600_000);
    assert_eq!(f.store.pending_page(events[0].partition, None, far, 10).await.expect("reads"), []);
    // Below the mark it is run, postponed and ended as above it.
    owner.mark(Marking::Alone, &events[1..3]).await;
    owner.postpone(vec![retry(&events[1], Duration::ZERO)]).await;
    f.pass(Duration::from_millis(5)).await;
    assert_eq!(f.store.due_retries(events[1].partition, 10).await.expect("reads").len(), 1);
    assert_eq!(f.ledger().await.pending, 2);
    owner.commit(f, vec![approved(&events[1])]).await;
    assert_eq!(f.ledger().await, Ledger { accepted: 5, decided: 3, dead: 1, pending: 1 });
    owner.commit(f, vec![dead(&events[2])]).await;
    assert_eq!(f.ledger().await, Ledger { accepted: 5, decided: 3, dead: 2, pending: 0 });
    advance(f).await;
    assert_eq!(f.ledger().await, Ledger { accepted: 5, decided: 3, dead: 2, pending: 0 });
}

/// Whichever comes first, every event is counted once.
pub(super) async fn a_step_of_the_mark_beside_ends_and_replays_counts_once(f: &Fixture) {
    let mut owner = f.owner().await;
    for round in 0..12 {
        let mut events = f.accepted(&tenant(1), 3).await;
        owner.commit(f, vec![dead(&events[2])]).await;
        owner.postpone(events[..2].iter().map(|event| retry(event, Duration::ZERO)).collect()).await;
        f.age(MARK_LAG * 2, &mut events).await;
        let ending = async {
            owner.commit(f, vec![approved(&events[0])]).await;
            owner.commit(f, vec![dead(&events[1])]).await;
        };
        let (mark, act, ()) = tokio::join!(f.store.advance_mark(), replay(f, &events[2]), ending);
        mark.expect("advances");
        assert_eq!(act, DeadAct::Done);
        let n = round + 1;
        let want = Ledger { accepted: 3 * n, decided: n, dead: n, pending: n };
        assert_eq!(f.ledger().await, want);
        assert!(advance(f).await > events[2].id);
        assert_eq!(f.ledger().await, want);
    }
}
