//! Owns the settings of every program: where they come from, what they may be, their defaults.
//!
//! Sources, each over the one before: the program's own defaults, a TOML file (`--config`), the
//! environment (`RISKFLEET_…`), flags. Settings are read and checked once, at start; whatever is
//! wrong is told in one line that names the setting, the place where it was given and what was
//! expected. Never shows a secret.

mod check;
mod flags;
mod inbox_users;
mod load;
mod namespace;
mod prices;
mod table;

pub use flags::Flags;
pub use inbox_users::InboxUsers;
pub use load::{Sources, load};
pub use namespace::Namespace;
pub use prices::Price;
pub use table::{Kind, Setting, settings};

use secrecy::{SecretBox, SecretString};
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::domain::cost::ModelPrices;

/// Everything that can be set. `settings()` says what each one is for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The Postgres server and database; see [`Settings::database_url`].
    pub database_url: Option<SecretString>,
    /// The RabbitMQ server and virtual host; see [`Settings::amqp_url`].
    pub amqp_url: Option<SecretString>,
    /// The Redis server; see [`Settings::redis_url`].
    pub redis_url: Option<SecretString>,
    /// Prefix of names on shared servers.
    pub namespace: Namespace,
    /// Where this process listens for HTTP.
    pub http_addr: SocketAddr,
    /// Whether callers must show a credential.
    pub auth: Auth,
    /// At least 32 bytes; see [`Settings::jwt_secret`].
    pub jwt_secret: Option<SecretString>,
    /// A JSON Web Key Set.
    pub jwks_file: Option<PathBuf>,
    /// `aud` of tokens.
    pub jwt_audience: String,
    /// `iss` of tokens.
    pub jwt_issuer: Option<String>,
    /// Seconds by which issuers' clocks may differ.
    pub jwt_leeway_s: u32,
    /// Tenants of the broker's users.
    pub inbox_users: Option<InboxUsers>,
    /// The listener's certificate chain; with the key or not at all.
    pub tls_cert_file: Option<PathBuf>,
    /// The listener's private key.
    pub tls_key_file: Option<PathBuf>,
    /// 64 hex digits; see [`Settings::master_key`].
    pub master_key: Option<SecretString>,
    /// 64 hex digits; see [`Settings::master_key_previous`].
    pub master_key_previous: Option<SecretString>,
    /// 64 hex digits; see [`Settings::audit_key`].
    pub audit_key: Option<SecretString>,
    /// 64 hex digits; see [`Settings::audit_key_previous`].
    pub audit_key_previous: Option<SecretString>,
    /// Where checkpoints are also written.
    pub checkpoint_file: Option<PathBuf>,
    /// Seconds between checkpoints at most; see [`Settings::checkpoint_every`].
    pub checkpoint_seconds: u64,
    /// Records between checkpoints, about.
    pub checkpoint_records: u64,
    /// A proxy in front does TLS.
    pub behind_proxy: bool,
    /// Number of tenant partitions.
    pub partitions: u16,
    /// Lanes of a worker.
    pub lanes: u16,
    /// Share of a worker, relative to the others'.
    pub weight: u32,
    /// Type of the partition queues.
    pub queue_type: QueueType,
    /// Unacknowledged packs of one partition.
    pub prefetch: u16,
    /// Bound of a pack, in bytes.
    pub pack_bytes_max: usize,
    /// Bound of the accept queue, in events.
    pub accept_queue_events: usize,
    /// A tenant's share of it, in percent.
    pub tenant_queue_share: usize,
    /// Events of a tenant in a second, above which they go behind the others'.
    pub tenant_rate: u32,
    /// Events of a tenant in a second, above which they are refused; 0: never.
    pub tenant_rate_max: u32,
    /// Events in one accept transaction.
    pub accept_batch_max: usize,
    /// Events in one commit transaction.
    pub commit_batch_max: usize,
    /// How often an event is begun before it is dead-lettered.
    pub attempts_max: u32,
    /// Milliseconds before the second try of a failed event.
    pub retry_first_ms: u64,
    /// Seconds before any further try, at most.
    pub retry_longest_s: u64,
    /// Bound of what is stored and not published, in events.
    pub unpublished_max: u64,
    /// Days that events are kept, where a tenant has no retention of its own; 0: for ever.
    pub retention_days: u32,
    /// Days that audit records are kept at least; 0: for ever.
    pub audit_retention_days: u32,
    /// Price of a decision; see [`Settings::prices`].
    pub price_per_decision: Price,
    /// Price of 1,000 tokens.
    pub price_per_1000_tokens: Price,
    /// Prices of single models.
    #[serde(default, deserialize_with = "prices::of_models")]
    pub model_prices: Option<ModelPrices>,
    /// Seconds after which the audit is verified again; 0: never.
    pub audit_verify_s: u64,
    /// Seconds after which an approval request is overdue; 0: never.
    pub approval_due_s: u64,
    /// Who decides an overdue one.
    pub approval_escalate_role: SecondRole,
    /// Bound of a request body, in bytes.
    pub body_bytes_max: usize,
    /// Bound of one event's text, in bytes.
    pub event_bytes_max: usize,
    /// Requests worked on at once.
    pub requests_max: usize,
    /// Requests a second with one credential; 0: no bound.
    pub caller_requests_per_s: u32,
    /// Requests a second of one address whose credential does not hold; 0: no bound.
    pub refused_requests_per_s: u32,
    /// Seconds a request may take; see [`Settings::request_timeout`].
    pub request_timeout_s: u64,
    /// Seconds a stopping process may take; see [`Settings::drain_timeout`].
    pub drain_timeout_s: u64,
    /// Failures in a row that open a circuit.
    pub breaker_failures: u32,
    /// Seconds a circuit stays open; see [`Settings::breaker_recovery`].
    pub breaker_recovery_s: u64,
    /// Calls of one dependency under way at once.
    pub bulkhead_concurrent: usize,
    /// Calls of one dependency that wait.
    pub bulkhead_queued: usize,
    /// The collector of traces; none: nothing is traced.
    pub otlp_endpoint: Option<SecretString>,
    /// Headers for it, `name=value,…`.
    pub otlp_headers: Option<SecretString>,
    /// Percent of the requests that are traced, where nobody has decided.
    pub trace_sample_percent: u32,
    /// Events traced in a second.
    pub traces_per_s: u32,
    /// Tenants that metrics show by their names.
    pub metrics_tenants: usize,
    /// Log filter: a level, or several as `info,target=level`.
    pub log: String,
    /// How log lines are written.
    pub log_format: LogFormat,
}

/// Whether callers must show a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Auth {
    /// They must.
    On,
    /// Everybody on this machine may do everything.
    Off,
}

/// Who decides an overdue approval request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum SecondRole {
    /// Administrators.
    Admin,
    /// Approvers.
    Approver,
}

/// Type of the partition queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QueueType {
    /// Replicated in a cluster.
    Quorum,
    /// On one node.
    Classic,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// What is wrong with the settings: one line that names the setting and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SettingsError(String);

impl SettingsError {
    pub(crate) fn new(line: impl Into<String>) -> Self {
        // One line, whatever a foreign error text holds.
        Self(line.into().replace(['\n', '\r'], " "))
    }
}

impl Settings {
    /// The Postgres server and database.
    ///
    /// # Errors
    /// When it is not set; so for every setting that only some programs need.
    pub fn database_url(&self) -> Result<&SecretString, SettingsError> {
        needed("database_url", self.database_url.as_ref())
    }

    /// The RabbitMQ server and virtual host.
    ///
    /// # Errors
    /// When it is not set.
    pub fn amqp_url(&self) -> Result<&SecretString, SettingsError> {
        needed("amqp_url", self.amqp_url.as_ref())
    }

    /// The Redis server.
    ///
    /// # Errors
    /// When it is not set.
    pub fn redis_url(&self) -> Result<&SecretString, SettingsError> {
        needed("redis_url", self.redis_url.as_ref())
    }

    /// The secret under which callers' tokens are signed.
    ///
    /// # Errors
    /// When it is not set.
    pub fn jwt_secret(&self) -> Result<&SecretString, SettingsError> {
        needed("jwt_secret", self.jwt_secret.as_ref())
    }

    /// The key under which the tenants' data keys are kept: 32 bytes.
    ///
    /// # Errors
    /// When it is not set.
    pub fn master_key(&self) -> Result<SecretBox<[u8; 32]>, SettingsError> {
        let digits = needed("master_key", self.master_key.as_ref())?;
        SecretBox::try_init_with(|| check::key(digits))
            .map_err(|expected| SettingsError::new(format!("{} must be {expected}", variable("master_key"))))
    }

    /// The other master key, while it is being changed.
    ///
    /// # Errors
    /// When it is no key.
    pub fn master_key_previous(&self) -> Result<Option<SecretBox<[u8; 32]>>, SettingsError> {
        seed("master_key_previous", self.master_key_previous.as_ref())
    }

    /// The seed of the key that signs checkpoints; none where it is not set.
    ///
    /// # Errors
    /// When it is no key.
    pub fn audit_key(&self) -> Result<Option<SecretBox<[u8; 32]>>, SettingsError> {
        seed("audit_key", self.audit_key.as_ref())
    }

    /// The seed of the key that signed until now.
    ///
    /// # Errors
    /// When it is no key.
    pub fn audit_key_previous(&self) -> Result<Option<SecretBox<[u8; 32]>>, SettingsError> {
        seed("audit_key_previous", self.audit_key_previous.as_ref())
    }

    /// After which a checkpoint is due, if the audit has grown.
    pub fn checkpoint_every(&self) -> Duration {
        Duration::from_secs(self.checkpoint_seconds)
    }

    /// How long a stopping process may take to finish what it has begun.
    pub fn drain_timeout(&self) -> Duration {
        Duration::from_secs(self.drain_timeout_s)
    }

    /// How long a circuit stays open before one call may try.
    pub fn breaker_recovery(&self) -> Duration {
        Duration::from_secs(self.breaker_recovery_s)
    }

    /// How long a request may take, what it waits for a decision not counted.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(self.request_timeout_s)
    }
}

fn variable(key: &str) -> String {
    format!("{}{}", table::PREFIX, key.to_ascii_uppercase())
}

fn seed(key: &'static str, digits: Option<&SecretString>) -> Result<Option<SecretBox<[u8; 32]>>, SettingsError> {
    let read = |digits| {
        SecretBox::try_init_with(|| check::key(digits))
            .map_err(|expected| SettingsError::new(format!("{} must be {expected}", variable(key))))
    };
    digits.map(read).transpose()
}

fn needed<'a, T>(key: &'static str, value: Option<&'a T>) -> Result<&'a T, SettingsError> {
    value.ok_or_else(|| {
        let setting = settings().iter().find(|s| s.key == key);
        let expected = setting.map(Setting::expected).unwrap_or_default();
        SettingsError::new(format!("{} is not set: this program needs {expected}", variable(key)))
    })
}

#[cfg(test)]
mod tests;
