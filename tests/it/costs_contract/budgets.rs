//! Budgets: what is set, what workers hear of it, and what is noted.

use chrono::{DateTime, TimeDelta, Utc};
use riskfleet::domain::budget::{BUDGETS_MAX, Budget};
use riskfleet::domain::cost::Micros;
use riskfleet::domain::{BudgetState, EventId, Month, Scope, TenantId};
use riskfleet::governance::budgets::look;
use riskfleet::ports::StoreError;
use riskfleet::ports::costs::{BudgetAct, BudgetUse, Stop};
use serde_json::json;

use super::{audit, charge, set, terms};
use crate::office::{At, Office, after, tenant};

/// The month of the tests, and a moment in the next one.
fn month() -> Month {
    Month::at(after(0))
}

fn next_month() -> DateTime<Utc> {
    after(0) + TimeDelta::days(31)
}

async fn uses(o: &Office, scope: &Scope, month: Month) -> Vec<BudgetUse> {
    o.registry.budgets(scope, month, None, 100).await.expect("reads")
}

async fn stops(o: &Office, month: Month) -> Vec<(String, bool)> {
    let found = o.registry.stops(month, None, 100).await.expect("reads");
    found.into_iter().map(|Stop { tenant, used_up }| (tenant.to_string(), used_up)).collect()
}

fn used_up(of: &[(&str, bool)]) -> Vec<(String, bool)> {
    of.iter().map(|(of, used_up)| ((*of).to_owned(), *used_up)).collect()
}

pub(super) async fn a_budget_reads_back_and_each_change_is_chained(o: &Office) {
    let want = Budget { tenant: tenant("acme"), terms: terms(100, true), set_at: after(7), set_by: "ann".into() };
    assert_eq!(set(o, "acme", None).await, BudgetAct::Already(None));
    assert_eq!(set(o, "acme", Some(terms(100, true))).await, BudgetAct::Done(Some(want.clone())));
    assert_eq!(set(o, "acme", Some(terms(100, true))).await, BudgetAct::Already(Some(want.clone())));
    o.charged("acme", after(0), "a@1", charge(0, 90)).await;
    let used = BudgetUse { budget: want, spent: Micros::new(90), noted: None };
    assert_eq!(used.state(), BudgetState::Warned);
    assert_eq!(uses(o, &Scope::Fleet, month()).await, [used]);
    let BudgetAct::Done(Some(raised)) = set(o, "acme", Some(terms(200, false))).await else { panic!("it is raised") };
    assert_eq!(raised.terms, terms(200, false));
    assert_eq!(set(o, "acme", None).await, BudgetAct::Done(None));
    assert_eq!(uses(o, &Scope::Fleet, month()).await, []);
    let state = |millionths: i64, stop: bool| json!({"monthly_micros": millionths, "warn_percent": 80, "stop": stop});
    let chained: Vec<_> = o.control("acme").await.into_iter().map(|body| (body.previous, body.new)).collect();
    let (first, second) = (state(100, true), state(200, false));
    assert_eq!(chained, [(None, Some(first.clone())), (Some(first), Some(second.clone())), (Some(second), None)]);
}

pub(super) async fn workers_hear_of_budgets_that_stop_and_of_this_month_only(o: &Office) {
    set(o, "acme", Some(terms(10, true))).await;
    set(o, "bank", Some(terms(10, false))).await;
    set(o, "globex", Some(terms(0, true))).await;
    assert_eq!(stops(o, month()).await, used_up(&[("acme", false), ("globex", true)]));
    for of in ["acme", "bank", "other"] {
        o.charged(of, after(0), "a@1", charge(0, 9)).await;
    }
    assert_eq!(stops(o, month()).await, used_up(&[("acme", false), ("globex", true)]));
    o.charged("acme", after(0), "b@1", charge(0, 1)).await;
    assert_eq!(stops(o, month()).await, used_up(&[("acme", true), ("globex", true)]));
    let next = Month::at(next_month());
    assert_eq!(stops(o, next).await, used_up(&[("acme", false), ("globex", true)]));
    set(o, "acme", Some(terms(11, true))).await;
    assert_eq!(stops(o, month()).await, used_up(&[("acme", false), ("globex", true)]));
    let behind = o.registry.stops(month(), Some(&tenant("acme")), 1).await.expect("reads");
    assert_eq!(behind, [Stop { tenant: tenant("globex"), used_up: true }]);
}

async fn note(o: &Office, of: &str, month: Month, state: BudgetState) -> bool {
    o.registry.note_budget(&tenant(of), month, state, &audit(of, "system:console")).await.expect("acts")
}

pub(super) async fn a_crossing_is_noted_once_a_budget_month_and_state(o: &Office) {
    assert!(!note(o, "acme", month(), BudgetState::Warned).await, "there is no budget");
    set(o, "acme", Some(terms(100, true))).await;
    assert!(!note(o, "acme", month(), BudgetState::Ok).await, "nothing was crossed");
    for (state, noted) in [
        (BudgetState::Warned, true),
        (BudgetState::Warned, false),
        (BudgetState::Exhausted, true),
        (BudgetState::Exhausted, false),
        (BudgetState::Warned, false),
    ] {
        assert_eq!(note(o, "acme", month(), state).await, noted, "{state:?}");
    }
    assert_eq!(uses(o, &Scope::Fleet, month()).await[0].noted, Some(BudgetState::Exhausted));
    let next = Month::at(next_month());
    assert_eq!(uses(o, &Scope::Fleet, next).await[0].noted, None);
    assert!(note(o, "acme", next, BudgetState::Warned).await, "a month of its own");
    assert!(!note(o, "acme", month(), BudgetState::Exhausted).await, "and not one before it");
    set(o, "acme", Some(terms(200, true))).await;
    assert!(note(o, "acme", next, BudgetState::Warned).await, "a budget of its own");
    assert_eq!(o.control("acme").await.len(), 2 + 4);
}

pub(super) async fn budgets_are_paged_by_tenant_within_a_scope(o: &Office) {
    for of in ["b", "a", "C"] {
        set(o, of, Some(terms(5, false))).await;
    }
    let page = async |after: Option<TenantId>, limit| {
        let found = o.registry.budgets(&Scope::Fleet, month(), after.as_ref(), limit).await.expect("reads");
        found.into_iter().map(|used| used.budget.tenant.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(page(None, 2).await, ["C", "a"]);
    assert_eq!(page(Some(tenant("a")), 2).await, ["b"]);
    o.charged("b", after(0), "m@1", charge(0, 5)).await;
    let own = uses(o, &Scope::Tenant(tenant("b")), month()).await;
    assert_eq!((own.len(), own[0].state(), own[0].spent), (1, BudgetState::Exhausted, Micros::new(5)));
    assert_eq!(uses(o, &Scope::Tenant(tenant("nobody")), month()).await, []);
}

pub(super) async fn nothing_is_done_without_its_record(o: &Office) {
    let foreign = audit("globex", "ann");
    let refused = o.registry.set_budget(&tenant("acme"), Some(&terms(1, true)), &foreign).await;
    assert!(matches!(refused, Err(StoreError::Fault(_))), "{refused:?}");
    assert_eq!(uses(o, &Scope::Fleet, month()).await, []);
    set(o, "acme", Some(terms(1, true))).await;
    let refused = o.registry.note_budget(&tenant("acme"), month(), BudgetState::Warned, &foreign).await;
    assert!(matches!(refused, Err(StoreError::Fault(_))), "{refused:?}");
    assert_eq!(uses(o, &Scope::Fleet, month()).await[0].noted, None);
    assert_eq!((o.control("acme").await.len(), o.control("globex").await.len()), (1, 0));
}

pub(super) async fn a_fleet_has_no_more_budgets_than_it_may(o: &Office) {
    let (column, numbers) = match o.names_tenants() {
        true => ("tenant_id", format!("generate_series(1, {BUDGETS_MAX}) AS n (x)")),
        false => (
            "tenant",
            format!(
                "(WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < {BUDGETS_MAX}) SELECT x FROM n)"
            ),
        ),
    };
    let at = if o.names_tenants() { "now()" } else { "0" };
    let stop = if o.names_tenants() { "true" } else { "1" };
    let sql = format!(
        "INSERT INTO budgets ({column}, monthly_micros, warn_percent, stop, set_at, set_by)
         SELECT 'tenant-' || x, 1, 80, {stop}, {at}, 'ann' FROM {numbers}"
    );
    o.sql(&sql, EventId(uuid::Uuid::nil())).await.expect("inserts");
    assert_eq!(set(o, "one-more", Some(terms(1, true))).await, BudgetAct::Full);
    assert_eq!(o.control("one-more").await.len(), 0);
    assert!(matches!(set(o, "tenant-7", Some(terms(2, true))).await, BudgetAct::Done(Some(_))), "those can change");
    assert_eq!(set(o, "tenant-8", None).await, BudgetAct::Done(None));
    assert!(matches!(set(o, "one-more", Some(terms(1, true))).await, BudgetAct::Done(Some(_))));
}

pub(super) async fn who_looks_after_budgets_notes_each_crossing_once(o: &Office) {
    set(o, "acme", Some(terms(100, true))).await;
    set(o, "globex", Some(terms(0, false))).await;
    let costs = &*o.registry;
    let looked = async |at| look(costs, &At(at)).await.expect("looks");
    assert_eq!((looked(after(0)).await, looked(after(0)).await), (1, 0), "only the budget of nothing is used up");
    o.charged("acme", after(0), "a@1", charge(0, 80)).await;
    assert_eq!((looked(after(1)).await, looked(after(2)).await), (1, 0));
    o.charged("acme", after(0), "a@1", charge(0, 20)).await;
    assert_eq!((looked(after(3)).await, looked(after(4)).await), (1, 0));
    assert_eq!(looked(next_month()).await, 1, "of the next month only the budget of nothing");
    let noted: Vec<_> = o.control("acme").await.into_iter().filter(|body| body.action == "budget_noted").collect();
    let told = |n: usize| noted[n].new.as_ref().map(|new| (new["state"].clone(), new["spent_micros"].clone()));
    assert_eq!(noted.len(), 2);
    assert_eq!(told(0), Some((json!("warned"), json!(80))));
    assert_eq!(told(1), Some((json!("exhausted"), json!(100))));
    assert_eq!(noted[1].actor, "system:console");
}
