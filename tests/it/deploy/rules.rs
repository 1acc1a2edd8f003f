//! Owns the reading of Prometheus rules and of their test cases, in the one form that these files have:
//! a key a line, `expr` in the line or folded (`>-`) below it. Never judges them.

use std::collections::BTreeMap;

/// A rule.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rule {
    /// Of the alert, or the name that it records.
    pub(super) name: String,
    /// Whether it raises an alert.
    pub(super) alert: bool,
    /// The query, on one line.
    pub(super) expr: String,
}

/// How often each alert is tested.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cases {
    /// Cases in which it is raised.
    pub(super) raised: usize,
    /// Cases in which it is not.
    pub(super) silent: usize,
}

/// The rules of a file, in their order.
pub(super) fn rules(text: &str) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    let mut lines = text.lines().filter(|line| !line.trim_start().starts_with('#')).peekable();
    while let Some(line) = lines.next() {
        let key = line.trim_start().trim_start_matches("- ");
        let indent = line.len() - key.len();
        if let Some(name) = key.strip_prefix("alert: ").or_else(|| key.strip_prefix("record: ")) {
            rules.push(Rule { name: name.to_owned(), alert: key.starts_with("alert"), expr: String::new() });
        } else if let Some(expr) = key.strip_prefix("expr: ") {
            let mut expr = if expr == ">-" { String::new() } else { expr.to_owned() };
            while let Some(more) = lines.next_if(|l| l.len() - l.trim_start().len() > indent) {
                expr = format!("{expr} {}", more.trim());
            }
            let rule = rules.last_mut().expect("an expression belongs to a rule");
            assert!(rule.expr.is_empty(), "{} has one expression", rule.name);
            expr.trim().clone_into(&mut rule.expr);
        }
    }
    rules
}

/// The cases of a file of tests, by alert.
pub(super) fn cases(text: &str) -> BTreeMap<String, Cases> {
    let mut cases: BTreeMap<String, Cases> = BTreeMap::new();
    for item in text.split("\n      - ") {
        let Some((_, named)) = item.split_once("alertname: ") else { continue };
        let name = named.split([',', '\n', ' ']).next().unwrap_or_default();
        let counted = cases.entry(name.to_owned()).or_default();
        match item.contains("exp_alerts: []") {
            true => counted.silent += 1,
            false => counted.raised += 1,
        }
    }
    let read: usize = cases.values().map(|c| c.raised + c.silent).sum();
    assert_eq!(read, text.matches("alertname: ").count(), "every case is read");
    cases
}

#[test]
fn rules_and_cases_are_read_in_each_of_their_forms() {
    let text = "\
groups:
  - name: g
    rules:
      # - alert: None
      - record: a:b
        expr: sum(c)
      - alert: D
        # why
        expr: >-
          e > 1
          and f
        for: 1m
";
    let rule = |name: &str, alert, expr: &str| Rule { name: name.into(), alert, expr: expr.into() };
    assert_eq!(rules(text), [rule("a:b", false, "sum(c)"), rule("D", true, "e > 1 and f")]);
    let text = "\
    alert_rule_test:
      - { eval_time: 1m, alertname: D, exp_alerts: [] }
      - eval_time: 2m
        alertname: D
        exp_alerts:
          - exp_labels: { severity: critical }
";
    assert_eq!(cases(text)["D"], Cases { raised: 1, silent: 1 });
}
