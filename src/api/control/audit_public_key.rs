//! `GET /v1/audit/public-key`: the key that checkpoints are signed with.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::auth::Caller;
use super::super::docs::ShowProblems;
use super::super::problem::{Problem, ProblemType};
use super::super::{Shared, json};
use crate::domain::Permission;
use crate::domain::checkpoint::key_id;

/// A public key.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PublicKeyView {
    /// The first 16 hex digits of its SHA-256: how checkpoints name it.
    key_id: String,
    /// Ed25519, in hex.
    public_key: String,
}

/// Read the public key of the audit
///
/// 404 where this process signs nothing. Whoever verifies should have the key by another way than
/// from the fleet that is verified.
#[utoipa::path(
    get,
    path = "/v1/audit/public-key",
    tag = "audit",
    responses((status = 200, body = PublicKeyView, description = "The key"), ShowProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("read_audit"))),
)]
pub(super) async fn get_public_key(State(api): State<Shared>, caller: Caller) -> Result<Response, Problem> {
    caller.require(Permission::ReadAudit)?;
    let none = || Problem::new(ProblemType::NotFound, "this process signs no checkpoints");
    let key = api.audit_key.ok_or_else(none)?;
    let view = PublicKeyView { key_id: key_id(&key), public_key: hex::encode(key) };
    Ok(json(StatusCode::OK, &view))
}
