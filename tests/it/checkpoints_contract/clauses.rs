//! Clauses: heads, checkpoints, anchors.

use super::fixture::{Fixture, T0, act, anchor, key, noted, tenant};
use riskfleet::domain::audit::sha256;
use riskfleet::domain::checkpoint::{Checkpoint, Signed};
use riskfleet::domain::{Stream, time};
use riskfleet::ports::checkpoints::{Appended, Pruned};

pub(super) async fn heads_are_the_ends_of_all_chains_in_pages(f: &Fixture) {
    assert_eq!(f.registry.chain_heads(None, 10).await.expect("read"), []);
    let mut wanted = Vec::new();
    for name in ["a", "a.b", "b", "c"] {
        for stream in [Stream::Workflow, Stream::Control] {
            if (name, stream) != ("b", Stream::Workflow) {
                wanted.push(noted(f.grow(name, stream, 3).await.last().expect("three")));
            }
        }
    }
    for size in [1, 2, 3, 10] {
        let (mut got, mut after) = (Vec::new(), None);
        loop {
            let page = f.registry.chain_heads(after.as_ref(), size).await.expect("read");
            assert!(page.len() <= size as usize);
            after = page.last().map(|h| (h.tenant_id.clone(), h.stream));
            let last = page.len() < size as usize;
            got.extend(page);
            if last {
                break;
            }
        }
        assert_eq!(got, wanted, "pages of {size}");
    }
}

fn checkpoint(number: i64, before: Option<&Signed>) -> (Checkpoint, Signed) {
    let checkpoint = Checkpoint {
        number,
        at: time::from_millis(T0),
        prev: before.map_or([0; 32], |b| sha256(b.text.as_bytes())),
        key_id: key(1).id(),
        heads: Vec::new(),
        key: None,
        next_key: None,
    };
    let signed = key(1).sign(checkpoint.text());
    (checkpoint, signed)
}

pub(super) async fn a_checkpoint_must_follow_the_last_one(f: &Fixture) {
    assert_eq!(f.registry.last_checkpoint().await.expect("read"), None);
    let (one, one_signed) = checkpoint(1, None);
    let (two, two_signed) = checkpoint(2, Some(&one_signed));
    let append = async |c: &Checkpoint, s: &Signed| f.registry.append_checkpoint(c, s).await.expect("asked");
    assert_eq!(append(&two, &two_signed).await, Appended::Behind);
    assert_eq!(append(&one, &one_signed).await, Appended::Done);
    assert_eq!(append(&one, &one_signed).await, Appended::Behind);
    assert_eq!(append(&two, &two_signed).await, Appended::Done);
    assert_eq!(append(&checkpoint(4, None).0, &two_signed).await, Appended::Behind);
    let last = f.registry.last_checkpoint().await.expect("read").expect("two");
    assert_eq!((last.number, &last.signed), (2, &two_signed));
    let page = |after, limit| f.registry.checkpoints_page(after, limit);
    let numbers: Vec<i64> = page(0, 10).await.expect("read").iter().map(|k| k.number).collect();
    assert_eq!(numbers, [1, 2]);
    assert_eq!(page(1, 10).await.expect("read"), [last]);
    assert_eq!(page(0, 1).await.expect("read")[0].signed, one_signed);
}

pub(super) async fn of_two_that_append_at_once_one_is_first(f: &Fixture) {
    let mut before = None;
    for number in 1..=10 {
        let (c, signed) = checkpoint(number, before.as_ref());
        let both = tokio::join!(f.registry.append_checkpoint(&c, &signed), f.registry.append_checkpoint(&c, &signed));
        let mut both = [both.0.expect("asked"), both.1.expect("asked")].map(|a| a == Appended::Done);
        both.sort_unstable();
        assert_eq!(both, [false, true]);
        before = Some(signed);
    }
}

pub(super) async fn signed_texts_are_never_changed(f: &Fixture) {
    let (one, signed) = checkpoint(1, None);
    f.registry.append_checkpoint(&one, &signed).await.expect("appended");
    let records = f.grow("acme", Stream::Workflow, 3).await;
    let (anchor, anchored) = anchor(&records[0]);
    f.registry.prune_chain(&anchor, &anchored, &act("acme")).await.expect("pruned");
    for deed in [
        "UPDATE audit_checkpoints SET text = 'x'",
        "DELETE FROM audit_checkpoints",
        "UPDATE audit_anchors SET text = 'x'",
        "DELETE FROM audit_anchors",
        "UPDATE audit SET body = 'x'",
        "DELETE FROM audit",
    ] {
        assert!(f.sql(deed).await.is_err(), "{deed}");
    }
    assert_eq!(f.registry.last_checkpoint().await.expect("read").expect("there").signed, signed);
}

pub(super) async fn a_chain_is_shortened_below_an_anchor_and_only_so(f: &Fixture) {
    let records = f.grow("acme", Stream::Workflow, 6).await;
    f.grow("acme", Stream::Control, 2).await;
    f.grow("other", Stream::Workflow, 6).await;
    let (first, first_signed) = anchor(&records[1]);
    assert_eq!(f.registry.prune_chain(&first, &first_signed, &act("acme")).await.expect("asked"), Pruned::Done(2));
    let (second, second_signed) = anchor(&records[3]);
    assert_eq!(f.registry.prune_chain(&second, &second_signed, &act("acme")).await.expect("asked"), Pruned::Done(2));
    let left = f.registry.records_page(None, 100).await.expect("read");
    let places: Vec<(&str, Stream, i64)> = left.iter().map(|r| (r.tenant.as_str(), r.stream, r.seq)).collect();
    let mut wanted = vec![("acme", Stream::Workflow, 5), ("acme", Stream::Workflow, 6)];
    // Two acts, each in the control chain.
    wanted.extend((1..=4).map(|seq| ("acme", Stream::Control, seq)));
    wanted.extend((1..=6).map(|seq| ("other", Stream::Workflow, seq)));
    assert_eq!(places, wanted);
    assert!(left[5].body.contains("audit_pruned"), "{}", left[5].body);
    assert_eq!(f.registry.anchors_page(None, 10).await.expect("read"), [second_signed]);
    let behind = (tenant("acme"), Stream::Workflow);
    assert_eq!(f.registry.anchors_page(Some(&behind), 10).await.expect("read"), []);
    // What stands below an anchor again goes no other way than before.
    assert!(f.sql("DELETE FROM audit WHERE seq <= 5").await.is_err());
}

pub(super) async fn what_must_not_be_shortened_is_refused(f: &Fixture) {
    let records = f.grow("acme", Stream::Workflow, 3).await;
    let prune = async |at: usize, deed: fn(&mut riskfleet::domain::checkpoint::Anchor)| {
        let (mut anchor, signed) = anchor(&records[at]);
        deed(&mut anchor);
        f.registry.prune_chain(&anchor, &signed, &act("acme")).await
    };
    assert_eq!(prune(2, |_| {}).await.expect("asked"), Pruned::Head);
    assert_eq!(prune(1, |a| a.hash = [1; 32]).await.expect("asked"), Pruned::NoSuchRecord);
    assert_eq!(prune(1, |a| a.seq = 9).await.expect("asked"), Pruned::NoSuchRecord);
    let (anchor, signed) = anchor(&records[1]);
    let mut foreign = act("acme");
    foreign.stream = Stream::Workflow;
    assert!(f.registry.prune_chain(&anchor, &signed, &foreign).await.is_err());
    assert_eq!(f.registry.records_page(None, 100).await.expect("read").len(), 3);
    assert_eq!(f.registry.anchors_page(None, 10).await.expect("read"), []);
}
