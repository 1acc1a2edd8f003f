//! Owns the tables that a run prints at its end. Never judges.

use std::fmt::Write;
use std::time::Duration;

use crate::checker::Verdict;

/// What came of one fault.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) fault: &'static str,
    pub(crate) verdict: Verdict,
    /// From the fault to the moment when others had taken over.
    pub(crate) takeover: Option<Duration>,
    /// From the end of the load to the last decision, to the last settled outbox row, and until the
    /// last outcome was heard.
    pub(crate) quiet: [Duration; 3],
    pub(crate) peak_ingest: u64,
    pub(crate) peak_worker: u64,
    /// What is particular about it, in a few words.
    pub(crate) note: String,
    pub(crate) took: Duration,
}

/// What came of one mutant.
#[derive(Debug)]
pub(crate) struct Caught {
    pub(crate) mutant: &'static str,
    pub(crate) by: &'static str,
    /// What the checker said; none when it said that all was well.
    pub(crate) said: Option<String>,
}

/// Lines of columns, each as wide as its widest cell.
fn columns(rows: &[Vec<String>]) -> String {
    let width =
        |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows.iter().map(Vec::len).max().unwrap_or(0)).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        // Writing to a text does not fail.
        let _ = writeln!(text, "{}", cells.join(" | ").trim_end());
    }
    text
}

fn cells<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

fn megabytes(bytes: u64) -> String {
    (bytes / (1024 * 1024)).to_string()
}

fn seconds(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64())
}

/// The table of faults.
pub(crate) fn faults(rows: &[Row]) -> String {
    let mut lines = vec![cells([
        "fault",
        "events",
        "acknowledged",
        "lost",
        "duplicated",
        "leaked",
        "takeover s",
        "recovered",
        "unexpected",
        "unheard",
        "decided/settled/heard s",
        "MB ingest",
        "MB worker",
        "took s",
        "note",
    ])];
    for row in rows {
        let v = &row.verdict;
        let mut line = vec![row.fault.to_owned()];
        line.extend([v.attempted, v.acknowledged, v.lost, v.duplicated, v.leaked].map(|n| n.to_string()));
        line.push(row.takeover.map_or("-".into(), seconds));
        line.extend([v.recovered, v.unexpected, v.unheard].map(|n| n.to_string()));
        let quiet = row.quiet.map(seconds).join("/");
        line.extend([quiet, megabytes(row.peak_ingest), megabytes(row.peak_worker), seconds(row.took)]);
        line.push(row.note.clone());
        lines.push(line);
    }
    columns(&lines)
}

/// The table of mutants.
pub(crate) fn mutants(all: &[Caught]) -> String {
    let mut lines = vec![cells(["mutant", "caught by", "what was said"])];
    for one in all {
        let said: String = one.said.as_deref().unwrap_or("NOT CAUGHT").replace('\n', " ").chars().take(160).collect();
        lines.push(cells([one.mutant, one.by, &said]));
    }
    columns(&lines)
}
