//! Owns the way between the vault's rows and opened keys: new keys, wrapped; kept ones, unwrapped;
//! and the turn from one master key to another. Never keeps a key that it could not open.

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::cache::{Key, Known};
use super::{Keyring, Seen};
use crate::crypto::envelope::DataKey;
use crate::domain::{AuditBody, TenantId};
use crate::ports::StoreError;
use crate::ports::vault::{KeyRow, KeyWrap, MasterId, Tag, WrapError};

/// Tenants' keys that are wrapped anew by one step.
const REWRAP_PAGE: u32 = 500;

/// What a step to another master key has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rewrapped {
    /// The master key that holds now.
    pub master: MasterId,
    /// Tenants' keys wrapped anew.
    pub keys: u64,
    /// Whether more are left.
    pub more: bool,
}

#[expect(clippy::needless_pass_by_value, reason = "so that it goes into map_err as it is")]
pub(super) fn failed(e: WrapError) -> StoreError {
    match e {
        WrapError::Missing(_) => StoreError::Misfit(e.to_string()),
        WrapError::Broken(_) => StoreError::Fault(e.to_string()),
        WrapError::Away(_) => StoreError::Away(e.to_string()),
    }
}

/// One clear sentence about a master key that is not this process's.
pub(super) fn not_known(wrap: &dyn KeyWrap, master: MasterId) -> StoreError {
    match wrap.current() {
        Ok(ours) => StoreError::Misfit(format!(
            "RISKFLEET_MASTER_KEY is the wrong key: this fleet's data keys are wrapped by the master key {master}, \
             this one is {ours}; set the right one, or while changing it the other as RISKFLEET_MASTER_KEY_PREVIOUS"
        )),
        Err(e) => failed(e),
    }
}

/// Wrapped, a key opens only as its own: of this tenant, this owner, this id.
fn place(tenant: &TenantId, tag: Tag, id: Uuid) -> Vec<u8> {
    [b"key/".as_slice(), &tag.0, id.as_bytes(), tenant.as_str().as_bytes()].concat()
}

/// A subject's key under its tenant's: nonce ‖ ciphertext ‖ tag. 2^32 random nonces are far more than
/// a tenant has subjects.
fn wrap_under(own: &DataKey, nonce: [u8; 12], place: &[u8], key: &[u8; 32]) -> Bytes {
    let mut sealed = nonce.to_vec();
    sealed.extend_from_slice(key);
    let cipher = Aes256Gcm::new((&*own.wrapping()).into());
    let tag = cipher.encrypt_inout_detached(&Nonce::from(nonce), place, (&mut sealed[12..]).into());
    // What could not be sealed must not stand there in the clear.
    let tag: [u8; 16] = tag.expect("AES-GCM takes every text below 64 GiB").into();
    sealed.extend_from_slice(&tag);
    sealed.into()
}

fn unwrap_under(own: &DataKey, place: &[u8], wrapped: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let wrapped: &[u8; 60] = wrapped.try_into().ok()?;
    let (nonce, rest) = wrapped.split_first_chunk::<12>()?;
    let (sealed, tag) = rest.split_first_chunk::<32>()?;
    let tag: [u8; 16] = tag.try_into().ok()?;
    let mut key = Zeroizing::new(*sealed);
    Aes256Gcm::new((&*own.wrapping()).into())
        .decrypt_inout_detached(&Nonce::from(*nonce), place, key.as_mut_slice().into(), &tag.into())
        .ok()?;
    Some(key)
}

impl Keyring {
    /// New keys for owners that have none, wrapped; what is an erased tenant's is noted as found.
    pub(super) async fn new_rows(
        &self,
        owners: &[(TenantId, Tag)],
        seen: Seen,
        found: &mut HashMap<(TenantId, Tag), Key>,
    ) -> Result<Vec<KeyRow>, StoreError> {
        let mut rows = Vec::with_capacity(owners.len());
        for (tenant, tag) in owners {
            let (id, key) = (self.entropy.uuid(), Zeroizing::new(self.entropy.secret()));
            let place = place(tenant, *tag, id);
            let (wrapped, master) = if *tag == Tag::OWN {
                (self.wrap.wrap_key(seen.master, &place, &key).await.map_err(failed)?, Some(seen.master))
            } else {
                // Its tag was made by the tenant's key, so that one was there a moment ago.
                let Some(Key::Live(own)) = self.own_key(tenant, seen).await? else {
                    found.insert((tenant.clone(), *tag), Key::Erased);
                    continue;
                };
                let mut nonce = [0; 12];
                nonce.copy_from_slice(&self.entropy.bits().to_le_bytes()[..12]);
                (wrap_under(&own, nonce, &place, &key), None)
            };
            rows.push(KeyRow { tenant: tenant.clone(), tag: *tag, id, wrapped: Some(wrapped), master });
        }
        Ok(rows)
    }

    /// A tenant's own key: out of memory, or read again where it was just evicted.
    async fn own_key(&self, tenant: &TenantId, seen: Seen) -> Result<Option<Key>, StoreError> {
        if let Some(known) = self.held().cache.of(tenant, Tag::OWN) {
            return Ok(Some(known.key.clone()));
        }
        let rows = self.vault.keys_of(&[(tenant.clone(), Tag::OWN)]).await?;
        let Some(row) = rows.into_iter().next() else { return Ok(None) };
        Ok(Some(self.open_own(row, seen).await?.key.clone()))
    }

    async fn open_own(&self, row: KeyRow, seen: Seen) -> Result<Arc<Known>, StoreError> {
        let key = match (&row.wrapped, row.master) {
            (None, _) => Key::Erased,
            (Some(wrapped), Some(master)) => {
                if !self.wrap.knows(master) {
                    return Err(not_known(&*self.wrap, master));
                }
                let place = place(&row.tenant, row.tag, row.id);
                let key = self.wrap.unwrap_key(master, &place, wrapped).await.map_err(failed)?;
                Key::Live(Arc::new(DataKey::new(row.id, row.tag, key)))
            }
            (Some(_), None) => return Err(StoreError::Fault("a tenant's key names no master key".into())),
        };
        let known = Arc::new(Known { tenant: row.tenant, tag: row.tag, id: row.id, key });
        self.remember(std::slice::from_ref(&known), seen);
        Ok(known)
    }

    /// Opens rows: the tenants' own keys first, then their subjects'.
    pub(super) async fn open_rows(&self, rows: Vec<KeyRow>, seen: Seen) -> Result<Vec<Arc<Known>>, StoreError> {
        let (own, subjects): (Vec<KeyRow>, Vec<KeyRow>) = rows.into_iter().partition(|row| row.tag == Tag::OWN);
        let mut known = Vec::new();
        let mut tenants: HashMap<TenantId, Key> = HashMap::new();
        for row in own {
            let opened = self.open_own(row, seen).await?;
            tenants.insert(opened.tenant.clone(), opened.key.clone());
            known.push(opened);
        }
        let mut opened = Vec::with_capacity(subjects.len());
        for row in subjects {
            let own = match tenants.get(&row.tenant) {
                Some(key) => key.clone(),
                None => {
                    let key = self.own_key(&row.tenant, seen).await?.unwrap_or(Key::Erased);
                    tenants.insert(row.tenant.clone(), key.clone());
                    key
                }
            };
            let key = match (row.wrapped, own) {
                (None, _) | (_, Key::Erased) => Key::Erased,
                (Some(wrapped), Key::Live(own)) => {
                    let key = unwrap_under(&own, &place(&row.tenant, row.tag, row.id), &wrapped);
                    let broken = || StoreError::Fault(format!("the data key {} is not what was wrapped", row.id));
                    Key::Live(Arc::new(DataKey::new(row.id, row.tag, key.ok_or_else(broken)?)))
                }
            };
            opened.push(Arc::new(Known { tenant: row.tenant, tag: row.tag, id: row.id, key }));
        }
        self.remember(&opened, seen);
        known.extend(opened);
        Ok(known)
    }

    /// One step to this process's master key: names it, so that new keys are wrapped by it, and wraps
    /// a page of tenants' keys anew. Everything runs on meanwhile, in processes that know both.
    ///
    /// # Errors
    /// As [`Keyring::look`]; and [`StoreError::Misfit`] when a key is wrapped by one that this process
    /// does not know.
    pub async fn rewrap(&self, audit: &AuditBody) -> Result<Rewrapped, StoreError> {
        self.look().await?;
        let master = self.wrap.current().map_err(failed)?;
        self.vault.change_master(master, audit).await?;
        let page = self.vault.under_others(master, REWRAP_PAGE).await?;
        let more = page.len() == REWRAP_PAGE as usize;
        let mut turned = Vec::with_capacity(page.len());
        for row in page {
            let (Some(wrapped), Some(under)) = (&row.wrapped, row.master) else { continue };
            if !self.wrap.knows(under) {
                return Err(not_known(&*self.wrap, under));
            }
            let place = place(&row.tenant, row.tag, row.id);
            let key = self.wrap.unwrap_key(under, &place, wrapped).await.map_err(failed)?;
            let anew = self.wrap.wrap_key(master, &place, &key).await.map_err(failed)?;
            let after = KeyRow { wrapped: Some(anew), master: Some(master), ..row.clone() };
            turned.push((row, after));
        }
        let keys = if turned.is_empty() { 0 } else { self.vault.rewrap(&turned).await? };
        self.look().await?;
        Ok(Rewrapped { master, keys, more })
    }
}
