//! `GET /v1/keys`: the API keys that the caller looks after, newest first.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::auth::Caller;
use super::super::docs::ListProblems;
use super::super::problem::{Problem, ProblemType};
use super::super::{Shared, json};
use crate::domain::keys::KeyView;
use crate::domain::{KeyId, Permission, TenantId};
use crate::ports::keys::KeyFilter;

/// The most in one answer.
const LIMIT_MAX: u32 = 1_000;

/// How many when nothing is said.
const LIMIT: u32 = 50;

/// Which keys.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WantedKeys {
    /// Only this tenant's; must be the credential's, unless the caller is an operator.
    #[param(value_type = Option<String>)]
    tenant: Option<TenantId>,
    /// Only keys older than this one: `next` of the page before.
    #[param(value_type = Option<String>)]
    before: Option<KeyId>,
    /// At most so many.
    #[param(minimum = 1, maximum = 1000, default = 50)]
    limit: Option<u32>,
}

/// A page of keys, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct KeyPage {
    #[schema(value_type = Vec<KeySchema>)]
    items: Vec<KeyView>,
    /// `before` of the next page; null on the last one.
    #[schema(value_type = Option<String>, format = "uuid")]
    next: Option<KeyId>,
}

/// An API key; never its text.
#[derive(ToSchema)]
#[schema(as = ApiKey)]
#[expect(dead_code, reason = "the schema of domain::keys::KeyView, which knows no documents")]
pub(super) struct KeySchema {
    #[schema(format = "uuid")]
    id: String,
    /// Null for an operator's.
    tenant_id: Option<String>,
    #[schema(example = json!(["ANALYST"]))]
    roles: Vec<String>,
    name: String,
    /// `active`, `revoked` or `expired`.
    #[schema(example = "active")]
    state: String,
    #[schema(format = "date-time")]
    created_at: String,
    created_by: String,
    /// Null: it does not expire.
    #[schema(format = "date-time")]
    expires_at: Option<String>,
    /// To about a minute.
    #[schema(format = "date-time")]
    last_used_at: Option<String>,
    #[schema(format = "date-time")]
    revoked_at: Option<String>,
    revoked_by: Option<String>,
    revoked_reason: Option<String>,
}

/// List API keys
///
/// An operator sees everybody's, others their own tenant's.
#[utoipa::path(
    get,
    path = "/v1/keys",
    tag = "keys",
    params(WantedKeys),
    responses((status = 200, body = KeyPage, description = "Newest first"), ListProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("manage_keys"))),
)]
pub(super) async fn list_keys(
    State(api): State<Shared>,
    caller: Caller,
    wanted: Result<Query<WantedKeys>, QueryRejection>,
) -> Result<Response, Problem> {
    caller.require(Permission::ManageKeys)?;
    let Query(wanted) = wanted.map_err(|e| Problem::new(ProblemType::BadQuery, e.body_text()))?;
    let limit = wanted.limit.unwrap_or(LIMIT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Problem::new(ProblemType::BadQuery, format!("limit must be 1 to {LIMIT_MAX}, not {limit}")));
    }
    let tenant = if caller.is_operator() { wanted.tenant.or(caller.tenant) } else { own(&caller, wanted.tenant)? };
    let page = api.registry.list_keys(&KeyFilter { tenant, before: wanted.before, limit }).await?;
    let next = page.last().filter(|_| page.len() == limit as usize).map(|key| key.id);
    let now = api.clock.now();
    let items = page.into_iter().map(|key| KeyView::of(key, now)).collect();
    Ok(json(StatusCode::OK, &KeyPage { items, next }))
}

/// The tenant of somebody who is no operator: never none, which would be everybody's.
pub(super) fn own(caller: &Caller, said: Option<TenantId>) -> Result<Option<TenantId>, Problem> {
    let own = caller.tenant.clone().ok_or_else(|| Problem::from(crate::domain::Invalid::TenantMissing))?;
    match said {
        Some(said) if said != own => {
            let detail = format!("the query says tenant {said:?}, the caller is {own:?}'s");
            Err(Problem::new(ProblemType::TenantMismatch, detail))
        }
        _ => Ok(Some(own)),
    }
}
