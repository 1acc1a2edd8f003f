//! `POST /v1/keys`: a new API key. Its text stands in this one answer and nowhere else.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::super::auth::Caller;
use super::super::docs::NewKeyProblems;
use super::super::observe::RequestContext;
use super::super::problem::{Problem, ProblemType};
use super::super::{ApiState, Shared};
use super::keys_list::KeySchema;
use super::{reason, record};
use crate::domain::audit::sha256;
use crate::domain::invalid::pointer_segment;
use crate::domain::keys::{KEY_NAME_MAX, KeyView, check_scope, key_text};
use crate::domain::{ApiKey, AuditBody, KeyId, Permission, Role, TenantId, Violation, time};
use crate::ports::keys::chain_of;

/// A key to be made. Unknown fields are refused.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the schema of what `Wanted::read` takes field by field, to name every wrong one")]
pub(super) struct NewKey {
    /// What people call it, 1 to 100 characters.
    #[schema(example = "checkout service")]
    name: String,
    /// Names of roles, each once. OPERATOR stands alone, and only an operator may give it.
    #[schema(example = json!(["PRODUCER"]))]
    roles: Vec<String>,
    /// Whose; the credential's, when absent. Only an operator may name another.
    tenant_id: Option<String>,
    /// From when on it does not hold; absent: it does not expire.
    #[schema(format = "date-time")]
    expires_at: Option<String>,
}

/// A key that was made.
#[derive(Serialize, ToSchema)]
pub(super) struct MadeKey {
    /// The key itself: shown this once.
    #[schema(example = "rfk_3q2-7wAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")]
    key: String,
    /// What is kept of it.
    #[schema(value_type = KeySchema)]
    api_key: KeyView,
}

/// Make an API key
///
/// Its text is shown in this answer and never again: what is kept is its SHA-256.
#[utoipa::path(
    post,
    path = "/v1/keys",
    tag = "keys",
    request_body(content = NewKey),
    responses((status = 201, body = MadeKey, description = "It is made"), NewKeyProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("manage_keys"))),
)]
pub(super) async fn create_key(
    State(api): State<Shared>,
    caller: Caller,
    context: RequestContext,
    request: Request,
) -> Result<Response, Problem> {
    caller.require(Permission::ManageKeys)?;
    let (parts, body) = request.into_parts();
    let given = reason::object(&api, &parts.headers, body).await?;
    let now = time::whole_millis(api.clock.now());
    let wanted = Wanted::read(given.unwrap_or_default(), now)?.of(&caller)?;
    let text = key_text(api.entropy.secret());
    let key = ApiKey {
        id: KeyId::mint(time::to_millis(now), api.entropy.ten_bytes()),
        hash: sha256(text.as_bytes()),
        tenant: wanted.tenant,
        roles: wanted.roles,
        name: wanted.name,
        created_at: now,
        created_by: caller.subject.clone(),
        expires_at: wanted.expires_at,
        revoked: None,
        last_used_at: None,
    };
    let audit = made(&api, (&caller, &context), &key);
    api.registry.create_key(&key, &audit).await?;
    tracing::info!(key.id = %key.id, actor = %caller.subject, "an API key was made");
    let answer = MadeKey { key: text, api_key: KeyView::of(key, now) };
    Ok(super::super::json(StatusCode::CREATED, &answer))
}

/// The name stays out of the record: people write what they like into it.
fn made(api: &ApiState, who: (&Caller, &RequestContext), key: &ApiKey) -> AuditBody {
    let roles: Vec<&str> = key.roles.iter().map(|role| role.as_str()).collect();
    let new = json!({"tenant_id": key.tenant, "roles": roles, "expires_at": key.expires_at.map(time::text)});
    let chain = chain_of(key.tenant.as_ref());
    AuditBody { new: Some(new), ..record::act(api, who, &chain, "key_created", ("key", key.id.to_string())) }
}

/// What a body asks for.
struct Wanted {
    name: String,
    roles: Vec<Role>,
    tenant: Option<TenantId>,
    expires_at: Option<DateTime<Utc>>,
}

impl Wanted {
    fn read(mut given: Map<String, Value>, now: DateTime<Utc>) -> Result<Self, Problem> {
        let mut violations = Vec::new();
        let name = field(&mut given, &mut violations, "name", name_of);
        let roles = field(&mut given, &mut violations, "roles", roles_of);
        let tenant = field(&mut given, &mut violations, "tenant_id", |value| value.map(tenant_of).transpose());
        let expires_at = field(&mut given, &mut violations, "expires_at", |value| {
            value.map(|value| end_of(&value, now)).transpose()
        });
        for unknown in given.keys() {
            violations.push(Violation::at(format!("/{}", pointer_segment(unknown)), "is not known here"));
        }
        match (name, roles, tenant, expires_at) {
            (Some(name), Some(roles), Some(tenant), Some(expires_at)) if violations.is_empty() => {
                Ok(Self { name, roles, tenant, expires_at })
            }
            _ => Err(reason::wrong(violations)),
        }
    }

    /// Holds it against what the caller may give away: an operator everything, others what belongs to
    /// their own tenant.
    fn of(mut self, caller: &Caller) -> Result<Self, Problem> {
        let operators = self.roles == [Role::Operator];
        if !caller.is_operator() {
            if self.roles.contains(&Role::Operator) {
                let why = "only an operator gives the role OPERATOR away";
                return Err(Problem::forbidden(Permission::ManageKeys, why));
            }
            if let (Some(said), Some(own)) = (&self.tenant, &caller.tenant)
                && said != own
            {
                let detail = format!("the key would be {said:?}'s, the caller is {own:?}'s");
                return Err(Problem::new(ProblemType::TenantMismatch, detail));
            }
        }
        if self.tenant.is_none() && !operators {
            self.tenant.clone_from(&caller.tenant);
        }
        let scope = check_scope(self.tenant.as_ref(), &self.roles);
        scope.map_err(|why| reason::wrong(vec![Violation::at("/roles", why)]))?;
        Ok(self)
    }
}

/// Takes a field out; null counts as absent. None where it is wrong, which then is among the violations.
pub(super) fn field<T>(
    given: &mut Map<String, Value>,
    violations: &mut Vec<Violation>,
    name: &str,
    read: impl FnOnce(Option<Value>) -> Result<T, String>,
) -> Option<T> {
    let value = given.remove(name).filter(|value| !value.is_null());
    read(value).map_err(|why| violations.push(Violation::at(format!("/{name}"), why))).ok()
}

fn name_of(value: Option<Value>) -> Result<String, String> {
    let must = || format!("must be a text of 1 to {KEY_NAME_MAX} characters");
    match value {
        None => Err("is required".into()),
        Some(Value::String(text)) => {
            let name = text.trim();
            let sound = (1..=KEY_NAME_MAX).contains(&name.chars().count()) && !name.chars().any(char::is_control);
            if sound { Ok(name.to_owned()) } else { Err(must()) }
        }
        Some(_) => Err(must()),
    }
}

fn roles_of(value: Option<Value>) -> Result<Vec<Role>, String> {
    let known = || Role::ALL.map(Role::as_str).join(", ");
    let must = || format!("must be an array of names out of {}", known());
    match value {
        None => Err("is required".into()),
        Some(Value::Array(names)) => {
            let read: Option<Vec<Role>> = names.iter().map(|name| Role::parse_of_key(name.as_str()?)).collect();
            read.filter(|roles| !roles.is_empty()).ok_or_else(must)
        }
        Some(_) => Err(must()),
    }
}

pub(super) fn tenant_of(value: Value) -> Result<TenantId, String> {
    match value {
        Value::String(text) => TenantId::claimed(&text).map_err(|e| e.why.to_owned()),
        _ => Err("must be text".into()),
    }
}

fn end_of(value: &Value, now: DateTime<Utc>) -> Result<DateTime<Utc>, String> {
    let read = value.as_str().and_then(|text| DateTime::parse_from_rfc3339(text).ok());
    let end = read.map(|end| time::whole_millis(end.to_utc())).ok_or("must be an RFC 3339 moment")?;
    if end > now { Ok(end) } else { Err("must lie in the future".into()) }
}
