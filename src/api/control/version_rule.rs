//! `POST …/approve`, `POST …/reject` of a model or prompt: the second pair of eyes.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::super::auth::Caller;
use super::super::docs::VersionActProblems;
use super::super::observe::RequestContext;
use super::super::problem::{Problem, ProblemType};
use super::super::{ApiState, Shared, json};
use super::reason::{self, OptionalReason, Reason};
use super::record;
use super::versions::{VersionView, Whose, named, owner, refused};
use crate::domain::version::{Artifact, Ruling};
use crate::domain::{AuditBody, Permission};

/// Approve a model
///
/// Its author can't (409 of type `four-eyes`), and a version is decided once (409 of type
/// `version-decided`).
#[utoipa::path(
    post,
    path = "/v1/models/{name}/{version}/approve",
    tag = "models",
    params(("name" = String, Path, description = "Its name"), ("version" = u32, Path, description = "From 1"), Whose),
    request_body(content = Option<OptionalReason>),
    responses((status = 200, body = VersionView, description = "It is approved"), VersionActProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("approve"))),
)]
pub(super) async fn approve_model(
    State(api): State<Shared>,
    caller: Caller,
    context: RequestContext,
    Path(which): Path<(String, String)>,
    whose: Result<Query<Whose>, QueryRejection>,
    request: Request,
) -> Result<Response, Problem> {
    rule(&api, (&caller, &context), (Artifact::Model, &which, whose), Ruling::Approve, request).await
}

/// Reject a model
///
/// As to approve.
#[utoipa::path(
    post,
    path = "/v1/models/{name}/{version}/reject",
    tag = "models",
    params(("name" = String, Path, description = "Its name"), ("version" = u32, Path, description = "From 1"), Whose),
    request_body(content = Reason),
    responses((status = 200, body = VersionView, description = "It is rejected"), VersionActProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("approve"))),
)]
pub(super) async fn reject_model(
    State(api): State<Shared>,
    caller: Caller,
    context: RequestContext,
    Path(which): Path<(String, String)>,
    whose: Result<Query<Whose>, QueryRejection>,
    request: Request,
) -> Result<Response, Problem> {
    rule(&api, (&caller, &context), (Artifact::Model, &which, whose), Ruling::Reject, request).await
}

/// Approve a prompt
///
/// As for models.
#[utoipa::path(
    post,
    path = "/v1/prompts/{name}/{version}/approve",
    tag = "prompts",
    params(("name" = String, Path, description = "Its name"), ("version" = u32, Path, description = "From 1"), Whose),
    request_body(content = Option<OptionalReason>),
    responses((status = 200, body = VersionView, description = "It is approved"), VersionActProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("approve"))),
)]
pub(super) async fn approve_prompt(
    State(api): State<Shared>,
    caller: Caller,
    context: RequestContext,
    Path(which): Path<(String, String)>,
    whose: Result<Query<Whose>, QueryRejection>,
    request: Request,
) -> Result<Response, Problem> {
    rule(&api, (&caller, &context), (Artifact::Prompt, &which, whose), Ruling::Approve, request).await
}

/// Reject a prompt
///
/// As for models.
#[utoipa::path(
    post,
    path = "/v1/prompts/{name}/{version}/reject",
    tag = "prompts",
    params(("name" = String, Path, description = "Its name"), ("version" = u32, Path, description = "From 1"), Whose),
    request_body(content = Reason),
    responses((status = 200, body = VersionView, description = "It is rejected"), VersionActProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("approve"))),
)]
pub(super) async fn reject_prompt(
    State(api): State<Shared>,
    caller: Caller,
    context: RequestContext,
    Path(which): Path<(String, String)>,
    whose: Result<Query<Whose>, QueryRejection>,
    request: Request,
) -> Result<Response, Problem> {
    rule(&api, (&caller, &context), (Artifact::Prompt, &which, whose), Ruling::Reject, request).await
}

async fn rule(
    api: &ApiState,
    (caller, context): (&Caller, &RequestContext),
    (artifact, which, whose): (Artifact, &(String, String), Result<Query<Whose>, QueryRejection>),
    ruling: Ruling,
    request: Request,
) -> Result<Response, Problem> {
    caller.require(Permission::Approve)?;
    let (parts, body) = request.into_parts();
    let said = match ruling {
        Ruling::Approve => reason::read(api, &parts.headers, body).await?,
        Ruling::Reject => Some(reason::required(api, &parts.headers, body).await?),
    };
    let Query(whose) = whose.map_err(|e| Problem::new(ProblemType::BadQuery, e.body_text()))?;
    let key = named(owner(caller, whose.tenant)?, artifact, which)?;
    let action = format!("{artifact}_{}", ruling.review());
    let audit = AuditBody {
        reason: said,
        ..record::act(api, (caller, context), &key.tenant, &action, (artifact.as_str(), key.version.to_string()))
    };
    let ruled = api.registry.decide_version(&key, ruling, &audit).await?.map_err(|why| refused(artifact, why))?;
    tracing::info!(tenant.id = %key.tenant, version = %key.version, actor = %caller.subject, action,
        "somebody decided on a version");
    Ok(json(StatusCode::OK, &ruled.view()))
}
