//! Owns how values stand in rows: ids as 16 bytes, moments as milliseconds, enums as their place
//! in `ALL`. What does not read back is a [`StoreError::Fault`], never a default.

use chrono::{DateTime, Utc};
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{AssertSqlSafe, Row, Sqlite, SqliteConnection};
use uuid::Uuid;

use super::db::failure;
use crate::domain::audit::Hash;
use crate::domain::ids::BadId;
use crate::domain::{EventId, Outcome, PartitionId, Status, TenantId, time};
use crate::ports::StoreError;
use crate::ports::store::{OutboxKind, StoredEvent};

/// A statement with its arguments.
pub(super) type Statement<'q> = Query<'q, Sqlite, SqliteArguments>;

/// Rows a statement at most; a statement is a round trip to SQLite's thread.
const ROWS_MAX: usize = 64;

/// Inserts rows of `columns` columns, many a statement. `into` is `INSERT INTO table (columns)`.
pub(super) async fn insert<T>(
    conn: &mut SqliteConnection,
    into: &'static str,
    columns: usize,
    mut rows: &[T],
    bind: impl for<'q> Fn(Statement<'q>, &T) -> Statement<'q>,
) -> Result<(), StoreError> {
    while !rows.is_empty() {
        // Powers of two: a handful of texts a table, all of them kept prepared.
        let (now, later) = rows.split_at(1 << rows.len().min(ROWS_MAX).ilog2());
        let row = format!("({}?)", "?,".repeat(columns - 1));
        let sql = format!("{into} VALUES {}{row}", format!("{row},").repeat(now.len() - 1));
        let statement = now.iter().fold(sqlx::query(AssertSqlSafe(sql)), &bind);
        statement.execute(&mut *conn).await.map_err(failure)?;
        rows = later;
    }
    Ok(())
}

/// Ids as a JSON array of hex texts, for `IN (SELECT unhex(value) FROM json_each(?))`.
pub(super) fn id_list(ids: impl IntoIterator<Item = Uuid>) -> String {
    let mut list = String::from("[");
    for id in ids {
        if list.len() > 1 {
            list.push(',');
        }
        list.push('"');
        list.push_str(id.simple().encode_lower(&mut Uuid::encode_buffer()));
        list.push('"');
    }
    list.push(']');
    list
}

/// Ids one after the other, 16 bytes each.
pub(super) fn id_bytes(ids: &[EventId]) -> Vec<u8> {
    ids.iter().flat_map(|id| id.0.into_bytes()).collect()
}

/// Reads [`id_bytes`].
pub(super) fn ids_from(bytes: &[u8]) -> Result<Vec<EventId>, StoreError> {
    let (ids, rest) = bytes.as_chunks::<16>();
    if !rest.is_empty() {
        return Err(unreadable("an outbox row does not hold whole ids"));
    }
    Ok(ids.iter().map(|id| EventId(Uuid::from_bytes(*id))).collect())
}

/// Reads a column.
pub(super) fn get<'r, T: sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite>>(
    row: &'r SqliteRow,
    column: usize,
) -> Result<T, StoreError> {
    row.try_get(column).map_err(failure)
}

/// Reads an event id.
pub(super) fn event_id(row: &SqliteRow, column: usize) -> Result<EventId, StoreError> {
    get(row, column).map(EventId)
}

/// Reads a tenant.
pub(super) fn tenant(row: &SqliteRow, column: usize) -> Result<TenantId, StoreError> {
    parsed(row, column, TenantId::parse)
}

/// Reads a text that has a parser.
pub(super) fn parsed<T>(row: &SqliteRow, column: usize, parse: fn(&str) -> Result<T, BadId>) -> Result<T, StoreError> {
    parse(get::<&str>(row, column)?).map_err(unreadable)
}

/// Reads 32 bytes.
pub(super) fn hash(row: &SqliteRow, column: usize) -> Result<Hash, StoreError> {
    get::<&[u8]>(row, column)?.try_into().map_err(unreadable)
}

/// Reads a moment.
pub(super) fn moment(row: &SqliteRow, column: usize) -> Result<DateTime<Utc>, StoreError> {
    get(row, column).map(from_millis)
}

/// A moment out of a column.
pub(super) fn from_millis(millis: i64) -> DateTime<Utc> {
    time::from_millis(u64::try_from(millis).unwrap_or(0))
}

/// A moment for a column.
pub(super) fn millis(at: DateTime<Utc>) -> i64 {
    at.timestamp_millis().max(0)
}

/// The columns of [`stored_event`], of a table `e`.
pub(super) const EVENT: &str = "e.id, e.tenant, e.partition, e.correlation_id, e.body";

/// Reads the columns [`EVENT`], standing first.
pub(super) fn stored_event(row: &SqliteRow) -> Result<StoredEvent, StoreError> {
    Ok(StoredEvent {
        id: event_id(row, 0)?,
        tenant: tenant(row, 1)?,
        partition: PartitionId(get(row, 2)?),
        correlation_id: parsed(row, 3, crate::domain::CorrelationId::parse)?,
        body: get::<Vec<u8>>(row, 4)?.into(),
    })
}

/// The place of a value in `ALL`: its number in the store.
pub(super) fn number<T: PartialEq>(all: &[T], value: &T) -> Option<i64> {
    all.iter().position(|v| v == value).and_then(|n| i64::try_from(n).ok())
}

/// The value with a number.
pub(super) fn numbered<T: Copy>(all: &[T], number: i64) -> Result<T, StoreError> {
    let place = usize::try_from(number).ok().and_then(|n| all.get(n));
    place.copied().ok_or_else(|| unreadable(format!("unknown number {number} of an enum")))
}

/// Where an event stands, as a number: the outcome of the person's verdict, else of the decision;
/// [`DEAD`]; [`RECEIVED`]; [`RETRYING`]. Of tables `v` (verdicts), `d` (decisions) and `r`
/// (retries), all left joined.
pub(super) const STANDING: &str = "coalesce(v.verdict, d.outcome,
    CASE WHEN d.class IS NOT NULL THEN 8 WHEN r.due_at IS NULL THEN 9 ELSE 10 END)";
const DEAD: i64 = 8;
const RECEIVED: i64 = 9;
const RETRYING: i64 = 10;

/// Reads [`STANDING`].
pub(super) fn status(standing: i64) -> Result<Status, StoreError> {
    match standing {
        RECEIVED => Ok(Status::Received),
        RETRYING => Ok(Status::Retrying),
        DEAD => Ok(Status::Failed),
        outcome => Ok(numbered(&Outcome::ALL, outcome)?.status()),
    }
}

/// The [`STANDING`] of a status; none for those that a stored event never has.
pub(super) fn standing(status: Status) -> Option<i64> {
    match status {
        Status::Received => Some(RECEIVED),
        Status::Failed => Some(DEAD),
        Status::Approved | Status::Escalated | Status::Rejected => {
            let outcome = Outcome::ALL.into_iter().find(|o| o.status() == status)?;
            number(&Outcome::ALL, &outcome)
        }
        Status::Retrying => Some(RETRYING),
        Status::Validated | Status::Processing => None,
    }
}

/// Where an event stands; none where there is no such event.
pub(super) async fn status_of(
    conn: &mut SqliteConnection,
    tenant: &TenantId,
    id: EventId,
) -> Result<Option<Status>, StoreError> {
    let sql = format!(
        "SELECT {STANDING} FROM events e LEFT JOIN decisions d ON d.event = e.id
         LEFT JOIN verdicts v ON v.event = e.id LEFT JOIN retries r ON r.event = e.id
         WHERE e.id = ? AND e.tenant = ?"
    );
    let asked = sqlx::query(AssertSqlSafe(sql)).bind(id.0).bind(tenant.as_str());
    let row = asked.fetch_optional(conn).await.map_err(failure)?;
    row.map(|row| status(get(&row, 0)?)).transpose()
}

/// The number of an outbox kind.
pub(super) fn kind_number(kind: OutboxKind) -> i64 {
    match kind {
        OutboxKind::Accept => 0,
        OutboxKind::Outcome => 1,
    }
}

/// What is stored can't be read.
pub(super) fn unreadable(why: impl std::fmt::Display) -> StoreError {
    StoreError::Fault(format!("read what is stored: {why}"))
}
