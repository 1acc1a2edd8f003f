//! `POST /v1/keys/{id}/revoke`: a key that lets nobody in any more.

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::Value;

use super::super::auth::Caller;
use super::super::docs::RevokeProblems;
use super::super::observe::RequestContext;
use super::super::problem::{Problem, ProblemType};
use super::super::{Shared, json};
use super::keys_list::KeySchema;
use super::reason::{self, Reason};
use super::record;
use crate::domain::keys::KeyView;
use crate::domain::{ApiKey, AuditBody, KeyId, Permission};
use crate::ports::keys::{KeyAct, chain_of};

/// Revoke an API key
///
/// Within two seconds no process takes it any more. A key that was revoked before stays as it is.
#[utoipa::path(
    post,
    path = "/v1/keys/{id}/revoke",
    tag = "keys",
    params(("id" = String, Path, description = "The key's id")),
    request_body(content = Reason),
    responses((status = 200, body = KeySchema, description = "It is revoked"), RevokeProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("manage_keys"))),
)]
pub(super) async fn revoke_key(
    State(api): State<Shared>,
    caller: Caller,
    context: RequestContext,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    caller.require(Permission::ManageKeys)?;
    let (parts, body) = request.into_parts();
    let reason = reason::required(&api, &parts.headers, body).await?;
    let id: KeyId = id.parse().map_err(|_| no_key())?;
    // One of another tenant is answered like one that is not there.
    let seen = |key: &ApiKey| caller.is_operator() || key.tenant.as_ref().is_some_and(|tenant| caller.sees(tenant));
    let key = api.registry.key(id).await?.filter(seen).ok_or_else(no_key)?;
    let audit = AuditBody {
        reason: Some(reason),
        previous: Some(Value::from(key.state(api.clock.now()))),
        new: Some(Value::from("revoked")),
        ..record::act(&api, (&caller, &context), &chain_of(key.tenant.as_ref()), "key_revoked", ("key", id.to_string()))
    };
    match api.registry.revoke_key(id, &audit).await? {
        KeyAct::Done => tracing::info!(key.id = %id, actor = %caller.subject, "an API key was revoked"),
        KeyAct::Revoked => {}
        KeyAct::Unknown => return Err(no_key()),
    }
    let key = api.registry.key(id).await?.ok_or_else(no_key)?;
    Ok(json(StatusCode::OK, &KeyView::of(key, api.clock.now())))
}

fn no_key() -> Problem {
    Problem::new(ProblemType::NotFound, "no such key")
}
