//! Owns the list of all settings: name, default, what is allowed, and one line for people. The
//! loader, the flags and the README's table are held against it. Never reads a value.

use super::{inbox_users, namespace, prices};
use crate::domain::cost::MODEL_PRICES_EXPECTED;

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
    /// The path of a file.
    Path,
    /// A whole number within bounds, both included.
    Whole(u64, u64),
    /// A log filter.
    Levels,
    /// A text without a closer form.
    Text,
    /// Users of the broker and their tenants.
    Users,
    /// An amount of money, as a decimal.
    Price,
    /// Prices of single models.
    Prices,
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
            Kind::Path => "the path of a file".into(),
            Kind::Whole(min, max) => format!("a whole number from {min} to {max}"),
            Kind::Levels => {
                "a level (off, error, warn, info, debug, trace), or several as info,target=level (info,lapin=warn)"
                    .into()
            }
            Kind::Text => "a text that is not empty".into(),
            Kind::Users => inbox_users::EXPECTED.into(),
            Kind::Price => prices::EXPECTED.into(),
            Kind::Prices => MODEL_PRICES_EXPECTED.into(),
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
    setting(
        "jwks_file",
        Kind::Path,
        None,
        "a JSON Web Key Set: public keys that sign callers' tokens too (RS256, ES256, EdDSA); read again when it changes",
    ),
    setting("jwt_audience", Kind::Text, Some("riskfleet"), "whom callers' tokens must be meant for (aud)"),
    setting("jwt_issuer", Kind::Text, None, "who must have issued them (iss); not set: whoever holds the key"),
    setting(
        "jwt_leeway_s",
        Kind::Whole(0, 300),
        Some("30"),
        "seconds by which the clocks of issuers may differ from this one",
    ),
    setting(
        "inbox_users",
        Kind::Users,
        None,
        "whose messages the broker's users send, as user=tenant,user2=tenant2, by the property user_id, which it validates",
    ),
    setting("tls_cert_file", Kind::Path, None, "the listener's certificate chain (PEM); read again when it changes"),
    setting("tls_key_file", Kind::Path, None, "the private key of that certificate (PEM)"),
    setting("master_key", Kind::Key, None, "the key under which the tenants' data keys are kept"),
    setting("master_key_previous", Kind::Key, None, "the master key until now, while it is being changed"),
    setting("audit_key", Kind::Key, None, "the seed of the key that signs checkpoints of the audit (Ed25519)"),
    setting("audit_key_previous", Kind::Key, None, "the seed of the key that signed until now, which hands over"),
    setting("checkpoint_file", Kind::Path, None, "where checkpoints of the audit are also written, as JSON lines"),
    setting(
        "checkpoint_seconds",
        Kind::Whole(1, 86_400),
        Some("60"),
        "seconds after which a checkpoint is signed at the latest, if the audit has grown",
    ),
    setting(
        "checkpoint_records",
        Kind::Whole(1, 10_000_000),
        Some("10000"),
        "new records after which, about, a checkpoint is signed",
    ),
    setting(
        "behind_proxy",
        Kind::Switch,
        Some("false"),
        "says that a proxy in front does TLS and names callers' addresses; a listener off loopback needs it, or TLS",
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
    setting(
        "tenant_queue_share",
        Kind::Whole(1, 100),
        Some("25"),
        "percent of the accept queue that may hold one tenant's events; beyond it its callers get 429",
    ),
    setting(
        "tenant_rate",
        Kind::Whole(1, 10_000_000),
        Some("500"),
        "events a second of one tenant, over 2 s, above which they go behind the other tenants'",
    ),
    setting(
        "tenant_rate_max",
        Kind::Whole(0, 10_000_000),
        Some("2000"),
        "events a second of one tenant, over 2 s, above which its callers get 429; 0: none do",
    ),
    setting("accept_batch_max", Kind::Whole(1, 10_000), Some("1000"), "events in one accept transaction"),
    setting("commit_batch_max", Kind::Whole(1, 10_000), Some("500"), "events in one commit transaction"),
    setting("attempts_max", Kind::Whole(1, 100), Some("5"), "how often an event is begun before it is dead-lettered"),
    setting(
        "retry_first_ms",
        Kind::Whole(1, 3_600_000),
        Some("1000"),
        "milliseconds that a failed event waits for its second try, about; doubles with each further one",
    ),
    setting(
        "retry_longest_s",
        Kind::Whole(1, 86_400),
        Some("300"),
        "seconds that a failed event waits for its next try at most, about",
    ),
    setting(
        "unpublished_max",
        Kind::Whole(1, 1_000_000_000),
        Some("1000000"),
        "events that may be stored and wait for the broker; beyond it callers are told to come again",
    ),
    setting(
        "retention_days",
        Kind::Whole(0, 36_500),
        Some("0"),
        "days that events and decisions are kept, where a tenant has no retention of its own; 0: for ever",
    ),
    setting(
        "audit_retention_days",
        Kind::Whole(0, 36_500),
        Some("0"),
        "days that audit records are kept at least, and no shorter than their events; needs audit_key; 0: for ever",
    ),
    setting(
        "price_per_decision",
        Kind::Price,
        Some("0"),
        "what a decision costs, in units of the fleet's currency, where its model has no price of its own",
    ),
    setting(
        "price_per_1000_tokens",
        Kind::Price,
        Some("0.002"),
        "what 1,000 tokens of a language model cost, likewise",
    ),
    setting(
        "model_prices",
        Kind::Prices,
        None,
        "prices of single models, of a decision and of 1,000 tokens, as fraud@3=0.01:0.002,fraud=0.02:0.001",
    ),
    setting(
        "audit_verify_s",
        Kind::Whole(0, 31_536_000),
        Some("86400"),
        "seconds after which the console verifies the whole audit again; `0`: never",
    ),
    setting(
        "approval_due_s",
        Kind::Whole(0, 31_536_000),
        Some("86400"),
        "seconds after which an approval request is overdue and goes to the second role; 0: never",
    ),
    setting(
        "approval_escalate_role",
        Kind::Choice(&["ADMIN", "APPROVER"]),
        Some("ADMIN"),
        "the second role: who alone decides a request that was overdue",
    ),
    setting("body_bytes_max", Kind::Whole(1024, 268_435_456), Some("4194304"), "bound of a request body"),
    setting("event_bytes_max", Kind::Whole(256, 16_777_216), Some("262144"), "bound of one event's text"),
    setting("requests_max", Kind::Whole(1, 100_000), Some("1024"), "requests that are worked on at once"),
    setting(
        "caller_requests_per_s",
        Kind::Whole(0, 1_000_000),
        Some("1000"),
        "requests a second with one credential, above which it gets 429; 0: no bound",
    ),
    setting(
        "refused_requests_per_s",
        Kind::Whole(0, 1_000_000),
        Some("20"),
        "requests a second of one address whose credential does not hold, above which the address gets 429; 0: no bound",
    ),
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
    setting(
        "breaker_failures",
        Kind::Whole(1, 1000),
        Some("5"),
        "failures in a row after which a dependency is left alone (its circuit opens)",
    ),
    setting(
        "breaker_recovery_s",
        Kind::Whole(1, 3600),
        Some("30"),
        "seconds that it is left alone before one call tries; the leases' circuit tries after half a membership at most",
    ),
    setting(
        "bulkhead_concurrent",
        Kind::Whole(1, 10_000),
        Some("10"),
        "calls of a dependency under way at once; of the broker, hundreds of messages",
    ),
    setting(
        "bulkhead_queued",
        Kind::Whole(0, 100_000),
        Some("100"),
        "calls of a dependency that wait for these; beyond it they are refused",
    ),
    setting(
        "otlp_endpoint",
        Kind::Url(&["http://", "https://"]),
        None,
        "the collector that traces are sent to (OTLP over HTTP), as http://collector:4318; not set: nothing is traced",
    ),
    setting(
        "otlp_headers",
        Kind::Secret(3),
        None,
        "headers for the collector, as name=value,name2=value2: authorization=Bearer …",
    ),
    setting(
        "trace_sample_percent",
        Kind::Whole(0, 100),
        Some("1"),
        "percent of the requests that are traced, where the producer's traceparent does not say",
    ),
    setting(
        "traces_per_s",
        Kind::Whole(1, 10_000),
        Some("100"),
        "events a second that are traced at most, half of them because a producer's traceparent asks for it",
    ),
    setting(
        "metrics_tenants",
        Kind::Whole(0, 1_000),
        Some("50"),
        "tenants that metrics show by their names, the busiest; all others are `other`",
    ),
    setting("log", Kind::Levels, Some("info"), "which log lines are written"),
    setting(
        "log_format",
        Kind::Choice(&["human", "json"]),
        Some("human"),
        "how they are written: for people, or one JSON object a line",
    ),
];
