//! Owns the data keys that a process works with: finds or makes them, a batch at a time, keeps them
//! opened for a while, and forgets those that are erased. Every sealing and opening goes by here.
//!
//! # Decisions
//! **Two levels.** The master key wraps each tenant's own key, and that wraps the keys of the tenant's
//! subjects. So another master key, or a key management service, is asked once a tenant and not once
//! a subject, a new master key means one row a tenant, and the end of a tenant is the end of one key.
//!
//! **Subjects have no name here.** A subject's row is found by a tag that is derived from its name
//! under the tenant's key: who reads the table can't tell whose a key is, nor try names, and once the
//! tenant's key is destroyed nobody can.
//!
//! **An erased key is used for two seconds at most.** Before a key is used, the vault's generation
//! must have been read within [`TRUSTED`]; where it has not, it is read then, and where that fails
//! nothing is sealed or opened. A generation that has moved evicts what was erased. A key that was
//! read from the vault is kept only if no erasure was seen since before it was read.
//!
//! **Nothing of an erased subject survives an accept beside it.** An accept that had the key may
//! still store its event after the erasure has answered, within those two seconds: sealed under a key
//! that exists nowhere any more. It ends as a dead letter. A new key for the subject can't be made:
//! its destroyed one stands in its place, put there by the erasure where there was none.

mod cache;
mod wrapping;

use bytes::Bytes;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use uuid::Uuid;

pub use cache::Key;
pub use wrapping::Rewrapped;

use super::envelope::{self, DataKey, Place, Purpose};
use crate::domain::{AuditBody, TenantId};
use crate::ports::vault::{EraseAct, KeyWrap, Made, MasterId, Survey, Tag, Vault};
use crate::ports::{Clock, Entropy, StoreError};
use cache::{Cache, Known};

/// How many opened keys are kept, unless said otherwise: about 300 bytes each.
pub const KEYS_MAX: usize = 100_000;

/// How long the last look at the vault is good for.
pub const TRUSTED: Duration = Duration::from_millis(1_500);

/// Erasures that are evicted one by one; more, and everything is read anew.
const ERASED_MAX: u32 = 10_000;

/// How often a key is looked for when others make and change keys meanwhile.
const TRIES: usize = 5;

/// The keys of a process.
pub struct Keyring {
    vault: Arc<dyn Vault>,
    wrap: Arc<dyn KeyWrap>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    held: Mutex<Held>,
    hits: AtomicU64,
    misses: AtomicU64,
}

struct Held {
    cache: Cache,
    seen: Option<Seen>,
}

#[derive(Clone, Copy)]
struct Seen {
    generation: i64,
    master: MasterId,
    /// When the look began, by the clock's `elapsed`.
    at: Duration,
}

/// What became of something that was to be opened.
#[derive(Debug, Clone)]
pub enum Revealed {
    /// Its text, and the key that it was sealed under: none where it was stored before texts were
    /// sealed.
    Text(Bytes, Option<Arc<DataKey>>),
    /// Its key was destroyed.
    Erased,
    /// It does not open: it was changed, moved, or its key is not here.
    Broken,
}

/// What the cache of keys has done and holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyringFigures {
    /// Keys that were found in memory, since the start.
    pub hits: u64,
    /// Keys that were not.
    pub misses: u64,
    /// Keys in memory.
    pub keys: usize,
}

impl Keyring {
    /// A keyring of at most `keys_max` opened keys. Asks nobody yet.
    pub fn new(
        vault: Arc<dyn Vault>,
        wrap: Arc<dyn KeyWrap>,
        (clock, entropy): (Arc<dyn Clock>, Arc<dyn Entropy>),
        keys_max: usize,
    ) -> Self {
        let held = Mutex::new(Held { cache: Cache::new(keys_max), seen: None });
        Self { vault, wrap, clock, entropy, held, hits: AtomicU64::new(0), misses: AtomicU64::new(0) }
    }

    // A panic while the lock is held can only come from an allocation that failed.
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the cache has done.
    pub fn figures(&self) -> KeyringFigures {
        KeyringFigures {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            keys: self.held().cache.len(),
        }
    }

    /// Looks at the vault: forgets what was erased, and learns which master key holds. The first look
    /// at a new vault gives it this process's master key.
    ///
    /// # Errors
    /// [`StoreError::Misfit`] when this process has not the master key that holds.
    pub async fn look(&self) -> Result<(), StoreError> {
        let at = self.clock.elapsed();
        let state = self.vault.state().await?;
        let master = match state.master {
            Some(master) => master,
            None => self.vault.adopt(self.wrap.current().map_err(wrapping::failed)?).await?,
        };
        if !self.wrap.knows(master) {
            return Err(wrapping::not_known(&*self.wrap, master));
        }
        let before = self.held().seen;
        let erased = match before {
            Some(seen) if seen.generation < state.generation => {
                self.vault.erased_since(seen.generation, ERASED_MAX).await?
            }
            Some(_) | None => Vec::new(),
        };
        let mut held = self.held();
        if erased.len() >= ERASED_MAX as usize {
            held.cache.clear();
        }
        held.cache.evict(&erased);
        let seen = Seen { generation: state.generation, master, at };
        // A look that began earlier may end later.
        let newer = held.seen.filter(|other| (other.generation, other.at) > (seen.generation, seen.at));
        held.seen = Some(newer.unwrap_or(seen));
        Ok(())
    }

    /// Holds this process's master key against the vault's, and changes nothing. None where the vault has
    /// none yet.
    ///
    /// # Errors
    /// As [`Keyring::look`].
    pub async fn check(&self) -> Result<Option<MasterId>, StoreError> {
        let master = self.vault.state().await?.master;
        match master.filter(|master| !self.wrap.knows(*master)) {
            Some(other) => Err(wrapping::not_known(&*self.wrap, other)),
            None => Ok(master),
        }
    }

    /// What was last seen, not older than it may be.
    async fn seen(&self) -> Result<Seen, StoreError> {
        let now = self.clock.elapsed();
        let fresh = |seen: &Seen| now.saturating_sub(seen.at) < TRUSTED;
        if let Some(seen) = self.held().seen.filter(fresh) {
            return Ok(seen);
        }
        self.look().await?;
        self.held().seen.ok_or_else(|| StoreError::Fault("the vault has not been looked at".into()))
    }

    /// The keys to seal under, for tenants and their subjects, in order; made where there are none.
    ///
    /// # Errors
    /// When the vault is away, or this process has not its master key.
    pub async fn keys_for(&self, wanted: &[(&TenantId, Option<&str>)]) -> Result<Vec<Key>, StoreError> {
        let tenants: BTreeSet<&TenantId> = wanted.iter().map(|(tenant, _)| *tenant).collect();
        let own = self.having(tenants.into_iter().map(|tenant| (tenant.clone(), Tag::OWN)).collect()).await?;
        let place =
            |(tenant, subject): &(&TenantId, Option<&str>)| match (own.get(&((*tenant).clone(), Tag::OWN)), subject) {
                (Some(Key::Live(key)), Some(subject)) => Some(((*tenant).clone(), key.tag_of(subject))),
                (Some(Key::Live(_)), None) => Some(((*tenant).clone(), Tag::OWN)),
                (Some(Key::Erased) | None, _) => None,
            };
        let places: Vec<Option<(TenantId, Tag)>> = wanted.iter().map(place).collect();
        let subjects = places.iter().flatten().filter(|(_, tag)| *tag != Tag::OWN).cloned().collect();
        let of_subjects = self.having(subjects).await?;
        let found = |place: Option<(TenantId, Tag)>| {
            let key = place.and_then(|place| of_subjects.get(&place).or_else(|| own.get(&place)).cloned());
            key.unwrap_or(Key::Erased)
        };
        Ok(places.into_iter().map(found).collect())
    }

    /// The keys of these owners: out of memory, out of the vault, or new.
    async fn having(&self, owners: BTreeSet<(TenantId, Tag)>) -> Result<HashMap<(TenantId, Tag), Key>, StoreError> {
        let mut found = HashMap::with_capacity(owners.len());
        let mut missing: Vec<(TenantId, Tag)> = owners.into_iter().collect();
        for _ in 0..TRIES {
            let seen = self.seen().await?;
            missing = self.remembered(missing, &mut found);
            if missing.is_empty() {
                return Ok(found);
            }
            let rows = self.vault.keys_of(&missing).await?;
            self.open_rows(rows, seen).await?.into_iter().for_each(|k| {
                found.insert((k.tenant.clone(), k.tag), k.key.clone());
            });
            missing.retain(|owner| !found.contains_key(owner));
            if missing.is_empty() {
                return Ok(found);
            }
            let new = self.new_rows(&missing, seen, &mut found).await?;
            if new.is_empty() {
                return Ok(found);
            }
            match self.vault.make_keys(seen.master, &new).await? {
                Made::Keys(rows) => {
                    for known in self.open_rows(rows, seen).await? {
                        found.insert((known.tenant.clone(), known.tag), known.key.clone());
                    }
                    forget_erased(&mut missing, &mut found);
                    if missing.is_empty() {
                        return Ok(found);
                    }
                }
                // Another master key holds since: learn which.
                Made::OtherMaster(_) => self.look().await?,
            }
        }
        Err(StoreError::Away("the data keys changed again and again".into()))
    }

    /// Takes out of `missing` what is in memory.
    fn remembered(
        &self,
        missing: Vec<(TenantId, Tag)>,
        found: &mut HashMap<(TenantId, Tag), Key>,
    ) -> Vec<(TenantId, Tag)> {
        let mut held = self.held();
        let before = missing.len();
        let mut left = Vec::new();
        for (tenant, tag) in missing {
            match held.cache.of(&tenant, tag) {
                Some(known) => _ = found.insert((tenant, tag), known.key.clone()),
                None => left.push((tenant, tag)),
            }
        }
        drop(held);
        self.hits.fetch_add((before - left.len()) as u64, Ordering::Relaxed);
        self.misses.fetch_add(left.len() as u64, Ordering::Relaxed);
        left
    }

    /// Keeps keys in mind, if no erasure was seen since what they were read under.
    fn remember(&self, known: &[Arc<Known>], read_under: Seen) {
        let mut held = self.held();
        if held.seen.is_some_and(|seen| seen.generation == read_under.generation) {
            known.iter().for_each(|one| held.cache.put(Arc::clone(one)));
        }
    }

    /// Seals a text for its place.
    pub fn seal(&self, key: &DataKey, place: Place<'_>, text: &[u8]) -> Bytes {
        let mut nonce = [0; 12];
        nonce.copy_from_slice(&self.entropy.bits().to_le_bytes()[..12]);
        key.seal(place, nonce, text)
    }

    /// Seals what was not taken, and belongs to nobody for sure: under the platform's own key.
    ///
    /// # Errors
    /// As [`Keyring::keys_for`].
    pub async fn seal_rejected(&self, id: Uuid, body: &[u8]) -> Result<Bytes, StoreError> {
        let tenant = TenantId::platform();
        match self.keys_for(&[(&tenant, None)]).await?.pop() {
            Some(Key::Live(key)) => {
                Ok(self.seal(&key, Place { purpose: Purpose::Rejected, tenant: &tenant, id }, body))
            }
            Some(Key::Erased) | None => Ok(Bytes::new()),
        }
    }

    /// Opens what stands in these places, in order. What was stored before texts were sealed is given
    /// as it stands.
    ///
    /// # Errors
    /// As [`Keyring::keys_for`].
    pub async fn open(&self, stored: &[(Place<'_>, &Bytes)]) -> Result<Vec<Revealed>, StoreError> {
        let keys = self.named(stored.iter().filter_map(|(_, bytes)| envelope::key_id(bytes))).await?;
        let reveal = |(place, bytes): &(Place<'_>, &Bytes)| {
            let Some(id) = envelope::key_id(bytes) else {
                let plain = !envelope::is_sealed(bytes);
                return if plain { Revealed::Text((*bytes).clone(), None) } else { Revealed::Broken };
            };
            match keys.get(&id) {
                Some(Key::Live(key)) => {
                    let opened = key.open(*place, bytes);
                    opened.map_or(Revealed::Broken, |text| Revealed::Text(text, Some(Arc::clone(key))))
                }
                Some(Key::Erased) => Revealed::Erased,
                None => Revealed::Broken,
            }
        };
        Ok(stored.iter().map(reveal).collect())
    }

    /// The keys of these ids that there are.
    async fn named(&self, ids: impl Iterator<Item = Uuid>) -> Result<HashMap<Uuid, Key>, StoreError> {
        let ids: BTreeSet<Uuid> = ids.collect();
        let mut found = HashMap::with_capacity(ids.len());
        if ids.is_empty() {
            return Ok(found);
        }
        let seen = self.seen().await?;
        let mut missing = Vec::new();
        {
            let mut held = self.held();
            for id in ids {
                match held.cache.named(id) {
                    Some(known) => _ = found.insert(id, known.key.clone()),
                    None => missing.push(id),
                }
            }
        }
        self.hits.fetch_add(found.len() as u64, Ordering::Relaxed);
        self.misses.fetch_add(missing.len() as u64, Ordering::Relaxed);
        if !missing.is_empty() {
            let rows = self.vault.keys_named(&missing).await?;
            for known in self.open_rows(rows, seen).await? {
                found.insert(known.id, known.key.clone());
            }
        }
        Ok(found)
    }

    /// What a subject is called where it must not be named; none where its tenant is erased.
    ///
    /// # Errors
    /// As [`Keyring::keys_for`].
    pub async fn tag(&self, tenant: &TenantId, subject: &str) -> Result<Option<Tag>, StoreError> {
        Ok(match self.keys_for(&[(tenant, None)]).await?.pop() {
            Some(Key::Live(own)) => Some(own.tag_of(subject)),
            Some(Key::Erased) | None => None,
        })
    }

    /// What an erasure would destroy. A subject of an erased tenant is erased.
    ///
    /// # Errors
    /// As [`Keyring::keys_for`].
    pub async fn survey(&self, tenant: &TenantId, tag: Tag) -> Result<Survey, StoreError> {
        self.vault.survey(tenant, tag).await
    }

    /// Destroys keys for good, here at once and in every other process within two seconds.
    ///
    /// # Errors
    /// As [`Vault::erase`].
    pub async fn erase(&self, tenant: &TenantId, tag: Tag, audit: &AuditBody) -> Result<EraseAct, StoreError> {
        let act = self.vault.erase(tenant, tag, audit).await?;
        if let Err(error) = self.look().await {
            tracing::warn!(%error, "failed to look for what was just erased; no key is used until it is known");
            self.held().seen = None;
        }
        Ok(act)
    }
}

/// Takes out what was found; what is an erased tenant's is erased.
fn forget_erased(missing: &mut Vec<(TenantId, Tag)>, found: &mut HashMap<(TenantId, Tag), Key>) {
    for (tenant, tag) in missing.iter() {
        if matches!(found.get(&(tenant.clone(), Tag::OWN)), Some(Key::Erased)) {
            found.insert((tenant.clone(), *tag), Key::Erased);
        }
    }
    missing.retain(|owner| !found.contains_key(owner));
}
