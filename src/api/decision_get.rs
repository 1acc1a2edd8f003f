//! `GET /v1/events/{id}/decision`: the decision, unwrapped.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::auth::Caller;
use super::docs::ReadProblems;
use super::event_get::find_open;
use super::observe::RequestContext;
use super::problem::{Problem, ProblemType};
use super::schemas::DecisionView;
use super::{Shared, json, unreadable};

/// Read an event's decision
///
/// 404 with type `not-decided` while there is none.
#[utoipa::path(
    get,
    path = "/v1/events/{id}/decision",
    tag = "events",
    params(("id" = String, Path, description = "The event's id")),
    responses((status = 200, body = DecisionView, description = "The decision"), ReadProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("view"))),
)]
pub(super) async fn get_decision(
    State(api): State<Shared>,
    caller: Caller,
    context: RequestContext,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let record = find_open(&api, &caller, &context, &id).await?;
    let decision = record.decision_view().map_err(|e| unreadable(&e))?;
    let none = || Problem::new(ProblemType::NotDecided, format!("the event's status is {}", record.status()));
    Ok(json(StatusCode::OK, &decision.ok_or_else(none)?))
}
