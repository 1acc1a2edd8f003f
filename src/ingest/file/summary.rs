//! Owns the sum of an import, and how it is said.

use serde::Serialize;
use std::io::{self, Write};
use std::path::PathBuf;

use super::report::Rejection;

/// How many refused lines are listed; all of them are in the report.
const LISTED_MAX: usize = 20;

/// What became of a file's lines, those of earlier runs included:
/// `read` = `accepted` + `replayed` + `conflicts` + `refused`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Lines that have their answer; blank ones and one that is cut off do not count.
    pub read: u64,
    /// Stored.
    pub accepted: u64,
    /// Stored before, with the same payload.
    pub replayed: u64,
    /// Not taken: their keys were used before with another payload.
    pub conflicts: u64,
    /// Not taken: no events.
    pub refused: u64,
    /// The last line, when the file ends in the middle of it.
    pub cut: Option<u64>,
    /// The line behind which this run went on; 0 for a run from the beginning.
    pub resumed_behind: u64,
    /// The first lines of this run that were not taken.
    pub rejections: Vec<Rejection>,
    /// Where all of them are.
    pub rejected_file: Option<PathBuf>,
    /// The last line that was answered.
    #[serde(skip)]
    pub(super) line: u64,
}

impl Summary {
    /// Whether every line was taken, now or before.
    pub fn is_whole(&self) -> bool {
        self.conflicts == 0 && self.refused == 0 && self.cut.is_none()
    }

    pub(super) fn taken(&self) -> u64 {
        self.accepted + self.replayed
    }

    pub(super) fn list(&mut self, rejections: Vec<Rejection>) {
        let room = LISTED_MAX - self.rejections.len();
        self.rejections.extend(rejections.into_iter().take(room));
    }

    /// Says it to people.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.resumed_behind > 0 {
            writeln!(out, "went on behind line {}; all runs together:", self.resumed_behind)?;
        }
        let Self { read, accepted, replayed, conflicts, refused, .. } = self;
        writeln!(
            out,
            "read {read}: {accepted} accepted, {replayed} replayed, {conflicts} in conflict, {refused} refused"
        )?;
        for rejection in &self.rejections {
            // The reasons quote the file: a control character in it must not steer a terminal.
            let safe: String =
                rejection.to_string().chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
            writeln!(out, "  {safe}")?;
        }
        if let Some(path) = &self.rejected_file {
            writeln!(out, "every line that was not taken, with its reason: {}", path.display())?;
        }
        if let Some(line) = self.cut {
            writeln!(
                out,
                "line {line} is cut off: the file ends in the middle of it; every line before it has its answer. \
                 Complete the file and run this again: it goes on there"
            )?;
        }
        Ok(())
    }
}
