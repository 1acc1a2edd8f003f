//! The file of checkpoints outside the database: what proves that a chain was cut off, when whoever
//! cut it could also cut the checkpoints.
//!
//! Owns one file of lines `{"text","signature"}`, in the order of the checkpoints, each on the disk
//! before the next. Never rewrites a line; an unfinished one, which a crash leaves, is cut off.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::domain::checkpoint::{Checkpoint, Signed};
use crate::ports::{Registry, StoreError};

/// Checkpoints asked of the store at once.
const PAGE: u32 = 100;

/// How much of the file's end is read to find its last line: a line has up to some 300 KB.
const TAIL_BYTES: u64 = 4 << 20;

/// Why the file is not up to date.
#[derive(Debug, thiserror::Error)]
pub enum OutsideError {
    /// The store did not answer, or refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file can't be read or written.
    #[error("write {file}: {why}")]
    File {
        /// Its name.
        file: String,
        /// What the system said.
        why: io::Error,
    },
    /// The store does not hold what the file does.
    #[error(
        "go on with {file}: its checkpoint {number} is not in the store any more, or is another one; the audit may have \
         been cut off: run `riskfleet audit verify --anchor {file}`"
    )]
    Disagrees {
        /// Its name.
        file: String,
        /// Its last checkpoint.
        number: i64,
    },
}

/// The file.
#[derive(Debug)]
pub struct Outside {
    path: PathBuf,
    /// Its last checkpoint; none before it was looked at.
    last: Option<i64>,
}

impl Outside {
    /// A file that is there, or is made at the first checkpoint (readable by its owner only).
    pub fn new(path: PathBuf) -> Self {
        Self { path, last: None }
    }

    /// Appends the checkpoints of the store that it does not hold yet.
    ///
    /// # Errors
    /// When the store or the disk fails, or the two disagree; calling again goes on.
    pub async fn follow(&mut self, store: &dyn Registry) -> Result<(), OutsideError> {
        let mut last = match self.last {
            Some(last) => last,
            None => self.look_back(store).await?,
        };
        loop {
            let page = store.checkpoints_page(last, PAGE).await?;
            let Some(newest) = page.last().map(|kept| kept.number) else { break };
            let lines: String = page.iter().map(|kept| kept.signed.line() + "\n").collect();
            // Until the write is known to be done, what the file holds is unknown.
            self.last = None;
            self.on_disk(move |path| append(path, lines.as_bytes())).await?;
            last = newest;
        }
        self.last = Some(last);
        Ok(())
    }

    async fn look_back(&self, store: &dyn Registry) -> Result<i64, OutsideError> {
        let Some(line) = self.on_disk(last_line).await? else { return Ok(0) };
        let wrong = |e: serde_json::Error| self.failed(io::Error::other(format!("its last line: {e}")));
        let signed: Signed = serde_json::from_slice(&line).map_err(wrong)?;
        let number = Checkpoint::parse(&signed.text).map_err(wrong)?.number;
        let stored = store.checkpoints_page(number - 1, 1).await?;
        if stored.first().is_some_and(|kept| kept.number == number && kept.signed.text == signed.text) {
            return Ok(number);
        }
        Err(OutsideError::Disagrees { file: self.path.display().to_string(), number })
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, OutsideError> {
        let path = self.path.clone();
        let done = tokio::task::spawn_blocking(move || work(&path)).await;
        done.map_err(io::Error::other).and_then(|done| done).map_err(|why| self.failed(why))
    }

    fn failed(&self, why: io::Error) -> OutsideError {
        OutsideError::File { file: self.path.display().to_string(), why }
    }
}

fn append(path: &Path, lines: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(lines)?;
    file.sync_all()
}

/// The last whole line; an unfinished one behind it is cut off.
fn last_line(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut file = match File::options().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let length = file.metadata()?.len();
    let from = length.saturating_sub(TAIL_BYTES);
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(from))?;
    file.read_to_end(&mut tail)?;
    let whole = tail.iter().rposition(|c| *c == b'\n').map_or(0, |at| at + 1);
    if whole < tail.len() {
        if whole == 0 && from > 0 {
            return Err(io::Error::other("its last line has no end"));
        }
        file.set_len(from + whole as u64)?;
        file.sync_all()?;
        tail.truncate(whole);
    }
    let Some(text) = tail.strip_suffix(b"\n") else { return Ok(None) };
    let begin = text.iter().rposition(|c| *c == b'\n').map_or(0, |at| at + 1);
    Ok(Some(text[begin..].to_vec()))
}
