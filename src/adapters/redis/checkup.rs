//! Owns what an operator's examination asks a Redis server. Reads only; never judges.

use chrono::DateTime;
use redis::InfoDict;

use super::link::Link;
use super::{RedisConfig, RedisLeases};
use crate::ports::checkup::{ClockPair, RedisSeen};
use crate::ports::{Clock, LeaseError, LeaseTtls, Leases};

/// Looks at a server.
///
/// # Errors
/// When it does not answer, or refuses.
pub async fn checkup(config: &RedisConfig, clock: &dyn Clock) -> Result<RedisSeen, LeaseError> {
    let link = Link::new(config).map_err(|e| LeaseError(e.to_string()))?;
    let away = |e: redis::RedisError| LeaseError(e.to_string());
    let mut ask = redis::pipe();
    let (info,): (InfoDict,) = link.pipeline(ask.cmd("INFO")).await.map_err(away)?;
    let mut ask = redis::pipe();
    let (asked, began) = (clock.now(), clock.elapsed());
    let ((seconds, micros),): ((i64, i64),) = link.pipeline(ask.cmd("TIME")).await.map_err(away)?;
    let took = clock.elapsed().saturating_sub(began);
    let theirs = DateTime::from_timestamp_micros(seconds.saturating_mul(1_000_000).saturating_add(micros));
    let theirs = theirs.ok_or_else(|| LeaseError("its clock shows no date".into()))?;
    let leases = RedisLeases::new(config, LeaseTtls::default()).map_err(|e| LeaseError(e.to_string()))?;
    let members = leases.members().await?.into_iter().map(|m| m.id).collect();
    let text = |key: &str| info.get::<String>(key).unwrap_or_default();
    Ok(RedisSeen {
        version: text("redis_version"),
        role: text("role"),
        clock: ClockPair::measured(asked, took, theirs),
        memory_max: info.get("maxmemory").unwrap_or(0),
        memory_used: info.get("used_memory").unwrap_or(0),
        memory_policy: text("maxmemory_policy"),
        evicted: info.get("evicted_keys").unwrap_or(0),
        members,
    })
}
