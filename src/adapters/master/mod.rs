//! The master key in this process: out of a setting or a file. A key management service is another
//! adapter of the same port.

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use async_trait::async_trait;
use bytes::Bytes;
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::ports::vault::{KeyWrap, MasterId, WrapError};

/// A master key, and the one before it while it is being changed.
pub struct LocalMaster {
    current: Master,
    previous: Option<Master>,
}

struct Master {
    id: MasterId,
    key: Zeroizing<[u8; 32]>,
}

impl Master {
    fn new(key: &[u8; 32]) -> Self {
        let mut id = [0; 16];
        derive(key, &[b"riskfleet/1/master-id"], &mut id);
        Self { id: MasterId(id), key: Zeroizing::new(*key) }
    }

    /// Every wrapped key has a key of its own, so that no nonce is used twice under one.
    fn cipher(&self, place: &[u8]) -> Aes256Gcm {
        let mut key = Zeroizing::new([0; 32]);
        derive(&self.key, &[b"riskfleet/1/master-wrap/", place], &mut key[..]);
        Aes256Gcm::new((&*key).into())
    }
}

fn derive(key: &[u8; 32], info: &[&[u8]], into: &mut [u8]) {
    let hkdf = Hkdf::<Sha256>::from_prk(key).expect("32 bytes are as long as HKDF wants its key");
    hkdf.expand_multi_info(info, into).expect("at most one block of 255 is asked for");
}

impl LocalMaster {
    /// The key that wraps, and one that unwraps what was wrapped before it.
    pub fn new(current: &[u8; 32], previous: Option<&[u8; 32]>) -> Self {
        Self { current: Master::new(current), previous: previous.map(Master::new) }
    }

    fn of(&self, id: MasterId) -> Result<&Master, WrapError> {
        let known = std::iter::once(&self.current).chain(&self.previous).find(|master| master.id == id);
        known.ok_or_else(|| WrapError::Missing(format!("use the master key {id}: this process does not have it")))
    }
}

#[async_trait]
impl KeyWrap for LocalMaster {
    fn current(&self) -> Result<MasterId, WrapError> {
        Ok(self.current.id)
    }

    fn knows(&self, master: MasterId) -> bool {
        self.of(master).is_ok()
    }

    async fn wrap_key(&self, master: MasterId, place: &[u8], key: &[u8; 32]) -> Result<Bytes, WrapError> {
        let mut sealed = key.to_vec();
        // The cipher's key is of this place alone, which has the id of the one key that is wrapped
        // there: the same nonce would at most wrap the same key again.
        let tag = self.of(master)?.cipher(place).encrypt_inout_detached(
            &Nonce::default(),
            place,
            sealed.as_mut_slice().into(),
        );
        // What could not be sealed must not stand there in the clear.
        let tag: [u8; 16] = tag.expect("AES-GCM takes every text below 64 GiB").into();
        sealed.extend_from_slice(&tag);
        Ok(sealed.into())
    }

    async fn unwrap_key(
        &self,
        master: MasterId,
        place: &[u8],
        wrapped: &[u8],
    ) -> Result<Zeroizing<[u8; 32]>, WrapError> {
        let broken = || WrapError::Broken(master);
        let (sealed, tag) = wrapped.split_first_chunk::<32>().ok_or_else(broken)?;
        let tag: [u8; 16] = tag.try_into().map_err(|_| broken())?;
        let mut key = Zeroizing::new(*sealed);
        self.of(master)?
            .cipher(place)
            .decrypt_inout_detached(&Nonce::default(), place, key.as_mut_slice().into(), &tag.into())
            .map_err(|_| broken())?;
        Ok(key)
    }
}

/// No master key: whatever needs one says so.
pub struct NoMaster(
    /// Why there is none.
    pub String,
);

#[async_trait]
impl KeyWrap for NoMaster {
    fn current(&self) -> Result<MasterId, WrapError> {
        Err(WrapError::Missing(self.0.clone()))
    }

    fn knows(&self, _: MasterId) -> bool {
        false
    }

    async fn wrap_key(&self, _: MasterId, _: &[u8], _: &[u8; 32]) -> Result<Bytes, WrapError> {
        Err(WrapError::Missing(self.0.clone()))
    }

    async fn unwrap_key(&self, _: MasterId, _: &[u8], _: &[u8]) -> Result<Zeroizing<[u8; 32]>, WrapError> {
        Err(WrapError::Missing(self.0.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_one_key_has_wrapped_another_does_not_unwrap_nor_another_place() {
        let (old, new) = (LocalMaster::new(&[1; 32], None), LocalMaster::new(&[2; 32], Some(&[1; 32])));
        let id = old.current().expect("there is one");
        let wrapped = old.wrap_key(id, b"here", &[9; 32]).await.expect("wraps");
        assert_eq!(*new.unwrap_key(id, b"here", &wrapped).await.expect("knows the one before"), [9; 32]);
        assert_eq!(new.unwrap_key(id, b"there", &wrapped).await, Err(WrapError::Broken(id)));
        let other = new.current().expect("there is one");
        assert_eq!(new.unwrap_key(other, b"here", &wrapped).await, Err(WrapError::Broken(other)));
        assert!(!old.knows(other) && new.knows(id) && new.knows(other));
        for bit in 0..wrapped.len() * 8 {
            let mut changed = wrapped.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(old.unwrap_key(id, b"here", &changed).await.is_err(), "bit {bit}");
        }
    }
}
