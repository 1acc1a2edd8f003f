//! Owns API keys: their text, their hash, what is kept of them, and which may be made. Never holds a
//! key's text longer than it takes to hash it: what is stored cannot be turned back into a key.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

use super::audit::{Hash, sha256};
use super::ids::TenantId;
use super::role::Role;

/// What every key begins with, so that scanners of sources and logs find one that was leaked.
pub const KEY_PREFIX: &str = "rfk_";

/// The longest name of a key, in characters.
pub const KEY_NAME_MAX: usize = 100;

/// A key's id: a UUIDv7, so that ids sort by the millisecond in which they were minted. No secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(pub Uuid);

impl KeyId {
    /// Mints an id: `millis` since the Unix epoch and 74 random bits out of `random`.
    pub fn mint(millis: u64, random: [u8; 10]) -> Self {
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for KeyId {
    type Err = uuid::Error;

    fn from_str(raw: &str) -> Result<Self, uuid::Error> {
        Uuid::parse_str(raw).map(Self)
    }
}

/// The text of the key with these 256 random bits: `rfk_` and 43 characters of base64url.
pub fn key_text(bits: [u8; 32]) -> String {
    format!("{KEY_PREFIX}{}", URL_SAFE_NO_PAD.encode(bits))
}

/// SHA-256 of a key's text; none where the text is no key. A fast hash serves: nobody guesses 256
/// random bits.
pub fn key_hash(text: &str) -> Option<Hash> {
    let bits = URL_SAFE_NO_PAD.decode(text.strip_prefix(KEY_PREFIX)?).ok()?;
    (bits.len() == 32).then(|| sha256(text.as_bytes()))
}

/// A key as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Names it; stands in the audit as `key:ID`.
    pub id: KeyId,
    /// SHA-256 of its text.
    pub hash: Hash,
    /// Whose; none for an operator's.
    pub tenant: Option<TenantId>,
    /// What its holder is. Never empty, see [`check_scope`].
    pub roles: Vec<Role>,
    /// What people call it, 1 to [`KEY_NAME_MAX`] characters.
    pub name: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Who made it.
    pub created_by: String,
    /// From when on it no longer holds; none: it does not expire.
    pub expires_at: Option<DateTime<Utc>>,
    /// Its revocation.
    pub revoked: Option<Revocation>,
    /// When it was last used, to about a minute.
    pub last_used_at: Option<DateTime<Utc>>,
}

/// That a key was taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// When.
    pub at: DateTime<Utc>,
    /// Who did it.
    pub by: String,
    /// Why.
    pub reason: Option<String>,
}

impl ApiKey {
    /// Whether its holder is let in at `now`.
    pub fn holds(&self, now: DateTime<Utc>) -> bool {
        self.revoked.is_none() && self.expires_at.is_none_or(|end| now < end)
    }

    /// `active`, `revoked` or `expired` at `now`.
    pub fn state(&self, now: DateTime<Utc>) -> &'static str {
        match (&self.revoked, self.holds(now)) {
            (Some(_), _) => "revoked",
            (None, true) => "active",
            (None, false) => "expired",
        }
    }
}

/// A key as people and programs see it: everything but its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyView {
    /// See [`ApiKey::id`].
    pub id: KeyId,
    /// See [`ApiKey::tenant`].
    pub tenant_id: Option<TenantId>,
    /// Names of its roles.
    pub roles: Vec<&'static str>,
    /// See [`ApiKey::name`].
    pub name: String,
    /// `active`, `revoked` or `expired`.
    pub state: &'static str,
    /// See [`ApiKey::created_at`].
    #[serde(with = "super::time::rfc3339")]
    pub created_at: DateTime<Utc>,
    /// See [`ApiKey::created_by`].
    pub created_by: String,
    /// See [`ApiKey::expires_at`].
    #[serde(with = "super::time::rfc3339_option")]
    pub expires_at: Option<DateTime<Utc>>,
    /// See [`ApiKey::last_used_at`].
    #[serde(with = "super::time::rfc3339_option")]
    pub last_used_at: Option<DateTime<Utc>>,
    /// See [`Revocation::at`].
    #[serde(with = "super::time::rfc3339_option")]
    pub revoked_at: Option<DateTime<Utc>>,
    /// See [`Revocation::by`].
    pub revoked_by: Option<String>,
    /// See [`Revocation::reason`].
    pub revoked_reason: Option<String>,
}

impl KeyView {
    /// The key as it stands at `now`.
    pub fn of(key: ApiKey, now: DateTime<Utc>) -> Self {
        let state = key.state(now);
        let (revoked_at, revoked_by, revoked_reason) = match key.revoked {
            Some(revoked) => (Some(revoked.at), Some(revoked.by), revoked.reason),
            None => (None, None, None),
        };
        Self {
            id: key.id,
            tenant_id: key.tenant,
            roles: key.roles.into_iter().map(Role::as_str).collect(),
            name: key.name,
            state,
            created_at: key.created_at,
            created_by: key.created_by,
            expires_at: key.expires_at,
            last_used_at: key.last_used_at,
            revoked_at,
            revoked_by,
            revoked_reason,
        }
    }
}

/// Holds tenant and roles of a new key against each other: OPERATOR stands alone and belongs to no
/// tenant, every other role belongs to one.
///
/// # Errors
/// What is wrong, completing "roles …".
pub fn check_scope(tenant: Option<&TenantId>, roles: &[Role]) -> Result<(), &'static str> {
    let mut seen = roles.to_vec();
    seen.sort_unstable();
    seen.dedup();
    match tenant {
        _ if roles.is_empty() => Err("must name at least one role"),
        _ if seen.len() != roles.len() => Err("must name each role once"),
        None if roles == [Role::Operator] => Ok(()),
        None => Err("need a tenant: only a key of OPERATOR alone belongs to none"),
        Some(_) if roles.contains(&Role::Operator) => Err("must not hold OPERATOR: it belongs to no tenant"),
        Some(_) => Ok(()),
    }
}

/// Roles as they are stored: their names, joined by commas.
pub fn roles_text(roles: &[Role]) -> String {
    roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(",")
}

/// Reads [`roles_text`]; none where a name is not known.
pub fn roles_from(text: &str) -> Option<Vec<Role>> {
    text.split(',').map(Role::parse_of_key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_its_prefix_and_256_bits_and_nothing_else() {
        let text = key_text([7; 32]);
        assert_eq!(text.len(), 47);
        assert_eq!(key_hash(&text), Some(sha256(text.as_bytes())));
        assert_ne!(key_hash(&text), key_hash(&key_text([8; 32])));
        for bad in ["", "rfk_", "rfk_AAAA", &text[4..], &format!("{text}A"), &format!("{text}="), &text.to_uppercase()]
        {
            assert_eq!(key_hash(bad), None, "{bad}");
        }
    }

    #[test]
    fn operator_stands_alone_and_everybody_else_has_a_tenant() {
        let acme = TenantId::parse("acme").expect("legal");
        for (tenant, roles, good) in [
            (None, &[Role::Operator][..], true),
            (None, &[Role::Viewer], false),
            (None, &[Role::Operator, Role::Viewer], false),
            (None, &[], false),
            (Some(&acme), &[Role::Admin, Role::Producer], true),
            (Some(&acme), &[Role::Admin, Role::Admin], false),
            (Some(&acme), &[Role::Operator], false),
            (Some(&acme), &[], false),
        ] {
            assert_eq!(check_scope(tenant, roles).is_ok(), good, "{tenant:?} {roles:?}");
        }
        assert_eq!(roles_from(&roles_text(&Role::ALL)), Some(Role::ALL.to_vec()));
        assert_eq!(roles_from("ADMIN,ROOT"), None);
        assert_eq!(roles_from(""), None);
    }
}
