//! Owns the progress file: how far an import is, and of which file.
//!
//! Written whole beside itself and moved into place after every batch whose answers, and those of
//! all before it, are known. Never trusted for another file.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use tokio::io::AsyncReadExt;

use super::line::Keys;
use super::report::beside;
use super::source::End;
use super::{ImportError, ImportOptions, Input, Summary};
use crate::domain::IdempotencyKey;
use crate::domain::audit::Hash;

/// How much is read at once while hashing.
const PIECE: usize = 256 << 10;

/// No progress file is longer; what is longer is something else.
const NOTE_MAX: u64 = 64 << 10;

/// Where the lines come from, checked.
pub(super) enum Origin {
    File { prefix: Option<String> },
    Piped { prefix: Option<String> },
}

impl Origin {
    pub(super) fn of(options: &ImportOptions) -> Result<Self, ImportError> {
        let prefix = options.key_prefix.clone();
        if let Some(prefix) = &prefix {
            // The longest number of a line has 20 digits.
            IdempotencyKey::parse(&format!("{prefix}:{}", u64::MAX))
                .map_err(|_| ImportError::Options("--key-prefix must be 1 to 234 printable ASCII characters".into()))?;
        }
        match (&options.input, &options.progress_file) {
            (Input::File(_), _) => Ok(Self::File { prefix }),
            (Input::Piped(_), None) => Ok(Self::Piped { prefix }),
            (Input::Piped(_), Some(_)) => {
                Err(ImportError::Options("--progress needs a file: what is piped in can't be gone on with".into()))
            }
        }
    }

    pub(super) fn keys(&self, keeper: Option<&Keeper>) -> Keys {
        match (self, keeper) {
            (Self::File { prefix: Some(prefix) } | Self::Piped { prefix: Some(prefix) }, _) => {
                Keys::Prefix(prefix.clone())
            }
            (Self::File { prefix: None }, Some(keeper)) => Keys::Hash(keeper.key_hash),
            (Self::File { prefix: None } | Self::Piped { prefix: None }, _) => Keys::Own,
        }
    }
}

/// The text of a progress file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    /// The format, 1.
    riskfleet_import: u16,
    /// What stands in the keys of lines without one: the file's hash when it was first seen.
    key_sha256: String,
    /// The file's hash and length when it was last seen.
    file_sha256: String,
    file_bytes: u64,
    /// What the import was begun with.
    tenant: Option<String>,
    key_prefix: Option<String>,
    /// What is done.
    line: u64,
    offset: u64,
    ended: bool,
    accepted: u64,
    replayed: u64,
    conflicts: u64,
    refused: u64,
    report_bytes: u64,
}

/// Keeps the progress file of one file.
pub(super) struct Keeper {
    path: PathBuf,
    key_hash: Hash,
    note: Note,
}

impl Keeper {
    /// Hashes the file and takes up its progress file; nothing for what is piped in.
    pub(super) async fn open(options: &ImportOptions, origin: &Origin) -> Result<Option<Self>, ImportError> {
        let (Input::File(file), Origin::File { prefix }) = (&options.input, origin) else { return Ok(None) };
        let path = options.progress_file.clone().unwrap_or_else(|| beside(file, "progress"));
        let tenant = options.tenant.as_ref().map(ToString::to_string);
        let before = read_note(&path).await?;
        let seen = hash_file(file, before.as_ref().map(|note| note.file_bytes)).await?;
        let note = match before {
            None => Note::begin(&seen, tenant, prefix.clone()),
            Some(note) => note
                .take_up(&seen, tenant.as_ref(), prefix.as_ref())
                .map_err(|why| ImportError::Progress { path: path.clone(), why })?,
        };
        let mut key_hash = [0; 32];
        hex::decode_to_slice(&note.key_sha256, &mut key_hash)
            .map_err(|e| ImportError::Progress { path: path.clone(), why: format!("key_sha256: {e}") })?;
        Ok(Some(Self { path, key_hash, note }))
    }

    pub(super) fn file_bytes(&self) -> u64 {
        self.note.file_bytes
    }

    pub(super) fn report_bytes(&self) -> u64 {
        self.note.report_bytes
    }

    pub(super) fn end(&self) -> End {
        End { line: self.note.line, offset: self.note.offset, ended: self.note.ended }
    }

    pub(super) fn summary(&self) -> Summary {
        let Note { line, accepted, replayed, conflicts, refused, .. } = self.note;
        let read = accepted + replayed + conflicts + refused;
        Summary { read, accepted, replayed, conflicts, refused, resumed_behind: line, line, ..Summary::default() }
    }

    /// Notes what is done.
    pub(super) async fn save(&mut self, done: &Summary, end: End, report_bytes: u64) -> Result<(), ImportError> {
        self.note = Note {
            line: end.line,
            offset: end.offset,
            ended: end.ended,
            accepted: done.accepted,
            replayed: done.replayed,
            conflicts: done.conflicts,
            refused: done.refused,
            report_bytes,
            ..self.note.clone()
        };
        let text = serde_json::to_vec_pretty(&self.note).expect("numbers and texts are JSON");
        let aside = beside(&self.path, "new");
        let written = async {
            tokio::fs::write(&aside, text).await?;
            tokio::fs::rename(&aside, &self.path).await
        };
        written.await.map_err(|why| self.unwritten(why))
    }

    /// Makes the last note last: not after each batch, as the keys make up for a lost one.
    pub(super) async fn sync(&self) -> Result<(), ImportError> {
        match tokio::fs::File::open(&self.path).await {
            Ok(file) => file.sync_all().await.map_err(|why| self.unwritten(why)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(why) => Err(self.unwritten(why)),
        }
    }

    fn unwritten(&self, why: std::io::Error) -> ImportError {
        ImportError::Write { path: self.path.clone(), why }
    }
}

/// A file as it is now.
struct Seen {
    hash: String,
    bytes: u64,
    /// Hash of as many bytes as it had before.
    beginning: Option<String>,
}

impl Note {
    fn begin(seen: &Seen, tenant: Option<String>, key_prefix: Option<String>) -> Self {
        Self {
            riskfleet_import: 1,
            key_sha256: seen.hash.clone(),
            file_sha256: seen.hash.clone(),
            file_bytes: seen.bytes,
            tenant,
            key_prefix,
            line: 0,
            offset: 0,
            ended: true,
            accepted: 0,
            replayed: 0,
            conflicts: 0,
            refused: 0,
            report_bytes: 0,
        }
    }

    /// The note for a file that is as it was, or has grown since.
    fn take_up(self, seen: &Seen, tenant: Option<&String>, prefix: Option<&String>) -> Result<Self, String> {
        if self.riskfleet_import != 1 {
            return Err(format!("it is of format {}, and this version knows 1", self.riskfleet_import));
        }
        let same = self.file_sha256 == seen.hash;
        let grown = seen.beginning.as_ref() == Some(&self.file_sha256);
        if !same && !grown {
            return Err("it belongs to another file, or the file was changed since".into());
        }
        for (flag, before, now) in
            [("--tenant", self.tenant.as_ref(), tenant), ("--key-prefix", self.key_prefix.as_ref(), prefix)]
        {
            if before != now {
                let text = |t: Option<&String>| t.map_or("none".to_owned(), |t| format!("{t:?}"));
                return Err(format!("it was begun with {flag} {}, not {}", text(before), text(now)));
            }
        }
        if self.offset > self.file_bytes {
            return Err(format!("it says that {} of {} bytes are done", self.offset, self.file_bytes));
        }
        Ok(Self { file_sha256: seen.hash.clone(), file_bytes: seen.bytes, ..self })
    }
}

async fn read_note(path: &Path) -> Result<Option<Note>, ImportError> {
    let unusable = |why: String| ImportError::Progress { path: path.into(), why };
    let file = match tokio::fs::File::open(path).await {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(unusable(e.to_string())),
    };
    let mut text = Vec::new();
    file.take(NOTE_MAX).read_to_end(&mut text).await.map_err(|e| unusable(e.to_string()))?;
    let note = serde_json::from_slice(&text).map_err(|e| unusable(format!("it is no progress file: {e}")))?;
    Ok(Some(note))
}

/// Hashes a file, and its first `before` bytes beside it where it has more.
async fn hash_file(path: &Path, before: Option<u64>) -> Result<Seen, ImportError> {
    let fail = |why| ImportError::Input { path: path.into(), why };
    let mut file = tokio::fs::File::open(path).await.map_err(fail)?;
    if !file.metadata().await.map_err(fail)?.is_file() {
        return Err(ImportError::NotRegular(path.into()));
    }
    let (mut hash, mut bytes, mut beginning, mut piece) = (Sha256::new(), 0, None, vec![0; PIECE]);
    loop {
        // Never read across the old end, so that the hash can be taken exactly there.
        let room = before.filter(|b| *b > bytes).map_or(u64::MAX, |b| b - bytes).min(PIECE as u64) as usize;
        let read = file.read(&mut piece[..room]).await.map_err(fail)?;
        if read == 0 {
            return Ok(Seen { hash: hex::encode(hash.finalize()), bytes, beginning });
        }
        hash.update(&piece[..read]);
        bytes += read as u64;
        if before == Some(bytes) {
            beginning = Some(hex::encode(hash.clone().finalize()));
        }
    }
}
