//! Owns the HMAC of packs: only a process that can read the store can write a pack that is believed.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// HMAC-SHA256 (RFC 2104) under the fleet's secret.
#[derive(Clone)]
pub struct PackSeal(Hmac<Sha256>);

impl PackSeal {
    /// A seal under a secret.
    pub fn new(secret: &[u8; 32]) -> Self {
        // A key of exactly this type has the length that the MAC takes.
        Self(Hmac::new(&hmac::digest::Key::<Hmac<Sha256>>::from(pad(secret))))
    }

    /// The MAC of a message.
    pub fn sign(&self, body: &[u8]) -> [u8; 32] {
        let mut mac = self.0.clone();
        mac.update(body);
        mac.finalize().into_bytes().into()
    }

    /// Whether `mac` is the MAC of `body`, in constant time.
    pub fn agrees(&self, body: &[u8], mac: &[u8; 32]) -> bool {
        let mut own = self.0.clone();
        own.update(body);
        own.verify(mac.into()).is_ok()
    }
}

/// A key shorter than SHA-256's block is padded with zeros (RFC 2104, section 2).
fn pad(secret: &[u8; 32]) -> [u8; 64] {
    let mut block = [0; 64];
    block[..32].copy_from_slice(secret);
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mac_is_hmac_sha256() {
        // RFC 4231, test case 2 ("Jefe"), its key padded as HMAC itself pads it.
        let mut key = [0; 32];
        key[..4].copy_from_slice(b"Jefe");
        let mac = PackSeal::new(&key).sign(b"what do ya want for nothing?");
        assert_eq!(hex::encode(mac), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }

    #[test]
    fn another_secret_or_body_does_not_agree() {
        let (ours, theirs) = (PackSeal::new(&[1; 32]), PackSeal::new(&[2; 32]));
        let mac = ours.sign(b"pack");
        assert!(ours.agrees(b"pack", &mac));
        assert!(!theirs.agrees(b"pack", &mac) && !ours.agrees(b"pacK", &mac));
    }
}
