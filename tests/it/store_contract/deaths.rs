//! Clauses of dead letters: the list, and what people do with them.

use riskfleet::domain::{AuditBody, EventId, FailureClass, Outcome, Scope, Status, Stream, TenantId, time};
use riskfleet::ports::StoreError;
use riskfleet::ports::store::{
    Committed, DeadAct, DeadFilter, DeadLetter, EventRecord, Ledger, MARK_LAG, NewEvent, PastAct, PastDeath, RetryState,
};
use std::time::Duration;

use super::fixture::{Fixture, approved, dead, decided, retry, tenant};
use super::retries::due;

async fn record(f: &Fixture, id: EventId) -> EventRecord {
    f.store.event(&Scope::Fleet, id).await.expect("reads").expect("is stored")
}

async fn list(f: &Fixture, tenant: Option<TenantId>, before: Option<EventId>, limit: u32) -> Vec<DeadLetter> {
    f.store.dead_letters(&DeadFilter { tenant, before, limit }).await.expect("lists")
}

/// The audit record of what `ann` does with a dead letter.
pub(super) fn ann(event: &NewEvent, action: &str) -> AuditBody {
    let mut audit = dead(event).audit;
    audit.stream = Stream::Control;
    audit.actor = "user:ann".into();
    audit.action = action.into();
    audit.at = time::from_millis(1_700_000_900_123);
    audit.reason = Some("the scorer is back".into());
    audit
}

pub(super) async fn replay(f: &Fixture, event: &NewEvent) -> DeadAct {
    f.store.replay_dead(event.id, &ann(event, "dead_letter_replayed")).await.expect("acts")
}

pub(super) async fn discard(f: &Fixture, event: &NewEvent) -> DeadAct {
    f.store.discard_dead(event.id, &ann(event, "dead_letter_discarded")).await.expect("acts")
}

pub(super) async fn dead_letters_are_listed_newest_first(f: &Fixture) {
    let mut events = f.accepted(&tenant(1), 3).await;
    events.extend(f.accepted(&tenant(2), 3).await);
    let mut owner = f.owner().await;
    let batch = owner.batch(f, vec![dead(&events[0]), dead(&events[4]), approved(&events[1]), dead(&events[2])]);
    owner.commit_batch(&batch).await;
    let ids = async |tenant, before, limit| {
        list(f, tenant, before, limit).await.into_iter().map(|letter| letter.event).collect::<Vec<_>>()
    };
    assert_eq!(ids(None, None, 10).await, [4, 2, 0].map(|n: usize| events[n].id));
    assert_eq!(ids(None, None, 2).await, [4, 2].map(|n: usize| events[n].id));
    assert_eq!(ids(None, Some(events[2].id), 2).await, [events[0].id]);
    assert_eq!(ids(Some(tenant(1)), None, 10).await, [2, 0].map(|n: usize| events[n].id));
    assert_eq!(ids(Some(tenant(3)), None, 10).await, []);
    let want = DeadLetter {
        event: events[4].id,
        tenant: tenant(2),
        class: FailureClass::WorkflowError,
        error: "rate of 5 % — “no”".into(),
        attempts: 3,
        at: batch.at,
    };
    assert_eq!(list(f, None, None, 1).await, [want]);
}

pub(super) async fn a_replayed_dead_letter_is_pending_again(f: &Fixture) {
    let events = f.accepted(&tenant(1), 2).await;
    let mut owner = f.owner().await;
    let batch = owner.batch(f, vec![dead(&events[0]), approved(&events[1])]);
    owner.commit_batch(&batch).await;
    let before = f.store.now().await.expect("the clock");
    assert_eq!(replay(f, &events[0]).await, DeadAct::Done);
    let got = record(f, events[0].id).await;
    assert_eq!((got.status(), &got.end), (Status::Retrying, &None));
    let RetryState { attempts, due_at, class, error, worker } = got.retry.expect("its next try is due");
    assert_eq!((attempts, class, error, worker), (0, None, None, None));
    assert!(due_at.expect("a due time") >= before - chrono::Duration::milliseconds(1));
    let death = PastDeath {
        class: FailureClass::WorkflowError,
        error: "rate of 5 % — “no”".into(),
        attempts: 3,
        died_at: batch.at,
        act: PastAct::Replayed,
        acted_at: time::from_millis(1_700_000_900_123),
        by: "user:ann".into(),
        reason: Some("the scorer is back".into()),
    };
    assert_eq!(got.past, std::slice::from_ref(&death));
    assert_eq!(list(f, None, None, 10).await, []);
    assert_eq!(f.ledger().await, Ledger { accepted: 2, decided: 1, dead: 0, pending: 1 });
    f.pass(Duration::from_millis(5)).await;
    assert_eq!(due(f, events[0].partition, 10).await, [(events[0].id, 0)]);
    // The chain that says that it died, and the one that says who made it live, are whole; and
    // stay so when its decision is there.
    assert_eq!((f.chains().await[&tenant(1)], f.control(&tenant(1)).await), (2, 1));
    assert_eq!(owner.commit(f, vec![approved(&events[0])]).await, [Committed::Written]);
    assert_eq!((f.chains().await[&tenant(1)], f.control(&tenant(1)).await), (3, 1));
    let got = record(f, events[0].id).await;
    assert_eq!((got.status(), got.retry, got.past), (Status::Approved, None, vec![death]));
    assert_eq!(f.ledger().await, Ledger { accepted: 2, decided: 2, dead: 0, pending: 0 });
    assert_eq!(replay(f, &events[0]).await, DeadAct::NotDead(Status::Approved));
}

pub(super) async fn an_event_dies_and_is_replayed_again_and_again(f: &Fixture) {
    let events = f.accepted(&tenant(1), 1).await;
    let mut owner = f.owner().await;
    let mut died_at = Vec::new();
    for n in 1..=3 {
        let batch = owner.batch(f, vec![dead(&events[0])]);
        assert_eq!(owner.commit_batch(&batch).await, [Committed::Written]);
        assert_eq!(owner.commit_batch(&batch).await, [Committed::Duplicate]);
        assert_eq!(list(f, None, None, 10).await.len(), 1);
        assert_eq!(f.ledger().await, Ledger { accepted: 1, dead: 1, ..Ledger::default() });
        assert_eq!(replay(f, &events[0]).await, DeadAct::Done);
        assert_eq!(f.ledger().await, Ledger { accepted: 1, pending: 1, ..Ledger::default() });
        died_at.push(batch.at);
        let past = record(f, events[0].id).await.past;
        assert_eq!(past.iter().map(|death| death.died_at).collect::<Vec<_>>(), died_at);
        assert_eq!((f.chains().await[&tenant(1)], f.control(&tenant(1)).await), (n, n));
    }
}

pub(super) async fn a_discarded_dead_letter_stays_dead_and_is_listed_no_more(f: &Fixture) {
    let events = f.accepted(&tenant(1), 2).await;
    let mut owner = f.owner().await;
    owner.commit(f, events.iter().map(dead).collect()).await;
    assert_eq!(discard(f, &events[0]).await, DeadAct::Done);
    let got = record(f, events[0].id).await;
    assert_eq!((got.status(), got.retry), (Status::Failed, None));
    assert_eq!(got.past.iter().map(|death| death.act).collect::<Vec<_>>(), [PastAct::Discarded]);
    assert_eq!(list(f, None, None, 10).await.iter().map(|l| l.event).collect::<Vec<_>>(), [events[1].id]);
    assert_eq!(f.ledger().await, Ledger { accepted: 2, dead: 2, ..Ledger::default() });
    assert_eq!(replay(f, &events[0]).await, DeadAct::Discarded);
    assert_eq!(discard(f, &events[0]).await, DeadAct::Discarded);
    assert_eq!(record(f, events[0].id).await.past.len(), 1);
    assert_eq!((f.chains().await[&tenant(1)], f.control(&tenant(1)).await), (2, 1));
    // One that was replayed before can be discarded when it has died again.
    assert_eq!(replay(f, &events[1]).await, DeadAct::Done);
    owner.commit(f, vec![dead(&events[1])]).await;
    assert_eq!(discard(f, &events[1]).await, DeadAct::Done);
    let acts: Vec<PastAct> = record(f, events[1].id).await.past.iter().map(|death| death.act).collect();
    assert_eq!(acts, [PastAct::Replayed, PastAct::Discarded]);
    assert_eq!(list(f, None, None, 10).await, []);
}

pub(super) async fn what_is_not_dead_is_left_alone(f: &Fixture) {
    let events = f.accepted(&tenant(1), 4).await;
    let mut owner = f.owner().await;
    owner.commit(f, vec![decided(&events[0], Outcome::RequireApproval), dead(&events[3])]).await;
    owner.postpone(vec![retry(&events[1], Duration::ZERO)]).await;
    let ledger = f.ledger().await;
    let stranger = f.request(&tenant(1), "never sent", "p").await;
    for (event, want) in [
        (&events[0], DeadAct::NotDead(Status::Escalated)),
        (&events[1], DeadAct::NotDead(Status::Retrying)),
        (&events[2], DeadAct::NotDead(Status::Received)),
        (&stranger, DeadAct::Unknown),
    ] {
        assert_eq!((replay(f, event).await, discard(f, event).await), (want, want));
    }
    // Who acts for another tenant does not find it.
    let audit = AuditBody { tenant_id: tenant(2), ..ann(&events[3], "dead_letter_replayed") };
    assert_eq!(f.store.replay_dead(events[3].id, &audit).await.expect("acts"), DeadAct::Unknown);
    assert_eq!(f.store.discard_dead(events[3].id, &audit).await.expect("acts"), DeadAct::Unknown);
    // An audit record of another stream is a defect, and nothing is done without its record.
    let audit = AuditBody { stream: Stream::Workflow, ..ann(&events[3], "dead_letter_replayed") };
    let refused = f.store.replay_dead(events[3].id, &audit).await;
    assert!(matches!(refused, Err(StoreError::Fault(_))), "{refused:?}");
    let refused = f.store.discard_dead(events[3].id, &audit).await;
    assert!(matches!(refused, Err(StoreError::Fault(_))), "{refused:?}");
    assert_eq!(record(f, events[3].id).await.past, []);
    assert_eq!((f.ledger().await, f.control(&tenant(1)).await), (ledger, 0));
    assert_eq!(list(f, None, None, 10).await.len(), 1);
}

pub(super) async fn below_the_mark_the_totals_follow(f: &Fixture) {
    let mut events = f.accepted(&tenant(1), 3).await;
    let mut owner = f.owner().await;
    owner.commit(f, events.iter().map(dead).collect()).await;
    f.age(MARK_LAG * 2, &mut events).await;
    assert!(f.store.advance_mark().await.expect("advances") > events[2].id);
    for event in &events[..2] {
        assert_eq!(replay(f, event).await, DeadAct::Done);
    }
    assert_eq!(f.ledger().await, Ledger { accepted: 3, decided: 0, dead: 1, pending: 2 });
    let backlog =
        async || f.store.fleet_status().await.expect("reads").partitions.iter().map(|p| p.backlog).sum::<i64>();
    assert_eq!(backlog().await, 2);
    f.pass(Duration::from_millis(5)).await;
    assert_eq!(due(f, events[0].partition, 10).await.len(), 2);
    assert_eq!(owner.commit(f, vec![approved(&events[0]), dead(&events[1])]).await, [Committed::Written; 2]);
    assert_eq!(f.ledger().await, Ledger { accepted: 3, decided: 1, dead: 2, pending: 0 });
    assert_eq!(backlog().await, 0);
    assert_eq!(list(f, None, None, 10).await.len(), 2);
    assert_eq!(replay(f, &events[1]).await, DeadAct::Done);
    assert_eq!(discard(f, &events[2]).await, DeadAct::Done);
    assert_eq!(f.ledger().await, Ledger { accepted: 3, decided: 1, dead: 1, pending: 1 });
}

pub(super) async fn of_many_acts_at_once_one_is_done(f: &Fixture) {
    let events = f.accepted(&tenant(1), 4).await;
    f.owner().await.commit(f, events.iter().map(dead).collect()).await;
    let acts: Vec<_> = (0..16)
        .map(|n| {
            let (store, event) = (f.store.clone(), events[n % 4].clone());
            tokio::spawn(async move { store.replay_dead(event.id, &ann(&event, "dead_letter_replayed")).await })
        })
        .collect();
    let mut done = 0;
    for act in acts {
        match act.await.expect("no panic").expect("acts") {
            DeadAct::Done => done += 1,
            other => assert_eq!(other, DeadAct::NotDead(Status::Retrying)),
        }
    }
    assert_eq!((done, f.control(&tenant(1)).await), (4, 4));
    assert_eq!(f.ledger().await, Ledger { accepted: 4, pending: 4, ..Ledger::default() });
}
