//! Owns the texts that are signed: checkpoints of the chains, hand-overs of the key, anchors of
//! chains that were shortened, and the manifest of an export. Never signs, and never checks a
//! signature: `crypto::checkpoint` does.
//!
//! Each text is exact JSON, signed as it stands (Ed25519, RFC 8032) and kept as it was signed.
//! Checkpoints are chained like records: each holds the SHA-256 of the text before, so that a
//! trusted one vouches for every older one.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::audit::{Hash, Stream, sha256};
use super::ids::TenantId;
use super::time::rfc3339;

/// The most heads in one checkpoint; what has grown beyond it goes into the next one, at once.
pub const HEADS_MAX: usize = 1_000;

/// The form of export that this program writes and reads.
pub const EXPORT_FORMAT: u32 = 1;

/// The name of a public key: the first 16 hex digits of its SHA-256.
pub fn key_id(public_key: &[u8; 32]) -> String {
    hex::encode(&sha256(public_key)[..8])
}

/// The end of one chain, in a signed text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotedHead {
    /// Whose chain.
    pub tenant_id: TenantId,
    /// Which of its chains.
    pub stream: Stream,
    /// Sequence number of its last record.
    pub seq: i64,
    /// That record's hash.
    #[serde(with = "hex_bytes")]
    pub hash: Hash,
}

/// What a checkpoint says. Field order is the order in the signed text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// From 1, without a gap.
    #[serde(rename = "checkpoint")]
    pub number: i64,
    /// When.
    #[serde(with = "rfc3339")]
    pub at: DateTime<Utc>,
    /// SHA-256 of the text of the checkpoint before; zeros in the first.
    #[serde(with = "hex_bytes")]
    pub prev: Hash,
    /// The key that signs this text.
    pub key_id: String,
    /// The chains that have grown since the last checkpoint that named them; at most
    /// [`HEADS_MAX`]. None in a hand-over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub heads: Vec<NotedHead>,
    /// Of a hand-over: the key that signs this text, whole.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "hex_option")]
    pub key: Option<[u8; 32]>,
    /// Of a hand-over: the key that signs what follows.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "hex_option")]
    pub next_key: Option<[u8; 32]>,
}

impl Checkpoint {
    /// The text that is signed.
    pub fn text(&self) -> String {
        written(self)
    }

    /// Reads a text.
    ///
    /// # Errors
    /// When it is none of a checkpoint.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// The name of the key that signs the next checkpoint.
    pub fn key_after(&self) -> String {
        self.next_key.as_ref().map_or_else(|| self.key_id.clone(), key_id)
    }
}

/// Where a chain begins whose older records were taken away. Field order is the order in the
/// signed text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Anchor {
    /// The form of this text: 1.
    pub anchor: u32,
    /// Whose chain.
    pub tenant_id: TenantId,
    /// Which of its chains.
    pub stream: Stream,
    /// The last record that was taken away: the chain begins at the next one.
    pub seq: i64,
    /// Its hash: the `prev_hash` of the next one.
    #[serde(with = "hex_bytes")]
    pub hash: Hash,
    /// When.
    #[serde(with = "rfc3339")]
    pub at: DateTime<Utc>,
    /// Why, in words.
    pub reason: String,
    /// The key that signs this text.
    pub key_id: String,
}

impl Anchor {
    /// The text that is signed.
    pub fn text(&self) -> String {
        written(self)
    }

    /// Reads a text.
    ///
    /// # Errors
    /// When it is none of an anchor.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}

/// What an export holds: its last line. Field order is the order in the signed text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The form of the export: [`EXPORT_FORMAT`].
    pub manifest: u32,
    /// When the heads were read.
    #[serde(with = "rfc3339")]
    pub at: DateTime<Utc>,
    /// The only tenant in it; null: all of them.
    pub tenant_id: Option<TenantId>,
    /// Records in it.
    pub records: u64,
    /// Checkpoints in it.
    pub checkpoints: u64,
    /// The end of every chain in it.
    pub chains: Vec<NotedHead>,
}

impl Manifest {
    /// The text that is signed.
    pub fn text(&self) -> String {
        written(self)
    }

    /// Reads a text.
    ///
    /// # Errors
    /// When it is none of a manifest.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}

/// A text with its signature: one line of an export, and of the file outside the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// The exact text that was signed.
    pub text: String,
    /// Ed25519 over its bytes, in hex.
    #[serde(with = "hex_bytes")]
    pub signature: [u8; 64],
}

impl Signed {
    /// One line of JSON, without its end.
    pub fn line(&self) -> String {
        written(self)
    }
}

/// The last line of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestLine {
    /// The exact text of a [`Manifest`].
    pub manifest: String,
    /// Ed25519 over its bytes, in hex; null where no key was set.
    #[serde(with = "hex_option")]
    pub signature: Option<[u8; 64]>,
    /// The key that it was signed with. Whoever verifies must have the key from elsewhere: this one
    /// says only which it was.
    #[serde(with = "hex_option")]
    pub public_key: Option<[u8; 32]>,
}

impl ManifestLine {
    /// One line of JSON, without its end.
    pub fn line(&self) -> String {
        written(self)
    }
}

fn written(what: &impl Serialize) -> String {
    // Text keys, whole numbers and texts only: the serializer has nothing to refuse.
    serde_json::to_string(what).unwrap_or_default()
}

/// Reads exactly `N` bytes of lower-case hex: a text has one form only.
pub fn bytes_from_hex<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if digits.bytes().any(|c| c.is_ascii_uppercase()) {
        return None;
    }
    hex::decode_to_slice(digits, &mut bytes).ok()?;
    Some(bytes)
}

/// `#[serde(with = "…")]`: bytes as lower-case hex.
mod hex_bytes {
    use serde::{Deserialize, Deserializer, Serializer, de};
    use std::borrow::Cow;

    pub(super) fn serialize<S: Serializer, const N: usize>(bytes: &[u8; N], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&hex::encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(d: D) -> Result<[u8; N], D::Error> {
        let digits = Cow::<str>::deserialize(d)?;
        super::bytes_from_hex(&digits)
            .ok_or_else(|| de::Error::custom(format_args!("expected {} lower-case hex digits", 2 * N)))
    }
}

/// `#[serde(with = "…")]`: bytes as lower-case hex, or null.
mod hex_option {
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer, const N: usize>(bytes: &Option<[u8; N]>, s: S) -> Result<S::Ok, S::Error> {
        match bytes {
            Some(bytes) => s.serialize_str(&hex::encode(bytes)),
            None => s.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(d: D) -> Result<Option<[u8; N]>, D::Error> {
        let Some(digits) = Option::<String>::deserialize(d)? else { return Ok(None) };
        super::bytes_from_hex(&digits)
            .map(Some)
            .ok_or_else(|| de::Error::custom(format_args!("expected {} lower-case hex digits", 2 * N)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::time;
    use super::*;

    fn checkpoint() -> Checkpoint {
        let tenant_id = TenantId::parse("acme").expect("legal");
        Checkpoint {
            number: 2,
            at: time::from_millis(1_700_000_000_000),
            prev: [0xab; 32],
            key_id: "00112233aabbccdd".into(),
            heads: vec![NotedHead { tenant_id, stream: Stream::Control, seq: 7, hash: [1; 32] }],
            key: None,
            next_key: None,
        }
    }

    #[test]
    fn a_checkpoint_is_the_text_that_the_readme_writes_down() {
        let (prev, hash) = ("ab".repeat(32), "01".repeat(32));
        let text = format!(
            r#"{{"checkpoint":2,"at":"2023-11-14T22:13:20.000Z","prev":"{prev}","key_id":"00112233aabbccdd","heads":[{{"tenant_id":"acme","stream":"control","seq":7,"hash":"{hash}"}}]}}"#
        );
        assert_eq!(checkpoint().text(), text);
        assert_eq!(Checkpoint::parse(&text).expect("reads back"), checkpoint());
    }

    #[test]
    fn a_hand_over_names_both_keys_and_the_one_in_force_after_it() {
        let hand_over = Checkpoint { heads: Vec::new(), key: Some([2; 32]), next_key: Some([3; 32]), ..checkpoint() };
        let text = hand_over.text();
        assert!(text.ends_with(&format!(r#","key":"{}","next_key":"{}"}}"#, "02".repeat(32), "03".repeat(32))));
        assert_eq!(Checkpoint::parse(&text).expect("reads back"), hand_over);
        assert_eq!((hand_over.key_after(), checkpoint().key_after()), (key_id(&[3; 32]), checkpoint().key_id));
    }

    #[test]
    fn every_text_reads_back_and_hex_has_one_form() {
        let signed = Signed { text: checkpoint().text(), signature: [0xcd; 64] };
        let line = signed.line();
        assert_eq!(serde_json::from_str::<Signed>(&line).expect("reads back"), signed);
        assert!(serde_json::from_str::<Signed>(&line.replace("cdcd", "CDCD")).is_err());
        assert!(serde_json::from_str::<Signed>(&line.replace("cdcd", "cd")).is_err());
        let unsigned = ManifestLine { manifest: "{}".into(), signature: None, public_key: None };
        assert_eq!(unsigned.line(), r#"{"manifest":"{}","signature":null,"public_key":null}"#);
        assert_eq!(serde_json::from_str::<ManifestLine>(&unsigned.line()).expect("reads back"), unsigned);
    }
}
