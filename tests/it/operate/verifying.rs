//! A console verifies the audit by itself, and tells whoever watches it.

use crate::harness::fleet::{Fleet, alone};
use crate::harness::process::{Process, Program};
use crate::harness::traffic::{base, batch, deliver};
use sqlx::Executor;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_changed_behind_the_fleets_back_is_told_without_being_asked() {
    let _alone = alone().await;
    let fleet = Fleet::new().await;
    let (ingest, worker) = (fleet.ingest("ingest").await, fleet.worker("worker").await);
    fleet.until_owned(&worker).await;
    deliver(&[base(&ingest)], "acme", &batch("acme", "a", 0..20)).await;
    fleet.settled(20, Duration::from_secs(20)).await;
    let mut settings = fleet.settings();
    settings.insert("RISKFLEET_AUDIT_VERIFY_S".into(), "1".into());
    let mut console = Process::start("console", Program::Console, &[], &settings, &fleet.dir);
    console.ready().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let found = "riskfleet_audit_verify_failures_total";
    let metrics = console.metrics().await;
    assert!(metrics.has(found) && metrics.sum(found) == 0.0, "{}", console.log_tail());
    assert!(metrics.sum("riskfleet_audit_verified_age_seconds") < 20.0);
    // As one who owns the database and passes its triggers.
    let change = format!(
        "SET session_replication_role = replica;
         UPDATE {}.audit SET body = replace(body, 'decision_made', 'decision_mode') WHERE seq = 7;
         SET session_replication_role = origin",
        fleet.ns
    );
    let mut connection = fleet.pool.acquire().await.expect("a connection");
    connection.execute(sqlx::AssertSqlSafe(change)).await.expect("changed");
    console.until_counted(found, 1.0).await;
    let log = console.log_tail();
    assert!(log.contains("the audit is NOT whole") && log.contains("tenant.id") && log.contains("acme"), "{log}");
}
