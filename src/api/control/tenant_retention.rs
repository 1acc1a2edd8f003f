//! `POST /v1/tenants/{id}/retention`: how long the tenant's events are kept.

use axum::extract::{Path, Request, State};
use axum::response::Response;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::super::Shared;
use super::super::auth::Caller;
use super::super::docs::TenantChangeProblems;
use super::super::observe::RequestContext;
use super::super::problem::Problem;
use super::tenant::{TenantChanged, answer, reached};
use super::{reason, record};
use crate::domain::retention::RETENTION_DAYS_MAX;
use crate::domain::{AuditBody, Permission, Violation};

const ACTION: &str = "tenant_retention_set";

/// How long, and why.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the schema of what is taken field by field, to name every wrong one")]
pub(super) struct NewRetention {
    /// Days, up to 36,500; 0: for ever; null: as long as the fleet's.
    #[schema(required = true, example = 365)]
    retention_days: Option<u32>,
    /// 1 to 1,000 characters; stands in the audit, so no personal data.
    #[schema(example = "contract 12")]
    reason: String,
}

/// Set how long a tenant's events are kept
///
/// A day is shared by its tenants and goes when the longest of their retentions is over: a longer one
/// holds for the others' events of those days too, a shorter one has to wait for theirs.
#[utoipa::path(
    post,
    path = "/v1/tenants/{id}/retention",
    tag = "tenants",
    params(("id" = String, Path, description = "The tenant")),
    request_body(content = NewRetention),
    responses((status = 200, body = TenantChanged, description = "It is set"), TenantChangeProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("manage_tenants"))),
)]
pub(super) async fn set_tenant_retention(
    State(api): State<Shared>,
    caller: Caller,
    context: RequestContext,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let id = reached(&caller, Permission::ManageTenants, &id)?;
    let (parts, body) = request.into_parts();
    let given = reason::object(&api, &parts.headers, body).await?.unwrap_or_default();
    let (days, reason) = read(given)?;
    let resource = ("tenant", id.to_string());
    let audit = AuditBody { reason: Some(reason), ..record::act(&api, (&caller, &context), &id, ACTION, resource) };
    Ok(answer(api.registry.set_retention(&id, days, &audit).await?, &caller, ACTION))
}

fn read(mut given: Map<String, Value>) -> Result<(Option<u32>, String), Problem> {
    let mut violations = Vec::new();
    let legal = |n: &u64| *n <= u64::from(RETENTION_DAYS_MAX);
    let days = match given.remove("retention_days") {
        Some(Value::Null) => None,
        Some(value) => {
            let days = value.as_u64().filter(legal).and_then(|n| u32::try_from(n).ok());
            if days.is_none() {
                let why = format!("must be a whole number from 0 to {RETENTION_DAYS_MAX}, or null");
                violations.push(Violation::at("/retention_days", why));
            }
            days
        }
        None => {
            violations.push(Violation::at("/retention_days", "is required"));
            None
        }
    };
    match reason::of(&given) {
        Ok(Some(reason)) if violations.is_empty() => return Ok((days, reason)),
        Ok(Some(_)) => {}
        Ok(None) => violations.push(Violation::at("/reason", "is required")),
        Err(more) => violations.extend(more),
    }
    Err(reason::wrong(violations))
}
