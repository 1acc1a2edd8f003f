//! The NDJSON import: the events of a file, through the same door as every other.
//!
//! Owns how a file is read (streaming, bounded in lines and bytes), what key a line without one
//! gets, and where a broken-off import goes on. Never stores an event by itself, and never takes a
//! line back: what is refused is listed, what is taken is taken once.
//!
//! # Decisions
//! The keys make an import safe to repeat, the progress file only makes it quick. A line without a
//! key gets the file's hash and its number; a file that has since grown, or was cut off and is now
//! complete, would thus get new keys. So the progress file remembers length and hash of the file
//! as it was: where that is the beginning of the file as it is, the first keys are kept.

mod args;
mod error;
mod line;
mod progress;
mod report;
mod source;
mod summary;

pub use args::FileArgs;
pub use error::ImportError;
pub use report::Rejection;
pub use summary::Summary;

use futures::stream::{FuturesOrdered, StreamExt};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{path::PathBuf, time::Duration};
use tokio::io::AsyncRead;

use crate::domain::TenantId;
use crate::ports::Intake;
use crate::ports::intake::{Candidate, IntakeError, Taken};
use line::Reader;
use progress::{Keeper, Origin};
use report::Report;
use source::{Batch, Source};

/// Batches in the door at once: one is read while one is stored, with some slack.
const IN_FLIGHT: usize = 4;

/// The shortest first wait and the longest wait between two tries of one batch.
const WAIT_MIN: Duration = Duration::from_millis(50);
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Where the lines come from.
pub enum Input {
    /// A regular file: can be hashed first and gone on with.
    File(PathBuf),
    /// What is piped in: can be neither.
    Piped(Box<dyn AsyncRead + Send + Unpin>),
}

/// What to import, and how.
pub struct ImportOptions {
    /// Where from.
    pub input: Input,
    /// The tenant of lines that name none; a line that names one keeps it.
    pub tenant: Option<TenantId>,
    /// What a line without a key has before its number, in place of the file's hash.
    pub key_prefix: Option<String>,
    /// The progress file; `PATH.progress` when not given. Files only.
    pub progress_file: Option<PathBuf>,
    /// The report of refused lines; `PATH.rejected.ndjson` when not given. Of what is piped in
    /// there is a report only when one is named here.
    pub rejected_file: Option<PathBuf>,
    /// The longest line that is taken, in bytes.
    pub line_max: usize,
    /// How long one batch is tried again while the door is shut, in waits.
    pub patience: Duration,
    /// Whether a progress bar is drawn on standard error.
    pub show_progress: bool,
}

impl ImportOptions {
    /// The longest line that is taken where nothing else is said: 256 KiB.
    pub const LINE_MAX: usize = 256 << 10;

    /// How long a batch is tried where nothing else is said: 5 minutes.
    pub const PATIENCE: Duration = Duration::from_secs(300);

    /// Options with these defaults.
    pub fn new(input: Input) -> Self {
        Self {
            input,
            tenant: None,
            key_prefix: None,
            progress_file: None,
            rejected_file: None,
            line_max: Self::LINE_MAX,
            patience: Self::PATIENCE,
            show_progress: false,
        }
    }
}

/// Imports a file. Returns when every line has its answer.
///
/// # Errors
/// [`ImportError`] when it could not begin, or broke off. What was taken until then is taken, and
/// the same call goes on behind it.
pub async fn import(intake: &dyn Intake, options: ImportOptions) -> Result<Summary, ImportError> {
    let origin = Origin::of(&options)?;
    let keeper = Keeper::open(&options, &origin).await?;
    let reader = Reader::new(options.tenant.clone(), origin.keys(keeper.as_ref()));
    let summary = keeper.as_ref().map(Keeper::summary).unwrap_or_default();
    let report = Report::open(&options, keeper.as_ref()).await?;
    let bar = bar(&options, keeper.as_ref());
    let patience = options.patience;
    let source = Source::open(options, keeper.as_ref()).await?;
    let mut run = Run { intake, patience, reader, keeper, report, summary, bar };
    let done = run.pump(source).await;
    run.bar.finish_and_clear();
    done?;
    run.conclude().await
}

struct Run<'a> {
    intake: &'a dyn Intake,
    patience: Duration,
    reader: Reader,
    keeper: Option<Keeper>,
    report: Report,
    summary: Summary,
    bar: ProgressBar,
}

/// A batch with its answers.
struct Settled {
    batch: Batch,
    taken: Result<Vec<Taken>, IntakeError>,
}

impl Run<'_> {
    /// Keeps [`IN_FLIGHT`] batches in the door. Answers come in the order of the file, so that what
    /// is noted as done is always a beginning of it without a gap.
    async fn pump(&mut self, mut source: Source) -> Result<(), ImportError> {
        let mut on_the_way = FuturesOrdered::new();
        let (intake, patience, mut more) = (self.intake, self.patience, true);
        loop {
            while more && on_the_way.len() < IN_FLIGHT {
                match source.next_batch(&self.reader).await? {
                    Some(batch) => on_the_way.push_back(settle(intake, batch, patience)),
                    None => more = false,
                }
            }
            let Some(settled) = on_the_way.next().await else { return Ok(()) };
            self.note(settled).await?;
        }
    }

    async fn note(&mut self, settled: Settled) -> Result<(), ImportError> {
        let Settled { batch, taken } = settled;
        let taken = taken.map_err(|why| ImportError::Intake { behind: self.summary.line, why })?;
        let mut rejections = batch.rejections;
        for ((line, candidate), taken) in batch.candidates.iter().zip(taken) {
            match taken {
                Taken::Accepted(_) => self.summary.accepted += 1,
                Taken::Replayed(_) => self.summary.replayed += 1,
                Taken::Conflict(event) => {
                    self.summary.conflicts += 1;
                    rejections.push(Rejection::conflict(*line, &candidate.key, event));
                }
                Taken::Erased => rejections.push(Rejection::erased(*line, &candidate.key)),
            }
        }
        rejections.sort_by_key(|r| r.line);
        self.summary.read += batch.lines;
        self.summary.refused = self.summary.read - self.summary.taken() - self.summary.conflicts;
        self.summary.line = batch.end.line;
        self.summary.cut = batch.cut;
        self.report.add(&rejections).await?;
        self.summary.list(rejections);
        self.bar.set_position(batch.end.offset);
        match &mut self.keeper {
            Some(keeper) => keeper.save(&self.summary, batch.end, self.report.bytes()).await,
            None => Ok(()),
        }
    }

    async fn conclude(mut self) -> Result<Summary, ImportError> {
        self.summary.rejected_file = self.report.close().await?;
        if let Some(keeper) = &self.keeper {
            keeper.sync().await?;
        }
        if self.summary.read == 0 && self.summary.cut.is_none() {
            return Err(ImportError::Empty);
        }
        Ok(self.summary)
    }
}

/// Hands a batch in until it is taken, the door stays shut for too long, or the process stops.
async fn settle(intake: &dyn Intake, batch: Batch, patience: Duration) -> Settled {
    if batch.candidates.is_empty() {
        return Settled { batch, taken: Ok(Vec::new()) };
    }
    let (mut waited, mut least) = (Duration::ZERO, WAIT_MIN);
    loop {
        let candidates: Vec<Candidate> = batch.candidates.iter().map(|(_, c)| c.clone()).collect();
        let refused = match intake.submit(candidates).await {
            Err(refused) => refused,
            taken => return Settled { batch, taken },
        };
        if refused == IntakeError::Stopping {
            return Settled { batch, taken: Err(refused) };
        }
        // Never less than a delay that doubles: a door that asks for none must not be stormed.
        let wait = refused.retry_after().max(least).min(WAIT_MAX);
        if waited + wait > patience {
            return Settled { batch, taken: Err(refused) };
        }
        tokio::time::sleep(wait).await;
        waited += wait;
        least = (least * 2).min(WAIT_MAX);
    }
}

fn bar(options: &ImportOptions, keeper: Option<&Keeper>) -> ProgressBar {
    let target = if options.show_progress { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(keeper.map(Keeper::file_bytes), target);
    let shape = match keeper {
        Some(_) => "{bar:30} {decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}  {eta} left",
        None => "{spinner} {decimal_bytes}  {decimal_bytes_per_sec}",
    };
    bar.set_style(ProgressStyle::with_template(shape).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}
