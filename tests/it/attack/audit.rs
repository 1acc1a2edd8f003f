//! A superuser of the database behind the fleet's back: the database refuses the plain way, and
//! `audit verify` finds and names what is done with the refusal switched off.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::fleet::{Fleet, alone};
use crate::harness::process::Program;
use crate::harness::traffic::{base, batch, deliver};

/// Runs statements as the superuser that the tests have.
async fn run(fleet: &Fleet, statement: &str) -> Result<(), sqlx::Error> {
    let text = statement.replace("{ns}", &fleet.ns);
    sqlx::raw_sql(sqlx::AssertSqlSafe(text)).execute(&fleet.pool).await.map(|_| ())
}

/// Runs a statement with the audit's triggers asleep.
async fn behind_its_back(fleet: &Fleet, statement: &str) {
    let text = format!(
        "BEGIN; SET LOCAL search_path TO {{ns}}; ALTER TABLE audit DISABLE TRIGGER ALL; \
         SET LOCAL session_replication_role TO replica; {statement}; ALTER TABLE audit ENABLE TRIGGER ALL; COMMIT"
    );
    run(fleet, &text).await.unwrap_or_else(|e| panic!("{statement}: {e}"));
}

fn verify(fleet: &Fleet) -> Value {
    let output = fleet.run(Program::Operator, &["audit", "verify", "--json"]);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("no report ({e}): {output:?}"))
}

/// Statements that do harm to acme's records, and what must be said of which record; 0 for whichever
/// record it is.
fn harms() -> [(String, i64, &'static str); 8] {
    let one = "tenant_id = 'acme' AND stream = 0";
    [
        (
            format!("UPDATE audit SET body = replace(body, 'workflow', 'workfIow') WHERE {one} AND seq = 7"),
            7,
            "changed",
        ),
        (format!("DELETE FROM audit WHERE {one} AND seq = 7"), 7, "removed"),
        (format!("DELETE FROM audit WHERE {one} AND seq <= 5"), 1, "removed"),
        (
            format!(
                "UPDATE audit SET hash = sha256(prev_hash || convert_to(body || ' ', 'UTF8')), body = body || ' ' \
            WHERE {one} AND seq = 7"
            ),
            7,
            "changed",
        ),
        (
            "UPDATE audit a SET body = b.body, hash = b.hash, \
            prev_hash = b.prev_hash FROM kept b WHERE a.tenant_id = 'acme' AND a.stream = 0 AND a.seq = 7 \
            AND b.tenant_id = 'acme' AND b.stream = 0 AND b.seq = 9"
                .into(),
            7,
            "reordered",
        ),
        (
            "UPDATE audit a SET body = b.body, hash = b.hash, prev_hash = b.prev_hash FROM kept b \
            WHERE a.tenant_id = 'acme' AND a.stream = 0 AND a.seq = 1 AND b.tenant_id = 'globex' \
            AND b.stream = 0 AND b.seq = 1"
                .into(),
            1,
            "globex",
        ),
        (
            "UPDATE events SET body = set_byte(body, 50, get_byte(body, 50) # 1) \
            WHERE event_id = (SELECT min(event_id::text)::uuid FROM events WHERE tenant_id = 'acme')"
                .into(),
            0,
            "event",
        ),
        (
            "UPDATE decisions SET body = body || '\\x20'::bytea \
            WHERE event_id = (SELECT min(event_id::text)::uuid FROM events WHERE tenant_id = 'acme')"
                .into(),
            0,
            "decision",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_superuser_changes_in_the_audit_is_refused_or_found() {
    let _alone = alone().await;
    let fleet = Fleet::new().await;
    {
        let ingest = fleet.ingest("ingest").await;
        let _worker = fleet.worker("worker").await;
        for tenant in ["acme", "globex"] {
            deliver(&[base(&ingest)], tenant, &batch(tenant, "k", 0..20)).await;
        }
        fleet.settled(40, Duration::from_secs(60)).await;
    }
    for plain in [
        "UPDATE {ns}.audit SET body = replace(body, 'APPROVED', 'REJECTED')",
        "DELETE FROM {ns}.audit WHERE seq = 20",
        "TRUNCATE {ns}.audit",
        "UPDATE {ns}.audit SET seq = seq + 1000 WHERE false",
    ] {
        let refused = run(&fleet, plain).await.expect_err(plain).to_string();
        assert!(refused.contains("append-only"), "{plain}: {refused}");
    }
    let keep = "CREATE TABLE kept AS SELECT * FROM audit; CREATE TABLE kept_events AS SELECT * FROM events; \
        CREATE TABLE kept_decisions AS SELECT * FROM decisions";
    behind_its_back(&fleet, keep).await;
    let undo = "DELETE FROM audit; INSERT INTO audit SELECT * FROM kept; \
        UPDATE events e SET body = k.body FROM kept_events k WHERE k.event_id = e.event_id; \
        UPDATE decisions d SET body = k.body FROM kept_decisions k WHERE k.event_id = d.event_id";
    let mut missed = Vec::new();
    for (harm, seq, why) in harms() {
        behind_its_back(&fleet, &harm).await;
        let report = verify(&fleet);
        assert_eq!(report["ok"], json!(false), "{harm}: {report}");
        let bad = report["bad"].as_array().expect("a list");
        let named = |line: &Value| {
            let at = seq == 0 || line["seq"] == json!(seq);
            at && line["tenant"] == json!("acme") && line["why"].as_str().is_some_and(|w| w.contains(why))
        };
        if !bad.iter().any(named) {
            missed.push(format!("{harm}: not {why} at {seq}: {report}"));
        }
        assert!(bad.iter().all(|line| line["tenant"] == json!("acme")), "nobody else is blamed: {report}");
        behind_its_back(&fleet, undo).await;
        assert_eq!(verify(&fleet)["ok"], json!(true), "undone: {harm}");
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}
