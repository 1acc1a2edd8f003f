//! Tests: a server that goes away and comes back, behind the circuits of real programs. Callers are
//! told when to come again, what can go on does, and nobody has to restart anything.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::Value;

use crate::harness::fleet::{Fleet, alone, http};
use crate::harness::process::{Process, Program};
use crate::harness::traffic::{base, batch, deliver, event};
use crate::harness::{postgres_url, redis_url};
use crate::proxy::{Mode, Proxy};

/// A proxy before a server, and the URL that leads through it.
async fn proxied(url: &str, port: u16) -> (Proxy, String) {
    let parsed = reqwest::Url::parse(url).expect("the URL of a server of the tests");
    let target = format!("{}:{}", parsed.host_str().expect("a host"), parsed.port().unwrap_or(port));
    let proxy = Proxy::start(target.clone()).await;
    let through = url.replacen(&target, &proxy.addr.to_string(), 1);
    assert_ne!(through, url, "the URL names host and port");
    (proxy, through)
}

/// The settings of a member that leaves an absent server alone for two seconds.
fn settings(fleet: &Fleet, name: &str, url: &str) -> BTreeMap<String, String> {
    let mut settings = fleet.settings();
    settings.insert("RISKFLEET_BREAKER_RECOVERY_S".into(), "2".into());
    settings.insert(name.into(), url.into());
    settings
}

async fn circuit(process: &Process, dependency: &str) -> f64 {
    let sample = format!("riskfleet_breaker_state{{dependency=\"{dependency}\"}} ");
    let metrics = process.metrics().await;
    let state = metrics.0.lines().find_map(|line| line.strip_prefix(&sample)?.parse().ok());
    state.unwrap_or_else(|| panic!("{sample} is not shown:\n{}", metrics.0))
}

async fn until_circuit(process: &Process, dependency: &str, open: bool) {
    let until = Instant::now() + Duration::from_secs(40);
    while (circuit(process, dependency).await > 1.5) != open {
        assert!(Instant::now() < until, "the circuit of {dependency} is not open={open}:\n{}", process.log_tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn health(process: &Process) -> Value {
    let answer = http().get(process.url("/health")).send().await.expect("health answers always");
    answer.json().await.expect("health is JSON")
}

fn shows(health: &Value, check: &str) -> bool {
    let checks = health["checks"].as_array().expect("checks");
    checks.iter().any(|c| c["name"] == check && c["ok"] == false && c["error"].as_str().is_some_and(|e| !e.is_empty()))
}

/// Health is asked for at most once a second, so it may be late by that.
async fn until_shown(process: &Process, status: &str, check: &str) {
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        let shown = health(process).await;
        if shown["status"] == status && shows(&shown, check) {
            return;
        }
        assert!(Instant::now() < until, "{status} with the {check}, not {shown}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ingest_answers_at_once_while_its_store_is_away_and_takes_events_again_by_itself() {
    let _alone = alone().await;
    let (proxy, through) = proxied(&postgres_url(), 5432).await;
    let fleet = Fleet::new().await;
    let settings = settings(&fleet, "RISKFLEET_DATABASE_URL", &through);
    let mut ingest = Process::start("ingest", Program::Ingest, &["serve"], &settings, &fleet.dir);
    ingest.ready().await;
    let mut worker = Process::start("worker", Program::Worker, &[], &settings, &fleet.dir);
    worker.ready().await;
    deliver(&[base(&ingest)], "acme", &batch("acme", "before", 0..20)).await;

    proxy.set(Mode::Cut);
    let send =
        |n: usize| http().post(ingest.url("/v1/events")).json(&[event("acme", &format!("during-{n}"), n)]).send();
    let mut open = None;
    for n in 0..200 {
        let answer = send(n).await.expect("ingest answers always");
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(answer.headers().contains_key("retry-after"));
        if circuit(&ingest, "database").await > 1.5 {
            open = Some(n);
            break;
        }
    }
    let opened = open.unwrap_or_else(|| panic!("the circuit stays closed:\n{}", ingest.log_tail()));
    // A try may be under way when a request comes: the quickest of some is one that was refused.
    let mut quickest = Duration::MAX;
    for n in 0..5 {
        let began = Instant::now();
        let answer = send(opened + 1 + n).await.expect("ingest answers always");
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        quickest = quickest.min(began.elapsed());
    }
    assert!(quickest < Duration::from_millis(500), "a refusal took {quickest:?}");
    until_shown(&ingest, "error", "database circuit").await;
    until_circuit(&worker, "database", true).await;

    proxy.set(Mode::Pass);
    let back = Instant::now();
    deliver(&[base(&ingest)], "acme", &batch("acme", "after", 20..60)).await;
    assert!(back.elapsed() < Duration::from_secs(15), "taken again after {:?}", back.elapsed());
    // Whether a request that failed was stored is unknown to its sender; that it was refused is not.
    let accepted = fleet.accepted().await;
    assert!((60..=60 + i64::try_from(opened).expect("few")).contains(&accepted), "{accepted}");
    fleet.settled(accepted, Duration::from_secs(60)).await;
    for (process, name) in [(&ingest, "ingest"), (&worker, "worker")] {
        until_circuit(process, "database", false).await;
        let shown = health(process).await;
        assert_eq!(shown["status"], "ok", "{name}: {shown}");
        assert!(process.metrics().await.sum("riskfleet_breaker_transitions_total") >= 2.0, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_decides_without_context_and_keeps_its_partitions_while_redis_is_away() {
    let _alone = alone().await;
    let (proxy, through) = proxied(&redis_url(), 6379).await;
    let fleet = Fleet::new().await;
    let ingest = fleet.ingest("ingest").await;
    let settings = settings(&fleet, "RISKFLEET_REDIS_URL", &through);
    let mut worker = Process::start("worker", Program::Worker, &[], &settings, &fleet.dir);
    worker.ready().await;
    fleet.until_owned(&worker).await;
    let epochs = "SELECT sum(epoch)::bigint FROM {ns}.partitions";
    let before = fleet.number(epochs).await;

    proxy.set(Mode::Cut);
    for n in 0..10 {
        deliver(&[base(&ingest)], "acme", &batch("acme", "away", n * 10..(n + 1) * 10)).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    until_circuit(&worker, "leases", true).await;
    fleet.until("decided", "SELECT count(*) FROM {ns}.decisions", 100, Duration::from_secs(30)).await;
    until_shown(&worker, "degraded", "leases circuit").await;

    proxy.set(Mode::Pass);
    until_circuit(&worker, "leases", false).await;
    for n in 10..20 {
        deliver(&[base(&ingest)], "acme", &batch("acme", "back", n * 10..(n + 1) * 10)).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    until_circuit(&worker, "context", false).await;
    fleet.settled(200, Duration::from_secs(30)).await;
    assert_eq!(fleet.number(epochs).await, before, "no partition was claimed again");
}
