//! Owns the metrics of the process itself, by the names that Prometheus' client libraries give them.
//! Shows nothing that the system does not say.

use std::fmt::Write as _;
use std::time::Duration;

use super::names;
use crate::lifecycle::process;

/// The families, as Prometheus reads them, with what they are now.
pub(super) fn render() -> String {
    let mut text = String::new();
    // Writing to a text never fails.
    _ = write(&mut text);
    text
}

fn write(text: &mut String) -> std::fmt::Result {
    let (usage, files, began) = (process::usage(), process::open_files(), process::began());
    let cpu = usage.map(|usage| usage.cpu.as_secs_f64());
    family(text, (names::PROCESS_CPU_SECONDS, "counter", "Use of the processor by this process, in seconds."), cpu)?;
    let resident = usage.map(|usage| usage.resident_bytes as f64);
    family(text, (names::PROCESS_RESIDENT_BYTES, "gauge", "Resident memory of this process, in bytes."), resident)?;
    let files = files.map(|files| files as f64);
    family(text, (names::PROCESS_OPEN_FDS, "gauge", "Files, sockets and pipes held open by this process."), files)?;
    let began = began.map(|since: Duration| since.as_secs_f64());
    family(text, (names::PROCESS_START_SECONDS, "gauge", "When this process began, in seconds since 1970."), began)
}

fn family(text: &mut String, (name, kind, help): (&str, &str, &str), value: Option<f64>) -> std::fmt::Result {
    let Some(value) = value else { return Ok(()) };
    write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n")
}
