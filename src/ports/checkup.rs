//! What an examination of a fleet and of its servers saw: plain values. Adapters fill them, the
//! operator's `doctor` judges them. Never a verdict, never a secret.

use chrono::{DateTime, Utc};
use std::time::Duration;

use super::broker::Route;
use super::store::{FleetConstants, FleetStatus, OutboxKind};
use crate::domain::{PartitionId, WorkerId};

/// Whether something could be looked at.
#[derive(Debug, Clone, PartialEq)]
pub enum Looked<T> {
    /// What was seen.
    Seen(T),
    /// It did not answer, or refused; why.
    Away(String),
    /// It was not looked at; why.
    Skipped(String),
}

impl<T> Looked<T> {
    /// What was seen, if it was.
    pub fn seen(&self) -> Option<&T> {
        match self {
            Self::Seen(seen) => Some(seen),
            Self::Away(_) | Self::Skipped(_) => None,
        }
    }
}

impl<T, E: std::fmt::Display> From<Result<T, E>> for Looked<T> {
    fn from(result: Result<T, E>) -> Self {
        match result {
            Ok(seen) => Self::Seen(seen),
            Err(e) => Self::Away(e.to_string()),
        }
    }
}

/// Two clocks, read at the same moment as well as that can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockPair {
    /// Milliseconds that the server's clock is ahead of this host's.
    pub ahead_ms: i64,
    /// Half the round trip of the question: the reading is no better than this.
    pub error_ms: i64,
}

impl ClockPair {
    /// From a server's answer to a question that was asked at `asked` and answered after `took`.
    pub fn measured(asked: DateTime<Utc>, took: Duration, theirs: DateTime<Utc>) -> Self {
        // A round trip is bounded by timeouts of seconds.
        let error_ms = took.as_millis() as i64 / 2;
        Self { ahead_ms: theirs.timestamp_millis() - asked.timestamp_millis() - error_ms, error_ms }
    }
}

/// A Postgres server and a fleet's schema on it.
#[derive(Debug, Clone, PartialEq)]
pub struct PostgresSeen {
    /// `server_version_num`: 170002 is 17.2.
    pub version: i32,
    /// Whether it only replays another server's log.
    pub standby: bool,
    /// This host's clock and the server's.
    pub clock: ClockPair,
    /// The server's settings that decide whether a commit survives: `fsync`, `full_page_writes`,
    /// `synchronous_commit` (as a session of the fleet has it).
    pub durability: Durability,
    /// What a session of the fleet asked for, and has.
    pub session: Vec<SessionSetting>,
    /// Whether two sessions that were open at once were the same process of the server: a pooler
    /// stands between, and hands one server session to whoever has a transaction.
    pub shared_session: bool,
    /// Its connections.
    pub connections: Connections,
    /// Open transactions, the oldest first; at most a few.
    pub transactions: Vec<OpenTransaction>,
    /// Prepared transactions, and replication slots that nobody reads: names.
    pub holders: Vec<String>,
    /// Transactions until the server refuses writes: the age of the oldest unfrozen row.
    pub frozen_age: i64,
    /// The fleet's schema.
    pub schema: Schema,
    /// What keeps tenants apart.
    pub isolation: Isolation,
}

/// What keeps tenants apart on a Postgres server.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Isolation {
    /// The roles that the fleet's sessions take.
    pub roles: Vec<RoleSeen>,
    /// Tables that name a tenant and are not under forced row-level security.
    pub open: Vec<String>,
}

/// A role, and a session that asked for it.
#[derive(Debug, Clone, PartialEq)]
pub struct RoleSeen {
    /// Its name.
    pub name: String,
    /// What the session runs as.
    pub runs_as: Looked<String>,
    /// Whether that passes row-level security: a superuser, or with BYPASSRLS.
    pub passes: bool,
}

/// Whether a commit survives a crash of the server's machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Durability {
    /// Whether the server waits for the disk at all.
    pub fsync: bool,
    /// Whether a torn page can be repaired.
    pub full_page_writes: bool,
    /// Whether a commit waits for the log.
    pub synchronous_commit: String,
}

/// A setting that the fleet's sessions ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSetting {
    /// Its name.
    pub name: String,
    /// What was asked for, as the server writes it.
    pub asked: String,
    /// What the session has.
    pub has: String,
}

/// Connections of a Postgres server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    /// How many the server takes, those for superusers not counted.
    pub limit: u32,
    /// How many stand, of every program.
    pub used: u32,
    /// How many of them are riskfleet's.
    pub own: u32,
    /// How many one worker of these settings may open.
    pub per_worker: u32,
    /// How many one ingest may open.
    pub per_ingest: u32,
}

/// A transaction of anybody's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenTransaction {
    /// The server's process.
    pub pid: i32,
    /// Which program says that it is.
    pub application: String,
    /// `active`, `idle in transaction` …
    pub state: String,
    /// For how long it has been open.
    pub seconds: i64,
}

/// A fleet's schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schema {
    /// `migrate` has not run in this namespace.
    Missing,
    /// It stands.
    There {
        /// Its version.
        version: i64,
        /// The version that this program was built for.
        wanted: i64,
        /// Days for which time partitions stand, today the first; 0 when today's is missing.
        days_ahead: u32,
        /// Tables that should be empty and hold rows: what fell outside every time partition.
        spilled: Vec<String>,
    },
}

/// The folder of an `up` fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderSeen {
    /// What SQLite says of the file's structure; empty when it is sound.
    pub defects: Vec<String>,
    /// `wal` is what the fleet writes with.
    pub journal_mode: String,
    /// Whether anybody but its owner may read it.
    pub readable_by_others: bool,
    /// Whether an `up` holds the folder now.
    pub running: bool,
}

/// A Redis server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisSeen {
    /// `7.2.4`.
    pub version: String,
    /// `master` or `slave`.
    pub role: String,
    /// This host's clock and the server's.
    pub clock: ClockPair,
    /// Bytes that it may hold; 0 without a bound.
    pub memory_max: u64,
    /// Bytes that it holds.
    pub memory_used: u64,
    /// What it does when it is full.
    pub memory_policy: String,
    /// Keys that it threw away because it was full, since its start.
    pub evicted: u64,
    /// Workers whose membership stands.
    pub members: Vec<WorkerId>,
}

/// A RabbitMQ server and a fleet's queues on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RabbitSeen {
    /// `3.10.8`; none where it can't be asked (TLS).
    pub version: Option<String>,
    /// Whether it takes no messages at present (memory or disk alarm).
    pub blocked: bool,
    /// The queues of the partitions, in order.
    pub queues: Vec<QueueSeen>,
    /// The inbox; none while no ingest has made it.
    pub inbox: Option<Depth>,
    /// The queue of inbox messages that could not be taken.
    pub rejected: Option<Depth>,
}

/// One of a partition's queues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueSeen {
    /// Which.
    pub route: Route,
    /// What it holds; none when it does not stand.
    pub depth: Option<Depth>,
    /// What the server says against declaring it as the settings want it; none when it agrees.
    pub mismatch: Option<String>,
}

/// What a queue holds, as a passive declaration tells it. Messages that a consumer holds without
/// having acknowledged them are in neither figure: AMQP does not tell them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depth {
    /// Messages ready.
    pub ready: u32,
    /// Consumers.
    pub consumers: u32,
}

/// The fleet, as its store knows it.
#[derive(Clone, PartialEq)]
pub struct FleetSeen {
    /// The store's clock when it was looked at.
    pub now: DateTime<Utc>,
    /// What is fixed.
    pub constants: FleetConstants,
    /// Workers, partitions, ledger.
    pub status: FleetStatus,
    /// Partitions with events that have waited for longer than [`STALE`], no retry among them.
    pub stale: Vec<StaleEvents>,
    /// Outbox rows that have stood for longer than [`STALE`].
    pub standing: Vec<StandingRows>,
}

/// How old something must be to be a finding: what is younger is on its way.
pub const STALE: Duration = Duration::from_secs(60);

/// Events of one partition that wait for too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaleEvents {
    /// Whose.
    pub partition: PartitionId,
    /// How many were counted.
    pub events: usize,
    /// Whether counting stopped there.
    pub more: bool,
    /// When the oldest was accepted.
    pub since: DateTime<Utc>,
}

/// Outbox rows that stand for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StandingRows {
    /// What they name.
    pub kind: OutboxKind,
    /// How many rows.
    pub rows: u64,
    /// How many events in them.
    pub events: u64,
    /// When the oldest was written.
    pub since: DateTime<Utc>,
}
