//! Owns membership and partition leases on Redis. Never decides what a worker may commit: the
//! store's epochs do.
//!
//! # Decisions
//! Every verb is one script and asks for a state rather than a change ("held by me from now on"),
//! so that a call whose answer was lost is simply made again and finds what the first one did. The
//! one verb that can't see that is `beat`: after an error it reports the key as missing once, which
//! costs the worker one membership TTL without claims, as a flushed server would.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use redis::{FromRedisValue, Pipeline, RedisError, Script};

use super::link::Link;
use super::{BadAddress, RedisConfig};
use crate::domain::{PartitionId, WorkerId};
use crate::ports::leases::{Beat, Renewal};
use crate::ports::{LeaseError, LeaseTtls, Leases, Member};

/// KEYS: membership, index. ARGV: id, member as JSON, TTL ms. Gives whether the key was there.
/// The index is scored with the time at which a membership ends; what ended a minute ago leaves it.
const BEAT: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local known = redis.call('EXISTS', KEYS[1])
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('ZADD', KEYS[2], string.format('%.0f', now + ARGV[3]), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now - 60000))
return known
";

/// KEYS: lease. ARGV: id, TTL ms. Gives whether `id` holds it afterwards.
const HOLD: &str = r"
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
";

/// KEYS: lease. ARGV: id.
const RELEASE: &str = r"
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
";

/// Membership and leases on Redis.
pub struct RedisLeases {
    link: Link,
    namespace: String,
    ttls: LeaseTtls,
    beat: Script,
    hold: Script,
    release: Script,
    /// Workers of this process whose last beat failed.
    unsure: Mutex<HashSet<WorkerId>>,
}

impl RedisLeases {
    /// Connects when it is first used. To be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the address can't be read; a server that is away is no error.
    pub fn new(config: &RedisConfig, ttls: LeaseTtls) -> Result<Self, BadAddress> {
        Ok(Self {
            link: Link::new(config)?,
            namespace: config.namespace.clone(),
            ttls,
            beat: Script::new(BEAT),
            hold: Script::new(HOLD),
            release: Script::new(RELEASE),
            unsure: Mutex::default(),
        })
    }

    fn worker_key(&self, id: impl std::fmt::Display) -> String {
        format!("{}:worker:{id}", self.namespace)
    }

    fn workers_key(&self) -> String {
        format!("{}:workers", self.namespace)
    }

    fn lease_key(&self, partition: PartitionId) -> String {
        format!("{}:lease:{}", self.namespace, partition.0)
    }

    fn unsure(&self) -> MutexGuard<'_, HashSet<WorkerId>> {
        // Single calls on a set: a poisoned lock guards good data.
        self.unsure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn script<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[String],
        args: &[String],
    ) -> Result<T, LeaseError> {
        let mut call = Pipeline::with_capacity(1);
        call.cmd("EVALSHA").arg(script.get_hash()).arg(keys.len()).arg(keys).arg(args);
        let (answer,) = self.link.scripts(script, &call).await.map_err(away)?;
        Ok(answer)
    }

    async fn hold(&self, partition: PartitionId, id: WorkerId) -> Result<bool, LeaseError> {
        let ttl = self.ttls.lease.as_millis().to_string();
        self.script(&self.hold, &[self.lease_key(partition)], &[id.to_string(), ttl]).await
    }

    async fn mget(&self, keys: &[String]) -> Result<Vec<Option<String>>, LeaseError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut call = Pipeline::with_capacity(1);
        call.cmd("MGET").arg(keys);
        let (values,) = self.link.pipeline(&call).await.map_err(away)?;
        Ok(values)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the signature that `map_err` wants")]
fn away(error: RedisError) -> LeaseError {
    LeaseError(error.to_string())
}

#[async_trait]
impl Leases for RedisLeases {
    async fn beat(&self, member: &Member) -> Result<Beat, LeaseError> {
        let text = serde_json::to_string(member).map_err(|error| LeaseError(error.to_string()))?;
        let keys = [self.worker_key(member.id), self.workers_key()];
        let ttl = self.ttls.member.as_millis().to_string();
        match self.script::<bool>(&self.beat, &keys, &[member.id.to_string(), text, ttl]).await {
            Ok(known) => {
                let unsure = self.unsure().remove(&member.id);
                Ok(if known && !unsure { Beat::Kept } else { Beat::Missing })
            }
            Err(error) => {
                self.unsure().insert(member.id);
                Err(error)
            }
        }
    }

    async fn members(&self) -> Result<Vec<Member>, LeaseError> {
        let mut call = Pipeline::with_capacity(1);
        call.cmd("ZRANGE").arg(self.workers_key()).arg(0).arg(-1);
        let (ids,): (Vec<String>,) = self.link.pipeline(&call).await.map_err(away)?;
        let keys: Vec<String> = ids.iter().map(|id| self.worker_key(id)).collect();
        let mut members = Vec::with_capacity(ids.len());
        for text in self.mget(&keys).await?.into_iter().flatten() {
            match serde_json::from_str::<Member>(&text) {
                Ok(member) => members.push(member),
                Err(error) => tracing::warn!(error = %error, "a membership can't be read, leaving it out"),
            }
        }
        members.sort_by_key(|member| member.id);
        Ok(members)
    }

    async fn leave(&self, id: WorkerId) -> Result<(), LeaseError> {
        self.unsure().remove(&id);
        let mut call = Pipeline::with_capacity(2);
        call.atomic();
        call.cmd("DEL").arg(self.worker_key(id)).ignore();
        call.cmd("ZREM").arg(self.workers_key()).arg(id.to_string()).ignore();
        self.link.pipeline(&call).await.map_err(away)
    }

    async fn acquire(&self, partition: PartitionId, id: WorkerId) -> Result<bool, LeaseError> {
        self.hold(partition, id).await
    }

    async fn renew(&self, partition: PartitionId, id: WorkerId) -> Result<Renewal, LeaseError> {
        Ok(if self.hold(partition, id).await? { Renewal::Kept } else { Renewal::Lost })
    }

    async fn release(&self, partition: PartitionId, id: WorkerId) -> Result<(), LeaseError> {
        let _: i64 = self.script(&self.release, &[self.lease_key(partition)], &[id.to_string()]).await?;
        Ok(())
    }

    async fn holders(&self, partitions: u16) -> Result<Vec<Option<WorkerId>>, LeaseError> {
        let keys: Vec<String> = (0..partitions).map(|p| self.lease_key(PartitionId(p))).collect();
        // What is no worker's id was not written by a fleet: nobody holds it, and it runs out.
        Ok(self.mget(&keys).await?.into_iter().map(|id| id.and_then(|id| id.parse().ok())).collect())
    }
}
