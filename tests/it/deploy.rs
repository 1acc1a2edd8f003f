//! Tests: what is deployed against what the programs are. Alerts and dashboard ask for metrics that are
//! exported, every alert is tested, manifests set only what exists. `deploy/check.sh` holds the
//! manifests against the schemas of Kubernetes; this needs nothing but the repository.

mod dashboard;
mod families;
mod promql;
mod rules;

use riskfleet::api::{Plane, openapi};
use riskfleet::config::{Setting, settings};
use riskfleet::telemetry::{Prometheus, Role};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use families::Families;
use rules::{Cases, Rule};

const ALERTS: &str = "deploy/alerts.yml";
const CASES: [&str; 2] = ["deploy/alerts.test.yml", "deploy/days.test.yml"];
const OPERATOR_RULES: &str = "deploy/kubernetes/components/monitoring/rules.yaml";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("failed to read {path}: {e}"))
}

fn assert_none(wrong: &[String], rule: &str) {
    assert!(wrong.is_empty(), "{rule}:\n  {}", wrong.join("\n  "));
}

/// Names under which rules record.
fn recorded(rules: &[Rule]) -> Vec<String> {
    rules.iter().filter(|rule| !rule.alert).map(|rule| rule.name.clone()).collect()
}

#[test]
fn rules_ask_for_metrics_that_are_exported() {
    let rules = rules::rules(&read(ALERTS));
    let (families, recorded) = (Families::exported(), recorded(&rules));
    assert!(rules.len() > 20, "the rules are read: {rules:?}");
    let mut wrong = Vec::new();
    for rule in &rules {
        let names = promql::names(&rule.expr);
        assert!(!names.selectors.is_empty(), "{} asks for something: {}", rule.name, rule.expr);
        wrong.extend(families.faults(&names, &recorded).into_iter().map(|fault| format!("{}: {fault}", rule.name)));
    }
    assert_none(&wrong, "a rule over a metric that nobody writes never fires");
}

#[test]
fn the_bound_of_the_promise_is_the_bound_of_a_bucket() {
    // A rule over a bucket that is not there would call every decision late, or none.
    let text = Prometheus::install(Role::All).expect("the one recorder of this process").render(true);
    assert!(text.contains("riskfleet_accept_to_decision_seconds_bucket{le=\"1\"} "), "a second is a bound");
    assert!(read(ALERTS).contains("riskfleet_accept_to_decision_seconds_bucket{le=~\"1([.]0)?\"}"));
}

#[test]
fn every_alert_is_seen_to_be_raised_and_to_be_silent() {
    let mut cases: BTreeMap<String, Cases> = BTreeMap::new();
    for (name, counted) in CASES.iter().flat_map(|path| rules::cases(&read(path))) {
        let sum = cases.entry(name).or_default();
        *sum = Cases { raised: sum.raised + counted.raised, silent: sum.silent + counted.silent };
    }
    let rules = rules::rules(&read(ALERTS));
    let alerts: BTreeSet<&str> = rules.iter().filter(|rule| rule.alert).map(|rule| rule.name.as_str()).collect();
    let mut wrong: Vec<String> =
        cases.keys().filter(|name| !alerts.contains(name.as_str())).map(|name| format!("{name} is no alert")).collect();
    for alert in alerts {
        let counted = cases.get(alert).copied().unwrap_or_default();
        if counted.raised == 0 || counted.silent == 0 {
            wrong.push(format!("{alert} is raised in {} cases and silent in {}", counted.raised, counted.silent));
        }
    }
    assert_none(&wrong, "an alert that was never seen to fire, or never to be silent, is a guess");
}

#[test]
fn every_alert_says_how_bad_it_is_and_what_to_do() {
    let text = read(ALERTS);
    for alert in text.split("- alert: ").skip(1) {
        let name = alert.lines().next().unwrap_or_default();
        let has = |part: &str| assert!(alert.contains(part), "{name} has {part}");
        has("summary: ");
        has("description: ");
        assert!(["critical", "warning"].iter().any(|s| alert.contains(&format!("severity: {s}"))), "{name}");
    }
    let readme = read("README.md");
    let rules = rules::rules(&text);
    let unlisted = rules.iter().filter(|rule| rule.alert && !readme.contains(&format!("`{}`", rule.name)));
    let wrong: Vec<String> = unlisted.map(|rule| rule.name.clone()).collect();
    assert_none(&wrong, "README.md lists every alert");
}

#[test]
fn the_operator_of_prometheus_gets_the_same_rules() {
    let from = |text: &str, head: &str| text[text.find(head).expect(head)..].trim_end().to_owned();
    let own: String = from(&read(ALERTS), "groups:\n")
        .lines()
        .map(|line| if line.is_empty() { "\n".to_owned() } else { format!("  {line}\n") })
        .collect();
    let theirs = from(&read(OPERATOR_RULES), "  groups:\n");
    assert_eq!(theirs, own.trim_end(), "write it anew: deploy/check.sh --write-rules");
}

/// Every file below a folder.
fn files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found
}

#[test]
fn deployments_set_only_what_exists() {
    let file = |setting: &Setting| setting.is_secret().then(|| format!("{}_FILE", setting.variable()));
    let known: BTreeSet<String> = settings().iter().flat_map(|s| [Some(s.variable()), file(s)]).flatten().collect();
    let mut paths = files("deploy/kubernetes");
    paths.extend([root().join("docker-compose.yml"), root().join("Dockerfile")]);
    let mut wrong = Vec::new();
    for path in paths {
        let (text, shown) = (std::fs::read_to_string(&path).expect("text"), path.display());
        assert!(!text.contains('\t'), "{shown} has tabs");
        for (at, _) in text.match_indices("RISKFLEET_") {
            let name: String =
                text[at..].chars().take_while(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || *c == '_').collect();
            // `RISKFLEET_…` in a comment is no name.
            if name != "RISKFLEET_" && !known.contains(&name) {
                wrong.push(format!("{shown}: {name} is no setting"));
            }
        }
    }
    assert_none(&wrong, "a name that is no setting stops the start");
}

#[test]
fn the_parts_of_a_deployment_find_each_other() {
    let (compose, manifest) = (read("docker-compose.yml"), read("Cargo.toml"));
    for program in ["riskfleet", "riskfleet-ingest", "riskfleet-worker", "riskfleet-console"] {
        assert!(manifest.contains(&format!("name = \"{program}\"")), "Cargo.toml has the program {program}");
        assert!(compose.contains(program), "docker-compose.yml runs {program}");
        assert!(read("Dockerfile").contains(&format!("--bin {program}")), "the image holds {program}");
    }
    let servers = ["postgres", "rabbitmq", "redis", "prometheus", "grafana"];
    for service in servers.into_iter().chain(["migrate", "ingest", "worker", "console"]) {
        assert!(compose.contains(&format!("\n  {service}:\n")), "docker-compose.yml has the service {service}");
    }
    let prometheus = read("deploy/prometheus.yml");
    for job in ["worker", "ingest", "console"] {
        assert!(prometheus.contains(&format!("job_name: {job}\n")), "the rules and the dashboard know the job {job}");
        assert!(prometheus.contains(&format!("names: [{job}]")), "Prometheus finds every {job}");
    }
    assert!(prometheus.contains("/etc/prometheus/alerts.yml"), "Prometheus reads the rules");
    for mount in [
        "./deploy/alerts.yml:/etc/prometheus/alerts.yml:ro",
        "./deploy/prometheus.yml:/etc/prometheus/prometheus.yml:ro",
        "./deploy/grafana/provisioning:/etc/grafana/provisioning:ro",
        "./deploy/grafana/dashboards:/etc/grafana/dashboards:ro",
    ] {
        let (here, _) = mount.split_once(':').expect("two paths");
        assert!(compose.contains(mount) && root().join(here).exists(), "docker-compose.yml mounts {here}");
    }
    let provider = read("deploy/grafana/provisioning/dashboards/riskfleet.yml");
    assert!(provider.contains("path: /etc/grafana/dashboards\n"), "Grafana looks where the dashboards are");
}

#[test]
fn keda_asks_for_what_the_console_answers() {
    let scaling = read("deploy/kubernetes/components/keda/scaling.yaml");
    let said = |key: &str| {
        let value = scaling.lines().find_map(|line| line.trim().strip_prefix(key));
        value.unwrap_or_else(|| panic!("{key} is said")).to_owned()
    };
    let path = said("url: http://riskfleet-console.riskfleet.svc:8080");
    let document = serde_json::to_value(openapi(Plane::Whole)).expect("a document");
    let answer = &document["paths"][&path]["get"]["responses"]["200"]["content"]["application/json"]["schema"];
    let schema = match answer["$ref"].as_str().and_then(|r| r.strip_prefix('#')) {
        Some(pointer) => document.pointer(pointer).expect("a schema"),
        None => answer,
    };
    let field = said("valueLocation: ");
    assert_eq!(schema["properties"][&field]["type"], "integer", "{path} answers with a number {field}: {schema}");
    assert!(
        read("deploy/kubernetes/base/console.yaml").contains("kind: Service\nmetadata:\n  name: riskfleet-console\n")
    );
}
