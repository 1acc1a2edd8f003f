//! Owns the report of refused lines: which, why, and at which field. Never their text: the file
//! itself is at hand, and copies of it may hold personal data.

use serde::Serialize;
use std::fmt;
use std::path::{Path, PathBuf};
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

use super::progress::Keeper;
use super::{ImportError, ImportOptions, Input};
use crate::domain::{EventId, IdempotencyKey, Invalid, Violation};

/// A line that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rejection {
    /// Its number, from 1.
    pub line: u64,
    /// Why, in words.
    pub reason: String,
    /// Which fields are wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Violation>,
}

impl Rejection {
    pub(super) fn plain(line: u64, reason: String) -> Self {
        Self { line, reason, errors: Vec::new() }
    }

    pub(super) fn invalid(line: u64, invalid: Invalid) -> Self {
        let reason = invalid.to_string();
        let errors = match invalid {
            Invalid::Fields(errors) => errors,
            Invalid::Broken(_) | Invalid::TenantMismatch { .. } | Invalid::TenantMissing | Invalid::KeyMissing(_) => {
                Vec::new()
            }
        };
        Self { line, reason, errors }
    }

    pub(super) fn conflict(line: u64, key: &IdempotencyKey, event: EventId) -> Self {
        let reason = format!("conflict: the key {key:?} was used before, with another payload, by event {event}");
        Self::plain(line, reason)
    }

    pub(super) fn erased(line: u64, key: &IdempotencyKey) -> Self {
        Self::plain(line, format!("erased: the subject of the event with the key {key:?}, or its tenant, is erased"))
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

/// The report file. It is made with the first refused line.
pub(super) struct Report {
    path: Option<PathBuf>,
    file: Option<File>,
    bytes: u64,
}

impl Report {
    /// Takes the report up where the progress file left it: what was written behind that belongs
    /// to lines that are read again.
    pub(super) async fn open(options: &ImportOptions, keeper: Option<&Keeper>) -> Result<Self, ImportError> {
        let path = match (&options.rejected_file, &options.input) {
            (Some(path), _) => Some(path.clone()),
            (None, Input::File(path)) => Some(beside(path, "rejected.ndjson")),
            (None, Input::Piped(_)) => None,
        };
        let mut report = Self { path, file: None, bytes: 0 };
        if let Some(path) = &report.path
            && tokio::fs::try_exists(path).await.unwrap_or(false)
        {
            let (file, bytes) = take_up(path, keeper.map_or(0, Keeper::report_bytes))
                .await
                .map_err(|why| ImportError::Write { path: path.clone(), why })?;
            report.file = Some(file);
            report.bytes = bytes;
        }
        Ok(report)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) async fn add(&mut self, rejections: &[Rejection]) -> Result<(), ImportError> {
        let Some(path) = self.path.clone().filter(|_| !rejections.is_empty()) else { return Ok(()) };
        let mut text = Vec::new();
        for rejection in rejections {
            text.extend(serde_json::to_vec(rejection).expect("numbers and texts are JSON"));
            text.push(b'\n');
        }
        let written = self.append(&path, &text).await;
        written.map_err(|why| ImportError::Write { path, why })
    }

    async fn append(&mut self, path: &Path, text: &[u8]) -> std::io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(File::create(path).await?),
        };
        file.write_all(text).await?;
        // tokio's file writes behind: without this an error would be lost.
        file.flush().await?;
        self.bytes += text.len() as u64;
        Ok(())
    }

    /// Where the report is, when there is anything in it. One left empty by an earlier run is
    /// left empty.
    pub(super) async fn close(&mut self) -> Result<Option<PathBuf>, ImportError> {
        let Some((file, path)) = self.file.as_ref().zip(self.path.clone()) else { return Ok(None) };
        file.sync_all().await.map_err(|why| ImportError::Write { path: path.clone(), why })?;
        Ok((self.bytes > 0).then_some(path))
    }
}

async fn take_up(path: &Path, bytes: u64) -> std::io::Result<(File, u64)> {
    let mut file = OpenOptions::new().write(true).open(path).await?;
    let found = file.metadata().await?;
    if !found.is_file() {
        return Ok((file, 0)); // A device or a pipe: nothing to take up.
    }
    let bytes = bytes.min(found.len());
    file.set_len(bytes).await?;
    file.seek(std::io::SeekFrom::Start(bytes)).await?;
    Ok((file, bytes))
}

/// `PATH.suffix`.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}
