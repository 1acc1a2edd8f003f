//! `GET /v1/dead-letters`: what failed for good and waits for a person, newest first.

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
use crate::domain::{EventId, FailureClass, Permission, TenantId, time};
use crate::ports::store::{DeadFilter, DeadLetter};

/// Which dead letters.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Only this tenant's; must agree with the credential's.
    #[param(value_type = Option<String>)]
    tenant: Option<TenantId>,
    /// Only events older than this one: `next` of the page before.
    #[param(value_type = Option<String>)]
    before: Option<EventId>,
    /// At most so many.
    #[param(minimum = 1, maximum = 1000, default = 50)]
    limit: Option<u32>,
}

/// A page of dead letters, newest event first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeadLetters {
    items: Vec<DeadLetterLine>,
    /// `before` of the next page; null on the last one.
    #[schema(value_type = Option<String>, format = "uuid")]
    next: Option<EventId>,
}

/// One dead letter.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeadLetterLine {
    #[schema(value_type = String, format = "uuid")]
    event_id: EventId,
    #[schema(value_type = String)]
    tenant_id: TenantId,
    /// What kind of failure it was.
    #[schema(value_type = String, example = "UNEXPECTED_ERROR")]
    category: FailureClass,
    /// What went wrong.
    error: String,
    /// How often it was tried.
    attempts: u32,
    /// When it died.
    #[schema(format = "date-time")]
    at: String,
}

impl From<DeadLetter> for DeadLetterLine {
    fn from(dead: DeadLetter) -> Self {
        Self {
            event_id: dead.event,
            tenant_id: dead.tenant,
            category: dead.class,
            error: dead.error,
            attempts: dead.attempts,
            at: time::text(dead.at),
        }
    }
}

/// List dead letters
#[utoipa::path(
    get,
    path = "/v1/dead-letters",
    tag = "dead-letters",
    params(Wanted),
    responses((status = 200, body = DeadLetters, description = "Newest event first"), ListProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("view"))),
)]
pub(super) async fn list_dead_letters(
    State(api): State<Shared>,
    caller: Caller,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Problem> {
    caller.require(Permission::View)?;
    let Query(wanted) = wanted.map_err(|e| Problem::new(ProblemType::BadQuery, e.body_text()))?;
    let limit = super::lines(wanted.limit)?;
    let tenant = super::listed_tenant(caller, wanted.tenant)?;
    let filter = DeadFilter { tenant, before: wanted.before, limit };
    let page = api.store.dead_letters(&filter).await?;
    let next = page.last().filter(|_| page.len() == limit as usize).map(|dead| dead.event);
    let items = page.into_iter().map(DeadLetterLine::from).collect();
    Ok(json(StatusCode::OK, &DeadLetters { items, next }))
}
