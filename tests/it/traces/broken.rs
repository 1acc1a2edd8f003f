//! Collectors that are away, that never answer, and that answer with failures: everything is decided all
//! the same, what is lost is counted, and the end does not wait.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::collector::{Answer, Collector};
use crate::harness::fleet::{Fleet, alone};
use crate::harness::namespace;
use crate::harness::process::{Process, Program, free_addr};
use crate::harness::traffic::{base, batch, deliver};

/// Longer than the programs wait for a collector at their end, and for nothing else.
const PROMPT: Duration = Duration::from_secs(8);

fn settings(of: BTreeMap<String, String>, collector: &str) -> BTreeMap<String, String> {
    let own = [
        ("RISKFLEET_OTLP_ENDPOINT", collector),
        ("RISKFLEET_TRACE_SAMPLE_PERCENT", "100"),
        ("RISKFLEET_TRACES_PER_S", "10000"),
    ];
    of.into_iter().chain(own.map(|(key, value)| (key.to_owned(), value.to_owned()))).collect()
}

async fn ends_promptly(mut process: Process) {
    let asked = Instant::now();
    process.signal("TERM");
    assert!(process.exit(PROMPT).await.success(), "{}", process.log_tail());
    assert!(asked.elapsed() < PROMPT, "{:?}", asked.elapsed());
}

/// A fleet in one process whose collector is at `url`; gives it once something could not be sent.
async fn up_with(url: &str) -> (Process, std::path::PathBuf) {
    let folder = std::env::temp_dir().join(format!("riskfleet-it-{}", namespace()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let mut up = Process::up(&folder.join("data"), &settings(BTreeMap::new(), url), &folder);
    up.ready().await;
    deliver(&[base(&up)], "acme", &batch("acme", "k", 0..100)).await;
    up.until_counted("riskfleet_events_decided_total", 100.0).await;
    up.until_counted("riskfleet_trace_export_failures_total", 1.0).await;
    (up, folder)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_away_costs_its_spans_alone() {
    let (up, folder) = up_with(&format!("http://{}", free_addr())).await;
    up.until_counted("riskfleet_trace_spans_dropped_total", 100.0).await;
    assert!(up.metrics().await.sum("riskfleet_trace_export_failures_total") >= 3.0, "it was tried again");
    assert!(up.metrics().await.sum("riskfleet_trace_spans_exported_total").abs() < f64::EPSILON);
    ends_promptly(up).await;
    let _ = std::fs::remove_dir_all(&folder);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_answers_with_failures_is_not_asked_again_for_the_same() {
    let collector = Collector::start(&[Answer::Status(500)]).await;
    let (up, folder) = up_with(&collector.url()).await;
    up.until_counted("riskfleet_trace_spans_dropped_total", 100.0).await;
    ends_promptly(up).await;
    let _ = std::fs::remove_dir_all(&folder);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_never_answers_holds_up_nobody() {
    let _alone = alone().await;
    let (fleet, collector) = (Fleet::new().await, Collector::start(&[Answer::Never]).await);
    let settings = settings(fleet.settings(), &collector.url());
    let mut ingest = Process::start("ingest", Program::Ingest, &["serve"], &settings, &fleet.dir);
    let mut worker = Process::start("worker", Program::Worker, &[], &settings, &fleet.dir);
    ingest.ready().await;
    worker.ready().await;
    fleet.until_owned(&worker).await;
    let began = Instant::now();
    for tenant in 0..10 {
        let tenant = format!("tenant-{tenant}");
        for part in 0..8 {
            let events = batch(&tenant, "k", part * 16..(part + 1) * 16);
            deliver(&[base(&ingest)], &tenant, &events).await;
        }
    }
    fleet.settled(1_280, Duration::from_secs(40)).await;
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    // 11,520 spans of the worker, for a queue that takes 4,096.
    worker.until_counted("riskfleet_trace_spans_dropped_total", 1_000.0).await;
    ingest.until_counted("riskfleet_trace_export_failures_total", 1.0).await;
    assert!(collector.requests() >= 2, "both have tried");
    ends_promptly(worker).await;
    ends_promptly(ingest).await;
}
