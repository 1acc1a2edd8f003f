//! Owns what this process knows of API keys: for one second each, so that a revocation holds
//! everywhere within two, and noting when they are used. Never lets anybody in on old knowledge: where
//! the store can't be asked, nobody is let in by a key.
//!
//! # Decisions
//! A key that is known is read again by one request a second, on which the others wait. Texts that are
//! no key of ours are forgotten after a second and cost a bounded number of reads a second, so that
//! whoever sends made-up keys asks little of the store; above that bound the answer is 503, since the
//! key may be good.

use chrono::{DateTime, Utc};
use metrics::counter;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::super::problem::{Problem, ProblemType};
use super::{Caller, unauthorized};
use crate::domain::audit::Hash;
use crate::domain::{ApiKey, KeyId};
use crate::ports::{Clock, Keys};
use crate::telemetry::names;

/// How long what was read of a key is believed.
const FRESH: Duration = Duration::from_secs(1);

/// Keys that are known at once; also bounds what is remembered beside them.
const KNOWN_MAX: usize = 10_000;

/// Reads a second of the store for keys that are not known.
const UNKNOWN_READS_MAX: u32 = 200;

/// Such reads at once.
const UNKNOWN_READS_AT_ONCE: usize = 4;

/// How often the use of a key is noted.
const TOUCH_EVERY: Duration = Duration::from_secs(60);

/// How often noted uses are written.
const WRITE_EVERY: Duration = Duration::from_secs(10);

/// The keys that this process has seen.
pub struct KeyRing {
    registry: Arc<dyn Keys>,
    clock: Arc<dyn Clock>,
    seen: Mutex<Seen>,
    reads: Semaphore,
}

#[derive(Default)]
struct Seen {
    /// Keys that are there and not revoked, at most [`KNOWN_MAX`].
    known: HashMap<Hash, Known>,
    /// Texts that are no key, or no longer, and when that was read.
    unknown: HashMap<Hash, Duration>,
    /// The second that is running, and the reads for unknown keys in it.
    second: (Duration, u32),
    /// Uses that are not written yet, at most [`KNOWN_MAX`].
    used: HashMap<KeyId, DateTime<Utc>>,
}

struct Known {
    key: Arc<ApiKey>,
    /// The moment BEFORE the read.
    read_at: Duration,
    /// When reading it again failed.
    failed_at: Option<Duration>,
    touched_at: Option<Duration>,
    /// Who holds it reads the key again.
    turn: Arc<Semaphore>,
}

/// What is known of a key right now.
enum Look {
    Fresh(Option<Arc<ApiKey>>),
    Stale(Arc<Semaphore>),
    New,
    /// The store was away a moment ago.
    Away,
    TooMany,
}

impl KeyRing {
    /// A ring that knows nothing yet.
    pub fn new(registry: Arc<dyn Keys>, clock: Arc<dyn Clock>) -> Self {
        Self { registry, clock, seen: Mutex::default(), reads: Semaphore::new(UNKNOWN_READS_AT_ONCE) }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        // Every change of it is whole before the lock goes.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose the key with this hash is.
    pub(super) async fn caller(&self, hash: Option<Hash>, now: DateTime<Utc>) -> Result<Caller, Problem> {
        let found = match hash {
            Some(hash) => self.find(&hash).await?.map(|key| (hash, key)),
            None => None,
        };
        // The same words for a key that never was, was revoked, or has expired.
        let (hash, key) =
            found.filter(|(_, key)| key.holds(now)).ok_or_else(|| unauthorized("the key does not hold"))?;
        self.note_use(&hash, key.id, now);
        let (tenant, roles) = (key.tenant.clone(), key.roles.clone());
        Ok(Caller { subject: format!("key:{}", key.id), tenant, roles, credential: super::Credential::Key })
    }

    async fn find(&self, hash: &Hash) -> Result<Option<Arc<ApiKey>>, Problem> {
        match self.look(hash, true) {
            Look::Fresh(found) => Ok(found),
            Look::Stale(turn) => {
                let _turn = turn.acquire_owned().await.expect("the semaphore is never closed");
                match self.look(hash, false) {
                    Look::Fresh(found) => Ok(found),
                    Look::Away => Err(away()),
                    Look::Stale(_) | Look::New | Look::TooMany => self.read(hash).await,
                }
            }
            Look::New => {
                let _read = self.reads.acquire().await.expect("the semaphore is never closed");
                match self.look(hash, false) {
                    Look::Fresh(found) => Ok(found),
                    Look::Stale(_) | Look::New | Look::Away | Look::TooMany => self.read(hash).await,
                }
            }
            Look::Away => Err(away()),
            Look::TooMany => {
                counter!(names::KEY_READS_REFUSED).increment(1);
                let why = "more unknown keys are shown than are looked up in a second";
                Err(Problem::passing(ProblemType::Unavailable, why, FRESH))
            }
        }
    }

    /// `count`: whether a read that follows for a key that is not known is one of the second's.
    fn look(&self, hash: &Hash, count: bool) -> Look {
        let now = self.clock.elapsed();
        let fresh = |at: Duration| now.saturating_sub(at) < FRESH;
        let mut seen = self.seen();
        if let Some(known) = seen.known.get(hash) {
            return match known.failed_at {
                _ if fresh(known.read_at) => Look::Fresh(Some(Arc::clone(&known.key))),
                Some(at) if fresh(at) => Look::Away,
                _ => Look::Stale(Arc::clone(&known.turn)),
            };
        }
        if seen.unknown.get(hash).is_some_and(|at| fresh(*at)) {
            return Look::Fresh(None);
        }
        if !count {
            return Look::New;
        }
        if !fresh(seen.second.0) {
            seen.second = (now, 0);
            seen.unknown.retain(|_, at| now.saturating_sub(*at) < FRESH);
        }
        if seen.second.1 >= UNKNOWN_READS_MAX {
            return Look::TooMany;
        }
        seen.second.1 += 1;
        Look::New
    }

    async fn read(&self, hash: &Hash) -> Result<Option<Arc<ApiKey>>, Problem> {
        counter!(names::KEY_READS).increment(1);
        // Before the read: what is revoked while it runs must not count as read after that.
        let began = self.clock.elapsed();
        let read = Keys::key_by_hash(&*self.registry, hash).await;
        let mut seen = self.seen();
        match read {
            Ok(found) => {
                let found = found.filter(|key| key.revoked.is_none() && bool::from(key.hash.ct_eq(hash)));
                Ok(seen.note(hash, began, found))
            }
            Err(e) => {
                let failed = self.clock.elapsed();
                if let Some(known) = seen.known.get_mut(hash) {
                    known.failed_at = Some(failed);
                }
                Err(e.into())
            }
        }
    }

    fn note_use(&self, hash: &Hash, id: KeyId, at: DateTime<Utc>) {
        let now = self.clock.elapsed();
        let mut seen = self.seen();
        let Some(known) = seen.known.get_mut(hash) else { return };
        if known.touched_at.is_some_and(|touched| now.saturating_sub(touched) < TOUCH_EVERY) {
            return;
        }
        known.touched_at = Some(now);
        if seen.used.len() < KNOWN_MAX {
            seen.used.insert(id, at);
        }
    }

    /// Writes when keys were used, a few seconds behind, until `stop` and once more then.
    pub async fn write_uses(&self, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(WRITE_EVERY)).await.is_some() {
            self.write_used().await;
        }
        self.write_used().await;
    }

    async fn write_used(&self) {
        let mut used: Vec<(KeyId, DateTime<Utc>)> = self.seen().used.drain().collect();
        if used.is_empty() {
            return;
        }
        used.sort_unstable();
        if let Err(e) = self.registry.touch_keys(&used).await {
            tracing::debug!(error = %e, keys = used.len(), "failed to note the use of keys; tried again later");
            let mut seen = self.seen();
            for (id, at) in used {
                seen.used.entry(id).or_insert(at);
            }
        }
    }
}

impl Seen {
    /// Keeps what was read.
    fn note(&mut self, hash: &Hash, read_at: Duration, found: Option<ApiKey>) -> Option<Arc<ApiKey>> {
        let Some(key) = found.map(Arc::new) else {
            self.known.remove(hash);
            if self.unknown.len() >= KNOWN_MAX {
                self.unknown.clear();
            }
            self.unknown.insert(*hash, read_at);
            return None;
        };
        self.unknown.remove(hash);
        if !self.known.contains_key(hash) && self.known.len() >= KNOWN_MAX {
            let oldest = self.known.iter().min_by_key(|(_, known)| known.read_at).map(|(hash, _)| *hash);
            oldest.and_then(|oldest| self.known.remove(&oldest));
        }
        let known = self.known.entry(*hash).or_insert_with(|| Known {
            key: Arc::clone(&key),
            read_at,
            failed_at: None,
            touched_at: None,
            turn: Arc::new(Semaphore::new(1)),
        });
        (known.key, known.read_at, known.failed_at) = (Arc::clone(&key), read_at, None);
        Some(key)
    }
}

fn away() -> Problem {
    Problem::passing(ProblemType::Unavailable, "the store is away", FRESH)
}
