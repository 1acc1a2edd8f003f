//! Clauses of attempt marks, of retries, and of the repairs that are asked for.

use riskfleet::domain::{EventId, FailureClass, PartitionId, Scope, Status, time};
use riskfleet::ports::store::{
    Accepted, Backlog, Committed, ERROR_MAX, EventFilter, EventRecord, Mark, Marking, NewEvent, NewRetry, RetryState,
};
use std::time::Duration;

use super::fixture::{Fixture, Owner, PARTITIONS, approved, dead, retry, tenant};

const HOUR: Duration = Duration::from_secs(3_600);

async fn record(f: &Fixture, event: &NewEvent) -> EventRecord {
    f.store.event(&Scope::Fleet, event.id).await.expect("reads").expect("is stored")
}

async fn listed(f: &Fixture, status: Status) -> Vec<EventId> {
    let filter = EventFilter { status: Some(status), limit: 100, ..EventFilter::default() };
    f.store.list_events(&filter).await.expect("lists").into_iter().map(|line| line.id).collect()
}

pub(super) async fn due(f: &Fixture, partition: PartitionId, limit: u32) -> Vec<(EventId, u32)> {
    let due = f.store.due_retries(partition, limit).await.expect("reads");
    due.into_iter().map(|retry| (retry.event.id, retry.attempts)).collect()
}

fn begun(attempts: u32, by_other: bool) -> Mark {
    Mark::Begun { attempts, by_other }
}

pub(super) async fn together_gives_first_marks_and_alone_counts(f: &Fixture) {
    let events = f.accepted(&tenant(1), 2).await;
    let (mut a, mut b) = (f.owner().await, f.stranger().await);
    assert_eq!(a.mark(Marking::Together, &events[..1]).await, [begun(1, false)]);
    assert_eq!(a.mark(Marking::Together, &events).await, [begun(1, false), begun(1, false)]);
    let state = record(f, &events[0]).await;
    let marked = RetryState { attempts: 1, due_at: None, class: None, error: None, worker: Some(a.worker) };
    assert_eq!((state.status(), state.retry), (Status::Received, Some(marked.clone())));
    b.claim(f, events[0].partition).await;
    // The first look of a successor counts nothing and leaves the mark that it finds.
    for _ in 0..2 {
        assert_eq!(b.mark(Marking::Together, &events).await, [begun(1, true), begun(1, true)]);
    }
    assert_eq!(b.mark(Marking::Alone, &events[..1]).await, [begun(2, true)]);
    assert_eq!(b.mark(Marking::Alone, &events[..1]).await, [begun(3, false)]);
    assert_eq!(b.mark(Marking::Together, &events).await, [begun(3, false), begun(1, true)]);
    assert_eq!(record(f, &events[0]).await.retry.map(|r| (r.attempts, r.worker)), Some((3, Some(b.worker))));
    assert_eq!(record(f, &events[1]).await.retry, Some(marked));
    // A mark alone keeps nobody's message back.
    let far = EventId::floor(events[1].id.millis() + 3_600_000);
    assert_eq!(f.store.pending_page(events[0].partition, None, far, 10).await.expect("reads").len(), 2);
    assert_eq!(due(f, events[0].partition, 10).await, []);
    assert_eq!(listed(f, Status::Retrying).await, []);
    assert_eq!(f.ledger().await.pending, 2);
}

pub(super) async fn the_first_mark_alone_is_one(f: &Fixture) {
    let events = f.accepted(&tenant(1), 1).await;
    let mut owner = f.owner().await;
    assert_eq!(owner.mark(Marking::Alone, &events).await, [begun(1, false)]);
    assert_eq!(owner.mark(Marking::Alone, &events).await, [begun(2, false)]);
    assert_eq!(owner.mark(Marking::Alone, &[]).await, []);
    assert_eq!(owner.postpone(vec![]).await, []);
}

pub(super) async fn what_has_ended_or_was_never_stored_is_settled(f: &Fixture) {
    let mut events = f.accepted(&tenant(1), 3).await;
    let mut owner = f.owner().await;
    owner.commit(f, vec![approved(&events[0]), dead(&events[1])]).await;
    events.push(f.request(&tenant(1), "never sent", "p").await);
    for marking in [Marking::Together, Marking::Alone] {
        let marks = owner.mark(marking, &events).await;
        assert_eq!([marks[0], marks[1], marks[3]], [Mark::Settled; 3]);
        assert!(matches!(marks[2], Mark::Begun { .. }));
    }
    let fates = owner.postpone(events.iter().map(|event| retry(event, Duration::ZERO)).collect()).await;
    let want = [Committed::Duplicate, Committed::Duplicate, Committed::Written, Committed::Duplicate];
    assert_eq!(fates, want);
    assert_eq!(record(f, &events[0]).await.retry, None);
    assert_eq!(record(f, &events[1]).await.retry, None);
    f.pass(Duration::from_millis(5)).await;
    assert_eq!(due(f, events[0].partition, 10).await, [(events[2].id, 4)]);
    assert_eq!(f.ledger().await.pending, 1);
}

pub(super) async fn marks_and_retries_are_fenced(f: &Fixture) {
    let lost = f.accepted(&tenant(1), 1).await.remove(0);
    let mut kept = None;
    for n in 2..100 {
        let event = f.accepted(&tenant(n), 1).await.remove(0);
        if event.partition != lost.partition {
            kept = Some(event);
            break;
        }
    }
    let events = [lost, kept.expect("a hundred tenants are not in one partition")];
    let (mut owner, mut thief) = (f.owner().await, f.stranger().await);
    thief.claim(f, events[0].partition).await;
    for marking in [Marking::Together, Marking::Alone] {
        let marks = owner.mark(marking, &events).await;
        assert!(matches!(marks[..], [Mark::Fenced, Mark::Begun { .. }]), "{marks:?}");
    }
    let retries: Vec<NewRetry> = events.iter().map(|event| retry(event, HOUR)).collect();
    assert_eq!(owner.postpone(retries.clone()).await, [Committed::Fenced, Committed::Written]);
    assert_eq!(record(f, &events[0]).await.retry, None);
    // Fenced comes before settled: the one who asks has lost the right to an answer.
    thief.commit(f, vec![approved(&events[0])]).await;
    assert_eq!(owner.mark(Marking::Alone, &events[..1]).await, [Mark::Fenced]);
    assert_eq!(owner.postpone(retries[..1].to_vec()).await, [Committed::Fenced]);
    assert_eq!(thief.mark(Marking::Alone, &events[..1]).await, [Mark::Settled]);
}

pub(super) async fn a_postponed_event_waits(f: &Fixture) {
    let events = f.accepted(&tenant(1), 2).await;
    let (partition, far) = (events[0].partition, EventId::floor(events[1].id.millis() + 3_600_000));
    let mut owner = f.owner().await;
    owner.mark(Marking::Alone, &events[..1]).await;
    let before = f.store.now().await.expect("the clock");
    let item = NewRetry { error: format!("\0{}", "ü".repeat(ERROR_MAX)), ..retry(&events[0], HOUR) };
    assert_eq!(owner.postpone(vec![item]).await, [Committed::Written]);
    let after = f.store.now().await.expect("the clock");
    let got = record(f, &events[0]).await;
    assert_eq!(got.status(), Status::Retrying);
    let state = got.retry.expect("it waits");
    let due_at = state.due_at.expect("its next try is due some time");
    let slack = chrono::Duration::milliseconds(1);
    assert!((before + HOUR - slack..=after + HOUR + slack).contains(&due_at), "{before} {due_at} {after}");
    assert_eq!((state.attempts, state.class, state.worker), (4, Some(FailureClass::InfraError), None));
    let error = state.error.expect("its error is kept");
    assert!(error.starts_with("\u{fffd}ü") && (ERROR_MAX - 1..=ERROR_MAX).contains(&error.len()), "{}", error.len());
    assert_eq!(
        (listed(f, Status::Retrying).await, listed(f, Status::Received).await),
        (vec![events[0].id], vec![events[1].id])
    );
    let again = f.request(&tenant(1), events[0].key.as_str(), "p").await;
    let answer = f.accept(&[again]).await.remove(0);
    assert!(matches!(answer, Accepted::Replayed { status: Status::Retrying, .. }), "{answer:?}");
    // Nobody's message, but pending.
    let page = f.store.pending_page(partition, None, far, 10).await.expect("reads");
    assert_eq!(page.iter().map(|event| event.id).collect::<Vec<_>>(), [events[1].id]);
    assert_eq!(f.store.pending_of(&[events[0].id]).await.expect("reads").len(), 1);
    assert_eq!(due(f, partition, 10).await, []);
    assert_eq!(f.ledger().await.pending, 2);
    // A copy of its message is not run; when it runs alone the due time stands.
    assert_eq!(owner.mark(Marking::Together, &events).await, [Mark::Waiting, begun(1, false)]);
    assert_eq!(owner.mark(Marking::Alone, &events[..1]).await, [begun(5, false)]);
    let state = record(f, &events[0]).await.retry.expect("it waits");
    assert_eq!((state.attempts, state.due_at, state.worker), (5, Some(due_at), Some(owner.worker)));
    assert_eq!(owner.mark(Marking::Together, &events[..1]).await, [Mark::Waiting]);
    // A late copy that knows of one attempt does not begin the count anew.
    let late = NewRetry { attempts: 1, ..retry(&events[0], HOUR) };
    assert_eq!(owner.postpone(vec![late]).await, [Committed::Written]);
    assert_eq!(record(f, &events[0]).await.retry.map(|state| state.attempts), Some(5));
}

pub(super) async fn due_retries_come_in_the_order_in_which_they_are_due(f: &Fixture) {
    let events = f.accepted(&tenant(1), 5).await;
    let mut elsewhere = Vec::new();
    for n in 2..8 {
        elsewhere.extend(f.accepted(&tenant(n), 1).await);
    }
    elsewhere.retain(|event| event.partition != events[0].partition);
    let mut owner = f.owner().await;
    let waits = [60, 0, 30, 3_600_000, 0].map(Duration::from_millis);
    let items = events.iter().zip(waits).map(|(event, wait)| retry(event, wait)).collect();
    assert_eq!(owner.postpone(items).await, [Committed::Written; 5]);
    owner.postpone(elsewhere.iter().map(|event| retry(event, Duration::ZERO)).collect()).await;
    f.pass(Duration::from_millis(100)).await;
    let want = [1, 4, 2, 0].map(|n: usize| (events[n].id, 4));
    let partition = events[0].partition;
    assert_eq!(due(f, partition, 10).await, want);
    // Reading takes nothing away.
    assert_eq!(due(f, partition, 2).await, want[..2]);
    let mut others = Vec::new();
    for other in (0..PARTITIONS).map(PartitionId).filter(|p| *p != partition) {
        others.extend(due(f, other, 10).await);
    }
    assert_eq!(others.len(), elsewhere.len());
    // Postponed again, and for longer: the last word counts.
    let item = NewRetry { attempts: 7, ..retry(&events[1], HOUR) };
    owner.postpone(vec![item]).await;
    assert_eq!(due(f, partition, 10).await, want[1..]);
    assert_eq!(f.store.due_retries(partition, 1).await.expect("reads")[0].event.body, events[4].body);
}

pub(super) async fn a_commit_ends_marks_and_retries(f: &Fixture) {
    let events = f.accepted(&tenant(1), 4).await;
    let mut owner = f.owner().await;
    owner.mark(Marking::Together, &events[..3]).await;
    owner.postpone(events[..2].iter().map(|event| retry(event, Duration::ZERO)).collect()).await;
    f.pass(Duration::from_millis(5)).await;
    let items = vec![approved(&events[0]), dead(&events[1]), approved(&events[2])];
    assert_eq!(owner.commit(f, items).await, [Committed::Written; 3]);
    for event in &events {
        assert_eq!(record(f, event).await.retry, None);
    }
    assert_eq!(record(f, &events[0]).await.status(), Status::Approved);
    assert_eq!(due(f, events[0].partition, 10).await, []);
    assert_eq!(owner.postpone(vec![retry(&events[0], HOUR)]).await, [Committed::Duplicate]);
    assert_eq!(owner.mark(Marking::Together, &events[..1]).await, [Mark::Settled]);
    let ledger = f.ledger().await;
    assert_eq!((ledger.decided, ledger.dead, ledger.pending), (2, 1, 1));
}

/// A lane goes on with its chains after the verbs that write none.
pub(super) async fn marks_and_retries_move_no_chain(f: &Fixture) {
    let events = f.accepted(&tenant(1), 3).await;
    let mut owner: Owner = f.owner().await;
    for event in &events {
        owner.mark(Marking::Alone, std::slice::from_ref(event)).await;
        owner.postpone(vec![retry(event, Duration::ZERO)]).await;
        assert_eq!(owner.commit(f, vec![approved(event)]).await, [Committed::Written]);
    }
    assert_eq!(f.chains().await[&tenant(1)], 3);
}

pub(super) async fn repairs_are_counted(f: &Fixture) {
    assert_eq!(f.store.repairs().await.expect("reads"), 0);
    assert_eq!(f.store.ask_repair().await.expect("asks"), 1);
    assert_eq!(f.store.ask_repair().await.expect("asks"), 2);
    assert_eq!(f.store.repairs().await.expect("reads"), 2);
}

pub(super) async fn what_waits_is_told_apart_from_what_is_put_off(f: &Fixture) {
    assert_eq!(f.store.backlog().await.expect("reads"), Backlog::default());
    let events = f.accepted(&tenant(1), 4).await;
    let mut owner = f.owner().await;
    let oldest = |event: &NewEvent| Some(time::from_millis(event.id.millis()));
    let waits = f.store.backlog().await.expect("reads");
    assert_eq!(waits, Backlog { events: 4, postponed: 0, oldest: oldest(&events[0]) });
    owner.commit(f, vec![approved(&events[1])]).await;
    owner.postpone(vec![retry(&events[0], HOUR), retry(&events[2], Duration::ZERO)]).await;
    let waits = f.store.backlog().await.expect("reads");
    // One whose next try is due is waited for by nobody but the fleet.
    assert_eq!(waits, Backlog { events: 3, postponed: 1, oldest: oldest(&events[2]) });
    assert_eq!(i64::try_from(waits.events), Ok(f.ledger().await.pending));
    owner.commit(f, vec![approved(&events[2]), approved(&events[3])]).await;
    assert_eq!(f.store.backlog().await.expect("reads"), Backlog { events: 1, postponed: 1, oldest: None });
}
