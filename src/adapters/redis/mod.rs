//! Leases, subjects' histories and tenants' rates on Redis (6.2 and later, one primary).
//!
//! Owns the keys under the fleet's namespace. Never keeps anything there that the store could not
//! do without: Redis may be flushed, or be away, at any time.

mod checkup;
pub mod context;
pub mod leases;
mod link;
pub mod rate;

pub use checkup::checkup;
pub use context::RedisContext;
pub use leases::RedisLeases;
pub use rate::RedisRate;

use secrecy::SecretString;

/// Where Redis is.
#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// `redis://user:password@host:port/db`, or `rediss://`.
    pub url: SecretString,
    /// Prefix of every key.
    pub namespace: String,
}

/// The address is no Redis address; completes "failed to …". Does not show it: it holds a password.
#[derive(Debug, Clone, thiserror::Error)]
#[error("read the Redis address: {0}")]
pub struct BadAddress(String);
