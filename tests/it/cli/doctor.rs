//! Tests: `doctor` and `fleet plan` on real servers and a real folder, well and broken.

use crate::harness::fleet::{Fleet, alone, connect};
use crate::harness::process::Program;
use crate::harness::traffic::{base, batch, deliver};
use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use riskfleet::adapters::sqlite::SqliteStore;
use riskfleet::lifecycle::SystemClock;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Runs `riskfleet ARGS doctor --json` with settings changed; gives the exit code and the document.
fn examined(settings: &BTreeMap<String, String>, args: &[&str]) -> (Option<i32>, Value) {
    let output = Program::Operator.command(settings).args(args).args(["doctor", "--json"]).output().expect("run");
    let out = String::from_utf8_lossy(&output.stdout);
    let document = serde_json::from_str(&out).unwrap_or_else(|e| {
        panic!("doctor printed no JSON ({e}):\n{out}\n{}", String::from_utf8_lossy(&output.stderr))
    });
    (output.status.code(), document)
}

/// The checks with a verdict.
fn those(document: &Value, verdict: &str) -> Vec<String> {
    let checks = document["checks"].as_array().expect("checks").iter();
    checks.filter(|c| c["verdict"] == verdict).map(|c| c["check"].as_str().expect("a name").to_owned()).collect()
}

fn verdict<'a>(document: &'a Value, check: &str) -> &'a str {
    let checks = document["checks"].as_array().expect("checks");
    let found = checks.iter().find(|c| c["check"] == check);
    found.unwrap_or_else(|| panic!("no check {check}: {document:#}"))["verdict"].as_str().expect("a verdict")
}

/// What the private servers lack on purpose, and nothing else: their Postgres runs without fsync.
async fn expected_failures(fleet: &Fleet) -> Vec<String> {
    let off = fleet.number("SELECT (current_setting('fsync') = 'off')::int::bigint").await == 1;
    if off { vec!["postgres.durability".to_owned()] } else { vec![] }
}

#[tokio::test]
async fn a_fleet_that_works_is_well_and_one_that_has_died_is_not() {
    let _alone = alone().await;
    let fleet = Fleet::new().await;
    odd_queue(&format!("{}.events.p003", fleet.ns)).await;
    let (ingest, mut worker) = (fleet.ingest("ingest").await, fleet.worker("worker").await);
    fleet.until_owned(&worker).await;
    deliver(&[base(&ingest)], "acme", &batch("acme", "a", 0..20)).await;
    fleet.settled(20, Duration::from_secs(20)).await;
    let (exit, seen) = examined(&fleet.settings(), &[]);
    let unsafe_here = expected_failures(&fleet).await;
    assert_eq!(those(&seen, "failed"), unsafe_here, "{seen:#}");
    assert_eq!((exit, &seen["ok"]), (Some(i32::from(!unsafe_here.is_empty())), &json!(unsafe_here.is_empty())));
    // Authentication is off here, nobody signs, and one queue stands as somebody else made it.
    assert_eq!(those(&seen, "warning"), ["settings.auth", "settings.audit", "queues.type"], "{seen:#}");
    let plan = fleet.operate_json(&["fleet", "plan", "--workers", "3"]);
    assert_eq!((&plan["workers_now"], &plan["joining"], &plan["draws"]), (&json!(1), &json!(2), &json!(100)));
    assert!(plan["moves"]["least"].as_u64() >= Some(8), "two thirds of 16 or so: {plan}");
    worker.kill();
    deliver(&[base(&ingest)], "acme", &batch("acme", "b", 0..3)).await;
    let until = Instant::now() + Duration::from_secs(40);
    let seen = loop {
        let (exit, seen) = examined(&fleet.settings(), &[]);
        if verdict(&seen, "fleet.workers") == "failed" && exit == Some(1) {
            break seen;
        }
        assert!(Instant::now() < until, "{seen:#}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    assert_eq!(verdict(&seen, "fleet.owners"), "failed", "{seen:#}");
    assert_eq!(verdict(&seen, "fleet.ledger"), "ok", "{seen:#}");
}

/// A classic queue where the settings say quorum.
async fn odd_queue(name: &str) {
    let connection = connect(&crate::harness::amqp_url()).await;
    let channel = connection.create_channel().await.expect("open a channel");
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("classic".into()));
    channel.queue_declare(name.into(), QueueDeclareOptions::durable(), arguments).await.expect("declare");
}

#[tokio::test]
async fn what_is_broken_in_the_store_is_named() {
    let fleet = Fleet::new().await;
    let (_, seen) = examined(&fleet.settings(), &[]);
    assert_eq!(those(&seen, "failed"), expected_failures(&fleet).await, "{seen:#}");
    assert_eq!((verdict(&seen, "fleet.workers"), verdict(&seen, "fleet.owners")), ("warning", "warning"));
    let old = "019aa5a0-0000-7000-8000-000000000000";
    for statement in [
        // Accepted in November 2025, for which no day's partition was made.
        "INSERT INTO {ns}.events (event_id, partition, tenant_id, correlation_id, body) VALUES ('{old}', 0, 'acme', 'c', '{}')",
        "INSERT INTO {ns}.outbox (id, kind, n, events) VALUES (gen_random_uuid(), 0, 1, ARRAY['{old}'::uuid])",
        "UPDATE {ns}.fleet SET accepted = 5",
        "ALTER TABLE {ns}.approvals NO FORCE ROW LEVEL SECURITY",
        "UPDATE {ns}.partitions SET owner = gen_random_uuid() WHERE partition = 1",
    ] {
        let statement = statement.replace("{ns}", &fleet.ns).replace("{old}", old);
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&fleet.pool).await.expect("break it");
    }
    let (exit, seen) = examined(&fleet.settings(), &[]);
    assert_eq!(exit, Some(1));
    for check in [
        "schema.partitions",
        "postgres.isolation",
        "fleet.workers",
        "fleet.owners",
        "fleet.pending",
        "fleet.outbox",
        "fleet.ledger",
    ] {
        assert_eq!(verdict(&seen, check), "failed", "{check}: {seen:#}");
    }
    let shown = String::from_utf8_lossy(&fleet.run(Program::Operator, &["doctor"]).stdout).into_owned();
    assert!(shown.contains("a difference of 5") && shown.contains("1 rows with 1 accepted events"), "{shown}");
    let advised = shown.lines().filter(|l| l.trim_start().starts_with("next: ")).count();
    assert_eq!(advised, those(&seen, "failed").len() + those(&seen, "warning").len(), "{shown}");
}

#[tokio::test]
async fn a_server_that_is_away_keeps_no_other_from_being_looked_at() {
    let fleet = Fleet::new().await;
    let with = |name: &str, value: &str| {
        let mut settings = fleet.settings();
        settings.insert(name.into(), value.into());
        settings
    };
    let away = [
        ("RISKFLEET_REDIS_URL", "redis://127.0.0.1:1/0", "redis", ["postgres", "rabbitmq"]),
        ("RISKFLEET_AMQP_URL", "amqp://127.0.0.1:1/%2f", "rabbitmq", ["postgres", "redis"]),
        ("RISKFLEET_DATABASE_URL", "postgres://postgres@127.0.0.1:1/postgres", "postgres", ["redis", "rabbitmq"]),
    ];
    for (name, url, check, others) in away {
        let (exit, seen) = examined(&with(name, url), &[]);
        assert_eq!((exit, verdict(&seen, check)), (Some(1), "failed"), "{seen:#}");
        assert_eq!(others.map(|other| verdict(&seen, other)), ["ok", "ok"], "{seen:#}");
    }
    let (exit, seen) = examined(&with("RISKFLEET_LANES", "0"), &[]);
    assert_eq!((exit, those(&seen, "failed"), those(&seen, "ok")), (Some(1), vec!["settings".into()], vec![]));
    let (exit, seen) = examined(&with("RISKFLEET_NAMESPACE", "nobody_was_here"), &[]);
    assert_eq!((exit, verdict(&seen, "schema"), verdict(&seen, "rabbitmq")), (Some(1), "failed", "ok"));
}

#[tokio::test]
async fn a_folder_is_looked_at_without_servers() {
    let dir = std::env::temp_dir().join(format!("riskfleet-it-{}", crate::harness::namespace()));
    std::fs::create_dir_all(&dir).expect("make a folder");
    let data = dir.to_str().expect("a path of text");
    let none = BTreeMap::new();
    let (exit, seen) = examined(&none, &["--data", data]);
    assert_eq!((exit, those(&seen, "failed")), (Some(1), vec!["folder".to_owned()]), "nothing there: {seen:#}");
    let file = dir.join("riskfleet.db");
    let store = SqliteStore::open(&file, 4, [1; 32], Arc::new(SystemClock::new())).await.expect("open");
    store.close().await;
    let (exit, seen) = examined(&none, &["--data", data]);
    assert_eq!((exit, those(&seen, "failed")), (Some(0), vec![]), "{seen:#}");
    assert_eq!(those(&seen, "warning"), ["folder.process", "fleet.workers", "fleet.owners"], "{seen:#}");
    let mut bytes = std::fs::read(&file).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle..].fill(0xa5);
    std::fs::write(&file, bytes).expect("damage it");
    let (exit, seen) = examined(&none, &["--data", data]);
    assert_eq!((exit, seen["ok"].as_bool()), (Some(1), Some(false)), "{seen:#}");
    let _ = std::fs::remove_dir_all(&dir);
}
