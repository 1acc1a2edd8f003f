//! Why a program could not start or go on.

use std::io;

use crate::config::SettingsError;
use crate::governance::NotaryError;
use crate::ingest::file::ImportError;
use crate::ports::StoreError;
use crate::worker::WorkerError;

/// Completes "failed to …"; shown to the operator as one line.
#[derive(Debug, thiserror::Error)]
pub enum WiringError {
    /// A setting is wrong or missing.
    #[error("read the settings: {0}")]
    Settings(#[from] SettingsError),
    /// The store can't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The worker has failed.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// An import has failed.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The audit can't be signed.
    #[error(transparent)]
    Notary(#[from] NotaryError),
    /// An address can't be used.
    #[error("{0}")]
    Address(String),
    /// What was asked for can't be; says so by itself.
    #[error("{0}")]
    Misuse(String),
    /// The operating system refused something.
    #[error("{what}: {why}")]
    Io {
        /// What was tried.
        what: String,
        /// What it said.
        why: io::Error,
    },
}

impl WiringError {
    /// An error of the operating system.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |why| Self::Io { what, why }
    }
}
