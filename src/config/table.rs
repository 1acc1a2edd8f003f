//! Owns the list of all settings: name, default, what is allowed, and one line for people. The
//! loader, the flags and the README's table are held against it. Never reads a value.

use super::namespace;

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its name in a settings file; `RISKFLEET_` and this in capitals in the environment.
    pub key: &'static str,
    /// What it may hold.
    pub kind: Kind,
    /// Its value when nobody gives one; none when it then is absent.
    pub default: Option<&'static str>,
    /// What it is for, in one line.
    pub doc: &'static str,
}

/// What a setting may hold.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A URL with one of these schemes; a secret, since it may hold a password.
    Url(&'static [&'static str]),
    /// A secret text of at least so many bytes.
    Secret(usize),
    /// A secret of 32 bytes in 64 hex digits.
    Key,
    /// Prefix of names on shared servers.
    Namespace,
    /// IP address and port.
    Address,
    /// One of a few words.
    Choice(&'static [&'static str]),
    /// `true` or `false`.
    Switch,
    /// A whole number within bounds, both included.
    Whole(u64, u64),
    /// A log filter.
    Levels,
}

impl Setting {
    /// Its name in the environment.
    pub fn variable(&self) -> String {
        format!("{PREFIX}{}", self.key.to_ascii_uppercase())
    }

    /// Its name as a flag, without the dashes.
    pub fn flag(&self) -> String {
        self.key.replace('_', "-")
    }

    /// Whether its value must never be shown. It can also be read from the file that `KEY_file`
    /// names.
    pub fn is_secret(&self) -> bool {
        matches!(self.kind, Kind::Url(_) | Kind::Secret(_) | Kind::Key)
    }

    /// What it may hold, in words that complete "must be …".
    pub fn expected(&self) -> String {
        match self.kind {
            Kind::Url(schemes) => format!("a URL that begins with {}", alternatives(schemes)),
            Kind::Secret(bytes) => format!("a text of at least {bytes} bytes"),
            Kind::Key => "64 hex digits (32 random bytes: openssl rand -hex 32)".into(),
            Kind::Namespace => namespace::EXPECTED.into(),
            Kind::Address => "an IP address and port (127.0.0.1:8080)".into(),
            Kind::Choice(words) => alternatives(words),
            Kind::Switch => "true or false".into(),
            Kind::Whole(min, max) => format!("a whole number from {min} to {max}"),
            Kind::Levels => {
                "a level (off, error, warn, info, debug, trace), or several as info,target=level (info,lapin=warn)"
                    .into()
            }
        }
    }
}

fn alternatives(words: &[&str]) -> String {
    words.join(" or ")
}

/// What every variable of the environment begins with.
pub(super) const PREFIX: &str = "RISKFLEET_";

/// Every setting. Each program knows all of them, whether it uses them or not.
pub fn settings() -> &'static [Setting] {
    SETTINGS
}

const fn setting(key: &'static str, kind: Kind, default: Option<&'static str>, doc: &'static str) -> Setting {
    Setting { key, kind, default, doc }
}

const SETTINGS: &[Setting] = &[
    setting("database_url", Kind::Url(&["postgres://", "postgresql://"]), None, "the Postgres server and database"),
    setting("amqp_url", Kind::Url(&["amqp://", "amqps://"]), None, "the RabbitMQ server and virtual host"),
    setting("redis_url", Kind::Url(&["redis://", "rediss://"]), None, "the Redis server"),
    setting(
        "namespace",
        Kind::Namespace,
        Some("riskfleet"),
        "prefix of the Postgres schema, the queues and the Redis keys, so that many fleets can share servers",
    ),
    setting(
        "http_addr",
        Kind::Address,
        Some("127.0.0.1:8080"),
        "where this process listens for HTTP: the API, or a worker's health and metrics",
    ),
    setting(
        "auth",
        Kind::Choice(&["on", "off"]),
        Some("on"),
        "whether callers must show a credential; off only on loopback addresses, for development",
    ),
    setting("jwt_secret", Kind::Secret(32), None, "the secret under which callers' tokens are signed (JWT, HS256)"),
    setting("master_key", Kind::Key, None, "the key under which the tenants' data keys are kept"),
    setting(
        "behind_proxy",
        Kind::Switch,
        Some("false"),
        "says that a proxy in front does TLS; a listener off loopback needs it",
    ),
    setting("partitions", Kind::Whole(1, 4096), Some("16"), "number of tenant partitions; fixed by `migrate`"),
    setting("lanes", Kind::Whole(1, 64), Some("2"), "a worker's lanes: store connections that commit side by side"),
    setting("weight", Kind::Whole(1, 1000), Some("1"), "a worker's share of the partitions, relative to the others'"),
    setting(
        "queue_type",
        Kind::Choice(&["quorum", "classic"]),
        Some("quorum"),
        "type of the partition queues; a cluster wants quorum",
    ),
    setting("prefetch", Kind::Whole(1, 2000), Some("24"), "unacknowledged packs that a worker holds of one partition"),
    setting(
        "pack_bytes_max",
        Kind::Whole(1024, 16_777_216),
        Some("131072"),
        "bound of a pack; a larger event travels as its id",
    ),
    setting(
        "accept_queue_events",
        Kind::Whole(1, 1_000_000),
        Some("20000"),
        "events that may wait for their accept; beyond it callers are told to come again",
    ),
    setting("accept_batch_max", Kind::Whole(1, 10_000), Some("1000"), "events in one accept transaction"),
    setting("commit_batch_max", Kind::Whole(1, 10_000), Some("500"), "events in one commit transaction"),
    setting(
        "unpublished_max",
        Kind::Whole(1, 1_000_000_000),
        Some("1000000"),
        "events that may be stored and wait for the broker; beyond it callers are told to come again",
    ),
    setting("body_bytes_max", Kind::Whole(1024, 268_435_456), Some("4194304"), "bound of a request body"),
    setting("event_bytes_max", Kind::Whole(256, 16_777_216), Some("262144"), "bound of one event's text"),
    setting("requests_max", Kind::Whole(1, 100_000), Some("1024"), "requests that are worked on at once"),
    setting(
        "request_timeout_s",
        Kind::Whole(1, 600),
        Some("30"),
        "seconds that a request may take, what it waits for a decision not counted",
    ),
    setting(
        "drain_timeout_s",
        Kind::Whole(1, 3600),
        Some("30"),
        "seconds that a stopping process may take to finish what it has begun",
    ),
    setting("log", Kind::Levels, Some("info"), "which log lines are written"),
    setting(
        "log_format",
        Kind::Choice(&["human", "json"]),
        Some("human"),
        "how they are written: for people, or one JSON object a line",
    ),
];
