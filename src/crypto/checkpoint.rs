//! Owns the signatures of the audit (Ed25519, RFC 8032) and which keys are believed. Never keeps a
//! key anywhere, and never talks to anything.
//!
//! # Decisions
//! The key that the verifier was given is believed. A hand-over signed by a believed key makes the
//! next key believed. Every checkpoint older than a believed one is held by the chain of `prev`,
//! whatever signed it: so the newest public key alone verifies everything back to the first
//! checkpoint, and the key that a held hand-over names is believed for what it signed before.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use std::collections::{BTreeMap, HashMap};

use crate::domain::audit::{Hash, sha256};
use crate::domain::chains::{Finding, Findings};
use crate::domain::checkpoint::{Checkpoint, Signed, key_id};

/// Keys that are believed at most: each hand-over adds one.
const KEYS_MAX: usize = 10_000;

/// The key that signs checkpoints. Its bytes are overwritten when it goes.
#[derive(Clone)]
pub struct AuditKey(SigningKey);

impl std::fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AuditKey({})", self.id())
    }
}

impl AuditKey {
    /// The key of a seed of 32 random bytes.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// What everybody may know.
    pub fn public(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// Its name.
    pub fn id(&self) -> String {
        key_id(&self.public())
    }

    /// Signs a text.
    pub fn sign(&self, text: String) -> Signed {
        let signature = self.0.sign(text.as_bytes()).to_bytes();
        Signed { text, signature }
    }
}

/// The bytes are no public key of Ed25519.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("read the public key: the bytes are none of Ed25519")]
pub struct BadKey;

/// What a signature is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worth {
    /// A believed key has made it.
    Holds,
    /// The key that it names has not made it.
    Wrong,
    /// Nothing is known of the key.
    Unknown,
}

/// The keys that are believed.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    keys: BTreeMap<String, VerifyingKey>,
}

impl Trust {
    /// One key, out of the verifier's own hands.
    ///
    /// # Errors
    /// When the bytes are no key.
    pub fn of(public_key: &[u8; 32]) -> Result<Self, BadKey> {
        let mut trust = Self::default();
        trust.add(public_key)?;
        Ok(trust)
    }

    fn add(&mut self, public_key: &[u8; 32]) -> Result<(), BadKey> {
        let key = VerifyingKey::from_bytes(public_key).map_err(|_| BadKey)?;
        if self.keys.len() < KEYS_MAX {
            self.keys.insert(key_id(public_key), key);
        }
        Ok(())
    }

    /// What a signature by the key of this name is worth.
    pub fn worth(&self, key: &str, text: &str, signature: &[u8; 64]) -> Worth {
        let Some(key) = self.keys.get(key) else { return Worth::Unknown };
        match key.verify_strict(text.as_bytes(), &Signature::from_bytes(signature)) {
            Ok(()) => Worth::Holds,
            Err(_) => Worth::Wrong,
        }
    }
}

/// Which checkpoints are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completeness {
    /// All of them, from the first.
    Whole,
    /// Some may be missing: a file that a person keeps.
    Parts,
}

/// How many signatures were looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Signatures {
    /// With a key that is believed.
    pub checked: u64,
    /// Without one.
    pub unchecked: u64,
}

/// Verifies checkpoints, one after the other in their order.
#[derive(Debug)]
pub struct CheckpointCheck {
    trust: Option<Trust>,
    whole: Completeness,
    last: Option<(i64, Hash)>,
    /// Checkpoints in a row whose key is not known yet: the first one, and how many.
    waiting: Option<(i64, u64)>,
    /// Keys that hand-overs among them name.
    waiting_keys: Vec<[u8; 32]>,
    /// Hashes of texts that are known from elsewhere.
    elsewhere: HashMap<i64, Hash>,
    texts: Option<HashMap<i64, Hash>>,
    signatures: Signatures,
    findings: Findings,
}

/// What [`CheckpointCheck`] has found.
#[derive(Debug, Default)]
pub struct Checked {
    /// The keys that are believed now.
    pub trust: Option<Trust>,
    /// What was looked at.
    pub signatures: Signatures,
    /// What is wrong.
    pub findings: Findings,
    /// SHA-256 of each text, by number, where they were to be kept.
    pub texts: HashMap<i64, Hash>,
}

impl CheckpointCheck {
    /// A check with the keys that are believed; none: signatures stay unchecked.
    pub fn new(trust: Option<Trust>, whole: Completeness) -> Self {
        Self {
            trust,
            whole,
            last: None,
            waiting: None,
            waiting_keys: Vec::new(),
            elsewhere: HashMap::new(),
            texts: None,
            signatures: Signatures::default(),
            findings: Findings::default(),
        }
    }

    /// Keeps the hash of each text, 40 bytes a checkpoint.
    #[must_use]
    pub fn keeping_texts(mut self) -> Self {
        self.texts = Some(HashMap::new());
        self
    }

    /// Holds the texts against those known from elsewhere.
    #[must_use]
    pub fn against(mut self, elsewhere: HashMap<i64, Hash>) -> Self {
        self.elsewhere = elsewhere;
        self
    }

    /// Takes the next one; gives what it says, where it can be read.
    pub fn take(&mut self, signed: &Signed) -> Option<Checkpoint> {
        let checkpoint = match Checkpoint::parse(&signed.text) {
            Ok(checkpoint) => checkpoint,
            Err(e) => {
                let number = self.last.map_or(0, |(number, _)| number) + 1;
                self.broken(number, &format!("the text can't be read: {e}"));
                return None;
            }
        };
        let (number, hash) = (checkpoint.number, sha256(signed.text.as_bytes()));
        if !self.follows(&checkpoint) {
            self.give_up_waiting();
        }
        self.last = Some((number, hash));
        if self.elsewhere.get(&number).is_some_and(|other| *other != hash) {
            self.broken(number, "the anchor file has another text of it");
        }
        if let Some(texts) = &mut self.texts {
            texts.insert(number, hash);
        }
        self.weigh(&checkpoint, signed);
        Some(checkpoint)
    }

    fn follows(&mut self, checkpoint: &Checkpoint) -> bool {
        let number = checkpoint.number;
        let (expected, prev) = self.last.map_or((1, [0; 32]), |(number, hash)| (number + 1, hash));
        if number != expected {
            let may = self.whole == Completeness::Parts && number > expected;
            if !may {
                self.broken(number, &format!("expected number {expected} here"));
            }
            return false;
        }
        if checkpoint.prev != prev {
            self.broken(number, "its prev is not the hash of the text before");
            return false;
        }
        true
    }

    fn weigh(&mut self, checkpoint: &Checkpoint, signed: &Signed) {
        let number = checkpoint.number;
        let Some(trust) = &mut self.trust else {
            self.signatures.unchecked += 1;
            return;
        };
        match trust.worth(&checkpoint.key_id, &signed.text, &signed.signature) {
            Worth::Holds => {
                self.signatures.checked += 1 + self.waiting.take().map_or(0, |(_, n)| n);
                for key in self.waiting_keys.drain(..).chain(checkpoint.next_key) {
                    // A signed text that names no key names nobody.
                    _ = trust.add(&key);
                }
            }
            Worth::Wrong => {
                let why = format!("wrong signature: key {} has not signed this text", checkpoint.key_id);
                self.findings.add(Finding::of_checkpoint(number, why));
            }
            Worth::Unknown => {
                let (first, n) = self.waiting.unwrap_or((number, 0));
                self.waiting = Some((first, n + 1));
                let own = checkpoint.key.filter(|key| key_id(key) == checkpoint.key_id);
                if self.waiting_keys.len() < KEYS_MAX {
                    self.waiting_keys.extend(own);
                }
            }
        }
    }

    fn give_up_waiting(&mut self) {
        self.waiting_keys.clear();
        if let Some((first, n)) = self.waiting.take() {
            let why = format!("wrong signature: {n} from here on are signed by a key that is not known");
            self.findings.add(Finding::of_checkpoint(first, why));
        }
    }

    fn broken(&mut self, number: i64, why: &str) {
        self.findings.add(Finding::of_checkpoint(number, format!("checkpoint chain broken: {why}")));
    }

    /// Ends the chain of checkpoints.
    pub fn finish(mut self) -> Checked {
        self.give_up_waiting();
        let texts = self.texts.unwrap_or_default();
        Checked { trust: self.trust, signatures: self.signatures, findings: self.findings, texts }
    }
}

#[cfg(test)]
mod tests;
