//! `GET /v1/models/active`, `POST …/activate`, `POST /v1/models/deactivate`: which model decides.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::super::auth::Caller;
use super::super::docs::{VersionActProblems, VersionsListProblems};
use super::super::observe::RequestContext;
use super::super::problem::{Problem, ProblemType};
use super::super::{ApiState, Shared, json};
use super::reason::{self, OptionalReason, Reason};
use super::record;
use super::versions::{VersionView, Whose, named, owner, refused};
use crate::domain::version::{Artifact, VersionKey};
use crate::domain::{AuditBody, Permission, TenantId};

/// The model that decides.
#[derive(Serialize, ToSchema)]
pub(super) struct ActiveModel {
    #[schema(value_type = String)]
    tenant_id: TenantId,
    /// Null: none is, and the baseline decides.
    #[schema(value_type = Option<VersionView>)]
    active: Option<Value>,
}

/// What no longer decides.
#[derive(Serialize, ToSchema)]
pub(super) struct DeactivatedModel {
    #[schema(value_type = String)]
    tenant_id: TenantId,
    /// The version that was active, `name@version`; null: none was, and nothing was done.
    #[schema(example = "fraud@3")]
    deactivated: Option<String>,
}

/// See which model is active
#[utoipa::path(
    get,
    path = "/v1/models/active",
    tag = "models",
    params(Whose),
    responses((status = 200, body = ActiveModel, description = "The active model, if there is one"), VersionsListProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("view"))),
)]
pub(super) async fn get_active_model(
    State(api): State<Shared>,
    caller: Caller,
    whose: Result<Query<Whose>, QueryRejection>,
) -> Result<Response, Problem> {
    caller.require(Permission::View)?;
    let tenant = of(&caller, whose)?;
    let version = api.registry.active_version(&tenant, Artifact::Model).await?;
    let key = version.map(|version| VersionKey { tenant: tenant.clone(), artifact: Artifact::Model, version });
    let active = match key {
        Some(key) => api.registry.version(&key).await?.map(|version| version.view()),
        None => None,
    };
    Ok(json(StatusCode::OK, &ActiveModel { tenant_id: tenant, active }))
}

/// Make a model the active one
///
/// From then on (within two seconds, in every worker) it scores the tenant's events, and decisions name
/// it. Only an approved one can be (409 of type `not-approved`). To go back, make an older one active.
#[utoipa::path(
    post,
    path = "/v1/models/{name}/{version}/activate",
    tag = "models",
    params(("name" = String, Path, description = "Its name"), ("version" = u32, Path, description = "From 1"), Whose),
    request_body(content = Option<OptionalReason>),
    responses((status = 200, body = ActiveModel, description = "It is active"), VersionActProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("register_model"))),
)]
pub(super) async fn activate_model(
    State(api): State<Shared>,
    caller: Caller,
    context: RequestContext,
    Path(which): Path<(String, String)>,
    whose: Result<Query<Whose>, QueryRejection>,
    request: Request,
) -> Result<Response, Problem> {
    caller.require(Permission::RegisterModel)?;
    let (parts, body) = request.into_parts();
    let said = reason::read(&api, &parts.headers, body).await?;
    let key = named(of(&caller, whose)?, Artifact::Model, &which)?;
    let audit = act(&api, (&caller, &context), &key.tenant, "model_activated", key.version.to_string(), said);
    let acted = api.registry.activate_version(&key, &audit).await?;
    acted.map_err(|why| refused(Artifact::Model, why))?;
    tracing::info!(tenant.id = %key.tenant, model = %key.version, actor = %caller.subject, "a model was made active");
    let active = api.registry.version(&key).await?.map(|version| version.view());
    Ok(json(StatusCode::OK, &ActiveModel { tenant_id: key.tenant, active }))
}

/// Leave no model active
///
/// From then on (within two seconds, in every worker) the baseline decides.
#[utoipa::path(
    post,
    path = "/v1/models/deactivate",
    tag = "models",
    params(Whose),
    request_body(content = Reason),
    responses((status = 200, body = DeactivatedModel, description = "None is active"), VersionActProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("register_model"))),
)]
pub(super) async fn deactivate_model(
    State(api): State<Shared>,
    caller: Caller,
    context: RequestContext,
    whose: Result<Query<Whose>, QueryRejection>,
    request: Request,
) -> Result<Response, Problem> {
    caller.require(Permission::RegisterModel)?;
    let (parts, body) = request.into_parts();
    let said = Some(reason::required(&api, &parts.headers, body).await?);
    let tenant = of(&caller, whose)?;
    let audit = act(&api, (&caller, &context), &tenant, "model_deactivated", String::new(), said);
    let before = api.registry.deactivate_version(&tenant, Artifact::Model, &audit).await?;
    if let Some(model) = &before {
        tracing::info!(tenant.id = %tenant, %model, actor = %caller.subject, "a model was made inactive");
    }
    let deactivated = before.map(|version| version.to_string());
    Ok(json(StatusCode::OK, &DeactivatedModel { tenant_id: tenant, deactivated }))
}

fn of(caller: &Caller, whose: Result<Query<Whose>, QueryRejection>) -> Result<TenantId, Problem> {
    let Query(whose) = whose.map_err(|e| Problem::new(ProblemType::BadQuery, e.body_text()))?;
    owner(caller, whose.tenant)
}

fn act(
    api: &ApiState,
    who: (&Caller, &RequestContext),
    tenant: &TenantId,
    action: &str,
    version: String,
    reason: Option<String>,
) -> AuditBody {
    AuditBody { reason, ..record::act(api, who, tenant, action, (Artifact::Model.as_str(), version)) }
}
