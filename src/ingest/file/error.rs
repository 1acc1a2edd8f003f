//! Owns why an import could not begin or broke off, and what to do next.

use std::{io, path::PathBuf};

use crate::ports::intake::IntakeError;

/// Why it stopped; completes "failed to …".
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file can't be read.
    #[error("read {path}: {why}")]
    Input {
        /// Which.
        path: PathBuf,
        /// Why not.
        why: io::Error,
    },
    /// A pipe or device was named as a file.
    #[error("read {0} twice, to hash it first: it is no regular file")]
    NotRegular(PathBuf),
    /// There was nothing to import.
    #[error("find a line to import: it is empty")]
    Empty,
    /// The options do not go together.
    #[error("use the options: {0}")]
    Options(String),
    /// The progress file is there and can't be used.
    #[error("go on after {path}: {why}")]
    Progress {
        /// Which.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The progress or report file can't be written.
    #[error("write {path}: {why}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why not.
        why: io::Error,
    },
    /// The door stayed shut.
    #[error("{why}; every line up to {behind} has its answer")]
    Intake {
        /// The last line whose answer, and that of all before it, is known.
        behind: u64,
        /// What the door said last.
        why: IntakeError,
    },
}

impl ImportError {
    /// What the operator does next.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Input { .. } => "check its name and that you may read it",
            Self::NotRegular(_) => "pipe it in: `riskfleet-ingest file - < PIPE`, with keys or --key-prefix",
            Self::Empty => "check that it is the file that you meant",
            Self::Options(_) => "see `riskfleet-ingest file --help`",
            Self::Progress { .. } => {
                "name another with --progress; or delete it to begin at the first line: what was taken before is known \
                 by its key, lines without a key of their own as long as the file is the same"
            }
            Self::Write { .. } => "check the folder, or name another place with --progress or --rejected",
            Self::Intake { .. } => {
                "run it again when the fleet takes events: it goes on there, and takes nothing twice"
            }
        }
    }
}
