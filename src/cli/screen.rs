//! Owns where a command's output goes, and what may be done to it: colour, progress, JSON.
//!
//! Never lets a control character of somebody's data reach a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::io::{self, IsTerminal, Write};

use super::error::{CliError, Exit};

/// Standard output and standard error of a command.
pub struct Screen<'a> {
    /// What was asked for.
    pub out: &'a mut (dyn Write + Send),
    /// What went wrong, and advice.
    pub err: &'a mut (dyn Write + Send),
    /// Whether `out` may be coloured and redrawn.
    pub colour: bool,
    /// Whether standard error is a terminal, so that progress is seen.
    pub progress: bool,
}

impl<'a> Screen<'a> {
    /// A screen without colour and progress: files, pipes, tests.
    pub fn plain(out: &'a mut (dyn Write + Send), err: &'a mut (dyn Write + Send)) -> Self {
        Self { out, err, colour: false, progress: false }
    }

    /// A screen that shows what this process's terminals can. `NO_COLOR` (no-color.org), when set
    /// and not empty, is kept.
    pub fn detected(out: &'a mut (dyn Write + Send), err: &'a mut (dyn Write + Send)) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        let (colour, progress) = (wanted && io::stdout().is_terminal(), io::stderr().is_terminal());
        Self { out, err, colour, progress }
    }

    /// Writes one JSON document, indented for reading.
    pub(super) fn json(&mut self, document: &impl Serialize) -> Result<(), CliError> {
        serde_json::to_writer_pretty(&mut *self.out, document).map_err(io::Error::from)?;
        Ok(writeln!(self.out)?)
    }

    /// The text in a colour, where the screen has colour.
    pub(super) fn paint(&self, ink: Ink, text: &str) -> String {
        if self.colour { format!("\x1b[{}m{text}\x1b[0m", ink as u8) } else { text.to_owned() }
    }

    /// A bar for `length` units, or a count without an end; hidden where nobody would see it.
    pub(super) fn bar(&self, length: Option<u64>, unit: &str) -> ProgressBar {
        let target = if self.progress { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(length, target);
        let shape = match length {
            Some(_) => format!("{{bar:30}} {{human_pos}}/{{human_len}} {unit}  {{per_sec}}  {{eta}} left"),
            None => format!("{{spinner}} {{human_pos}} {unit}  {{per_sec}}"),
        };
        bar.set_style(ProgressStyle::with_template(&shape).unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar
    }

    /// Says what failed and what to do next, and gives the exit code.
    pub fn conclude(&mut self, done: Result<Exit, CliError>) -> Exit {
        // The exit code says it where even this can't be written.
        let flushed = self.out.flush().map_err(CliError::from);
        let error = match done.and_then(|exit| flushed.map(|()| exit)) {
            Ok(exit) => return exit,
            Err(error) => error,
        };
        let exit = error.exit();
        if exit != Exit::Done {
            let begin = if exit == Exit::Misused { "" } else { "failed to " };
            let _ = writeln!(self.err, "{begin}{}\n  next: {}", clean(&error.to_string()), error.advice());
        }
        exit
    }
}

/// A colour, by its ANSI number (ECMA-48, SGR).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ink {
    Bold = 1,
    Red = 31,
    Green = 32,
    Yellow = 33,
}

/// `text` without control characters: an event's own text must not steer a terminal.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::StoreError;

    #[test]
    fn an_error_says_what_failed_and_what_to_do_and_steers_no_terminal() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let error = StoreError::Away("connection refused\x1b[2J".into());
        let exit = Screen::plain(&mut out, &mut err).conclude(Err(error.into()));
        let text = String::from_utf8(err).expect("text");
        assert_eq!(exit, Exit::Failed);
        assert!(
            text.starts_with("failed to reach the store: connection refused\u{fffd}[2J\n  next: check that"),
            "{text}"
        );
    }

    #[test]
    fn a_closed_pipe_is_no_failure_and_says_nothing() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let closed = io::Error::from(io::ErrorKind::BrokenPipe);
        assert_eq!(Screen::plain(&mut out, &mut err).conclude(Err(closed.into())), Exit::Done);
        assert!(err.is_empty());
    }
}
