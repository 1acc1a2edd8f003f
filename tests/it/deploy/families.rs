//! Owns what the processes export: families, their kinds and their labels, as a scrape shows them and as
//! `telemetry::names` says. Never reads a query.

use riskfleet::telemetry::{Prometheus, Role};
use std::collections::{BTreeMap, BTreeSet};

use super::promql::{Names, Selector};
use super::read;

/// What every scrape adds to every series.
const OF_THE_TARGET: [&str; 2] = ["job", "instance"];

/// A family of metrics.
#[derive(Debug, Default)]
struct Family {
    histogram: bool,
    labels: BTreeSet<String>,
}

/// Everything that a scrape shows.
pub(super) struct Families(BTreeMap<String, Family>);

impl Families {
    /// Of all roles together.
    pub(super) fn exported() -> Self {
        let text = Prometheus::install(Role::All).expect("the one recorder of this process").render(true);
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        for line in text.lines() {
            if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) {
                families.entry(name.to_owned()).or_default().histogram = kind == "histogram";
            }
        }
        let mut exported = Self(families);
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let names = super::promql::names(line.rsplit_once(' ').map_or(line, |(series, _)| series));
            for selector in names.selectors {
                let name = exported.name_of(&selector.metric).unwrap_or_default().to_owned();
                exported.note(&name, selector.labels);
            }
        }
        for (name, labels) in documented() {
            exported.note(&name, labels);
        }
        exported
    }

    /// Labels of a family that is there; of another they are nobody's.
    fn note(&mut self, name: &str, labels: Vec<String>) {
        if let Some(family) = self.0.get_mut(name) {
            family.labels.extend(labels);
        }
    }

    /// The family of a series' name: a histogram's series have endings, everything else has none.
    fn name_of<'a>(&self, metric: &'a str) -> Option<&'a str> {
        let ended = ["_bucket", "_sum", "_count"].into_iter().find_map(|end| metric.strip_suffix(end));
        match ended.filter(|name| self.0.get(*name).is_some_and(|family| family.histogram)) {
            Some(name) => Some(name),
            None => self.0.get(metric).is_some_and(|family| !family.histogram).then_some(metric),
        }
    }

    /// What is wrong with the names of a query, given what is recorded beside what is exported.
    pub(super) fn faults(&self, names: &Names, recorded: &[String]) -> Vec<String> {
        let mut faults = Vec::new();
        let mut known: BTreeSet<&str> = OF_THE_TARGET.into();
        for Selector { metric, labels } in &names.selectors {
            if recorded.contains(metric) {
                faults.extend(labels.iter().map(|label| format!("{metric} has no label {label}")));
                continue;
            }
            let Some(family) = self.name_of(metric).and_then(|name| self.0.get(name)) else {
                faults.push(format!("no process exports {metric:?}"));
                continue;
            };
            let has = |label: &str| {
                OF_THE_TARGET.contains(&label)
                    || family.labels.contains(label) && (label != "le" || metric.ends_with("_bucket"))
            };
            faults.extend(labels.iter().filter(|l| !has(l)).map(|label| format!("{metric} has no label {label}")));
            known.extend(family.labels.iter().map(String::as_str).filter(|label| has(label)));
        }
        // Of a query that is wrong anyway, one fault is enough.
        if faults.is_empty() {
            let unknown = names.grouped.iter().filter(|label| !known.contains(label.as_str()));
            faults.extend(unknown.map(|label| format!("nothing that is grouped has a label {label}")));
        }
        faults
    }
}

/// The labels that `telemetry::names` tells of each family: those that a caller's values fill show no
/// sample before there is one.
fn documented() -> Vec<(String, Vec<String>)> {
    let (mut said, mut families) = (String::new(), Vec::new());
    for line in read("src/telemetry/names.rs").lines().map(str::trim) {
        if let Some(doc) = line.strip_prefix("/// ") {
            said.push_str(doc);
        } else if let Some(name) = line.split('"').nth(1).filter(|_| line.starts_with("pub const ")) {
            let head = said.split(':').next().unwrap_or_default();
            // Every second part stands between backticks; in brackets it is a link and no label.
            let parts: Vec<&str> = head.split('`').collect();
            let labels = parts.chunks(2).filter(|pair| pair.len() == 2 && !pair[0].ends_with('['));
            families.push((name.to_owned(), labels.map(|pair| pair[1].to_owned()).collect()));
            said.clear();
        } else {
            said.clear();
        }
    }
    families
}
