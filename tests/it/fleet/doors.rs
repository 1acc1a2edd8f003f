//! Tests: 50,000 events through every door at once, while workers are killed and stopped.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use crate::harness::fleet::{Fleet, alone};
use crate::harness::process::Program;
use crate::harness::traffic::{base, batch, deliver, event};

const HTTP_EVENTS: usize = 25_000;
const QUEUE_EVENTS: usize = 10_000;
const FILE_EVENTS: usize = 15_000;
const TENANTS: usize = 24;

fn tenant(n: usize) -> String {
    // Names that would meet each other if a dot or a prefix were taken lightly.
    format!("tenant{}{}", if n.is_multiple_of(2) { "." } else { "-" }, n / 2)
}

/// The Python of an environment that has `pika`: made once, in the build's folder for what tests
/// make, and found again by the next run.
fn python_with_pika() -> PathBuf {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python-with-pika");
    let python = home.join("bin/python");
    if has_pika(&python) {
        return python;
    }
    // Made aside and moved into place whole: another run may be at it, too.
    let making = home.with_file_name(format!("python-{}", uuid::Uuid::new_v4()));
    let venv = Command::new("python3").args(["-m", "venv"]).arg(&making).output();
    expect_done(venv, "make a Python environment (Debian: apt-get install python3-venv)");
    let mut install = Command::new(making.join("bin/python"));
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "pika==1.3.2"]);
    expect_done(install.output(), "install pika from the Python package index into the test's environment");
    if std::fs::rename(&making, &home).is_err() && !has_pika(&python) {
        // What stands in the way is broken.
        std::fs::remove_dir_all(&home).expect("remove a broken Python environment");
        std::fs::rename(&making, &home).expect("move a Python environment into place");
    }
    let _ = std::fs::remove_dir_all(&making);
    assert!(has_pika(&python), "pika was installed and cannot be imported");
    python
}

fn has_pika(python: &Path) -> bool {
    Command::new(python).args(["-c", "import pika"]).output().is_ok_and(|output| output.status.success())
}

fn expect_done(output: std::io::Result<Output>, what: &str) {
    match output {
        Ok(output) if output.status.success() => {}
        Ok(output) => panic!(
            "failed to {what}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(e) => panic!("failed to {what}: {e}"),
    }
}

/// Writes the events of a door as lines of JSON, tenants mixed.
fn write_lines(path: &Path, prefix: &str, count: usize) {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).expect("create a file of events"));
    for n in 0..count {
        writeln!(file, "{}", event(&tenant(n % TENANTS), &format!("{prefix}-{n}"), n)).expect("write an event");
    }
    file.flush().expect("write the events");
}

async fn send_over_http(ingests: Vec<String>) {
    let (batch_size, senders) = (100, 6);
    let mut tasks = Vec::new();
    for sender in 0..senders {
        let ingests = ingests.clone();
        tasks.push(tokio::spawn(async move {
            for n in (sender..HTTP_EVENTS / batch_size).step_by(senders) {
                let tenant = tenant(n % TENANTS);
                let numbers = n * batch_size..(n + 1) * batch_size;
                let first = [&ingests[n % ingests.len()..], &ingests[..n % ingests.len()]].concat();
                deliver(&first, &tenant, &batch(&tenant, "http", numbers)).await;
            }
        }));
    }
    for task in tasks {
        task.await.expect("a sender over HTTP");
    }
}

fn send_over_queue(fleet: &Fleet, python: &Path) -> Output {
    let lines = fleet.dir.join("queue.ndjson");
    write_lines(&lines, "queue", QUEUE_EVENTS);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pika_producer.py");
    let inbox = format!("{}.inbox", fleet.ns);
    let amqp = crate::harness::amqp_url();
    Command::new(python).arg(script).args([&amqp, &inbox]).arg(lines).output().expect("run the Python producer")
}

fn send_over_file(fleet: &Fleet) -> Output {
    let lines = fleet.dir.join("file.ndjson");
    write_lines(&lines, "file", FILE_EVENTS);
    fleet.run(Program::Ingest, &["file", lines.to_str().expect("a readable path")])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_thousand_events_through_every_door_are_decided_once() {
    let _alone = alone().await;
    let python = python_with_pika();
    let fleet = Fleet::new().await;
    let ingests = [fleet.ingest("ingest-1").await, fleet.ingest("ingest-2").await];
    let mut killed = fleet.worker("worker-killed").await;
    let mut stopped = fleet.worker("worker-stopped").await;
    let mut staying = fleet.worker("worker-staying").await;

    let over_http = tokio::spawn(send_over_http(ingests.iter().map(base).collect()));
    let (over_queue, over_file) = std::thread::scope(|scope| {
        let queue = scope.spawn(|| send_over_queue(&fleet, &python));
        let file = scope.spawn(|| send_over_file(&fleet));
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                let decided = "SELECT count(*) FROM {ns}.decisions";
                fleet.until("decided before the kill", decided, 5_000, Duration::from_secs(120)).await;
                killed.kill();
                fleet.until("decided before the stop", decided, 15_000, Duration::from_secs(120)).await;
                stopped.signal("TERM");
                let status = stopped.exit(Duration::from_secs(30)).await;
                assert!(status.success(), "a stopped worker ended with {status}:\n{}", stopped.log_tail());
            });
        });
        (queue.join().expect("the queue producer"), file.join().expect("the file import"))
    });
    expect_done(Ok(over_queue), "send from Python");
    expect_done(Ok(over_file), "import the file");
    over_http.await.expect("the senders over HTTP");

    let all = i64::try_from(HTTP_EVENTS + QUEUE_EVENTS + FILE_EVENTS).expect("fits");
    fleet.settled(all, Duration::from_secs(180)).await;
    assert_tenants_are_apart(&fleet, all).await;
    assert!(staying.runs(), "the worker that stayed");
    assert_families_are_served(&ingests, &staying).await;
}

/// The canary in each stored payload against the tenant column beside it, for events, decisions
/// and audit records.
async fn assert_tenants_are_apart(fleet: &Fleet, all: i64) {
    let stored = crate::vaults::stored(fleet).await;
    let is_own = |one: &&crate::vaults::Stored| {
        let tenant = one.tenant.as_str();
        one.event["metadata"]["canary"] == tenant && one.event["tenant_id"] == tenant
    };
    let own = stored.iter().filter(is_own).count();
    assert_eq!(i64::try_from(own).expect("fits"), all, "events under the tenant of their canary");
    let decided = stored.iter().filter(|one| {
        one.decision.as_ref().is_some_and(|decision| decision["tenant_id"] == one.event["metadata"]["canary"])
    });
    let decided = i64::try_from(decided.count()).expect("fits");
    assert_eq!(decided, all, "decisions under the tenant of their event's canary");
    let own_audit = "SELECT count(*) FROM {ns}.audit a \
        JOIN {ns}.events e ON e.event_id = (a.body::json ->> 'event_id')::uuid AND e.tenant_id = a.tenant_id";
    assert_eq!(fleet.number(own_audit).await, all, "audit records in the chain of their event's tenant");
    let tenants = i64::try_from(TENANTS).expect("fits");
    assert_eq!(fleet.number("SELECT count(DISTINCT tenant_id) FROM {ns}.events").await, tenants);
    let one_partition = "SELECT count(*) FROM (SELECT tenant_id FROM {ns}.events GROUP BY tenant_id \
        HAVING count(DISTINCT partition) > 1) strays";
    assert_eq!(fleet.number(one_partition).await, 0, "a tenant lives in one partition");
}

async fn assert_families_are_served(
    ingests: &[crate::harness::process::Process],
    worker: &crate::harness::process::Process,
) {
    let mut accepted = 0.0;
    for ingest in ingests {
        let metrics = ingest.metrics().await;
        for family in ["riskfleet_accept_seconds", "riskfleet_http_requests_total", "riskfleet_build_info"] {
            assert!(metrics.has(family), "{family} of an ingest");
        }
        accepted += metrics.sum("riskfleet_events_accepted_total");
        assert!(metrics.sum("riskfleet_events_published_total") > 0.0, "an ingest published");
    }
    assert!(accepted >= 35_000.0, "what came over HTTP and the queue was counted, {accepted}");
    let metrics = worker.metrics().await;
    for family in [
        "riskfleet_commit_seconds",
        "riskfleet_stage_seconds",
        "riskfleet_accept_to_decision_seconds",
        "riskfleet_backlog_events",
        "riskfleet_events_failed_total",
        "riskfleet_ledger_difference",
    ] {
        assert!(metrics.has(family), "{family} of a worker");
    }
    assert!(metrics.sum("riskfleet_events_decided_total") > 0.0, "the worker decided");
    assert!(metrics.sum("riskfleet_owned_partitions") >= 1.0, "the worker owns partitions");
    assert!(metrics.sum("riskfleet_ledger_difference").abs() < f64::EPSILON, "nothing is lost");
}
