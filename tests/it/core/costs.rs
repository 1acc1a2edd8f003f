//! Tests: what a worker charges for, and what it does with budgets that are used up while the store of budgets
//! answers, or is away.

use async_trait::async_trait;
use riskfleet::domain::cost::{Charge, Micros};
use riskfleet::domain::{Decision, Month, Outcome, PriceList, Scope, TenantId};
use riskfleet::pipeline::{Policy, replay};
use riskfleet::ports::StoreError;
use riskfleet::ports::costs::{Stop, Stops};
use riskfleet::ports::intake::{Intake, Taken};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

use super::{Fleet, candidate};

/// By when a look has seen a change: its two seconds, and what a busy machine adds.
const SEEN: Duration = Duration::from_secs(6);

/// Budgets that a test uses up.
#[derive(Default)]
struct Budgets {
    away: AtomicBool,
    used_up: Mutex<BTreeSet<TenantId>>,
}

#[async_trait]
impl Stops for Budgets {
    async fn stops(&self, _: Month, after: Option<&TenantId>, limit: u32) -> Result<Vec<Stop>, StoreError> {
        if self.away.load(Ordering::SeqCst) {
            return Err(StoreError::Away("on purpose".into()));
        }
        let used_up = self.used_up.lock().expect("no panic inside");
        let behind = used_up.iter().filter(|tenant| Some(*tenant) > after).take(limit as usize);
        Ok(behind.map(|tenant| Stop { tenant: tenant.clone(), used_up: true }).collect())
    }
}

impl Budgets {
    fn set(&self, tenants: &[&str]) {
        let tenants = tenants.iter().map(|tenant| TenantId::parse(tenant).expect("legal"));
        *self.used_up.lock().expect("no panic inside") = tenants.collect();
    }
}

impl Fleet {
    /// Decides event number `n`, of the tenant `n % 7`; gives the decision with its charge.
    async fn charged(&self, n: usize) -> (Decision, Charge) {
        let taken = self.door.submit(vec![candidate(n, true)]).await.expect("taken");
        let Taken::Accepted(receipt) = &taken[0] else { panic!("{taken:?}") };
        self.door.decision(receipt.event_id, Duration::from_secs(10)).await.expect("in time");
        let record = self.store.event(&Scope::Fleet, receipt.event_id).await.expect("in memory").expect("is stored");
        let record = self.keyring.reveal(record).await.expect("in memory").expect("is not erased");
        let body = riskfleet::domain::EventBody::from_canonical(&record.event.body).expect("our own text");
        let event =
            riskfleet::domain::Event { id: record.event.id, correlation_id: record.event.correlation_id.clone(), body };
        let stored = self.store.decisions(&[event.id]).await.expect("in memory");
        let text = self.keyring.reveal_decisions(stored).await.expect("in memory").remove(0).2;
        let decision = Decision::from_canonical(&text).expect("our own text");
        assert_eq!(replay(&event, &decision, &Policy::baseline()).canonical(), text, "replay gives the same bytes");
        (decision, record.charge())
    }

    /// Sends events of a tenant, numbered from `n`, until one is stopped, or is not any more.
    async fn until_stopped(&self, mut n: usize, stopped: bool) {
        let began = Instant::now();
        while is_stopped(&self.charged(n).await.0) != stopped {
            assert!(began.elapsed() < SEEN, "tenant {}: stopped is not {stopped}", n % 7);
            n += 7;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn is_stopped(decision: &Decision) -> bool {
    let codes: Vec<&str> = decision.reasons.iter().map(|reason| reason.code.as_str()).collect();
    assert_eq!(codes.contains(&"BUDGET_EXHAUSTED"), decision.context.budget_exhausted, "{codes:?}");
    decision.context.budget_exhausted
}

fn prices() -> Arc<PriceList> {
    let price = "0.25".parse().expect("an amount");
    let default = riskfleet::domain::Prices { per_decision: price, ..Default::default() };
    Arc::new(PriceList::new(default, Default::default()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_used_up_budget_hands_its_tenant_to_people_and_costs_nothing_until_it_is_raised() {
    let budgets = Arc::new(Budgets::default());
    let fleet = Fleet { stops: budgets.clone(), prices: prices(), ..Fleet::start().await };
    let stop = CancellationToken::new();
    let worker = fleet.worker(&stop).await;
    let quarter = Charge { tokens: 0, cost: Micros::new(250_000) };
    let (free, paid) = fleet.charged(1).await;
    assert_eq!((free.outcome, paid), (Outcome::Approved, quarter));

    budgets.set(&["tenant-1"]);
    fleet.until_stopped(8, true).await;
    let (stopped, unpaid) = fleet.charged(701).await;
    assert_eq!((stopped.outcome, unpaid), (Outcome::RequireApproval, Charge::default()));
    assert_eq!(fleet.charged(702).await.1, quarter, "nobody else is stopped");

    // Away: who is stopped stays so.
    budgets.away.store(true, Ordering::SeqCst);
    budgets.set(&[]);
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert!(is_stopped(&fleet.charged(708).await.0));
    budgets.away.store(false, Ordering::SeqCst);
    fleet.until_stopped(1_401, false).await;
    assert_eq!(fleet.charged(2_101).await.1, quarter);
    stop.cancel();
    worker.await.expect("drained");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_spent_before_the_first_look_at_budgets() {
    let budgets = Arc::new(Budgets::default());
    let fleet = Fleet { stops: budgets.clone(), prices: prices(), ..Fleet::start().await };
    budgets.away.store(true, Ordering::SeqCst);
    // On the third page.
    let mut names: Vec<String> = (0..1_100).map(|n| format!("bulk-{n:04}")).collect();
    names.push("tenant-1".into());
    budgets.set(&names.iter().map(String::as_str).collect::<Vec<_>>());
    super::submit(&fleet, 0, 14).await;
    let stop = CancellationToken::new();
    let worker = fleet.worker(&stop).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(fleet.store.ledger().await.expect("in memory").decided, 0, "who has not looked decides nothing");
    budgets.away.store(false, Ordering::SeqCst);
    fleet.all_decided(14).await;
    assert!(is_stopped(&fleet.charged(15).await.0) && !is_stopped(&fleet.charged(16).await.0));
    budgets.set(&["bulk-0007"]);
    fleet.until_stopped(22, false).await;
    stop.cancel();
    worker.await.expect("drained");
}
