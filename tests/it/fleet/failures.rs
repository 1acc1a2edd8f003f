//! Tests: an event that fails is tried again, then buried; its neighbours go on.

use serde_json::json;
use std::time::Duration;

use crate::harness::fleet::{Fleet, alone};
use crate::harness::traffic::{base, batch, deliver};

/// From now on the store refuses every decision of a tenant, as it would a text that it can't hold.
async fn refuse(fleet: &Fleet, tenant: &str) {
    let ns = &fleet.ns;
    let statements = format!(
        "CREATE FUNCTION {ns}.refuse_some() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN RAISE EXCEPTION 'this text can not be held' USING ERRCODE = '22021'; END $$;
         CREATE TRIGGER refuse_some BEFORE INSERT ON {ns}.decisions FOR EACH ROW
             WHEN (new.tenant_id = '{tenant}' AND new.outcome <> 3) EXECUTE FUNCTION {ns}.refuse_some()"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(statements)).execute(&fleet.pool).await.expect("make the store refuse");
}

async fn refuse_no_more(fleet: &Fleet) {
    let drop = format!("DROP TRIGGER refuse_some ON {}.decisions", fleet.ns);
    sqlx::query(sqlx::AssertSqlSafe(drop)).execute(&fleet.pool).await.expect("let the store take everything");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_store_refuses_is_found_tried_again_and_buried_while_its_neighbours_go_on() {
    let _alone = alone().await;
    let fleet = Fleet::new().await;
    let ingest = fleet.ingest("ingest").await;
    refuse(&fleet, "refused").await;
    let settings = [("RISKFLEET_ATTEMPTS_MAX", "3"), ("RISKFLEET_RETRY_FIRST_MS", "200")];
    let worker = fleet.worker_with("worker", &settings).await;
    for tenant in ["one", "refused", "two", "three"] {
        let events = if tenant == "refused" { 0..3 } else { 0..60 };
        deliver(&[base(&ingest)], tenant, &batch(tenant, "k", events)).await;
    }
    fleet
        .until("decisions", "SELECT count(*) FROM {ns}.decisions WHERE outcome <> 3", 180, Duration::from_secs(60))
        .await;
    let dead = "SELECT count(*) FROM {ns}.decisions WHERE outcome = 3 AND tenant_id = 'refused'";
    fleet.until("dead letters", dead, 3, Duration::from_secs(60)).await;
    assert_eq!(fleet.number("SELECT count(*) FROM {ns}.retries").await, 0);
    let letters = fleet.operate_json(&["dlq", "list"]);
    for letter in letters.as_array().expect("a list") {
        assert_eq!((&letter["tenant_id"], &letter["category"]), (&"refused".into(), &"INFRA_ERROR".into()));
        assert_eq!(letter["attempts"], 3);
        assert!(letter["error"].as_str().is_some_and(|e| e.contains("can not be held")), "{letter}");
    }
    assert_eq!(letters.as_array().map(Vec::len), Some(3));
    // Twice each; a copy that was delivered twice is put off twice.
    assert!(worker.metrics().await.sum("riskfleet_events_retried_total") >= 6.0);
    let ledger = fleet.operate_json(&["fleet", "status"])["ledger"].clone();
    assert_eq!(ledger, json!({"accepted": 183, "decided": 180, "dead": 3, "pending": 0}));
    assert_eq!(fleet.operate_json(&["audit", "verify"])["ok"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_fails_once_is_decided_by_its_second_try() {
    let _alone = alone().await;
    let fleet = Fleet::new().await;
    let ingest = fleet.ingest("ingest").await;
    refuse(&fleet, "refused").await;
    let worker = fleet.worker_with("worker", &[("RISKFLEET_RETRY_FIRST_MS", "3000")]).await;
    deliver(&[base(&ingest)], "refused", &batch("refused", "k", 0..5)).await;
    let due = "SELECT count(*) FROM {ns}.retries WHERE due_at IS NOT NULL";
    fleet.until("retries", due, 5, Duration::from_secs(60)).await;
    let listed = fleet.operate_json(&["events", "list", "--status", "retrying"]);
    assert_eq!(listed.as_array().map(Vec::len), Some(5), "{listed}");
    refuse_no_more(&fleet).await;
    fleet.settled(5, Duration::from_secs(60)).await;
    assert_eq!(fleet.number("SELECT count(*) FROM {ns}.decisions WHERE outcome <> 3").await, 5);
    assert_eq!(fleet.number("SELECT count(*) FROM {ns}.retries").await, 0);
    assert_eq!(worker.metrics().await.sum("riskfleet_events_failed_total"), 0.0);
}
