//! Owns JSON Web Tokens (RFC 7519): which key must have signed one, and what it must say. The
//! algorithm is the key's, never the token's choice (RFC 8725, section 3.1).

use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode_header};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use std::sync::{Arc, PoisonError, RwLock};

use super::super::problem::Problem;
use super::jwks::KeySet;
use super::{Caller, unauthorized};
use crate::domain::{Role, TenantId};

/// Names of actors that no token can take: the fleet's own.
const RESERVED_SUBJECTS: [&str; 2] = ["key:", "worker:"];

/// The longest subject, in characters: it stands in every record of what its caller does.
const SUBJECT_MAX: usize = 256;

/// What tokens must be.
#[derive(Debug, Clone)]
pub struct TokenRules {
    /// Under which HS256 tokens are signed; none: no such token is taken.
    pub secret: Option<SecretString>,
    /// Whom they must be meant for (`aud`). A token under the secret, which is this fleet's alone, may
    /// leave it out; one of a key set, whose issuer serves others too, must say it.
    pub audience: String,
    /// Who must have issued them (`iss`); none: whoever holds the key.
    pub issuer: Option<String>,
    /// By how many seconds clocks of issuers may differ from ours.
    pub leeway_s: u32,
}

/// Checks tokens. The key set can be exchanged while it does.
pub struct Tokens {
    secret: Option<VerifyingKey>,
    keys: RwLock<Arc<KeySet>>,
    audience: String,
    issuer: Option<String>,
    leeway_s: f64,
}

/// A key with the one algorithm that it is for.
pub(super) struct VerifyingKey {
    pub(super) kid: Option<String>,
    pub(super) algorithm: Algorithm,
    key: DecodingKey,
    validation: Validation,
}

impl VerifyingKey {
    pub(super) fn new(kid: Option<String>, algorithm: Algorithm, key: DecodingKey) -> Self {
        let mut validation = Validation::new(algorithm);
        // Checked below, strictly, and time by the clock that was passed in.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        Self { kid, algorithm, key, validation }
    }
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    tenant_id: Option<String>,
    roles: Option<Vec<String>>,
    exp: f64,
    nbf: Option<f64>,
    aud: Option<Audience>,
    iss: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    fn names(&self, audience: &str) -> bool {
        match self {
            Self::One(one) => one == audience,
            Self::Several(several) => several.iter().any(|one| one == audience),
        }
    }
}

impl Tokens {
    /// Tokens by these rules, without a key set.
    pub fn new(rules: TokenRules) -> Self {
        let secret = rules.secret.as_ref().map(|secret| {
            let key = DecodingKey::from_secret(secret.expose_secret().as_bytes());
            VerifyingKey::new(None, Algorithm::HS256, key)
        });
        Self {
            secret,
            keys: RwLock::default(),
            audience: rules.audience,
            issuer: rules.issuer,
            leeway_s: f64::from(rules.leeway_s),
        }
    }

    /// From now on these keys sign, and those before them no more.
    pub fn set_keys(&self, keys: KeySet) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }

    /// Whose token it is.
    pub(super) fn caller(&self, token: &str, now: DateTime<Utc>) -> Result<Caller, Problem> {
        let claims = self.verified(token)?;
        let seconds = now.timestamp_millis() as f64 / 1000.0;
        // Written so that NaN is refused too.
        let timely =
            seconds < claims.exp + self.leeway_s && claims.nbf.is_none_or(|nbf| seconds >= nbf - self.leeway_s);
        if !timely {
            return Err(unauthorized("the token is out of its time"));
        }
        let roles = roles(claims.roles)?;
        // Only who runs the fleet and nothing else belongs to no tenant.
        let tenant = match claims.tenant_id {
            None if roles == [Role::Operator] => None,
            said => {
                let read = said.and_then(|raw| TenantId::claimed(&raw).ok());
                Some(read.ok_or_else(does_not_hold)?)
            }
        };
        Ok(Caller { subject: subject(claims.sub)?, tenant, roles, credential: super::Credential::Token })
    }

    /// The claims of a token that its key has signed and that is meant for us.
    fn verified(&self, token: &str) -> Result<Claims, Problem> {
        let header = decode_header(token).map_err(|e| refuse(&e))?;
        // An extension that must be understood and is not (RFC 7515, section 4.1.11).
        if header.crit.is_some() {
            return Err(does_not_hold());
        }
        let set = Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner));
        let (key, shared) = match header.alg {
            Algorithm::HS256 => (self.secret.as_ref(), false),
            asymmetric => (set.of(header.kid.as_deref(), asymmetric), true),
        };
        let key = key.filter(|key| key.algorithm == header.alg).ok_or_else(does_not_hold)?;
        let claims = jsonwebtoken::decode::<Claims>(token, &key.key, &key.validation).map_err(|e| refuse(&e))?.claims;
        let meant = claims.aud.as_ref().map_or(!shared, |aud| aud.names(&self.audience));
        let issued = self.issuer.is_none() || claims.iss == self.issuer;
        if meant && issued { Ok(claims) } else { Err(does_not_hold()) }
    }
}

/// The roles of a token: without the claim it is a producer's. A name that this version does not
/// know refuses the token: what it was meant to allow or to hold back can't be told.
fn roles(claim: Option<Vec<String>>) -> Result<Vec<Role>, Problem> {
    let Some(names) = claim else { return Ok(vec![Role::Producer]) };
    let read: Option<Vec<Role>> = names.iter().map(|name| Role::parse(name)).collect();
    read.ok_or_else(|| unauthorized("the token names a role that is not known"))
}

fn subject(raw: String) -> Result<String, Problem> {
    let sound = !raw.is_empty() && raw.chars().count() <= SUBJECT_MAX && !raw.chars().any(char::is_control);
    if sound && !RESERVED_SUBJECTS.iter().any(|own| raw.starts_with(own)) { Ok(raw) } else { Err(does_not_hold()) }
}

fn refuse(why: &jsonwebtoken::errors::Error) -> Problem {
    tracing::debug!(error = %why, "token refused");
    does_not_hold()
}

/// Without a hint at what exactly did not hold.
fn does_not_hold() -> Problem {
    unauthorized("the token does not hold")
}
