//! Owns who a caller is and what it may do. Never trusts a header about either: a tenant comes
//! from a signed token, from an API key, or from anybody on this machine where authentication is off.

mod jwks;
mod ring;
mod tokens;

use axum::extract::{FromRef, FromRequestParts};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use chrono::{DateTime, Utc};
use secrecy::SecretString;
use std::net::SocketAddr;
use std::sync::Arc;

pub use jwks::{BadKeySet, KeySet, SET_BYTES_MAX};
pub use ring::KeyRing;
pub use tokens::{TokenRules, Tokens};

use super::Shared;
use super::observe::RequestContext;
use super::pace::Paces;
use super::problem::{Problem, ProblemType};
use crate::domain::keys::{KEY_PREFIX, key_hash};
use crate::domain::{Permission, Role, Scope, TenantId};

/// What tokens must be meant for (`aud`), where no setting says otherwise.
pub const AUDIENCE: &str = "riskfleet";

/// By how many seconds clocks of issuers may differ from ours, where no setting says otherwise.
const LEEWAY_S: u32 = 30;

/// Checks credentials.
#[derive(Clone)]
pub struct Authenticator(Check);

#[derive(Clone)]
enum Check {
    /// Everybody on this machine is everything.
    Open,
    /// Tokens, and keys where there is a ring of them.
    Closed(Arc<Tokens>, Option<Arc<KeyRing>>),
}

/// Authentication can be off on a loopback address only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("go without authentication on {0}: only loopback addresses may")]
pub struct NotLoopback(pub SocketAddr);

impl Authenticator {
    /// No authentication, for a listener on `address`.
    ///
    /// # Errors
    /// When the address is not a loopback address.
    pub fn open(address: SocketAddr) -> Result<Self, NotLoopback> {
        if address.ip().is_loopback() { Ok(Self(Check::Open)) } else { Err(NotLoopback(address)) }
    }

    /// Tokens signed with HS256 under `secret`, and nothing else.
    pub fn tokens(secret: &SecretString) -> Self {
        let secret = Some(secret.clone());
        let rules = TokenRules { secret, audience: AUDIENCE.into(), issuer: None, leeway_s: LEEWAY_S };
        Self(Check::Closed(Arc::new(Tokens::new(rules)), None))
    }

    /// Tokens and API keys.
    pub fn closed(tokens: Arc<Tokens>, keys: Arc<KeyRing>) -> Self {
        Self(Check::Closed(tokens, Some(keys)))
    }

    /// Whether there is no authentication.
    pub fn is_open(&self) -> bool {
        matches!(self.0, Check::Open)
    }

    /// Finds out who calls.
    ///
    /// # Errors
    /// `unauthorized`, without a hint at what exactly did not hold; `unavailable` where a key can't be
    /// looked up.
    pub async fn caller(&self, headers: &HeaderMap, now: DateTime<Utc>) -> Result<Caller, Problem> {
        let Check::Closed(tokens, keys) = &self.0 else {
            return Ok(Caller {
                subject: "local".into(),
                tenant: None,
                roles: Role::NAMED.to_vec(),
                credential: Credential::None,
            });
        };
        let shown = bearer(headers)?;
        match keys {
            Some(keys) if shown.starts_with(KEY_PREFIX) => keys.caller(key_hash(shown), now).await,
            _ => tokens.caller(shown, now),
        }
    }

    /// Whose a queue message with this header `authorization` is. None without authentication.
    ///
    /// # Errors
    /// `unauthorized` or `forbidden` when the credential does not hold, or may not create events; any
    /// other passes.
    pub async fn producer(&self, authorization: &str, now: DateTime<Utc>) -> Result<Option<TenantId>, Problem> {
        let value = HeaderValue::from_str(authorization)
            .map_err(|_| unauthorized("the header `authorization` is no header"))?;
        let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
        let caller = self.caller(&headers, now).await?;
        caller.require(Permission::Create)?;
        Ok(caller.tenant)
    }
}

fn unauthorized(detail: &str) -> Problem {
    Problem::new(ProblemType::Unauthorized, detail)
}

fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let header = headers.get(AUTHORIZATION).ok_or_else(|| unauthorized("the header Authorization is missing"))?;
    let (scheme, token) = header.to_str().ok().and_then(|text| text.split_once(' ')).unwrap_or_default();
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
        return Err(unauthorized("the header Authorization must be: Bearer TOKEN"));
    }
    Ok(token.trim())
}

/// Who calls.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The credential's subject.
    pub subject: String,
    /// By credential, else by header `X-Tenant-ID`.
    pub tenant: Option<TenantId>,
    /// What the caller is.
    pub roles: Vec<Role>,
    credential: Credential,
}

/// What a caller has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Credential {
    /// There is no authentication: the caller may be of any tenant.
    None,
    /// A signed token.
    Token,
    /// An API key.
    Key,
}

impl Credential {
    /// As the log names it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Token => "token",
            Self::Key => "key",
        }
    }
}

impl Caller {
    /// Holds a permission against the roles.
    ///
    /// # Errors
    /// `forbidden`, naming what is missing.
    pub fn require(&self, permission: Permission) -> Result<(), Problem> {
        if self.roles.iter().any(|role| role.allows(permission)) {
            return Ok(());
        }
        let needed: Vec<&str> = Role::NAMED.iter().filter(|r| r.allows(permission)).map(|r| r.as_str()).collect();
        let detail = format!("the permission `{permission}` is missing: one of the roles {} has it", needed.join(", "));
        Err(Problem::forbidden(permission, detail))
    }

    /// Whether the caller may see something of `tenant`.
    pub fn sees(&self, tenant: &TenantId) -> bool {
        match &self.tenant {
            Some(own) => own == tenant,
            None => !self.is_known(),
        }
    }

    /// Whether the caller runs the fleet: it looks after everybody's keys.
    pub fn is_operator(&self) -> bool {
        self.roles.contains(&Role::Operator)
    }

    /// Whether it was authenticated: without authentication there is nobody to tell of, and callers
    /// can't be told apart.
    pub(super) fn is_known(&self) -> bool {
        self.credential != Credential::None
    }

    /// What it has shown.
    pub(super) fn credential(&self) -> Credential {
        self.credential
    }

    /// How far the caller's questions reach into the store. What runs the fleet belongs to no
    /// tenant and has no permission to ask for a tenant's rows; [`Caller::sees`] says so again.
    pub fn scope(&self) -> Scope {
        Scope::of(self.tenant.as_ref())
    }

    /// Brings the header's tenant in: it must agree with the credential's.
    fn with_header(mut self, headers: &HeaderMap) -> Result<Self, Problem> {
        let Some(raw) = headers.get(&TENANT_HEADER) else { return Ok(self) };
        let said = raw.to_str().ok().and_then(|text| TenantId::claimed(text).ok()).ok_or_else(|| {
            let why = "X-Tenant-ID must be 1 to 128 characters of A-Z, a-z, 0-9, '.', '_' and '-', and not _platform";
            Problem::new(ProblemType::BadHeader, why)
        })?;
        match &self.tenant {
            Some(own) if *own != said => {
                let detail = format!("X-Tenant-ID is {said:?}, the credential is {own:?}'s");
                Err(Problem::new(ProblemType::TenantMismatch, detail))
            }
            None if self.is_known() => {
                Err(Problem::new(ProblemType::TenantMismatch, "X-Tenant-ID is given, the credential is no tenant's"))
            }
            _ => {
                self.tenant = Some(said);
                Ok(self)
            }
        }
    }
}

const TENANT_HEADER: HeaderName = HeaderName::from_static("x-tenant-id");

impl<S: Sync> FromRequestParts<S> for Caller
where
    Shared: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let api = Shared::from_ref(state);
        let context = RequestContext::from_request_parts(parts, state).await?;
        let paces = Paces::of(&parts.extensions)?;
        paces.admit(&context)?;
        let found = api.auth.caller(&parts.headers, api.clock.now()).await;
        let caller = found.inspect_err(|problem| paces.note_refusal(&context, problem))?;
        context.note_caller(&caller);
        paces.take(&caller)?;
        let caller = caller.with_header(&parts.headers)?;
        if let Some(tenant) = &caller.tenant {
            context.note_tenant(tenant);
        }
        Ok(caller)
    }
}
