//! The contract of `ports::Costs`, and of the roll-up that commits write: every clause runs on every adapter.

mod budgets;
mod rolling;

use riskfleet::domain::cost::{Charge, Micros};
use riskfleet::domain::retention::Day;
use riskfleet::domain::{AuditBody, BudgetTerms, Scope, Stream};
use riskfleet::ports::costs::{BudgetAct, CostBy, CostFilter, CostReport};

use crate::office::{Office, after, tenant};

/// One module of tests an adapter, one test a clause.
macro_rules! contract {
    ($($adapter:ident),+ => $clauses:tt) => { $( contract!(@ $adapter $clauses); )+ };
    (@ $adapter:ident { $($file:ident::$clause:ident),+ $(,)? }) => {
        mod $adapter {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $clause() {
                    super::$file::$clause(&crate::office::Office::$adapter().await).await;
                }
            )+
        }
    };
}

contract!(sqlite, postgres => {
    rolling::the_roll_up_is_the_sum_of_what_was_written_whatever_is_committed,
    rolling::a_charge_reads_back_with_its_event,
    rolling::a_report_is_within_its_days_its_scope_and_its_limit,
    rolling::a_day_ends_at_midnight_utc,
    budgets::a_budget_reads_back_and_each_change_is_chained,
    budgets::workers_hear_of_budgets_that_stop_and_of_this_month_only,
    budgets::a_crossing_is_noted_once_a_budget_month_and_state,
    budgets::budgets_are_paged_by_tenant_within_a_scope,
    budgets::nothing_is_done_without_its_record,
    budgets::a_fleet_has_no_more_budgets_than_it_may,
    budgets::who_looks_after_budgets_notes_each_crossing_once,
});

fn charge(tokens: u32, millionths: i64) -> Charge {
    Charge { tokens, cost: Micros::new(millionths) }
}

fn terms(millionths: i64, stop: bool) -> BudgetTerms {
    BudgetTerms { monthly: Micros::new(millionths), warn_percent: 80, stop }
}

fn audit(of: &str, who: &str) -> AuditBody {
    let chain = (tenant(of), Stream::Control);
    AuditBody { reason: Some("why".into()), ..AuditBody::new(chain, after(7), who, "budget_set", ("budget", of)) }
}

async fn set(o: &Office, of: &str, terms: Option<BudgetTerms>) -> BudgetAct {
    o.registry.set_budget(&tenant(of), terms.as_ref(), &audit(of, "ann")).await.expect("acts")
}

/// Everything that was ever spent within a scope.
async fn report(o: &Office, scope: &Scope, by: CostBy) -> CostReport {
    let filter = CostFilter { from: Day::numbered(0), to: Day::at(after(0)).plus(400), by, limit: 1_000 };
    o.registry.costs(scope, &filter).await.expect("reads")
}
