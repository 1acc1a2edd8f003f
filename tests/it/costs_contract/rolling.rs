//! What commits add to the roll-up, and how it is read.

use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use riskfleet::domain::audit::Versions;
use riskfleet::domain::cost::{Micros, UNKNOWN_MODEL};
use riskfleet::domain::retention::Day;
use riskfleet::domain::{FailureClass, Scope, time};
use riskfleet::ports::costs::{CostBy, CostFilter, CostRow, Spent};
use riskfleet::ports::store::{Committed, Disposition, NewDisposition};
use std::collections::BTreeMap;

use super::{charge, report};
use crate::office::{Office, PLAIN, after, disposition, tenant};

/// By tenant, day and model.
type Sums = BTreeMap<(String, Day, String), Spent>;

fn add(sum: &mut Spent, more: Spent) {
    sum.decisions += more.decisions;
    sum.tokens += more.tokens;
    sum.cost = sum.cost.plus(more.cost);
}

/// What a report must show of the sums.
fn rows(sums: &Sums, by: CostBy) -> BTreeMap<(String, Option<Day>, Option<String>), Spent> {
    let mut rows = BTreeMap::new();
    for ((tenant, day, model), spent) in sums {
        let day = (by == CostBy::Day).then_some(*day);
        let model = (by == CostBy::Model).then(|| model.clone());
        add(rows.entry((tenant.clone(), day, model)).or_default(), *spent);
    }
    rows
}

fn spent(decisions: i64, tokens: i64, millionths: i64) -> Spent {
    Spent { decisions, tokens, cost: Micros::new(millionths) }
}

async fn assert_is(o: &Office, sums: &Sums) {
    let total = sums.values().fold(Spent::default(), |mut total, spent| {
        add(&mut total, *spent);
        total
    });
    for by in CostBy::ALL {
        let found = report(o, &Scope::Fleet, by).await;
        assert_eq!((found.total, found.rows_all), (total, found.rows.len() as i64), "{by:?}");
        let row = |row: CostRow| ((row.tenant.to_string(), row.day, row.model), row.spent);
        assert_eq!(found.rows.into_iter().map(row).collect::<BTreeMap<_, _>>(), rows(sums, by), "{by:?}");
    }
}

/// A decision or a dead letter of a random tenant, by a random model, at a random price.
async fn some(o: &Office, rng: &mut StdRng, at: DateTime<Utc>) -> NewDisposition {
    let event = o.accept(&format!("tenant-{}", rng.random_range(0..3)), PLAIN).await;
    let cost = charge(rng.random_range(0..3) * 500, rng.random_range(0..4) * 1_000);
    let model = match rng.random_range(0..4) {
        0 => None,
        n => Some(format!("fraud@{n}")),
    };
    let mut item = disposition(&event, at, model.as_deref(), cost);
    if rng.random_range(0..6) == 0 {
        item.audit.versions = None;
        item.disposition = Disposition::Dead { class: FailureClass::WorkflowError, error: "no".into(), attempts: 3 };
    }
    item
}

/// What a written item adds.
fn count(sums: &mut Sums, item: &NewDisposition, at: DateTime<Utc>) {
    let Disposition::Decided { charge, .. } = &item.disposition else { return };
    let model = item.audit.versions.as_ref().map_or(UNKNOWN_MODEL, |Versions { model, .. }| model);
    let sum = sums.entry((item.tenant.to_string(), Day::at(at), model.to_owned())).or_default();
    add(sum, spent(1, i64::from(charge.tokens), charge.cost.get()));
}

/// Batches on several days, some of whose items were committed before, or are another owner's by now.
pub(super) async fn the_roll_up_is_the_sum_of_what_was_written_whatever_is_committed(o: &Office) {
    let mut rng = StdRng::seed_from_u64(11);
    let (mut sums, mut known): (Sums, Vec<NewDisposition>) = (Sums::new(), Vec::new());
    let mut fates: BTreeMap<&str, usize> = BTreeMap::new();
    for _ in 0..25 {
        let at = after(0) + TimeDelta::hours(rng.random_range(0..72));
        let mut items = Vec::new();
        for _ in 0..rng.random_range(1..6) {
            items.push(some(o, &mut rng, at).await);
        }
        for _ in 0..rng.random_range(0..3) {
            let Some(again) = known.get(rng.random_range(0..known.len().max(1))) else { break };
            if items.iter().all(|item| item.event != again.event) {
                items.push(again.clone());
            }
        }
        let late = i64::from(rng.random_range(0..4) == 0);
        let verdicts = o.commit(items.clone(), at, late).await;
        for (item, verdict) in items.into_iter().zip(verdicts) {
            match verdict {
                Committed::Written => {
                    *fates.entry("written").or_default() += 1;
                    count(&mut sums, &item, at);
                    known.push(item);
                }
                Committed::Duplicate => *fates.entry("duplicate").or_default() += 1,
                Committed::Fenced => *fates.entry("fenced").or_default() += 1,
            }
        }
    }
    assert!(fates.len() == 3 && fates.values().all(|n| *n > 3), "every fate was met: {fates:?}");
    assert_is(o, &sums).await;
    let mut stored = Spent::default();
    for item in &known {
        let record = o.record(item.event).await;
        if record.end.is_some_and(|end| matches!(end.disposition, Disposition::Decided { .. })) {
            let of = o.record(item.event).await.charge();
            add(&mut stored, spent(1, i64::from(of.tokens), of.cost.get()));
        }
    }
    assert_eq!(report(o, &Scope::Fleet, CostBy::Tenant).await.total, stored, "and of what stands with the events");
}

pub(super) async fn a_charge_reads_back_with_its_event(o: &Office) {
    for cost in [charge(0, 0), charge(1_200, 2_400), charge(0, 1), charge(u32::MAX, 0)] {
        let event = o.charged("acme", after(0), "fraud@3", cost).await;
        assert_eq!(o.record(event).await.charge(), cost);
    }
    let pending = o.accept("acme", PLAIN).await;
    assert_eq!(o.record(pending.id).await.charge(), charge(0, 0));
}

pub(super) async fn a_report_is_within_its_days_its_scope_and_its_limit(o: &Office) {
    let day = |n: i64| after(0) + TimeDelta::days(n);
    for (of, n, model, millionths) in
        [("acme", 0, "a@1", 5), ("acme", 1, "b@1", 50), ("globex", 1, "a@1", 500), ("globex", 2, "a@1", 7)]
    {
        o.charged(of, day(n), model, charge(10, millionths)).await;
    }
    let first = Day::at(after(0));
    let filter = |by, from, to, limit| CostFilter { from: first.plus(from), to: first.plus(to), by, limit };
    let read = async |scope: &Scope, filter: CostFilter| o.registry.costs(scope, &filter).await.expect("reads");
    let days = read(&Scope::Fleet, filter(CostBy::Day, 1, 1, 10)).await;
    assert_eq!(days.total, spent(2, 20, 550));
    let row = |of: &str, day, model: Option<&str>, spent| CostRow {
        tenant: tenant(of),
        day,
        model: model.map(str::to_owned),
        spent,
    };
    let second = Some(first.plus(1));
    assert_eq!(
        days.rows,
        [row("acme", second, None, spent(1, 10, 50)), row("globex", second, None, spent(1, 10, 500))]
    );
    let newest = read(&Scope::Fleet, filter(CostBy::Day, 0, 2, 1)).await;
    assert_eq!(newest.rows, [row("globex", Some(first.plus(2)), None, spent(1, 10, 7))]);
    assert_eq!((newest.rows_all, newest.total), (4, spent(4, 40, 562)), "the total is of all rows");
    let dearest = read(&Scope::Fleet, filter(CostBy::Tenant, 0, 2, 10)).await;
    assert_eq!(dearest.rows, [row("globex", None, None, spent(2, 20, 507)), row("acme", None, None, spent(2, 20, 55))]);
    let own = read(&Scope::Tenant(tenant("acme")), filter(CostBy::Model, 0, 2, 10)).await;
    let want = [row("acme", None, Some("b@1"), spent(1, 10, 50)), row("acme", None, Some("a@1"), spent(1, 10, 5))];
    assert_eq!((own.rows, own.total), (want.to_vec(), spent(2, 20, 55)));
    let nobodys = read(&Scope::Tenant(tenant("nobody")), filter(CostBy::Day, 0, 2, 10)).await;
    assert_eq!((nobodys.rows.len(), nobodys.rows_all, nobodys.total), (0, 0, Spent::default()));
}

pub(super) async fn a_day_ends_at_midnight_utc(o: &Office) {
    let midnight = time::from_millis(Day::at(after(0)).plus(1).first_id().millis());
    o.charged("acme", midnight - TimeDelta::milliseconds(1), "a@1", charge(0, 3)).await;
    o.charged("acme", midnight, "a@1", charge(0, 4)).await;
    let by_day = report(o, &Scope::Fleet, CostBy::Day).await.rows;
    let found: Vec<_> = by_day.into_iter().map(|row| (row.day, row.spent.cost.get())).collect();
    assert_eq!(found, [(Some(Day::at(midnight)), 4), (Some(Day::at(after(0))), 3)]);
}
