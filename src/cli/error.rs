//! Owns how a command fails: the words, what to do next, and the exit code.

use std::io;

use chrono::{DateTime, Utc};

use crate::domain::retention::Day;
use crate::domain::version::Artifact;
use crate::domain::{EventId, TenantId};
use crate::ports::StoreError;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done, and all is well.
    Done,
    /// 1: it failed, or what it looked for is not well.
    Failed,
    /// 2: it was not asked in a way that it understands.
    Misused,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Done => Self::SUCCESS,
            Exit::Failed => Self::FAILURE,
            Exit::Misused => Self::from(2),
        }
    }
}

impl Exit {
    /// Done when all is well, failed when not.
    pub fn when(well: bool) -> Self {
        if well { Self::Done } else { Self::Failed }
    }
}

/// Why a command did not do it; completes "failed to …".
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The store did not answer, or refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The output could not be written.
    #[error("write the output: {0}")]
    Output(#[from] io::Error),
    /// The event is not in the store.
    #[error("find event {0}: it is not stored")]
    NotStored(EventId),
    /// The event's day was dropped.
    #[error("find event {event}: it expired; every event of {day} is gone since {}", crate::domain::time::text(*.at))]
    Expired {
        /// Which event.
        event: EventId,
        /// Its day.
        day: Day,
        /// When the day was dropped.
        at: DateTime<Utc>,
    },
    /// The key that would open it was destroyed.
    #[error("read event {0}: erased; its subject's or its tenant's key was destroyed")]
    Erased(EventId),
    /// Nothing is known of the tenant.
    #[error("find tenant {0}: nothing is set of it, and it has no audit chain")]
    NoTenant(TenantId),
    /// There is no such version.
    #[error("find {artifact} {version}: the tenant has none of this name and number")]
    NoVersion {
        /// Of what.
        artifact: Artifact,
        /// Which.
        version: String,
    },
    /// The event has no decision that could be replayed.
    #[error("replay event {0}: it has no decision")]
    NotDecided(EventId),
    /// The event was never a dead letter.
    #[error("show event {0} as a dead letter: it has never been one")]
    NeverDead(EventId),
    /// No person was asked about the event.
    #[error("show the approval request about event {0}: there is none")]
    NotEscalated(EventId),
    /// What is stored is not what this program writes.
    #[error("read the stored {what} of event {event}: {why}")]
    Unreadable {
        /// `event` or `decision`.
        what: &'static str,
        /// Which event.
        event: EventId,
        /// What the reader met.
        why: serde_json::Error,
    },
    /// The file to send can't be read or is not what is sent.
    #[error("read {file}: {why}")]
    Input {
        /// Its name.
        file: String,
        /// What is wrong with it.
        why: String,
        /// What to do.
        advice: &'static str,
    },
    /// The API did not take the request as a whole.
    #[error("ask {url}: {why}")]
    Api {
        /// Where to.
        url: String,
        /// What it answered, or why it did not.
        why: String,
        /// What to do.
        advice: &'static str,
    },
    /// The command was asked wrongly in a way that only shows when it runs.
    #[error("{0}")]
    Misuse(String),
}

impl CliError {
    /// What the operator does next.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Store(StoreError::Away(_) | StoreError::Open { .. }) => {
                "check that the database runs, and --database-url (RISKFLEET_DATABASE_URL) or --data"
            }
            Self::Store(StoreError::Misfit(_)) => {
                "run `riskfleet migrate` with this version, or name the right fleet with --namespace or --data"
            }
            Self::Store(StoreError::ClockSkew(_) | StoreError::Refused(_) | StoreError::Fault(_)) => {
                "what is stored is not lost; report this line with the version of `riskfleet --version`"
            }
            Self::Output(_) => "check the disk or pipe that the output goes to",
            Self::NotStored(_) => {
                "it was never accepted under this id in this fleet: look at the id in the answer of the accept, and at \
                 --data, --database-url and --namespace; an event sent again under its idempotency key gives its id"
            }
            Self::Expired { .. } => {
                "its retention was over: `riskfleet audit list` still has its records, and \
                 `riskfleet tenants sweep --dry-run` says what is kept how long"
            }
            Self::Erased(_) => "nobody can read it any more; `riskfleet audit verify` still proves that it was decided",
            Self::NoVersion { .. } => "see `riskfleet models list --tenant TENANT`, or `prompts list`",
            Self::NoTenant(_) => "see `riskfleet tenants list`",
            Self::NotDecided(_) | Self::NeverDead(_) | Self::NotEscalated(_) => {
                "see `riskfleet explain EVENT` for where it stands"
            }
            Self::Unreadable { .. } => "run `riskfleet audit verify`: it says whether what is stored was changed",
            Self::Input { advice, .. } | Self::Api { advice, .. } => advice,
            Self::Misuse(_) => "see `riskfleet --help`",
        }
    }

    /// With which code the program ends.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Misuse(_) => Exit::Misused,
            // Whoever closed the pipe has seen enough: `riskfleet events list | head -1` is no failure.
            Self::Output(e) if e.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
            _ => Exit::Failed,
        }
    }
}
