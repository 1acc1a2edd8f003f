//! Owns what is told at the end of a run: tables for people, one JSON document for programs.

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

use crate::Options;
use crate::fleet::Drained;
use crate::machine::Usage;
use crate::pace::Sent;

/// A finished run.
pub(crate) struct Report {
    pub(crate) options: Options,
    pub(crate) sent: Sent,
    pub(crate) drained: Drained,
    pub(crate) usage: Vec<Usage>,
}

const QUANTILES: [(&str, f64); 5] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];

fn rounded(value: f64, decimals: i32) -> Value {
    let scale = 10_f64.powi(decimals);
    // JSON has no NaN: nothing measured is null.
    if value.is_finite() { json!((value * scale).round() / scale) } else { Value::Null }
}

impl Report {
    /// Events accepted or stored that have no decision.
    pub(crate) fn lost(&self) -> u64 {
        self.sent.accepted.max(self.drained.stored).saturating_sub(self.drained.decided)
    }

    fn accepted_per_s(&self) -> f64 {
        self.sent.accepted as f64 / self.sent.seconds
    }

    fn decided_per_s(&self) -> f64 {
        self.drained.decided as f64 / self.drained.seconds
    }

    fn latency_ms(&self, quantile: f64) -> f64 {
        self.sent.latency_us.value_at_quantile(quantile) as f64 / 1000.0
    }

    fn cpu_per_1000(&self, usage: &Usage) -> f64 {
        usage.cpu_s * 1000.0 / self.drained.decided as f64
    }

    /// The document.
    pub(crate) fn json(&self) -> Value {
        let (o, s, d) = (&self.options, &self.sent, &self.drained);
        let latency: serde_json::Map<String, Value> =
            QUANTILES.iter().map(|(name, q)| ((*name).into(), rounded(self.latency_ms(*q), 3))).collect();
        let processes: Vec<Value> = self
            .usage
            .iter()
            .map(|u| {
                json!({"name": u.name, "cpu_s": rounded(u.cpu_s, 2), "cpu_s_per_1000_events": rounded(self.cpu_per_1000(u), 4),
                       "memory_peak_mib": rounded(u.memory_peak as f64 / 1_048_576.0, 1)})
            })
            .collect();
        json!({
            "load": {"rate": o.rate, "seconds": o.seconds, "batch": o.batch, "tenants": o.tenants, "workers": o.workers,
                     "ingests": o.ingests, "in_flight": o.in_flight, "cores": cores()},
            "events": {"due": s.due, "not_sent": s.not_sent, "accepted": s.accepted, "refused": s.refused,
                       "failed": s.failed, "stored": d.stored, "decided": d.decided, "lost": self.lost()},
            "accepted_per_s": rounded(self.accepted_per_s(), 0),
            "decided_per_s": rounded(self.decided_per_s(), 0),
            "request_ms": latency,
            "accept_to_decision_ms": {"p50": rounded(d.accept_to_decision.p50 * 1000.0, 2),
                                      "p99": rounded(d.accept_to_decision.p99 * 1000.0, 2)},
            "events_per_accept": rounded(d.accept_batch, 1),
            "events_per_commit": rounded(d.commit_batch, 1),
            "processes": processes,
            "first_failure": s.example,
        })
    }

    /// The tables.
    pub(crate) fn tables(&self) -> String {
        let (s, d) = (&self.sent, &self.drained);
        let rows = [
            ("due", s.due.to_string()),
            ("not sent (too many under way)", s.not_sent.to_string()),
            ("accepted", s.accepted.to_string()),
            ("refused (no room)", s.refused.to_string()),
            ("failed", s.failed.to_string()),
            ("decided", d.decided.to_string()),
            ("lost", self.lost().to_string()),
            ("accepted/s", format!("{:.0}", self.accepted_per_s())),
            ("decided/s, first accept to last decision", format!("{:.0}", self.decided_per_s())),
            ("events an accept, a commit", format!("{:.1}, {:.1}", d.accept_batch, d.commit_batch)),
        ];
        let mut events = table(&["events", ""]);
        events.add_rows(rows.map(|(name, value)| [name.to_owned(), value]));
        let mut latency = table(&["latency, ms", "p50", "p90", "p99", "p99.9", "max"]);
        let mut row = vec!["request, due to answered".to_owned()];
        row.extend(QUANTILES.iter().map(|(_, q)| format!("{:.2}", self.latency_ms(*q))));
        latency.add_row(row);
        let a2d = d.accept_to_decision;
        let ms = |seconds: f64| format!("{:.2}", seconds * 1000.0);
        latency.add_row(["accept to decision".to_owned(), ms(a2d.p50), String::new(), ms(a2d.p99)]);
        let mut processes = table(&["process", "CPU s", "CPU s per 1,000 events", "memory peak, MiB"]);
        for u in &self.usage {
            let memory = format!("{:.1}", u.memory_peak as f64 / 1_048_576.0);
            processes.add_row([
                u.name.clone(),
                format!("{:.2}", u.cpu_s),
                format!("{:.4}", self.cpu_per_1000(u)),
                memory,
            ]);
        }
        let example = s.example.as_ref().map(|e| format!("first failure: {e}\n")).unwrap_or_default();
        format!("{events}\n\n{latency}\n\n{processes}\n{example}")
    }
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header(header.iter().copied());
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
