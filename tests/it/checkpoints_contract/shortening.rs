//! Clauses: what goes by itself when the time of audit records is over, and what stays.

use super::fixture::{Fixture, T0, key, tenant};
use super::proof::verified;
use riskfleet::domain::{AuditBody, EventId, Stream, time};
use riskfleet::governance::Shortener;
use riskfleet::ports::Clock;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

const DAY_S: u64 = 86_400;

async fn look(f: &Fixture) -> u64 {
    let (store, registry) = (Arc::clone(&f.store), Arc::clone(&f.registry));
    let shortener = Shortener { store, registry, clock: f.clock.clone(), key: key(1), audit_days: 30 };
    shortener.look(&CancellationToken::new()).await.expect("looks")
}

/// What is left, as `tenant/stream/seq`.
async fn left(f: &Fixture) -> Vec<String> {
    let page = f.registry.records_page(None, 100).await.expect("read");
    page.iter().map(|r| format!("{}/{}/{}", r.tenant, r.stream, r.seq)).collect()
}

pub(super) async fn records_go_when_their_time_is_over_and_the_chain_still_verifies(f: &Fixture) {
    f.grow("acme", Stream::Workflow, 5).await;
    f.clock.pass(29 * DAY_S);
    f.grow("acme", Stream::Workflow, 2).await;
    assert_eq!(look(f).await, 0, "nothing is old enough");
    f.clock.pass(2 * DAY_S);
    assert_eq!(look(f).await, 5);
    assert_eq!(left(f).await, ["acme/workflow/6", "acme/workflow/7", "acme/control/1"]);
    let act = f.registry.records_page(None, 100).await.expect("read").pop().expect("the act").body;
    assert!(act.contains("audit_shortened") && act.contains("workflow/5"), "{act}");
    assert_eq!(verified(f).await, Vec::<String>::new());
    assert_eq!(look(f).await, 0, "it is done");
    f.clock.pass(60 * DAY_S);
    assert_eq!(look(f).await, 1, "the last record of a chain stays");
    assert_eq!(left(f).await, ["acme/workflow/7", "acme/control/1", "acme/control/2"]);
    assert_eq!(verified(f).await, Vec::<String>::new());
}

pub(super) async fn what_is_held_or_speaks_of_a_stored_event_stays(f: &Fixture) {
    f.grow("acme", Stream::Workflow, 3).await;
    let of_event = || {
        let (chain, at) = ((tenant("globex"), Stream::Workflow), time::from_millis(T0));
        let body = AuditBody::new(chain, at, "worker:1", "decision_made", ("event", "one"));
        AuditBody { event_id: Some(EventId::mint(T0, [1; 10])), ..body }
    };
    f.grow("globex", Stream::Workflow, 1).await;
    f.hang(vec![of_event(), of_event()]).await;
    let hold = AuditBody::new((tenant("acme"), Stream::Control), f.clock.now(), "ops", "hold_set", ("tenant", "acme"));
    let hold = AuditBody { reason: Some("case 7".into()), ..hold };
    f.registry.hold(&tenant("acme"), &hold).await.expect("held");
    f.clock.pass(40 * DAY_S);
    assert_eq!(look(f).await, 1, "only what speaks of no event");
    let kept = left(f).await;
    assert_eq!(kept.iter().filter(|r| r.starts_with("acme/workflow")).count(), 3, "{kept:?}");
    assert_eq!(kept.iter().filter(|r| r.starts_with("globex/workflow")).count(), 2, "{kept:?}");
}

pub(super) async fn a_hold_that_is_set_in_between_keeps_the_chain(f: &Fixture) {
    let records = f.grow("acme", Stream::Workflow, 3).await;
    let (anchor, signed) = super::fixture::anchor(&records[1]);
    let hold = AuditBody::new((tenant("acme"), Stream::Control), f.clock.now(), "ops", "hold_set", ("tenant", "acme"));
    let hold = AuditBody { reason: Some("case 7".into()), ..hold };
    f.registry.hold(&tenant("acme"), &hold).await.expect("held");
    let asked = f.registry.prune_chain(&anchor, &signed, &super::fixture::act("acme")).await;
    assert_eq!(asked.expect("asked"), riskfleet::ports::checkpoints::Pruned::Held);
    assert_eq!(f.registry.anchors_page(None, 10).await.expect("read"), []);
}
