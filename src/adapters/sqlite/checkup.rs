//! Owns what an operator's examination asks a store's file. Reads only; never judges.

use sqlx::Row;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::db::{failure, readers};
use super::rows::{from_millis, get, kind_number};
use super::{SqliteStore, rows};
use crate::domain::EventId;
use crate::domain::time::{from_millis as moment_of, to_millis};
use crate::ports::StoreError;
use crate::ports::checkup::{FolderSeen, STALE, StandingRows};
use crate::ports::store::OutboxKind;

/// Defects that are told of.
const DEFECTS: usize = 5;

/// Looks at the file of a folder; `running` says whether an `up` holds the folder.
///
/// # Errors
/// When it can't be opened or read.
pub async fn checkup(path: &Path, running: bool) -> Result<FolderSeen, StoreError> {
    let mode = std::fs::metadata(path).map_err(|e| StoreError::Misfit(format!("{}: {e}", path.display())))?;
    let file = readers(path);
    let journal: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&file).await.map_err(failure)?;
    let said = sqlx::query("PRAGMA quick_check(5)").fetch_all(&file).await.map_err(failure)?;
    let mut defects = Vec::new();
    for row in said.iter().take(DEFECTS) {
        let text: String = row.try_get(0).map_err(failure)?;
        if text != "ok" {
            defects.push(text);
        }
    }
    file.close().await;
    Ok(FolderSeen {
        defects,
        journal_mode: journal,
        readable_by_others: mode.permissions().mode() & 0o077 != 0,
        running,
    })
}

impl SqliteStore {
    /// Outbox rows that have stood for longer than [`STALE`]: by the id of their first event, or by
    /// the time of its verdict or decision, since finders renew the row's own time.
    ///
    /// # Errors
    /// As every verb of the store.
    pub async fn standing_rows(&self) -> Result<Vec<StandingRows>, StoreError> {
        let sql = "SELECT o.kind, substr(o.events, 1, 16), length(o.events) / 16,
                          coalesce(v.decided_at, d.at, o.touched_at)
                   FROM outbox o LEFT JOIN decisions d ON d.event = substr(o.events, 1, 16)
                   LEFT JOIN verdicts v ON v.event = d.event";
        let rows = sqlx::query(sql).fetch_all(self.0.db.readers()).await.map_err(failure)?;
        let now = to_millis(self.0.clock.now());
        let by = moment_of(now.saturating_sub(STALE.as_millis() as u64));
        let mut standing: Vec<StandingRows> = Vec::new();
        for row in rows {
            let accept = get::<i64>(&row, 0)? == kind_number(OutboxKind::Accept);
            let first: Vec<EventId> = rows::ids_from(get(&row, 1)?)?;
            let (kind, since) = match first.first() {
                Some(id) if accept => (OutboxKind::Accept, id.created_at()),
                _ => (OutboxKind::Outcome, from_millis(get(&row, 3)?)),
            };
            if since >= by {
                continue;
            }
            let events = get::<i64>(&row, 2)?.unsigned_abs();
            match standing.iter_mut().find(|s| s.kind == kind) {
                Some(s) => (s.rows, s.events, s.since) = (s.rows + 1, s.events + events, s.since.min(since)),
                None => standing.push(StandingRows { kind, rows: 1, events, since }),
            }
        }
        Ok(standing)
    }
}
