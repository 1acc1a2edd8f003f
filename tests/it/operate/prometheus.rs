//! The real Prometheus scrapes a real fleet, with the project's own rules. Skipped, and said so, where
//! the programs `prometheus` and `promtool` are not installed (Debian: prometheus).

use crate::harness::fleet::{Fleet, alone, http};
use crate::harness::process::{Process, Program, free_addr};
use crate::harness::traffic::{base, batch, deliver};
use serde_json::Value;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running Prometheus; dropping it ends it.
struct Prometheus {
    child: Child,
    addr: SocketAddr,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether the programs are there; with `RISKFLEET_TEST_PROMETHEUS=required` they must be.
fn installed() -> bool {
    let there = |program: &str| Command::new(program).arg("--version").output().is_ok_and(|out| out.status.success());
    let both = there("prometheus") && there("promtool");
    let required = std::env::var("RISKFLEET_TEST_PROMETHEUS").is_ok_and(|said| said == "required");
    assert!(both || !required, "prometheus and promtool must be installed (Debian: prometheus)");
    if !both {
        eprintln!("skipped: prometheus and promtool are not installed (Debian: prometheus)");
    }
    both
}

impl Prometheus {
    fn start(dir: &Path, targets: &[(&str, &Process)]) -> Self {
        let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/alerts.yml");
        let mut config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [\"{}\"]\nscrape_configs:\n",
            rules.display()
        );
        for (job, process) in targets {
            config.push_str(&format!("- job_name: {job}\n  static_configs: [{{targets: [\"{}\"]}}]\n", process.addr));
        }
        let (file, addr) = (dir.join("prometheus.yml"), free_addr());
        std::fs::write(&file, config).expect("write its settings");
        let log = std::fs::File::create(dir.join("prometheus.log")).expect("make its log");
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("tsdb").display()))
            .arg(format!("--web.listen-address={addr}"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("start Prometheus");
        Self { child, addr }
    }

    async fn ask(&self, path: &str, query: &[(&str, &str)]) -> Option<Value> {
        let url = reqwest::Url::parse_with_params(&format!("http://{}{path}", self.addr), query).expect("a URL");
        let answer: Value = http().get(url).send().await.ok()?.json().await.ok()?;
        (answer["status"] == "success").then(|| answer["data"].clone())
    }

    /// The first value of an instant query.
    async fn value(&self, query: &str) -> Option<f64> {
        let data = self.ask("/api/v1/query", &[("query", query)]).await?;
        data["result"][0]["value"][1].as_str()?.parse().ok()
    }

    /// Waits until a query gives at least so much.
    async fn until(&self, query: &str, least: f64) {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let now = self.value(query).await;
            if now.is_some_and(|now| now >= least) {
                return;
            }
            assert!(Instant::now() < until, "{query} gives {now:?}, not {least}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

/// `promtool check metrics` on a scrape: it says something only about what is wrong.
fn checked(name: &str, scrape: &str) {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start promtool");
    promtool.stdin.take().expect("piped").write_all(scrape.as_bytes()).expect("it reads");
    let output = promtool.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{name}: {}", String::from_utf8_lossy(&said));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prometheus_scrapes_every_process_and_evaluates_every_rule() {
    if !installed() {
        return;
    }
    let _alone = alone().await;
    let fleet = Fleet::new().await;
    let (ingest, worker) = (fleet.ingest("ingest").await, fleet.worker("worker").await);
    let mut console = Process::start("console", Program::Console, &[], &fleet.settings(), &fleet.dir);
    console.ready().await;
    fleet.until_owned(&worker).await;
    let all = [("ingest", &ingest), ("worker", &worker), ("console", &console)];
    let prometheus = Prometheus::start(&fleet.dir, &all);
    prometheus.until("sum(up)", 3.0).await;
    for round in 0..4 {
        for tenant in ["acme", "globex"] {
            deliver(&[base(&ingest)], tenant, &batch(tenant, &format!("r{round}"), 0..50)).await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    prometheus.until("sum(rate(riskfleet_events_decided_total[15s]))", 1.0).await;
    prometheus.until("sum(riskfleet_events_decided_total)", 400.0).await;
    prometheus.until("sum(rate(riskfleet_events_accepted_total[30s]))", 1.0).await;
    prometheus.until("sum by (tenant) (riskfleet_tenant_events_total{tenant=\"acme\",state=\"decided\"})", 200.0).await;
    let p99 = "histogram_quantile(0.99, sum by (le) (rate(riskfleet_accept_to_decision_seconds_bucket[30s])))";
    prometheus.until(p99, 0.000_1).await;
    prometheus.until("min(process_resident_memory_bytes)", 1_000_000.0).await;
    prometheus.until("count(process_start_time_seconds)", 3.0).await;
    assert_eq!(prometheus.value("max(riskfleet_ledger_difference)").await, Some(0.0));
    every_rule_is_well(&prometheus).await;
    for (name, process) in all {
        checked(name, &process.metrics().await.0);
    }
    fleet.settled(400, Duration::from_secs(20)).await;
}

/// Evaluated without an error, and none that would wake somebody.
async fn every_rule_is_well(prometheus: &Prometheus) {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let data = prometheus.ask("/api/v1/rules", &[]).await.expect("the rules");
        let groups = data["groups"].as_array().expect("groups");
        let rules: Vec<&Value> = groups.iter().flat_map(|g| g["rules"].as_array().expect("rules")).collect();
        assert!(rules.len() >= 14, "{data:#}");
        let wrong: Vec<&&Value> = rules.iter().filter(|rule| rule["health"] == "err").collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
        let firing: Vec<&&Value> = rules.iter().filter(|rule| rule["state"] == "firing").collect();
        assert!(firing.is_empty(), "{firing:#?}");
        if rules.iter().all(|rule| rule["health"] == "ok") {
            return;
        }
        assert!(Instant::now() < until, "not every rule was evaluated: {data:#}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_tenants_make_a_scrape_no_longer() {
    let _alone = alone().await;
    let fleet = Fleet::new().await;
    let (ingest, worker) = (fleet.ingest("ingest").await, fleet.worker("worker").await);
    fleet.until_owned(&worker).await;
    let sent = |from: usize| -> Vec<Value> {
        (from..from + 500).map(|n| batch(&format!("t{n}"), "one", n..n + 1).remove(0)).collect()
    };
    for from in (0..10_000).step_by(500) {
        // Of no tenant by its header: each event names its own.
        let request = http().post(ingest.url("/v1/events")).json(&sent(from));
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), 202, "{}", answer.text().await.unwrap_or_default());
    }
    fleet.settled(10_000, Duration::from_secs(120)).await;
    for (name, process) in [("ingest", &ingest), ("worker", &worker)] {
        let scrape = process.metrics().await.0;
        let lines = scrape.lines().filter(|line| !line.starts_with('#')).count();
        let named: std::collections::BTreeSet<&str> =
            scrape.split("tenant=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert_eq!(named.len(), 51, "{name}: 50 and the rest");
        assert!(lines < 1_500, "{name}: {lines} samples");
    }
    let decided = worker.metrics().await.0;
    let state = decided.lines().filter(|l| l.starts_with("riskfleet_tenant_events_total") && l.contains("\"decided\""));
    let sum: f64 = state.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum();
    assert!((sum - 10_000.0).abs() < 0.5, "{sum}");
}
