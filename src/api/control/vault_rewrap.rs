//! `POST /v1/vault/rewrap`: the tenants' keys are wrapped by this process's master key, a page a call.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::auth::Caller;
use super::super::docs::RepairProblems;
use super::super::observe::RequestContext;
use super::super::problem::Problem;
use super::super::{Shared, json};
use super::reason::{self, Reason};
use super::record;
use crate::domain::{AuditBody, Permission, TenantId};

/// A step to a new master key.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Rewrap {
    /// The fingerprint of the master key that holds now.
    #[schema(example = "3f2a91c0")]
    master: String,
    /// Tenants' keys that were wrapped anew by this call.
    keys: u64,
    /// Whether more are left: call again.
    more: bool,
}

/// Change the master key
///
/// From the first call on new keys are wrapped by the master key of the process that answers; each
/// call wraps a page of the others anew. Every process must know both keys by then.
#[utoipa::path(
    post,
    path = "/v1/vault/rewrap",
    tag = "fleet",
    request_body(content = Reason),
    responses((status = 200, body = Rewrap, description = "A page is wrapped anew"), RepairProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("fleet"))),
)]
pub(super) async fn rewrap_vault(
    State(api): State<Shared>,
    caller: Caller,
    context: RequestContext,
    request: Request,
) -> Result<Response, Problem> {
    caller.require(Permission::Fleet)?;
    let (parts, body) = request.into_parts();
    let reason = reason::required(&api, &parts.headers, body).await?;
    let resource = ("vault", "master".to_owned());
    let whose = TenantId::platform();
    let audit = AuditBody {
        reason: Some(reason),
        ..record::act(&api, (&caller, &context), &whose, "master_key_changed", resource)
    };
    let done = api.keyring.rewrap(&audit).await?;
    tracing::info!(actor = %caller.subject, master = %done.master, keys = done.keys, more = done.more,
        "data keys were wrapped anew");
    Ok(json(StatusCode::OK, &Rewrap { master: done.master.to_string(), keys: done.keys, more: done.more }))
}
