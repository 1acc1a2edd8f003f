//! Owns the sealed form of what is stored and sent: AES-256-GCM (NIST SP 800-38D) under a key that is
//! derived for this one text. Pure: never looks a key up.
//!
//! | bytes | |
//! |---|---|
//! | 1 | the format, [`FORMAT`]; no JSON text begins with it |
//! | 16 | id of the data key |
//! | 16 | digest of the text under the data key: the same text under the same key, and nothing else, has the same |
//! | 12 | nonce |
//! | n + 16 | ciphertext and tag |
//!
//! Everything before the ciphertext, what it is (an event, a decision), its tenant and its event's id
//! are authenticated: in another row or another place it does not open.
//!
//! # Decisions
//! Nonces cannot repeat under one key. The data key itself encrypts nothing: the key of a text is
//! HKDF-SHA256 (RFC 5869) of the data key over its purpose and id, and an id is minted once and never
//! used again. A text that is sealed twice, as by two workers that decide one event, takes 96 new
//! random bits each time: one key sees a handful of nonces, where 2^32 would be allowed.
//!
//! The digest lets a store tell a repeated request from a conflicting one without a key. It is keyed,
//! so that it tells nobody else what the text was, and worthless once the data key is destroyed.

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use bytes::Bytes;
use hkdf::Hkdf;
use sha2::Sha256;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::domain::audit::sha256;
use crate::domain::{EventId, TenantId};
use crate::ports::store::NewEvent;
use crate::ports::vault::Tag;

/// The first byte of the one format there is.
pub const FORMAT: u8 = 1;

/// What an envelope is longer than its text, in bytes.
pub const OVERHEAD: usize = HEADER + NONCE + TAG;

const HEADER: usize = 1 + 16 + 16;
const NONCE: usize = 12;
const TAG: usize = 16;

/// What a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// An event's canonical text.
    Event,
    /// A decision's.
    Decision,
    /// A message that was not taken.
    Rejected,
}

impl Purpose {
    fn byte(self) -> u8 {
        match self {
            Self::Event => b'e',
            Self::Decision => b'd',
            Self::Rejected => b'r',
        }
    }
}

/// The place that an envelope belongs to.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// What it is.
    pub purpose: Purpose,
    /// Whose.
    pub tenant: &'a TenantId,
    /// Of what: the event's id.
    pub id: Uuid,
}

impl<'a> Place<'a> {
    /// An event's place.
    pub fn event(tenant: &'a TenantId, id: EventId) -> Self {
        Self { purpose: Purpose::Event, tenant, id: id.0 }
    }

    /// The place of the decision on an event.
    pub fn decision(tenant: &'a TenantId, id: EventId) -> Self {
        Self { purpose: Purpose::Decision, tenant, id: id.0 }
    }

    fn authenticated(&self, header: &[u8]) -> Vec<u8> {
        let mut aad = Vec::with_capacity(header.len() + 17 + self.tenant.as_str().len());
        aad.extend_from_slice(header);
        aad.push(self.purpose.byte());
        aad.extend_from_slice(self.id.as_bytes());
        // Last: its length is what is left.
        aad.extend_from_slice(self.tenant.as_str().as_bytes());
        aad
    }
}

/// A data key in memory; forgotten when it is dropped.
pub struct DataKey {
    /// Its id.
    pub id: Uuid,
    /// Whose within its tenant.
    pub tag: Tag,
    key: Zeroizing<[u8; 32]>,
}

impl std::fmt::Debug for DataKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DataKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Why an envelope does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the envelope is not what was sealed for this place under this key")]
pub struct Broken;

impl DataKey {
    /// A key.
    pub fn new(id: Uuid, tag: Tag, key: Zeroizing<[u8; 32]>) -> Self {
        Self { id, tag, key }
    }

    /// Derives bytes for one use of the key.
    fn derive(&self, use_of: &[&[u8]], into: &mut [u8]) {
        let hkdf = Hkdf::<Sha256>::from_prk(&self.key[..]).expect("32 bytes are as long as HKDF wants its key");
        hkdf.expand_multi_info(use_of, into).expect("at most one block of 255 is asked for");
    }

    /// Seals a text for its place. `nonce`: 12 random bytes.
    pub fn seal(&self, place: Place<'_>, nonce: [u8; NONCE], text: &[u8]) -> Bytes {
        let mut sealed = Vec::with_capacity(OVERHEAD + text.len());
        sealed.push(FORMAT);
        sealed.extend_from_slice(self.id.as_bytes());
        sealed.extend_from_slice(&self.digest(&sha256(text)));
        let aad = place.authenticated(&sealed);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(text);
        let tag = self.cipher(place).encrypt_inout_detached(
            &Nonce::from(nonce),
            &aad,
            (&mut sealed[HEADER + NONCE..]).into(),
        );
        // What could not be sealed must not stand there in the clear.
        let tag: [u8; TAG] = tag.expect("AES-GCM takes every text below 64 GiB").into();
        sealed.extend_from_slice(&tag);
        sealed.into()
    }

    /// Opens an envelope that stands in this place.
    ///
    /// # Errors
    /// [`Broken`] when it is not what this key has sealed for this place.
    pub fn open(&self, place: Place<'_>, envelope: &[u8]) -> Result<Bytes, Broken> {
        let parts = Envelope::read(envelope).filter(|parts| parts.key == self.id).ok_or(Broken)?;
        let mut text = parts.sealed.to_vec();
        let aad = place.authenticated(&envelope[..HEADER]);
        self.cipher(place)
            .decrypt_inout_detached(&Nonce::from(parts.nonce), &aad, text.as_mut_slice().into(), &parts.tag.into())
            .map_err(|_| Broken)?;
        Ok(text.into())
    }

    fn cipher(&self, place: Place<'_>) -> Aes256Gcm {
        let mut key = Zeroizing::new([0; 32]);
        self.derive(&[b"riskfleet/1/text/", &[place.purpose.byte()], place.id.as_bytes()], &mut key[..]);
        Aes256Gcm::new((&*key).into())
    }

    fn digest(&self, hash: &[u8; 32]) -> [u8; 16] {
        let mut digest = [0; 16];
        self.derive(&[b"riskfleet/1/digest/", hash], &mut digest);
        digest
    }

    /// What a subject is called where it must not be named.
    pub(crate) fn tag_of(&self, subject: &str) -> Tag {
        let mut tag = [0; 16];
        self.derive(&[b"riskfleet/1/subject/", subject.as_bytes()], &mut tag);
        Tag(tag)
    }

    /// The key that wraps the subjects' keys.
    pub(crate) fn wrapping(&self) -> Zeroizing<[u8; 32]> {
        let mut key = Zeroizing::new([0; 32]);
        self.derive(&[b"riskfleet/1/wrap"], &mut key[..]);
        key
    }
}

/// The parts of an envelope.
struct Envelope<'a> {
    key: Uuid,
    digest: &'a [u8],
    nonce: [u8; NONCE],
    sealed: &'a [u8],
    tag: [u8; TAG],
}

impl<'a> Envelope<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (header, rest) = bytes.split_at_checked(HEADER)?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE>()?;
        let (sealed, tag) = rest.split_last_chunk::<TAG>()?;
        let (format, header) = header.split_first()?;
        let (key, digest) = header.split_first_chunk::<16>()?;
        (*format == FORMAT).then(|| Self { key: Uuid::from_bytes(*key), digest, nonce: *nonce, sealed, tag: *tag })
    }
}

/// Whether bytes are meant as an envelope: what is not, is a text from before texts were sealed.
pub fn is_sealed(stored: &[u8]) -> bool {
    stored.first() == Some(&FORMAT)
}

/// The data key that an envelope was sealed under; none for what is no envelope.
pub fn key_id(stored: &[u8]) -> Option<Uuid> {
    Envelope::read(stored).map(|envelope| envelope.key)
}

/// Whether a stored event has the payload of a new one, which is sealed or not as its own body is.
pub fn same_payload(stored: &[u8], again: &NewEvent) -> bool {
    match (Envelope::read(stored), Envelope::read(&again.body)) {
        (Some(first), Some(again)) => first.key == again.key && first.digest == again.digest,
        // Stored before texts were sealed.
        (None, _) => sha256(stored) == again.payload_hash,
        (Some(_), None) => false,
    }
}

#[cfg(test)]
mod tests;
