//! `GET /v1/audit/checkpoints`: the signed checkpoints, in their order. They name the chains of all
//! tenants, and are for those who run the fleet.

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
use crate::domain::Permission;

/// The most in one answer: a checkpoint has up to 150 KB.
const LIMIT_MAX: u32 = 100;

/// How many when nothing is said.
const LIMIT: u32 = 10;

/// Which checkpoints.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Only those behind this number: `next` of the page before.
    #[param(minimum = 0)]
    after: Option<i64>,
    /// At most so many.
    #[param(minimum = 1, maximum = 100, default = 10)]
    limit: Option<u32>,
}

/// A page of checkpoints.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CheckpointPage {
    items: Vec<SignedView>,
    /// `after` of the next page; null on the last one.
    next: Option<i64>,
}

/// A text and its signature, as they stand in an export.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SignedView {
    /// The exact text that was signed.
    text: String,
    /// Ed25519 over its bytes, in hex.
    signature: String,
}

/// Read the checkpoints of the audit
#[utoipa::path(
    get,
    path = "/v1/audit/checkpoints",
    tag = "audit",
    params(Wanted),
    responses((status = 200, body = CheckpointPage, description = "Oldest first"), ListProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("fleet"))),
)]
pub(super) async fn list_checkpoints(
    State(api): State<Shared>,
    caller: Caller,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Problem> {
    caller.require(Permission::Fleet)?;
    let Query(wanted) = wanted.map_err(|e| Problem::new(ProblemType::BadQuery, e.body_text()))?;
    let limit = wanted.limit.unwrap_or(LIMIT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Problem::new(ProblemType::BadQuery, format!("limit must be 1 to {LIMIT_MAX}, not {limit}")));
    }
    let page = api.registry.checkpoints_page(wanted.after.unwrap_or(0), limit).await?;
    let next = page.last().filter(|_| page.len() == limit as usize).map(|kept| kept.number);
    let view = |kept: crate::ports::checkpoints::KeptCheckpoint| SignedView {
        text: kept.signed.text,
        signature: hex::encode(kept.signed.signature),
    };
    Ok(json(StatusCode::OK, &CheckpointPage { items: page.into_iter().map(view).collect(), next }))
}
