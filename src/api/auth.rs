//! Owns who a caller is and what it may do. Never trusts a header about either: a tenant comes
//! from a signed credential, or from anybody on this machine where authentication is off.

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use std::net::SocketAddr;
use std::sync::Arc;

use super::Shared;
use super::observe::RequestContext;
use super::problem::{Problem, ProblemType};
use crate::domain::TenantId;

/// What tokens must be meant for, where they say it (`aud`).
pub const AUDIENCE: &str = "riskfleet";

/// By how many seconds clocks of issuers may differ from ours.
const LEEWAY_S: f64 = 30.0;

/// What a caller is allowed to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Create, approve, view, register.
    Admin,
    /// Create, view.
    Analyst,
    /// Approve, view.
    Approver,
    /// View.
    Viewer,
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// Sends events.
    Create,
    /// Reads them.
    View,
}

impl Role {
    const ALL: [Self; 4] = [Self::Admin, Self::Analyst, Self::Approver, Self::Viewer];

    /// The upper-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "ADMIN",
            Self::Analyst => "ANALYST",
            Self::Approver => "APPROVER",
            Self::Viewer => "VIEWER",
        }
    }

    fn parse(raw: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == raw)
    }

    /// Whether the role includes the permission.
    pub fn may(self, permission: Permission) -> bool {
        match permission {
            Permission::Create => matches!(self, Self::Admin | Self::Analyst),
            Permission::View => true,
        }
    }
}

/// Checks credentials.
#[derive(Clone)]
pub struct Authenticator(Check);

#[derive(Clone)]
enum Check {
    /// Everybody on this machine is everything.
    Open,
    /// JWTs (RFC 7519) signed with HS256.
    Tokens(Arc<(DecodingKey, Validation)>),
}

/// Authentication can be off on a loopback address only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("go without authentication on {0}: only loopback addresses may")]
pub struct NotLoopback(pub SocketAddr);

#[derive(Deserialize)]
struct Claims {
    sub: String,
    tenant_id: String,
    roles: Vec<String>,
    exp: f64,
    #[serde(default)]
    nbf: Option<f64>,
}

impl Authenticator {
    /// No authentication, for a listener on `address`.
    ///
    /// # Errors
    /// When the address is not a loopback address.
    pub fn open(address: SocketAddr) -> Result<Self, NotLoopback> {
        if address.ip().is_loopback() { Ok(Self(Check::Open)) } else { Err(NotLoopback(address)) }
    }

    /// Tokens signed with HS256 under `secret`. The algorithm is pinned: a token does not choose it
    /// (RFC 8725, section 3.1).
    pub fn tokens(secret: &SecretString) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_audience(&[AUDIENCE]);
        // Time is checked below, by the clock that was passed in.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        Self(Check::Tokens(Arc::new((DecodingKey::from_secret(secret.expose_secret().as_bytes()), validation))))
    }

    /// Whether there is no authentication.
    pub fn is_open(&self) -> bool {
        matches!(self.0, Check::Open)
    }

    /// Finds out who calls.
    ///
    /// # Errors
    /// `unauthorized`, without a hint at what exactly did not hold.
    pub fn caller(&self, headers: &HeaderMap, now: DateTime<Utc>) -> Result<Caller, Problem> {
        let Check::Tokens(check) = &self.0 else {
            return Ok(Caller { subject: "local".into(), tenant: None, roles: Role::ALL.to_vec() });
        };
        let token = bearer(headers)?;
        let claims = jsonwebtoken::decode::<Claims>(token, &check.0, &check.1)
            .map_err(|e| {
                tracing::debug!(error = %e, "token refused");
                unauthorized("the token does not hold")
            })?
            .claims;
        let seconds = now.timestamp_millis() as f64 / 1000.0;
        // Written so that NaN is refused too.
        let timely = seconds < claims.exp + LEEWAY_S && claims.nbf.is_none_or(|nbf| seconds >= nbf - LEEWAY_S);
        if !timely {
            return Err(unauthorized("the token is out of its time"));
        }
        let tenant = TenantId::parse(&claims.tenant_id).map_err(|_| unauthorized("the token does not hold"))?;
        // A role that this version does not know gives nothing.
        let roles = claims.roles.iter().filter_map(|role| Role::parse(role)).collect();
        Ok(Caller { subject: claims.sub, tenant: Some(tenant), roles })
    }

    /// Whose a queue message with this header `authorization` is. None without authentication.
    ///
    /// # Errors
    /// When the credential does not hold, or may not create events.
    pub fn producer(&self, authorization: &str, now: DateTime<Utc>) -> Result<Option<TenantId>, &'static str> {
        let value = HeaderValue::from_str(authorization).map_err(|_| "the header `authorization` is no header")?;
        let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
        let caller = self.caller(&headers, now).map_err(|_| "the credential does not hold")?;
        caller.must(Permission::Create).map_err(|_| "the credential may not create events")?;
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
}

impl Caller {
    /// Holds a permission against the roles.
    ///
    /// # Errors
    /// `forbidden`.
    pub fn must(&self, permission: Permission) -> Result<(), Problem> {
        if self.roles.iter().any(|role| role.may(permission)) {
            return Ok(());
        }
        let needed: Vec<&str> = Role::ALL.iter().filter(|r| r.may(permission)).map(|r| r.as_str()).collect();
        Err(Problem::new(ProblemType::Forbidden, format!("one of the roles {} is needed", needed.join(", "))))
    }

    /// Whether the caller may see something of `tenant`.
    pub fn sees(&self, tenant: &TenantId) -> bool {
        self.tenant.as_ref().is_none_or(|own| own == tenant)
    }

    /// Brings the header's tenant in: it must agree with the credential's.
    fn with_header(mut self, headers: &HeaderMap) -> Result<Self, Problem> {
        let Some(raw) = headers.get(&TENANT_HEADER) else { return Ok(self) };
        let said = raw.to_str().ok().and_then(|text| TenantId::parse(text).ok()).ok_or_else(|| {
            let why = "X-Tenant-ID must be 1 to 128 characters of A-Z, a-z, 0-9, '.', '_' and '-'";
            Problem::new(ProblemType::BadHeader, why)
        })?;
        match &self.tenant {
            Some(own) if *own != said => {
                let detail = format!("X-Tenant-ID is {said:?}, the credential is {own:?}'s");
                Err(Problem::new(ProblemType::TenantMismatch, detail))
            }
            _ => {
                self.tenant = Some(said);
                Ok(self)
            }
        }
    }
}

const TENANT_HEADER: HeaderName = HeaderName::from_static("x-tenant-id");

impl FromRequestParts<Shared> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Shared) -> Result<Self, Problem> {
        let caller = api.auth.caller(&parts.headers, api.clock.now())?.with_header(&parts.headers)?;
        if let (Some(context), Some(tenant)) = (parts.extensions.get::<RequestContext>(), &caller.tenant) {
            context.note_tenant(tenant);
        }
        Ok(caller)
    }
}
