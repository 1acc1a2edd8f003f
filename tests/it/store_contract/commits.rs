//! Clauses of `commit_batch` and of the claims that fence it.

use riskfleet::domain::{Epoch, Outcome, PartitionId, Scope, Status};
use riskfleet::ports::store::{Approval, Committed, End, NewEvent, OutboxKind};
use std::time::Duration;

use super::fixture::{Fixture, approved, dead, decided, tenant};
use super::outboxes::take;

async fn status(f: &Fixture, event: &NewEvent) -> Status {
    f.store.event(&Scope::Fleet, event.id).await.expect("reads").expect("is stored").status()
}

/// Two tenants that live in different partitions.
async fn apart(f: &Fixture) -> (NewEvent, NewEvent) {
    let one = f.accepted(&tenant(1), 1).await.remove(0);
    for n in 2..100 {
        let other = f.request(&tenant(n), "k", "p").await;
        if other.partition != one.partition {
            f.accept(std::slice::from_ref(&other)).await;
            return (one, other);
        }
    }
    panic!("a hundred tenants in one partition");
}

pub(super) async fn a_commit_writes_everything_together(f: &Fixture) {
    let mut events = f.accepted(&tenant(1), 2).await;
    events.extend(f.accepted(&tenant(2), 2).await);
    let mut owner = f.owner().await;
    let items = vec![
        approved(&events[0]),
        decided(&events[2], Outcome::RequireApproval),
        decided(&events[1], Outcome::Rejected),
        dead(&events[3]),
    ];
    let batch = owner.batch(f, items);
    assert_eq!(owner.commit_batch(&batch).await, [Committed::Written; 4]);
    for item in &batch.items {
        let record = f.store.event(&Scope::Fleet, item.event).await.expect("reads").expect("is stored");
        let epoch = owner.epochs[&item.partition];
        let end = End { disposition: item.disposition.clone(), at: batch.at, worker: batch.worker, epoch };
        assert_eq!(record.end, Some(end));
        let escalated = item.disposition.status() == Status::Escalated;
        let opened = Approval::opened(batch.at);
        assert_eq!(record.approval, escalated.then_some(opened));
        assert_eq!(record.status(), item.disposition.status());
    }
    assert_eq!(f.chains().await.into_values().collect::<Vec<_>>(), [2, 2]);
    let said: Vec<_> = f.audit(100).await.into_iter().map(|l| (l.record.tenant, l.record.seq, l.event)).collect();
    let want = [0, 2, 1, 3].map(|n: usize| &events[n]);
    for (place, event) in [(0, want[0]), (1, want[2]), (2, want[1]), (3, want[3])] {
        let seq = place as i64 % 2 + 1;
        assert_eq!(said[place], (event.tenant.clone(), seq, Some(event.body.clone())), "in the order of the batch");
    }
    assert_eq!(take(f, OutboxKind::Outcome, Duration::ZERO, 10).await.len(), 1);
}

pub(super) async fn dead_letters_alone_write_no_row(f: &Fixture) {
    let events = f.accepted(&tenant(1), 1).await;
    f.owner().await.commit(f, vec![dead(&events[0])]).await;
    assert_eq!(take(f, OutboxKind::Outcome, Duration::ZERO, 10).await, []);
    assert_eq!(f.ledger().await.dead, 1);
    assert_eq!(f.chains().await[&tenant(1)], 1);
}

pub(super) async fn a_second_disposition_is_a_duplicate_and_moves_no_chain(f: &Fixture) {
    let events = f.accepted(&tenant(1), 3).await;
    let mut owner = f.owner().await;
    let first = owner.batch(f, vec![approved(&events[0]), dead(&events[1])]);
    owner.commit_batch(&first).await;
    // The whole batch again, as after an unknown outcome.
    assert_eq!(owner.commit_batch(&first).await, [Committed::Duplicate; 2]);
    let items = vec![decided(&events[0], Outcome::Rejected), approved(&events[2]), approved(&events[1])];
    let want = [Committed::Duplicate, Committed::Written, Committed::Duplicate];
    assert_eq!(owner.commit(f, items).await, want);
    assert_eq!(status(f, &events[0]).await, Status::Approved);
    assert_eq!(status(f, &events[1]).await, Status::Failed);
    assert_eq!(f.chains().await[&tenant(1)], 3);
    let rows = take(f, OutboxKind::Outcome, Duration::ZERO, 10).await;
    let mut named: Vec<_> = rows.into_iter().flat_map(|row| row.events).collect();
    named.sort_unstable();
    assert_eq!(named, [events[0].id, events[2].id]);
}

pub(super) async fn a_stale_epoch_is_fenced_and_the_rest_commits(f: &Fixture) {
    let (lost, kept) = apart(f).await;
    let (mut owner, mut thief) = (f.owner().await, f.stranger().await);
    thief.claim(f, lost.partition).await;
    let want = [Committed::Fenced, Committed::Written];
    assert_eq!(owner.commit(f, vec![approved(&lost), approved(&kept)]).await, want);
    let record = f.store.event(&Scope::Fleet, lost.id).await.expect("reads").expect("is stored");
    assert_eq!((record.end, record.approval), (None, None));
    assert_eq!(f.chains().await.into_iter().collect::<Vec<_>>(), [(kept.tenant, 1)]);
    assert_eq!(take(f, OutboxKind::Outcome, Duration::ZERO, 10).await[0].events, [kept.id]);
    // An epoch that is yet to come is none either.
    owner.epochs.insert(lost.partition, Epoch(owner.epochs[&lost.partition].0 + 2));
    assert_eq!(owner.commit(f, vec![approved(&lost)]).await, [Committed::Fenced]);
    assert_eq!(thief.commit(f, vec![approved(&lost)]).await, [Committed::Written]);
}

pub(super) async fn epochs_rise_by_one_a_claim(f: &Fixture) {
    let (mut a, mut b) = (f.stranger().await, f.stranger().await);
    assert_eq!(a.claim(f, PartitionId(1)).await, Epoch(1));
    assert_eq!(b.claim(f, PartitionId(1)).await, Epoch(2));
    assert_eq!(a.claim(f, PartitionId(2)).await, Epoch(1));
    let owners = async || {
        let rows = f.store.fleet_status().await.expect("reads").partitions;
        rows.into_iter().map(|row| row.owner).collect::<Vec<_>>()
    };
    assert_eq!(owners().await, [None, Some(b.worker), Some(a.worker), None]);
    // Who was robbed has nothing to release.
    f.store.release_partition(PartitionId(1), Epoch(1)).await.expect("releases");
    assert_eq!(owners().await[1], Some(b.worker));
    f.store.release_partition(PartitionId(1), Epoch(2)).await.expect("releases");
    assert_eq!(owners().await[1], None);
    assert_eq!(b.claim(f, PartitionId(1)).await, Epoch(3));
}

pub(super) async fn a_successor_goes_on_with_the_chain_and_so_does_who_comes_back(f: &Fixture) {
    let events = f.accepted(&tenant(1), 8).await;
    let partition = events[0].partition;
    let (mut a, mut b) = (f.owner().await, f.stranger().await);
    a.commit(f, vec![approved(&events[0]), approved(&events[1])]).await;
    a.commit(f, vec![approved(&events[2])]).await;
    b.claim(f, partition).await;
    assert_eq!(a.commit(f, vec![approved(&events[3])]).await, [Committed::Fenced]);
    assert_eq!(b.commit(f, vec![approved(&events[3]), dead(&events[4])]).await, [Committed::Written; 2]);
    assert_eq!(f.chains().await[&tenant(1)], 5);
    // What the first one remembers of the chain is of an older epoch.
    a.claim(f, partition).await;
    assert_eq!(a.commit(f, vec![approved(&events[5])]).await, [Committed::Written]);
    assert_eq!(b.commit(f, vec![approved(&events[6])]).await, [Committed::Fenced]);
    assert_eq!(a.commit(f, vec![approved(&events[6]), approved(&events[7])]).await, [Committed::Written; 2]);
    assert_eq!(f.chains().await[&tenant(1)], 8);
}

/// It must not happen; should it happen, the primary key refuses the fork, and the lane that lost
/// begins anew.
pub(super) async fn two_writers_of_one_epoch_never_fork_a_chain(f: &Fixture) {
    let events = f.accepted(&tenant(1), 4).await;
    let (mut a, mut b) = (f.owner().await, f.stranger().await);
    b.epochs = a.epochs.clone();
    a.commit(f, vec![approved(&events[0])]).await;
    b.commit(f, vec![approved(&events[1])]).await;
    a.try_commit(f, vec![approved(&events[2]), approved(&events[3])]).await.expect_err("its head is old");
    assert_eq!(status(f, &events[2]).await, Status::Received);
    assert_eq!(f.chains().await[&tenant(1)], 2);
    assert_eq!(a.commit(f, vec![approved(&events[2]), approved(&events[3])]).await, [Committed::Written; 2]);
    assert_eq!(f.chains().await[&tenant(1)], 4);
    assert_eq!(f.ledger().await.decided, 4);
}

pub(super) async fn a_claim_ends_the_old_owners_commits(f: &Fixture) {
    let events = f.accepted(&tenant(1), 60).await;
    let partition = events[0].partition;
    let (mut old, mut new) = (f.owner().await, f.stranger().await);
    let committing = async {
        let mut fates = Vec::new();
        for event in &events {
            fates.extend(old.commit(f, vec![approved(event)]).await);
        }
        fates
    };
    let claiming = async {
        while f.store.ledger().await.expect("reads").decided < 5 {
            tokio::task::yield_now().await;
        }
        new.claim(f, partition).await;
        // From here on nothing of the old owner may be written.
        f.store.ledger().await.expect("reads").decided
    };
    let (fates, at_claim) = tokio::join!(committing, claiming);
    let written = fates.iter().filter(|fate| **fate == Committed::Written).count();
    assert_eq!(written as i64, at_claim);
    assert!(fates[..written].iter().all(|fate| *fate == Committed::Written), "{fates:?}");
    assert!(fates[written..].iter().all(|fate| *fate == Committed::Fenced), "{fates:?}");
    let rest = new.commit(f, events.iter().map(approved).collect()).await;
    assert!(rest[..written].iter().all(|fate| *fate == Committed::Duplicate));
    assert!(rest[written..].iter().all(|fate| *fate == Committed::Written));
    assert_eq!(f.chains().await[&tenant(1)], 60);
}
