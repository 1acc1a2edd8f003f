//! Owns the log of a process: one line an event, on stderr, for people or as JSON.

use std::io::{IsTerminal, stderr};
use tracing_subscriber::EnvFilter;

use super::lines::OneLine;
use crate::config::LogFormat;

/// Why there is no log; completes "failed to …".
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is none.
    #[error("read the log filter: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// There is a log already.
    #[error("start the log: {0}")]
    Twice(#[from] Box<dyn std::error::Error + Send + Sync>),
}

/// Starts the log. `filter` is a level, or several as `info,target=level`. Colours only where a
/// person reads: on a terminal, and not with `NO_COLOR` set (no-color.org).
///
/// # Errors
/// When the filter can't be read, or the process has a log already.
pub fn init_logs(format: LogFormat, filter: &str) -> Result<(), LogError> {
    // lapin tells of every channel that a question about a queue has closed, as an error; what
    // matters of it is told where it is handled.
    let quiet = if filter.contains("lapin") { "" } else { "lapin=off," };
    let filter = EnvFilter::builder().parse(format!("{quiet}{filter}"))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter);
    match format {
        LogFormat::Human => {
            let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
            let colours = stderr().is_terminal() && !plain;
            log.with_ansi(colours).with_writer(OneLine::new(stderr, colours)).try_init()?;
        }
        // JSON escapes by itself.
        LogFormat::Json => log.with_writer(stderr).json().flatten_event(true).with_span_list(false).try_init()?,
    }
    Ok(())
}
