//! How many workers a running fleet should have, as KEDA, the command line and health say it.

use crate::harness::fleet::{Fleet, alone, http};
use crate::harness::process::{Process, Program};
use crate::harness::traffic::{base, batch, deliver};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

async fn get(process: &Process, path: &str) -> (u16, Value) {
    let answer = http().get(process.url(path)).send().await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_says_how_many_workers_it_should_have() {
    let _alone = alone().await;
    let fleet = Fleet::new().await;
    let ingest = fleet.ingest("ingest").await;
    let mut console = Process::start("console", Program::Console, &[], &fleet.settings(), &fleet.dir);
    console.ready().await;
    // Nobody works, and events wait.
    deliver(&[base(&ingest)], "acme", &batch("acme", "a", 0..300)).await;
    let (status, said) = get(&console, "/v1/fleet/scaling?max=4").await;
    assert_eq!((status, &said["desired_replicas"], &said["action"]), (200, &json!(4), &json!("scale_up")), "{said}");
    assert_eq!((&said["replicas"], &said["signals"]["queue_depth"]), (&json!(0), &json!(300)));
    assert_eq!(said["signals"]["cpu_percent"], Value::Null, "nobody says");

    let worker = fleet.worker("worker").await;
    fleet.until_owned(&worker).await;
    fleet.settled(300, Duration::from_secs(30)).await;
    let until = Instant::now() + Duration::from_secs(20);
    let said = loop {
        let (_, said) = get(&console, "/v1/fleet/scaling?max=4").await;
        if said["replicas"] == 1 && said["signals"]["p99_ms"].is_number() && said["signals"]["cpu_percent"].is_number()
        {
            break said;
        }
        assert!(Instant::now() < until, "the worker says nothing: {said}");
        tokio::time::sleep(Duration::from_millis(300)).await;
    };
    assert_eq!((&said["signals"]["failure_rate"], &said["signals"]["queue_depth"]), (&json!(0.0), &json!(0)), "{said}");
    let shown = fleet.operate_json(&["fleet", "autoscale", "--evaluate", "--max", "4"]);
    assert_eq!((&shown["replicas"], &shown["signals"]["queue_depth"]), (&json!(1), &json!(0)), "{shown}");
    assert!(fleet.operate(&["fleet", "autoscale", "--evaluate"]).contains("waiting 0 events"));
    let load = &fleet.operate_json(&["fleet", "status"])["workers"][0]["load"];
    assert_eq!(load["decided"], 300, "{load}");
    let (status, refused) = get(&console, "/v1/fleet/scaling?min=5&max=4").await;
    assert_eq!((status, &refused["type"]), (400, &json!("urn:riskfleet:problem:bad-query")), "{refused}");
    health_shows_what_is_measured(&ingest, &worker, &console).await;
}

async fn health_shows_what_is_measured(ingest: &Process, worker: &Process, console: &Process) {
    let named = |health: &Value, name: &str| -> Value {
        let checks = health["checks"].as_array().expect("checks");
        checks.iter().find(|c| c["name"] == name).unwrap_or_else(|| panic!("no {name}: {health:#}")).clone()
    };
    for (process, names) in [
        (ingest, &["database", "broker", "rates", "backlog", "database circuit", "broker circuit"][..]),
        (worker, &["database", "broker", "leases", "backlog", "stage latency", "leases circuit"]),
        (console, &["database", "backlog", "database circuit"]),
    ] {
        let (status, health) = get(process, "/health").await;
        assert_eq!((status, &health["status"]), (200, &json!("ok")), "{health:#}");
        assert!(health["version"].is_string() && health.get("reason").is_none(), "{health:#}");
        names.iter().for_each(|name| assert_eq!(named(&health, name)["ok"], true));
        assert_eq!(named(&health, "backlog")["figures"]["events"], 0.0);
    }
    let (_, health) = get(worker, "/health").await;
    let stages = &named(&health, "stage latency")["figures"];
    assert!(stages["decision"].is_number() && stages["retrieval"].is_number(), "{health:#}");
    let (_, ready) = get(worker, "/health/ready").await;
    assert_eq!(ready["checks"].as_array().map(Vec::len), Some(2), "what it needs, and nothing else: {ready}");
}
