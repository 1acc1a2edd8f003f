//! `GET /v1/models`, `GET /v1/prompts`: the registered versions, by name and number.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::super::auth::Caller;
use super::super::docs::VersionsListProblems;
use super::super::problem::{Problem, ProblemType};
use super::super::{ApiState, Shared, json as answer};
use super::versions::{VersionView, owner};
use crate::domain::version::{Artifact, Review, VersionName, VersionRef};
use crate::domain::{Permission, TenantId};
use crate::ports::versions::VersionFilter;

/// Which versions.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WantedVersions {
    /// Must agree with the credential's.
    #[param(value_type = Option<String>)]
    tenant: Option<TenantId>,
    /// Only of this name.
    name: Option<String>,
    /// Only `pending`, `approved` or `rejected` ones.
    #[param(example = "pending")]
    state: Option<String>,
    /// Only versions behind this one, `name@version`: `next` of the page before.
    #[param(example = "fraud@3")]
    after: Option<String>,
    /// At most so many.
    #[param(minimum = 1, maximum = 1000, default = 50)]
    limit: Option<u32>,
}

/// A page of versions, by name and number.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the schema of what `list` answers")]
pub(super) struct VersionsPage {
    items: Vec<VersionView>,
    /// `after` of the next page; null on the last one.
    #[schema(example = "fraud@3")]
    next: Option<String>,
}

/// List models
#[utoipa::path(
    get,
    path = "/v1/models",
    tag = "models",
    params(WantedVersions),
    responses((status = 200, body = VersionsPage, description = "By name and number"), VersionsListProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("view"))),
)]
pub(super) async fn list_models(
    State(api): State<Shared>,
    caller: Caller,
    wanted: Result<Query<WantedVersions>, QueryRejection>,
) -> Result<Response, Problem> {
    list(&api, &caller, Artifact::Model, wanted).await
}

/// List prompts
#[utoipa::path(
    get,
    path = "/v1/prompts",
    tag = "prompts",
    params(WantedVersions),
    responses((status = 200, body = VersionsPage, description = "By name and number"), VersionsListProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("view"))),
)]
pub(super) async fn list_prompts(
    State(api): State<Shared>,
    caller: Caller,
    wanted: Result<Query<WantedVersions>, QueryRejection>,
) -> Result<Response, Problem> {
    list(&api, &caller, Artifact::Prompt, wanted).await
}

async fn list(
    api: &ApiState,
    caller: &Caller,
    artifact: Artifact,
    wanted: Result<Query<WantedVersions>, QueryRejection>,
) -> Result<Response, Problem> {
    caller.require(Permission::View)?;
    let Query(wanted) = wanted.map_err(|e| Problem::new(ProblemType::BadQuery, e.body_text()))?;
    let limit = super::lines(wanted.limit)?;
    let bad = |why: String| Problem::new(ProblemType::BadQuery, why);
    let name = wanted.name.map(|raw| VersionName::parse(&raw)).transpose();
    let after = wanted.after.map(|raw| raw.parse::<VersionRef>()).transpose();
    let unknown = || bad("state must be `pending`, `approved` or `rejected`".into());
    let filter = VersionFilter {
        tenant: owner(caller, wanted.tenant)?,
        artifact,
        name: name.map_err(|e| bad(format!("name {}", e.why)))?,
        review: wanted.state.map(|raw| Review::parse(&raw).ok_or_else(unknown)).transpose()?,
        after: after.map_err(|e| bad(format!("after {}", e.why)))?,
        limit,
    };
    let page = api.registry.versions(&filter).await?;
    let next = page.last().filter(|_| page.len() == limit as usize).map(|version| version.key.version.to_string());
    let items: Vec<Value> = page.iter().map(crate::domain::version::Version::view).collect();
    Ok(answer(StatusCode::OK, &json!({"items": items, "next": next})))
}
