//! Owns the reading of the file, in batches that are bounded in lines and bytes.

use std::path::PathBuf;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncSeekExt};

use super::line::{Read, Reader};
use super::progress::Keeper;
use super::report::Rejection;
use super::{ImportError, ImportOptions, Input};
use crate::domain::lines::{Line, LineCutter};
use crate::ports::intake::Candidate;

/// Lines and bytes of one batch, at most; a single longer line is a batch of its own.
const BATCH_LINES: usize = 500;
const BATCH_BYTES: usize = 1 << 20;

/// How much is read at once.
const PIECE: usize = 128 << 10;

/// Where a batch ends in the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct End {
    pub(super) line: u64,
    pub(super) offset: u64,
    /// Whether a line end stands there.
    pub(super) ended: bool,
}

/// Lines that are handed in together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) candidates: Vec<(u64, Candidate)>,
    pub(super) rejections: Vec<Rejection>,
    /// How many lines, refused ones included, a cut one not.
    pub(super) lines: u64,
    pub(super) end: End,
    pub(super) cut: Option<u64>,
    bytes: usize,
}

/// The file, being read.
pub(super) struct Source {
    path: PathBuf,
    bytes: Box<dyn AsyncRead + Send + Unpin>,
    cutter: LineCutter,
    line_max: usize,
    waiting: std::vec::IntoIter<Line>,
    drained: bool,
    end: End,
}

impl Source {
    /// Opens the file behind what is done of it. Of a file that grows meanwhile only what was
    /// hashed is read.
    pub(super) async fn open(options: ImportOptions, keeper: Option<&Keeper>) -> Result<Self, ImportError> {
        let end = keeper.map_or_else(End::default, Keeper::end);
        let (path, bytes): (_, Box<dyn AsyncRead + Send + Unpin>) = match options.input {
            Input::Piped(bytes) => ("-".into(), bytes),
            Input::File(path) => {
                let fail = |why| ImportError::Input { path: path.clone(), why };
                let mut file = tokio::fs::File::open(&path).await.map_err(fail)?;
                file.seek(std::io::SeekFrom::Start(end.offset)).await.map_err(fail)?;
                let left = keeper.map_or(u64::MAX, Keeper::file_bytes).saturating_sub(end.offset);
                (path.clone(), Box::new(file.take(left)))
            }
        };
        // A last line that had no line end may have got one since: that is no line of its own.
        let number = if end.line > 0 && !end.ended { end.line - 1 } else { end.line };
        let cutter = LineCutter::resumed(options.line_max, number, end.offset);
        Ok(Self {
            path,
            bytes,
            cutter,
            line_max: options.line_max,
            waiting: Vec::new().into_iter(),
            drained: false,
            end,
        })
    }

    /// The next lines; nothing at the end.
    pub(super) async fn next_batch(&mut self, reader: &Reader) -> Result<Option<Batch>, ImportError> {
        let mut batch = Batch { end: self.end, ..Batch::default() };
        loop {
            while !batch.is_full()
                && let Some(line) = self.waiting.next()
            {
                batch.add(&line, reader, self.line_max);
            }
            if batch.is_full() || self.drained {
                self.end = batch.end;
                return Ok((batch.lines > 0 || batch.cut.is_some()).then_some(batch));
            }
            let mut lines = Vec::new();
            self.read_more(&mut lines).await?;
            self.waiting = lines.into_iter();
        }
    }

    async fn read_more(&mut self, lines: &mut Vec<Line>) -> Result<(), ImportError> {
        let mut piece = vec![0; PIECE];
        let read = self.bytes.read(&mut piece).await;
        let read = read.map_err(|why| ImportError::Input { path: self.path.clone(), why })?;
        self.cutter.push(&piece[..read], lines);
        if read == 0 {
            self.drained = true;
            lines.extend(self.cutter.finish());
        }
        Ok(())
    }
}

impl Batch {
    fn is_full(&self) -> bool {
        self.lines >= BATCH_LINES as u64 || self.bytes >= BATCH_BYTES
    }

    fn add(&mut self, line: &Line, reader: &Reader, line_max: usize) {
        match reader.read(line, line_max) {
            Read::Candidate(candidate) => self.candidates.push((line.number, *candidate)),
            Read::Rejected(rejection) => self.rejections.push(rejection),
            Read::Cut => {
                self.cut = Some(line.number);
                return;
            }
        }
        self.lines += 1;
        self.bytes += line.text.as_ref().map_or(0, Vec::len);
        self.end = End { line: line.number, offset: line.end, ended: line.ended };
    }
}
