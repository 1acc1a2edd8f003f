//! Owns the settings of every program: where they come from, what they may be, their defaults.
//!
//! Sources, each over the one before: the program's own defaults, a TOML file (`--config`), the
//! environment (`RISKFLEET_…`), flags. Settings are read and checked once, at start; whatever is
//! wrong is told in one line that names the setting, the place where it was given and what was
//! expected. Never shows a secret.

mod check;
mod flags;
mod load;
mod namespace;
mod table;

pub use flags::Flags;
pub use load::{Sources, load};
pub use namespace::Namespace;
pub use table::{Kind, Setting, settings};

use secrecy::{SecretBox, SecretString};
use serde::Deserialize;
use std::net::SocketAddr;
use std::time::Duration;

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
    /// 64 hex digits; see [`Settings::master_key`].
    pub master_key: Option<SecretString>,
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
    /// Events in one accept transaction.
    pub accept_batch_max: usize,
    /// Events in one commit transaction.
    pub commit_batch_max: usize,
    /// Bound of what is stored and not published, in events.
    pub unpublished_max: u64,
    /// Bound of a request body, in bytes.
    pub body_bytes_max: usize,
    /// Bound of one event's text, in bytes.
    pub event_bytes_max: usize,
    /// Requests worked on at once.
    pub requests_max: usize,
    /// Seconds a request may take; see [`Settings::request_timeout`].
    pub request_timeout_s: u64,
    /// Seconds a stopping process may take; see [`Settings::drain_timeout`].
    pub drain_timeout_s: u64,
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
    pub(super) fn new(line: impl Into<String>) -> Self {
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

    /// How long a stopping process may take to finish what it has begun.
    pub fn drain_timeout(&self) -> Duration {
        Duration::from_secs(self.drain_timeout_s)
    }

    /// How long a request may take, what it waits for a decision not counted.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(self.request_timeout_s)
    }
}

fn variable(key: &str) -> String {
    format!("{}{}", table::PREFIX, key.to_ascii_uppercase())
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
