//! `GET /v1/models/{name}/{version}`, `GET /v1/prompts/{name}/{version}`: one version with its content.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::super::auth::Caller;
use super::super::docs::VersionShowProblems;
use super::super::problem::{Problem, ProblemType};
use super::super::{ApiState, Shared, json};
use super::versions::{VersionView, Whose, named, owner, refused};
use crate::domain::Permission;
use crate::domain::audit::sha256;
use crate::domain::version::{Artifact, Refused};

/// A version with its content.
#[derive(Serialize, ToSchema)]
pub(super) struct VersionDetail {
    #[schema(value_type = VersionView)]
    version: Value,
    /// Whether the stored content still gives the SHA-256 under which it was registered. If not, no
    /// worker decides by it.
    intact: bool,
    /// A model's object, byte by byte as it was registered; a prompt's text. Null when it is not intact.
    #[schema(value_type = Option<Value>)]
    content: Option<Box<RawValue>>,
}

/// Read a model
#[utoipa::path(
    get,
    path = "/v1/models/{name}/{version}",
    tag = "models",
    params(("name" = String, Path, description = "Its name"), ("version" = u32, Path, description = "From 1"), Whose),
    responses((status = 200, body = VersionDetail, description = "The version"), VersionShowProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("view"))),
)]
pub(super) async fn get_model(
    State(api): State<Shared>,
    caller: Caller,
    Path(which): Path<(String, String)>,
    whose: Result<Query<Whose>, QueryRejection>,
) -> Result<Response, Problem> {
    get(&api, &caller, Artifact::Model, &which, whose).await
}

/// Read a prompt
#[utoipa::path(
    get,
    path = "/v1/prompts/{name}/{version}",
    tag = "prompts",
    params(("name" = String, Path, description = "Its name"), ("version" = u32, Path, description = "From 1"), Whose),
    responses((status = 200, body = VersionDetail, description = "The version"), VersionShowProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("view"))),
)]
pub(super) async fn get_prompt(
    State(api): State<Shared>,
    caller: Caller,
    Path(which): Path<(String, String)>,
    whose: Result<Query<Whose>, QueryRejection>,
) -> Result<Response, Problem> {
    get(&api, &caller, Artifact::Prompt, &which, whose).await
}

async fn get(
    api: &ApiState,
    caller: &Caller,
    artifact: Artifact,
    which: &(String, String),
    whose: Result<Query<Whose>, QueryRejection>,
) -> Result<Response, Problem> {
    caller.require(Permission::View)?;
    let Query(whose) = whose.map_err(|e| Problem::new(ProblemType::BadQuery, e.body_text()))?;
    let key = named(owner(caller, whose.tenant)?, artifact, which)?;
    let found = api.registry.version_content(&key).await?.ok_or_else(|| refused(artifact, Refused::Unknown))?;
    let intact = sha256(&found.content) == found.version.sha256;
    if !intact {
        tracing::error!(tenant.id = %key.tenant, version = %key.version, "the content of a {artifact} was changed");
    }
    let content = if intact { shown(artifact, found.content) } else { None };
    Ok(json(StatusCode::OK, &VersionDetail { version: found.version.view(), intact, content }))
}

/// The content as JSON. What is intact was read as what it is when it was registered.
fn shown(artifact: Artifact, content: Vec<u8>) -> Option<Box<RawValue>> {
    let text = String::from_utf8(content).ok()?;
    let json = match artifact {
        Artifact::Model => text,
        Artifact::Prompt => serde_json::to_string(&text).ok()?,
    };
    RawValue::from_string(json).ok()
}
