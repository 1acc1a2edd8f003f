//! Tests: on real programs and servers, decisions are priced and rolled up, a used up budget hands its tenant to
//! people and back, and what was escalated so is replayed to the same bytes.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Row};

use crate::harness::fleet::{Fleet, alone, http};
use crate::harness::process::{Process, Program};

/// By when a budget is in force: two seconds, and what a busy machine adds to the asking.
const IN_FORCE: Duration = Duration::from_secs(8);

/// Decides an event of a tenant.
async fn decided(api: &str, tenant: &str) -> Value {
    let request = http().post(format!("{api}/v1/risk")).json(&json!({"version": "1", "event_type": "low_risk"}));
    let request = request.header("prefer", "wait=10").header("x-tenant-id", tenant);
    let request = request.header("x-idempotency-key", uuid::Uuid::new_v4().to_string());
    let answer: Value = request.send().await.expect("asked").json().await.expect("JSON");
    assert!(answer["decision"].is_object(), "decided in time: {answer}");
    answer
}

/// Sends events until one has this outcome.
async fn until(api: &str, tenant: &str, outcome: &str) -> Value {
    let began = Instant::now();
    loop {
        let answer = decided(api, tenant).await;
        if answer["decision"]["outcome"] == outcome {
            return answer;
        }
        assert!(began.elapsed() < IN_FORCE, "no {outcome}: {answer}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What is rolled up and what is stored, tenant by tenant: each as decisions and millionths.
async fn sums(fleet: &Fleet) -> Vec<(String, [i64; 4])> {
    let ns = &fleet.ns;
    let sql = format!(
        "SELECT tenant_id, c.n, c.m, d.n, d.m
         FROM (SELECT tenant_id, sum(decisions)::bigint AS n, sum(cost_micros)::bigint AS m FROM {ns}.costs GROUP BY 1) c
         FULL JOIN (SELECT tenant_id, count(*) AS n, coalesce(sum(cost_micros), 0)::bigint AS m
                    FROM {ns}.decisions GROUP BY 1) d USING (tenant_id) ORDER BY 1"
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&fleet.pool).await.expect("reads");
    rows.iter().map(|row| (row.get(0), [row.get(1), row.get(2), row.get(3), row.get(4)])).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_used_up_budget_hands_its_tenant_to_people_until_it_is_raised() {
    let _alone = alone().await;
    let fleet = Fleet::new().await;
    let mut console = Process::start("console", Program::Console, &[], &fleet.settings(), &fleet.dir);
    let ingest = fleet.ingest("ingest").await;
    console.ready().await;
    let worker = fleet.worker_with("worker", &[("RISKFLEET_PRICE_PER_DECISION", "0.25")]).await;
    fleet.until_owned(&worker).await;
    let (api, url) = (ingest.url(""), console.url(""));
    let budget = |words: &[&str]| {
        fleet.operate(&[&["costs", "budget", "acme", "--reason", "tried", "--url", &url], words].concat())
    };
    assert_eq!(decided(&api, "acme").await["decision"]["outcome"], "APPROVED");
    budget(&["--monthly", "0.50", "--stop"]);
    let stopped = until(&api, "acme", "REQUIRE_APPROVAL").await;
    assert_eq!(stopped["decision"]["reasons"][0]["code"], "BUDGET_EXHAUSTED", "{stopped}");
    assert_eq!(stopped["decision"]["context"]["budget_exhausted"], true);
    let event = stopped["event_id"].as_str().expect("an id");
    assert_eq!(fleet.operate_json(&["replay", event])["same"], true);
    assert_eq!(fleet.operate_json(&["events", "get", event])["cost"], Value::Null, "nothing was spent on it");
    assert_eq!(decided(&api, "globex").await["decision"]["outcome"], "APPROVED", "nobody else is stopped");
    let spent = fleet.operate_json(&["costs", "budgets"]);
    assert_eq!((&spent[0]["state"], &spent[0]["stop"]), (&json!("exhausted"), &json!(true)), "{spent}");
    budget(&["--monthly", "1000", "--stop"]);
    until(&api, "acme", "APPROVED").await;
    budget(&["--none"]);

    for (tenant, [rolled, millionths, stored, stored_millionths]) in sums(&fleet).await {
        assert_eq!((rolled, millionths), (stored, stored_millionths), "{tenant}");
    }
    let shown = fleet.operate_json(&["costs", "show", "--by", "model", "--tenant", "globex"]);
    let row = json!({"tenant_id": "globex", "model": "baseline@1", "decisions": 1, "tokens": 0, "cost_micros": 250_000, "cost": "0.25"});
    assert_eq!(shown["items"], json!([row]));
    let metrics = worker.metrics().await;
    assert!(
        metrics.sum("riskfleet_cost_micros_total") >= 750_000.0
            && metrics.sum("riskfleet_budget_escalations_total") >= 1.0
    );
    assert!(metrics.sum("riskfleet_evaluation_score_count") >= 8.0);
    assert_eq!(fleet.operate_json(&["audit", "verify"])["ok"], true);
}
