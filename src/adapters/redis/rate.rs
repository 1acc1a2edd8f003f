//! Owns the rates of tenants that all processes share, on Redis. Never waits for room: it tells.
//!
//! # Decisions
//! One script call a batch, by the server's clock: a tenant's counts are read, judged and written in
//! one step, so that no two processes let the same room be used twice. The keys of a batch's
//! tenants would lie on different nodes of a Redis Cluster, which runs no script across nodes: this
//! wants one primary, like the leases.

use async_trait::async_trait;
use redis::{Pipeline, Script};
use std::collections::HashMap;
use std::time::Duration;

use super::link::Link;
use super::{BadAddress, RedisConfig};
use crate::domain::TenantId;
use crate::ports::rate::{Pace, RateError, RateLimits, RateMeter, SECONDS_KEPT};

/// Asks judged by one call, so that no script holds the server up.
const ASKS_MAX: usize = 1_000;

/// A tenant that sends nothing for so long has no key.
const TTL_MS: u64 = (SECONDS_KEPT + 1) * 1_000;

/// Rates on Redis.
pub struct RedisRate {
    link: Link,
    namespace: String,
    limits: RateLimits,
    script: Script,
}

impl RedisRate {
    /// Connects when it is first used. To be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the address can't be read; a server that is away is no error.
    pub fn new(config: &RedisConfig, limits: RateLimits) -> Result<Self, BadAddress> {
        let script = Script::new(include_str!("rate.lua"));
        Ok(Self { link: Link::new(config)?, namespace: config.namespace.clone(), limits, script })
    }

    async fn ask(&self, wanted: &[(TenantId, u32)]) -> Result<Vec<Pace>, RateError> {
        let (mut keys, mut numbers): (Vec<String>, HashMap<&TenantId, usize>) = (Vec::new(), HashMap::new());
        let mut args = vec![self.limits.bulk_above, self.limits.refuse_above.unwrap_or(0), SECONDS_KEPT, TTL_MS];
        for (tenant, events) in wanted {
            let number = *numbers.entry(tenant).or_insert_with(|| {
                keys.push(format!("{}:rate:{tenant}", self.namespace));
                keys.len()
            });
            args.extend([number as u64, u64::from(*events)]);
        }
        let mut call = Pipeline::with_capacity(1);
        call.cmd("EVALSHA").arg(self.script.get_hash()).arg(keys.len()).arg(keys).arg(args);
        // Not idempotent, but alone in its pipeline: a server that has to be taught first ran nothing.
        let answer = self.link.scripts(&self.script, &call).await;
        let (paces,): (Vec<i64>,) = answer.map_err(|error| RateError(error.to_string()))?;
        if paces.len() != wanted.len() {
            return Err(RateError(format!("{} answers to {} asks", paces.len(), wanted.len())));
        }
        Ok(paces.into_iter().map(pace).collect())
    }
}

fn pace(answer: i64) -> Pace {
    match answer {
        0 => Pace::Normal,
        ..0 => Pace::Bulk,
        ms => Pace::Refused { retry_after: Duration::from_millis(ms.unsigned_abs()) },
    }
}

#[async_trait]
impl RateMeter for RedisRate {
    async fn take(&self, wanted: &[(TenantId, u32)]) -> Result<Vec<Pace>, RateError> {
        let mut paces = Vec::with_capacity(wanted.len());
        for asks in wanted.chunks(ASKS_MAX) {
            paces.extend(self.ask(asks).await?);
        }
        Ok(paces)
    }

    async fn ping(&self) -> Result<(), RateError> {
        let mut call = Pipeline::with_capacity(1);
        call.cmd("PING").ignore();
        self.link.pipeline::<()>(&call).await.map_err(|error| RateError(error.to_string()))
    }
}
