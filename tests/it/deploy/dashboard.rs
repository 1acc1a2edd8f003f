//! Tests: the dashboard. Every query names what is exported; every panel says what it shows, in which
//! unit; none lies over another.

use serde_json::Value;
use std::collections::BTreeSet;

use super::families::Families;
use super::{ALERTS, assert_none, promql, read, recorded, rules};

const DASHBOARD: &str = "deploy/grafana/dashboards/riskfleet.json";

/// What Prometheus writes by itself about its alerts.
const ALERTING: &str = "ALERTS";

/// Columns of a dashboard.
const COLUMNS: u64 = 24;

fn dashboard() -> Value {
    serde_json::from_str(&read(DASHBOARD)).expect("the dashboard is JSON")
}

fn list<'a>(of: &'a Value, key: &str) -> &'a [Value] {
    of[key].as_array().unwrap_or_else(|| panic!("{key} is a list in {of}"))
}

fn text<'a>(of: &'a Value, key: &str) -> &'a str {
    of[key].as_str().unwrap_or_default()
}

/// Every query with where it stands; of a variable's, the part that names a metric.
fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let mut queries = Vec::new();
    for panel in list(dashboard, "panels").iter().filter(|panel| panel["type"] != "row") {
        for target in list(panel, "targets") {
            queries.push((text(panel, "title").to_owned(), text(target, "expr").to_owned()));
        }
    }
    for variable in list(&dashboard["templating"], "list").iter().filter(|variable| variable["type"] == "query") {
        let query = text(&variable["query"], "query");
        let inside = query.strip_prefix("label_values(").and_then(|q| q.rsplit_once(','));
        let (metric, _) = inside.unwrap_or_else(|| panic!("label_values(metric, label), not {query}"));
        assert_eq!(text(variable, "definition"), query, "is shown as it is asked");
        queries.push((text(variable, "name").to_owned(), metric.to_owned()));
    }
    queries
}

#[test]
fn queries_ask_for_metrics_that_are_exported() {
    let (families, recorded) = (Families::exported(), recorded(&rules::rules(&read(ALERTS))));
    let queries = queries(&dashboard());
    assert!(queries.len() > 80, "the queries are read: {}", queries.len());
    let mut wrong = Vec::new();
    for (place, query) in queries {
        let names = promql::names(&query);
        if names.selectors.is_empty() {
            wrong.push(format!("{place}: asks for nothing: {query}"));
        }
        wrong.extend(families.faults(&names, &recorded).into_iter().map(|fault| format!("{place}: {fault}")));
    }
    assert_none(&wrong, "a panel over a metric that nobody writes stays empty");
    for annotation in list(&dashboard()["annotations"], "list") {
        assert_eq!(promql::names(text(annotation, "expr")).selectors[0].metric, ALERTING);
    }
}

#[test]
fn what_is_chosen_above_holds_for_every_panel() {
    let mut wrong = Vec::new();
    for (place, query) in queries(&dashboard()) {
        for selector in promql::names(&query).selectors {
            // Recorded over all, and the variables themselves.
            let whole = selector.metric.contains(':') || selector.metric == "riskfleet_build_info";
            if !whole && !["job", "instance"].iter().all(|label| selector.labels.iter().any(|l| l == label)) {
                wrong.push(format!("{place}: {}", selector.metric));
            }
        }
        if query.contains("rate(") && !query.contains("[$__rate_interval]") {
            wrong.push(format!("{place}: a rate over a fixed time misses samples where scrapes are rare"));
        }
    }
    assert_none(&wrong, "job and instance select what is shown");
}

#[test]
fn every_panel_says_what_it_shows() {
    let dashboard = dashboard();
    let mut ids = BTreeSet::new();
    for panel in list(&dashboard, "panels") {
        let title = text(panel, "title");
        assert!(!title.is_empty() && ids.insert(panel["id"].as_u64().expect("an id")), "{title} has an id of its own");
        if panel["type"] == "row" {
            continue;
        }
        assert!(text(panel, "description").ends_with('.'), "{title} has a description, in sentences");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title} asks the chosen Prometheus");
        let drawn = &panel["options"]["yAxis"]["unit"];
        let unit = panel["fieldConfig"]["defaults"]["unit"].as_str().or(drawn.as_str());
        assert!(unit.is_some() || panel["type"] == "table", "{title} has a unit");
        let mut refs = BTreeSet::new();
        for target in list(panel, "targets") {
            assert!(refs.insert(text(target, "refId")), "{title}: a query has a name of its own");
            assert!(panel["type"] == "table" || !text(target, "legendFormat").is_empty(), "{title} has a legend");
        }
    }
    let rows: Vec<&str> =
        list(&dashboard, "panels").iter().filter(|p| p["type"] == "row").map(|p| text(p, "title")).collect();
    let wanted = [
        "Overview",
        "Tenants",
        "Stages and commits",
        "Broker",
        "Dependencies",
        "Approvals and audit",
        "Cost",
        "Processes",
    ];
    assert_eq!(rows, wanted);
}

#[test]
fn no_panel_lies_over_another() {
    let dashboard = dashboard();
    let mut taken = BTreeSet::new();
    for panel in list(&dashboard, "panels") {
        let at = |key: &str| panel["gridPos"][key].as_u64().expect("a place");
        let (x, y, title) = (at("x"), at("y"), text(panel, "title"));
        assert!(at("w") > 0 && at("h") > 0 && x + at("w") <= COLUMNS, "{title} is on the page");
        for cell in (y..y + at("h")).flat_map(|y| (x..x + at("w")).map(move |x| (x, y))) {
            assert!(taken.insert(cell), "{title} lies over another at {cell:?}");
        }
    }
}
