//! Clauses of tenants: who they are, what is set of them, and the records of it.

use riskfleet::domain::{AuditBody, Stream, TenantId, time};
use riskfleet::ports::StoreError;
use riskfleet::ports::tenants::{Tenant, TenantAct};
use serde_json::json;

use super::fixture::{Fixture, approved, tenant};

/// A record of a change of a tenant.
pub(super) fn change(of: &TenantId, action: &str, reason: &str) -> AuditBody {
    let chain = (of.clone(), Stream::Control);
    let at = time::from_millis(1_700_000_000_000);
    AuditBody {
        reason: Some(reason.into()),
        ..AuditBody::new(chain, at, "user:ann", action, ("tenant", of.to_string()))
    }
}

fn done(act: TenantAct) -> Tenant {
    match act {
        TenantAct::Done(tenant) => tenant,
        TenantAct::Already(tenant) => panic!("nothing was done: {tenant:?}"),
    }
}

pub(super) async fn tenants_are_those_with_a_chain_or_a_row(f: &Fixture) {
    let registry = f.governed();
    assert_eq!(registry.list_tenants(None, 10).await.expect("lists"), []);
    let mut owner = f.owner().await;
    for n in [3, 1, 2] {
        let events = f.accepted(&tenant(n), 2).await;
        owner.commit(f, events.iter().map(approved).collect()).await;
    }
    let rowed = TenantId::parse("a-tenant").expect("legal");
    done(registry.set_retention(&rowed, Some(7), &change(&rowed, "retention_set", "law")).await.expect("sets"));
    done(registry.hold(&tenant(2), &change(&tenant(2), "hold_set", "case 7")).await.expect("holds"));
    let platform = TenantId::platform();
    done(registry.set_retention(&platform, Some(1), &change(&platform, "x", "y")).await.expect("sets"));
    let names = |page: &[Tenant]| page.iter().map(|tenant| tenant.id.to_string()).collect::<Vec<_>>();
    let all = registry.list_tenants(None, 10).await.expect("lists");
    assert_eq!(names(&all), ["a-tenant", "tenant-1.x", "tenant-2.x", "tenant-3.x"]);
    assert_eq!((all[0].retention_days, all[0].created_at.is_some()), (Some(7), true));
    assert_eq!((&all[1], all[2].hold.is_some()), (&Tenant::plain(tenant(1)), true));
    let (mut paged, mut after) = (Vec::new(), None);
    loop {
        let page = registry.list_tenants(after.as_ref(), 1).await.expect("lists");
        assert!(page.len() <= 1);
        let Some(last) = page.last() else { break };
        after = Some(last.id.clone());
        paged.extend(page);
    }
    assert_eq!(paged, all);
    assert_eq!(registry.tenant(&tenant(1)).await.expect("reads"), Some(Tenant::plain(tenant(1))));
    assert_eq!(registry.tenant(&rowed).await.expect("reads").as_ref(), Some(&all[0]));
    assert_eq!(registry.tenant(&tenant(9)).await.expect("reads"), None);
}

/// The last record of a tenant's control chain.
async fn last_record(f: &Fixture, of: &TenantId) -> AuditBody {
    let lines = f.audit(100).await;
    let of_chain = lines.iter().filter(|line| line.record.tenant == *of && line.record.stream == Stream::Control);
    serde_json::from_str(&of_chain.last().expect("a record").record.body).expect("readable")
}

pub(super) async fn retention_is_set_and_audited(f: &Fixture) {
    let (registry, id) = (f.governed(), tenant(1));
    let set = async |days| {
        registry.set_retention(&id, days, &change(&id, "retention_set", "contract 12")).await.expect("sets")
    };
    assert_eq!(done(set(Some(30)).await).retention_days, Some(30));
    let record = last_record(f, &id).await;
    assert_eq!(record.previous, Some(json!({"retention_days": null, "legal_hold": false})));
    assert_eq!(record.new, Some(json!({"retention_days": 30, "legal_hold": false})));
    assert_eq!((record.reason.as_deref(), record.actor.as_str()), (Some("contract 12"), "user:ann"));
    assert!(matches!(set(Some(30)).await, TenantAct::Already(_)));
    assert_eq!(f.control(&id).await, 1, "what changes nothing is no record");
    assert_eq!(done(set(Some(0)).await).retention_days, Some(0));
    assert_eq!(done(set(None).await).retention_days, None);
    assert_eq!(f.control(&id).await, 3);
    let refused = registry.set_retention(&id, Some(36_501), &change(&id, "retention_set", "x")).await;
    assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
}

pub(super) async fn holds_are_set_once_and_released_once(f: &Fixture) {
    let (registry, id) = (f.governed(), tenant(1));
    let not_held = registry.release(&id, &change(&id, "hold_released", "x")).await.expect("releases");
    assert!(matches!(not_held, TenantAct::Already(_)));
    assert_eq!(registry.tenant(&id).await.expect("reads"), None, "nothing was written");
    let held = done(registry.hold(&id, &change(&id, "hold_set", "case 7")).await.expect("holds"));
    let hold = held.hold.clone().expect("it is held");
    assert_eq!((hold.reason.as_str(), hold.by.as_str()), ("case 7", "user:ann"));
    let again = registry.hold(&id, &change(&id, "hold_set", "case 8")).await.expect("holds");
    assert_eq!(again, TenantAct::Already(held.clone()), "the first one stands");
    assert_eq!(registry.tenant(&id).await.expect("reads"), Some(held));
    let free = done(registry.release(&id, &change(&id, "hold_released", "settled")).await.expect("releases"));
    assert_eq!(free.hold, None);
    let record = last_record(f, &id).await;
    assert_eq!(record.previous, Some(json!({"retention_days": null, "legal_hold": true})));
    assert_eq!((record.action.as_str(), f.control(&id).await), ("hold_released", 2));
}

pub(super) async fn a_record_of_another_chain_is_refused(f: &Fixture) {
    let registry = f.governed();
    let other = registry.hold(&tenant(1), &change(&tenant(2), "hold_set", "x")).await;
    assert!(matches!(other, Err(StoreError::Fault(_))), "{other:?}");
    assert_eq!(registry.tenant(&tenant(1)).await.expect("reads"), None);
}
