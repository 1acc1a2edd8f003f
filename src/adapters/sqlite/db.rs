//! Owns the file's connections: one writer, a few readers, and what an error of SQLite means to
//! the caller. Never runs a statement on a table.
//!
//! # Decisions
//! The journal is a WAL, and a transaction that promises something ([`Sync::Full`]) is on the disk
//! before it is answered: an accepted event must survive a power cut. What only saves repetition
//! (settled outbox rows, reports of workers) goes without ([`Sync::Normal`]); a power cut may undo
//! it, never break the file (SQLite manual, "PRAGMA synchronous").
//!
//! The writer is thrown away whenever a transaction does not end in a commit, be it by an error or
//! because its future was dropped: closing the connection rolls back, whatever state it was in.

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Row, SqliteConnection};
use std::path::Path;
use std::time::Duration;
use tokio::sync::{Mutex, MutexGuard};

use crate::ports::StoreError;

/// How long a statement waits for another process's write transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a write waits for its turn in this process.
const TURN_TIMEOUT: Duration = Duration::from_secs(30);
/// How often the writer's connection is tried while another process opens the file, and the pause between.
const OPENS_MAX: u32 = 100;
const OPEN_AGAIN: Duration = Duration::from_millis(50);
/// How often the log is tried to be folded, and the pause between: readers are short.
const FOLDS_MAX: u32 = 10;
const FOLD_AGAIN: Duration = Duration::from_millis(20);
/// Readers beside the writer: reads are short, and more would only share the same two cores.
const READERS: u32 = 4;

/// Whether a transaction is on the disk when it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sync {
    /// It is.
    Full,
    /// A power cut may undo it.
    Normal,
}

/// The file, open.
pub(super) struct Db {
    writer: Option<Writer>,
    readers: SqlitePool,
}

struct Writer {
    options: SqliteConnectOptions,
    slot: Mutex<Slot>,
}

/// The writer's connection; none before the first write, and after a transaction that failed.
struct Slot {
    conn: Option<SqliteConnection>,
    sync: Sync,
}

/// How the file is opened, for both sides.
pub(super) fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .disable_statement_logging()
}

/// How the writer opens it.
pub(super) fn writer_options(path: &Path) -> SqliteConnectOptions {
    options(path).journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full)
}

/// Connects the writer. Turning the WAL on needs the file alone for a moment, and there SQLite does not
/// wait by itself: of two that open a new file at once, one would be told that it is locked.
pub(super) async fn connect_writer(options: &SqliteConnectOptions) -> Result<SqliteConnection, StoreError> {
    for _ in 1..OPENS_MAX {
        match options.connect().await {
            Err(error) if is_busy(&error) => tokio::time::sleep(OPEN_AGAIN).await,
            connected => return connected.map_err(failure),
        }
    }
    options.connect().await.map_err(failure)
}

fn is_busy(error: &sqlx::Error) -> bool {
    // BUSY, LOCKED
    error.as_database_error().is_some_and(|refused| matches!(primary_code(refused.code().as_deref()), 5 | 6))
}

impl Db {
    /// The file for reading and writing, with the connection that migrated it.
    pub(super) fn writable(path: &Path, conn: SqliteConnection) -> Self {
        let slot = Mutex::new(Slot { conn: Some(conn), sync: Sync::Full });
        Self { writer: Some(Writer { options: writer_options(path), slot }), readers: readers(path) }
    }

    /// The file for reading only.
    pub(super) fn read_only(path: &Path) -> Self {
        Self { writer: None, readers: readers(path) }
    }

    /// Where reads run.
    pub(super) fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    /// Begins the one write transaction.
    pub(super) async fn begin(&self, sync: Sync) -> Result<WriteTx<'_>, StoreError> {
        let Some(writer) = &self.writer else {
            return Err(StoreError::Misfit("it was opened for reading".into()));
        };
        let turn = tokio::time::timeout(TURN_TIMEOUT, writer.slot.lock()).await;
        let mut slot = turn.map_err(|_| StoreError::Away(format!("no turn to write within {TURN_TIMEOUT:?}")))?;
        if slot.conn.is_none() {
            slot.conn = Some(connect_writer(&writer.options).await?);
            slot.sync = Sync::Full;
        }
        let mut tx = WriteTx { slot, done: false };
        tx.set_sync(sync).await?;
        // IMMEDIATE: what is read in it is what it writes on.
        sqlx::query("BEGIN IMMEDIATE").execute(tx.conn()?).await.map_err(failure)?;
        Ok(tx)
    }

    /// Folds the log into the file, and empties it. False when readers did not let it, again and again.
    pub(super) async fn fold(&self) -> bool {
        let Some(writer) = &self.writer else { return true };
        let mut slot = writer.slot.lock().await;
        let Some(conn) = &mut slot.conn else { return false };
        for _ in 0..FOLDS_MAX {
            let folded = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut *conn).await;
            if folded.is_ok_and(|row| row.try_get::<i64, _>(0).is_ok_and(|busy| busy == 0)) {
                return true;
            }
            tokio::time::sleep(FOLD_AGAIN).await;
        }
        false
    }

    /// Closes every connection; the last one folds the WAL into the file.
    pub(super) async fn close(&self) {
        self.readers.close().await;
        if let Some(writer) = &self.writer
            && let Some(conn) = writer.slot.lock().await.conn.take()
            && let Err(error) = conn.close().await
        {
            tracing::warn!(%error, "failed to close the store's file cleanly; the next start recovers it");
        }
    }
}

pub(super) fn readers(path: &Path) -> SqlitePool {
    // Not opened read-only: after a crash the first reader has to recover the WAL.
    let options = options(path).pragma("query_only", "ON");
    SqlitePoolOptions::new().max_connections(READERS).acquire_timeout(BUSY_TIMEOUT).connect_lazy_with(options)
}

/// The write transaction. Dropped without [`WriteTx::commit`], it takes its connection with it.
pub(super) struct WriteTx<'a> {
    slot: MutexGuard<'a, Slot>,
    done: bool,
}

impl WriteTx<'_> {
    /// The connection.
    pub(super) fn conn(&mut self) -> Result<&mut SqliteConnection, StoreError> {
        self.slot.conn.as_mut().ok_or_else(|| StoreError::Away("the connection is closed".into()))
    }

    /// Commits.
    pub(super) async fn commit(mut self) -> Result<(), StoreError> {
        sqlx::query("COMMIT").execute(self.conn()?).await.map_err(failure)?;
        self.done = true;
        Ok(())
    }

    async fn set_sync(&mut self, sync: Sync) -> Result<(), StoreError> {
        if self.slot.sync == sync {
            return Ok(());
        }
        let statement = match sync {
            Sync::Full => "PRAGMA synchronous = FULL",
            Sync::Normal => "PRAGMA synchronous = NORMAL",
        };
        sqlx::query(statement).execute(self.conn()?).await.map_err(failure)?;
        self.slot.sync = sync;
        Ok(())
    }
}

impl Drop for WriteTx<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.slot.conn = None;
        }
    }
}

/// What an error means to the caller.
#[expect(clippy::needless_pass_by_value, reason = "so that it goes into map_err as it is")]
pub(super) fn failure(error: sqlx::Error) -> StoreError {
    match &error {
        sqlx::Error::Database(refused) => match primary_code(refused.code().as_deref()) {
            // BUSY, LOCKED, IOERR, FULL, CANTOPEN: what is around the file is in the way.
            5 | 6 | 10 | 13 | 14 => StoreError::Away(error.to_string()),
            // NOTADB
            26 => StoreError::Misfit("the file is no SQLite database".into()),
            // TOOBIG, CONSTRAINT, MISMATCH: it is what was to be written.
            18..=20 => StoreError::Refused(error.to_string()),
            _ => StoreError::Fault(error.to_string()),
        },
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
            StoreError::Away(error.to_string())
        }
        _ => StoreError::Fault(error.to_string()),
    }
}

/// The low byte of an extended result code (SQLite manual, "Result and Error Codes").
fn primary_code(code: Option<&str>) -> i32 {
    code.and_then(|code| code.parse::<i32>().ok()).map_or(1, |code| code & 0xff)
}
