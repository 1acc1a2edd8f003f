//! Owns the reading of a JSON Web Key Set (RFC 7517): which public keys may sign callers' tokens, and
//! with which one algorithm each. Never takes a symmetric or a private key: who can read the file could
//! sign with it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use std::collections::HashSet;

use super::tokens::VerifyingKey;

/// The largest set that is read, in bytes.
pub const SET_BYTES_MAX: usize = 1 << 20;

/// The most keys of one set.
const KEYS_MAX: usize = 100;

/// RSA moduli in bytes: 2,048 bits at least (RFC 7518, section 3.3), and no more than the verifier
/// takes.
const RSA_MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=512;

/// Why a text is no set of keys that can be used; completes "failed to read …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the key set: {0}")]
pub struct BadKeySet(String);

/// The public keys that sign tokens.
#[derive(Default)]
pub struct KeySet(Vec<VerifyingKey>);

#[derive(Deserialize)]
struct Set {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    d: Option<serde::de::IgnoredAny>,
    k: Option<serde::de::IgnoredAny>,
}

impl KeySet {
    /// Reads a set. Keys that sign nothing, or by an algorithm that is not taken here, are passed over:
    /// issuers publish such beside the others.
    ///
    /// # Errors
    /// When the text is no set, holds a symmetric or private key, names a key twice, or has no key that
    /// can be used.
    pub fn parse(text: &str) -> Result<Self, BadKeySet> {
        let bad = |why: String| BadKeySet(why);
        if text.len() > SET_BYTES_MAX {
            return Err(bad(format!("it has more than {SET_BYTES_MAX} bytes")));
        }
        let set: Set = serde_json::from_str(text).map_err(|e| bad(e.to_string()))?;
        if set.keys.len() > KEYS_MAX {
            return Err(bad(format!("it has more than {KEYS_MAX} keys")));
        }
        let (mut keys, mut named) = (Vec::new(), HashSet::new());
        for (nth, jwk) in set.keys.into_iter().enumerate() {
            let read = jwk.read().map_err(|why| bad(format!("key {nth}: {why}")))?;
            let Some(key) = read else { continue };
            if let Some(kid) = &key.kid
                && !named.insert(kid.clone())
            {
                return Err(bad(format!("key {nth}: another one has its kid")));
            }
            keys.push(key);
        }
        if keys.is_empty() {
            return Err(bad("it has no key for RS256, ES256 (P-256) or EdDSA (Ed25519)".into()));
        }
        Ok(Self(keys))
    }

    /// How many keys sign tokens.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key that a token names. One that names none is signed by the only key of its algorithm, or
    /// by nobody.
    pub(super) fn of(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<&VerifyingKey> {
        match kid {
            Some(kid) => self.0.iter().find(|key| key.kid.as_deref() == Some(kid)),
            None => {
                let mut those = self.0.iter().filter(|key| key.algorithm == algorithm);
                those.next().filter(|_| those.next().is_none())
            }
        }
    }
}

impl Jwk {
    /// The key; none where it is not for us.
    fn read(self) -> Result<Option<VerifyingKey>, String> {
        if self.kty == "oct" || self.k.is_some() {
            return Err("it is symmetric: whoever reads the set could sign with it".into());
        }
        if self.d.is_some() {
            return Err("it is private: publish its public part alone".into());
        }
        let signs = self.usage.as_deref().is_none_or(|usage| usage == "sig")
            && self.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        let algorithm = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => Algorithm::RS256,
            ("EC", Some("P-256")) => Algorithm::ES256,
            ("OKP", Some("Ed25519")) => Algorithm::EdDSA,
            _ => return Ok(None),
        };
        // The name of an algorithm in a set is that of RFC 7518; RFC 9864 adds one for Ed25519.
        let ours = |alg: &str| format!("{algorithm:?}") == alg || (alg == "Ed25519" && algorithm == Algorithm::EdDSA);
        if !signs || !self.alg.as_deref().is_none_or(ours) {
            return Ok(None);
        }
        let key = match algorithm {
            Algorithm::RS256 => {
                let (n, e) = (bytes("n", self.n.as_deref())?, bytes("e", self.e.as_deref())?);
                if !RSA_MODULUS_BYTES.contains(&n.len()) {
                    return Err(format!("its modulus has {} bits: 2,048 to 4,096 are taken", n.len() * 8));
                }
                Ok(DecodingKey::from_rsa_raw_components(&n, &e))
            }
            Algorithm::ES256 => {
                let (x, y) = (coordinate("x", self.x.as_deref())?, coordinate("y", self.y.as_deref())?);
                DecodingKey::from_ec_components(x, y)
            }
            _ => DecodingKey::from_ed_components(coordinate("x", self.x.as_deref())?),
        };
        let key = key.map_err(|e| e.to_string())?;
        Ok(Some(VerifyingKey::new(self.kid, algorithm, key)))
    }
}

fn bytes(name: &str, text: Option<&str>) -> Result<Vec<u8>, String> {
    let read = text.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok()).filter(|bytes| !bytes.is_empty());
    read.ok_or_else(|| format!("its `{name}` is missing or no base64url"))
}

/// A coordinate of 32 bytes, as its text.
fn coordinate<'a>(name: &str, text: Option<&'a str>) -> Result<&'a str, String> {
    match bytes(name, text)?.len() {
        32 => Ok(text.unwrap_or_default()),
        other => Err(format!("its `{name}` has {other} bytes, not 32")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED: &str = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo""#;

    fn why(keys: &str) -> String {
        KeySet::parse(&format!(r#"{{"keys":[{keys}]}}"#)).map(|_| ()).expect_err(keys).to_string()
    }

    #[test]
    fn a_set_is_read_and_what_is_not_for_us_is_passed_over() {
        let other = r#"{"kty":"EC","crv":"P-384","x":"AA","y":"AA"},{"kty":"RSA","use":"enc","n":"AQ","e":"AQAB"},
            {"kty":"RSA","alg":"RS512","n":"AQ","e":"AQAB"}"#;
        let text = format!(r#"{{"keys":[{other},{ED},"kid":"a"}},{ED},"kid":"b","alg":"EdDSA","use":"sig"}}]}}"#);
        let set = KeySet::parse(&text).expect("a set");
        assert_eq!(set.len(), 2);
        assert!(set.of(Some("a"), Algorithm::EdDSA).is_some() && set.of(Some("c"), Algorithm::EdDSA).is_none());
        assert!(set.of(None, Algorithm::EdDSA).is_none(), "two could have signed it");
        let one = KeySet::parse(&format!(r#"{{"keys":[{ED}}}]}}"#)).expect("a set");
        assert!(one.of(None, Algorithm::EdDSA).is_some() && one.of(None, Algorithm::ES256).is_none());
    }

    #[test]
    fn a_set_that_would_let_others_in_is_refused_whole() {
        let good = format!("{ED}}}");
        for (more, part) in [
            (r#"{"kty":"oct","k":"c2VjcmV0"}"#.to_owned(), "symmetric"),
            (format!(r#"{ED},"d":"AAAA"}}"#), "private"),
            (r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#.into(), "2,048"),
            (r#"{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#.into(), "not 32"),
            (r#"{"kty":"EC","crv":"P-256"}"#.into(), "`x` is missing"),
            (format!(r#"{ED},"kid":"a"}},{ED},"kid":"a"}}"#), "another one has its kid"),
        ] {
            assert!(why(&format!("{good},{more}")).contains(part), "{more}");
        }
        assert!(why("").contains("no key for RS256"));
        assert!(KeySet::parse("[]").is_err() && KeySet::parse("x").is_err());
    }
}
