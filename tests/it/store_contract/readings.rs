//! Clauses of the verbs that read back.

use riskfleet::domain::{EventId, Outcome, Scope, Status};
use riskfleet::ports::store::{EventFilter, NewEvent, OutboxKind, StoredEvent};
use std::time::Duration;
use uuid::Uuid;

use super::fixture::{Fixture, PARTITIONS, approved, dead, decided, tenant};
use super::outboxes::take;

fn sorted(stored: Vec<StoredEvent>) -> Vec<EventId> {
    let mut ids: Vec<EventId> = stored.into_iter().map(|event| event.id).collect();
    ids.sort_unstable();
    ids
}

fn ids(events: &[NewEvent]) -> Vec<EventId> {
    events.iter().map(|event| event.id).collect()
}

pub(super) async fn ids_that_are_not_stored_are_left_out(f: &Fixture) {
    let events = f.accepted(&tenant(1), 4).await;
    let mut asked = ids(&events);
    asked.push(f.mint().await);
    f.owner().await.commit(f, vec![approved(&events[0]), dead(&events[1])]).await;
    assert_eq!(sorted(f.store.events(&asked).await.expect("reads")), ids(&events));
    assert_eq!(sorted(f.store.pending_of(&asked).await.expect("reads")), ids(&events[2..]));
    let decisions = f.store.decisions(&asked).await.expect("reads");
    let item = approved(&events[0]);
    let riskfleet::ports::store::Disposition::Decided { decision, .. } = item.disposition else { unreachable!() };
    assert_eq!(decisions, [(events[0].id, tenant(1), decision)]);
    assert_eq!(f.store.events(&[]).await.expect("reads"), []);
    assert_eq!(f.store.pending_of(&[]).await.expect("reads"), []);
    assert_eq!(f.store.decisions(&[]).await.expect("reads"), []);
}

pub(super) async fn pending_pages_are_bounded_on_both_sides(f: &Fixture) {
    let mut events = Vec::new();
    for n in 0..24 {
        events.extend(f.accepted(&tenant(n % 6), 1).await);
        f.pass(Duration::from_millis(2)).await;
    }
    let partition = events[0].partition;
    f.owner().await.commit(f, vec![approved(&events[6])]).await;
    let here: Vec<EventId> =
        events.iter().filter(|e| e.partition == partition && e.id != events[6].id).map(|e| e.id).collect();
    assert!((3..23).contains(&here.len()));
    let far = EventId::floor(events[23].id.millis() + 60_000);
    let page = async |after, before, limit| {
        let page = f.store.pending_page(partition, after, before, limit).await.expect("reads");
        page.iter().map(|event| event.id).collect::<Vec<_>>()
    };
    assert_eq!(page(None, far, 100).await, here);
    assert_eq!(page(None, here[2], 100).await, here[..2]);
    assert_eq!(page(Some(here[0]), far, 100).await, here[1..]);
    let (mut paged, mut after) = (Vec::new(), None);
    loop {
        let next = page(after, far, 2).await;
        let Some(last) = next.last() else { break };
        assert!(next.len() <= 2);
        after = Some(*last);
        paged.extend(next);
    }
    assert_eq!(paged, here);
    let mut everywhere = 0;
    for partition in 0..PARTITIONS {
        let partition = riskfleet::domain::PartitionId(partition);
        everywhere += f.store.pending_page(partition, None, far, 100).await.expect("reads").len();
    }
    assert_eq!(everywhere, 23);
}

pub(super) async fn events_since_a_moment_come_in_pages(f: &Fixture) {
    let before = f.accepted(&tenant(1), 2).await;
    f.pass(Duration::from_millis(5)).await;
    let events = f.accepted(&tenant(2), 5).await;
    f.owner().await.commit(f, vec![approved(&events[1])]).await;
    let since = async |id, limit| {
        let page = f.store.events_since(id, limit).await.expect("reads");
        page.iter().map(|event| event.id).collect::<Vec<_>>()
    };
    assert_eq!(since(EventId::floor(events[0].id.millis()), 100).await, ids(&events));
    assert_eq!(since(events[2].id, 2).await, ids(&events[2..4]));
    assert_eq!(since(EventId::floor(0), 3).await, [before[0].id, before[1].id, events[0].id]);
}

pub(super) async fn lists_are_newest_first_and_filtered(f: &Fixture) {
    let mut events = f.accepted(&tenant(1), 3).await;
    events.extend(f.accepted(&tenant(2), 3).await);
    let mut owner = f.owner().await;
    owner.commit(f, vec![approved(&events[0]), decided(&events[1], Outcome::Rejected)]).await;
    owner.commit(f, vec![decided(&events[3], Outcome::RequireApproval), dead(&events[4])]).await;
    let list = async |tenant, status, before, limit| {
        let filter = EventFilter { tenant, status, before, limit };
        let list = f.store.list_events(&filter).await.expect("lists");
        list.iter().map(|line| events.iter().position(|e| e.id == line.id).expect("known")).collect::<Vec<_>>()
    };
    assert_eq!(list(None, None, None, 100).await, [5, 4, 3, 2, 1, 0]);
    assert_eq!(list(None, None, None, 2).await, [5, 4]);
    assert_eq!(list(None, None, Some(events[4].id), 2).await, [3, 2]);
    assert_eq!(list(Some(tenant(1)), None, None, 100).await, [2, 1, 0]);
    assert_eq!(list(Some(tenant(1)), Some(Status::Received), None, 100).await, [2]);
    assert!(list(Some(tenant(3)), None, None, 100).await.is_empty());
    for (status, want) in [
        (Status::Received, vec![5, 2]),
        (Status::Escalated, vec![3]),
        (Status::Approved, vec![0]),
        (Status::Rejected, vec![1]),
        (Status::Failed, vec![4]),
        (Status::Validated, vec![]),
        (Status::Processing, vec![]),
    ] {
        assert_eq!(list(None, Some(status), None, 100).await, want, "{status}");
    }
    let line = &f.store.list_events(&EventFilter { limit: 1, ..EventFilter::default() }).await.expect("lists")[0];
    assert_eq!((&line.tenant, line.status, &line.body), (&tenant(2), Status::Received, &events[5].body));
    assert_eq!(line.correlation_id, events[5].correlation_id);
    if f.give_verdict(&events[3], Outcome::Approved).await {
        assert!(list(None, Some(Status::Escalated), None, 100).await.is_empty());
        assert_eq!(list(None, Some(Status::Approved), None, 100).await, [3, 0]);
        let record = f.store.event(&Scope::Fleet, events[3].id).await.expect("reads").expect("is stored");
        let approval = record.approval.clone().expect("it was opened");
        assert_eq!((record.status(), approval.decided_by.as_deref()), (Status::Approved, Some("ann")));
        let again = f.request(&tenant(2), events[3].key.as_str(), "p").await;
        let answer = f.accept(&[again]).await.remove(0);
        let riskfleet::ports::store::Accepted::Replayed { status, .. } = answer else { panic!("{answer:?}") };
        assert_eq!(status, Status::Approved);
    }
}

pub(super) async fn a_record_says_everything_of_its_event(f: &Fixture) {
    assert_eq!(f.store.event(&Scope::Fleet, f.mint().await).await.expect("reads"), None);
    let events = f.accepted(&tenant(1), 2).await;
    for (of, found) in [(tenant(1), true), (tenant(2), false)] {
        let record = f.store.event(&Scope::Tenant(of), events[0].id).await.expect("reads");
        assert_eq!(record.is_some(), found);
    }
    let unpublished =
        async || f.store.event(&Scope::Fleet, events[0].id).await.expect("reads").expect("is stored").unpublished;
    assert_eq!(unpublished().await, [OutboxKind::Accept]);
    let mut owner = f.owner().await;
    owner.commit(f, vec![approved(&events[0])]).await;
    assert_eq!(unpublished().await, [OutboxKind::Accept, OutboxKind::Outcome]);
    let other = f.store.event(&Scope::Fleet, events[1].id).await.expect("reads").expect("is stored");
    assert_eq!((other.unpublished.as_slice(), other.end.as_ref()), ([OutboxKind::Accept].as_slice(), None));
    assert_eq!((&other.event.body, other.status()), (&events[1].body, Status::Received));
    for (kind, left) in [(OutboxKind::Accept, vec![OutboxKind::Outcome]), (OutboxKind::Outcome, vec![])] {
        let rows: Vec<Uuid> = take(f, kind, Duration::ZERO, 10).await.iter().map(|row| row.id).collect();
        f.store.settle_outbox(&rows).await.expect("settles");
        assert_eq!(unpublished().await, left);
    }
}

pub(super) async fn audit_pages_join_to_the_whole(f: &Fixture) {
    let mut owner = f.owner().await;
    // Bytewise, `tenant-10.x` comes before `tenant-2.x`.
    for n in [2, 10, 1, 3] {
        let events = f.accepted(&tenant(n), 5).await;
        owner.commit(f, events.iter().map(approved).collect()).await;
    }
    let whole = f.audit(100).await;
    assert_eq!(whole.len(), 20);
    let places: Vec<_> = whole.iter().map(|line| (line.record.tenant.clone(), line.record.seq)).collect();
    assert!(places.is_sorted(), "{places:?}");
    for limit in [1, 3, 7] {
        assert_eq!(f.audit(limit).await, whole);
    }
    assert!(whole.iter().all(|line| line.event.is_some() && line.decision.is_some()));
    assert_eq!(f.chains().await.into_values().collect::<Vec<_>>(), [5; 4]);
}

pub(super) async fn rejected_messages_are_kept_once(f: &Fixture) {
    let (id, body) = (Uuid::new_v4(), vec![0xff; 100_000]);
    f.store.keep_rejected(id, "no JSON: \0 at byte 1", &body).await.expect("keeps");
    // The message comes again when its acknowledgement was lost.
    f.store.keep_rejected(id, "no JSON: \0 at byte 1", &body).await.expect("keeps");
    f.store.keep_rejected(Uuid::new_v4(), "", b"").await.expect("keeps");
    assert_eq!(f.ledger().await.accepted, 0);
}
